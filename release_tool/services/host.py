"""What this machine is, for evidence; no name of it and of no user."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

from release_tool.values import Host

_SECONDS = 10


def describe() -> Host:
    """The system, its release, the machine and, where they can be told, chip and memory."""
    mac = sys.platform == "darwin"
    return Host(
        system="macos" if mac else sys.platform,
        release=platform.mac_ver()[0] if mac else platform.release(),
        machine=platform.machine(),
        chip=_sysctl("machdep.cpu.brand_string") if mac else "",
        memory_bytes=_memory_bytes(),
    )


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name],
            env={},
            capture_output=True,
            check=True,
            text=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
