"""The reporter protocol: stages tell what happens, observers show it and never steer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Reporter(Protocol):
    """What a stage may say while it works."""

    def note(self, text: str) -> None:
        """A fact worth a line under the stage: one clause, no full stop."""

    def warn(self, text: str) -> None:
        """Something that does not stop the run but must be seen."""

    def start(self, task: str, total_bytes: int | None) -> None:
        """A measurable piece of work begins; `total_bytes` is None where it is unknown."""

    def advance(self, task: str, count_bytes: int) -> None:
        """`count_bytes` more of the task are done."""

    def finish(self, task: str) -> None:
        """The task is over, well or badly."""


class Silent:
    """The default reporter: says nothing."""

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def start(self, task: str, total_bytes: int | None) -> None: ...

    def advance(self, task: str, count_bytes: int) -> None: ...

    def finish(self, task: str) -> None: ...


@contextmanager
def task(reporter: Reporter, name: str, total_bytes: int | None = None) -> Iterator[None]:
    """Frame a measurable piece of work, finished in every outcome."""
    reporter.start(name, total_bytes)
    try:
        yield
    finally:
        reporter.finish(name)
