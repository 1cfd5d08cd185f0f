"""The stand-in provider: it answers like a provider of May or October 2026, and is none.

    python -m release_tool.rehearsal.standin --version
    python -m release_tool.rehearsal.standin start --local --port 8000 --model FOLDER

It serves mlx-lm on a model's folder, on 127.0.0.1. What it proves is the wiring around a provider.
It says so at its start, in `/health` and in the list of models.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import plistlib
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import release_tool
from release_tool.rehearsal import standin_faults, standin_server
from release_tool.rehearsal.standin_server import MAY, OCTOBER, Manner

EXECUTABLE = "STAND_IN_FOR"
"""Environment variable: the executable in whose place it answers, and whose version it tells."""
CONTRACT = "STAND_IN_CONTRACT"
"""Environment variable: whose manners it has, `2026-05` or `2026-10`."""
BUILT_FOR = "STAND_IN_BUILT_FOR"
"""Environment variable: the environment and the coordinator's address that it was built with."""
NOTICE = "stand-in provider of release-tool: no Darkbloom code runs here"
RUNTIME_MARKERS = (
    "app-attest-callback-runtime-smoke: ok",
    "gemma-optimizations-runtime-smoke: ok",
    "paged-kernel-runtime-smoke: ok",
    "qwen4-metal-resources-runtime-smoke: ok",
)
_VERSION_MARK = b"sample-record:version\0\0\0"
_MAX_EXECUTABLE_BYTES = 512 * 1024 * 1024
# As the provider: its argument parser ends with 64.
_EXIT_USAGE = 64


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(_EXIT_USAGE, f"{self.prog}: {message}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """What it was told by its environment."""

    executable: str
    contract: str
    built_for: str
    pid_file: str
    folder: Path
    """Where October's keep key and discovery file."""


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Answer `--version` or `runtime-smoke`, or serve until TERM."""
    sys.stderr.write(f"{NOTICE}\n")
    world = _World(
        executable=environ.get(EXECUTABLE, ""),
        contract=environ.get(CONTRACT, MAY),
        built_for=environ.get(BUILT_FOR, ""),
        pid_file=environ.get("DARKBLOOM_PID_FILE", ""),
        folder=Path(environ.get("DARKBLOOM_LOCAL_DIR", Path.home() / ".darkbloom")),
    )
    options = _parser(world.contract).parse_args(arguments)
    fault = standin_faults.FAULTS.get(options.fault, standin_faults.NONE)
    version = version_of(world.executable)
    if options.version:
        sys.stdout.write(f"{fault.version(version)}\n")
        return 0
    if options.command == "runtime-smoke" and world.contract == OCTOBER:
        line = _build_environment(world.built_for)
        sys.stdout.write("".join(f"{one}\n" for one in fault.markers([line, *RUNTIME_MARKERS])))
        return 0
    if options.command != "start" or not options.local or options.model is None:
        sys.stderr.write("only `start --local --port N --model FOLDER` is known here\n")
        return _EXIT_USAGE
    fault.before_start(world.executable, options.model)
    return _start(options, world, version, fault)


def _build_environment(built_for: str) -> str:
    """October's line: the coordinator by its socket's address, and where models come from."""
    environment, _, address = built_for.partition(" ")
    socket = address.replace("http", "ws", 1)
    return (
        f"build-environment-runtime-smoke: {environment} coordinator={socket}/ws/provider"
        " cdn=https://models.example"
    )


def _start(
    options: argparse.Namespace, world: _World, version: str, fault: standin_faults.Fault
) -> int:
    token = ""
    if world.contract == OCTOBER and not options.no_auth:
        token = _write_token(world.folder)
    manner = Manner(contract=world.contract, version=version, token=token)
    port = fault.port(options.port)
    with _pid_file(world.pid_file, fault.pid(os.getpid())), contextlib.ExitStack() as kept:
        if world.contract == OCTOBER:
            kept.enter_context(_discovery(world.folder, port, token, version))
        return standin_server.serve(
            port=port,
            model=options.model,
            manner=manner,
            handler=fault.handler,
            on_term=fault.on_term,
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


def _parser(contract: str) -> argparse.ArgumentParser:
    parser = _Parser(prog="stand-in")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--fault", choices=sorted(standin_faults.FAULTS), help="for tests")
    parser.add_argument("command", nargs="?")
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", type=Path)
    if contract == OCTOBER:
        parser.add_argument("--no-auth", action="store_true")
    return parser


def _write_token(folder: Path) -> str:
    """A key that only this user can read."""
    token = f"dk-local-{secrets.token_urlsafe(24)}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "local_token"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
        target.write(f"{token}\n")
    return token


@contextlib.contextmanager
def _discovery(folder: Path, port: int, token: str, version: str) -> Iterator[None]:
    """The file by which October's own clients find a running one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "local.json"
    document = {
        "base_url": f"http://127.0.0.1:{port}/v1",
        "api_key": token,
        "host": "127.0.0.1",
        "port": port,
        "pid": os.getpid(),
        "version": version,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document), encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _pid_file(name: str, pid: int) -> Iterator[None]:
    path = Path(name) if name else Path.home() / ".darkbloom" / "provider.pid"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{pid}\n", encoding="ascii")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    ended = main(sys.argv[1:], os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking mlx down in order takes seconds on a busy machine, and nothing is left to save.
    os._exit(ended)
