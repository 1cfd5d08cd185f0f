"""Merges the smoke records of several hosts, each chained to the same archive, into one ledger.

The jobs of a matrix each unpack the same handoff and each append to it: their chains fork. Only
smoke evidence forks harmlessly, since it changes nothing that another record names. A foreign
record is appended as it was, with the place that it had in its own chain; what it proves stands in
its value, whose digest stays the same. All packs are verified before anything is taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from release_tool import errors, smoke_lanes, smoke_records
from release_tool.files import atomic
from release_tool.files.members import shown
from release_tool.handoff import contents, unpacking
from release_tool.handoff.contents import LEDGER, Artifact
from release_tool.handoff.settling import settle
from release_tool.handoff.unpacking import Incoming
from release_tool.ledger import Ledger, Merged, Record, file_name, hold
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter, Silent
from release_tool.smoke_lanes import STAGE
from release_tool.standing import chained


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One pack, and what of it was taken."""

    file: Path
    hosts: tuple[str, ...]
    """Whose records were appended."""
    kept: int
    """Records that stood here already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merger:
    """What a merge made of the ledger."""

    head: str
    records: int
    arrivals: tuple[Arrival, ...]


def merge(
    packs: Sequence[tuple[Path, str]],
    root: Path,
    plan: ReleasePlan,
    *,
    tool: str,
    reporter: Reporter | None = None,
) -> Merger:
    """Take the smoke records of packs whose chains share the release up to its archive.

    Args:
        packs: each with the head that was expected of it. Where no workspace is here yet, the
            first is unpacked as it is.
        root: the workspace.
        plan: what this job is about to do.
        tool: this tool and its version, for the records that are appended.
        reporter: sees the task `unpack` of each.

    Raises:
        UsageError: a pack is of another release or plan, parts from the release here before its
            archive, or holds more than smoke records behind that; or two hosts are the same.
        FormatError: a pack is damaged, hostile or over a limit.
        VerificationError: another head, a broken chain, evidence of another archive, or an
            artifact that is not what its record says.
        TransientError: somebody holds the release.
        HostError: the system refuses.
    """
    reporter = reporter or Silent()
    if not smoke_lanes.of(plan).several:
        raise errors.UsageError(
            "one host is enough here, so there is nothing to merge",
            subject="smoke.require",
            expected=f"lanes that {plan.environment.name} requires",
            hint="unpack the handoff that holds the smoke record: release-tool handoff unpack",
        )
    if not root.exists():
        first, expect = packs[0]
        unpacking.unpack(first, root, plan, expect=expect, reporter=reporter)
    with atomic.naming(root, "merge into"), contextlib.ExitStack() as held:
        held.enter_context(hold(root.parent / unpacking.SCRATCH))
        held.enter_context(hold(root / LEDGER))
        settle(root)
        ledger = Ledger(root / LEDGER)
        scratch = root.parent / unpacking.SCRATCH / root.name
        atomic.remove_tree(scratch)
        try:
            scratch.mkdir()
            branches = _read_all(packs, root, plan, scratch, reporter)
            _require_no_conflict(ledger, branches)
            return _take(ledger, branches, root, tool)
        finally:
            atomic.remove_tree(scratch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Branch:
    """What one pack brings, verified, and where its artifacts lie."""

    file: Path
    folder: Path
    head: str
    records: Mapping[str, Record]
    """By the digest of each one's file there."""


def _read_all(
    packs: Sequence[tuple[Path, str]],
    root: Path,
    plan: ReleasePlan,
    scratch: Path,
    reporter: Reporter,
) -> list[_Branch]:
    found = []
    for number, (file, expect) in enumerate(packs):
        folder = scratch / str(number)
        folder.mkdir()
        incoming = _Incoming(root, plan, expect, continued=False, reporter=reporter)
        try:
            incoming.read(file, folder)
        except errors.ReleaseError as problem:
            problem.details = (*problem.details, f"in {file}")
            raise
        found.append(_Branch(file=file, folder=folder, head=expect, records=dict(incoming.brought)))
    return found


class _Incoming(Incoming):
    """One pass over a handoff that may have parted from the release here, behind its archive."""

    brought: Mapping[str, Record] = {}

    def _require_beginning(self, ledger: Ledger) -> None:
        here = Ledger(self._root / LEDGER)
        common = _shared(contents.digests(here), contents.digests(ledger))
        archive = chained(here.records).get("archive")
        if archive is None or archive.number > common:
            raise errors.UsageError(
                "this handoff parts from the release here before its archive",
                subject=str(self._root),
                expected="the records up to the archive, the same in both",
                observed=f"{common} records are the same",
                hint="merge what was smoked from the handoff of this release's archive job",
            )
        behind = ledger.records[common:]
        for record in behind:
            if record.stage != STAGE:
                raise errors.UsageError(
                    "only smoke records of other hosts can be merged",
                    subject=shown(file_name(record)),
                    expected=STAGE,
                    observed=record.stage,
                    hint="merge what was packed right after the smoke run",
                )
        self.brought = _evidence(ledger, common, archive)

    def _wanted(self) -> dict[str, Artifact]:
        return {
            artifact.path: artifact
            for record in self.brought.values()
            for artifact in contents.of_record(record)
        }


def _shared(here: Sequence[str], there: Sequence[str]) -> int:
    """How many records two chains have in common: equal digests mean equal beginnings."""
    count = 0
    for one, other in zip(here, there, strict=False):
        if one != other:
            break
        count += 1
    return count


def _evidence(ledger: Ledger, common: int, archive: Record) -> dict[str, Record]:
    """The smoke records behind the fork that count, by the digests of their files."""
    digests = contents.digests(ledger)
    found = {
        digests[record.number - 1]: record
        for record in smoke_records.counting(ledger.records)
        if record.number > common
    }
    whole = archive.value if isinstance(archive.value, dict) else {}
    for record in found.values():
        value = record.value if isinstance(record.value, dict) else {}
        if value.get("archive_sha256") != whole.get("sha256"):
            raise errors.VerificationError(
                "this smoke record is of another archive",
                subject=file_name(record),
                expected=str(whole.get("sha256")),
                observed=shown(str(value.get("archive_sha256"))),
                hint="smoke the archive of this release: unpack its handoff there",
            )
        _require_own_place(record)
    return found


def _require_own_place(record: Record) -> None:
    """What it names lies where its host keeps things, so that it replaces nothing."""
    host = smoke_records.host_of(record.value)
    folder = f"{STAGE}/{smoke_lanes.name_of(host)}/" if host else "a host's folder"
    strays = [path for path in record.outputs if not path.startswith(folder)]
    if strays or not record.outputs:
        raise errors.VerificationError(
            "this smoke record names what its host did not keep",
            subject=shown(strays[0]) if strays else file_name(record),
            expected=f"files in {folder}",
            hint="smoke again with this version of release-tool and this release.yaml",
        )


def _require_no_conflict(ledger: Ledger, branches: Sequence[_Branch]) -> None:
    """One record for each host: of two that look the same nobody could say which counts."""
    taken: dict[tuple[str, ...], tuple[str, str]] = {}
    for digest, record in _standing(ledger).items():
        taken[smoke_records.place_of(record)] = (digest, "the release here")
    for branch in branches:
        for digest, record in branch.records.items():
            origin = record.merged.record if record.merged else digest
            there, where = taken.setdefault(
                smoke_records.place_of(record), (origin, str(branch.file))
            )
            if there != origin:
                raise errors.UsageError(
                    "two smoke records are of hosts that look the same",
                    subject=_shown(record),
                    expected="one record for each host",
                    observed=f"one in {where}, another in {branch.file}",
                    hint="leave one of them out: a host that fills two lanes needs one record",
                )


def _standing(ledger: Ledger) -> dict[str, Record]:
    """The smoke records that count here, by the digest that each had where it was made."""
    digests = contents.digests(ledger)
    return {
        record.merged.record if record.merged else digests[record.number - 1]: record
        for record in smoke_records.counting(ledger.records)
    }


def _take(ledger: Ledger, branches: Sequence[_Branch], root: Path, tool: str) -> Merger:
    """Artifacts first: a record never stands before what it names."""
    arrivals = []
    for branch in branches:
        standing = _standing(ledger)
        hosts, kept = [], 0
        for digest, record in branch.records.items():
            origin = record.merged.record if record.merged else digest
            _place_artifacts(record, branch.folder, root)
            if origin in standing:
                kept += 1
                continue
            came = record.merged or Merged(
                record=digest,
                number=record.number,
                previous=record.previous,
                head=branch.head,
                tool=tool,
            )
            ledger.append(record.model_copy(update={"merged": came}))
            hosts.append(_shown(record))
        arrivals.append(Arrival(file=branch.file, hosts=tuple(hosts), kept=kept))
    return Merger(head=ledger.head, records=len(ledger.records), arrivals=tuple(arrivals))


def _place_artifacts(record: Record, folder: Path, root: Path) -> None:
    for artifact in contents.of_record(record):
        final = root / artifact.path
        final.parent.mkdir(parents=True, exist_ok=True)
        (folder / artifact.path).replace(final)
        atomic.sync_directory(final.parent)


def _shown(record: Record) -> str:
    host = smoke_records.host_of(record.value)
    return shown(smoke_lanes.shown(host)) if host else record.stage
