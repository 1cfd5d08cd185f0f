"""What a run shows: one line for each stage, progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from release_tool import errors
from release_tool.cli.session import Session
from release_tool.ledger import Record
from release_tool.pipeline import Slot
from release_tool.progress import Reporter
from release_tool.report.summary import ago, summary
from release_tool.values import Value

_NAME_WIDTH = 10
_MAX_WIDTH = 120
_INDENT = " " * (_NAME_WIDTH + 3)


class RunConsole:
    """The pipeline's observer for people: `pipeline.Observer`."""

    def __init__(self, session: Session) -> None:
        self._out = session.out
        self._grouped = session.in_github_actions
        self._live = session.on_terminal
        self._width = min(shutil.get_terminal_size((100, 24)).columns, _MAX_WIDTH)

    def reporter(self, stage: str) -> Reporter:
        if self._live:
            return _Bars(self._out, stage)
        if self._grouped:
            self._say(f"::group::{stage}")
        return _Lines(self._out)

    def reused(self, stage: str, record: Record, value: Value) -> None:
        self._line(stage, summary(value), f"{ago(record.at)}, kept")

    def done(self, stage: str, record: Record, value: Value) -> None:
        self._end_group()
        self._line(stage, summary(value), f"{record.seconds:.1f} s")

    def failed(self, stage: str, problem: errors.ReleaseError) -> None:
        self._end_group()
        self._line(stage, f"failed: {problem.message}", "")

    def open_slot(self, slot: Slot) -> None:
        self._line(slot.name, f"open: {slot.reason}", "")

    def _end_group(self) -> None:
        if self._grouped:
            self._say("::endgroup::")

    def _line(self, stage: str, text: str, right: str) -> None:
        left = f"  {stage:<{_NAME_WIDTH}} {text}"
        gap = max(self._width - len(left) - len(right), 2)
        self._say((left + " " * gap + right).rstrip())

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)


class _Lines:
    """Plain lines: notes and warnings only, no moving parts."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def note(self, text: str) -> None:
        print(f"{_INDENT}{text}", file=self._out, flush=True)

    def warn(self, text: str) -> None:
        print(f"{_INDENT}warning: {text}", file=self._out, flush=True)

    def start(self, task: str, total_bytes: int | None) -> None: ...

    def advance(self, task: str, count_bytes: int) -> None: ...

    def finish(self, task: str) -> None: ...


class _Bars(_Lines):
    """A bar while a task runs, gone when it is over; notes stay."""

    def __init__(self, out: TextIO, stage: str) -> None:
        super().__init__(out)
        self._stage = stage
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def note(self, text: str) -> None:
        self._above(f"{_INDENT}{text}")

    def warn(self, text: str) -> None:
        self._above(f"{_INDENT}warning: {text}")

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

    def _above(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._out, flush=True)


def _progress(out: TextIO, stage: str) -> Progress:
    return Progress(
        TextColumn(f"  {stage:<{_NAME_WIDTH}} {{task.description}}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(file=out),
        transient=True,
    )


class JSONObserver:
    """Says nothing while the run goes; `--json` prints one document at its end."""

    def __init__(self, err: TextIO) -> None:
        self._err = err

    def reporter(self, stage: str) -> Reporter:
        del stage
        return _Lines(self._err)

    def reused(self, stage: str, record: Record, value: Value) -> None: ...

    def done(self, stage: str, record: Record, value: Value) -> None: ...

    def failed(self, stage: str, problem: errors.ReleaseError) -> None: ...

    def open_slot(self, slot: Slot) -> None: ...
