"""A version with a tombstone: publish, register and promote each refuse it by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from release_tool.plan import ReleasePlan
from release_tool.services import release_pointer, tombstone
from release_tool.services.release_pointer import Pointer
from release_tool.services.tombstone import Tombstone, WithdrawnError
from tests.scripted_server import Reply, Request
from tests.small_world import PLATFORM, POINTER, SmallWorld, Stored
from tests.stages import release_chain
from tests.stages.release_chain import NAME, Chain

KEY = "releases/v0.5.1/tombstone.json"
ALIASES = (f"releases/latest/{NAME}", "releases/latest/eigeninference-bundle-macos-arm64.tar.gz")


@pytest.fixture
def good(world: SmallWorld, plan: ReleasePlan, tmp_path: Path) -> Chain:
    """0.5.0, released."""
    made = release_chain.start(world, plan, tmp_path / "good")
    made.resume()
    return made


@pytest.fixture
def bad(good: Chain, world: SmallWorld, plan: ReleasePlan, tmp_path: Path) -> Chain:
    """0.5.1, not yet published, while 0.5.0 is served."""
    del good
    return release_chain.start(world, plan, tmp_path / "bad", version="0.5.1", binary=b"bad")


def _withdraw(world: SmallWorld) -> None:
    stone = Tombstone(
        version="0.5.1", platform=PLATFORM, sha256="9" * 64, at="now", by="me", reason="bad"
    )
    world.objects[KEY] = Stored(tombstone.encode(stone))


def _forbid_writes(world: SmallWorld) -> None:
    def watch(request: Request) -> Reply | None:
        if request.method in ("PUT", "POST"):
            pytest.fail(f"{request.method} {request.path}")
        return None

    world.before = watch


def test_publish_refuses_before_a_byte_is_sent(world: SmallWorld, bad: Chain) -> None:
    """Withdrawn before it was ever released: it can never be."""
    _withdraw(world)
    _forbid_writes(world)
    with pytest.raises(WithdrawnError, match="never released again"):
        bad.publish()


def test_register_refuses_before_a_request_is_sent(world: SmallWorld, bad: Chain) -> None:
    """A coordinator of May would activate the row again; not even the intent is written."""
    bad.publish()
    _withdraw(world)
    _forbid_writes(world)
    with pytest.raises(WithdrawnError):
        bad.register()
    assert bad.intents.declared == []


def test_register_refuses_a_repeat_of_what_is_registered(world: SmallWorld, bad: Chain) -> None:
    """A rerun of a finished release finds its row and is refused all the same."""
    bad.resume()
    _withdraw(world)
    _forbid_writes(world)
    with pytest.raises(WithdrawnError):
        bad.register()


def test_register_says_when_a_rollback_crossed_it(world: SmallWorld, bad: Chain) -> None:
    """The tombstone came after the look and before the answer: the row may be active again."""
    bad.publish()

    def cross(request: Request) -> Reply | None:
        if request.method == "POST":
            _withdraw(world)
        return None

    world.before = cross
    with pytest.raises(WithdrawnError, match="may be active") as caught:
        bad.register()
    assert "run the rollback again" in caught.value.hint


def test_promote_refuses_before_anything_moves(world: SmallWorld, bad: Chain) -> None:
    """Not even the wait for the coordinator is begun."""
    bad.publish()
    bad.register()
    _withdraw(world)
    _forbid_writes(world)
    before = world.now
    with pytest.raises(WithdrawnError):
        bad.promote()
    assert world.now == before


def _roll_back(world: SmallWorld, good: Chain) -> None:
    """What a rollback leaves in the bucket: the tombstone, the pointer back, the aliases back."""
    _withdraw(world)
    assert good.published
    back = Pointer(
        version="0.5.0",
        platform=PLATFORM,
        key=good.published.key,
        url=good.published.url,
        sha256=good.archive.sha256,
        size=good.archive.size,
        instead_of="0.5.1",
    )
    world.objects[POINTER] = Stored(release_pointer.encode(back))
    for alias in ALIASES:
        world.objects[alias] = Stored(good.content, {"version": "0.5.0"})


_Picks = Callable[[Request], bool]


@pytest.mark.parametrize(
    "moment",
    [
        lambda one: one.method == "HEAD" and one.path.endswith(NAME),
        lambda one: one.method == "GET" and one.path.endswith("release.json"),
        lambda one: one.method == "PUT" and one.path.endswith("release.json"),
        lambda one: "x-amz-copy-source" in one.headers,
    ],
    ids=["before the aliases are seen", "before the pointer is read", "before the pointer moves",
         "before the first copy"],
)  # fmt: skip
def test_a_late_promotion_loses_to_a_rollback(
    world: SmallWorld, good: Chain, bad: Chain, moment: _Picks
) -> None:
    """The whole rollback falls between two of its requests, and it is told why."""
    bad.publish()
    bad.register()
    for alias in ALIASES:
        world.objects[alias] = Stored(b"ancient", {"version": "0.4.0"})
    done = False

    def roll_back(request: Request) -> Reply | None:
        nonlocal done
        if moment(request) and not done:
            done = True
            _roll_back(world, good)
        return None

    world.before = roll_back
    with pytest.raises(WithdrawnError):
        bad.promote()
    assert done
    assert json.loads(world.objects[POINTER].body)["version"] == "0.5.0"
    assert {world.objects[alias].body for alias in ALIASES} == {good.content}


def test_a_late_copy_that_no_condition_could_stop_is_told(
    world: SmallWorld, good: Chain, bad: Chain
) -> None:
    """The aliases held 0.5.0 before and after the rollback: only the last look can tell."""
    bad.publish()
    bad.register()

    def roll_back(request: Request) -> Reply | None:
        if "x-amz-copy-source" in request.headers:
            _roll_back(world, good)
        return None

    world.before = roll_back
    with pytest.raises(WithdrawnError) as caught:
        bad.promote()
    assert json.loads(world.objects[POINTER].body)["version"] == "0.5.0"
    assert caught.value.exit_code == 7


def test_the_next_release_moves_over_a_pointer_that_was_moved_back(
    world: SmallWorld, good: Chain, plan: ReleasePlan, tmp_path: Path
) -> None:
    """0.5.2 after a rollback from 0.5.1 to 0.5.0: an ordinary release."""
    _roll_back(world, good)
    world.now += 61
    following = release_chain.start(
        world, plan, tmp_path / "next", version="0.5.2", binary=b"following"
    )
    assert following.resume().outcome == "promoted"
    pointer = json.loads(world.objects[POINTER].body)
    assert pointer["version"] == "0.5.2"
    assert "instead_of" not in pointer
    assert {world.objects[alias].body for alias in ALIASES} == {following.content}


def test_the_release_that_was_gone_back_to_may_be_promoted_again(
    world: SmallWorld, good: Chain
) -> None:
    """Its own rerun finds everything in its place and writes nothing."""
    _roll_back(world, good)
    _forbid_writes(world)
    assert good.promote().outcome == "promoted"
