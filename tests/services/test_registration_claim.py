"""Claims and marks: one of two writers wins, a lost answer is found again, garbage is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.services import registration_claim, retries
from release_tool.services.registration_claim import Claim, Claims
from tests import scripted_server, small_world
from tests.scripted_server import Reply, Request
from tests.small_world import SmallWorld, Stored

KEY, MARK = "releases/registrations/v0.5.1.json", "releases/v0.5.1/registered.json"
OURS = Claim(
    version="0.5.1", platform="macos-arm64", sha256="9" * 64, state="sending", whose="a" * 32
)
THEIRS = replace(OURS, whose="b" * 32)


@pytest.fixture
def world() -> Iterator[SmallWorld]:
    """An empty bucket."""
    with small_world.existing() as made:
        yield made


def _claims(world: SmallWorld) -> Claims:
    return registration_claim.in_bucket(world.object_store(), "releases", "0.5.1")


def _write(world: SmallWorld, claim: Claim, *, over: Claim | None) -> bool:
    claims = _claims(world)
    assert claims.write
    held = claims.find()
    assert (held.claim if held else None) == over
    return claims.write(claim, held)


def test_what_is_written_is_one_line_that_is_read_back() -> None:
    """Whoever looks at the key reads which bytes, how it stands, and whose it is."""
    content = registration_claim.encode(OURS)
    assert content.count(b"\n") == 1
    assert registration_claim.parse(content) == OURS


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 5},
        {"platform": ""},
        {"sha256": "9" * 63},
        {"state": "registered"},
        {"whose": "A" * 32},
        {"version": "a\x1b[31m"},
    ],
)
def test_each_field_is_judged(changes: dict[str, object]) -> None:
    """Anybody's text goes to terminals, and a state that is unknown says nothing."""
    whole = json.loads(registration_claim.encode(OURS)) | changes
    with pytest.raises(errors.FormatError):
        registration_claim.parse(json.dumps(whole).encode())


@given(st.binary(max_size=300))
def test_whatever_stands_there_ends_in_one_error(content: bytes) -> None:
    """Hostile bytes are a `FormatError`, or a claim that is written the same."""
    try:
        found = registration_claim.parse(content)
    except errors.FormatError:
        return
    assert registration_claim.parse(registration_claim.encode(found)) == found


def test_of_two_that_read_the_same_one_writes(world: SmallWorld) -> None:
    """Nothing stood there, or the same claim did: the second one is kept out, and sees it."""
    for before in (None, replace(THEIRS, state="not_taken")):
        world.reset()
        if before:
            assert _write(world, before, over=None)
        claims = _claims(world)
        assert claims.write
        seen = claims.find()
        assert _write(world, THEIRS, over=before)
        assert not claims.write(OURS, seen)
        found = claims.find()
        assert found
        assert found.claim == THEIRS


def test_a_claim_whose_answer_was_lost_is_ours(world: SmallWorld) -> None:
    """The retry is kept out by what the first try wrote."""
    lost = [Reply(503)]
    world.after = lambda one: lost.pop() if one.method == "PUT" and lost else None
    assert _write(world, OURS, over=None)
    assert not lost


def test_a_mark_is_made_once_and_whatever_stands_there_counts(world: SmallWorld) -> None:
    """Nobody takes it back: not the next registration, not garbage."""
    claims = _claims(world)
    assert claims.mark
    assert not claims.is_marked()
    claims.mark(OURS)
    made = world.objects[MARK].body
    assert json.loads(made) == {
        "version": "0.5.1", "platform": "macos-arm64", "sha256": "9" * 64
    }  # fmt: skip
    claims.mark(replace(OURS, sha256="8" * 64))
    assert world.objects[MARK].body == made
    world.objects[MARK] = Stored(b"\0")
    assert claims.is_marked()


def test_what_is_no_claim_is_refused_and_named(world: SmallWorld) -> None:
    """Somebody's file at the key is not taken for a free version."""
    world.objects[KEY] = Stored(b"hello")
    with pytest.raises(errors.RemoteRefusedError, match="is not JSON") as caught:
        _claims(world).find()
    assert caught.value.subject == KEY


def test_a_job_without_keys_reads_both_at_the_public_address() -> None:
    """It writes neither."""
    told = {f"/{KEY}": registration_claim.encode(THEIRS)}

    def answer(request: Request) -> Reply:
        body = told.get(request.path.partition("?")[0])
        return Reply(200, body) if body is not None else Reply(404)

    with scripted_server.running() as server:
        server.says(answer)
        policy = retries.Policy(attempts=2, sleep=lambda _: None)
        claims = registration_claim.served(server.url, "releases", "0.5.1", policy=policy)
        found = claims.find()
        assert found
        assert (found.claim, found.at) == (THEIRS, None)
        assert not claims.is_marked()
        told[f"/{MARK}"] = b"{}"
        assert claims.is_marked()
        del told[f"/{KEY}"]
        assert claims.find() is None
        assert (claims.write, claims.mark) == (None, None)
