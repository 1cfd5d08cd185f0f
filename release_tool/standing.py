"""The one rule by which a record counts, and whether its outputs still stand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, ValidationError

from release_tool.ledger import Ledger, Record
from release_tool.plan import ReleasePlan
from release_tool.steps import Stage, Step, stages_of
from release_tool.values import Value, digest_of

_CHUNK_BYTES = 1024 * 1024
_FIRST = "before it, "


@dataclass(frozen=True)
class Standing:
    """Whether a stage's newest record counts, and if not, why."""

    record: Record | None
    value: Value | None
    reason: str = ""

    @property
    def counts(self) -> bool:
        return self.value is not None


def standings(steps: Sequence[Step], plan: ReleasePlan, ledger: Ledger) -> dict[str, Standing]:
    """Judge each stage's newest record, in order, without looking at outputs."""
    found: dict[str, Standing] = {}
    for stage in stages_of(steps):
        found[stage.name] = _judge(stage, plan, ledger, found)
    return found


def _judge(
    stage: Stage, plan: ReleasePlan, ledger: Ledger, before: Mapping[str, Standing]
) -> Standing:
    record = ledger.newest(stage.name)
    if record is None:
        return Standing(None, None, "not done yet")
    if record.plan_digest != plan.part_digest(stage.reads):
        changed = _changed_parts(record.plan_part, plan.part(stage.reads))
        return Standing(record, None, f"the plan has changed: {', '.join(changed)}")
    for need in stage.inputs:
        value = before[need].value
        if value is None:
            return Standing(record, None, because(need, before[need].reason))
        if record.inputs.get(need) != value.digest():
            return Standing(record, None, f"{need} has a newer result")
    for name, digest in stage.externals().items():
        if record.inputs.get(name) != digest:
            return Standing(record, None, f"{name} has changed since")
    try:
        return Standing(record, stage.value_type.model_validate(record.value))
    except ValidationError:
        return Standing(record, None, "its record is of another version of this tool")


def chained(records: Sequence[Record]) -> dict[str, Record]:
    """The records that stand by themselves, by stage: without a plan and without outputs.

    A stage's newest record stands while those before it, by the digests that it names as its
    inputs, stand as well and are the newest.
    """
    newest = {record.stage: record for record in records if record.kind == "record"}
    found: dict[str, Record] = {}
    for record in sorted(newest.values(), key=lambda one: one.number):
        needs = [name for name in record.inputs if name in newest and name != record.stage]
        if all(
            name in found and digest_of(found[name].value) == record.inputs[name] for name in needs
        ):
            found[record.stage] = record
    return found


def because(need: str, reason: str) -> str:
    """The first cause, however many stages lie between."""
    return reason if reason.startswith(_FIRST) else f"{_FIRST}{need} must be repeated: {reason}"


def _changed_parts(recorded: Mapping[str, JsonValue], present: Mapping[str, object]) -> list[str]:
    names = sorted(recorded.keys() | present.keys())
    return [name for name in names if recorded.get(name) != present.get(name)]


def damage(root: Path, outputs: Mapping[str, str]) -> str:
    """Why the recorded outputs do not stand any more; empty when they do."""
    for path, expected in outputs.items():
        observed = _digest(root / path)
        if observed is None:
            return f"its output {path} is gone"
        if observed != expected:
            return f"its output {path} has changed since"
    return ""


def _digest(path: Path) -> str | None:
    if path.is_symlink():
        return hashlib.sha256(str(path.readlink()).encode()).hexdigest()
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
