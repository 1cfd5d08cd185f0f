"""Killed at any request, before or after it took effect, the rerun ends in one release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from release_tool.plan import ReleasePlan
from release_tool.services import registration_claim
from release_tool.services.registration_claim import MARK
from tests.scripted_server import Reply, Request
from tests.small_world import PLATFORM, POINTER, KilledError, Killer, SmallWorld
from tests.stages import release_chain
from tests.stages.release_chain import NAME

ALIASES = {f"releases/latest/{NAME}", "releases/latest/eigeninference-bundle-macos-arm64.tar.gz"}
# Past the copies and their read-backs; how often `latest` is asked before them varies.
_LAST_KILL = 54
_SAMPLED = 3


def _each_request() -> Iterator[ParameterSet]:
    """The default suite takes some of them, `make kill` all."""
    for number in range(1, _LAST_KILL):
        yield pytest.param(number, marks=[pytest.mark.slow] if number % _SAMPLED else [])


@pytest.fixture
def world(servers: SmallWorld) -> SmallWorld:
    """A bucket, and a coordinator with a release before ours in its cache."""
    servers.reset()
    servers.add_row("0.4.9")
    servers.coordinator().latest(PLATFORM)
    return servers


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", list(_each_request()))
def test_a_killed_release_ends_in_exactly_one(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path, at: int, after: bool
) -> None:
    """One object, one row, one POST that took effect, both aliases at the one set of bytes."""
    chain = release_chain.start(world, plan, tmp_path)
    killer = Killer(world, at, after=after)
    try:
        chain.resume()
    except KilledError:
        killer.disarm()
        assert chain.resume().outcome == "promoted"
    assert (world.puts, world.posts) == (1, 1)
    assert set(world.rows) == {("0.4.9", PLATFORM), ("0.5.0", PLATFORM)}
    assert {world.objects[alias].body for alias in ALIASES} == {chain.content}
    told = {registration_claim.key_of("releases", "0.5.0"), f"releases/v0.5.0/{MARK}"}
    assert set(world.objects) == ALIASES | {POINTER, f"releases/v0.5.0/{NAME}"} | told


def test_the_kill_points_cover_the_whole_release(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The numbers above reach past the last request of a whole release."""
    seen: list[str] = []

    def count(request: Request) -> Reply | None:
        kind = "copy" if "x-amz-copy-source" in request.headers else request.method
        seen.append(kind)
        return None

    world.before = count
    release_chain.start(world, plan, tmp_path).resume()
    assert seen.index("PUT") < seen.index("POST") < seen.index("copy")
    assert len(seen) < _LAST_KILL
