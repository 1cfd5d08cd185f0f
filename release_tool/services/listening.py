"""At which addresses this host listens on a port: who binds them all is open to other machines.

Source: proc(5) on /proc/net/tcp; lsof(8), whose -Fn prints one name on a line.
"""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING = "0A"
_LSOF = "/usr/sbin/lsof"
_SECONDS = 10
_IS_MAC: bool = sys.platform == "darwin"


def addresses(port: int) -> set[str]:
    """The addresses at which somebody listens on a port; empty where the system does not tell."""
    if _IS_MAC:
        return set(parse_lsof(_lsof(port), port))
    found: set[str] = set()
    for table in _TABLES:
        try:
            found.update(parse_proc(table.read_text(), port))
        except OSError:
            continue
    return found


def is_loopback(address: str) -> bool:
    """Whether only this machine gets there."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_proc(text: str, port: int) -> Iterator[str]:
    """The addresses in Linux's table: words of 32 bits in the host's order, in hexadecimal."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4 or fields[3] != _LISTENING:
            continue
        address, _, number = fields[1].partition(":")
        try:
            raw = bytes.fromhex(address)
            if int(number, 16) != port or len(raw) not in (4, 16):
                continue
        except ValueError:
            continue
        words = [raw[at : at + 4] for at in range(0, len(raw), 4)]
        if sys.byteorder == "little":
            words = [word[::-1] for word in words]
        yield str(ipaddress.ip_address(b"".join(words)))


def parse_lsof(text: str, port: int) -> Iterator[str]:
    """The addresses that lsof names: `n127.0.0.1:8000`, `n*:8000`, `n[::1]:8000`."""
    for line in text.splitlines():
        address, _, number = line.removeprefix("n").rpartition(":")
        if line.startswith("n") and number == str(port):
            yield "0.0.0.0" if address == "*" else address  # noqa: S104 - what was found


def _lsof(port: int) -> str:
    command = [_LSOF, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fn"]
    try:
        done = subprocess.run(
            command, env={}, capture_output=True, check=False, timeout=_SECONDS, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
