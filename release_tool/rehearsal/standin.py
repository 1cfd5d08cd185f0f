"""The stand-in provider: it answers like a provider of May 2026, and is none.

    python -m release_tool.rehearsal.standin --version
    python -m release_tool.rehearsal.standin start --local --port 8000 --model FOLDER

It serves mlx-lm on a model's folder, on 127.0.0.1, without a key. What it proves is the wiring
around a provider. It says so at its start, in `/health` and in the list of models.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import plistlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import release_tool
from release_tool.rehearsal import standin_server

EXECUTABLE = "STAND_IN_FOR"
"""Environment variable: the executable in whose place it answers, and whose version it tells."""
NOTICE = "stand-in provider of release-tool: no Darkbloom code runs here"
_VERSION_MARK = b"sample-record:version\0\0\0"
_MAX_EXECUTABLE_BYTES = 512 * 1024 * 1024
# As the provider: its argument parser ends with 64.
_EXIT_USAGE = 64


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(_EXIT_USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Answer `--version`, or serve until TERM."""
    sys.stderr.write(f"{NOTICE}\n")
    options = _parser().parse_args(arguments)
    version = version_of(environ.get(EXECUTABLE, ""))
    if options.version:
        if options.fault == "hang":
            time.sleep(3600)
        sys.stdout.write(f"{version}\n")
        return 0
    if options.command != "start" or not options.local or options.model is None:
        sys.stderr.write("only `start --local --port N --model FOLDER` is known here\n")
        return _EXIT_USAGE
    with _pid_file(environ.get("DARKBLOOM_PID_FILE", "")):
        return standin_server.serve(
            port=options.port, model=options.model, version=version, fault=options.fault
        )


def version_of(executable: str) -> str:
    """The version that a sample carries, or else its app's Info.plist.

    A name of its own where it stands in for nothing.
    """
    path = Path(executable)
    if not executable or not path.is_file() or path.stat().st_size > _MAX_EXECUTABLE_BYTES:
        return f"{release_tool.__version__}-stand-in"
    _, mark, rest = path.read_bytes().partition(_VERSION_MARK)
    if mark:
        return rest[:64].partition(b"\0")[0].decode("ascii", "replace")
    with contextlib.suppress(OSError, ValueError, plistlib.InvalidFileException):
        found = plistlib.loads((path.parent.parent / "Info.plist").read_bytes())
        return str(found.get("CFBundleShortVersionString"))
    return f"{release_tool.__version__}-stand-in"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="stand-in")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--fault", choices=standin_server.FAULTS, help="for tests")
    parser.add_argument("command", nargs="?")
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", type=Path)
    return parser


@contextlib.contextmanager
def _pid_file(name: str) -> Iterator[None]:
    path = Path(name) if name else Path.home() / ".darkbloom" / "provider.pid"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{os.getpid()}\n", encoding="ascii")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
