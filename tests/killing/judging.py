"""What must be true of a workspace and its look-alikes once a killed run was run again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from release_tool import errors, values
from release_tool.ledger import Ledger
from release_tool.provenance import keys, log
from release_tool.rehearsal import counts, places
from release_tool.rehearsal.github_store import GitHubStore
from release_tool.services import release_pointer
from release_tool.stages.github import SUMS
from tests.canary import needles
from tests.killing import rolled_back
from tests.killing.courses import VERSION
from tests.killing.world import ALIASES, ARCHIVE, LOG, LOG_HEAD, POINTER, Ended, World

# A guard gives what it guards five seconds to end.
_ORPHAN_SECONDS = 8.0
_ONCE = ("sign", "notarize", "register")


def names(world: World) -> set[str]:
    """What lies in workspace, cache and temporary folder, but for the ledger's records."""
    tops = (world.workspace, world.folder / "cache", world.temporary)
    found = {
        str(path.relative_to(world.folder)) for top in tops if top.is_dir() for path in _walk(top)
    }
    return {name for name in found if not _is_record(world.folder / name)}


def _walk(top: Path) -> Iterator[Path]:
    for path in top.rglob("*"):
        if "__pycache__" not in path.parts and not _is_probe(path):
            yield path


def _is_probe(path: Path) -> bool:
    """The standard library's: it writes four bytes to see whether a folder takes scratch files."""
    return (
        path.is_file()
        and path.parent.name == "tmp"
        and len(path.name) == 8
        and path.read_bytes() in (b"", b"blat")
    )


def _is_record(path: Path) -> bool:
    return path.parent.name == "ledger" and path.suffix == ".json" and path.name[0].isdigit()


def faults(
    world: World, ended: Ended, before: tuple[str, ...], expected: set[str], *, whole: bool
) -> list[str]:
    """Everything that is wrong after the rerun; empty is the verdict that the point holds.

    Args:
        world: where the run was killed and run again.
        ended: the rerun.
        before: what `recorded` found between the two.
        expected: the names that a run leaves which nobody killed.
        whole: whether the rerun went to the end, or stopped at the archive.
    """
    if ended.status != 0:
        return [f"the rerun ended {ended.status}: {ended.output[-1500:]}"]
    try:
        ledger = Ledger(world.workspace / "ledger")
    except errors.ReleaseError as problem:
        return [str(problem)]
    found = [*_leftovers(world, expected), *_chain(world, before), *_orphans(world)]
    found += secrets(world, [ended.output])
    if world.course.is_rollback:
        return [*found, *rolled_back.faults(world)]
    found += _once(ledger, whole=whole)
    journals = counts.read(world.state)
    if not world.course.earlier:
        found += _notary(ledger, journals)
    if whole:
        found += _release(world, ledger, journals)
        found += _log(world, journals)
        found += _github(world, ledger)
    return found


def recorded(world: World) -> tuple[str, ...]:
    """The ledger's records as files, oldest first."""
    files = sorted(path for path in _walk(world.workspace / "ledger") if _is_record(path))
    return tuple(f"{path.name} {path.read_text(encoding='utf-8')}" for path in files)


def _chain(world: World, before: tuple[str, ...]) -> Iterator[str]:
    if recorded(world)[: len(before)] != before:
        yield "what was recorded before the kill has changed"


def _leftovers(world: World, expected: set[str]) -> Iterator[str]:
    there = names(world)
    yield from (f"left behind: {name}" for name in sorted(there - expected))
    yield from (f"missing: {name}" for name in sorted(expected - there))


def _orphans(world: World) -> Iterator[str]:
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while (left := orphans(world)) and time.monotonic() < deadline:
        time.sleep(0.1)
    yield from (f"still runs: {one}" for one in left)


def orphans(world: World) -> list[str]:
    """Processes of a run of this world that still live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) in (os.getpid(), world.served):
            continue
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = str((folder / "cwd").readlink())
        except OSError:
            continue
        if str(world.dist) in words or where.startswith((str(world.dist), str(world.temporary))):
            found.append(f"{folder.name} {words[:200]}")
    return found


def secrets(world: World, said: Iterable[str]) -> Iterator[str]:
    """Secrets in what runs said, and in all that they left outside of the look-alikes' state."""
    known = needles.of_environment(world.state)
    for text in said:
        yield from (f"the secret {name} in what it said" for name in known.found_in(text.encode()))
    tops = (world.workspace, world.folder / "cache", world.temporary)
    for path in sorted(path for top in tops if top.is_dir() for path in _walk(top)):
        if path.is_file() and not path.is_symlink():
            found = known.found_in(path.read_bytes())
            yield from (f"the secret {name} in {path.name}" for name in found)


def _once(ledger: Ledger, *, whole: bool) -> Iterator[str]:
    for stage in _ONCE:
        made = [one for one in ledger.records if (one.stage, one.kind) == (stage, "record")]
        if len(made) != 1 and (whole or stage != "register"):
            yield f"{len(made)} records of {stage}"


def _value(ledger: Ledger, stage: str) -> object:
    record = ledger.newest(stage)
    return record.value if record else None


def _notary(ledger: Ledger, found: counts.Counts) -> Iterator[str]:
    if (told := _value(ledger, "notarize")) is None:
        return
    value = values.Notarization.model_validate(told)
    uploads = {one.subject for one in found.uploads}
    if uploads != {value.submission_id}:
        yield f"{len(uploads)} submissions were uploaded"
    if len(found.submissions) > 2:
        yield f"{len(found.submissions)} submissions were begun"
    if found.asked("bearer leak"):
        yield "a token went elsewhere"


def _release(world: World, ledger: Ledger, found: counts.Counts) -> Iterator[str]:
    archive = values.ReleaseArchive.model_validate(_value(ledger, "archive"))
    if archive.cdhash not in json.dumps(_value(ledger, "sign")):
        yield "the archive holds another signature than the recorded one"
    registered = [row for row in found.registrations if row.version == VERSION]
    if [row.bundle_hash for row in registered] != [archive.sha256]:
        yield f"{len(registered)} registrations"
    key = world.archive_key(archive.sha256)
    written = [write.sha256 for write in found.writes if write.key == key]
    if written != [archive.sha256]:
        yield f"{len(written)} writes of {key}"
    for alias in ALIASES:
        if found.objects.get(alias) != archive.sha256:
            yield f"{alias} leads to other bytes"
    pointer = release_pointer.parse(world.content(found.objects[POINTER]))
    if (pointer.version, pointer.sha256) != (VERSION, archive.sha256):
        yield "the pointer leads to other bytes"


def _log(world: World, found: counts.Counts) -> Iterator[str]:
    """Each event once, every line signed, and a signed head over all of them."""
    key = keys.parse(places.provenance(world.state).read_text())
    kept = log.parse(world.content(found.objects[LOG]))
    ours = [line.entry.kind for line in kept.lines if line.entry.version == VERSION]
    if ours != ["registered", "promoted"] or kept.unsigned([key]):
        yield f"the log tells {ours}"
    head = log.unseal(world.content(found.objects[LOG_HEAD]), trusted=[key])
    if head != kept.head(head.environment):
        yield "the log's head does not cover it"


def _github(world: World, ledger: Ledger) -> Iterator[str]:
    store = GitHubStore(places.github(world.state))
    releases = [one for one in store.releases if one.tag == f"v{VERSION}"]
    if len(releases) != 1:
        yield f"{len(releases)} releases on GitHub"
        return
    (release,) = releases
    if release.draft or store.asked("publish").count(release.tag) != 1:
        yield "the release on GitHub is not published once"
    recorded = values.GitHubRelease.model_validate(_value(ledger, "github"))
    wanted = {one.name: f"sha256:{one.sha256}" for one in recorded.assets}
    there = {one.name: one.digest for one in release.assets if one.state == "uploaded"}
    if there != wanted or not wanted.keys() >= {ARCHIVE, SUMS}:
        yield "the release on GitHub lacks an asset, or holds another"
    if store.asked("bearer leak") or store.asked("tag made"):
        yield "a token or a tag went astray"
