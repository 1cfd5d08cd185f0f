"""Child processes in a small world of their own, whose whole process group always ends.

The environment of a child is made here and inherits nothing: no secret, no proxy, no library path.
The group ends in every outcome, an exception or an interrupt among them; when the tool itself is
killed, the guard between the two ends it. Only a process that left the session could stay.
"""

from __future__ import annotations

import contextlib
import os
import re
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
from release_tool.services import child_guard

GRACE_SECONDS = 5.0
"""Between TERM and KILL; a provider drains its requests, and ours have ended by then."""
_REAP_SECONDS = 10.0
_KEPT_BYTES = 64 * 1024
"""Of each output, the last: a child may log without end."""
_SHOWN_LINES = 12
_LAST_WORDS_SECONDS = 1.0
_GUARD = Path(child_guard.__file__)

# Escape sequences, control characters, and what turns the direction of writing.
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2066-\u2069]"
)
_SECRETS = (
    re.compile(r"(?i)(\bbearer\s+)\S+"),
    re.compile(r"()\bdk-[a-z]+-[A-Za-z0-9_-]{6,}"),
    re.compile(r"(?i)((?:token|secret|password|passwd|api[_-]?key|authorization)\W{1,4})\S+"),
    re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a child ended."""

    status: int
    """The exit code, or the negative number of the signal that ended it."""

    def __str__(self) -> str:
        if self.status >= 0:
            return f"exit code {self.status}"
        try:
            return f"killed by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"killed by signal {-self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A child that ran to its end."""

    ending: Ending
    stdout: str
    """The last 64 KiB, as text."""
    log: tuple[str, ...]
    """The last lines of both outputs, redacted."""


class Child:
    """A running child. Made by `running`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._outputs = [_Tail(process.stdout), _Tail(process.stderr)]

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
        for tail in self._outputs:
            tail.settle()

    @property
    def stdout(self) -> str:
        return self._outputs[0].text()

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines that it wrote, standard error first, redacted."""
        said = [tail.text() for tail in reversed(self._outputs)]
        return tuple(line for text in said for line in redacted(text)[-_SHOWN_LINES:])

    def end(self, grace_seconds: float) -> None:
        """TERM to the group, KILL after the grace, and nothing is left of it."""
        try:
            if self.ending is None and _signal(self.group, signal.SIGTERM):
                self.wait(grace_seconds)
        finally:
            # In every outcome, an interrupt of this wait too: grandchildren outlive a leader.
            _signal(self.group, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_REAP_SECONDS)
            for tail in self._outputs:
                tail.close()
            if self._process.stdin:
                self._process.stdin.close()


@contextmanager
def running(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    grace_seconds: float = GRACE_SECONDS,
) -> Iterator[Child]:
    """Run a command while the block lasts; its process group is gone afterwards.

    Args:
        command: the executable's path and its arguments.
        environment: the whole environment of the child.
        folder: where it runs.
        grace_seconds: how long it may take to end by itself when told to.

    Raises:
        HostError: no process can be started here.
    """
    guarded = [sys.executable, "-I", "-S", str(_GUARD), str(grace_seconds), *command]
    try:
        process = subprocess.Popen(
            guarded,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    except OSError as problem:
        raise errors.HostError("cannot start a process", observed=str(problem)) from problem
    child = Child(process)
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
        return Finished(ending=ending, stdout=child.stdout, log=child.log)


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
        "TMPDIR": f"{scratch}/",
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8",
    }


def redacted(text: str) -> list[str]:
    """The lines of a child's output, without escape sequences and without what may be a secret."""
    clean = _CONTROL.sub("", text)
    for pattern in _SECRETS:
        clean = pattern.sub(r"\1[redacted]", clean)
    return [line.rstrip()[:300] for line in clean.splitlines() if line.strip()]


def _signal(group: int, number: signal.Signals) -> bool:
    """Whether somebody of the group was there to get it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        # macOS says EPERM for a group of which only the dead leader is left.
        return False
    return True


class _Tail:
    """Reads an output all the time, so that the child never blocks, and keeps its end."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        if stream is None:
            message = "the child has no such output"
            raise TypeError(message)
        self._stream = stream
        self._kept = bytearray()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def text(self) -> str:
        with self._lock:
            return self._kept.decode("utf-8", "replace")

    def settle(self) -> None:
        """Give what was written before the end the time to arrive."""
        self._thread.join(_LAST_WORDS_SECONDS)

    def close(self) -> None:
        self.settle()
        if not self._thread.is_alive():
            self._stream.close()

    def _read(self) -> None:
        descriptor = self._stream.fileno()
        while chunk := os.read(descriptor, 16 * 1024):
            with self._lock:
                self._kept += chunk
                del self._kept[:-_KEPT_BYTES]
