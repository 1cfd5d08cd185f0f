"""What a run shows: one line for each stage, progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from release_tool import credentials, errors
from release_tool.cli import github_commands
from release_tool.cli.session import Session
from release_tool.ledger import Record
from release_tool.progress import Reporter
from release_tool.report.summary import ago, summary
from release_tool.steps import Slot
from release_tool.values import Value

_NAME_WIDTH = 10
_MAX_WIDTH = 120
_INDENT = " " * (_NAME_WIDTH + 3)


class RunConsole:
    """The pipeline's observer for people: `steps.Observer`."""

    def __init__(self, session: Session) -> None:
        self._out = session.out
        self._environ = session.environ
        self._grouped = session.in_github_actions
        self._live = session.on_terminal
        self._width = min(shutil.get_terminal_size((100, 24)).columns, _MAX_WIDTH)
        self._said: list[str] = []

    def reporter(self, stage: str) -> Reporter:
        self._said = []
        if self._grouped:
            self._say(github_commands.group(stage))
        kind = _Bars if self._live else _Plain
        return kind(self._out, stage, self._said)

    def reused(self, stage: str, record: Record, value: Value) -> None:
        self._line(stage, summary(value), f"{ago(record.at)}, kept")

    def done(self, stage: str, record: Record, value: Value) -> None:
        self._line(stage, summary(value), f"{record.seconds:.1f} s")
        self._end()

    def failed(self, stage: str, problem: errors.ReleaseError) -> None:
        word = "pending" if isinstance(problem, errors.PendingError) else "failed"
        self._line(stage, f"{word}: {problem.message}", "")
        self._end()

    def open_slot(self, slot: Slot) -> None:
        self._line(slot.name, f"open: {slot.reason}", "")

    def repeats(self, stage: str, invalidated: Sequence[str]) -> None:
        self._line(
            stage, "is repeated, as --resign asks; what counted until now no longer does:", ""
        )
        for text in invalidated:
            self._say(f"{_INDENT}{text}")

    def aside(self, name: str) -> Reporter:
        """A reporter for what comes before the stages."""
        kind = _Bars if self._live else _Plain
        return kind(self._out, name, [])

    def line(self, name: str, text: str) -> None:
        """A line of the same shape for what is no stage."""
        self._line(name, text, "")

    def _end(self) -> None:
        """What the stage said stands under its line: the verdict comes first."""
        for text in self._said:
            self._say(f"{_INDENT}{text}")
        self._said = []
        if self._grouped:
            self._say(github_commands.end_group())

    def _line(self, stage: str, text: str, right: str) -> None:
        left = f"  {stage:<{_NAME_WIDTH}} {text}"
        gap = max(self._width - len(left) - len(right), 2)
        self._say((left + " " * gap + right).rstrip())

    def _say(self, text: str) -> None:
        print(credentials.covered(text, self._environ), file=self._out, flush=True)


class Notes:
    """Collects what a stage says; nothing moves."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def note(self, text: str) -> None:
        self._said.append(text)

    def warn(self, text: str) -> None:
        self._said.append(f"warning: {text}")

    def start(self, task: str, total_bytes: int | None) -> None: ...

    def advance(self, task: str, count_bytes: int) -> None: ...

    def finish(self, task: str) -> None: ...


class _Plain(Notes):
    """Says beforehand only what may take minutes: a download of unknown length, or a wait."""

    def __init__(self, out: TextIO, stage: str, said: list[str]) -> None:
        super().__init__(said)
        self._out = out
        self._stage = stage

    def start(self, task: str, total_bytes: int | None) -> None:
        if total_bytes is None:
            print(f"  {self._stage:<{_NAME_WIDTH}} {task} …", file=self._out, flush=True)


class _Bars(Notes):
    """A bar while a task runs, gone when it is over."""

    def __init__(self, out: TextIO, stage: str, said: list[str]) -> None:
        super().__init__(said)
        self._out = out
        self._stage = stage
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def start(self, task: str, total_bytes: int | None) -> None:
        if self._progress is None:
            self._progress = _progress(self._out, self._stage)
            self._progress.start()
        self._tasks[task] = self._progress.add_task(task, total=total_bytes)

    def advance(self, task: str, count_bytes: int) -> None:
        if self._progress is not None and task in self._tasks:
            self._progress.advance(self._tasks[task], count_bytes)

    def finish(self, task: str) -> None:
        if self._progress is None:
            return
        if task in self._tasks:
            self._progress.remove_task(self._tasks.pop(task))
        if not self._tasks:
            self._progress.stop()
            self._progress = None


class _Bar(BarColumn):
    """A bar, its figures beside it, and neither for a task that has no bytes, such as a wait."""

    def render(self, task: Task) -> ProgressBar:
        bar = super().render(task)
        bar.width = bar.width if _counts(task) else 0
        return bar


class _Amount(DownloadColumn):
    def render(self, task: Task) -> Text:
        return super().render(task) if _counts(task) else Text()


class _Speed(TransferSpeedColumn):
    def render(self, task: Task) -> Text:
        return super().render(task) if _counts(task) else Text()


def _counts(task: Task) -> bool:
    return task.total is not None or task.completed > 0


def _progress(out: TextIO, stage: str) -> Progress:
    return Progress(
        # A column of its own wraps; the words of a wait are longer than a terminal is wide.
        TextColumn(
            f"  {stage:<{_NAME_WIDTH}} {{task.description}}", markup=False, table_column=Column()
        ),
        _Bar(),
        _Amount(),
        _Speed(),
        console=Console(file=out),
        transient=True,
    )


class JSONObserver:
    """Says nothing while the run goes; `--json` prints one document at its end."""

    def reporter(self, stage: str) -> Reporter:
        del stage
        return Notes([])

    def reused(self, stage: str, record: Record, value: Value) -> None: ...

    def done(self, stage: str, record: Record, value: Value) -> None: ...

    def failed(self, stage: str, problem: errors.ReleaseError) -> None: ...

    def open_slot(self, slot: Slot) -> None: ...

    def repeats(self, stage: str, invalidated: Sequence[str]) -> None: ...
