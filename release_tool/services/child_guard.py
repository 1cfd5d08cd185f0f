"""Stands between the tool and a child: ends the child's process group when the tool is gone.

Run as a script, `child_guard.py GRACE COMMAND...`, as the leader of a session of its own. Its
standard input is a pipe that the tool never writes to; it ends when the tool does, killed or not.
Nothing else tells a macOS process that its parent died.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from types import FrameType

CANNOT_START = 127


def main() -> None:
    """Start the command, outlive it, and end as it ended."""
    grace_seconds, command = float(sys.argv[1]), sys.argv[2:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A handler, not SIG_IGN: the command would inherit that.
    signal.signal(signal.SIGTERM, _stay)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as problem:
        sys.stderr.write(f"{command[0]}: {problem.strerror}\n")
        sys.exit(CANNOT_START)
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(grace_seconds, ended), daemon=True)
    watch.start()
    status = child.wait()
    if ended.is_set():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _stay(number: int, frame: FrameType | None) -> None:
    """The group is told to end: the command obeys, and the guard reports how."""


def _watch(grace_seconds: float, ended: threading.Event) -> None:
    while os.read(0, 64):
        pass
    ended.set()
    os.killpg(os.getpgrp(), signal.SIGTERM)
    threading.Event().wait(grace_seconds)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
