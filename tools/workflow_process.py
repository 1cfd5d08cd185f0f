"""One `run` step: a shell in a process group of its own, with exactly the environment it is given.

What GitHub reads back of it: its exit code, the file of its outputs, and the workflow commands
among the lines that it prints.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_SHELLS: Mapping[str, tuple[str, ...]] = {
    # Without a name a shell does not fail in the middle of a pipe; with one it does.
    "": ("bash", "-e"),
    "bash": ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail"),
}
_COMMAND = re.compile(r"::([a-z-]+)(?: ([^:]*))?::(.*)")
_LOOK_SECONDS = 0.005
_LONGEST_SECONDS = 300.0
LOST = -1000
"""The code of a step whose runner was lost."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a step ended."""

    code: int
    log: str
    outputs: Mapping[str, str]
    summary: str
    annotations: tuple[tuple[str, str], ...]
    """`error`, `warning` or `notice`, and the text; in the order in which they were printed."""


def run(
    script: str,
    *,
    shell: str,
    workspace: Path,
    environ: Mapping[str, str],
    files: Path,
    lost: Callable[[], bool] | None = None,
) -> Ended:
    """Run one step to its end, or until its runner is lost.

    Args:
        script: as the workflow has it.
        shell: its name; empty for the default one.
        workspace: where it runs.
        environ: all of its environment, but for the files that it writes to.
        files: an empty folder for those and for the script.
        lost: asked again and again; once it says so, everything is killed.
    """
    files.mkdir(parents=True)
    told = {name: files / name.lower() for name in _FILES}
    for path in told.values():
        path.touch()
    (files / "script.sh").write_text(script, encoding="utf-8")
    with (files / "log").open("wb") as log:
        child = subprocess.Popen(
            [*_SHELLS[shell], str(files / "script.sh")],
            cwd=workspace,
            env={**environ, **{name: str(path) for name, path in told.items()}},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code = _awaited(child, lost)
    text = (files / "log").read_text(encoding="utf-8", errors="replace")
    for name in ("GITHUB_ENV", "GITHUB_PATH"):
        if told[name].read_bytes():
            message = f"a step wrote to {name}, which is not replayed: later steps would see it"
            raise RuntimeError(message)
    return Ended(
        code=code,
        log=text,
        outputs=_outputs(told["GITHUB_OUTPUT"].read_text(encoding="utf-8")),
        summary=told["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8"),
        annotations=tuple(_annotations(text)),
    )


_FILES = ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_STATE")


def _awaited(child: subprocess.Popen[bytes], lost: Callable[[], bool] | None) -> int:
    deadline = time.monotonic() + _LONGEST_SECONDS
    try:
        while child.poll() is None:
            if lost is not None and lost():
                return LOST
            if time.monotonic() > deadline:
                message = "a step did not end"
                raise TimeoutError(message)
            time.sleep(_LOOK_SECONDS)
        return child.returncode
    finally:
        # What it left running dies with the runner.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _outputs(text: str) -> dict[str, str]:
    """`name=value`, or `name<<END` with lines up to END."""
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and "<<" not in name:
            found[name] = value
            continue
        name, _, end = line.partition("<<")
        block: list[str] = []
        for inner in lines:
            if inner == end:
                break
            block.append(inner)
        else:
            message = f"an output is not closed: {line!r}"
            raise RuntimeError(message)
        found[name] = "\n".join(block)
    return found


def _annotations(text: str) -> list[tuple[str, str]]:
    """The commands of a log; the runner takes them from any line, indented or not."""
    found = []
    for line in text.splitlines():
        match = _COMMAND.match(line.strip())
        if match and match.group(1) in ("error", "warning", "notice"):
            found.append((match.group(1), _unescaped(match.group(3))))
    return found


def _unescaped(text: str) -> str:
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
