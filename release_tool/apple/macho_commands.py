"""The load commands of one Mach-O image, in either byte order and word size.

Source: `<mach-o/loader.h>`. Names here are reached through `macho`. Commands that are not known
are kept with their place, never refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from release_tool import errors

LC_CODE_SIGNATURE = 0x1D
LC_RPATH = 0x8000001C

_LC_SEGMENT, _LC_SEGMENT_64 = 0x1, 0x19
_LC_ID_DYLIB = 0xD
_LC_LOAD_DYLINKER = 0xE
_LC_UUID = 0x1B
_LC_DYLD_ENVIRONMENT = 0x27
_LC_BUILD_VERSION = 0x32

LibraryKind = Literal["required", "weak", "reexport", "lazy", "upward", "delayed"]

_LIBRARY_KINDS: Mapping[int, LibraryKind] = MappingProxyType(
    {
        0x0C: "required",
        0x80000018: "weak",
        0x8000001F: "reexport",
        0x20: "lazy",
        0x80000023: "upward",
    }
)
# `dylib_use_command` (SDK 15 and later): a marker stands where the timestamp was, the kind in
# flags behind the fields of old.
_USE_MARKER, _USE_SIZE = 0x1A741800, 28
_USE_FLAGS: tuple[tuple[int, LibraryKind], ...] = (
    (0x1, "weak"),
    (0x2, "reexport"),
    (0x4, "upward"),
    (0x8, "delayed"),
)

PLATFORM_MACOS = 1
PLATFORM_NAMES: Mapping[int, str] = MappingProxyType(
    {
        PLATFORM_MACOS: "macOS",
        2: "iOS",
        3: "tvOS",
        4: "watchOS",
        5: "bridgeOS",
        6: "Mac Catalyst",
        7: "iOS Simulator",
        8: "tvOS Simulator",
        9: "watchOS Simulator",
        10: "DriverKit",
        11: "visionOS",
        12: "visionOS Simulator",
    }
)
# LC_VERSION_MIN_*, from before LC_BUILD_VERSION.
_VERSION_MIN: Mapping[int, int] = MappingProxyType(
    {0x24: PLATFORM_MACOS, 0x25: 2, 0x2F: 3, 0x30: 4}
)

_NAMES: Mapping[int, str] = MappingProxyType(
    {
        _LC_SEGMENT: "LC_SEGMENT",
        0x2: "LC_SYMTAB",
        0x5: "LC_UNIXTHREAD",
        0xB: "LC_DYSYMTAB",
        0xC: "LC_LOAD_DYLIB",
        _LC_ID_DYLIB: "LC_ID_DYLIB",
        _LC_LOAD_DYLINKER: "LC_LOAD_DYLINKER",
        0xF: "LC_ID_DYLINKER",
        _LC_SEGMENT_64: "LC_SEGMENT_64",
        _LC_UUID: "LC_UUID",
        LC_CODE_SIGNATURE: "LC_CODE_SIGNATURE",
        0x1E: "LC_SEGMENT_SPLIT_INFO",
        0x20: "LC_LAZY_LOAD_DYLIB",
        0x21: "LC_ENCRYPTION_INFO",
        0x22: "LC_DYLD_INFO",
        0x24: "LC_VERSION_MIN_MACOSX",
        0x25: "LC_VERSION_MIN_IPHONEOS",
        0x26: "LC_FUNCTION_STARTS",
        _LC_DYLD_ENVIRONMENT: "LC_DYLD_ENVIRONMENT",
        0x29: "LC_DATA_IN_CODE",
        0x2A: "LC_SOURCE_VERSION",
        0x2B: "LC_DYLIB_CODE_SIGN_DRS",
        0x2C: "LC_ENCRYPTION_INFO_64",
        0x2D: "LC_LINKER_OPTION",
        0x2F: "LC_VERSION_MIN_TVOS",
        0x30: "LC_VERSION_MIN_WATCHOS",
        0x31: "LC_NOTE",
        _LC_BUILD_VERSION: "LC_BUILD_VERSION",
        0x80000018: "LC_LOAD_WEAK_DYLIB",
        LC_RPATH: "LC_RPATH",
        0x8000001F: "LC_REEXPORT_DYLIB",
        0x80000022: "LC_DYLD_INFO_ONLY",
        0x80000023: "LC_LOAD_UPWARD_DYLIB",
        0x80000028: "LC_MAIN",
        0x80000033: "LC_DYLD_EXPORTS_TRIE",
        0x80000034: "LC_DYLD_CHAINED_FIXUPS",
        0x80000035: "LC_FILESET_ENTRY",
    }
)
# Where a second one would be another answer to the same question, and readers could differ.
_SINGLE = (LC_CODE_SIGNATURE, _LC_ID_DYLIB, _LC_LOAD_DYLINKER, _LC_UUID)

# dyld's shared frameworks stay below 300; each command costs us one small object.
_MAX_COMMANDS = 4096
# A section's index is one byte in the symbol table (MAX_SECT).
_MAX_SECTIONS = 255
# S_ZEROFILL, S_GB_ZEROFILL and S_THREAD_LOCAL_ZEROFILL have no bytes in the file.
_ZERO_FILL = frozenset((0x1, 0xC, 0x12))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCommand:
    """One load command: where it stands in its slice."""

    command: int
    offset: int
    size: int

    @property
    def name(self) -> str:
        """As the header calls it; a command that is not known by its number."""
        return _NAMES.get(self.command, f"{self.command:#x}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section of a segment."""

    segment: str
    name: str
    offset: int
    """In the slice; 0 for a section without bytes in the file."""
    size: int
    zero_fill: bool
    """Whether it has no bytes in the file: filled with zeros, or left out with its segment as a
    debug companion leaves out the code."""


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
class Library:
    """A dynamic library that code names, by its load command."""

    name: str
    """The path as it stands, `@rpath/…` included."""
    kind: LibraryKind
    current_version: str
    compatibility_version: str

    @property
    def may_be_missing(self) -> bool:
        """Whether the code runs without it."""
        return self.kind == "weak"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildVersion:
    """A platform that the code was built for."""

    platform: int
    minos_packed: int
    sdk_packed: int
    """0 where the linker named none."""

    @property
    def platform_name(self) -> str:
        return PLATFORM_NAMES.get(self.platform, f"platform {self.platform}")

    @property
    def minos(self) -> str:
        """The oldest system that runs it, `14.0.0`."""
        return version_text(self.minos_packed)

    @property
    def sdk(self) -> str | None:
        return version_text(self.sdk_packed) if self.sdk_packed else None


class Image(NamedTuple):
    """The bytes of one slice, and how its numbers stand."""

    view: memoryview
    order: Literal["<", ">"]
    wide: bool
    """Whether it is 64-bit code."""

    @property
    def header_size(self) -> int:
        return 32 if self.wide else 28

    def unpack(
        self, layout: str, offset: int, what: str, limit: LoadCommand | None = None
    ) -> tuple[Any, ...]:
        """Read numbers that lie within the slice, or within one of its commands."""
        layout = self.order + layout
        size = struct.calcsize(layout)
        end = len(self.view) if limit is None else limit.offset + limit.size
        if offset + size > end:
            raise bad(f"truncated in the {what}")
        return struct.unpack_from(layout, self.view, offset)


def version_text(packed: int) -> str:
    """A version of the packed form xxxx.yy.zz as text with three parts."""
    return f"{packed >> 16}.{packed >> 8 & 0xFF}.{packed & 0xFF}"


def bad(message: str, *, observed: str = "") -> errors.FormatError:
    """The format's error."""
    return errors.FormatError(f"not a Mach-O that can be read: {message}", observed=observed)


def read(image: Image, count: int, total: int) -> tuple[LoadCommand, ...]:
    """All load commands, unknown ones included.

    Args:
        image: the slice.
        count: how many its header states.
        total: how many bytes they take, as its header states.

    Raises:
        FormatError: they do not fill exactly that size, or one stands twice that must not.
    """
    if count > _MAX_COMMANDS:
        raise bad(f"{count} load commands, at most {_MAX_COMMANDS} are read")
    position = image.header_size
    end = position + total
    if end > len(image.view):
        raise bad("truncated in the load commands")
    found = []
    for _ in range(count):
        command, size = image.unpack("II", position, "load commands")
        if size < 8 or size % 4 or position + size > end:
            raise bad(f"a load command at {position} claims {size} bytes")
        found.append(LoadCommand(command=command, offset=position, size=size))
        position += size
    if position != end:
        raise bad("the load commands do not fill the size that the header states")
    for single in _SINGLE:
        if sum(item.command == single for item in found) > 1:
            raise bad(f"more than one {_NAMES[single]}")
    return tuple(found)


def segments(image: Image, commands: Sequence[LoadCommand]) -> Iterator[Segment]:
    """Every segment of the slice's word size, each name once."""
    seen: set[str] = set()
    sections = 0
    wanted = _LC_SEGMENT_64 if image.wide else _LC_SEGMENT
    for command in commands:
        if command.command in (_LC_SEGMENT, _LC_SEGMENT_64) and command.command != wanted:
            raise bad("a segment of another word size than the code's")
        if command.command != wanted:
            continue
        segment = _segment(image, command)
        sections += len(segment.sections)
        if segment.name in seen or sections > _MAX_SECTIONS:
            raise bad(f"segment {segment.name!r} is doubled, or there are too many sections")
        seen.add(segment.name)
        yield segment


def _segment(image: Image, command: LoadCommand) -> Segment:
    layout = "16sQQQQiiII" if image.wide else "16sIIIIiiII"
    start, each = (72, 80) if image.wide else (56, 68)
    fields = image.unpack(layout, command.offset + 8, "segment", command)
    raw_name, _address, vm_size, offset, size, _max, _initial, count, _flags = fields
    name = _fixed_name(raw_name)
    if offset + size > len(image.view):
        raise bad(f"segment {name} ends at {offset + size}, the code at {len(image.view)}")
    if start + count * each > command.size:
        raise bad(f"segment {name} claims {count} sections, more than its command holds")
    first = command.offset + start
    places = range(first, first + count * each, each)
    return Segment(
        name=name,
        vm_size=vm_size,
        offset=offset,
        size=size,
        command=command,
        sections=tuple(_section(image, place, in_file=size > 0) for place in places),
    )


def _section(image: Image, start: int, *, in_file: bool) -> Section:
    layout = "16s16sQQIIIII" if image.wide else "16s16sIIIIIII"
    fields = image.unpack(layout, start, "section")
    name, segment, _address, size, offset, _align, _reloc, _relocations, flags = fields
    zero_fill = not in_file or flags & 0xFF in _ZERO_FILL
    if not zero_fill and offset + size > len(image.view):
        raise bad("a section ends behind the code")
    return Section(
        segment=_fixed_name(segment),
        name=_fixed_name(name),
        offset=offset,
        size=size,
        zero_fill=zero_fill,
    )


def signature(image: Image, commands: Sequence[LoadCommand]) -> tuple[int, int] | None:
    """Offset and size that LC_CODE_SIGNATURE names."""
    for command in commands:
        if command.command == LC_CODE_SIGNATURE:
            offset, size = image.unpack("II", command.offset + 8, "signature", command)
            if offset + size > len(image.view):
                raise bad(f"the signature ends at {offset + size}, the code at {len(image.view)}")
            return offset, size
    return None


def build_versions(image: Image, commands: Sequence[LoadCommand]) -> Iterator[BuildVersion]:
    """Every platform that is named, in order; a zippered file names more than one."""
    for command in commands:
        if command.command == _LC_BUILD_VERSION:
            fields = image.unpack("III", command.offset + 8, "version", command)
        elif command.command in _VERSION_MIN:
            fields = image.unpack("II", command.offset + 8, "version", command)
            fields = (_VERSION_MIN[command.command], *fields)
        else:
            continue
        platform, minos, sdk = fields
        yield BuildVersion(platform=platform, minos_packed=minos, sdk_packed=sdk)


def libraries(image: Image, commands: Sequence[LoadCommand]) -> Iterator[Library]:
    """Every library that the code loads, in the order in which dyld does."""
    for command in commands:
        if command.command in _LIBRARY_KINDS:
            yield _library(image, command, _LIBRARY_KINDS[command.command])


def install_name(image: Image, commands: Sequence[LoadCommand]) -> Library | None:
    """What a dynamic library says that it is; None for other code."""
    for command in commands:
        if command.command == _LC_ID_DYLIB:
            return _library(image, command, "required")
    return None


def _library(image: Image, command: LoadCommand, kind: LibraryKind) -> Library:
    fields = image.unpack("IIII", command.offset + 8, "library", command)
    start, marker, current, compatibility = fields
    if start == _USE_SIZE and marker == _USE_MARKER:
        (flags,) = image.unpack("I", command.offset + 24, "library", command)
        kind = next((name for bit, name in _USE_FLAGS if flags & bit), kind)
    return Library(
        name=_text(image, command, "library", fixed=24),
        kind=kind,
        current_version=version_text(current),
        compatibility_version=version_text(compatibility),
    )


def texts(image: Image, commands: Sequence[LoadCommand], wanted: int) -> tuple[str, ...]:
    """The texts of all commands of one kind that hold nothing else."""
    found = (command for command in commands if command.command == wanted)
    return tuple(_text(image, command, command.name, fixed=12) for command in found)


def rpaths(image: Image, commands: Sequence[LoadCommand]) -> tuple[str, ...]:
    """Where `@rpath` is looked for, in order."""
    return texts(image, commands, LC_RPATH)


def dyld_environment(image: Image, commands: Sequence[LoadCommand]) -> tuple[str, ...]:
    """Variables that the code sets for dyld itself."""
    return texts(image, commands, _LC_DYLD_ENVIRONMENT)


def dylinker(image: Image, commands: Sequence[LoadCommand]) -> str | None:
    """The dynamic linker that a main executable asks for."""
    return next(iter(texts(image, commands, _LC_LOAD_DYLINKER)), None)


def uuid(image: Image, commands: Sequence[LoadCommand]) -> bytes | None:
    """The build's 16 bytes, which tell a debug companion from another's."""
    for command in commands:
        if command.command == _LC_UUID:
            (value,) = image.unpack("16s", command.offset + 8, "uuid", command)
            return bytes(value)
    return None


def _text(image: Image, command: LoadCommand, what: str, *, fixed: int) -> str:
    """The text that a command holds behind its fixed fields, up to the first zero."""
    (start,) = image.unpack("I", command.offset + 8, what, command)
    if not fixed <= start < command.size:
        raise bad(f"the text of a {what} command lies outside of it")
    raw = bytes(image.view[command.offset + start : command.offset + command.size])
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _fixed_name(raw: bytes) -> str:
    # As the system compares them: what follows a zero does not count.
    return raw.split(b"\0", 1)[0].decode("ascii", "backslashreplace")
