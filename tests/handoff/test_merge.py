"""Smoke records of several hosts, each chained to the same archive, become one ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from release_tool import errors, smoke_lanes, smoke_records
from release_tool.cli import lane_packs
from release_tool.handoff import merging
from release_tool.ledger import Ledger
from release_tool.plan import ReleasePlan, SmokeLane
from release_tool.values import Host, digest_of
from tests.handoff import releases
from tests.handoff.releases import Members, Release

OLD = Host(system="macos", release="14.6", machine="arm64", chip="Apple M1")
NEW = Host(system="macos", release="26.1", machine="arm64", chip="Apple M4")
LANES = (SmokeLane(name="oldest", macos="14"), SmokeLane(name="newest", macos=">=26"))


@pytest.fixture
def asked(plan: ReleasePlan) -> ReleasePlan:
    """A plan that wants two hosts."""
    smoke = plan.smoke.model_copy(update={"require": LANES})
    environment = plan.environment.model_copy(update={"lanes": "required"})
    return plan.model_copy(update={"smoke": smoke, "environment": environment})


@pytest.fixture
def base(tmp_path: Path, asked: ReleasePlan) -> Release:
    """A release up to its archive."""
    made = releases.signed(tmp_path / "base" / "dev" / "0.5.0", asked)
    content = b"archive" * 10_000
    (made.root / releases.ARCHIVE).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    made.append(
        "archive",
        value={"path": releases.ARCHIVE, "sha256": digest},
        outputs={releases.ARCHIVE: digest},
        inputs=made._inputs(["sign"]),
    )
    return made


def smoked(release: Release, host: Host, word: str = "", **change: object) -> None:
    """What a smoke run on a host leaves."""
    archive = release.ledger.newest("archive")
    assert archive
    folder = smoke_lanes.folder(release.plan, host)
    (release.root / folder).mkdir(parents=True, exist_ok=True)
    content = f"{host.release} {word}".encode()
    path = f"{folder}/transcript.jsonl"
    (release.root / path).write_bytes(content)
    value = archive.value
    assert isinstance(value, dict)
    facts: dict[str, object] = {
        "value": {"host": host.model_dump(mode="json"), "archive_sha256": value["sha256"]},
        "inputs": {"archive": digest_of(archive.value)},
        "outputs": {path: hashlib.sha256(content).hexdigest()},
        "host": {"system": host.system},
        "tool": f"made on {host.release}",
    }
    release.append("smoke", kind="record", **(facts | change))


class Matrix:
    """Jobs that each unpack the archive's handoff and pack what they saw."""

    def __init__(self, base: Release, folder: Path) -> None:
        self.base = base
        self.folder = folder
        self.head = base.pack(folder / "archive.tar.gz")

    def job(
        self,
        name: str,
        host: Host,
        change: Callable[[Release], None] | None = None,
        **facts: object,
    ) -> tuple[Path, str]:
        release = self.base.unpack(
            self.folder / "archive.tar.gz", self.folder / name / "dev" / "0.5.0", self.head
        )
        smoked(release, host, **facts)  # type: ignore[arg-type]
        if change:
            change(release)
        pack = self.folder / f"{name}.tar.gz"
        return pack, release.pack(pack)

    def merge(self, *packs: tuple[Path, str], name: str = "merged") -> Release:
        root = self.folder / name / "dev" / "0.5.0"
        root.parent.mkdir(parents=True, exist_ok=True)
        merging.merge(packs, root, self.base.plan, tool="merger 1")
        return Release(root, self.base.plan)


@pytest.fixture
def matrix(base: Release, tmp_path: Path) -> Matrix:
    return Matrix(base, tmp_path)


def hosts(release: Release) -> list[str]:
    counting = smoke_records.counting(release.ledger.records)
    return [host.release for one in counting if (host := smoke_records.host_of(one.value))]


def test_two_forks_become_one_chain(matrix: Matrix) -> None:
    """Both records count, each with value, host, tool and transcript as it was made."""
    old, new = matrix.job("old", OLD), matrix.job("new", NEW)
    merged = matrix.merge(old, new)
    assert hosts(merged) == ["14.6", "26.1"]
    there = Ledger(matrix.folder / "new/dev/0.5.0/ledger")
    origin, came = there.records[-1], merged.ledger.records[-1]
    assert came.model_dump(exclude={"number", "previous", "merged"}) == origin.model_dump(
        exclude={"number", "previous", "merged"}
    )
    assert digest_of(came.value) == digest_of(origin.value)
    assert came.merged is not None
    assert (came.merged.record, came.merged.head) == (there.head, new[1])
    assert (came.merged.number, came.merged.previous) == (origin.number, origin.previous)
    assert came.merged.tool == "merger 1"
    for record in smoke_records.counting(merged.ledger.records):
        for path, digest in record.outputs.items():
            assert hashlib.sha256((merged.root / path).read_bytes()).hexdigest() == digest


def test_the_archives_own_machine_takes_both(matrix: Matrix) -> None:
    """Where the release stands up to its archive; and merging again changes nothing."""
    packs = matrix.job("old", OLD), matrix.job("new", NEW)
    for kept in ([0, 0], [1, 1]):
        found = merging.merge(packs, matrix.base.root, matrix.base.plan, tool="merger 1")
        assert hosts(matrix.base) == ["14.6", "26.1"]
        assert [one.kept for one in found.arrivals] == kept
    assert len([one for one in matrix.base.ledger.records if one.stage == "smoke"]) == 2


def test_what_was_merged_travels_on(matrix: Matrix, tmp_path: Path) -> None:
    """The next job unpacks both records with what they name, and may merge a third."""
    merged = matrix.merge(matrix.job("old", OLD), matrix.job("new", NEW))
    head = merged.pack(tmp_path / "both.tar.gz")
    came = matrix.base.unpack(tmp_path / "both.tar.gz", tmp_path / "next/dev/0.5.0", head)
    assert hosts(came) == ["14.6", "26.1"]
    assert len(list(came.root.glob("smoke/*/transcript.jsonl"))) == 2
    third = Host(system="macos", release="15.2", machine="arm64")
    again = matrix.merge((tmp_path / "both.tar.gz", head), matrix.job("third", third), name="all")
    assert hosts(again) == ["14.6", "26.1", "15.2"]


def test_only_the_newest_of_a_host_comes(matrix: Matrix) -> None:
    """A run that was repeated there, and what failed before, stay there."""

    def again(release: Release) -> None:
        release.append("smoke", "failure", value={"message": "slow"})
        smoked(release, NEW, "again")

    merged = matrix.merge(matrix.job("old", OLD), matrix.job("new", NEW, again))
    assert [one.stage for one in merged.ledger.records][-2:] == ["smoke", "smoke"]
    transcript = merged.root / smoke_lanes.folder(merged.plan, NEW) / "transcript.jsonl"
    assert transcript.read_text() == "26.1 again"


def published(release: Release) -> None:
    release.append("publish", value={"key": "releases/x"})


def resigned(release: Release) -> None:
    release.tree("sign", "signed", ["assemble"], word="again")


@pytest.mark.parametrize("change", [published, resigned])
def test_nothing_but_smoke_may_fork(matrix: Matrix, change: Callable[[Release], None]) -> None:
    """What was published or signed elsewhere is another release, and nothing of it is taken."""
    old = matrix.job("old", OLD)
    merged = matrix.merge(old)
    before = releases.state(merged.root)
    with pytest.raises(errors.ReleaseError, match="only smoke records") as caught:
        matrix.merge(matrix.job("new", NEW, change))
    assert any("new.tar.gz" in line for line in caught.value.details)
    assert releases.state(merged.root) == before


def test_evidence_of_another_archive_is_refused(matrix: Matrix, base: Release) -> None:
    """By its value, and when the release was archived again or went another way before."""
    merged = matrix.merge(matrix.job("old", OLD))
    before = releases.state(merged.root)
    value = {"host": NEW.model_dump(mode="json"), "archive_sha256": "9" * 64}
    with pytest.raises(errors.VerificationError, match="of another archive"):
        matrix.merge(matrix.job("value", NEW, value=value))
    pack = matrix.folder / "foreign.tar.gz"
    foreign = base.unpack(
        matrix.folder / "archive.tar.gz", matrix.folder / "f/dev/0.5.0", matrix.head
    )
    foreign.file("archive", releases.ARCHIVE, b"other", ["sign"])
    with pytest.raises(errors.UsageError, match="only smoke records"):
        matrix.merge((pack, foreign.pack(pack)))
    early = releases.signed(matrix.folder / "e/dev/0.5.0", base.plan)
    early.append("notarize", "intent", value={"action": "submit", "facts": {}})
    with pytest.raises(errors.UsageError, match="before its archive"):
        matrix.merge((pack, early.pack(pack)))
    assert releases.state(merged.root) == before


def test_a_record_cannot_bring_other_files(matrix: Matrix) -> None:
    """A foreign record that names the archive's place, or another host's, replaces nothing."""
    merged = matrix.merge(matrix.job("old", OLD))
    before = releases.state(merged.root)
    stray = f"{smoke_lanes.folder(matrix.base.plan, OLD)}/transcript.jsonl"

    def place(release: Release) -> None:
        (release.root / stray).parent.mkdir(parents=True)
        (release.root / stray).write_bytes(b"mine")
        digest = hashlib.sha256(b"mine").hexdigest()
        smoked(release, NEW, outputs={stray: digest})

    with pytest.raises(errors.VerificationError, match="did not keep"):
        matrix.merge(matrix.job("new", NEW, place))
    assert releases.state(merged.root) == before


def test_of_two_hosts_that_look_the_same_one_is_refused(matrix: Matrix) -> None:
    """Nobody could say which of them counts; before anything is taken."""
    merged = matrix.merge(matrix.job("old", OLD))
    before = releases.state(merged.root)
    twins = matrix.job("a", NEW), matrix.job("b", NEW, word="other")
    with pytest.raises(errors.UsageError, match="look the same"):
        matrix.merge(*twins)
    assert releases.state(merged.root) == before


def test_each_pack_has_its_own_head(matrix: Matrix) -> None:
    """Heads that were swapped, or a transcript that was edited under its record, end it."""
    old, new = matrix.job("old", OLD), matrix.job("new", NEW)
    merged = matrix.merge(old)
    before = releases.state(merged.root)
    with pytest.raises(errors.VerificationError, match="another ledger"):
        matrix.merge((new[0], old[1]))

    def edited(found: Members) -> Members:
        return [
            (member, b"edited" if "26.1" in member.path else content) for member, content in found
        ]

    releases.forged(new[0], edited)
    with pytest.raises(errors.VerificationError, match="is not what smoke recorded"):
        matrix.merge(new)
    assert releases.state(merged.root) == before


def test_one_lane_has_nothing_to_merge(matrix: Matrix) -> None:
    """Where any host will do, a handoff with its record is unpacked."""
    pack = matrix.job("old", OLD)
    environment = matrix.base.plan.environment.model_copy(update={"lanes": "any-host"})
    matrix.base = replace(
        matrix.base, plan=matrix.base.plan.model_copy(update={"environment": environment})
    )
    with pytest.raises(errors.UsageError, match="one host is enough"):
        matrix.merge(pack)


def test_other_records_are_written_as_ever(base: Release) -> None:
    """A record that nobody merged has no word of merging: the heads of old ledgers stand."""
    for path in (base.root / "ledger").glob("*.json"):
        assert "merged" not in json.loads(path.read_text())


def test_lanes_are_merged_by_their_names(matrix: Matrix) -> None:
    """Each with its own file and head; all are filled afterwards."""
    old, new = matrix.job("old", OLD), matrix.job("new", NEW)
    packs = lane_packs.of(matrix.base.plan, [("oldest", *old), ("newest", *new)])
    assert packs == [old, new]
    merged = matrix.merge(*packs)
    lane_packs.require_filled(matrix.base.plan, merged.root)


@pytest.mark.parametrize("missing", ["head", "file", "name"])
def test_a_lane_that_handed_nothing_over_is_told_by_its_name(matrix: Matrix, missing: str) -> None:
    """A job that failed tells no head, an upload that failed leaves no file; no other is blamed."""
    old, (file, head) = matrix.job("old", OLD), matrix.job("new", NEW)
    lanes = [("oldest", *old), ("newest", file, head)]
    if missing == "head":
        lanes[1] = ("newest", file, "")
    elif missing == "file":
        file.unlink()
    else:
        lanes.pop()
    with pytest.raises(errors.VerificationError, match="lane newest handed nothing over") as told:
        lane_packs.of(matrix.base.plan, lanes)
    (reason,) = told.value.details
    assert reason.startswith("lane newest wants macOS >=26")


@pytest.mark.parametrize("name", ["middle", "oldest"])
def test_a_lane_that_the_release_does_not_have_is_refused(matrix: Matrix, name: str) -> None:
    """Also one that is named twice: the workflow and release.yaml say different things."""
    old = matrix.job("old", OLD)
    with pytest.raises(errors.UsageError, match="not the lanes"):
        lane_packs.of(matrix.base.plan, [("oldest", *old), (name, *old)])


def test_a_job_on_the_wrong_host_fills_no_lane(matrix: Matrix) -> None:
    """Its record is good, and of a host that its lane does not want."""
    old = matrix.job("old", OLD)
    other = matrix.job("new", NEW.model_copy(update={"release": "15.2"}))
    merged = matrix.merge(*lane_packs.of(matrix.base.plan, [("oldest", *old), ("newest", *other)]))
    with pytest.raises(errors.VerificationError, match="lane newest was smoked on other hosts"):
        lane_packs.require_filled(matrix.base.plan, merged.root)


def test_files_and_lanes_exclude_each_other() -> None:
    """And one of them must be named."""
    lane = ("oldest", Path("a"), "0" * 64)
    for files, lanes in (([], []), ([Path("a")], [lane])):
        with pytest.raises(errors.UsageError):
            lane_packs.require_one_way(files, [], lanes)
