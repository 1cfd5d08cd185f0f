"""Which smoke run of an earlier release a run is compared with: of the same kind of host.

Releases of one environment and flavour lie side by side. The nearest earlier one that ran on the
same chip with the same memory is taken, else the nearest that ran at all: its figures say little,
and the report says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from release_tool import errors, smoke_records
from release_tool.ledger import Ledger, Record
from release_tool.services import precedence
from release_tool.values import Host, SmokeEvidence

# Each costs a whole chain to read; the release before is among the nearest.
_LOOKED_AT = 8


def of(workspace: Path, evidence: SmokeEvidence, lane: str = "") -> SmokeEvidence | None:
    """The evidence to compare with; None where no earlier version lies beside a workspace.

    Args:
        workspace: of the release; its name ends with the version.
        evidence: of one of its hosts.
        lane: which of the lanes that the release asks for this host fills.
    """
    found = list(_best(workspace, evidence, lane))
    alike = (best for is_alike, best in found if is_alike)
    return next(alike, found[0][1] if found else None)


def each(workspace: Path, evidence: SmokeEvidence, lane: str = "") -> Iterator[SmokeEvidence]:
    """Of each earlier release, the nearest first, the run on the host that is most like this one.

    Args:
        workspace: as `of`.
        evidence: as `of`.
        lane: as `of`.
    """
    return (best for _, best in _best(workspace, evidence, lane))


def _best(
    workspace: Path, evidence: SmokeEvidence, lane: str
) -> Iterator[tuple[bool, SmokeEvidence]]:
    """With each, whether its figures may be compared."""
    for records in _earlier(workspace, evidence.version):
        found = [(_likeness(evidence, lane, one), one[1]) for one in records]
        if found:
            # Of equals the newest.
            likeness, best = max(reversed(found), key=lambda one: one[0])
            yield likeness[0], best


def lane_of(record: Record, host: Host) -> str:
    """The lane of a release that a host fills, as its record says them; empty for none."""
    asked = smoke_records.lanes_of(record)
    if asked is None:
        return ""
    return next((one.name for one in asked.lanes if asked.filled_by(one, host)), "")


def evidence_of(record: Record) -> SmokeEvidence | None:
    """What a record holds, where this version of the tool can read it."""
    try:
        return SmokeEvidence.model_validate(record.value)
    except ValidationError:
        return None


def _likeness(
    evidence: SmokeEvidence, lane: str, other: tuple[str, SmokeEvidence]
) -> tuple[bool, bool, bool]:
    """Whether figures may be compared; then the lane, then the system."""
    here, there = evidence.host, other[1].host
    return (
        _machine(here) == _machine(there) and evidence.kind == other[1].kind,
        bool(lane) and lane == other[0],
        (here.system, here.release) == (there.system, there.release),
    )


def _machine(host: Host) -> tuple[str, int]:
    return host.chip or host.machine, host.memory_bytes


def _earlier(workspace: Path, version: str) -> Iterator[Sequence[tuple[str, SmokeEvidence]]]:
    """Of each earlier release, the nearest first: lane and evidence of each of its hosts."""
    if not workspace.name.endswith(version):
        return
    family = workspace.name.removesuffix(version)
    earlier: list[str] = []
    for folder in workspace.parent.glob(f"{family}*/ledger"):
        other = folder.parent.name.removeprefix(family)
        if precedence.is_newer(version, other):
            at = sum(precedence.is_newer(one, other) for one in earlier)
            earlier.insert(at, other)
    for other in earlier[:_LOOKED_AT]:
        # What lies beside may be damaged; it is not this release's fault.
        with contextlib.suppress(errors.ReleaseError, OSError):
            yield list(_hosts(workspace.parent / f"{family}{other}", other))


def _hosts(workspace: Path, version: str) -> Iterator[tuple[str, SmokeEvidence]]:
    for record in smoke_records.counting(Ledger(workspace / "ledger").records):
        found = evidence_of(record)
        if found and found.figures and found.version == version:
            yield lane_of(record, found.host), found
