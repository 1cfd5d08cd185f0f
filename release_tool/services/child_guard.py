"""Stands between the tool and a child: ends the child, and all that it started, in every outcome.

Run as a script, `child_guard.py GRACE REPORT COMMAND...`, as the leader of a session of its own.
Its standard input is a pipe that the tool never writes to: it ends when the tool wants the child
to end, and when the tool is gone, killed or not. Nothing else tells a macOS process that its parent
died.
What was found at the end goes to the descriptor REPORT, as one line of JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

CANNOT_START = 127
SETTLE_SECONDS = 0.5
"""What a child started may need a moment to see that the child has ended."""
_POLL_SECONDS = 0.02
_ROUNDS = 20
"""Who starts others faster than it is killed is left to the tool, which kills the group."""
_TOLD = 10
"""Of those left behind, so many are named: the report has to fit into a pipe."""


def main() -> None:
    """Start the command, outlive it, and end as it ended."""
    grace_seconds, report, command = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    table = _process_table()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    table.adopt_orphans()
    # A handler, not SIG_IGN: the command would inherit that.
    signal.signal(signal.SIGTERM, _stay)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as problem:
        sys.stderr.write(f"{command[0]}: {problem.strerror}\n")
        sys.exit(CANNOT_START)
    ending = _Ending(child, grace_seconds)
    threading.Thread(target=ending.watch, daemon=True).start()
    status = child.wait()
    ending.finished.set()
    left = _end_what_is_left(table)
    found = {"told": ending.told, "killed": ending.killed, "left": left}
    os.write(report, json.dumps(found).encode())
    os.close(report)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


class _Ending:
    """Ends the child when the tool wants it: TERM, and KILL after the grace."""

    def __init__(self, child: subprocess.Popen[bytes], grace_seconds: float) -> None:
        self._child = child
        self._grace_seconds = grace_seconds
        self.finished = threading.Event()
        self.told = False
        self.killed = False

    def watch(self) -> None:
        while os.read(0, 64):
            pass
        self.told = True
        self._child.terminate()
        if not self.finished.wait(self._grace_seconds):
            self.killed = True
            self._child.kill()


def _end_what_is_left(table: Any) -> list[str]:  # noqa: ANN401 - a module loaded by its path
    """Name what the child left behind, and kill it; nothing where it left nothing."""
    mark = os.environ.get(table.MARK, "")
    deadline = time.monotonic() + SETTLE_SECONDS
    left, more = _left(table, mark)
    while more and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        left, more = _left(table, mark)
    named: dict[int, str] = {}
    for _ in range(_ROUNDS):
        named |= {one.pid: str(one) for one in left}
        if not more:
            break
        table.kill(left)
        time.sleep(_POLL_SECONDS)
        left, more = _left(table, mark)
    return list(named.values())[:_TOLD]


def _left(table: Any, mark: str) -> tuple[list[Any], bool]:  # noqa: ANN401
    """What the child left behind, and whether there is any: who just moves is in no table."""
    found = table.started_by(guard=os.getpid(), mark=mark)
    return found, bool(found) or table.has_children()


def _process_table() -> Any:  # noqa: ANN401
    path = Path(__file__).with_name("process_table.py")
    spec = importlib.util.spec_from_file_location("process_table", path)
    if spec is None or spec.loader is None:
        sys.exit(CANNOT_START)
    module = importlib.util.module_from_spec(spec)
    sys.modules["process_table"] = module
    spec.loader.exec_module(module)
    return module


def _stay(number: int, frame: FrameType | None) -> None:
    """The group is told to end by somebody else: the child obeys, and the guard reports how."""


if __name__ == "__main__":
    main()
