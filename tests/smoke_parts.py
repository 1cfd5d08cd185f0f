"""What tests of the smoke run share: the stand-in's command, and who is left of a process group."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import release_tool
from release_tool.apple.checks import Check
from release_tool.plan import ReleasePlan
from release_tool.services.provider_command import ProviderCommand

CHECKOUT = Path(release_tool.__file__).resolve().parent.parent


def nothing_needed(plan: ReleasePlan, root: Path) -> tuple[Check, ...]:
    """For archives of one unsigned executable; `test_bundle_needs` has whole releases."""
    return ()


def stand_in(*words: str) -> ProviderCommand:
    """The stand-in, with words before `start`, such as `--fault crash`."""
    return ProviderCommand(
        argv=(sys.executable, "-m", "release_tool.rehearsal.standin", *words),
        kind="stand-in",
        environment={"PYTHONPATH": str(CHECKOUT)},
    )


def living_with(variable: str) -> list[int]:
    """Processes that were started with a variable such as `NAME=value`; of Linux only."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if state not in "ZX" and variable.encode() in environment:
            found.append(int(entry.name))
    return found


def group_is_gone(group: int, seconds: float = 3.0) -> bool:
    """Whether no process of the group is left; dead ones need a moment to be reaped by init."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not living(group):
            return True
        time.sleep(0.02)
    return False


def living(group: int) -> list[int]:
    """The members of a process group that still run; on Linux zombies do not count."""
    proc = Path("/proc")
    if not proc.is_dir():
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return []
        return [group]
    found = []
    for entry in proc.glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(entry.parent.name))
    return found
