"""What this machine is, for evidence; no name of it and of no user."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

from release_tool.values import Host

_SECONDS = 10
_CSRUTIL = "/usr/bin/csrutil"


def describe() -> Host:
    """The system, its release, the machine and, where they can be told, chip and memory."""
    mac = sys.platform == "darwin"
    return Host(
        system="macos" if mac else sys.platform,
        release=platform.mac_ver()[0] if mac else platform.release(),
        machine=platform.machine(),
        chip=_sysctl("machdep.cpu.brand_string") if mac else "",
        memory_bytes=_memory_bytes(),
        build=_sysctl("kern.osversion") if mac else "",
        sip=read_sip(_said([_CSRUTIL, "status"])) if mac else "",
    )


def read_sip(text: str) -> Literal["enabled", "disabled", "unknown"]:
    """What csrutil says: `System Integrity Protection status: enabled.`, or a list of parts."""
    first = text.splitlines()[0].lower() if text else ""
    if first.endswith("status: enabled."):
        return "enabled"
    if first.endswith("status: disabled."):
        return "disabled"
    return "unknown"


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _sysctl(name: str) -> str:
    return _said(["/usr/sbin/sysctl", "-n", name])


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command,
            env={},
            capture_output=True,
            check=True,
            text=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
