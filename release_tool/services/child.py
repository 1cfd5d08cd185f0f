"""Child processes in a small world of their own, which end with all that they started.

The environment of a child is made here and inherits nothing: no secret, no proxy, no library path.
They end in every outcome, an exception or an interrupt among them; when the tool itself is killed,
the guard between the two ends them. Who left the group and the session is known by its parent and
by a mark in its environment; off Linux a process that dropped both could stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from release_tool import errors
from release_tool.services import child_guard, process_table, redaction

GRACE_SECONDS = 20.0
"""Between TERM and KILL; a provider drains its requests, and ours have ended by then. Freeing some
gigabytes of weights on a busy machine takes seconds."""
_REAP_SECONDS = 10.0
_GUARD_SECONDS = child_guard.SETTLE_SECONDS + 5.0
"""What the guard needs beside the grace: looking for what is left, and killing it."""
_REPORT_BYTES = 64 * 1024
"""The room of a pipe; the guard writes less."""
_HEAD_BYTES = 16 * 1024
_TAIL_BYTES = 44 * 1024
"""Of each output, the first and the last: a child may log without end."""
FLOOD_BYTES = 16 * 1024 * 1024
"""A provider writes some lines for each request; this is a loop that writes."""
_SHOWN_LINES = 12
_LAST_WORDS_SECONDS = 1.0
_GUARD = Path(child_guard.__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a child ended."""

    status: int
    """The exit code, or the negative number of the signal that ended it."""

    def __str__(self) -> str:
        if self.status >= 0:
            return f"exit code {self.status}"
        return f"killed by {self.signal_name}"

    @property
    def signal_name(self) -> str:
        """`SIGKILL`; empty where it ended by itself."""
        if self.status >= 0:
            return ""
        try:
            return signal.Signals(-self.status).name
        except ValueError:
            return f"signal {-self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What an ended child left to do."""

    killed: bool = False
    """It did not end when it was told to."""
    left: tuple[str, ...] = ()
    """Processes that it had started and that outlived it; they are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A child that ran to its end."""

    ending: Ending
    stdout: str
    """Its beginning and its end, 60 KiB at most, as text."""
    log: tuple[str, ...]
    """The last lines of both outputs, redacted."""
    aftermath: Aftermath = Aftermath()
    record: str = ""
    """All that was kept of both outputs, redacted."""


class Child:
    """A running child. Made by `running`."""

    def __init__(self, process: subprocess.Popen[bytes], *, mark: str, report: int) -> None:
        self._process = process
        self._mark = mark
        self._report = report
        self._outputs = [_Output(process.stdout), _Output(process.stderr)]
        self.aftermath = Aftermath()
        """Told once it has ended."""

    @property
    def group(self) -> int:
        """The number of its process group."""
        return self._process.pid

    @property
    def ending(self) -> Ending | None:
        """How it ended, or None while it runs."""
        status = self._process.poll()
        return None if status is None else Ending(status=status)

    def wait(self, seconds: float) -> Ending | None:
        """How it ended, or None if it still runs after so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.ending

    def settle(self) -> None:
        """Wait for what an ended child wrote last to arrive."""
        for output in self._outputs:
            output.settle()

    @property
    def stdout(self) -> str:
        return self._outputs[0].text()

    @property
    def flooded(self) -> bool:
        """Whether it writes more than anybody would read."""
        return any(output.size > FLOOD_BYTES for output in self._outputs)

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines that it wrote, standard error first, redacted."""
        said = [output.text() for output in reversed(self._outputs)]
        return tuple(line for text in said for line in redaction.lines(text)[-_SHOWN_LINES:])

    @property
    def record(self) -> str:
        """All that was kept of both outputs, redacted: 120 KiB at most."""
        named = zip(("standard output", "standard error"), self._outputs, strict=True)
        lines = []
        for name, output in named:
            lines.append(f"-- {name}, {output.size} bytes")
            lines += redaction.lines(output.text())
        return "\n".join(lines) + "\n"

    def started(self) -> list[process_table.Process]:
        """What lives of it and of all that it started."""
        return process_table.started_by(guard=self.group, mark=self._mark)

    def end(self, grace_seconds: float) -> None:
        """The guard ends it: TERM, KILL after the grace, and all that it started goes with it."""
        try:
            if self._process.stdin:
                self._process.stdin.close()
            self.wait(grace_seconds + _GUARD_SECONDS)
        finally:
            # In every outcome, an interrupt of this wait and a killed guard too. The number of a
            # guard that was reaped may be another's by now.
            if self.ending is None:
                process_table.kill(self.started())
                _kill_group(self.group)
            process_table.kill(process_table.marked(self._mark))
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_REAP_SECONDS)
            for output in self._outputs:
                output.close()
            self.aftermath = _read_report(self._report)


@contextmanager
def running(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    grace_seconds: float = GRACE_SECONDS,
) -> Iterator[Child]:
    """Run a command while the block lasts; it and all that it started are gone afterwards.

    Args:
        command: the executable's path and its arguments.
        environment: the whole environment of the child.
        folder: where it runs.
        grace_seconds: how long it may take to end by itself when told to.

    Raises:
        HostError: no process can be started here.
    """
    mark = secrets.token_hex(16)
    reading, writing = os.pipe()
    guard = [sys.executable, "-I", "-S", str(_GUARD), str(grace_seconds), str(writing)]
    try:
        process = subprocess.Popen(
            [*guard, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, process_table.MARK: mark},
            cwd=folder,
            start_new_session=True,
            pass_fds=(writing,),
        )
    except OSError as problem:
        os.close(reading)
        raise errors.HostError("cannot start a process", observed=str(problem)) from problem
    finally:
        os.close(writing)
    child = Child(process, mark=mark, report=reading)
    try:
        yield child
    finally:
        child.end(grace_seconds)


def run(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, seconds: float
) -> Finished | None:
    """Run a command to its end; None if it takes longer than `seconds`, and then it is ended."""
    with running(command, environment=environment, folder=folder, grace_seconds=1.0) as child:
        ending = child.wait(seconds)
        if ending is None:
            return None
        child.settle()
    return Finished(
        ending=ending,
        stdout=child.stdout,
        log=child.log,
        aftermath=child.aftermath,
        record=child.record,
    )


def small_world(home: Path) -> dict[str, str]:
    """An environment in which a child finds its own empty home, the system's tools and no secret.

    Args:
        home: an existing folder.
    """
    scratch = home / "tmp"
    with contextlib.suppress(FileExistsError):
        scratch.mkdir(mode=0o700)
    return {
        "HOME": str(home),
        # Foundation asks the user database for the home, and not HOME, unless this is set.
        "CFFIXED_USER_HOME": str(home),
        "TMPDIR": f"{scratch}/",
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8",
    }


def _kill_group(group: int) -> None:
    # macOS says EPERM for a group of which only the dead leader is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _read_report(descriptor: int) -> Aftermath:
    """What the guard found; nothing if it was killed before it could say so."""
    try:
        os.set_blocking(descriptor, False)
        found = json.loads(os.read(descriptor, _REPORT_BYTES) or b"{}")
    except (OSError, ValueError):
        return Aftermath()
    finally:
        os.close(descriptor)
    left = found.get("left", ())
    return Aftermath(killed=bool(found.get("killed")), left=tuple(str(one) for one in left))


class _Output:
    """Reads an output all the time, so that the child never blocks; keeps its two ends."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        if stream is None:
            message = "the child has no such output"
            raise TypeError(message)
        self._stream = stream
        self._head = bytearray()
        self._tail = bytearray()
        self.size = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def text(self) -> str:
        """What was kept; where something was left out, whole lines and a word about it.

        A line that was cut could have lost the word that says that a secret follows.
        """
        with self._lock:
            head, tail, left_out = bytes(self._head), bytes(self._tail), self._left_out
        if not left_out:
            return (head + tail).decode("utf-8", "replace")
        first = head[: head.rfind(b"\n") + 1].decode("utf-8", "replace")
        last = tail.partition(b"\n")[2].decode("utf-8", "replace")
        return f"{first}[about {left_out} bytes left out]\n{last}"

    @property
    def _left_out(self) -> int:
        return self.size - len(self._head) - len(self._tail)

    def settle(self) -> None:
        """Give what was written before the end the time to arrive."""
        self._thread.join(_LAST_WORDS_SECONDS)

    def close(self) -> None:
        self.settle()
        if not self._thread.is_alive():
            self._stream.close()

    def _read(self) -> None:
        descriptor = self._stream.fileno()
        while chunk := os.read(descriptor, 64 * 1024):
            with self._lock:
                self.size += len(chunk)
                room = _HEAD_BYTES - len(self._head)
                self._head += chunk[:room]
                self._tail += chunk[room:]
                del self._tail[:-_TAIL_BYTES]
