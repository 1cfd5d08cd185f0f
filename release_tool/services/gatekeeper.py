"""Gatekeeper's own words about an app, on a Mac: spctl and stapler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from release_tool import errors

SPCTL = Path("/usr/sbin/spctl")
XCRUN = Path("/usr/bin/xcrun")
# An assessment may ask Apple's ticket service, which answers within seconds.
_SECONDS = 300
_OUTPUT_LINES = 20


def assess(app: Path) -> str:
    """What Gatekeeper would say to a user who opens the app: `accepted`, with its source.

    Raises:
        HostError: this host has no spctl, or it does not end.
        VerificationError: Gatekeeper rejects the app.
    """
    return _verdict(
        [str(SPCTL), "--assess", "--type", "execute", "--verbose=4", str(app)],
        "Gatekeeper rejects the app",
        app,
    )


def validate_ticket(app: Path) -> str:
    """Whether the stapled ticket is there and holds.

    Raises:
        HostError: this host has no stapler, or it does not end.
        VerificationError: there is no valid ticket.
    """
    return _verdict(
        [str(XCRUN), "stapler", "validate", "-v", str(app)], "no valid ticket is stapled", app
    )


def _verdict(command: Sequence[str], refusal: str, app: Path) -> str:
    lines = _run(command)
    if lines.code:
        raise errors.VerificationError(refusal, subject=str(app), details=lines.said)
    return lines.said[-1] if lines.said else "accepted"


class _Said:
    def __init__(self, code: int, output: str) -> None:
        self.code = code
        self.said = [line.strip() for line in output.splitlines() if line.strip()][-_OUTPUT_LINES:]


def _run(command: Sequence[str]) -> _Said:
    # Both paths exist on every Mac and nowhere else.
    if not Path(command[0]).exists():
        raise errors.HostError(
            "Gatekeeper can be asked on a Mac only", expected=command[0], observed=sys.platform
        )
    try:
        done = subprocess.run(
            list(command),
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as problem:
        raise errors.HostError(f"{command[0]} did not end within {_SECONDS} s") from problem
    except OSError as problem:
        raise errors.HostError(f"{command[0]} does not start", observed=str(problem)) from problem
    return _Said(done.returncode, done.stderr + done.stdout)
