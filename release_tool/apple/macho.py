"""Read Mach-O files: thin and universal, little-endian 64-bit (arm64, arm64e and x86_64).

Source: `<mach-o/loader.h>` and `<mach-o/fat.h>`. A file here is hostile until parsed: every offset
is checked against the bytes at hand, so a truncated file is a `FormatError` and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from release_tool import errors

FAT_MAGIC = 0xCAFEBABE
FAT_MAGIC_64 = 0xCAFEBABF
MAGIC_64 = 0xFEEDFACF
HEADER_SIZE = 32
"""Of `mach_header_64`; the load commands follow."""

MH_EXECUTE = 2
LC_CODE_SIGNATURE = 0x1D

_LC_SEGMENT_64 = 0x19
_LC_VERSION_MIN_MACOSX = 0x24
_LC_BUILD_VERSION = 0x32
_LC_LOAD_DYLIBS = frozenset({0x0C, 0x80000018, 0x8000001F, 0x20, 0x80000023})
_PLATFORM_MACOS = 1

# Real universal files hold two to five slices. A Java class file shares the magic; its version
# stands where the count does and is never below 45.
_MAX_SLICES = 32
# dyld's shared frameworks stay below 300; each command costs us one small object.
_MAX_COMMANDS = 4096
# A section's index is one byte in the symbol table (MAX_SECT).
_MAX_SECTIONS = 255

_ARCHITECTURES = {0x01000007: "x86_64", 0x0100000C: "arm64"}
_ARM64E_SUBTYPE = 2
_SUBTYPE_MASK = 0x00FFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCommand:
    """One load command: where it stands in its slice."""

    command: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section of a segment."""

    segment: str
    name: str
    offset: int
    """In the slice; 0 for a section without bytes in the file."""
    size: int
    zero_fill: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One segment: what of the slice is mapped."""

    name: str
    vm_size: int
    offset: int
    size: int
    command: LoadCommand
    sections: tuple[Section, ...]

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The code for one architecture."""

    arch: str
    """`arm64`, `arm64e` or `x86_64`."""
    cpu_type: int
    cpu_subtype: int
    offset: int
    """In the file; 0 for a thin file."""
    size: int
    alignment_log2: int
    """As the universal header says; 0 for a thin file."""
    data: memoryview = field(repr=False)
    file_type: int
    commands: tuple[LoadCommand, ...] = field(repr=False)
    segments: tuple[Segment, ...] = field(repr=False)
    signature: tuple[int, int] | None
    """Offset and size that LC_CODE_SIGNATURE names; None for unsigned code."""
    minos: str | None
    """The oldest macOS that runs it, `14.0.0`; None where the code names none for macOS."""
    sdk: str | None
    sdk_packed: int
    """The SDK's version in the packed form xxxx.yy.zz; 0 where there is none."""
    info_plist: bytes | None = field(repr=False)
    """The section `__TEXT,__info_plist`, for tools that have no bundle."""
    linked_libraries: tuple[str, ...]

    @property
    def is_executable(self) -> bool:
        """Whether it is a main executable (not a dylib, a bundle or an object file)."""
        return self.file_type == MH_EXECUTE

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
    def commands_end(self) -> int:
        """Offset behind the load commands."""
        return HEADER_SIZE + sum(command.size for command in self.commands)

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
    if int.from_bytes(head[:4], "little") == MAGIC_64:
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
        return (_parse_slice(view, offset=0, alignment_log2=0),)
    return tuple(_universal(view))


def version_text(packed: int) -> str:
    """A version of the packed form xxxx.yy.zz as text with three parts."""
    return f"{packed >> 16}.{packed >> 8 & 0xFF}.{packed & 0xFF}"


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


def _universal(view: memoryview) -> Iterator[Slice]:
    wide = int.from_bytes(view[:4], "big") == FAT_MAGIC_64
    (count,) = _unpack(">I", view, 4, "universal header")
    if not 0 < count <= _MAX_SLICES:
        raise _bad(f"the universal header counts {count} slices")
    entry = struct.Struct(">IIQQII" if wide else ">IIIII")
    end = 8 + count * entry.size
    spans: list[tuple[int, int]] = [(0, end)]
    for index in range(count):
        fields = _unpack(entry.format, view, 8 + index * entry.size, "universal header")
        cpu_type, cpu_subtype, offset, size, alignment = fields[:5]
        _refuse_overlap(spans, offset, size, len(view))
        if alignment > 30 or offset % (1 << alignment):
            raise _bad(f"a slice at {offset} is not aligned to 2^{alignment}")
        found = _parse_slice(view[offset : offset + size], offset=offset, alignment_log2=alignment)
        if (found.cpu_type, found.cpu_subtype) != (cpu_type, cpu_subtype):
            raise _bad("the universal header names another architecture than its slice")
        yield found


def _refuse_overlap(spans: list[tuple[int, int]], offset: int, size: int, total: int) -> None:
    if offset + size > total:
        raise _bad(f"a slice ends at {offset + size}, the file at {total}")
    if any(offset < end and start < offset + size for start, end in spans):
        raise _bad("two slices overlap")
    spans.append((offset, offset + size))


def _parse_slice(view: memoryview, *, offset: int, alignment_log2: int) -> Slice:
    fields = _unpack("<IIIIIII", view, 0, "header")
    magic, cpu_type, cpu_subtype, file_type, count, commands_size, _flags = fields
    if magic != MAGIC_64:
        raise _bad("not a 64-bit little-endian Mach-O", observed=bytes(view[:4]).hex() or "nothing")
    if len(view) < HEADER_SIZE:
        raise _bad("truncated in the header")
    commands = tuple(_commands(view, count, commands_size))
    segments = tuple(_segments(view, commands))
    minos, sdk = _versions(view, commands)
    return Slice(
        arch=_architecture(cpu_type, cpu_subtype),
        cpu_type=cpu_type,
        cpu_subtype=cpu_subtype,
        offset=offset,
        size=len(view),
        alignment_log2=alignment_log2,
        data=view,
        file_type=file_type,
        commands=commands,
        segments=segments,
        signature=_signature(view, commands),
        minos=None if minos is None else version_text(minos),
        sdk=None if sdk is None else version_text(sdk),
        sdk_packed=sdk or 0,
        info_plist=_info_plist(view, segments),
        linked_libraries=tuple(_linked_libraries(view, commands)),
    )


def _architecture(cpu_type: int, cpu_subtype: int) -> str:
    name = _ARCHITECTURES.get(cpu_type)
    if name is None:
        raise _bad("code for another processor", observed=f"cpu type {cpu_type:#x}")
    if name == "arm64" and cpu_subtype & _SUBTYPE_MASK == _ARM64E_SUBTYPE:
        return "arm64e"
    return name


def _commands(view: memoryview, count: int, total: int) -> Iterator[LoadCommand]:
    if count > _MAX_COMMANDS:
        raise _bad(f"{count} load commands, at most {_MAX_COMMANDS} are read")
    end = HEADER_SIZE + total
    if end > len(view):
        raise _bad("truncated in the load commands")
    position = HEADER_SIZE
    for _ in range(count):
        command, size = _unpack("<II", view, position, "load commands")
        if size < 8 or size % 4 or position + size > end:
            raise _bad(f"a load command at {position} claims {size} bytes")
        yield LoadCommand(command=command, offset=position, size=size)
        position += size
    if position != end:
        raise _bad("the load commands do not fill the size that the header states")


def _segments(view: memoryview, commands: tuple[LoadCommand, ...]) -> Iterator[Segment]:
    seen: set[str] = set()
    sections = 0
    for command in commands:
        if command.command != _LC_SEGMENT_64:
            continue
        segment = _segment(view, command)
        sections += len(segment.sections)
        if segment.name in seen or sections > _MAX_SECTIONS:
            raise _bad(f"segment {segment.name!r} is doubled, or there are too many sections")
        seen.add(segment.name)
        yield segment


def _segment(view: memoryview, command: LoadCommand) -> Segment:
    layout = "<16sQQQQiiII"
    fields = _unpack(layout, view, command.offset + 8, "segment", limit=command)
    raw_name, _address, vm_size, offset, size, _max, _initial, count, _flags = fields
    name = _fixed_name(raw_name)
    if offset + size > len(view):
        raise _bad(f"segment {name} ends at {offset + size}, the code at {len(view)}")
    if 72 + count * 80 > command.size:
        raise _bad(f"segment {name} claims {count} sections, more than its command holds")
    starts = range(command.offset + 72, command.offset + 72 + count * 80, 80)
    return Segment(
        name=name,
        vm_size=vm_size,
        offset=offset,
        size=size,
        command=command,
        sections=tuple(_section(view, start) for start in starts),
    )


def _section(view: memoryview, start: int) -> Section:
    fields = _unpack("<16s16sQQIIIII", view, start, "section")
    name, segment, _address, size, offset, _align, _reloc, _relocations, flags = fields
    # S_ZEROFILL, S_GB_ZEROFILL and S_THREAD_LOCAL_ZEROFILL have no bytes in the file.
    zero_fill = flags & 0xFF in (0x1, 0xC, 0x12)
    if not zero_fill and offset + size > len(view):
        raise _bad("a section ends behind the code")
    return Section(
        segment=_fixed_name(segment),
        name=_fixed_name(name),
        offset=offset,
        size=size,
        zero_fill=zero_fill,
    )


def _signature(view: memoryview, commands: tuple[LoadCommand, ...]) -> tuple[int, int] | None:
    found = [command for command in commands if command.command == LC_CODE_SIGNATURE]
    if not found:
        return None
    if len(found) > 1:
        raise _bad("more than one LC_CODE_SIGNATURE")
    offset, size = _unpack("<II", view, found[0].offset + 8, "signature", limit=found[0])
    if offset + size > len(view):
        raise _bad(f"the signature ends at {offset + size}, the code at {len(view)}")
    return offset, size


def _versions(view: memoryview, commands: tuple[LoadCommand, ...]) -> tuple[int | None, int | None]:
    """The packed minimum macOS and SDK. A zippered file names more than one platform."""
    for command in commands:
        if command.command == _LC_BUILD_VERSION:
            platform, minos, sdk = _unpack("<III", view, command.offset + 8, "version", command)
            if platform == _PLATFORM_MACOS:
                return minos, sdk
        elif command.command == _LC_VERSION_MIN_MACOSX:
            minos, sdk = _unpack("<II", view, command.offset + 8, "version", command)
            return minos, sdk
    return None, None


def _info_plist(view: memoryview, segments: tuple[Segment, ...]) -> bytes | None:
    for segment in segments:
        for section in segment.sections:
            if (section.segment, section.name) == ("__TEXT", "__info_plist"):
                return bytes(view[section.offset : section.offset + section.size])
    return None


def _linked_libraries(view: memoryview, commands: tuple[LoadCommand, ...]) -> Iterator[str]:
    for command in commands:
        if command.command in _LC_LOAD_DYLIBS:
            (start,) = _unpack("<I", view, command.offset + 8, "library", limit=command)
            if not 12 <= start < command.size:
                raise _bad("the name of a linked library lies outside its command")
            raw = bytes(view[command.offset + start : command.offset + command.size])
            yield raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _fixed_name(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("ascii", "backslashreplace")


def _unpack(
    layout: str, view: memoryview, offset: int, what: str, limit: LoadCommand | None = None
) -> tuple[Any, ...]:
    size = struct.calcsize(layout)
    end = len(view) if limit is None else limit.offset + limit.size
    if offset + size > end:
        raise _bad(f"truncated in the {what}")
    return struct.unpack_from(layout, view, offset)


def _bad(message: str, *, observed: str = "") -> errors.FormatError:
    return errors.FormatError(f"not a Mach-O that can be read: {message}", observed=observed)
