"""Brings a release's stages to records that count, in order. It knows no Apple word.

A record counts while the digests of its inputs and of the part of the plan that its stage reads
are what they were. Outputs are looked at only where a stage that must run consumes them, and
where one was asked for by name.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue, TypeAdapter

from release_tool import errors, tracing
from release_tool.ledger import Ledger, Record
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.standing import Standing, because, damage, standings
from release_tool.steps import Observer, Slot, Stage, Step, find, stages_of, up_to
from release_tool.values import Value


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
    redo: Mapping[str, str] = field(default_factory=dict)
    """Stages to do once more though their records count, each with its reason."""
    cover: Callable[[str], str] = str
    """Takes the release's secrets out of a text. Clients cover what they sent in what comes back;
    this stands behind all of them, before a failure or a note is kept or shown."""
    _standing: dict[str, Standing] = field(default_factory=dict, init=False)
    _judged: tuple[tuple[str, ...], str] | None = field(default=None, init=False)

    def until(self, last: str) -> dict[str, Value]:
        """Bring every stage up to `last` to a record that counts; returns the values by stage.

        Raises:
            RepeatRefusedError: a stage that must not be repeated would be, without `--resign`.
            HostError: a slot that the environment requires is not filled.
            ReleaseError: whatever a stage raises; the ledger keeps the failure.
        """
        return self._bring([step.name for step in up_to(self.steps, last)])

    def only(self, name: str) -> dict[str, Value]:
        """Run one stage on records that already count.

        Raises:
            UsageError: a stage before it has no record that counts.
        """
        stage = find(self.steps, name)
        if isinstance(stage, Slot):
            raise _unfilled(stage, self.steps)
        self._judge_all([name])
        missing = [need for need in stage.inputs if not self._standing[need].counts]
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
        names = [only] if only else [step.name for step in up_to(self.steps, last)]
        self._judge_all(names)
        return [
            stage.name
            for stage in stages_of(self.steps)
            if stage.name in names and not self._standing[stage.name].counts
        ]

    def _judge_all(self, names: Sequence[str]) -> None:
        """Judge the records once for each question: looking at outputs hashes whole bundles."""
        question = (tuple(names), self.ledger.head)
        if question == self._judged:
            return
        self._refuse_open_slots(names)
        self._standing = standings(self.steps, self.plan, self.ledger)
        if self.resign:
            for stage in self._fixed(names):
                if self._standing[stage.name].counts:
                    self._drop(stage.name, "--resign asks for it")
        for name, reason in self.redo.items():
            if name in names and self._standing[name].counts:
                self._drop(name, reason)
        self._look_at_outputs(names)
        if not self.resign:
            self._refuse_repeats(names)
        self._judged = question

    def _fixed(self, names: Sequence[str]) -> list[Stage]:
        """The stages that are not repeated by accident."""
        return [
            stage for stage in stages_of(self.steps) if stage.name in names and not stage.repeatable
        ]

    def _tell_repeats(self, names: Sequence[str]) -> None:
        for stage in self._fixed(names):
            standing = self._standing[stage.name]
            if standing.record is not None and not standing.counts:
                self.observer.repeats(stage.name, self.invalidated_by(stage.name))

    def _refuse_open_slots(self, names: Sequence[str]) -> None:
        """What cannot be finished is not begun."""
        for name in names:
            step = find(self.steps, name)
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
            step = find(self.steps, name)
            if isinstance(step, Slot):
                self.observer.open_slot(step)
            else:
                values[name] = self._one(step, values)
        return values

    def _one(self, stage: Stage, values: Mapping[str, Value]) -> Value:
        standing = self._standing[stage.name]
        if standing.record is not None and standing.value is not None:
            self.observer.reused(stage.name, standing.record, standing.value)
            tracing.tell(
                f"{stage.name} is kept: record {standing.record.number}, whose inputs, part of the"
                f" plan ({standing.record.plan_digest[:12]}) and outputs are as they were"
            )
            return standing.value
        tracing.tell(f"{stage.name} is done now: {standing.reason}")
        reporter = _Noting(self.observer.reporter(stage.name), self.cover)
        inputs = {need: values[need].digest() for need in stage.inputs} | dict(stage.externals())
        started = time.monotonic()
        try:
            value = stage.work(
                {need: values[need] for need in stage.inputs},
                reporter,
                _LedgerIntents(self, stage),
            )
        except errors.ReleaseError as problem:
            problem.rewrite(self.cover)
            # A disk that is full must not hide what failed first.
            with contextlib.suppress(errors.HostError):
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
            for stage in stages_of(self.steps)
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
            reason = damage(self.root, standing.record.outputs)
            if reason:
                found[name] = reason
        return found

    def _drop(self, name: str, reason: str) -> None:
        self._standing[name] = Standing(self._standing[name].record, None, reason)
        for stage in stages_of(self.steps):
            if name in stage.inputs and self._standing[stage.name].counts:
                self._drop(stage.name, because(name, reason))

    def _refuse_repeats(self, names: Sequence[str]) -> None:
        for stage in self._fixed(names):
            standing = self._standing[stage.name]
            if standing.record is not None and not standing.counts:
                raise _would_repeat(stage, standing, self.invalidated_by(stage.name))

    def invalidated_by(self, name: str) -> list[str]:
        """The records that stop counting when `name` is repeated, oldest first."""
        affected = {name}
        lines = []
        for stage in stages_of(self.steps):
            if stage.name != name and affected.intersection(stage.inputs):
                affected.add(stage.name)
            if stage.name in affected and (record := self.ledger.newest(stage.name)):
                lines.append(f"{stage.name} of {record.at}{_first_output(record)}")
        return lines


class _Noting:
    """A reporter that also keeps the notes for the record."""

    def __init__(self, inner: Reporter, cover: Callable[[str], str]) -> None:
        self._inner = inner
        self._cover = cover
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        said = self._cover(text)
        self.notes.append(said)
        self._inner.note(said)

    def warn(self, text: str) -> None:
        said = self._cover(text)
        self.notes.append(f"warning: {said}")
        self._inner.warn(said)

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


def _first_output(record: Record) -> str:
    if len(record.outputs) != 1:
        return ""
    path, digest = next(iter(record.outputs.items()))
    return f", {path} {digest[:12]}"


def _failure(problem: errors.ReleaseError) -> JsonValue:
    return TypeAdapter(JsonValue).validate_python(problem.as_json())


def _unfilled(slot: Slot, steps: Sequence[Step]) -> errors.ReleaseError:
    if not slot.required:
        return errors.UsageError(
            f"{slot.name} has nothing to do in this release, nothing was started",
            observed=slot.reason,
            hint="name another stage",
        )
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
