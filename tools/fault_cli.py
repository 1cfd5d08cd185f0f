"""Starts the command line again and again without loading it anew.

One process loads the whole program and forks for each command: the child is a process of its own
with its own environment, folder and streams, and runs the program's own entry point to its end,
exit handlers included. Loading it takes longer than most commands of the matrix.

Reads one JSON object a line from standard input, and answers each with one line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from subprocess import PIPE, Popen
from types import TracebackType
from typing import Self

_LOADED = (
    *("boto3", "botocore.session", "botocore.config", "requests", "semver", "yaml", "rich"),
    *("release_tool.cli.main", "release_tool.cli.run", "release_tool.cli.wiring"),
)
_LOOK_SECONDS = 0.01
KILLED = -9


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    """`KILLED` where it was still running after its time."""
    seconds: float


class CommandLine:
    """The loaded program.

    Args:
        log: where its own troubles go.
    """

    def __init__(self, log: Path) -> None:
        # The program that stands beside this file, whichever is installed.
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        with log.open("ab") as told:
            self._child = Popen(
                [sys.executable, __file__],
                stdin=PIPE,
                stdout=PIPE,
                stderr=told,
                text=True,
                env=environ,
            )

    def run(
        self, argv: list[str], *, folder: Path, environ: dict[str, str], out: Path, cap: float
    ) -> Ended:
        """Run one command.

        Args:
            argv: without the program's name.
            folder: where it runs.
            environ: its whole environment.
            out: gets standard output and standard error.
            cap: after so many seconds it is killed.
        """
        wanted = {"argv": argv, "folder": str(folder), "environ": environ, "out": str(out)}
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(wanted | {"cap": cap}) + "\n")
        self._child.stdin.flush()
        told = json.loads(self._child.stdout.readline())
        return Ended(code=told["code"], seconds=told["seconds"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait(30)
        self._child.stdout.close()


def _serve() -> None:
    for name in _LOADED:
        import_module(name)
    for line in sys.stdin:
        wanted = json.loads(line)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _become(wanted)
            return
        code = _awaited(child, began + wanted["cap"])
        print(json.dumps({"code": code, "seconds": time.monotonic() - began}), flush=True)


def _become(wanted: dict[str, object]) -> None:
    """Be the command: the entry point leaves by `SystemExit`, and the interpreter ends as usual."""
    from release_tool.cli.entry import main

    os.setsid()
    told = os.open(str(wanted["out"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for stream, replaced in ((nothing, 0), (told, 1), (told, 2)):
        os.dup2(stream, replaced)
    environ, argv = wanted["environ"], wanted["argv"]
    assert isinstance(environ, dict)
    assert isinstance(argv, list)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(str(wanted["folder"]))
    sys.argv = ["release-tool", *map(str, argv)]
    main()


def _awaited(child: int, deadline: float) -> int:
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return KILLED
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    _serve()
