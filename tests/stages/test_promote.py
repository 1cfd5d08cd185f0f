"""Promote: aliases move only to what the coordinator serves, and never back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.stages import promote
from release_tool.values import PromotedRelease
from tests import small_world
from tests.scripted_server import Reply, Request
from tests.small_world import PLATFORM, SmallWorld, Stored
from tests.stages import release_chain
from tests.stages.release_chain import NAME, Chain

ALIASES = (f"releases/latest/{NAME}", "releases/latest/eigeninference-bundle-macos-arm64.tar.gz")


@pytest.fixture(scope="module")
def servers() -> Iterator[SmallWorld]:
    """The servers that the tests of this module share."""
    with small_world.existing() as made:
        yield made


@pytest.fixture
def world(servers: SmallWorld) -> SmallWorld:
    """An empty bucket and a coordinator without releases."""
    servers.reset()
    return servers


@pytest.fixture
def chain(world: SmallWorld, plan: ReleasePlan, tmp_path: Path) -> Chain:
    """A release that is registered."""
    made = release_chain.start(world, plan, tmp_path / "dist")
    made.publish()
    made.register()
    return made


def _promoted(version: str = "0.5.0") -> PromotedRelease:
    return PromotedRelease(
        version=version, outcome="promoted", latest_version=version, aliases=ALIASES
    )


def _superseded(latest: str) -> PromotedRelease:
    return PromotedRelease(version="0.5.0", outcome="superseded", latest_version=latest, aliases=())


def test_both_aliases_point_to_the_release(world: SmallWorld, chain: Chain) -> None:
    """The alias and the legacy name hold the very bytes, with digest and version noted."""
    assert chain.promote() == _promoted()
    for alias in ALIASES:
        assert world.objects[alias].body == chain.content
        assert world.objects[alias].notes["version"] == "0.5.0"
    assert world.puts == 1


def test_a_second_promotion_copies_nothing(world: SmallWorld, chain: Chain) -> None:
    """What already points there is read back and left alone."""
    chain.promote()
    world.before = lambda request: pytest.fail("written") if request.method == "PUT" else None
    assert chain.promote() == _promoted()


def test_the_cache_of_may_is_waited_out(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """A minute of the release before is normal; the aliases wait for it."""
    world.add_row("0.4.9")
    world.coordinator().latest(PLATFORM)
    chain = release_chain.start(world, plan, tmp_path)
    chain.publish()
    chain.register()

    def watch(request: Request) -> Reply | None:
        if "x-amz-copy-source" in request.headers:
            assert world.now >= 60
        return None

    world.before = watch
    assert chain.promote() == _promoted()
    assert 60 <= world.now < 90


def test_an_older_alias_is_replaced(world: SmallWorld, chain: Chain) -> None:
    """Whatever an earlier pipeline left there, noted or not."""
    world.objects[ALIASES[0]] = Stored(b"old", {"version": "0.4.9"})
    world.objects[ALIASES[1]] = Stored(b"ancient")
    assert chain.promote() == _promoted()
    assert {world.objects[alias].body for alias in ALIASES} == {chain.content}


@pytest.mark.parametrize("newer", ["0.5.1", "0.6.0", "1.0.0-rc.1"])
def test_a_newer_latest_is_superseded(world: SmallWorld, chain: Chain, newer: str) -> None:
    """That is success, and the aliases stay as they are."""
    for alias in ALIASES:
        world.objects[alias] = Stored(b"newer bytes", {"version": newer})
    world.add_row(newer)
    world.now += 61
    assert chain.promote() == _superseded(newer)
    assert {world.objects[alias].body for alias in ALIASES} == {b"newer bytes"}


def test_a_final_release_supersedes_its_prerelease(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """SemVer decides: 0.5.0 is newer than 0.5.0-dev.1."""
    world.by_semver = True
    chain = release_chain.start(world, plan, tmp_path, version="0.5.0-dev.1")
    chain.publish()
    chain.register()
    world.add_row("0.5.0")
    world.now += 61
    assert chain.promote().outcome == "superseded"


def test_a_coordinator_of_may_that_prefers_a_prerelease_is_named(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """It will never serve 0.5.0 while 0.5.0-dev.1 is active: exit 7 and why, not a vain wait."""
    world.add_row("0.5.0-dev.1")
    chain = release_chain.start(world, plan, tmp_path)
    chain.publish()
    chain.register()
    with pytest.raises(errors.RemoteRefusedError) as caught:
        chain.promote()
    assert "ranks 0.5.0-dev.1 above 0.5.0" in caught.value.message
    assert "deactivate 0.5.0-dev.1" in caught.value.hint
    assert not set(ALIASES) & set(world.objects)


@pytest.mark.parametrize("rows", [[], ["0.4.9"]])
def test_a_release_that_is_not_served_is_pending(
    world: SmallWorld, chain: Chain, rows: list[str]
) -> None:
    """After the bound on waiting it is exit 8, and the aliases are untouched."""
    world.rows.clear()
    for version in rows:
        world.add_row(version)
    with pytest.raises(errors.PendingError) as caught:
        chain.promote()
    assert caught.value.observed == (rows[0] if rows else "no active release")
    assert 150 <= world.now < 165
    assert not set(ALIASES) & set(world.objects)


def test_other_bytes_served_under_this_version_stop_everything(
    world: SmallWorld, chain: Chain
) -> None:
    """Somebody registered the version again: nothing moves."""
    world.add_row("0.5.0")
    world.now += 61
    with pytest.raises(errors.RemoteRefusedError, match="other facts"):
        chain.promote()
    assert not set(ALIASES) & set(world.objects)


def test_an_unready_coordinator_is_waited_for(world: SmallWorld, chain: Chain) -> None:
    """503 while waiting is no verdict; after the bound it is the answer."""
    answers = 9 * [Reply(503)]
    world.before = lambda request: answers.pop() if "latest?" in request.path and answers else None
    assert chain.promote() == _promoted()
    world.before = lambda request: Reply(503) if "latest?" in request.path else None
    with pytest.raises(errors.TransientError):
        chain.promote()


def test_a_newer_release_between_look_and_copy_wins(world: SmallWorld, chain: Chain) -> None:
    """It registers and moves the alias after ours was seen: the condition fails, we step back."""

    def overtake(request: Request) -> Reply | None:
        if "x-amz-copy-source" in request.headers and ("0.5.1", PLATFORM) not in world.rows:
            world.add_row("0.5.1")
            world.now += 61
            world.objects[ALIASES[0]] = Stored(b"newer", {"version": "0.5.1"})
        return None

    world.before = overtake
    assert chain.promote() == _superseded("0.5.1")
    assert world.objects[ALIASES[0]].body == b"newer"


def test_a_newer_release_behind_the_cache_is_not_rolled_back(
    world: SmallWorld, chain: Chain
) -> None:
    """The cache still serves ours, but the alias already says 0.5.1: wait, then step back."""
    world.coordinator().latest(PLATFORM)
    world.add_row("0.5.1")
    for alias in ALIASES:
        world.objects[alias] = Stored(b"newer", {"version": "0.5.1"})
    assert chain.promote() == _superseded("0.5.1")
    assert {world.objects[alias].body for alias in ALIASES} == {b"newer"}
    assert world.now >= 60


def test_a_withdrawn_newer_release_is_not_rolled_back_silently(
    world: SmallWorld, chain: Chain
) -> None:
    """The alias holds 0.5.1, the coordinator serves 0.5.0 for good: a person decides."""
    world.objects[ALIASES[0]] = Stored(b"newer", {"version": "0.5.1"})
    with pytest.raises(errors.RemoteRefusedError, match=r"already holds 0\.5\.1"):
        chain.promote()
    assert world.objects[ALIASES[0]].body == b"newer"


def test_a_busy_alias_is_tried_again(world: SmallWorld, chain: Chain) -> None:
    """One write a second for each key: 429, a pause, then the copy."""
    answers = [Reply(429), Reply(429)]
    world.before = lambda request: (
        answers.pop() if "x-amz-copy-source" in request.headers and answers else None
    )
    assert chain.promote() == _promoted()
    assert world.now >= 2.0


def test_a_quarrel_over_an_alias_ends(world: SmallWorld, chain: Chain) -> None:
    """Somebody keeps writing the alias: bounded tries, exit 5."""

    def scribble(request: Request) -> Reply | None:
        if "x-amz-copy-source" in request.headers:
            world.objects[ALIASES[0]] = Stored(f"{world.now} {id(request)}".encode())
        return None

    world.before = scribble
    with pytest.raises(errors.TransientError, match="keeps moving"):
        chain.promote()


def test_an_alias_is_read_back_by_its_bytes(world: SmallWorld, chain: Chain) -> None:
    """Notes and answers do not prove a copy; its bytes do."""

    def corrupt(request: Request) -> Reply | None:
        if "x-amz-copy-source" in request.headers:
            noted = world.objects[ALIASES[0]].notes
            world.objects[ALIASES[0]] = Stored(b"not what was copied", noted)
        return None

    world.after = corrupt
    with pytest.raises(errors.VerificationError) as caught:
        chain.promote()
    assert caught.value.expected == chain.archive.sha256


def test_a_source_that_vanished_is_noticed(world: SmallWorld, chain: Chain) -> None:
    """Without the published object there is nothing to point to."""
    del world.objects[f"releases/v0.5.0/{NAME}"]
    with pytest.raises(errors.VerificationError, match="does not stand"):
        chain.promote()


@pytest.mark.parametrize(
    ("one", "other", "newer"),
    [
        ("0.5.1", "0.5.0", True),
        ("0.5.0", "0.5.0", False),
        ("0.5.0", "0.5.0-dev.9", True),
        ("0.5.0-dev.10", "0.5.0-dev.9", True),
        ("0.5.0-dev.1", "0.5.0", False),
        ("0.5.0+b2", "0.5.0+b1", False),
        ("0.10.0", "0.9.0", True),
        ("not a version", "0.5.0", False),
        ("01.0.0", "0.5.0", False),
        ("", "0.5.0", False),
    ],
)
def test_newer_is_strict_semver(one: str, other: str, newer: bool) -> None:
    """Precedence, not text; a build suffix has none; what is no SemVer is never newer."""
    assert promote.is_newer(one, other) is newer


@pytest.mark.parametrize(
    ("one", "other", "above"),
    [
        ("0.5.0-dev.1", "0.5.0", True),
        ("0.5.0-dev.1", "0.5.1", False),
        ("0.5.0-rc", "0.5.0", False),
        ("0.5.1", "0.5.0", False),
        ("0.4.9", "0.5.0", False),
        ("0.5.0", "0.5.0", False),
    ],
)
def test_the_ranking_of_may_is_recognised(one: str, other: str, above: bool) -> None:
    """Only where it contradicts SemVer."""
    assert promote.may_ranks_above(one, other) is above


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_versions_are_ranked_without_a_crash(one: str, other: str) -> None:
    """A coordinator may serve any text as a version; never are two newer than each other."""
    assert not (promote.is_newer(one, other) and promote.is_newer(other, one))
    promote.may_ranks_above(one, other)
