"""Promote: aliases move only to what the coordinator serves, and never back."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.services import release_pointer
from release_tool.values import PromotedRelease
from tests.scripted_server import Reply, Request
from tests.small_world import PLATFORM, POINTER, SmallWorld, Stored
from tests.stages import release_chain
from tests.stages.release_chain import NAME, Chain
from tests.stages.turns import InTurns, Turns

ALIASES = (f"releases/latest/{NAME}", "releases/latest/eigeninference-bundle-macos-arm64.tar.gz")


@pytest.fixture
def chain(world: SmallWorld, plan: ReleasePlan, tmp_path: Path) -> Chain:
    """A release that is registered."""
    made = release_chain.start(world, plan, tmp_path / "dist")
    made.publish()
    made.register()
    return made


def _promoted(version: str = "0.5.0") -> PromotedRelease:
    return PromotedRelease(
        version=version,
        outcome="promoted",
        latest_version=version,
        aliases=ALIASES,
        pointer=POINTER,
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


def _version(**facts: str) -> Reply:
    row = {"version": "0.4.9", "bundle_hash": "1" * 64, "download_url": "https://cdn.example/x"}
    return Reply(200, json.dumps(row | facts).encode())


def test_a_version_that_follows_late_is_waited_for(world: SmallWorld, chain: Chain) -> None:
    """`/api/version` has a cache of its own; nothing moves before it tells of this release."""

    def stale(request: Request) -> Reply | None:
        if "x-amz-copy-source" in request.headers:
            assert world.now >= 50
        late = request.path.startswith("/api/version") and world.now < 50
        return _version() if late else None

    world.before = stale
    assert chain.promote() == _promoted()


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({}, errors.PendingError),
        ({"version": "0.5.0", "bundle_hash": ""}, errors.PendingError),
        ({"version": "0.5.0"}, errors.RemoteRefusedError),
        ({"version": "0.5.0", "bundle_hash": "ours"}, errors.RemoteRefusedError),
    ],
    ids=["older", "built-in", "other-bytes", "other-address"],
)
def test_a_version_that_tells_otherwise_moves_nothing(
    world: SmallWorld, chain: Chain, facts: dict[str, str], error: type[errors.ReleaseError]
) -> None:
    """An older one for ever is exit 8, this one with other facts exit 7 at once."""
    if facts.get("bundle_hash") == "ours":
        facts = facts | {"bundle_hash": chain.archive.sha256}
    world.before = lambda one: _version(**facts) if one.path.startswith("/api/version") else None
    with pytest.raises(error) as caught:
        chain.promote()
    assert "/api/version" in caught.value.message
    assert (world.now >= 150) is (error is errors.PendingError)
    assert not set(ALIASES) & set(world.objects)


def test_a_version_that_is_not_understood_is_no_obstacle(world: SmallWorld, chain: Chain) -> None:
    """The newest coordinators may word it otherwise, and some have none."""
    for reply in (Reply(404), Reply(200, b"[]")):
        world.before = lambda one, reply=reply: (  # type: ignore[misc]
            reply if one.path.startswith("/api/version") else None
        )
        assert chain.promote() == _promoted()


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
    with pytest.raises(errors.RemoteRefusedError, match=r"0\.5\.1 stands there"):
        chain.promote()
    assert world.objects[ALIASES[0]].body == b"newer"
    assert POINTER not in world.objects


def test_the_pointer_says_where_the_release_stands(world: SmallWorld, chain: Chain) -> None:
    """Key, address, digest and size: enough to fetch the archive at an address that never moves."""
    chain.promote()
    there = release_pointer.parse(world.objects[POINTER].body)
    assert chain.published
    assert (there.version, there.platform) == ("0.5.0", PLATFORM)
    assert (there.key, there.url) == (chain.published.key, chain.published.url)
    assert (there.sha256, there.size) == (chain.archive.sha256, chain.archive.size)
    chain.promote()
    assert world.moves == 1


def _point_at(world: SmallWorld, chain: Chain, **changes: object) -> bytes:
    assert chain.published
    facts: dict[str, object] = {
        "version": "0.4.9",
        "platform": PLATFORM,
        "key": chain.published.key,
        "url": chain.published.url,
        "sha256": "9" * 64,
        "size": 1,
    }
    content = json.dumps(facts | changes).encode()
    world.objects[POINTER] = Stored(content)
    return content


def test_an_older_pointer_goes_forward(world: SmallWorld, chain: Chain) -> None:
    """Whatever a later writer added to it is no obstacle."""
    _point_at(world, chain, later="field")
    assert chain.promote() == _promoted()
    assert release_pointer.parse(world.objects[POINTER].body).version == "0.5.0"


@pytest.mark.parametrize("changes", [{"version": "0.5.1"}, {"version": "0.5.0"}])
def test_a_pointer_never_goes_back_nor_to_other_bytes(
    world: SmallWorld, chain: Chain, changes: dict[str, object]
) -> None:
    """A newer version that the coordinator does not serve, or this version with other bytes."""
    content = _point_at(world, chain, **changes)
    with pytest.raises(errors.RemoteRefusedError):
        chain.promote()
    assert world.objects[POINTER].body == content
    assert not set(ALIASES) & set(world.objects)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"x" * 20_000, b"[" * 9000])
def test_what_is_no_pointer_is_left_alone(world: SmallWorld, chain: Chain, content: bytes) -> None:
    """Somebody else's object at this key is named and not written over."""
    world.objects[POINTER] = Stored(content)
    with pytest.raises(errors.RemoteRefusedError) as caught:
        chain.promote()
    assert caught.value.subject == POINTER
    assert caught.value.hint
    assert world.objects[POINTER].body == content


def test_a_pointer_that_moves_while_we_write_is_looked_at_again(
    world: SmallWorld, chain: Chain
) -> None:
    """Compare-and-swap: the write over a state that is gone is refused, and then it is ours."""

    def overtake(request: Request) -> Reply | None:
        if request.method == "PUT" and request.path.endswith("release.json"):
            world.before = lambda _: None
            _point_at(world, chain)
        return None

    world.before = overtake
    assert chain.promote() == _promoted()
    assert release_pointer.parse(world.objects[POINTER].body).version == "0.5.0"


@pytest.mark.parametrize("alone", range(21))
def test_a_slow_loser_never_overwrites_the_winner(
    servers: SmallWorld, plan: ReleasePlan, alone: int
) -> None:
    """0.5.0 stops after so many requests, 0.5.1 promotes from start to end, 0.5.0 goes on."""
    _race(servers, plan, [0] * alone + [1] * 60)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(order=st.lists(st.integers(0, 1), min_size=20, max_size=50))
def test_of_two_versions_racing_to_latest_the_newer_wins_in_every_order(
    servers: SmallWorld, plan: ReleasePlan, order: list[int]
) -> None:
    """Request by request, the two are interleaved."""
    _race(servers, plan, order)


def _race(world: SmallWorld, plan: ReleasePlan, order: list[int]) -> None:
    """Let 0.5.0, which believes a stale coordinator, and 0.5.1 promote in turns.

    At the end pointer and aliases are 0.5.1's, and the pointer never went back.
    """
    world.reset()
    with tempfile.TemporaryDirectory() as folder:
        chains = [
            release_chain.start(world, plan, Path(folder) / version, binary=version.encode(),
                                version=version)
            for version in ("0.5.0", "0.5.1")
        ]  # fmt: skip
        for chain in chains:
            chain.publish()
            chain.register()
            if chain is chains[0]:
                # From here on 0.5.0 is what the cache of May serves for a minute.
                world.now += 61
                world.coordinator().latest(PLATFORM)
        turns, store = Turns(order), world.object_store()
        outcomes: dict[int, PromotedRelease | BaseException] = {}
        pointed: list[str] = []

        def watch(request: Request) -> Reply | None:
            if request.method == "PUT" and request.path.endswith("release.json"):
                pointed.append(release_pointer.parse(world.objects[POINTER].body).version)
            return None

        def promote_one(who: int) -> None:
            try:
                seen = InTurns(world, turns, who, store)
                chains[who].world = cast("release_chain.World", seen)
                outcomes[who] = chains[who].promote()
            except BaseException as problem:
                outcomes[who] = problem
            finally:
                turns.leave(who)

        world.after = watch
        threads = [threading.Thread(target=promote_one, args=(who,)) for who in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        loser, winner = outcomes[0], outcomes[1]
        assert winner == _promoted("0.5.1")
        assert loser in (_promoted("0.5.0"), _superseded("0.5.1"))
        assert release_pointer.parse(world.objects[POINTER].body).version == "0.5.1"
        assert {world.objects[alias].body for alias in ALIASES} == {chains[1].content}
        assert pointed == sorted(pointed)


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
