"""Tamperings of one slice of one signed Mach-O: bytes, directory, slots and container."""

from __future__ import annotations

import plistlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from release_tool.apple import code_directory, entitlements, macho, requirement, signing, superblob
from tests import macho_samples

_LC_MAIN = 0x80000028
_LC_BUILD_VERSION = 0x32
_LC_VERSION_MIN_MACOSX = 0x24
_LC_SEGMENT_64 = 0x19
_LC_LOAD_DYLIB = 0x0C


@dataclass(frozen=True)
class Code:
    """A signed file and the slice of it that is tampered with."""

    data: bytes
    arch: str
    other: bytes
    """Signed code of somebody else."""

    @cached_property
    def slice(self) -> macho.Slice:
        return next(item for item in macho.parse(self.data) if item.arch == self.arch)

    @cached_property
    def blob(self) -> superblob.SuperBlob:
        room = self.slice.signature_bytes
        assert room is not None
        return superblob.parse(room)

    @property
    def is_universal(self) -> bool:
        return macho.is_universal(self.data)

    @property
    def room(self) -> tuple[int, int]:
        """Offset in the file and size of the signature's room."""
        assert self.slice.signature is not None
        offset, size = self.slice.signature
        return self.slice.offset + offset, size

    @property
    def directory(self) -> bytes:
        return self.blob.code_directories[0]

    def command(self, number: int) -> macho.LoadCommand:
        return next(item for item in self.slice.commands if item.command == number)

    def section(self, name: str) -> macho.Section:
        sections = (item for segment in self.slice.segments for item in segment.sections)
        return next(item for item in sections if item.name == name)

    def patched(self, at: int, new: bytes) -> bytes:
        """The file with other bytes at an offset in the slice."""
        start = self.slice.offset + at
        return self.data[:start] + new + self.data[start + len(new) :]

    def flipped(self, at: int, mask: int = 1) -> bytes:
        return self.patched(at, bytes([self.slice.data[at] ^ mask]))

    def with_room(self, content: bytes) -> bytes:
        """The file with another signature in the same room."""
        offset, size = self.room
        assert len(content) <= size, "it has to fit"
        return self.data[:offset] + content.ljust(size, b"\0") + self.data[offset + size :]

    def with_blobs(self, blobs: list[tuple[int, bytes]]) -> bytes:
        return self.with_room(superblob.encode(blobs))

    def with_blob(self, slot: int, content: bytes | None) -> bytes:
        """The file with one blob replaced, added behind the others, or left out."""
        blobs = list(self.blob.blobs)
        if content is None:
            blobs = [item for item in blobs if item[0] != slot]
        elif slot in self.blob.slots:
            blobs = [(found, content if found == slot else raw) for found, raw in blobs]
        else:
            blobs.append((slot, content))
        return self.with_blobs(blobs)

    def with_directory(self, at: int, new: bytes) -> bytes:
        """The file with other bytes at an offset in the code directory, its length kept."""
        raw = self.directory
        at = at % len(raw)
        return self.with_blob(superblob.SLOT_CODE_DIRECTORY, raw[:at] + new + raw[at + len(new) :])

    def directory_flipped(self, at: int, mask: int = 1) -> bytes:
        return self.with_directory(at, bytes([self.directory[at] ^ mask]))


class CodeTampering(NamedTuple):
    """One change of one slice."""

    name: str
    change: Callable[[Code], bytes]
    caught_by: str
    universal_only: bool = False


def table() -> Iterator[CodeTampering]:
    """Every tampering with code but those of the CMS."""
    yield from _bytes()
    yield from _commands()
    yield from _universal()
    yield from _fields()
    yield from _hashes()
    yield from _slots()
    yield from _container()


# Bytes that pages cover


def _bytes() -> Iterator[CodeTampering]:
    pages = "page hashes"
    yield CodeTampering("the magic", lambda code: code.flipped(0), "format")
    yield CodeTampering("the header's reserved word", lambda code: code.flipped(28), pages)
    yield CodeTampering("the header's flags", lambda code: code.flipped(24), pages)
    yield CodeTampering(
        "the first instruction", lambda code: code.flipped(code.section("__text").offset), pages
    )
    yield CodeTampering("the last instruction", _last_instruction, pages)
    yield CodeTampering(
        "a string", lambda code: code.flipped(code.section("__cstring").offset), pages
    )
    yield CodeTampering("a constant", lambda code: code.flipped(_data_offset(code)), pages)
    yield CodeTampering("the space behind the commands", _slack, pages)
    yield CodeTampering("the symbol table", lambda code: code.flipped(_linkedit(code)), pages)
    yield CodeTampering(
        "the last byte before the signature", lambda code: code.flipped(_limit(code) - 1), pages
    )
    yield CodeTampering("a page of zeros", _emptied, pages)

    yield CodeTampering("two pages exchanged", _exchanged, pages)
    yield CodeTampering("a page repeated", _repeated, pages)
    yield CodeTampering("a page shifted by a byte", _shifted, pages)
    yield CodeTampering("cut in the code", lambda code: code.data[: code.room[0] // 2], "format")
    yield CodeTampering("cut in the last signature", lambda code: code.data[:-64], "format")
    yield CodeTampering("emptied", lambda _: b"", "format")


def _last_instruction(code: Code) -> bytes:
    section = code.section("__text")
    return code.flipped(section.offset + section.size - 1)


def _data_offset(code: Code) -> int:
    data = next(item for item in code.slice.segments if item.name.startswith("__DATA"))
    return data.offset if data.size else 4096


def _linkedit(code: Code) -> int:
    assert code.slice.linkedit is not None
    return code.slice.linkedit.offset


def _limit(code: Code) -> int:
    assert code.slice.signature is not None
    return code.slice.signature[0]


def _slack(code: Code) -> bytes:
    return code.flipped(code.slice.commands_end + 4)


_PAGE = 4096


def _two_pages(code: Code) -> tuple[int, int]:
    """Two pages behind the load commands that differ, and are not empty."""
    first = code.slice.commands_end // _PAGE + 1
    pages = {
        bytes(code.slice.data[at : at + _PAGE]): at
        for at in range(first * _PAGE, _limit(code) - _PAGE, _PAGE)
        if any(code.slice.data[at : at + _PAGE])
    }
    one, two, *_ = sorted(pages.values())
    return one, two


def _page(code: Code, at: int) -> bytes:
    return bytes(code.slice.data[at : at + _PAGE])


def _emptied(code: Code) -> bytes:
    return code.patched(_two_pages(code)[0], bytes(_PAGE))


def _exchanged(code: Code) -> bytes:
    one, two = _two_pages(code)
    changed = Code(code.patched(one, _page(code, two)), code.arch, code.other)
    return changed.patched(two, _page(code, one))


def _repeated(code: Code) -> bytes:
    one, two = _two_pages(code)
    return code.patched(two, _page(code, one))


def _shifted(code: Code) -> bytes:
    at = _two_pages(code)[0]
    return code.patched(at, b"\xcc" + _page(code, at)[:-1])


# Load commands


def _commands() -> Iterator[CodeTampering]:
    pages = "page hashes"
    yield CodeTampering("the minimum macOS lowered", _older, pages)
    yield CodeTampering(
        "the entry point moved",
        lambda code: code.flipped(code.command(_LC_MAIN).offset + 8, 4),
        pages,
    )
    yield CodeTampering("a library redirected", _redirected, pages)
    yield CodeTampering("a library inserted", _inserted, pages)
    yield CodeTampering("a segment made writable", _writable, pages)
    yield CodeTampering("the signature taken off", _unsigned, "signature")
    yield CodeTampering(
        "the signature's offset moved", lambda code: _moved(code, 16, 0), "signature"
    )
    yield CodeTampering(
        "the signature's offset before the code's end",
        lambda code: _moved(code, -16, 16),
        "signature",
    )
    yield CodeTampering(
        "the signature's size beyond the file", lambda code: _moved(code, 0, 1 << 30), "format"
    )
    yield CodeTampering("the signature's size cut", _cut_room, "signature")
    yield CodeTampering("a second signature command", _second_command, "format")
    yield CodeTampering("a load command without an end", _endless, "format")


def _older(code: Code) -> bytes:
    """`LC_BUILD_VERSION` has the platform in front; older linkers write another command."""
    numbers = {item.command for item in code.slice.commands}
    if _LC_BUILD_VERSION in numbers:
        at = code.command(_LC_BUILD_VERSION).offset + 12
    else:
        at = code.command(_LC_VERSION_MIN_MACOSX).offset + 8
    return code.patched(at, struct.pack("<I", 0x000A0400))


def _redirected(code: Code) -> bytes:
    command = code.command(_LC_LOAD_DYLIB)
    return code.patched(command.offset + 24, b"/tmp/")


def _inserted(code: Code) -> bytes:
    """One more library in the room behind the commands: the common way to add a payload."""
    name = b"@executable_path/x.dylib\0".ljust(32, b"\0")
    command = struct.pack("<IIIIII", _LC_LOAD_DYLIB, 24 + len(name), 24, 0, 0, 0) + name
    end = code.slice.commands_end
    counts = struct.pack(
        "<II", len(code.slice.commands) + 1, end - macho.HEADER_SIZE + len(command)
    )
    start = code.slice.offset + end
    whole = code.patched(16, counts)
    return whole[:start] + command + whole[start + len(command) :]


def _writable(code: Code) -> bytes:
    return code.flipped(code.command(_LC_SEGMENT_64).offset + 56, 2)


def _unsigned(code: Code) -> bytes:
    return code.patched(code.command(macho.LC_CODE_SIGNATURE).offset, struct.pack("<I", 0x1E))


def _moved(code: Code, by: int, longer: int) -> bytes:
    assert code.slice.signature is not None
    offset, size = code.slice.signature
    fields = struct.pack("<II", offset + by, min(size - max(by, 0) + longer, 0xFFFFFFFF))
    return code.patched(code.command(macho.LC_CODE_SIGNATURE).offset + 8, fields)


def _cut_room(code: Code) -> bytes:
    at = code.command(macho.LC_CODE_SIGNATURE).offset + 12
    return code.patched(at, struct.pack("<I", code.blob.length - 16))


def _second_command(code: Code) -> bytes:
    return code.patched(code.command(_LC_MAIN).offset, struct.pack("<I", macho.LC_CODE_SIGNATURE))


def _endless(code: Code) -> bytes:
    return code.patched(code.command(_LC_MAIN).offset + 4, struct.pack("<I", 1 << 20))


# The universal header


def _universal() -> Iterator[CodeTampering]:
    def entry(
        name: str, change: Callable[[Code], bytes], caught_by: str = "format"
    ) -> CodeTampering:
        return CodeTampering(name, change, caught_by, universal_only=True)

    yield entry("the universal header's processor", lambda code: _entry(code, 0, 0x01000000 | 18))
    yield entry("the universal header's subtype", lambda code: _entry(code, 4, 8))
    yield entry("a slice's offset off its alignment", lambda code: _entry_add(code, 8, 4))
    yield entry("a slice's offset beyond the file", lambda code: _entry(code, 8, 1 << 31))
    yield entry("a slice's size beyond the file", lambda code: _entry(code, 12, 1 << 31))
    yield entry("a slice's size cut", lambda code: _entry_add(code, 12, -4096))
    yield entry("slices that overlap", _overlapping)
    yield entry("no slice at all", lambda code: code.data[:4] + bytes(4) + code.data[8:])
    yield entry("more slices than fit", lambda code: code.data[:4] + b"\0\0\0\x1f" + code.data[8:])
    yield entry("a second slice for the processor", _third_slice)
    yield entry("a byte in a gap", _in_gap, "gaps")
    yield entry("bytes behind the last slice", lambda code: code.data + b"#!/bin/sh\n", "gaps")
    yield entry("a slice that the header does not count", _uncounted, "gaps")
    yield entry("an unsigned slice in its place", _unsigned_slice, "signature")
    yield entry("an ad-hoc slice in its place", _adhoc_slice, "slices")
    yield entry("the slice unsigned by a copy of the other", _other_room, "page hashes")


def _entry_at(code: Code) -> int:
    """Where the slice's entry stands in the universal header."""
    for index in range(len(macho.parse(code.data))):
        at = 8 + index * 20
        if struct.unpack_from(">I", code.data, at + 8)[0] == code.slice.offset:
            return at
    raise AssertionError("no entry")


def _entry(code: Code, field: int, value: int) -> bytes:
    at = _entry_at(code) + field
    return code.data[:at] + struct.pack(">I", value) + code.data[at + 4 :]


def _entry_add(code: Code, field: int, by: int) -> bytes:
    (old,) = struct.unpack_from(">I", code.data, _entry_at(code) + field)
    return _entry(code, field, old + by)


def _in_gap(code: Code) -> bytes:
    at = code.slice.offset - 1
    return code.data[:at] + b"\x01" + code.data[at + 1 :]


def _uncounted(code: Code) -> bytes:
    """Some readers take one entry more than the header counts, for an arm64 slice of old."""
    at = 8 + len(macho.parse(code.data)) * 20
    entry = struct.pack(">IIIII", 0x0100000C, 0, code.slice.offset, code.slice.size, 14)
    return code.data[:at] + entry + code.data[at + len(entry) :]


def _overlapping(code: Code) -> bytes:
    other = next(item for item in macho.parse(code.data) if item.arch != code.arch)
    return _entry(code, 8, other.offset)


def _sample(code: Code) -> str:
    return macho_samples.ARM if code.arch == "arm64" else macho_samples.INTEL


def _third_slice(code: Code) -> bytes:
    """One more slice for the same processor: readers would differ in which one counts."""
    extra = macho_samples.unsigned(_sample(code))
    start = -(-len(code.data) // 0x4000) * 0x4000
    count = len(macho.parse(code.data))
    fields = (code.slice.cpu_type, code.slice.cpu_subtype, start, len(extra), 14)
    at = 8 + count * 20
    head = code.data[:4] + struct.pack(">I", count + 1) + code.data[8:at]
    head += struct.pack(">IIIII", *fields)
    return (head + code.data[at + 20 :]).ljust(start, b"\0") + extra


def _instead(code: Code, new: bytes) -> bytes:
    """Another slice for the same processor, at the file's end; the old one lies in a gap."""
    start = -(-len(code.data) // 0x4000) * 0x4000
    (item,) = macho.parse(new)
    fields = (item.cpu_type, item.cpu_subtype, start, len(new))
    at = _entry_at(code)
    head = code.data[:at] + struct.pack(">IIII", *fields) + code.data[at + 16 :]
    return head.ljust(start, b"\0") + new


def _unsigned_slice(code: Code) -> bytes:
    return _instead(code, macho_samples.unsigned(_sample(code)))


def _adhoc_slice(code: Code) -> bytes:
    identifier = code_directory.parse(code.directory).identifier
    intent = signing.Intent(identifier=identifier)
    return _instead(code, signing.sign(macho_samples.thin(_sample(code)), intent, None).data)


def _other_room(code: Code) -> bytes:
    """The signature of the file's other slice: valid, but of other code."""
    other = next(item for item in macho.parse(code.data) if item.arch != code.arch)
    assert other.signature_bytes is not None
    length = superblob.parse(other.signature_bytes).length
    return code.with_room(bytes(other.signature_bytes[:length])[: code.room[1]])


# Fields of the code directory


_FIELDS = (
    ("version", 8, 0x01),
    ("flags: the hardened runtime off", 13, 0x01),
    ("flags: ad-hoc", 15, 0x02),
    ("flags: linker-signed", 13, 0x02),
    ("flags: library validation", 14, 0x20),
    ("flags: kill", 14, 0x02),
    ("hash offset", 19, 0x04),
    ("identifier offset", 23, 0x01),
    ("count of special slots", 27, 0x01),
    ("count of code slots", 31, 0x01),
    ("code limit", 35, 0x01),
    ("hash size", 36, 0x10),
    ("hash type", 37, 0x03),
    ("platform", 38, 0x01),
    ("page size", 39, 0x01),
    ("spare word", 43, 0x01),
    ("scatter offset", 47, 0x40),
    ("team offset", 51, 0x01),
    ("second spare word", 55, 0x01),
    ("code limit of 64 bits", 63, 0x01),
    ("exec segment's base", 71, 0x01),
    ("exec segment's limit", 78, 0x10),
    ("exec segment's flags: get-task-allow", 87, 0x10),
    ("exec segment's flags: JIT", 87, 0x40),
    ("exec segment's flags: skips library validation", 87, 0x80),
    ("runtime version", 89, 0x01),
    ("pre-encryption offset", 95, 0x01),
)


def _fields() -> Iterator[CodeTampering]:
    for name, at, mask in _FIELDS:
        yield CodeTampering(f"code directory: {name}", _flipping(at, mask), "signature")
    yield CodeTampering("code directory: identifier", _identifier, "signature")
    yield CodeTampering("code directory: team", _team, "signature")
    yield CodeTampering("code directory: its length", lambda code: _lengthened(code), "signature")
    yield CodeTampering(
        "code directory: its magic", lambda code: code.directory_flipped(3), "signature"
    )


def _flipping(at: int, mask: int) -> Callable[[Code], bytes]:
    return lambda code: code.directory_flipped(at, mask)


def _identifier(code: Code) -> bytes:
    return code.directory_flipped(code_directory.parse(code.directory).raw.index(b"."), 1)


def _team(code: Code) -> bytes:
    team = code_directory.parse(code.directory).team_id or ""
    return code.directory_flipped(code.directory.index(team.encode() + b"\0"), 1)


def _lengthened(code: Code) -> bytes:
    raw = code.directory + bytes(4)
    return code.with_blob(
        superblob.SLOT_CODE_DIRECTORY, raw[:4] + struct.pack(">I", len(raw)) + raw[8:]
    )


# Hashes, and content with the hash adjusted to it


def _hash_offset(code: Code) -> int:
    return int(struct.unpack_from(">I", code.directory, 16)[0])


def _hashes() -> Iterator[CodeTampering]:
    yield CodeTampering(
        "the first page's hash",
        lambda code: code.directory_flipped(_hash_offset(code)),
        "signature",
    )
    yield CodeTampering(
        "the last page's hash",
        lambda code: code.directory_flipped(len(code.directory) - 1),
        "signature",
    )
    yield CodeTampering(
        "the requirements' hash",
        lambda code: code.directory_flipped(_hash_offset(code) - 64),
        "signature",
    )
    yield CodeTampering("two page hashes exchanged", _exchanged_hashes, "signature")
    yield CodeTampering("a page with its hash adjusted", _adjusted_page, "signature")
    yield CodeTampering(
        "the requirements with their hash adjusted", _adjusted_requirements, "signature"
    )
    yield CodeTampering(
        "the Info.plist's hash",
        lambda code: code.directory_flipped(_hash_offset(code) - 32),
        "signature",
    )


def _exchanged_hashes(code: Code) -> bytes:
    at = _hash_offset(code)
    raw = code.directory
    return code.with_directory(at, raw[at + 32 : at + 64] + raw[at : at + 32])


def _adjusted_page(code: Code) -> bytes:
    """What a careless check of pages alone would take."""
    at = code.slice.commands_end + 4
    changed = Code(code.flipped(at), code.arch, code.other)
    directory = code_directory.parse(code.directory)
    pages = code_directory.page_hashes(
        changed.slice.data,
        code_limit=directory.code_limit,
        page_size_log2=directory.page_size_log2,
        hash_type=directory.hash_type,
    )
    number = at // directory.page_size
    start = _hash_offset(code) + number * directory.hash_size
    return changed.with_directory(start, list(pages)[number])


def _weak_requirements() -> bytes:
    return requirement.encode_set({requirement.DESIGNATED: requirement.parse_text("always")})


def _adjusted_requirements(code: Code) -> bytes:
    weak = _weak_requirements()
    digest = code_directory.digest(weak, code_directory.parse(code.directory).hash_type)
    changed = Code(
        code.with_directory(_hash_offset(code) - 2 * len(digest), digest), code.arch, code.other
    )
    return changed.with_blob(superblob.SLOT_REQUIREMENTS, weak)


# Slots


def _slots() -> Iterator[CodeTampering]:
    plist = plistlib.dumps({"com.apple.security.get-task-allow": True})
    yield CodeTampering(
        "the requirements weakened",
        lambda code: code.with_blob(superblob.SLOT_REQUIREMENTS, _weak_requirements()),
        "requirements hash",
    )
    yield CodeTampering(
        "the requirements left out",
        lambda code: code.with_blob(superblob.SLOT_REQUIREMENTS, None),
        "requirements hash",
    )
    yield CodeTampering("a byte of the requirements", _requirement_byte, "requirements hash")
    yield CodeTampering(
        "other entitlements",
        lambda code: code.with_blob(
            superblob.SLOT_ENTITLEMENTS, superblob.wrap(superblob.MAGIC_ENTITLEMENTS, plist)
        ),
        "entitlements hash",
    )
    yield CodeTampering(
        "other DER entitlements",
        lambda code: code.with_blob(
            superblob.SLOT_ENTITLEMENTS_DER,
            entitlements.der_blob({"com.apple.security.get-task-allow": True}),
        ),
        "DER entitlements hash",
    )
    for slot in range(8, 12):
        yield CodeTampering(
            f"a launch constraint in slot {slot}", _constraint(slot), f"special slot {slot}"
        )
    yield CodeTampering(
        "no CMS", lambda code: code.with_blob(superblob.SLOT_CMS, None), "signature"
    )
    yield CodeTampering(
        "an empty CMS",
        lambda code: code.with_blob(
            superblob.SLOT_CMS, superblob.wrap(superblob.MAGIC_WRAPPER, b"")
        ),
        "signature",
    )
    yield CodeTampering(
        "no code directory",
        lambda code: code.with_blob(superblob.SLOT_CODE_DIRECTORY, None),
        "signature",
    )
    yield CodeTampering("an alternate directory of SHA-1", _alternate, "cdhashes in the signature")
    yield CodeTampering(
        "the directory as an alternate behind a forged one", _forged_first, "signature"
    )
    yield CodeTampering("somebody else's directory", _other_directory, "signature")
    yield CodeTampering("somebody else's whole signature", _other_signature, "signature")
    yield CodeTampering("somebody else's CMS", _other_cms, "signature")


def _constraint(slot: int) -> Callable[[Code], bytes]:
    return lambda code: code.with_blob(slot, superblob.wrap(0xFADE8181, b"\x30\0"))


def _requirement_byte(code: Code) -> bytes:
    raw = code.blob.get(superblob.SLOT_REQUIREMENTS) or b""
    return code.with_blob(superblob.SLOT_REQUIREMENTS, raw[:-1] + bytes([raw[-1] ^ 1]))


def _alternate(code: Code, slot: int = superblob.SLOTS_ALTERNATE[0]) -> bytes:
    """A second directory that nobody signed: a reader may choose it."""
    first = code_directory.parse(code.directory)
    pages = list(
        code_directory.page_hashes(
            code.slice.data,
            code_limit=first.code_limit,
            page_size_log2=24,
            hash_type=code_directory.SHA1,
        )
    )
    forged = code_directory.CodeDirectory(
        version=0x20200,
        flags=first.flags,
        identifier=first.identifier,
        team_id=first.team_id,
        hash_type=code_directory.SHA1,
        page_size_log2=24,
        code_limit=first.code_limit,
        special_slots=0,
        special={},
        code_hashes=tuple(pages),
    )
    return code.with_blob(slot, code_directory.encode(forged))


def _forged_first(code: Code) -> bytes:
    """The signed directory stays, as an alternate; the one that readers take first is forged."""
    small = code_directory.encode(
        code_directory.CodeDirectory(
            version=0x20200,
            flags=0,
            identifier="forged",
            team_id=code_directory.parse(code.directory).team_id,
            hash_type=code_directory.SHA256,
            page_size_log2=24,
            code_limit=0,
            special_slots=0,
            special={},
            code_hashes=(),
        )
    )
    blobs = [
        (superblob.SLOTS_ALTERNATE[0] if slot == superblob.SLOT_CODE_DIRECTORY else slot, raw)
        for slot, raw in code.blob.blobs
    ]
    return code.with_blobs([(superblob.SLOT_CODE_DIRECTORY, small), *blobs])


def _other_blob(code: Code) -> superblob.SuperBlob:
    room = macho.parse(code.other)[-1].signature_bytes
    assert room is not None
    return superblob.parse(room)


def _other_directory(code: Code) -> bytes:
    raw = code_directory.parse(code.directory)
    other = code_directory.parse(_other_blob(code).code_directories[0])
    forged = code_directory.CodeDirectory(
        version=raw.version,
        flags=raw.flags,
        identifier=other.identifier[: len(raw.identifier)],
        team_id=other.team_id,
        hash_type=raw.hash_type,
        page_size_log2=raw.page_size_log2,
        code_limit=raw.code_limit,
        special_slots=raw.special_slots,
        special=raw.special,
        code_hashes=raw.code_hashes,
    )
    return code.with_blob(superblob.SLOT_CODE_DIRECTORY, code_directory.encode(forged))


def _other_signature(code: Code) -> bytes:
    """The CMS and the requirements of somebody else around this code's directory."""
    other = _other_blob(code)
    blobs = [
        (slot, raw if slot == superblob.SLOT_CODE_DIRECTORY else other.get(slot) or raw)
        for slot, raw in code.blob.blobs
    ]
    return code.with_blobs(blobs)


def _other_cms(code: Code) -> bytes:
    return code.with_blob(superblob.SLOT_CMS, _other_blob(code).get(superblob.SLOT_CMS))


# The container


def _container() -> Iterator[CodeTampering]:
    def at(name: str, offset: int, value: int) -> CodeTampering:
        return CodeTampering(
            f"container: {name}", lambda code: _word(code, offset, value), "signature"
        )

    yield at("its magic", 0, 0xFADE0CC1)
    yield at("a length beyond its room", 4, 0x7FFFFFFF)
    yield at("a length inside its index", 4, 16)
    yield at("no blobs", 8, 0)
    yield at("more blobs than it has", 8, 60)
    yield at("more blobs than anybody reads", 8, 0xFFFFFFFF)
    yield at("the directory in no known slot", 12, 0x77)
    yield at("the directory outside", 16, 0x7FFFFFF0)
    yield at("the directory over the index", 16, 8)
    yield CodeTampering("container: two blobs in one slot", _doubled, "signature")
    yield CodeTampering("container: two blobs in the same bytes", _shared, "signature")
    yield CodeTampering("container: a blob longer than the rest", _long_blob, "signature")
    yield CodeTampering("container: zeros", lambda code: code.with_room(b""), "signature")
    yield CodeTampering("container: another wrapper around the CMS", _wrapper, "signature")


def _word(code: Code, at: int, value: int) -> bytes:
    start = code.room[0] + at
    return code.data[:start] + struct.pack(">I", value) + code.data[start + 4 :]


def _doubled(code: Code) -> bytes:
    (slot,) = struct.unpack_from(">I", code.data, code.room[0] + 12)
    return _word(code, 20, slot)


def _shared(code: Code) -> bytes:
    (offset,) = struct.unpack_from(">I", code.data, code.room[0] + 16)
    return _word(code, 24, offset)


def _long_blob(code: Code) -> bytes:
    (offset,) = struct.unpack_from(">I", code.data, code.room[0] + 16)
    return _word(code, offset + 4, 0x00FFFFFF)


def _wrapper(code: Code) -> bytes:
    raw = code.blob.get(superblob.SLOT_CMS) or b""
    return code.with_blob(superblob.SLOT_CMS, b"\xfa\xde\x71\x71" + raw[4:])


# Two directories


def dual_table() -> Iterator[CodeTampering]:
    """Tamperings of the second directory of code that has two, one of SHA-1 and one of SHA-256."""
    listed = "cdhashes in the signature"
    yield CodeTampering("second directory: a page's hash", _second(-1), "page hashes")
    yield CodeTampering("second directory: a page's hash, listed", _second(-1), listed)
    yield CodeTampering("second directory: its flags", _second(15), listed)
    yield CodeTampering("second directory: one identity", _second(13), "code directories")
    yield CodeTampering("second directory: left out", _without_second, listed)
    yield CodeTampering("second directory: a third beside it", _third, listed)
    yield CodeTampering(
        "second directory: exchanged with the first", _directories_exchanged, "signature"
    )
    yield CodeTampering("second directory: the only one", _only_second, "signature")
    yield CodeTampering("second directory: of another code limit", _second(35), "covered code")


def _second(at: int) -> Callable[[Code], bytes]:
    def change(code: Code) -> bytes:
        raw = code.blob.get(superblob.SLOTS_ALTERNATE[0]) or b""
        place = at % len(raw)
        new = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        return code.with_blob(superblob.SLOTS_ALTERNATE[0], new)

    return change


def _without_second(code: Code) -> bytes:
    return code.with_blob(superblob.SLOTS_ALTERNATE[0], None)


def _third(code: Code) -> bytes:
    return _alternate(code, superblob.SLOTS_ALTERNATE[1])


def _directories_exchanged(code: Code) -> bytes:
    first, second = superblob.SLOT_CODE_DIRECTORY, superblob.SLOTS_ALTERNATE[0]
    other = {first: second, second: first}
    return code.with_blobs([(other.get(slot, slot), raw) for slot, raw in code.blob.blobs])


def _only_second(code: Code) -> bytes:
    first, second = superblob.SLOT_CODE_DIRECTORY, superblob.SLOTS_ALTERNATE[0]
    kept = [item for item in code.blob.blobs if item[0] != first]
    return code.with_blobs([(first if slot == second else slot, raw) for slot, raw in kept])
