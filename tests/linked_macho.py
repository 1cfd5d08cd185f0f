"""Small Mach-O files with chosen load commands: what is linked, searched, and for which system."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from release_tool.apple import macho

_PAGE = 0x4000
_ARM64 = (0x0100000C, 0)
_EXECUTE, _DYLIB = 2, 6
_LC_LOAD_DYLIB, _LC_LOAD_WEAK_DYLIB, _LC_RPATH = 0x0C, 0x80000018, 0x8000001C


def build(
    *,
    libraries: Sequence[str] = ("/usr/lib/libSystem.B.dylib",),
    weak: Sequence[str] = (),
    search_paths: Sequence[str] = (),
    minos: str | None = "14.0",
    sdk: str = "15.0",
    executable: bool = True,
) -> bytes:
    """One thin arm64 file: a page of text, a page of link edit, no signature."""
    commands = []
    if minos is not None:
        versions = (macho.packed_version(minos), macho.packed_version(sdk))
        commands.append(struct.pack("<IIIIII", 0x32, 24, 1, *versions, 0))
    commands += [_named(_LC_LOAD_DYLIB, one, fixed=12) for one in libraries]
    commands += [_named(_LC_LOAD_WEAK_DYLIB, one, fixed=12) for one in weak]
    commands += [_named(_LC_RPATH, one) for one in search_paths]
    # Two segments of 72 bytes stand before them, and room for a signature's command behind.
    size = macho.HEADER_SIZE + 2 * 72 + sum(map(len, commands)) + 16
    text = -(-size // _PAGE) * _PAGE
    segments = [
        _segment("__TEXT", 0, text, protection=5),
        _segment("__LINKEDIT", text, _PAGE, protection=1),
    ]
    body = b"".join([*segments, *commands])
    kind = _EXECUTE if executable else _DYLIB
    counts = (len(segments) + len(commands), len(body))
    header = struct.pack("<IIIIIIII", macho.MAGIC_64, *_ARM64, kind, *counts, 0, 0)
    return (header + body).ljust(text, b"\0") + b"link edit".ljust(_PAGE, b"\0")


def _segment(name: str, start: int, size: int, *, protection: int) -> bytes:
    places = (0x100000000 + start, size, start, size)
    return struct.pack(
        "<II16sQQQQiiII", 0x19, 72, name.encode(), *places, protection, protection, 0, 0
    )


def _named(command: int, text: str, *, fixed: int = 0) -> bytes:
    """A command with a path behind its fixed fields, padded to eight bytes."""
    start = 12 + fixed
    size = -(-(start + len(text.encode()) + 1) // 8) * 8
    head = struct.pack("<III", command, size, start)
    return (head + bytes(fixed) + text.encode()).ljust(size, b"\0")
