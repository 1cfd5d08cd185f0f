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
    """One living process of this user."""

    pid: int
    parent: int
    group: int
    name: str
    marked: bool

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def started_by(*, guard: int, mark: str) -> list[Process]:
    """All living processes that a guarded child has started, the guard itself left out.

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
            if folder.stat().st_uid != os.getuid():
                continue
            head, _, tail = (folder / "stat").read_text(errors="replace").rpartition(")")
            state, parent, group = tail.split()[:3]
            if state in "ZX":
                continue
            with (folder / "environ").open("rb") as source:
                environment = source.read(_ENVIRONMENT_BYTES).split(b"\0")
        except OSError:
            # It has ended meanwhile, or is another one's.
            continue
        yield Process(
            pid=int(folder.name),
            parent=int(parent),
            group=int(group),
            name=head.partition("(")[2],
            marked=wanted.encode() in environment,
        )


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
