"""Who runs on this host: what a child started, wherever it went.

A process that leaves its group and session keeps three traces: its parent, the environment that it
was started with, and the group. Linux also hands orphans to the guard that asked for them. Only the
standard library: `child_guard` loads this file by its path.
Source: proc(5), prctl(2); ps(1) of macOS, whose -E shows the environment of one's own processes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MARK = "RELEASE_TOOL_CHILD"
"""The variable by which a child and all that it starts are known again."""
_ENVIRONMENT_BYTES = 2 * 1024 * 1024
"""More than any system gives a process for arguments and environment together."""
_PS = ("/bin/ps", "-axwwE", "-o", "pid=,ppid=,pgid=,stat=,command=")
_PS_SECONDS = 10
_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")
_IS_LINUX: bool = sys.platform.startswith("linux")
_NAME_CHARACTERS = 60


class Process(NamedTuple):
    """One living process."""

    pid: int
    parent: int
    group: int
    name: str
    marked: bool

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def started_by(*, guard: int, mark: str) -> list[Process]:
    """All living processes that a guarded child has started, the guard itself left out.

    The table is read one process after the other: who is started while its parent ends may stand
    in no row of it, so nothing here is no proof; see `has_children`.

    Args:
        guard: the leader of the child's group.
        mark: what the child's environment holds under `MARK`.
    """
    table = list(_processes(mark))
    ours = {guard}
    while True:
        more = {one.pid for one in table if one.parent in ours} - ours
        if not more:
            break
        ours |= more
    return [
        one
        for one in table
        if one.pid != guard and (one.pid in ours or one.group == guard or one.marked)
    ]


def has_children() -> bool:
    """Whether this process still has any child; those that ended are reaped.

    For who adopts orphans this is the whole truth, and told by the kernel in one moment: whatever
    is left of all descendants is its child, or the descendant of one.
    """
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


def marked(mark: str) -> list[Process]:
    """All living processes whose environment holds this mark, whoever is their parent."""
    return [one for one in _processes(mark) if one.marked]


def kill(processes: list[Process]) -> None:
    """KILL each; one that is gone already is no matter."""
    for one in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one.pid, signal.SIGKILL)


def adopt_orphans() -> bool:
    """Become the parent of what the descendants leave behind, where the system has that: Linux."""
    if not _IS_LINUX:
        return False
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    return bool(library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def _processes(mark: str) -> Iterator[Process]:
    wanted = f"{MARK}={mark}"
    if _IS_LINUX:
        return _from_proc(wanted)
    return _from_ps(wanted)


def _from_proc(wanted: str) -> Iterator[Process]:
    for folder in _PROC.glob("[0-9]*"):
        try:
            head, _, tail = (folder / "stat").read_text(errors="replace").rpartition(")")
        except OSError:
            # It has ended meanwhile.
            continue
        state, parent, group = tail.split()[:3]
        if state in "ZX":
            continue
        yield Process(
            pid=int(folder.name),
            parent=int(parent),
            group=int(group),
            name=head.partition("(")[2],
            marked=wanted.encode() in _environment(folder),
        )


def _environment(folder: Path) -> list[bytes]:
    """Variables of a process; none where it becomes another program just now, or hides them.

    Whose number, parent and group are known is no less there for that.
    """
    try:
        with (folder / "environ").open("rb") as source:
            return source.read(_ENVIRONMENT_BYTES).split(b"\0")
    except OSError:
        return []


def _from_ps(wanted: str) -> Iterator[Process]:
    try:
        done = subprocess.run(
            _PS, env={}, capture_output=True, check=False, timeout=_PS_SECONDS, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return iter(())
    return parse_ps(done.stdout, wanted)


def parse_ps(text: str, wanted: str) -> Iterator[Process]:
    """The living processes that ps lists, each with its environment behind its command."""
    for line in text.splitlines():
        fields = line.split(maxsplit=4)
        if len(fields) < 5 or not all(field.isdecimal() for field in fields[:3]):
            continue
        if fields[3].startswith("Z"):
            continue
        command = fields[4]
        yield Process(
            pid=int(fields[0]),
            parent=int(fields[1]),
            group=int(fields[2]),
            name=command.split(maxsplit=1)[0].rpartition("/")[2][:_NAME_CHARACTERS],
            marked=wanted in command.split(),
        )
