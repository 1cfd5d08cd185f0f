"""Read the header of a Metal library: for which platform and system its code was compiled.

Layout, all little-endian: `MTLB`; u16 platform (bit 15: macOS); u16, u16 version of the format;
u8 kind; u8 target system; u16, u16 its version; u64 size of the whole file; then four pairs of
u64 offset and size: of the list of functions (`metal_functions`), of their public and private
metadata, and of their compiled modules. Measured on the libraries of `mlx` 0.5.1 and `mlx-metal`
0.31.1 and 0.32.4; the names of the fields are those of the public reverse engineering of the
format. Apple documents none of it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from release_tool import errors

MAGIC = b"MTLB"
HEADER_SIZE = 88

_HEADER = struct.Struct("<4sHHHBBHHQ")
_SECTIONS = struct.Struct("<8Q")
_MACOS_PLATFORM = 0x8001
_SYSTEMS = {
    0x81: "macOS",
    0x82: "iOS",
    0x83: "tvOS",
    0x84: "watchOS",
    0x85: "bridgeOS",
    0x86: "Mac Catalyst",
    0x87: "iOS simulator",
    0x88: "tvOS simulator",
    0x89: "watchOS simulator",
}
_KINDS = {0: "executable", 1: "Core Image", 2: "dynamic", 3: "symbol companion"}


class MetalLibrary(NamedTuple):
    """What the header says."""

    kind: str
    system: str
    """`macOS`; a number where the system is not known."""
    minimum: str
    """The oldest version of that system: `14.0`."""
    format_version: str
    size: int
    """Of the whole file, in bytes."""
    functions: tuple[int, int]
    """Offset and size of the list of functions; a list without any has the size 0."""
    modules: tuple[int, int]
    """Offset and size of the compiled modules."""

    @property
    def is_macos(self) -> bool:
        return self.system == "macOS"


def is_metal_library(head: bytes | memoryview) -> bool:
    """Whether a file that begins with these bytes is a Metal library."""
    return bytes(head[: len(MAGIC)]) == MAGIC


def parse(head: bytes | memoryview, *, size: int) -> MetalLibrary:
    """Read the header.

    Args:
        head: at least the first `HEADER_SIZE` bytes.
        size: of the whole file.

    Raises:
        FormatError: no Metal library, truncated, or one whose parts do not lie in the file.
    """
    if len(head) < HEADER_SIZE or not is_metal_library(head):
        raise errors.FormatError(
            "not a Metal library", expected=MAGIC.decode(), observed=bytes(head[:4]).hex()
        )
    _, platform, major, minor, kind, system, system_major, system_minor, whole = (
        _HEADER.unpack_from(head)
    )
    if whole != size:
        raise errors.FormatError(
            "the Metal library is not as long as it says",
            expected=f"{whole} bytes",
            observed=f"{size} bytes",
        )
    parts = _SECTIONS.unpack_from(head, _HEADER.size)
    if any(offset + length > size for offset, length in zip(parts[::2], parts[1::2], strict=True)):
        raise errors.FormatError("a part of the Metal library lies outside the file")
    name = _SYSTEMS.get(system, f"system {system:#x}")
    if name == "macOS" and platform != _MACOS_PLATFORM:
        raise errors.FormatError(
            "the Metal library names two platforms", observed=f"{platform:#06x} and macOS"
        )
    return MetalLibrary(
        kind=_KINDS.get(kind, f"kind {kind}"),
        system=name,
        minimum=f"{system_major}.{system_minor}",
        format_version=f"{major}.{minor}",
        size=whole,
        functions=(parts[0], parts[1]),
        modules=(parts[6], parts[7]),
    )


def header(
    *,
    size: int,
    minimum: str = "14.0",
    system: int = 0x81,
    parts: tuple[int, ...] = (HEADER_SIZE, 0) * 4,
) -> bytes:
    """Write a header: what look-alikes are made of.

    Args:
        size: of the whole file, header included.
        minimum: the target system's version, `major.minor`.
        system: its number; 0x81 is macOS.
        parts: offset and size of functions, public and private metadata and modules; a library
            without functions unless they are given.
    """
    major, minor = (int(part) for part in minimum.split("."))
    fields = _HEADER.pack(MAGIC, _MACOS_PLATFORM, 2, 7, 0, system, major, minor, size)
    return fields + _SECTIONS.pack(*parts)
