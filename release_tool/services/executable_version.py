"""Asks an executable for its version, where this host can run it."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from release_tool import errors

_SECONDS = 30
"""The first start of code that macOS has not seen yet takes some seconds of assessment."""
_OUTPUT_CHARACTERS = 10_000
_NAMED = re.compile(r"(?:[\w.-]+\s+)?(\S+)")


def can_run(architecture: str) -> bool:
    """Whether this host runs macOS executables of an architecture."""
    return sys.platform == "darwin" and platform.machine() == architecture


def ask(executable: Path, *, home: Path) -> str:
    """What `--version` prints, without the program's name in front.

    The last line of its output that is not empty counts: `0.5.0` or `darkbloom 0.5.0`.

    Args:
        executable: an executable that this host can run.
        home: an empty folder, its whole world.

    Raises:
        VerificationError: it does not start, fails, hangs or prints nothing.
    """
    world = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": "/usr/bin:/bin",
        # Otherwise an older build might replace itself by what is released.
        "DARKBLOOM_NO_UPDATE_CHECK": "1",
        "DARKBLOOM_PID_FILE": str(home / "provider.pid"),
    }
    try:
        finished = subprocess.run(
            [str(executable), "--version"],
            env=world,
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise _silent(executable, str(problem)) from problem
    lines = [line.strip() for line in _text(finished.stdout).splitlines() if line.strip()]
    if finished.returncode != 0 or not lines:
        said = _text(finished.stderr).strip()[:200]
        raise _silent(executable, f"exit {finished.returncode} {said}".strip())
    return told(lines)


def told(lines: Sequence[str]) -> str:
    """The version in what `--version` prints: its last line, which may begin with a name.

    A line that says more is no version, whatever word it ends with: it comes back whole.
    """
    found = _NAMED.fullmatch(lines[-1])
    return found[1] if found else lines[-1]


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")[:_OUTPUT_CHARACTERS]


def _silent(executable: Path, observed: str) -> errors.VerificationError:
    return errors.VerificationError(
        "does not tell its version", subject=executable.name, observed=observed
    )
