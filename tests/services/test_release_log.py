"""The log in the store: grown by one line at a time, and mended after a kill."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from release_tool import errors
from release_tool.provenance import log
from release_tool.provenance.log import Entry
from release_tool.services.release_log import ReleaseLog
from tests import small_world
from tests.provenance import samples
from tests.scripted_server import Reply, Request
from tests.small_world import KilledError, Killer, SmallWorld, Stored

LOG, HEAD = "releases/log.jsonl", "releases/log.head.json"
OURS, OTHER = samples.key(), samples.key("other")


@pytest.fixture(scope="module")
def module_world() -> Iterator[SmallWorld]:
    with small_world.existing() as made:
        yield made


@pytest.fixture
def world(module_world: SmallWorld) -> SmallWorld:
    module_world.reset()
    return module_world


def _kept(world: SmallWorld, environment: str = "rehearsal") -> ReleaseLog:
    return ReleaseLog(
        store=world.object_store(),
        prefix="releases",
        environment=environment,
        key=OURS,
        trusted=(OURS.public,),
        policy=world.policy,
    )


def _lines(world: SmallWorld) -> list[Entry]:
    return [line.entry for line in log.parse(world.objects[LOG].body).lines]


def _head(world: SmallWorld) -> log.Head:
    return log.unseal(world.objects[HEAD].body, trusted=[OURS.public])


def test_an_event_is_a_line_under_a_signed_head(world: SmallWorld) -> None:
    """And told again it changes nothing, at whatever time it is told again."""
    kept = _kept(world)
    first = kept.append(samples.entry())
    assert (first.number, first.added) == (1, True)
    assert kept.append(samples.entry("promoted")).number == 2
    before = dict(world.objects)
    again = kept.append(samples.entry())
    assert (again.number, again.added, again.head) == (1, False, first.head)
    assert world.objects == before
    assert [entry.kind for entry in _lines(world)] == ["registered", "promoted"]
    assert _head(world) == kept.check().head("rehearsal")
    assert kept.sealed(first.head) == kept.sealed(again.head)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 7))
def test_a_kill_at_each_request_is_mended_by_the_next_run(
    world: SmallWorld, at: int, after: bool
) -> None:
    """Between the line and its head too: one line, and a head over it."""
    killer = Killer(world, at, after=after)
    with pytest.raises(KilledError):
        _kept(world).append(samples.entry())
    killer.disarm()
    world.when_sleeping = lambda: None
    assert _kept(world).append(samples.entry()).number == 1
    assert _lines(world) == [samples.entry()]
    assert _head(world).count == 1


def test_the_next_release_covers_what_another_run_left_uncovered(world: SmallWorld) -> None:
    """Its lines are signed one by one, so they are known for ours."""
    _kept(world).append(samples.entry())
    grown = log.parse(world.objects[LOG].body).extended(samples.entry("promoted"), OURS)
    world.objects[LOG] = Stored(grown)
    assert _kept(world).check().head("").count == 2
    _kept(world).append(samples.entry(version="0.5.1", sha256="8" * 64))
    assert (len(_lines(world)), _head(world).count) == (3, 3)


def test_releases_at_the_same_moment_all_stand(world: SmallWorld) -> None:
    """Four writers, two events each: no line is lost, and the chain holds."""
    failed: list[BaseException] = []

    def tell(version: str) -> None:
        try:
            for kind in ("registered", "promoted"):
                _kept(world).append(samples.entry(kind, version))
        except BaseException as problem:
            failed.append(problem)

    threads = [threading.Thread(target=tell, args=(f"0.5.{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    told = {(entry.kind, entry.version) for entry in _lines(world)}
    assert len(told) == len(_lines(world)) == 8
    assert _head(world).count == 8


def test_a_writer_who_always_loses_gives_up(world: SmallWorld) -> None:
    """Bounded: somebody changes the log before each of our writes."""
    count = 0

    def others(request: Request) -> Reply | None:
        nonlocal count
        if request.method == "PUT" and request.path.partition("?")[0].endswith(LOG):
            count += 1
            standing = world.objects.get(LOG)
            found = log.parse(standing.body if standing else b"")
            other = samples.entry(version=f"1.0.{count}")
            world.objects[LOG] = Stored(found.extended(other, OURS))
        return None

    world.before = others
    with pytest.raises(errors.TransientError, match="others write to it all the time"):
        _kept(world).append(samples.entry())
    assert count == 24


def _full(world: SmallWorld) -> ReleaseLog:
    kept = _kept(world)
    for number in range(3):
        kept.append(samples.entry(version=f"0.5.{number}"))
    return kept


def _cut(world: SmallWorld) -> None:
    pieces = world.objects[LOG].body.splitlines(keepends=True)
    world.objects[LOG] = Stored(b"".join(pieces[:-1]))


def _swap(world: SmallWorld) -> None:
    first, second, third = world.objects[LOG].body.splitlines(keepends=True)
    world.objects[LOG] = Stored(first + third + second)


def _forge(world: SmallWorld) -> None:
    found = log.parse(world.objects[LOG].body)
    world.objects[LOG] = Stored(found.extended(samples.entry(version="9.9.9"), OTHER))


def _other_head(world: SmallWorld) -> None:
    head = log.parse(world.objects[LOG].body).head("rehearsal")
    world.objects[HEAD] = Stored(log.seal(head, OTHER))


def _edit_head(world: SmallWorld) -> None:
    whole = json.loads(world.objects[HEAD].body)
    whole["payload"] = whole["payload"][:-8] + "AAAAAAA="
    world.objects[HEAD] = Stored(json.dumps(whole).encode())


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_cut, "lacks lines that a signed head covers"),
        (lambda world: world.objects.pop(LOG), "lacks lines"),
        (_swap, "line 2 does not follow"),
        (_forge, "no key of this environment signed"),
        (_other_head, "not signed by a trusted key"),
        (_edit_head, "was changed after it was signed"),
    ],
)
def test_nothing_is_signed_over_what_does_not_hold(
    world: SmallWorld, spoil: object, told: str
) -> None:
    """What somebody without the key did to the log is told, and the log is left as it is."""
    kept = _full(world)
    assert callable(spoil)
    spoil(world)
    before = dict(world.objects)
    for act in (kept.check, lambda: kept.append(samples.entry(version="0.6.0"))):
        with pytest.raises(errors.VerificationError, match=told):
            act()
    assert world.objects == before


def test_another_environments_head_is_refused(world: SmallWorld) -> None:
    """Even where somebody gave both environments one key."""
    _kept(world, "dev").append(samples.entry())
    with pytest.raises(errors.VerificationError, match="another environment's"):
        _kept(world, "prod").check()


def test_a_version_is_one_archives(world: SmallWorld) -> None:
    """A second registration of other bytes is refused, whatever a coordinator would take."""
    kept = _kept(world)
    kept.append(samples.entry())
    with pytest.raises(errors.RemoteRefusedError, match="another archive of"):
        kept.append(samples.entry(sha256="8" * 64))
