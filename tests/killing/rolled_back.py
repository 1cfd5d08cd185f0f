"""What must be true of a rollback that was killed and run again."""

from __future__ import annotations

from collections.abc import Iterator

from release_tool.provenance import keys, log
from release_tool.rehearsal import counts, places
from release_tool.rehearsal.github_store import GitHubStore
from release_tool.services import release_pointer
from tests.killing.courses import VERSION, WITHDRAWN
from tests.killing.world import ALIASES, LOG, LOG_HEAD, POINTER, World

_TOMBSTONE = f"releases/v{WITHDRAWN}/tombstone.json"
_EVENTS = [
    *(("registered", VERSION), ("promoted", VERSION)),
    *(("registered", WITHDRAWN), ("promoted", WITHDRAWN)),
    *(("withdrawn", WITHDRAWN), ("rolled back", VERSION)),
]


def faults(world: World) -> Iterator[str]:
    """Everything that is wrong: withdrawn once, everywhere, and users get the one before."""
    found = counts.read(world.state)
    if len(found.registrations) != 2:
        yield f"{len(found.registrations)} registrations"
    if found.active != {VERSION: True, WITHDRAWN: False}:
        yield f"active are {found.active}"
    stones = [one.sha256 for one in found.writes if one.key == _TOMBSTONE]
    if len(stones) != 1 or found.objects.get(_TOMBSTONE) != stones[0]:
        yield f"{len(stones)} tombstones were written"
    archive = found.objects[world.archive_key("")]
    yield from (
        f"{alias} leads to other bytes" for alias in ALIASES if found.objects.get(alias) != archive
    )
    pointer = release_pointer.parse(world.content(found.objects[POINTER]))
    if (pointer.version, pointer.sha256) != (VERSION, archive):
        yield "the pointer leads to other bytes"
    yield from _log(world, found)
    yield from _github(world)


def _log(world: World, found: counts.Counts) -> Iterator[str]:
    key = keys.parse(places.provenance(world.state).read_text())
    kept = log.parse(world.content(found.objects[LOG]))
    events = [(line.entry.kind, line.entry.version) for line in kept.lines]
    if events != _EVENTS or kept.unsigned([key]):
        yield f"the log tells {events}"
    head = log.unseal(world.content(found.objects[LOG_HEAD]), trusted=[key])
    if head != kept.head(head.environment):
        yield "the log's head does not cover it"


def _github(world: World) -> Iterator[str]:
    store = GitHubStore(places.github(world.state))
    for version, times in ((VERSION, 0), (WITHDRAWN, 1)):
        (release,) = [one for one in store.releases if one.tag == f"v{version}"]
        told = (release.name.count("(withdrawn)"), release.body.count("**Withdrawn:"))
        if told != (times, times):
            yield f"GitHub says {told} times that {version} is withdrawn"
        if release.body.count(f"log.head.{len(_EVENTS)}.json") != 1:
            yield f"the page of {version} does not hold the log's head once"
