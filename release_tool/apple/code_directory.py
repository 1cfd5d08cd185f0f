"""The code directory: the hashes of every page and special slot, and what they belong to.

Source: xnu's `cs_blobs.h` and measured signatures. Every version is read; the
layout is always Apple's: header, identifier, team, special slots, code slots.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from release_tool import errors
from release_tool.apple import superblob

ADHOC = 0x2
RUNTIME = 0x10000
LINKER_SIGNED = 0x20000

FLAG_NAMES: Mapping[int, str] = MappingProxyType(
    {
        0x1: "host",
        ADHOC: "adhoc",
        0x100: "hard",
        0x200: "kill",
        0x400: "expires",
        0x800: "restrict",
        0x1000: "enforcement",
        0x2000: "library-validation",
        RUNTIME: "runtime",
        LINKER_SIGNED: "linker-signed",
    }
)

SHA1, SHA256, SHA256_TRUNCATED, SHA384, SHA512 = 1, 2, 3, 4, 5
CDHASH_SIZE = 20

_ALGORITHMS = {
    SHA1: ("sha1", 20),
    SHA256: ("sha256", 32),
    SHA256_TRUNCATED: ("sha256", 20),
    SHA384: ("sha384", 48),
    SHA512: ("sha512", 64),
}
VERSION_EXEC_SEGMENT = 0x20400
VERSION_RUNTIME = 0x20500
_OLDEST, _TOO_NEW = 0x20000, 0x30000
# Where the header ends, by the version that brought its last fields.
_HEADER_SIZES = (
    (0x20600, 108),
    (VERSION_RUNTIME, 96),
    (VERSION_EXEC_SEGMENT, 88),
    (0x20300, 64),
    (0x20200, 52),
    (0x20100, 48),
    (_OLDEST, 44),
)
_BASE = struct.Struct(">IIIIIIIIIBBBBI")
# The kernel maps pages of 4 or 16 KiB; disk images use 0, one hash over everything.
_MAX_PAGE_SIZE_LOG2 = 24
# Apple's identifiers are reverse domain names; the kernel stops at PATH_MAX.
_MAX_NAME = 1024
_MAX_SPECIAL_SLOTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeDirectory:
    """One code directory, as read or to be written."""

    version: int
    flags: int
    identifier: str
    team_id: str | None
    hash_type: int
    page_size_log2: int
    code_limit: int
    special_slots: int
    """The highest special slot that has a place, whether or not it is used."""
    special: Mapping[int, bytes]
    """Digest by special slot, unused (all zero) ones left out."""
    code_hashes: tuple[bytes, ...] = field(repr=False)
    platform: int = 0
    exec_segment_base: int = 0
    exec_segment_limit: int = 0
    exec_segment_flags: int = 0
    runtime: int = 0
    """The SDK's version in packed form; 0 before version 0x20500."""
    pre_encrypt_offset: int = 0
    linkage: bytes = b""
    """The twelve bytes that version 0x20600 added, as they stood."""
    raw: bytes = field(default=b"", repr=False)
    """The whole blob as it was read; empty for one that was never encoded."""

    @property
    def algorithm(self) -> str:
        """The digest's name for hashlib."""
        return _ALGORITHMS[self.hash_type][0]

    @property
    def hash_size(self) -> int:
        """Bytes of each slot."""
        return _ALGORITHMS[self.hash_type][1]

    @property
    def page_size(self) -> int:
        """Bytes under one code hash."""
        return 1 << self.page_size_log2 if self.page_size_log2 else max(self.code_limit, 1)

    @property
    def flag_names(self) -> tuple[str, ...]:
        """The set flags by name, an unnamed bit as its number."""
        bits = [1 << bit for bit in range(32) if self.flags >> bit & 1]
        return tuple(FLAG_NAMES.get(bit, f"{bit:#x}") for bit in bits)


def cdhash(raw: bytes) -> bytes:
    """The 20 bytes by which the system knows the code: the digest, cut.

    Raises:
        FormatError: the blob is no code directory or its digest is unknown.
    """
    return full_digest(raw)[:CDHASH_SIZE]


def full_digest(raw: bytes) -> bytes:
    """The blob's digest with its own algorithm, whole even where its slots are cut."""
    if len(raw) < 44 or int.from_bytes(raw[:4], "big") != superblob.MAGIC_CODE_DIRECTORY:
        raise _bad("no code directory")
    name, _ = _algorithm(raw[37])
    return hashlib.new(name, raw).digest()


def digest(data: bytes | memoryview, hash_type: int) -> bytes:
    """A slot's digest of the given kind."""
    name, size = _algorithm(hash_type)
    return hashlib.new(name, data).digest()[:size]


def page_hashes(
    data: bytes | bytearray | memoryview,
    *,
    code_limit: int,
    page_size_log2: int,
    hash_type: int,
) -> Iterator[bytes]:
    """Hash the code from its start to `code_limit`, page by page; the last page is short.

    Raises:
        FormatError: the code is shorter than `code_limit`.
    """
    if code_limit > len(data):
        raise _bad(f"it covers {code_limit} bytes, the code has {len(data)}")
    view = memoryview(data)[:code_limit]
    step = 1 << page_size_log2 if page_size_log2 else max(code_limit, 1)
    name, size = _algorithm(hash_type)
    for start in range(0, code_limit, step):
        yield hashlib.new(name, view[start : start + step]).digest()[:size]


def encode(directory: CodeDirectory) -> bytes:
    """Write a code directory: header, identifier, team, special hashes, code hashes."""
    identifier = _c_string(directory.identifier)
    team = _c_string(directory.team_id) if directory.team_id else b""
    _, hash_size = _algorithm(directory.hash_type)
    header_size = _header_size(directory.version)
    team_offset = header_size + len(identifier)
    specials = range(directory.special_slots, 0, -1)
    hash_offset = team_offset + len(team) + len(specials) * hash_size
    empty = bytes(hash_size)
    hashes = [directory.special.get(slot, empty) for slot in specials]
    hashes += directory.code_hashes
    length = hash_offset + len(directory.code_hashes) * hash_size
    wide = directory.code_limit > 0xFFFFFFFF
    base = _BASE.pack(
        superblob.MAGIC_CODE_DIRECTORY,
        length,
        directory.version,
        directory.flags,
        hash_offset,
        header_size,
        directory.special_slots,
        len(directory.code_hashes),
        0 if wide else directory.code_limit,
        hash_size,
        directory.hash_type,
        directory.platform,
        directory.page_size_log2,
        0,
    )
    rest = _later_fields(directory, team_offset=team_offset if team else 0)
    return b"".join([(base + rest)[:header_size], identifier, team, *hashes])


def _later_fields(directory: CodeDirectory, *, team_offset: int) -> bytes:
    wide = directory.code_limit if directory.code_limit > 0xFFFFFFFF else 0
    fields = struct.pack(
        ">IIIQQQQII",
        0,
        team_offset,
        0,
        wide,
        directory.exec_segment_base,
        directory.exec_segment_limit,
        directory.exec_segment_flags,
        directory.runtime,
        directory.pre_encrypt_offset,
    )
    return fields + directory.linkage.ljust(12, b"\0")


def parse(raw: bytes) -> CodeDirectory:
    """Read a code directory of any version.

    Raises:
        FormatError: truncated, contradictory, or a version or digest that nobody knows.
    """
    if len(raw) < _BASE.size:
        raise _bad("truncated")
    header = _BASE.unpack_from(raw)
    magic, length, version, flags, hash_offset, name_offset, specials, codes = header[:8]
    limit, hash_size, hash_type, platform, log2, _ = header[8:]
    if magic != superblob.MAGIC_CODE_DIRECTORY or length != len(raw):
        raise _bad("another magic, or a length that is not the blob's")
    header_size = _header_size(version)
    later = _read_later_fields(raw, header_size)
    scatter, team_offset, _, limit64, base, exec_limit, exec_flags, runtime, encrypted = later
    _refuse_oddities(scatter=scatter, page_size_log2=log2, specials=specials)
    if _algorithm(hash_type)[1] != hash_size:
        raise _bad(f"digest {hash_type} does not have {hash_size} bytes")
    code_limit = limit64 or limit
    directory = CodeDirectory(
        version=version,
        flags=flags,
        identifier=_name(raw, name_offset, header_size),
        team_id=_name(raw, team_offset, header_size) if team_offset else None,
        hash_type=hash_type,
        page_size_log2=log2,
        code_limit=code_limit,
        special_slots=specials,
        special=_special(raw, hash_offset, specials, hash_size, header_size),
        code_hashes=_code_hashes(raw, hash_offset, codes, hash_size),
        platform=platform,
        exec_segment_base=base,
        exec_segment_limit=exec_limit,
        exec_segment_flags=exec_flags,
        runtime=runtime,
        pre_encrypt_offset=encrypted,
        linkage=raw[96:108] if header_size >= 108 else b"",
        raw=raw,
    )
    if codes != -(-code_limit // directory.page_size):
        raise _bad(f"{codes} code slots do not cover {code_limit} bytes")
    return directory


def _refuse_oddities(*, scatter: int, page_size_log2: int, specials: int) -> None:
    if scatter:
        raise _bad("scattered code is not supported by any macOS that we release for")
    if page_size_log2 > _MAX_PAGE_SIZE_LOG2 or specials > _MAX_SPECIAL_SLOTS:
        raise _bad(f"pages of 2^{page_size_log2} bytes, {specials} special slots")


def _read_later_fields(raw: bytes, header_size: int) -> tuple[int, ...]:
    if len(raw) < header_size:
        raise _bad("truncated in the header")
    known = raw[44:header_size].ljust(52, b"\0")
    return struct.unpack_from(">IIIQQQQII", known)


def _special(
    raw: bytes, hash_offset: int, count: int, size: int, header_size: int
) -> Mapping[int, bytes]:
    if not header_size + count * size <= hash_offset <= len(raw):
        raise _bad("the special slots lie outside the blob")
    found = {}
    for slot in range(1, count + 1):
        start = hash_offset - slot * size
        value = raw[start : start + size]
        if any(value):
            found[slot] = value
    return MappingProxyType(found)


def _code_hashes(raw: bytes, hash_offset: int, count: int, size: int) -> tuple[bytes, ...]:
    end = hash_offset + count * size
    if end > len(raw):
        raise _bad("truncated in the code slots")
    return tuple(raw[start : start + size] for start in range(hash_offset, end, size))


def _name(raw: bytes, offset: int, header_size: int) -> str:
    end = raw.find(b"\0", offset, offset + _MAX_NAME)
    if offset < header_size or end < 0:
        raise _bad("a name lies outside the blob")
    try:
        return raw[offset:end].decode("utf-8")
    except UnicodeDecodeError as problem:
        raise _bad("a name is not UTF-8") from problem


def _c_string(text: str) -> bytes:
    encoded = text.encode("utf-8")
    if not text or b"\0" in encoded or len(encoded) >= _MAX_NAME:
        raise _bad("an identifier or a team is empty, too long, or holds a zero", text[:80])
    return encoded + b"\0"


def _header_size(version: int) -> int:
    if not _OLDEST <= version < _TOO_NEW:
        raise _bad(f"version {version:#x} is unknown")
    return next(size for first, size in _HEADER_SIZES if version >= first)


def _algorithm(hash_type: int) -> tuple[str, int]:
    found = _ALGORITHMS.get(hash_type)
    if found is None:
        raise _bad(f"digest {hash_type} is unknown")
    return found


def _bad(message: str, observed: str = "") -> errors.FormatError:
    return errors.FormatError(f"not a code directory: {message}", observed=observed)
