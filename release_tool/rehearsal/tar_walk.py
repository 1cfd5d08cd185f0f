"""A reader of tar headers for the coordinator's look-alike, as Go's `archive/tar` reads them.

It shares nothing with the archive reader of the client: what both accept is then accepted twice.
POSIX.1-2017 `pax` for ustar and pax headers; the GNU manual for types `L` and `K`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

_BLOCK = 512
_CHUNK_BYTES = 1024 * 1024
# Extended headers hold names and times; Go allows 1 MiB of them and no more.
_EXTENDED_BYTES = 1024 * 1024
_EXTENDED_KINDS = (b"x", b"g", b"L", b"K")
# Links, devices, folders and pipes have no data, whatever their size field says.
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")


class Readable(Protocol):
    """What the walk needs of a stream."""

    def read(self, size: int, /) -> bytes: ...


class TarError(Exception):
    """The stream is no tar archive that Go would read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member, with its data still in the stream."""

    name: str
    kind: bytes
    """The type flag; `0` for a regular file."""
    size: int
    digest: Callable[[], str]
    """Reads the data and returns its SHA-256; only before the next member is asked for."""


def members(stream: Readable) -> Iterator[Member]:
    """Yield each member up to the end-of-archive mark.

    Raises:
        TarError: a header does not parse, or the stream ends early.
    """
    walk = _Walk(stream)
    told: dict[str, str] = {}
    while (header := walk.header()) is not None:
        kind, name, size = _parsed(header)
        if kind in _EXTENDED_KINDS:
            told |= _told(kind, walk.extended(size))
            continue
        size = int(told.get("size", size))
        walk.enter(0 if kind in _WITHOUT_DATA else size)
        yield Member(name=told.get("path", name), kind=kind, size=size, digest=walk.digest)
        walk.leave()
        told = {}


class _Walk:
    """The position in the stream: a header, then data padded to whole blocks."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = 0
        self._padding = 0

    def header(self) -> bytes | None:
        block = self._exactly(_BLOCK, at_end_ok=True)
        if block.strip(b"\0"):
            return block
        if block and self._exactly(_BLOCK, at_end_ok=True).strip(b"\0"):
            raise TarError("archive/tar: invalid tar header")
        return None

    def extended(self, size: int) -> bytes:
        if size > _EXTENDED_BYTES:
            raise TarError("archive/tar: header field too long")
        body = self._exactly(size)
        self._exactly(-size % _BLOCK)
        return body

    def enter(self, size: int) -> None:
        self._left, self._padding = size, -size % _BLOCK

    def digest(self) -> str:
        found = hashlib.sha256()
        while self._left:
            found.update(self._next())
        return found.hexdigest()

    def leave(self) -> None:
        while self._left:
            self._next()
        self._exactly(self._padding)

    def _next(self) -> bytes:
        chunk = self._exactly(min(self._left, _CHUNK_BYTES))
        self._left -= len(chunk)
        return chunk

    def _exactly(self, size: int, *, at_end_ok: bool = False) -> bytes:
        data = self._stream.read(size) if size else b""
        while 0 < len(data) < size:
            more = self._stream.read(size - len(data))
            if not more:
                break
            data += more
        if len(data) != size and (data or not at_end_ok):
            raise TarError("unexpected EOF")
        return data


def _parsed(block: bytes) -> tuple[bytes, str, int]:
    stated = _number(block[148:156])
    blanked = block[:148] + b" " * 8 + block[156:]
    signed = sum(octet - 256 if octet > 127 else octet for octet in blanked)
    if stated not in (sum(blanked), signed):
        raise TarError("archive/tar: invalid tar header")
    name = _text(block[0:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    kind = block[156:157]
    if kind == b"\0":
        kind = b"5" if name.endswith("/") else b"0"
    size = _number(block[124:136])
    if size < 0:
        raise TarError("archive/tar: invalid tar header")
    return kind, name, size


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="surrogateescape")


def _number(field: bytes) -> int:
    """Octal, or base-256 where the first bit is set (GNU)."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x3F]) + field[1:])
    digits = field.strip(b" \0") or b"0"
    try:
        return int(digits, 8)
    except ValueError as problem:
        raise TarError("archive/tar: invalid tar header") from problem


def _told(kind: bytes, body: bytes) -> dict[str, str]:
    """What an extended header says of the member behind it."""
    if kind == b"x":
        return dict(_records(body))
    return {"path": _text(body)} if kind == b"L" else {}


def _records(body: bytes) -> Iterator[tuple[str, str]]:
    while body:
        digits = body.split(b" ", 1)[0]
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        record, body = body[:length], body[length:]
        key, equals, value = record[len(digits) + 1 :].removesuffix(b"\n").partition(b"=")
        if not (equals and key and record.endswith(b"\n") and len(record) == length):
            raise TarError("archive/tar: invalid tar header")
        if key == b"size" and not (value.isdigit() and len(value) < 20):
            raise TarError("archive/tar: invalid tar header")
        yield key.decode(errors="surrogateescape"), value.decode(errors="surrogateescape")
