"""Read Mach-O files: thin and universal, 32-bit and 64-bit, little-endian and big-endian.

Every processor that Apple has shipped is read, PowerPC included: what a file is for is a fact, not
a fault. Refused is what contradicts itself, since two readers would see two files: headers that
disagree, slices that overlap or repeat, commands that do not fill their stated size.

Source: `<mach-o/loader.h>` and `<mach-o/fat.h>`. A file here is hostile until parsed: every offset
is checked against the bytes at hand, so a truncated file is a `FormatError` and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from release_tool import errors
from release_tool.apple import macho_commands
from release_tool.apple.macho_commands import (
    LC_CODE_SIGNATURE,
    PLATFORM_MACOS,
    BuildVersion,
    Image,
    Library,
    LibraryKind,
    LoadCommand,
    Section,
    Segment,
    bad,
    version_text,
)

__all__ = [
    "FAT_MAGIC",
    "FAT_MAGIC_64",
    "HEADER_SIZE",
    "LC_CODE_SIGNATURE",
    "MAGIC_32",
    "MAGIC_64",
    "MH_EXECUTE",
    "PLATFORM_MACOS",
    "BuildVersion",
    "Library",
    "LibraryKind",
    "LoadCommand",
    "Section",
    "Segment",
    "Slice",
    "is_macho",
    "is_universal",
    "packed_version",
    "parse",
    "version_text",
]

FAT_MAGIC = 0xCAFEBABE
FAT_MAGIC_64 = 0xCAFEBABF
MAGIC_32 = 0xFEEDFACE
MAGIC_64 = 0xFEEDFACF
HEADER_SIZE = 32
"""Of `mach_header_64`; the load commands follow."""

MH_EXECUTE = 2

FILE_TYPES: Mapping[int, str] = MappingProxyType(
    {
        1: "object",
        MH_EXECUTE: "executable",
        3: "fixed library",
        4: "core",
        5: "preloaded",
        6: "dynamic library",
        7: "dynamic linker",
        8: "bundle",
        9: "library stub",
        10: "debug companion",
        11: "kernel extension",
        12: "file set",
    }
)
HEADER_FLAGS: Mapping[int, str] = MappingProxyType(
    {
        0x1: "no-undefined",
        0x4: "dyld-link",
        0x80: "two-level",
        0x100: "force-flat",
        0x8000: "weak-defines",
        0x10000: "binds-to-weak",
        0x20000: "allow-stack-execution",
        0x100000: "no-reexported-libraries",
        0x200000: "pie",
        0x800000: "has-tlv-descriptors",
        0x1000000: "no-heap-execution",
        0x2000000: "app-extension-safe",
    }
)

# Real universal files hold two to five slices. A Java class file shares the magic; its version
# stands where the count does and is never below 45.
_MAX_SLICES = 32
# `lipo` knows alignments up to 2^15; slices of that size and larger steps cost nothing.
_MAX_ALIGNMENT = 30

_PPC, _PPC64 = 18, 0x01000012
_ARM64 = 0x0100000C
_ARCHITECTURES: Mapping[int, str] = MappingProxyType(
    {
        7: "i386",
        0x01000007: "x86_64",
        12: "arm",
        _ARM64: "arm64",
        0x0200000C: "arm64_32",
        _PPC: "ppc",
        _PPC64: "ppc64",
    }
)
_ABI_64 = 0x01000000
_ARM64E_SUBTYPE = 2
# The high byte holds capabilities: LIB64, the version of pointer authentication.
_SUBTYPE_MASK = 0x00FFFFFF

_Order = Literal["<", ">"]
_MAGICS: Mapping[bytes, tuple[_Order, bool]] = MappingProxyType(
    {
        MAGIC_32.to_bytes(4, "little"): ("<", False),
        MAGIC_64.to_bytes(4, "little"): ("<", True),
        MAGIC_32.to_bytes(4, "big"): (">", False),
        MAGIC_64.to_bytes(4, "big"): (">", True),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The code for one architecture."""

    arch: str
    """`arm64`, `arm64e`, `x86_64`, `i386`, `ppc`, …; `cpu 0x…` where the processor has no name
    here. Of subtypes only arm64e is told from its family."""
    cpu_type: int
    cpu_subtype: int
    """As its own header says it, capability bits included."""
    fat_subtype: int
    """As the universal header says it; it may differ in the capability bits. A thin file's own."""
    is_64_bit: bool
    byte_order: Literal["little", "big"]
    """Of its headers; PowerPC is big-endian."""
    offset: int
    """In the file; 0 for a thin file."""
    size: int
    alignment_log2: int
    """As the universal header says; 0 for a thin file."""
    data: memoryview = field(repr=False)
    file_type: int
    flags: int
    """Of the header."""
    commands: tuple[LoadCommand, ...] = field(repr=False)
    """All of them in order, unknown ones included."""
    segments: tuple[Segment, ...] = field(repr=False)
    signature: tuple[int, int] | None
    """Offset and size that LC_CODE_SIGNATURE names; None for unsigned code."""
    platforms: tuple[BuildVersion, ...]
    """Every platform that is named, in order."""
    uuid: bytes | None
    info_plist: bytes | None = field(repr=False)
    """The section `__TEXT,__info_plist`, for tools that have no bundle."""
    install_name: Library | None
    """What a dynamic library says that it is; None for other code."""
    libraries: tuple[Library, ...] = field(repr=False)
    """What it loads, in order."""
    rpaths: tuple[str, ...]
    """Where `@rpath` is looked for, in order."""
    dyld_environment: tuple[str, ...]
    """`NAME=value` that it sets for dyld itself."""
    dylinker: str | None
    """The dynamic linker that a main executable asks for."""

    @property
    def is_executable(self) -> bool:
        """Whether it is a main executable (not a dylib, a bundle or an object file)."""
        return self.file_type == MH_EXECUTE

    @property
    def file_type_name(self) -> str:
        return FILE_TYPES.get(self.file_type, f"type {self.file_type}")

    @property
    def flag_names(self) -> tuple[str, ...]:
        """The header's set flags by name, an unnamed bit as its number."""
        bits = [1 << bit for bit in range(32) if self.flags >> bit & 1]
        return tuple(HEADER_FLAGS.get(bit, f"{bit:#x}") for bit in bits)

    @property
    def macos(self) -> BuildVersion | None:
        """What it says of macOS: the first, where it says so twice."""
        return next((item for item in self.platforms if item.platform == PLATFORM_MACOS), None)

    @property
    def minos(self) -> str | None:
        """The oldest macOS that runs it, `14.0.0`; None where the code names none for macOS."""
        return None if self.macos is None else self.macos.minos

    @property
    def sdk(self) -> str | None:
        return None if self.macos is None else version_text(self.macos.sdk_packed)

    @property
    def sdk_packed(self) -> int:
        """The SDK's version in the packed form xxxx.yy.zz; 0 where there is none."""
        return 0 if self.macos is None else self.macos.sdk_packed

    @property
    def linked_libraries(self) -> tuple[str, ...]:
        """The paths of what it loads."""
        return tuple(library.name for library in self.libraries)

    @property
    def text_segment(self) -> Segment | None:
        return self.segment("__TEXT")

    @property
    def linkedit(self) -> Segment | None:
        return self.segment("__LINKEDIT")

    def segment(self, name: str) -> Segment | None:
        """The segment of this name, or None."""
        return next((segment for segment in self.segments if segment.name == name), None)

    @property
    def header_size(self) -> int:
        """Bytes before the load commands."""
        return HEADER_SIZE if self.is_64_bit else HEADER_SIZE - 4

    @property
    def commands_end(self) -> int:
        """Offset behind the load commands."""
        return self.header_size + sum(command.size for command in self.commands)

    @property
    def signature_bytes(self) -> memoryview | None:
        """The reserved room of the signature, padding included."""
        if self.signature is None:
            return None
        offset, size = self.signature
        return self.data[offset : offset + size]


def is_macho(head: bytes) -> bool:
    """Whether a file that begins with these (at least 8) bytes is a Mach-O that we read."""
    if len(head) < 8:
        return False
    if bytes(head[:4]) in _MAGICS:
        return True
    magic, count = struct.unpack_from(">II", head)
    return magic in (FAT_MAGIC, FAT_MAGIC_64) and 0 < count <= _MAX_SLICES


def is_universal(data: bytes | memoryview) -> bool:
    """Whether the file has a universal header."""
    return bytes(data[:4]) in (FAT_MAGIC.to_bytes(4, "big"), FAT_MAGIC_64.to_bytes(4, "big"))


def parse(data: bytes | memoryview) -> tuple[Slice, ...]:
    """Read a whole file.

    Args:
        data: the file's bytes; slices keep views of them.

    Returns:
        The slices in the order of the universal header; one for a thin file.

    Raises:
        FormatError: not a Mach-O, truncated, contradictory, or of a kind that we do not read.
    """
    view = memoryview(data)
    if not is_universal(view):
        return (_parse_slice(view, _Entry(None, 0, 0, len(view), 0)),)
    return tuple(_universal(view))


def packed_version(text: str) -> int:
    """A version of one to three decimal parts in the packed form.

    Raises:
        FormatError: it is not one.
    """
    parts = text.split(".")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise errors.FormatError("not a macOS version", observed=text[:40])
    major, minor, patch = ([int(part[:6]) for part in parts] + [0, 0])[:3]
    if major > 0xFFFF or minor > 0xFF or patch > 0xFF:
        raise errors.FormatError("not a macOS version", observed=text[:40])
    return major << 16 | minor << 8 | patch


@dataclass(frozen=True, slots=True)
class _Entry:
    """One slice as the universal header describes it."""

    cpu_type: int | None
    """None for a thin file."""
    cpu_subtype: int
    offset: int
    size: int
    alignment_log2: int

    @property
    def architecture(self) -> tuple[int | None, int]:
        """What chooses between slices: the capability bits do not count."""
        return self.cpu_type, self.cpu_subtype & _SUBTYPE_MASK


def _universal(view: memoryview) -> Iterator[Slice]:
    wide = int.from_bytes(view[:4], "big") == FAT_MAGIC_64
    header = Image(view, ">", wide)
    (count,) = header.unpack("I", 4, "universal header")
    if not 0 < count <= _MAX_SLICES:
        raise bad(f"the universal header counts {count} slices")
    layout = "IIQQII" if wide else "IIIII"
    size = struct.calcsize(">" + layout)
    spans: list[tuple[int, int]] = [(0, 8 + count * size)]
    seen: set[tuple[int | None, int]] = set()
    for index in range(count):
        fields = header.unpack(layout, 8 + index * size, "universal header")
        entry = _Entry(*fields[:5])
        _judge_entry(entry, spans, len(view))
        if entry.architecture in seen:
            raise bad("the universal header names one architecture twice")
        seen.add(entry.architecture)
        yield _parse_slice(view[entry.offset : entry.offset + entry.size], entry)


def _judge_entry(entry: _Entry, spans: list[tuple[int, int]], total: int) -> None:
    offset, end = entry.offset, entry.offset + entry.size
    if end > total:
        raise bad(f"a slice ends at {end}, the file at {total}")
    if any(offset < other_end and start < end for start, other_end in spans):
        raise bad("two slices overlap")
    spans.append((offset, end))
    alignment = entry.alignment_log2
    if alignment > _MAX_ALIGNMENT or offset % (1 << alignment):
        raise bad(f"a slice at {offset} is not aligned to 2^{alignment}")


def _parse_slice(view: memoryview, entry: _Entry) -> Slice:
    kind = _MAGICS.get(bytes(view[:4]))
    if kind is None:
        raise bad("it begins otherwise", observed=bytes(view[:4]).hex() or "nothing")
    image = Image(view, *kind)
    fields = image.unpack("7I4x" if image.wide else "7I", 0, "header")
    _magic, cpu_type, cpu_subtype, file_type, count, commands_size, flags = fields
    _judge_processor(image, cpu_type)
    own = _Entry(cpu_type, cpu_subtype, 0, 0, 0)
    if entry.cpu_type is not None and entry.architecture != own.architecture:
        raise bad("the universal header names another architecture than its slice")
    commands = macho_commands.read(image, count, commands_size)
    segments = tuple(macho_commands.segments(image, commands))
    return Slice(
        arch=_architecture(cpu_type, cpu_subtype),
        cpu_type=cpu_type,
        cpu_subtype=cpu_subtype,
        fat_subtype=cpu_subtype if entry.cpu_type is None else entry.cpu_subtype,
        is_64_bit=image.wide,
        byte_order="little" if image.order == "<" else "big",
        offset=entry.offset,
        size=len(view),
        alignment_log2=entry.alignment_log2,
        data=view,
        file_type=file_type,
        flags=flags,
        commands=commands,
        segments=segments,
        signature=macho_commands.signature(image, commands),
        platforms=tuple(macho_commands.build_versions(image, commands)),
        uuid=macho_commands.uuid(image, commands),
        info_plist=_info_plist(view, segments),
        install_name=macho_commands.install_name(image, commands),
        libraries=tuple(macho_commands.libraries(image, commands)),
        rpaths=macho_commands.rpaths(image, commands),
        dyld_environment=macho_commands.dyld_environment(image, commands),
        dylinker=macho_commands.dylinker(image, commands),
    )


def _judge_processor(image: Image, cpu_type: int) -> None:
    """The header's form against the processor that it names, where that has one form only."""
    if cpu_type not in _ARCHITECTURES:
        return
    if bool(cpu_type & _ABI_64) != image.wide:
        raise bad(f"a header of the wrong word size for {_ARCHITECTURES[cpu_type]}")
    if (cpu_type in (_PPC, _PPC64)) != (image.order == ">"):
        raise bad(f"a header of the wrong byte order for {_ARCHITECTURES[cpu_type]}")


def _architecture(cpu_type: int, cpu_subtype: int) -> str:
    if cpu_type == _ARM64 and cpu_subtype & _SUBTYPE_MASK == _ARM64E_SUBTYPE:
        return "arm64e"
    return _ARCHITECTURES.get(cpu_type, f"cpu {cpu_type:#x}")


def _info_plist(view: memoryview, segments: tuple[Segment, ...]) -> bytes | None:
    for segment in segments:
        for section in segment.sections:
            named = (section.segment, section.name) == ("__TEXT", "__info_plist")
            if named and not section.zero_fill:
                return bytes(view[section.offset : section.offset + section.size])
    return None
