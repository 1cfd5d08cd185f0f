"""Which smoke records of a ledger count together: one for each host that a release ran on.

The newest is the one that the pipeline goes on with. Those of other hosts count beside it while
they were made by the same plan from the same inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue, ValidationError

from release_tool import smoke_lanes
from release_tool.ledger import Record
from release_tool.plan import Smoke
from release_tool.smoke_lanes import STAGE, Lanes
from release_tool.standing import chained
from release_tool.values import Host, SmokeEvidence


def counting(records: Sequence[Record]) -> list[Record]:
    """The smoke records that count together, oldest first: the newest, and those beside it.

    Of each place in the workspace the newest one, made by the same plan from the same inputs:
    where several hosts are wanted, each has a place of its own (`smoke_lanes.folder`).
    """
    newest = chained(records).get(STAGE)
    if newest is None:
        return []
    found: dict[tuple[str, ...], Record] = {}
    for record in records:
        same = record.plan_digest == newest.plan_digest and record.inputs == newest.inputs
        if record.kind == "record" and record.stage == STAGE and same:
            found[place_of(record)] = record
    return sorted(found.values(), key=lambda one: one.number)


def host_of(value: JsonValue) -> Host | None:
    """The host that smoke evidence names."""
    try:
        return Host.model_validate(value.get("host")) if isinstance(value, dict) else None
    except ValidationError:
        return None


def place_of(record: Record) -> tuple[str, ...]:
    """The files of the workspace that a record names."""
    return tuple(sorted(record.outputs))


def beside(records: Sequence[Record]) -> list[SmokeEvidence]:
    """The evidence that counts beside the newest record's."""
    found = []
    for record in counting(records)[:-1]:
        try:
            found.append(SmokeEvidence.model_validate(record.value))
        except ValidationError:
            continue  # of another version of this tool: its lane is empty
    return found


def lanes_of(record: Record) -> Lanes | None:
    """The lanes as a smoke record's part of the plan says them; None where it does not."""
    part = record.plan_part
    product = part.get("product")
    minimum = product.get("minimum_macos") if isinstance(product, dict) else ""
    try:
        smoke = Smoke.model_validate(part.get("smoke"))
    except ValidationError:
        return None
    asked = part.get("environment.lanes", "required") == "required"
    return smoke_lanes.lanes(smoke if asked else None, str(minimum))
