"""The code directory: the hashes of every page and special slot, and what they belong to.

Source: xnu's `cs_blobs.h` and measured signatures. Every version is read. Apple's layout is
header, scatter ranges, identifier, team, special slots, code slots; another one is kept with the
bytes between its parts, so that encoding gives back what was read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from release_tool.apple import superblob
from release_tool.apple.code_directory_values import (
    ADHOC,
    CDHASH_SIZE,
    FLAG_NAMES,
    LINKER_SIGNED,
    RUNTIME,
    SHA1,
    SHA256,
    SHA256_TRUNCATED,
    SHA384,
    SHA512,
    VERSION_CODE_LIMIT_64,
    VERSION_EXEC_SEGMENT,
    VERSION_LINKAGE,
    VERSION_RUNTIME,
    VERSION_SCATTER,
    VERSION_TEAM,
    CodeDirectory,
    Layout,
    ScatterRange,
    algorithm,
    bad,
    cdhash,
    digest,
    full_digest,
    page_hashes,
    slot_hashes,
)

__all__ = [
    "ADHOC",
    "CDHASH_SIZE",
    "FLAG_NAMES",
    "LINKER_SIGNED",
    "RUNTIME",
    "SHA1",
    "SHA256",
    "SHA256_TRUNCATED",
    "SHA384",
    "SHA512",
    "VERSION_EXEC_SEGMENT",
    "VERSION_RUNTIME",
    "CodeDirectory",
    "Layout",
    "ScatterRange",
    "cdhash",
    "digest",
    "encode",
    "full_digest",
    "page_hashes",
    "parse",
    "slot_hashes",
]

_OLDEST, _TOO_NEW = 0x20000, 0x30000
# Where the header ends, by the version that brought its last fields.
_HEADER_SIZES = (
    (VERSION_LINKAGE, 108),
    (VERSION_RUNTIME, 96),
    (VERSION_EXEC_SEGMENT, 88),
    (VERSION_CODE_LIMIT_64, 64),
    (VERSION_TEAM, 52),
    (VERSION_SCATTER, 48),
    (_OLDEST, 44),
)
_LINKAGE_AT = 96
_BASE = struct.Struct(">IIIIIIIIIBBBBI")
_LATER = struct.Struct(">IIIQQQQII")
_SCATTER = struct.Struct(">IIQQ")
# The kernel maps pages of 4 or 16 KiB; disk images use 0, one hash over everything.
_MAX_PAGE_SIZE_LOG2 = 24
# Apple's identifiers are reverse domain names; the kernel stops at PATH_MAX.
_MAX_NAME = 1024
_MAX_SPECIAL_SLOTS = 64
# dyld's caches have under ten mappings each.
_MAX_SCATTER = 1024


class _Later(NamedTuple):
    """The header's fields that came after the first version; 0 before their own."""

    scatter: int = 0
    team: int = 0
    spare3: int = 0
    code_limit_64: int = 0
    exec_base: int = 0
    exec_limit: int = 0
    exec_flags: int = 0
    runtime: int = 0
    pre_encrypt: int = 0


# Writing


def encode(directory: CodeDirectory) -> bytes:
    """Write a code directory; what `parse` returned comes out as it was."""
    layout = directory.layout or _apples(directory)
    header_size = _header_size(directory.version)
    blob = bytearray(layout.length)
    blob[:header_size] = _header(directory, layout)[:header_size]
    for offset, content in _parts(directory, layout):
        if offset + len(content) > layout.length:
            raise bad("its parts do not fit the layout that it was read with")
        blob[offset : offset + len(content)] = content
    return bytes(blob)


def _parts(directory: CodeDirectory, layout: Layout) -> Iterator[tuple[int, bytes]]:
    """What stands behind the header, and where."""
    yield from layout.gaps
    yield layout.identifier, _c_string(directory.identifier)
    if directory.team_id:
        yield layout.team, _c_string(directory.team_id)
    yield layout.scatter, b"".join(_SCATTER.pack(*part) for part in directory.scatter)
    empty = bytes(directory.hash_size)
    specials = range(directory.special_slots, 0, -1)
    hashes = [directory.special.get(slot, empty) for slot in specials]
    start = layout.hashes - len(hashes) * directory.hash_size
    yield start, b"".join((*hashes, *directory.code_hashes))


def _apples(directory: CodeDirectory) -> Layout:
    """The layout that Apple's codesign makes."""
    scatter = _header_size(directory.version)
    identifier = scatter
    if directory.scatter:
        # A range of no pages ends the list.
        identifier += (len(directory.scatter) + 1) * _SCATTER.size
    team = identifier + len(_c_string(directory.identifier))
    hashes = team + directory.special_slots * directory.hash_size
    if directory.team_id:
        hashes += len(_c_string(directory.team_id))
    return Layout(
        identifier=identifier,
        team=team if directory.team_id else 0,
        scatter=scatter if directory.scatter else 0,
        hashes=hashes,
        length=hashes + len(directory.code_hashes) * directory.hash_size,
        gaps=(),
    )


def _header(directory: CodeDirectory, layout: Layout) -> bytes:
    limit, limit_64 = directory.code_limits()
    base = _BASE.pack(
        superblob.MAGIC_CODE_DIRECTORY,
        layout.length,
        directory.version,
        directory.flags,
        layout.hashes,
        layout.identifier,
        directory.special_slots,
        len(directory.code_hashes),
        limit,
        directory.hash_size,
        directory.hash_type,
        directory.platform,
        directory.page_size_log2,
        directory.spare2,
    )
    later = _Later(
        scatter=layout.scatter,
        team=layout.team,
        spare3=directory.spare3,
        code_limit_64=limit_64,
        exec_base=directory.exec_segment_base,
        exec_limit=directory.exec_segment_limit,
        exec_flags=directory.exec_segment_flags,
        runtime=directory.runtime,
        pre_encrypt=directory.pre_encrypt_offset,
    )
    return base + _LATER.pack(*later) + directory.linkage.ljust(12, b"\0")


# Reading


def parse(raw: bytes) -> CodeDirectory:
    """Read a code directory of any version.

    Raises:
        FormatError: truncated, contradictory, or a version or digest that nobody knows.
    """
    if len(raw) < _BASE.size:
        raise bad("truncated")
    header = _BASE.unpack_from(raw)
    magic, length, version, flags, hash_offset, name_offset, specials, codes = header[:8]
    limit, hash_size, hash_type, platform, log2, spare2 = header[8:]
    if magic != superblob.MAGIC_CODE_DIRECTORY or length != len(raw):
        raise bad("another magic, or a length that is not the blob's")
    header_size = _header_size(version)
    later = _later_fields(raw, header_size)
    if log2 > _MAX_PAGE_SIZE_LOG2 or specials > _MAX_SPECIAL_SLOTS:
        raise bad(f"pages of 2^{log2} bytes, {specials} special slots")
    if algorithm(hash_type)[1] != hash_size:
        raise bad(f"digest {hash_type} does not have {hash_size} bytes")
    code_limit = later.code_limit_64 or limit
    directory = CodeDirectory(
        version=version,
        flags=flags,
        identifier=_name(raw, name_offset, header_size),
        team_id=_name(raw, later.team, header_size) if later.team else None,
        hash_type=hash_type,
        page_size_log2=log2,
        code_limit=code_limit,
        special_slots=specials,
        special=_special(raw, hash_offset, specials, hash_size, header_size),
        code_hashes=_code_hashes(raw, hash_offset, codes, hash_size),
        platform=platform,
        scatter=_scatter(raw, later.scatter, header_size) if later.scatter else (),
        exec_segment_base=later.exec_base,
        exec_segment_limit=later.exec_limit,
        exec_segment_flags=later.exec_flags,
        runtime=later.runtime,
        pre_encrypt_offset=later.pre_encrypt,
        linkage=raw[_LINKAGE_AT:header_size],
        spare2=spare2,
        spare3=later.spare3,
        raw=raw,
    )
    _judge_coverage(directory)
    offsets = (name_offset, later.team, later.scatter, hash_offset)
    return _as_it_stands(directory, offsets, (limit, later.code_limit_64))


def _as_it_stands(
    directory: CodeDirectory, offsets: tuple[int, int, int, int], limits: tuple[int, int]
) -> CodeDirectory:
    """Keep what our own writer would have done otherwise, if there is anything."""
    if limits != directory.code_limits():
        directory = replace(directory, code_limit_fields=limits)
    raw = directory.raw
    if encode(directory) == raw:
        return directory
    layout = Layout(*offsets, length=len(raw), gaps=())
    taken = [(0, _header_size(directory.version))]
    taken += [(start, start + len(content)) for start, content in _parts(directory, layout)]
    return replace(directory, layout=layout._replace(gaps=tuple(_gaps(raw, taken))))


def _gaps(raw: bytes, taken: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    position = 0
    for start, end in sorted((*taken, (len(raw), len(raw)))):
        between = raw[position:start]
        if between.strip(b"\0"):
            yield position, between
        position = max(position, end)


def _judge_coverage(directory: CodeDirectory) -> None:
    """Every code slot is for one page of the code, and without scatter every page has one."""
    slots, pages = len(directory.code_hashes), directory.page_count
    if not directory.scatter:
        if slots != pages:
            raise bad(f"{slots} code slots do not cover {directory.code_limit} bytes")
        return
    end = 0
    for part in directory.scatter:
        if part.base < end:
            raise bad("its scatter ranges are not in order")
        end = part.base + part.pages
    if not directory.page_size_log2 or end > pages:
        raise bad("a scatter range lies outside the code")
    if sum(part.pages for part in directory.scatter) != slots:
        raise bad(f"its scatter ranges do not take {slots} code slots")


def _later_fields(raw: bytes, header_size: int) -> _Later:
    if len(raw) < header_size:
        raise bad("truncated in the header")
    known = raw[_BASE.size : min(header_size, _LINKAGE_AT)]
    return _Later._make(_LATER.unpack(known.ljust(_LATER.size, b"\0")))


def _scatter(raw: bytes, offset: int, header_size: int) -> tuple[ScatterRange, ...]:
    """The ranges up to the one of no pages that ends them."""
    if offset < header_size:
        raise bad("its scatter ranges lie in the header")
    found: list[ScatterRange] = []
    while offset + _SCATTER.size <= len(raw) and len(found) <= _MAX_SCATTER:
        part = ScatterRange._make(_SCATTER.unpack_from(raw, offset))
        if part.pages == 0:
            if not found:
                raise bad("its scatter ranges are empty")
            return tuple(found)
        found.append(part)
        offset += _SCATTER.size
    raise bad("its scatter ranges have no end")


def _special(
    raw: bytes, hash_offset: int, count: int, size: int, header_size: int
) -> Mapping[int, bytes]:
    if not header_size + count * size <= hash_offset <= len(raw):
        raise bad("the special slots lie outside the blob")
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
        raise bad("truncated in the code slots")
    return tuple(raw[start : start + size] for start in range(hash_offset, end, size))


def _name(raw: bytes, offset: int, header_size: int) -> str:
    end = raw.find(b"\0", offset, offset + _MAX_NAME)
    if offset < header_size or end < 0:
        raise bad("a name lies outside the blob")
    if end == offset:
        raise bad("a name is empty")
    try:
        return raw[offset:end].decode("utf-8")
    except UnicodeDecodeError as problem:
        raise bad("a name is not UTF-8") from problem


def _c_string(text: str) -> bytes:
    encoded = text.encode("utf-8")
    if not text or b"\0" in encoded or len(encoded) >= _MAX_NAME:
        raise bad("an identifier or a team is empty, too long, or holds a zero", text[:80])
    return encoded + b"\0"


def _header_size(version: int) -> int:
    if not _OLDEST <= version < _TOO_NEW:
        raise bad(f"version {version:#x} is unknown")
    return next(size for first, size in _HEADER_SIZES if version >= first)
