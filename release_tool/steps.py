"""What a pipeline is made of: stages, places that nothing fills yet, and who watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from release_tool import errors
from release_tool.ledger import Record
from release_tool.progress import Reporter
from release_tool.values import Intents, Value


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
    facts: tuple[str, ...] = ()
    """Stages whose values it tells of. Unlike those of its needs, their outputs may be gone."""
    repeatable: bool = True
    """False where a repeat makes other bytes that somebody may already rely on: signing."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The stages whose values it gets."""
        return (*self.needs, *self.facts)


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


def stages_of(steps: Sequence[Step]) -> list[Stage]:
    """The steps that something fills."""
    return [step for step in steps if isinstance(step, Stage)]


def find(steps: Sequence[Step], name: str) -> Step:
    """One step by its name.

    Raises:
        UsageError: there is none.
    """
    for step in steps:
        if step.name == name:
            return step
    raise errors.UsageError(
        "there is no such stage", subject=name, expected=", ".join(step.name for step in steps)
    )


def up_to(steps: Sequence[Step], last: str) -> list[Step]:
    """The steps up to and with one of them."""
    end = steps.index(find(steps, last))
    return list(steps[: end + 1])
