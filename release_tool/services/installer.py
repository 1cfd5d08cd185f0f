"""Runs an installer in a home of its own, to its end or until it is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from release_tool import errors
from release_tool.services import child
from release_tool.services.child import Finished
from release_tool.services.held_commands import HeldCommands

_STEP_SECONDS = 0.05
SHELL = "/bin/bash"
"""What users pipe it into; on macOS that is bash 3.2."""
_PIPED = 'cat "$1" | "$0"'
# Of a shell that was interrupted, with what it cleans up.
_CLEANING_SECONDS = 20.0


def run(script: Path, *, home: Path, seconds: float) -> Finished:
    """Run an installer to its end.

    Args:
        script: its file.
        home: an existing folder; its whole world.
        seconds: how long it may take.

    Raises:
        VerificationError: it does not end.
        HostError: no process can be started here.
    """
    found = child.run(
        _piped(script), environment=child.small_world(home), folder=home, seconds=seconds
    )
    if found is None:
        raise errors.VerificationError(
            "the installer does not end",
            subject=script.name,
            expected=f"an end within {seconds:.0f} s",
            hint="an installer must not ask or wait: users pipe it into a shell",
        )
    return found


def step_through(
    script: Path,
    *,
    home: Path,
    commands: HeldCommands,
    look: Callable[[int], None],
    seconds: float,
) -> bool:
    """Run an installer, and look at what it has done before each of its commands.

    Args:
        script: its file.
        home: an existing folder; its whole world.
        commands: each call of them waits until it was looked at.
        look: is told the number of the call that waits, in order, from 1.
        seconds: how long it may take.

    Returns:
        Whether it came to its end.

    Raises:
        HostError: no process can be started here.
    """
    environment = _world(home, commands)
    with child.running(_piped(script), environment=environment, folder=home) as running:
        deadline = time.monotonic() + seconds
        number = 1
        while running.ending is None and time.monotonic() < deadline:
            if commands.waits(number):
                look(number)
                commands.let(number)
                number += 1
            else:
                running.wait(_STEP_SECONDS)
        return running.ending is not None


def kill_at(
    script: Path,
    *,
    home: Path,
    reached: Callable[[float], bool],
    after: float,
    seconds: float,
    commands: HeldCommands | None = None,
    by: signal.Signals = signal.SIGKILL,
) -> bool:
    """Start an installer, and end it with all that it started at a point on its way.

    Args:
        script: its file.
        home: an existing folder; its whole world.
        reached: waits so many seconds at most; whether the point is reached.
        after: seconds between the point and the end.
        seconds: how long it may take to come to the point.
        commands: stand-ins of the system's, where the point is one of their calls.
        by: the signal; what does not end by another one than KILL is killed in the end.

    Returns:
        Whether it was ended; False where it ended by itself, or never came to the point.

    Raises:
        HostError: no process can be started here.
    """
    environment = _world(home, commands)
    with child.running(_piped(script), environment=environment, folder=home) as running:
        deadline = time.monotonic() + seconds
        while not (came := reached(_STEP_SECONDS)) and time.monotonic() < deadline:
            if running.ending is not None:
                return False
        if came:
            running.wait(after)
        killed = came and running.ending is None
        for number in dict.fromkeys((by, signal.SIGKILL)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(running.group, number)
            if number != signal.SIGKILL:
                running.wait(_CLEANING_SECONDS)
    return killed


def _piped(script: Path) -> list[str]:
    """As users run it: the shell reads it from a pipe, and so does whatever in it reads."""
    return [SHELL, "-c", _PIPED, SHELL, str(script)]


def _world(home: Path, commands: HeldCommands | None) -> dict[str, str]:
    found = child.small_world(home)
    return {**found, "PATH": f"{commands.path}:{found['PATH']}"} if commands else found
