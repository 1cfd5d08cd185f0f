"""What the jobs of a smoke matrix hand over, by the names of their lanes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from release_tool import errors, smoke_lanes, smoke_records
from release_tool.handoff.contents import LEDGER
from release_tool.ledger import Ledger
from release_tool.plan import ReleasePlan

Lane = tuple[str, Path, str]
"""A lane's name, the file that its job packed, and the head that its job told; empty for none."""


def require_one_way(files: Sequence[Path], heads: Sequence[str], lanes: Sequence[Lane]) -> None:
    """Files with heads, or lanes: whoever names both means something else.

    Raises:
        UsageError: both are named, or neither.
    """
    if bool(files or heads) == bool(lanes):
        raise errors.UsageError(
            "nothing is named to merge" if not lanes else "two ways to say what to merge",
            expected="FILE … with --expect HEAD for each, or --lane NAME FILE HEAD for each lane",
            hint="see release-tool handoff merge --help",
        )


def of(plan: ReleasePlan, lanes: Sequence[Lane]) -> list[tuple[Path, str]]:
    """The packs of all lanes with their heads.

    Raises:
        UsageError: a lane is named that the release does not have, or one is named twice.
        VerificationError: a lane handed nothing over; names every such lane.
    """
    wanted = {lane.name: lane for lane in smoke_lanes.of(plan).lanes}
    named = [name for name, _, _ in lanes]
    strange = sorted({name for name in named if name not in wanted or named.count(name) > 1})
    if strange:
        raise errors.UsageError(
            "these are not the lanes of this release",
            subject=", ".join(repr(name[:80]) for name in strange),
            expected=f"each of {', '.join(wanted)} once",
            hint="name the lanes of smoke.require in release.yaml",
        )
    if missing := list(_missing(plan, lanes)):
        names = ", ".join(name for name, _ in missing)
        raise errors.VerificationError(
            f"lane {names} handed nothing over"
            if len(missing) == 1
            else f"lanes {names} handed nothing over",
            expected="a smoke record of each lane",
            details=[text for _, text in missing],
            hint="run the smoke jobs of these lanes again; nothing was merged",
        )
    return [(file, head) for _, file, head in lanes]


def _missing(plan: ReleasePlan, lanes: Sequence[Lane]) -> Iterator[tuple[str, str]]:
    """Each lane without a pack, and why."""
    asked = smoke_lanes.of(plan)
    named = {name: (file, head) for name, file, head in lanes}
    for lane in asked.lanes:
        wants = f"lane {lane.name} wants {asked.wanted(lane)}"
        if lane.name not in named:
            yield lane.name, f"{wants}: no --lane names it"
            continue
        file, head = named[lane.name]
        if not head:
            yield lane.name, f"{wants}: its job told no head, so it failed or did not run"
        elif not file.is_file():
            yield lane.name, f"{wants}: its job told a head, but {file} did not arrive"


def require_filled(plan: ReleasePlan, root: Path) -> None:
    """Each lane must have a record of a host of its kind, now that all are merged.

    Raises:
        VerificationError: the jobs of some lanes ran on other hosts than these want.
    """
    asked = smoke_lanes.of(plan)
    records = smoke_records.counting(Ledger(root / LEDGER).records)
    hosts = [host for record in records if (host := smoke_records.host_of(record.value))]
    empty = [lane for lane in asked.lanes if not any(asked.filled_by(lane, one) for one in hosts)]
    if empty:
        raise errors.VerificationError(
            f"lane {', '.join(lane.name for lane in empty)} was smoked on other hosts than it"
            " wants",
            expected="; ".join(f"{lane.name}: {asked.wanted(lane)}" for lane in empty),
            observed=", ".join(smoke_lanes.shown(host) for host in hosts) or "no host",
            hint="give the lane's job a runner of that kind in the workflow's matrix",
        )
