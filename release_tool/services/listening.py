"""At which addresses this host listens on a port: who binds them all is open to other machines.

Source: proc(5) on /proc/net/tcp; lsof(8), whose -Fn prints one name on a line.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING = "0A"
_LSOF = "/usr/sbin/lsof"
_SECONDS = 10
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_NUMBER = re.compile(r"[0-9]{1,5}")
_IS_MAC: bool = sys.platform == "darwin"


def addresses(port: int) -> set[str]:
    """The addresses at which somebody listens on a port; empty where the system does not tell."""
    if _IS_MAC:
        return set(parse_lsof(_lsof([f"-iTCP:{port}"]), port))
    return {row.address for row in _rows() if row.port == port}


def of_processes(pids: Iterable[int]) -> set[tuple[str, int]]:
    """Addresses and ports at which some processes listen, as far as the system tells."""
    if _IS_MAC:
        words = ["-a", "-p", ",".join(map(str, pids)), "-iTCP"]
        return set(parse_names(_lsof(words)))
    inodes = {inode for pid in pids for inode in _sockets(Path(f"/proc/{pid}/fd"))}
    return {(row.address, row.port) for row in _rows() if row.inode in inodes}


def _rows() -> Iterator[Row]:
    for table in _TABLES:
        with contextlib.suppress(OSError):
            yield from parse_rows(table.read_text())


def _sockets(folder: Path) -> Iterator[str]:
    """The numbers of a process's sockets, as long as it lives and is this user's."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):
                if found := _SOCKET.fullmatch(str(entry.readlink())):
                    yield found[1]


def is_loopback(address: str) -> bool:
    """Whether only this machine gets there."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_proc(text: str, port: int) -> Iterator[str]:
    """The addresses in Linux's table."""
    yield from (row.address for row in parse_rows(text) if row.port == port)


class Row(NamedTuple):
    """A socket that listens."""

    address: str
    port: int
    inode: str


def parse_rows(text: str) -> Iterator[Row]:
    """Linux's table: words of 32 bits in the host's order, in hexadecimal; tenth, the inode."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4 or fields[3] != _LISTENING:
            continue
        address, _, number = fields[1].partition(":")
        try:
            raw, port = bytes.fromhex(address), int(number, 16)
        except ValueError:
            continue
        if len(raw) not in (4, 16):
            continue
        words = [raw[at : at + 4] for at in range(0, len(raw), 4)]
        if sys.byteorder == "little":
            words = [word[::-1] for word in words]
        inode = fields[9] if len(fields) > 9 else ""
        yield Row(str(ipaddress.ip_address(b"".join(words))), port, inode)


def parse_lsof(text: str, port: int) -> Iterator[str]:
    """The addresses that lsof names for a port."""
    yield from (address for address, number in parse_names(text) if number == port)


def parse_names(text: str) -> Iterator[tuple[str, int]]:
    """What lsof names: `n127.0.0.1:8000`, `n*:8000`, `n[::1]:8000`."""
    for line in text.splitlines():
        address, _, number = line.removeprefix("n").rpartition(":")
        if line.startswith("n") and _NUMBER.fullmatch(number):
            shown = "0.0.0.0" if address == "*" else address  # noqa: S104 - what was found
            yield shown, int(number)


def _lsof(which: Sequence[str]) -> str:
    command = [_LSOF, "-nP", *which, "-sTCP:LISTEN", "-Fn"]
    try:
        done = subprocess.run(
            command, env={}, capture_output=True, check=False, timeout=_SECONDS, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
