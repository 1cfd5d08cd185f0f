"""The fault matrix: its rows in full where that is wanted, and a sample of them always."""

from __future__ import annotations

import base64
import http.client
import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import fault_judge
import fault_matrix
import fault_rollback
import fault_rows
import fault_world
import pytest
from fault_cli import KILLED, CommandLine, Ended
from fault_judge import Judgement
from fault_rows import LASTING, TRANSIENT, Row
from fault_world import BACK, KEYLESS, OCTOBER, SHAPES, VERSION, WITHDRAWN, Said, Site, World

from release_tool.rehearsal import counts, places, wire
from release_tool.rehearsal.wire import Rule


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("faults")
    with CommandLine(folder / "program.log") as program:
        made = World(folder=folder / "world", program=program)
        made.prepare()
        yield made


def row(target: str, kind: str, strength: str) -> Row:
    (found,) = [
        one
        for one in fault_rows.every()
        if (one.target.name, one.kind, one.strength) == (target, kind, strength)
    ]
    return found


def test_a_timestamp_service_that_fails_in_passing_is_asked_again(world: World) -> None:
    """Twice 503, and the run succeeds at once."""
    result = fault_matrix.trial(row("timestamp", "503", TRANSIENT), world)
    assert (result.kind, result.code, result.hits) == ("success", 0, 2), result.said


def test_a_timestamp_service_that_redirects_is_not_followed(world: World) -> None:
    """A typed error with a next step; nothing reaches the other host; then success."""
    result = fault_matrix.trial(row("timestamp", "redirect", LASTING), world)
    assert result.kind == "typed error, then success", result.said


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_row_breaks_a_rule() -> None:
    """Every service, every way, once and for good; each row met its fault."""
    results = list(fault_matrix.carried_out(list(fault_rows.every()), 2))
    assert [fault_matrix.line(one) for one in results if one.broken or not one.hits] == []


def test_the_rows_name_every_kind_for_every_service() -> None:
    """No service is left out of a kind that it can meet; each row is there once."""
    rows = list(fault_rows.every())
    assert len({one.name for one in rows}) == len(rows)
    services = {one.target.service for one in rows}
    assert services == {
        *("store", "public", "notary", "notary-uploads", "notary-logs", "tickets"),
        *("timestamp", "coordinator", "github", "github uploads", "github storage"),
    }
    found = {(one.target.service, one.kind, one.strength) for one in rows}
    # The notary's store answers an upload without a body.
    silent = set(itertools.product(["notary-uploads"], fault_rows.IN_BODIES, fault_rows.STRENGTHS))
    # Of these nothing is asked but to be read.
    read = ("public", "notary-logs", "tickets", "github storage")
    silent |= set(itertools.product(read, [wire.LATE], fault_rows.STRENGTHS))
    assert found == set(itertools.product(services, wire.KINDS, fault_rows.STRENGTHS)) - silent


def test_whatever_writes_has_rows_in_which_it_comes_late() -> None:
    """In every set, to the end, and later than a client pauses that only sends again."""
    rows = [one for one in fault_rows.every() if one.kind == wire.LATE]
    targets = {
        one.target.name
        for one in fault_rows.every()
        if one.target.method not in ("", "GET", "HEAD")
    }
    assert {one.target.name for one in rows} == targets
    assert {one.target.shape for one in rows} == set(SHAPES)
    assert all(one.rule.seconds == 2.0 and not one.until for one in rows)


def test_the_matrix_waits_for_what_comes_late(world: World) -> None:
    """What a release's look-alikes are asked is handled before anybody looks."""
    with world.site("sign") as site, site.served() as living:
        assert fault_world.settled(living).requests == {}
        living.set_rules([Rule(service="github", kind=wire.LATE, method="POST", seconds=1.0)])
        connection = http.client.HTTPConnection(urlsplit(living.github_api_url).netloc)
        connection.request("POST", "/", b"{}")
        with closing(connection), pytest.raises((OSError, http.client.HTTPException)):
            connection.getresponse()
        living.set_rules([])
        assert living.wire_report().outstanding == 1
        assert fault_world.settled(living).outstanding == 0


def test_the_further_sets_meet_what_the_usual_release_never_asks() -> None:
    """Every shape has rows, each before a stage that its release is kept at; few that repeat."""
    rows = list(fault_rows.every())
    by_shape = {name: [one for one in rows if one.target.shape == name] for name in SHAPES}
    assert all(by_shape.values())
    for one in rows:
        assert one.target.stage in SHAPES[one.target.shape].before, one.name
    asked = {
        shape.name: {one.target.path or one.target.method for one in by_shape[shape.name]}
        for shape in (KEYLESS, OCTOBER, BACK)
    }
    assert {"POST", "/api/version", "/releases/latest"} <= asked[KEYLESS.name]
    assert {"/releases/qualification", "/v1/releases$"} <= asked[OCTOBER.name]
    assert {"DELETE", r"/tombstone\.json", r"latest/release\.json"} <= asked[BACK.name]
    assert len(rows) - len(by_shape["usual"]) < len(by_shape["usual"]) / 2


def judged(text: str, code: int = 5) -> list[str]:
    judgement = Judgement()
    fault_judge.said(judgement, Said(ended=Ended(code=code, seconds=1), text=text))
    return judgement.broken


def test_the_judge_of_what_is_said_can_fail() -> None:
    """A good error passes; a traceback, a strange exit, an endless run and no hint do not."""
    good = "release-tool: no answer\n  observed  reset\n  run again\nexit 5 · head\n"
    assert judged(good) == []
    assert judged("release-tool: no answer\n  observed  reset\nexit 5\n") == [
        "an error without a next step"
    ]
    assert "a traceback" in judged("Traceback (most recent call last):\n" + good)
    assert "exit 70 is not documented" in judged(good, 70)
    assert judged("", KILLED) == ["no end within its time"]


def test_the_judge_of_secrets_can_fail(tmp_path: Path) -> None:
    """As the watch over the tests finds it, a bearer token too, said or left in any file."""
    site = Site(folder=tmp_path, world=None)  # type: ignore[arg-type]
    for name in places.SECRETS:
        place = places.secret(site.state, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"secret of {name}+/")
    for said, found in (
        ("nothing", 0),
        ("it is secret of release-key+/ indeed", 1),
        ("c2VjcmV0IG9mIHJlbGVhc2Uta2V5Ky8=", 1),
        ("secret%20of%20release-key%2B%2F", 1),
        ("secret of release-key\\u002b\\/", 1),
        ("secret of release-key&#43;&#x2F;", 1),
        (base64.b64encode(b"x: secret of release-key+/").decode(), 1),
        ("Bearer eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJhIn0.abc", 1),
    ):
        judgement = Judgement()
        fault_judge.secrets(judgement, site, [said])
        assert len(judgement.broken) == found, said
    (site.workspace / "ledger").mkdir(parents=True)
    (site.workspace / "ledger" / "record").write_text("secret of github-token+/")
    judgement = Judgement()
    fault_judge.secrets(judgement, site, [])
    assert judgement.broken == ["the secret github-token in record"]


def test_the_judge_of_redirects_can_fail() -> None:
    """A followed redirect breaks a rule, one with a credential two; a bare download is GitHub's."""
    asset = {"method": "GET", "target": "/repos/a/b/releases/assets/1"}
    post = {"method": "POST", "target": "/v1/releases"}
    for one, count in (
        (asset, 0),
        (post, 1),
        (asset | {"authorization": "Bearer x"}, 1),
        (post | {"x-amz-security-token": "x"}, 2),
    ):
        judgement = Judgement()
        fault_judge.strayed(judgement, wire.Report(strayed=[one]))
        assert len(judgement.broken) == count


def test_the_judge_of_what_stands_can_fail(world: World) -> None:
    """Nothing registered is no end; what is registered without bytes and records is worse."""
    with world.site("sign") as site, site.served():
        before = fault_judge.look(site)
        judgement = Judgement()
        fault_judge.standing(judgement, before, before, site)
        assert judgement.broken == []
        fault_judge.finished(judgement, before, wire.Report(), site)
        assert {"nothing is registered", "the pointer leads elsewhere"} <= set(judgement.broken)
        row = counts.Registered(
            version="0.5.0",
            platform="macos-arm64",
            bundle_hash="1" * 64,
            binary_hash="2" * 64,
            metallib_hash="3" * 64,
        )
        written = counts.Written(operation="PutObject", key="releases/v0.5.0/a", sha256="1" * 64)
        there = counts.Counts(registrations=(row, row), writes=(written,), objects={})
        over = replace(written, sha256="2" * 64)
        overwritten = replace(
            there,
            registrations=(),
            writes=(written, over),
            objects={over.key: over.sha256},
        )
        judgement = Judgement()
        fault_judge.standing(judgement, before, replace(before, counts=overwritten), site)
        assert judgement.broken == ["lost bytes"]
        judgement = Judgement()
        after = replace(before, counts=there)
        fault_judge.standing(judgement, before, after, site)
        fault_judge.finished(judgement, after, wire.Report(), site)
        assert {"registered and not proved", "lost bytes", "a second registration"} <= set(
            judgement.broken
        )


def test_the_judge_of_a_rollback_can_fail() -> None:
    """Registered again, deactivated without a tombstone, the way back gone: each is a rule."""
    row = counts.Registered(
        version=VERSION,
        platform="macos-arm64",
        bundle_hash="1" * 64,
        binary_hash="2" * 64,
        metallib_hash="3" * 64,
    )
    stone = f"releases/v{WITHDRAWN}/tombstone.json"
    held = dict.fromkeys(fault_judge.ALIASES, "1" * 64)
    good = fault_judge.Look(
        counts=counts.Counts(
            registrations=(row,),
            writes=(),
            objects={**held, stone: "4" * 64},
            active={VERSION: True, WITHDRAWN: False},
        ),
        records=(),
        releases=2,
        drafts=0,
        publications=2,
    )
    for change, broken in (
        ({}, []),
        ({"registrations": (row, row)}, ["a registration"]),
        ({"objects": held}, ["deactivated without a tombstone"]),
        ({"active": {VERSION: False, WITHDRAWN: True}}, ["the way back is deactivated"]),
        ({"objects": {stone: "4" * 64}}, ["an alias holds something else"]),
    ):
        judgement = Judgement()
        changed = replace(good, counts=replace(good.counts, **change))
        fault_rollback.standing(judgement, good, changed)
        assert judgement.broken == broken
