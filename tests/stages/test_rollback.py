"""Roll back: in order, killed at any request, against a cache of May, and in races."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.report import affected
from release_tool.services import registration_claim, tombstone
from release_tool.services.tombstone import WithdrawnError
from tests import small_world
from tests.scripted_server import Reply, Request
from tests.small_world import PLATFORM, POINTER, KilledError, Killer, SmallWorld, Stored
from tests.stages import release_chain, rollbacks
from tests.stages.release_chain import NAME, Chain
from tests.stages.release_parts import changed
from tests.stages.rollbacks import Notes, Rollback

ALIASES = (f"releases/latest/{NAME}", "releases/latest/eigeninference-bundle-macos-arm64.tar.gz")
STONE = "releases/v0.5.1/tombstone.json"
# Past the last look; how often the coordinator is asked before it varies.
_LAST_KILL = 40


@dataclass(frozen=True)
class Released:
    """0.5.0, then 0.5.1, which is still in the coordinator's cache; made once for the module."""

    world: SmallWorld
    good: Chain
    bad: Chain
    put_back: Callable[[], None]
    without_the_bad: Callable[[], None]


@pytest.fixture(scope="module")
def released(plan: ReleasePlan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    """Two releases in a small world."""
    folder = tmp_path_factory.mktemp("released")
    with small_world.existing() as world:
        world.admin = True
        chains: list[Chain] = []
        photographs: list[Callable[[], None]] = []
        for version, binary in (("0.5.0", b"good"), ("0.5.1", b"bad")):
            chain = release_chain.start(
                world, plan, folder / version, version=version, binary=binary
            )
            chain.resume()
            chains.append(chain)
            world.now += 61
            assert world.coordinator().latest(PLATFORM)
            photographs.append(world.photograph())
        yield Released(world, chains[0], chains[1], photographs[1], photographs[0])


@pytest.fixture
def world(released: Released) -> SmallWorld:
    """The world after 0.5.1, and we are its coordinator's administrator."""
    released.put_back()
    released.world.admin = True
    return released.world


@pytest.fixture
def good(released: Released) -> Chain:
    """0.5.0."""
    return released.good


@pytest.fixture
def bad(released: Released) -> Chain:
    """0.5.1."""
    return released.bad


@pytest.fixture
def back(world: SmallWorld, good: Chain) -> Rollback:
    """From 0.5.1 to 0.5.0."""
    del world
    return rollbacks.of(good, "0.5.1")


def _require_rolled_back(world: SmallWorld, good: Chain, *withdrawn: str) -> None:
    pointer = json.loads(world.objects[POINTER].body)
    assert (pointer["version"], pointer["sha256"]) == ("0.5.0", good.archive.sha256)
    assert pointer["instead_of"] == " ".join(withdrawn)
    for alias in ALIASES:
        assert world.objects[alias].body == good.content
        assert world.objects[alias].notes["version"] == "0.5.0"
    for one in withdrawn:
        assert f"releases/v{one}/tombstone.json" in world.objects
    assert world.evicted >= set(withdrawn)
    latest = world.coordinator().latest(PLATFORM)
    assert latest
    assert latest.version == "0.5.0"


def test_users_get_the_earlier_release(world: SmallWorld, good: Chain, back: Rollback) -> None:
    """Tombstone, deactivation, pointer, aliases; the cache of May is waited out, and told."""
    notes = Notes()
    began = world.now
    done = back.run(notes)
    _require_rolled_back(world, good, "0.5.1")
    assert (done.version, done.instead_of, done.aliases) == ("0.5.0", ("0.5.1",), ALIASES)
    assert 58 <= world.now - began < 90
    assert any("still serves 0.5.1, waiting" in one for one in notes.said)
    stone = tombstone.parse(world.objects[STONE].body)
    assert (stone.by, stone.reason) == ("me", "no start")
    assert stone.sha256 == json.loads(json.dumps(world.rows["0.5.1", PLATFORM]))["bundle_hash"]


def test_the_order_is_tombstone_deactivation_pointer_aliases(
    world: SmallWorld, back: Rollback
) -> None:
    """And the download that proves the way back comes before all of them."""
    seen: list[str] = []

    def watch(request: Request) -> Reply | None:
        name = request.path.partition("?")[0].rpartition("/")[2]
        if request.method in ("PUT", "DELETE") or request.path.startswith("/public/"):
            seen.append(f"{request.method} {name}")
        return None

    world.before = watch
    back.run()
    *before, one, other = seen
    assert before == [
        f"GET {NAME}",
        "PUT tombstone.json",
        "DELETE releases",
        "PUT release.json",
    ]
    # The aliases are moved at the same time.
    assert {one, other} == {f"PUT {NAME}", "PUT eigeninference-bundle-macos-arm64.tar.gz"}


def test_a_second_rollback_leaves_everything(
    world: SmallWorld, good: Chain, back: Rollback
) -> None:
    """The same tombstone is success, whoever wrote it first, and nothing is written again."""
    back.run()
    before = {key: stored.body for key, stored in world.objects.items()}
    notes = Notes()
    back.run(notes)
    assert {key: stored.body for key, stored in world.objects.items()} == before
    assert "0.5.1: was not active any more" in notes.said
    _require_rolled_back(world, good, "0.5.1")


def _moments(each: int) -> list[object]:
    """Every request of a rollback; the default suite takes one of `each`."""
    slow = [pytest.mark.slow]
    return [pytest.param(at, marks=[] if at % each == 0 else slow) for at in range(1, _LAST_KILL)]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", _moments(5))
def test_a_killed_rollback_ends_as_one_that_was_not(
    world: SmallWorld, good: Chain, back: Rollback, at: int, after: bool
) -> None:
    """Killed at any request, before or after it took effect, and begun again."""
    killer = Killer(world, at, after=after)
    try:
        back.run()
    except KilledError:
        killer.disarm()
        back.run()
    killer.disarm()
    _require_rolled_back(world, good, "0.5.1")


def test_the_kill_points_cover_the_whole_rollback(world: SmallWorld, back: Rollback) -> None:
    """The numbers above reach past the last copy and its read-back."""
    seen: list[str] = []

    def count(request: Request) -> Reply | None:
        seen.append("copy" if "x-amz-copy-source" in request.headers else request.method)
        return None

    world.before = count
    back.run()
    assert seen.index("PUT") < seen.index("DELETE") < seen.index("copy")
    assert len(seen) - seen[::-1].index("copy") + 2 < _LAST_KILL


def test_nothing_of_the_bad_release_comes_back(
    world: SmallWorld, good: Chain, bad: Chain, back: Rollback
) -> None:
    """Its rerun is refused in each stage, and the next release goes through."""
    back.run()
    for stage in (bad.publish, bad.register, bad.promote):
        with pytest.raises(WithdrawnError):
            stage()
    _require_rolled_back(world, good, "0.5.1")


def test_a_bad_version_that_was_never_registered_never_will_be(
    released: Released, world: SmallWorld, good: Chain, plan: ReleasePlan, tmp_path: Path
) -> None:
    """It gets its tombstone, the deactivation is said to be none, and the aliases stay."""
    released.without_the_bad()
    world.admin = True
    notes = Notes()
    rollbacks.of(good, "0.5.1").run(notes)
    assert any("never had it" in one for one in notes.said)
    stone = tombstone.parse(world.objects[STONE].body)
    assert stone.sha256 == ""
    bad = release_chain.start(world, plan, tmp_path / "bad", version="0.5.1", binary=b"bad")
    with pytest.raises(WithdrawnError):
        bad.publish()


def _next(world: SmallWorld, plan: ReleasePlan, folder: Path) -> Chain:
    return release_chain.start(world, plan, folder, version="0.5.2", binary=b"next")


@pytest.mark.parametrize("at", _moments(6))
def test_a_newer_release_in_between_wins_and_is_named(
    world: SmallWorld, back: Rollback, plan: ReleasePlan, tmp_path: Path, at: int
) -> None:
    """0.5.2 is released whole between two requests: users get it, and 0.5.1 is withdrawn or not.

    Whoever rolled back is told, or had finished before; nothing is half one and half the other.
    """
    following = _next(world, plan, tmp_path / "next")
    count = 0
    survey = back.begin()

    def cross(_: Request) -> Reply | None:
        nonlocal count
        count += 1
        if count == at:
            world.before = lambda _: None
            following.resume()
        return None

    world.before = cross
    told = None
    try:
        back.finish(survey)
    except errors.RemoteRefusedError as problem:
        told = problem
    crossed = count >= at
    world.before = lambda _: None
    if not crossed:
        following.resume()
    assert {world.objects[alias].body for alias in ALIASES} == {following.content}
    assert json.loads(world.objects[POINTER].body)["version"] == "0.5.2"
    if crossed:
        assert told
        assert "0.5.2 came in between" in told.message
        assert "--deactivate 0.5.1 --deactivate 0.5.2" in told.hint


def test_another_rollback_in_between_wins_and_is_told(
    world: SmallWorld, good: Chain, back: Rollback
) -> None:
    """Somebody withdraws 0.5.0 as well while we go back to it."""
    world.add_row("0.4.9")
    survey = back.begin()
    world.evicted.add("0.5.0")
    with pytest.raises(errors.RemoteRefusedError, match="not active at the coordinator any more"):
        back.finish(survey)
    assert json.loads(world.objects[POINTER].body)["version"] == "0.5.1"


def test_a_registration_that_crossed_is_found(
    world: SmallWorld, bad: Chain, back: Rollback
) -> None:
    """The row of 0.5.1 is active again behind the deactivation: exit 5, and again is well."""
    del bad
    deleted = False

    def cross(request: Request) -> Reply | None:
        nonlocal deleted
        if deleted:
            world.evicted.discard("0.5.1")
            world.after = lambda _: None
        deleted = request.method == "DELETE"
        return None

    world.after = cross
    with pytest.raises(errors.TransientError, match="registered again while it was withdrawn"):
        back.run()
    assert back.run().version == "0.5.0"


def test_a_late_copy_during_the_wait_is_taken_back(
    world: SmallWorld, good: Chain, bad: Chain, back: Rollback
) -> None:
    """A promotion of 0.5.1 paused before its copy until the pointer and the aliases were back."""
    done = False

    def copy() -> None:
        nonlocal done
        if not done and world.objects[ALIASES[1]].body == good.content:
            done = True
            world.objects[ALIASES[0]] = Stored(bad.content, {"version": "0.5.1"})

    world.when_sleeping = copy
    back.run()
    assert done
    _require_rolled_back(world, good, "0.5.1")


def test_a_coordinator_that_is_away_for_a_moment_is_waited_for(
    world: SmallWorld, good: Chain, back: Rollback
) -> None:
    """It restarts while it is asked what it serves: that is no verdict."""
    left = 9

    def away(request: Request) -> Reply | None:
        nonlocal left
        if left and "0.5.1" in world.evicted and request.path.startswith("/v1/releases/latest"):
            left -= 1
            return Reply(503)
        return None

    world.before = away
    back.run()
    assert left == 0
    _require_rolled_back(world, good, "0.5.1")


def test_what_nobody_noted_a_version_on_is_replaced(
    world: SmallWorld, good: Chain, back: Rollback
) -> None:
    """An older pipeline promoted 0.5.1, without pointer and without notes."""
    del world.objects[POINTER]
    for alias in ALIASES:
        world.objects[alias] = Stored(b"bad, by an older pipeline")
    back.run()
    _require_rolled_back(world, good, "0.5.1")


def _forbid_writes(world: SmallWorld) -> None:
    def watch(request: Request) -> Reply | None:
        if request.method in ("PUT", "POST", "DELETE"):
            pytest.fail(f"{request.method} {request.path}")
        return None

    world.before = watch


def test_the_release_itself_cannot_be_withdrawn(world: SmallWorld, good: Chain) -> None:
    """A slip of the keyboard."""
    _forbid_writes(world)
    with pytest.raises(errors.UsageError, match="at once"):
        rollbacks.of(good, "0.5.0").run()
    with pytest.raises(errors.UsageError, match="--deactivate is not a version"):
        rollbacks.of(good, "latest").run()


def test_each_version_in_between_must_be_named(world: SmallWorld, back: Rollback) -> None:
    """Another active release would be served instead; the hint is the whole command."""
    world.add_row("0.5.2")
    _forbid_writes(world)
    with pytest.raises(errors.RemoteRefusedError, match=r"0\.5\.2 would stay before it") as caught:
        back.run()
    assert caught.value.hint.endswith("--to 0.5.0 --deactivate 0.5.1 --deactivate 0.5.2")
    back.plan = changed(back.plan, flavour={"name": "rust-bridge"})
    with pytest.raises(errors.RemoteRefusedError) as caught:
        back.run()
    assert "--flavour rust-bridge --to 0.5.0" in caught.value.hint


def test_a_prerelease_that_may_ranks_first_must_be_named(world: SmallWorld, back: Rollback) -> None:
    """0.5.0-dev.1 is no newer release, but a coordinator of May would serve it."""
    world.add_row("0.5.0-dev.1")
    _forbid_writes(world)
    with pytest.raises(errors.RemoteRefusedError, match=r"0\.5\.0-dev\.1 would stay"):
        back.run()


def test_two_versions_are_withdrawn_at_once(
    world: SmallWorld, good: Chain, bad: Chain, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Each gets its tombstone, and the pointer names both."""
    del bad
    _next(world, plan, tmp_path / "next").resume()
    world.now += 61
    rollbacks.of(good, "0.5.1", "0.5.2").run()
    _require_rolled_back(world, good, "0.5.1", "0.5.2")


def test_a_newer_pointer_of_no_active_release_must_be_named(
    world: SmallWorld, back: Rollback
) -> None:
    """0.6.0 was deactivated by hand: without a tombstone a rerun of it would come back."""
    stored = world.objects[POINTER]
    whole = json.loads(stored.body) | {"version": "0.6.0"}
    world.objects[POINTER] = Stored(json.dumps(whole).encode())
    _forbid_writes(world)
    with pytest.raises(errors.RemoteRefusedError, match=r"0\.6\.0 would stay") as caught:
        back.run()
    assert any("release.json holds it" in one for one in caught.value.details)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda world: world.evicted.add("0.5.0"), "not active"),
        (lambda world: world.rows.pop(("0.5.0", PLATFORM)), "does not know"),
    ],
)
def test_a_release_that_is_not_active_is_none_to_go_back_to(
    world: SmallWorld, back: Rollback, spoil: object, message: str
) -> None:
    """Nothing activates a release silently; others are named."""
    world.add_row("0.4.9")
    assert callable(spoil)
    spoil(world)
    _forbid_writes(world)
    with pytest.raises(errors.RemoteRefusedError, match=message) as caught:
        back.run()
    assert "active besides 0.5.1: 0.4.9" in caught.value.hint


def test_a_withdrawn_release_is_none_to_go_back_to(world: SmallWorld, back: Rollback) -> None:
    """Somebody withdrew it, whatever the coordinator still says."""
    stone = tombstone.Tombstone(
        version="0.5.0", platform=PLATFORM, sha256="", at="then", by="her", reason="leaks"
    )
    world.objects["releases/v0.5.0/tombstone.json"] = Stored(tombstone.encode(stone))
    _forbid_writes(world)
    with pytest.raises(WithdrawnError, match="itself withdrawn") as caught:
        back.run()
    assert caught.value.details == ("withdrawn then by her: leaks",)


def test_going_forward_is_no_rollback(world: SmallWorld, plan: ReleasePlan, tmp_path: Path) -> None:
    """0.5.2 is registered and not yet served: that is a promotion."""
    following = _next(world, plan, tmp_path / "next")
    following.publish()
    following.register()
    _forbid_writes(world)
    with pytest.raises(errors.RemoteRefusedError, match="newer than what is served"):
        rollbacks.of(following, "0.5.1").run()


@pytest.mark.parametrize("spoilt", [b"other bytes", b""])
def test_other_bytes_are_none_to_go_back_to(
    world: SmallWorld, back: Rollback, spoilt: bytes
) -> None:
    """What users would download is not what was registered: found before anything is changed."""
    key = f"releases/v0.5.0/{NAME}"
    world.objects[key] = Stored(spoilt)
    _forbid_writes(world)
    with pytest.raises(errors.VerificationError, match="as it was registered"):
        back.run()
    del world.objects[key]
    with pytest.raises(errors.VerificationError, match="as it was registered"):
        back.run()


def test_who_confuses_the_versions_sees_that_nobody_gets_another(
    world: SmallWorld, bad: Chain, back: Rollback
) -> None:
    """Of the way back users get something; of the withdrawal of an older one they do not."""
    swapped = rollbacks.of(bad, "0.5.0")
    assert "users already get, and keep, 0.5.1" in "\n".join(
        affected.shown(swapped.plan, swapped.begin())
    )
    assert "users get 0.5.0" in "\n".join(affected.shown(back.plan, back.begin()))
    assert STONE not in world.objects


def test_another_environments_coordinator_is_noticed(world: SmallWorld, back: Rollback) -> None:
    """Its rows lead to another bucket than ours."""
    world.rows["0.5.0", PLATFORM]["url"] = "https://elsewhere.example/releases/v0.5.0/a.tar.gz"
    _forbid_writes(world)
    with pytest.raises(errors.RemoteRefusedError, match="another address than this bucket's"):
        back.run()


def test_without_an_administrators_key_nothing_is_begun(world: SmallWorld, back: Rollback) -> None:
    """Exit 4, before the first write."""
    world.admin = False
    _forbid_writes(world)
    with pytest.raises(errors.CredentialError):
        back.run()


def test_a_coordinator_that_never_serves_it_is_pending(world: SmallWorld, back: Rollback) -> None:
    """Everything else is done; running it again looks again."""

    def stick(request: Request) -> Reply | None:
        if request.path.startswith("/v1/releases/latest"):
            row = world.rows["0.5.1", PLATFORM]
            return Reply(200, json.dumps(row).encode(), {"Content-Type": "application/json"})
        return None

    world.before = stick
    with pytest.raises(errors.PendingError, match=r"does not serve 0\.5\.0 yet"):
        back.run()
    world.before = lambda _: None
    assert back.run().version == "0.5.0"


def _under_way(world: SmallWorld) -> str:
    """A claim of 0.5.1 of which nobody told an end; returns its key."""
    key = "releases/registrations/v0.5.1.json"
    world.objects.pop("releases/v0.5.1/registered.json", None)
    assert registration_claim.parse(world.objects[key].body).state == "sending"
    return key


def test_a_registration_under_way_is_waited_for(
    world: SmallWorld, good: Chain, back: Rollback
) -> None:
    """It may arrive behind the deactivation, so nobody is told before that all is well."""
    _under_way(world)
    notes, began = Notes(), world.now
    back.run(notes)
    _require_rolled_back(world, good, "0.5.1")
    assert 180 <= world.now - began < 230
    assert any("0.5.1 was sent and not answered" in one for one in notes.said)


def test_a_registration_that_arrives_late_is_found_and_withdrawn_by_the_next_try(
    world: SmallWorld, good: Chain, back: Rollback
) -> None:
    """It activates the row again; the rollback says so, and begun again it deactivates it."""
    _under_way(world)
    arrives = world.now + 100

    def arrive() -> None:
        if world.now >= arrives:
            world.when_sleeping = lambda: None
            world.evicted.discard("0.5.1")

    world.when_sleeping = arrive
    with pytest.raises(errors.TransientError, match="registered again"):
        back.run()
    back.run()
    _require_rolled_back(world, good, "0.5.1")


def test_a_registration_that_was_given_back_is_not_waited_for(
    world: SmallWorld, good: Chain, back: Rollback
) -> None:
    """Its run told meanwhile that nothing was registered."""
    key = _under_way(world)
    began = world.now

    def give_back() -> None:
        claim = registration_claim.parse(world.objects[key].body)
        over = registration_claim.encode(dataclasses.replace(claim, state="not_taken"))
        world.objects[key] = Stored(over)

    world.when_sleeping = give_back
    back.run()
    _require_rolled_back(world, good, "0.5.1")
    assert world.now - began < 90


def test_what_is_no_claim_does_not_stop_a_rollback(
    world: SmallWorld, good: Chain, back: Rollback
) -> None:
    """It is told; the release is withdrawn all the same."""
    world.objects[_under_way(world)] = Stored(b"hello")
    notes = Notes()
    back.run(notes)
    _require_rolled_back(world, good, "0.5.1")
    assert any("is not JSON" in one for one in notes.said)
