"""What a code directory says, and its digests; reached through `code_directory`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

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
VERSION_SCATTER = 0x20100
VERSION_TEAM = 0x20200
VERSION_CODE_LIMIT_64 = 0x20300
VERSION_EXEC_SEGMENT = 0x20400
VERSION_RUNTIME = 0x20500
VERSION_LINKAGE = 0x20600

_MAX_32 = 0xFFFFFFFF


class ScatterRange(NamedTuple):
    """Pages that stand together in code that is hashed in parts, as dyld's caches are."""

    pages: int
    """How many, and so how many code slots it takes."""
    base: int
    """Its first page's number in the file."""
    target_offset: int
    """Where it is mapped; 0 where nobody says."""
    spare: int = 0


class Layout(NamedTuple):
    """Where the parts of a blob stand that another writer ordered otherwise than Apple's."""

    identifier: int
    team: int
    scatter: int
    hashes: int
    """Of the first code slot; the special slots stand before it."""
    length: int
    gaps: tuple[tuple[int, bytes], ...]
    """Offset and bytes of what belongs to no part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeDirectory:
    """One code directory, as read or to be written."""

    version: int
    flags: int
    identifier: str
    team_id: str | None
    hash_type: int
    page_size_log2: int
    """12 or 14; 0 for one hash over everything, as disk images have it."""
    code_limit: int
    special_slots: int
    """The highest special slot that has a place, whether or not it is used."""
    special: Mapping[int, bytes]
    """Digest by special slot, unused (all zero) ones left out."""
    code_hashes: tuple[bytes, ...] = field(repr=False)
    platform: int = 0
    scatter: tuple[ScatterRange, ...] = ()
    """Which pages the code slots are for; empty where they are for all of them in order."""
    exec_segment_base: int = 0
    exec_segment_limit: int = 0
    exec_segment_flags: int = 0
    runtime: int = 0
    """The SDK's version in packed form; 0 before version 0x20500."""
    pre_encrypt_offset: int = 0
    linkage: bytes = b""
    """The twelve bytes that version 0x20600 added, as they stood."""
    spare2: int = 0
    spare3: int = 0
    code_limit_fields: tuple[int, int] | None = None
    """The 32-bit and the 64-bit field, where another writer filled them otherwise than ours."""
    layout: Layout | None = field(default=None, repr=False)
    """Where its parts stood, where that is not as our writer sets them."""
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
    def page_count(self) -> int:
        """Pages from the start to the code limit, hashed or not."""
        return -(-self.code_limit // self.page_size)

    @property
    def flag_names(self) -> tuple[str, ...]:
        """The set flags by name, an unnamed bit as its number."""
        bits = [1 << bit for bit in range(32) if self.flags >> bit & 1]
        return tuple(FLAG_NAMES.get(bit, f"{bit:#x}") for bit in bits)

    @property
    def is_whole(self) -> bool:
        """Whether the code slots cover every byte up to the code limit."""
        return len(self.code_hashes) == self.page_count

    def covered(self) -> Iterator[tuple[int, int]]:
        """Start and end in the code of what each code slot hashes, slot by slot."""
        ranges = self.scatter or (ScatterRange(len(self.code_hashes), 0, 0),)
        for part in ranges:
            for page in range(part.base, part.base + part.pages):
                start = page * self.page_size
                yield start, min(start + self.page_size, self.code_limit)

    def code_limits(self) -> tuple[int, int]:
        """The limit as its 32-bit and its 64-bit field hold it."""
        if self.code_limit_fields is not None:
            return self.code_limit_fields
        return (0, self.code_limit) if self.code_limit > _MAX_32 else (self.code_limit, 0)


def cdhash(raw: bytes) -> bytes:
    """The 20 bytes by which the system knows the code: the digest, cut.

    Raises:
        FormatError: the blob is no code directory or its digest is unknown.
    """
    return full_digest(raw)[:CDHASH_SIZE]


def full_digest(raw: bytes) -> bytes:
    """The blob's digest with its own algorithm, whole even where its slots are cut."""
    if len(raw) < 44 or int.from_bytes(raw[:4], "big") != superblob.MAGIC_CODE_DIRECTORY:
        raise bad("no code directory")
    name, _ = algorithm(raw[37])
    return hashlib.new(name, raw).digest()


def digest(data: bytes | memoryview, hash_type: int) -> bytes:
    """A slot's digest of the given kind."""
    name, size = algorithm(hash_type)
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
        raise bad(f"it covers {code_limit} bytes, the code has {len(data)}")
    view = memoryview(data)[:code_limit]
    step = 1 << page_size_log2 if page_size_log2 else max(code_limit, 1)
    name, size = algorithm(hash_type)
    for start in range(0, code_limit, step):
        yield hashlib.new(name, view[start : start + step]).digest()[:size]


def slot_hashes(directory: CodeDirectory, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
    """Hash what each code slot of a directory is for, scattered or not.

    Raises:
        FormatError: the code is shorter than the directory's limit.
    """
    if not directory.scatter:
        yield from page_hashes(
            data,
            code_limit=directory.code_limit,
            page_size_log2=directory.page_size_log2,
            hash_type=directory.hash_type,
        )
        return
    if directory.code_limit > len(data):
        raise bad(f"it covers {directory.code_limit} bytes, the code has {len(data)}")
    view = memoryview(data)
    name, size = algorithm(directory.hash_type)
    for start, end in directory.covered():
        yield hashlib.new(name, view[start:end]).digest()[:size]


def algorithm(hash_type: int) -> tuple[str, int]:
    """The digest's name for hashlib, and how many of its bytes a slot keeps."""
    found = _ALGORITHMS.get(hash_type)
    if found is None:
        raise bad(f"digest {hash_type} is unknown")
    return found


def bad(message: str, observed: str = "") -> errors.FormatError:
    """The format's error."""
    return errors.FormatError(f"not a code directory: {message}", observed=observed)
