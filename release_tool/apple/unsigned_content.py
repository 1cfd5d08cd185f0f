"""What of a Mach-O is not its signature: the link from a source build to shipped bytes.

Signing changes three things: the signature itself, the load command that names it, and the sizes
of `__LINKEDIT`, which holds it. Everything else, byte for byte, is the linker's work. A universal
file's slices move, so of its header the offsets and sizes are left out too.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from release_tool import errors
from release_tool.apple import macho, macho_writer

_CHUNK: Final = 1 << 20
"""Compared and hashed at a time, so that a large file is never copied as a whole."""
_SIGNATURE_COMMAND: Final = 16
"""The kernel takes LC_CODE_SIGNATURE in no other size; a larger one could hide bytes."""
_COUNTS_AT: Final = 16
"""Number and total size of the load commands in `mach_header_64`."""
_VM_SIZE_AT, _FILE_SIZE_AT = 32, 48
"""In `segment_command_64`."""


class Divergence(NamedTuple):
    """The first byte outside the signature that is not the same."""

    place: str
    """Slice and segment, such as `arm64, __TEXT,__text`."""
    offset: int
    """In the file that was signed."""
    expected: str
    observed: str


@dataclass(frozen=True, slots=True)
class _Content:
    """A slice as it would read without a signature, offset by offset."""

    code: macho.Slice
    limit: int
    """Where the signature begins or would begin."""
    patches: tuple[tuple[int, bytes], ...] = field(repr=False)
    """What stands in place of the bytes that signing writes."""

    def read(self, start: int, stop: int) -> bytes:
        """The bytes of a range below the limit; zeros up to where a signature would begin."""
        end = self.limit if self.code.signature else self.code.size
        found = bytes(self.code.data[start : min(stop, end)]).ljust(stop - start, b"\0")
        for at, patch in self.patches:
            found = _patched(found, at - start, patch)
        return found

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, self.limit, _CHUNK):
            yield self.read(start, min(start + _CHUNK, self.limit))


def digest(data: bytes | memoryview) -> str:
    """SHA-256, in hexadecimal, of a Mach-O outside its signature.

    The same for a file before and after it was signed. Of a thin file it is the digest of the
    code up to where the signature begins, with the load command of the signature zeroed and not
    counted and both sizes of `__LINKEDIT` zero. Of a universal file it covers the header without
    offsets and sizes, what lies between the slices, and the digest of each slice.

    Raises:
        FormatError: no Mach-O, or its signature does not stand last, so no signer wrote it.
    """
    parts = macho.parse(data)
    digests = [_slice_digest(_content(code)) for code in parts]
    if not macho.is_universal(data):
        return digests[0].hex()
    view = memoryview(data)
    whole = hashlib.sha256(_header(view, len(parts)))
    for gap, found in zip(_gaps(view, parts), [*digests, b""], strict=True):
        whole.update(struct.pack("<Q", len(gap)) + gap + found)
    return whole.hexdigest()


def compare(unsigned: bytes | memoryview, signed: bytes | memoryview) -> Divergence | None:
    """Find the first byte outside the signature in which two files differ.

    Args:
        unsigned: the file as it was before; it may carry an older signature.
        signed: the same file after it was signed.

    Returns:
        None where everything outside the signature is the same.

    Raises:
        FormatError: one is no Mach-O, or its signature does not stand last.
    """
    before, after = macho.parse(unsigned), macho.parse(signed)
    kinds = [_kind(unsigned, before), _kind(signed, after)]
    if kinds[0] != kinds[1]:
        return Divergence("the file", 0, kinds[0], kinds[1])
    for old, new in zip(before, after, strict=True):
        found = _compare_slices(_content(old), _content(new))
        if found is not None:
            return found
    return _compare_wrapping(memoryview(unsigned), before, memoryview(signed), after)


def _kind(data: bytes | memoryview, parts: tuple[macho.Slice, ...]) -> str:
    archs = ", ".join(code.arch for code in parts)
    return f"universal: {archs}" if macho.is_universal(data) else f"thin: {archs}"


def _content(code: macho.Slice) -> _Content:
    limit = macho_writer.code_limit(code)
    patches: list[tuple[int, bytes]] = []
    if code.linkedit is not None:
        start = code.linkedit.command.offset
        patches += [(start + _VM_SIZE_AT, bytes(8)), (start + _FILE_SIZE_AT, bytes(8))]
    for command in code.commands:
        if command.command == macho.LC_CODE_SIGNATURE:
            patches += _without_signature(code, command)
    return _Content(code=code, limit=limit, patches=tuple(patches))


def _without_signature(
    code: macho.Slice, command: macho.LoadCommand
) -> Iterator[tuple[int, bytes]]:
    if command.size != _SIGNATURE_COMMAND:
        raise errors.FormatError(
            "LC_CODE_SIGNATURE has another size than the kernel takes",
            expected=str(_SIGNATURE_COMMAND),
            observed=str(command.size),
        )
    if command is not code.commands[-1]:
        # The linker left the command; signing it again changed only what it names.
        yield command.offset + 8, bytes(8)
        return
    yield command.offset, bytes(_SIGNATURE_COMMAND)
    total = code.commands_end - macho.HEADER_SIZE - _SIGNATURE_COMMAND
    yield _COUNTS_AT, struct.pack("<II", len(code.commands) - 1, total)


def _patched(chunk: bytes, at: int, patch: bytes) -> bytes:
    """The chunk with a patch at an offset that may lie partly or wholly outside it."""
    if at >= len(chunk) or at + len(patch) <= 0:
        return chunk
    inside = patch[max(-at, 0) : len(chunk) - at]
    start = max(at, 0)
    return chunk[:start] + inside + chunk[start + len(inside) :]


def _slice_digest(content: _Content) -> bytes:
    found = hashlib.sha256()
    for chunk in content.chunks():
        found.update(chunk)
    return found.digest()


def _compare_slices(old: _Content, new: _Content) -> Divergence | None:
    start = 0
    for ours, theirs in zip(old.chunks(), new.chunks(), strict=False):
        if ours != theirs:
            shared = range(min(len(ours), len(theirs)))
            at = next((n for n in shared if ours[n] != theirs[n]), len(shared))
            if at < len(shared):
                return _differ(new.code, start + at, f"{ours[at]:#04x}", f"{theirs[at]:#04x}")
        start += len(ours)
    if old.limit != new.limit:
        at = min(old.limit, new.limit)
        return _differ(new.code, at, f"{old.limit} bytes of code", f"{new.limit} bytes of code")
    return None


def _differ(code: macho.Slice, at: int, expected: str, observed: str) -> Divergence:
    return Divergence(f"{code.arch}, {_place(code, at)}", code.offset + at, expected, observed)


def _place(code: macho.Slice, at: int) -> str:
    if at < macho.HEADER_SIZE:
        return "the header"
    if at < code.commands_end:
        return "the load commands"
    for segment in code.segments:
        for section in segment.sections:
            inside = section.offset <= at < section.offset + section.size
            if inside and not section.zero_fill:
                return f"{section.segment},{section.name}"
        if segment.offset <= at < segment.end:
            return segment.name
    return "no segment"


def _compare_wrapping(
    unsigned: memoryview,
    before: tuple[macho.Slice, ...],
    signed: memoryview,
    after: tuple[macho.Slice, ...],
) -> Divergence | None:
    """A universal header's fields and what lies between the slices."""
    if not macho.is_universal(signed):
        return None
    headers = [_header(unsigned, len(before)), _header(signed, len(after))]
    if headers[0] != headers[1]:
        return Divergence("the universal header", 0, headers[0].hex(), headers[1].hex())
    starts = [start for start, _ in _between(signed, after)]
    pairs = zip(starts, _gaps(unsigned, before), _gaps(signed, after), strict=True)
    for start, old, new in pairs:
        if old != new:
            size = max(len(old), len(new))
            one, other = old.ljust(size, b"\0"), new.ljust(size, b"\0")
            at = next(n for n in range(size) if one[n] != other[n])
            told = f"{one[at]:#04x}", f"{other[at]:#04x}"
            return Divergence("between the slices", start + at, *told)
    return None


def _entry(view: memoryview) -> struct.Struct:
    wide = int.from_bytes(view[:4], "big") == macho.FAT_MAGIC_64
    return struct.Struct(">IIQQII" if wide else ">IIIII")


def _header(view: memoryview, count: int) -> bytes:
    """The universal header without the offsets and sizes of the slices."""
    entry = _entry(view)
    kept = bytes(view[:8])
    for index in range(count):
        fields = entry.unpack_from(view, 8 + index * entry.size)
        kept += struct.pack(f">{len(fields) - 2}I", *fields[:2], *fields[4:])
    return kept


def _between(view: memoryview, parts: tuple[macho.Slice, ...]) -> list[tuple[int, int]]:
    """Start and end of what lies between the header and the slices, and behind the last."""
    spans = sorted((code.offset, code.offset + code.size) for code in parts)
    starts = [8 + len(parts) * _entry(view).size, *(end for _, end in spans)]
    return list(zip(starts, [*(start for start, _ in spans), len(view)], strict=True))


def _gaps(view: memoryview, parts: tuple[macho.Slice, ...]) -> list[bytes]:
    """These bytes without trailing zeros: how many there are follows from alignment and sizes."""
    return [bytes(view[start:end]).rstrip(b"\0") for start, end in _between(view, parts)]
