"""Extended attributes as macOS names them, on hosts that put a name space before."""

from __future__ import annotations

import os
import shutil
import struct
import sys
from pathlib import Path

SPACE = "" if sys.platform == "darwin" else "user."


def of(path: Path) -> dict[str, bytes]:
    """Every attribute of a file."""
    if sys.platform == "darwin":
        return {}
    names = [name for name in os.listxattr(path) if name.startswith(SPACE)]
    return {name.removeprefix(SPACE): os.getxattr(path, name) for name in names}


def put(path: Path, values: dict[str, bytes]) -> None:
    """Give a file attributes."""
    for name, content in values.items():
        if sys.platform != "darwin":
            os.setxattr(path, f"{SPACE}{name}", content)


def copy(source: Path, target: Path) -> None:
    """Content, mode and attributes."""
    shutil.copy(source, target)
    put(target, of(source))


def apple_double(values: dict[str, bytes]) -> bytes:
    """As Apple's published sources lay it out; nobody here has a Mac to compare it with.

    Header, entries for Finder info (9) and the resource fork (2), the former empty and with the
    table of attributes behind it; then names, each at a multiple of four, then the values.
    """
    packed = [(name.encode() + b"\0", value) for name, value in values.items()]
    sizes = [-(-(11 + len(name)) // 4) * 4 for name, _ in packed]
    start = 120 + sum(sizes)
    total = start + sum(len(value) for _, value in packed)
    made = bytes.fromhex("0005160700020000") + b"Mac OS X        " + (2).to_bytes(2, "big")
    made += struct.pack(">6I", 9, 50, total - 50, 2, total, 0) + bytes(34)
    made += struct.pack(">4s4I12xHH", b"ATTR", 0, total, start, total - start, 0, len(packed))
    offset = start
    for (name, value), size in zip(packed, sizes, strict=True):
        made += (struct.pack(">IIHB", offset, len(value), 0, len(name)) + name).ljust(size, b"\0")
        offset += len(value)
    return made + b"".join(value for _, value in packed)
