"""The ordered stages and the one rule by which a record counts. It knows no Apple word.

A record counts while the digests of its inputs and of the part of the plan that its stage reads
are what they were. Outputs are looked at only where a stage that must run consumes them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue, TypeAdapter, ValidationError

from release_tool import errors
from release_tool.ledger import Ledger, Record
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.values import Intents, Value

_CHUNK_BYTES = 1024 * 1024
_FIRST = "before it, "


class Work(Protocol):
    """What a stage does: values in, one value out."""

    def __call__(
        self, values: Mapping[str, Value], reporter: Reporter, intents: Intents, /
    ) -> Value: ...


def no_externals() -> Mapping[str, str]:
    """The externals of a stage that takes everything from earlier stages."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step, wired: the pipeline needs nothing else to decide, skip and record."""

    name: str
    value_type: type[Value]
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    work: Work
    externals: Callable[[], Mapping[str, str]] = no_externals
    """Digests of what comes from outside the ledger. A thing that is not at hand is left out,
    and then the record stands as it is: a later job has no binaries."""
    repeatable: bool = True
    """False where a repeat makes other bytes that somebody may already rely on: signing."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A place in the order that nothing fills yet."""

    name: str
    reason: str
    required: bool
    """Whether the environment refuses to go on without it."""


Step = Stage | Slot


class Observer(Protocol):
    """Who watches a run: shows, never steers."""

    def reporter(self, stage: str) -> Reporter:
        """The reporter for a stage that starts now."""

    def reused(self, stage: str, record: Record, value: Value) -> None:
        """The stage's record counts; nothing was done."""

    def done(self, stage: str, record: Record, value: Value) -> None:
        """The stage has run and its record is written."""

    def failed(self, stage: str, problem: errors.ReleaseError) -> None:
        """The stage ended badly."""

    def open_slot(self, slot: Slot) -> None:
        """Nothing fills this place; the environment goes on without it."""

    def repeats(self, stage: str, invalidated: Sequence[str]) -> None:
        """A stage that is not repeated by accident is repeated on purpose; what falls with it."""


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
    for stage in _stages(steps):
        found[stage.name] = _judge(stage, plan, ledger, found)
    return found


@dataclass(kw_only=True)
class Run:
    """One run over the steps of a release."""

    steps: Sequence[Step]
    plan: ReleasePlan
    ledger: Ledger
    root: Path
    """The workspace; outputs of records are relative to it."""
    observer: Observer
    host: Mapping[str, str]
    tool: str
    resign: bool = False
    _standing: dict[str, Standing] = field(default_factory=dict, init=False)

    def until(self, last: str) -> dict[str, Value]:
        """Bring every stage up to `last` to a record that counts; returns the values by stage.

        Raises:
            RepeatRefusedError: a stage that must not be repeated would be, without `--resign`.
            HostError: a slot that the environment requires is not filled.
            ReleaseError: whatever a stage raises; the ledger keeps the failure.
        """
        return self._bring([step.name for step in _up_to(self.steps, last)])

    def only(self, name: str) -> dict[str, Value]:
        """Run one stage on records that already count.

        Raises:
            UsageError: a stage before it has no record that counts.
        """
        stage = _find(self.steps, name)
        if isinstance(stage, Slot):
            raise _unfilled(stage, self.steps)
        self._judge_all([name])
        missing = [need for need in stage.needs if not self._standing[need].counts]
        if missing:
            raise errors.UsageError(
                f"cannot run {name} alone",
                details=[f"{need}: {self._standing[need].reason}" for need in missing],
                hint=f"run it with what comes before: release-tool run --until {name}",
            )
        return self._bring([name])

    def coming(self, *, only: str | None, last: str) -> list[str]:
        """The stages that a run would do now, for probes that ask ahead.

        Raises:
            UsageError, HostError: the run would be refused before its first stage.
        """
        names = [only] if only else [step.name for step in _up_to(self.steps, last)]
        self._judge_all(names)
        return [
            stage.name
            for stage in _stages(self.steps)
            if stage.name in names and not self._standing[stage.name].counts
        ]

    def _judge_all(self, names: Sequence[str]) -> None:
        self._refuse_open_slots(names)
        self._standing = standings(self.steps, self.plan, self.ledger)
        if self.resign:
            for stage in self._fixed(names):
                if self._standing[stage.name].counts:
                    self._drop(stage.name, "--resign asks for it")
        self._look_at_outputs(names)
        if not self.resign:
            self._refuse_repeats(names)

    def _fixed(self, names: Sequence[str]) -> list[Stage]:
        """The stages that are not repeated by accident."""
        return [
            stage for stage in _stages(self.steps) if stage.name in names and not stage.repeatable
        ]

    def _tell_repeats(self, names: Sequence[str]) -> None:
        for stage in self._fixed(names):
            standing = self._standing[stage.name]
            if standing.record is not None and not standing.counts:
                self.observer.repeats(stage.name, self.invalidated_by(stage.name))

    def _refuse_open_slots(self, names: Sequence[str]) -> None:
        """What cannot be finished is not begun."""
        for name in names:
            step = _find(self.steps, name)
            if isinstance(step, Slot) and step.required:
                raise _unfilled(step, self.steps)

    def _bring(self, names: Sequence[str]) -> dict[str, Value]:
        self._judge_all(names)
        self._tell_repeats(names)
        values: dict[str, Value] = {
            name: standing.value
            for name, standing in self._standing.items()
            if standing.value is not None
        }
        for name in names:
            step = _find(self.steps, name)
            if isinstance(step, Slot):
                self.observer.open_slot(step)
            else:
                values[name] = self._one(step, values)
        return values

    def _one(self, stage: Stage, values: Mapping[str, Value]) -> Value:
        standing = self._standing[stage.name]
        if standing.record is not None and standing.value is not None:
            self.observer.reused(stage.name, standing.record, standing.value)
            return standing.value
        reporter = _Noting(self.observer.reporter(stage.name))
        inputs = {need: values[need].digest() for need in stage.needs} | dict(stage.externals())
        started = time.monotonic()
        try:
            value = stage.work(
                {need: values[need] for need in stage.needs},
                reporter,
                _LedgerIntents(self, stage),
            )
        except errors.ReleaseError as problem:
            self._append(stage, "failure", inputs, started, value=_failure(problem))
            self.observer.failed(stage.name, problem)
            raise
        record = self._append(
            stage,
            "record",
            inputs,
            started,
            value=value.model_dump(mode="json"),
            outputs=value.outputs(),
            notes=tuple(reporter.notes),
        )
        self.observer.done(stage.name, record, value)
        return value

    def _append(
        self,
        stage: Stage,
        kind: str,
        inputs: Mapping[str, str],
        started: float,
        *,
        value: JsonValue,
        outputs: Mapping[str, str] | None = None,
        notes: tuple[str, ...] = (),
    ) -> Record:
        return self.ledger.append(
            Record.model_validate(
                {
                    "number": 0,
                    "previous": "",
                    "kind": kind,
                    "stage": stage.name,
                    "at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "host": dict(self.host),
                    "tool": self.tool,
                    "inputs": dict(inputs),
                    "plan_digest": self.plan.part_digest(stage.reads),
                    "plan_part": self.plan.part(stage.reads),
                    "outputs": dict(outputs or {}),
                    "value": value,
                    "notes": notes,
                    "seconds": round(time.monotonic() - started, 3),
                }
            )
        )

    def _look_at_outputs(self, names: Sequence[str]) -> None:
        """Drop records whose outputs are gone or changed and that a stage to run consumes."""
        while broken := self._broken(names):
            for name, reason in broken.items():
                self._drop(name, reason)

    def _broken(self, names: Sequence[str]) -> dict[str, str]:
        to_run = [
            stage
            for stage in _stages(self.steps)
            if stage.name in names and not self._standing[stage.name].counts
        ]
        # What a stage to run consumes, and what was asked for by name.
        consumed = {need for stage in to_run for need in stage.needs}
        consumed |= {name for name in names[-1:] if name in self._standing}
        found: dict[str, str] = {}
        for name in sorted(consumed):
            standing = self._standing[name]
            if standing.record is None or not standing.counts:
                continue
            reason = _damage(self.root, standing.record.outputs)
            if reason:
                found[name] = reason
        return found

    def _drop(self, name: str, reason: str) -> None:
        self._standing[name] = Standing(self._standing[name].record, None, reason)
        for stage in _stages(self.steps):
            if name in stage.needs and self._standing[stage.name].counts:
                self._drop(stage.name, _because(name, reason))

    def _refuse_repeats(self, names: Sequence[str]) -> None:
        for stage in self._fixed(names):
            standing = self._standing[stage.name]
            if standing.record is not None and not standing.counts:
                raise _would_repeat(stage, standing, self.invalidated_by(stage.name))

    def invalidated_by(self, name: str) -> list[str]:
        """The records that stop counting when `name` is repeated, oldest first."""
        affected = {name}
        lines = []
        for stage in _stages(self.steps):
            if stage.name != name and affected.intersection(stage.needs):
                affected.add(stage.name)
            if stage.name in affected and (record := self.ledger.newest(stage.name)):
                lines.append(f"{stage.name} of {record.at}{_first_output(record)}")
        return lines


class _Noting:
    """A reporter that also keeps the notes for the record."""

    def __init__(self, inner: Reporter) -> None:
        self._inner = inner
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._inner.note(text)

    def warn(self, text: str) -> None:
        self.notes.append(f"warning: {text}")
        self._inner.warn(text)

    def start(self, task: str, total_bytes: int | None) -> None:
        self._inner.start(task, total_bytes)

    def advance(self, task: str, count_bytes: int) -> None:
        self._inner.advance(task, count_bytes)

    def finish(self, task: str) -> None:
        self._inner.finish(task)


class _LedgerIntents:
    """Intents of one stage, kept in the ledger; a record of the stage closes them."""

    def __init__(self, run: Run, stage: Stage) -> None:
        self._run = run
        self._stage = stage

    def find(self, action: str) -> Mapping[str, JsonValue] | None:
        for record in reversed(self._run.ledger.records):
            if record.stage != self._stage.name:
                continue
            if record.kind == "record":
                return None
            facts = record.value
            if record.kind == "intent" and isinstance(facts, dict) and facts["action"] == action:
                found = facts["facts"]
                return found if isinstance(found, dict) else None
        return None

    def declare(self, action: str, facts: Mapping[str, JsonValue]) -> None:
        value: JsonValue = {"action": action, "facts": dict(facts)}
        self._run._append(self._stage, "intent", {}, time.monotonic(), value=value)  # noqa: SLF001


def _judge(
    stage: Stage, plan: ReleasePlan, ledger: Ledger, before: Mapping[str, Standing]
) -> Standing:
    record = ledger.newest(stage.name)
    if record is None:
        return Standing(None, None, "not done yet")
    if record.plan_digest != plan.part_digest(stage.reads):
        changed = _changed_parts(record.plan_part, plan.part(stage.reads))
        return Standing(record, None, f"the plan has changed: {', '.join(changed)}")
    for need in stage.needs:
        value = before[need].value
        if value is None:
            return Standing(record, None, _because(need, before[need].reason))
        if record.inputs.get(need) != value.digest():
            return Standing(record, None, f"{need} has a newer result")
    for name, digest in stage.externals().items():
        if record.inputs.get(name) != digest:
            return Standing(record, None, f"{name} has changed since")
    try:
        return Standing(record, stage.value_type.model_validate(record.value))
    except ValidationError:
        return Standing(record, None, "its record is of another version of this tool")


def _because(need: str, reason: str) -> str:
    """The first cause, however many stages lie between."""
    return reason if reason.startswith(_FIRST) else f"{_FIRST}{need} must be repeated: {reason}"


def _changed_parts(recorded: Mapping[str, JsonValue], present: Mapping[str, object]) -> list[str]:
    names = sorted(recorded.keys() | present.keys())
    return [name for name in names if recorded.get(name) != present.get(name)]


def _stages(steps: Sequence[Step]) -> list[Stage]:
    return [step for step in steps if isinstance(step, Stage)]


def _find(steps: Sequence[Step], name: str) -> Step:
    for step in steps:
        if step.name == name:
            return step
    raise errors.UsageError(
        "there is no such stage", subject=name, expected=", ".join(step.name for step in steps)
    )


def _up_to(steps: Sequence[Step], last: str) -> list[Step]:
    end = steps.index(_find(steps, last))
    return list(steps[: end + 1])


def _damage(root: Path, outputs: Mapping[str, str]) -> str:
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


def _first_output(record: Record) -> str:
    if len(record.outputs) != 1:
        return ""
    path, digest = next(iter(record.outputs.items()))
    return f", {path} {digest[:12]}"


def _failure(problem: errors.ReleaseError) -> JsonValue:
    return TypeAdapter(JsonValue).validate_python(problem.as_json())


def _unfilled(slot: Slot, steps: Sequence[Step]) -> errors.HostError:
    before = steps[steps.index(slot) - 1].name
    return errors.HostError(
        f"{slot.name} cannot be done by this version of release-tool, nothing was started",
        observed=slot.reason,
        hint=f"what comes before it can be done: --until {before}",
    )


def _would_repeat(
    stage: Stage, standing: Standing, lines: Sequence[str]
) -> errors.RepeatRefusedError:
    at = standing.record.at if standing.record else ""
    return errors.RepeatRefusedError(
        f"{stage.name} was done at {at} and would be repeated with other bytes",
        observed=standing.reason,
        details=[f"stops counting: {line}" for line in lines],
        hint="put back what changed, release the next version, or say --resign",
    )
