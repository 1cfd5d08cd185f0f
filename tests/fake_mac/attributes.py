"""Extended attributes as macOS names them, on hosts that put a name space before."""

from __future__ import annotations

import os
import shutil
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


def apple_double(path: Path) -> bytes:
    """Something that begins as AppleDouble does; nobody here reads on."""
    return b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + repr(sorted(of(path))).encode()
