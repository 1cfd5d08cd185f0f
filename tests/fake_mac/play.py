"""What all stand-in tools share: state, the record of each start, and faults to order.

Tests start them hundreds of times, so nothing is imported here that costs more than the tool: the
state is marshalled, and paths are strings.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any, NoReturn


class Stage:
    """One start of a tool."""

    def __init__(self, tool: str, folder: str, packages: list[str]) -> None:
        self.tool = tool
        self.folder = folder
        self._packages = packages
        self._lock = open(f"{folder}/lock", "ab")  # noqa: SIM115 - until the tool ends
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        with open(f"{folder}/state", "rb") as state:
            self.state: dict[str, Any] = marshal.load(state)

    @property
    def root(self) -> Path:
        """The folder, for those who can wait."""
        from pathlib import Path

        return Path(self.folder)

    def with_packages(self) -> None:
        """Make installed packages importable."""
        sys.path += [path for path in self._packages if path not in sys.path]

    def save(self) -> None:
        """Let the next tool see it."""
        with open(f"{self.folder}/state", "wb") as state:
            marshal.dump(self.state, state)

    def record(self, asked: list[str]) -> None:
        """Write down what this tool was asked, and what the whole host can see meanwhile."""
        call = {
            "tool": self.tool,
            "asked": asked,
            "argv": sys.argv[1:],
            "environment": dict(os.environ),
            "visible": process_table() if os.path.exists(f"{self.folder}/watch") else [],
        }
        with open(f"{self.folder}/calls", "ab") as log:
            marshal.dump(call, log)

    def fault(self, command: str) -> None:
        """Answer as ordered instead of working, if anything was ordered for this command."""
        waiting = self.state["faults"].get(command)
        if not waiting:
            return
        ordered = waiting.pop(0)
        self.save()
        if not ordered:
            return
        if "pause" in ordered:
            with open(f"{self.folder}/paused", "ab"):
                pass
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            time.sleep(60)
        sys.stdout.write(ordered.get("stdout", ""))
        sys.stderr.write(ordered.get("stderr", ""))
        self.leave(ordered.get("status", 1))

    def leave(self, status: int, said: str = "") -> NoReturn:
        """End the tool."""
        if said:
            sys.stderr.write(said + "\n")
        self.save()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def usage(self, asked: list[str]) -> NoReturn:
        """Arguments that Apple's tool would not take, or that ours should never give."""
        with open(f"{self.folder}/misused", "w") as note:
            note.write(f"{self.tool} {asked}")
        self.leave(64, f"stand-in for {self.tool}: unexpected arguments {asked}")


def main(
    tool: str, root: str, answer: Callable[[Stage, list[str]], None], packages: list[str]
) -> None:
    """Start of a stand-in."""
    stage = Stage(tool, root, packages)
    answer(stage, sys.argv[1:])
    stage.leave(0)


def process_table() -> list[str]:
    """The arguments and environments of every process that this one may look at."""
    from pathlib import Path

    if not Path("/proc/self").exists():
        import subprocess

        listed = ["/bin/ps", "-Axeww", "-o", "command="]
        done = subprocess.run(listed, capture_output=True, check=True, text=True, errors="replace")
        return done.stdout.splitlines()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            for part in ("cmdline", "environ"):
                try:
                    found.append((entry / part).read_bytes().decode("utf-8", "replace"))
                except OSError:
                    continue
    return found
