"""Make room for a signature in a Mach-O, and put universal files together again.

The signature is the last thing of `__LINKEDIT`, which is the last segment; the load command that
names it lies in the first page, so both are final before a page is hashed. Code is never copied:
what is written is a sequence of chunks, most of them views of the original.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from release_tool import errors
from release_tool.apple import macho

Chunk = bytes | memoryview
_SIGNATURE_ALIGNMENT = 16
MEMORY_PAGE = 0x4000
"""Linkers and codesign round the segment's memory to it on both architectures (measured)."""
OLD_MEMORY_PAGE = 0x1000
"""What codesign rounded to on Intel until 2022 or later (measured)."""
_SIGNATURE_COMMAND = 16
# Offsets in the segment command.
_VM_SIZE_AT, _FILE_SIZE_AT = 32, 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The code of a slice up to its signature, with the load commands that name one."""

    head: bytes = field(repr=False)
    """The header and the load commands, changed."""
    body: memoryview = field(repr=False)
    """What follows them in the original."""
    fill: bytes = field(repr=False)
    """Zeros up to the place of the signature."""

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """All of it, in order."""
        return self.head, self.body, self.fill

    def span(self, start: int, end: int) -> Iterator[memoryview]:
        """The bytes from `start` to `end`, in pieces."""
        for chunk in self.chunks:
            piece = memoryview(chunk)[max(start, 0) : max(end, 0)]
            if piece:
                yield piece
            start, end = start - len(chunk), end - len(chunk)


def code_limit(code: macho.Slice) -> int:
    """Where the signature begins that fills the end of `__LINKEDIT`, or where one would.

    Raises:
        FormatError: the signature does not stand as signers leave it.
    """
    linkedit = _linkedit(code)
    if code.signature is not None:
        offset, size = code.signature
        if offset % _SIGNATURE_ALIGNMENT or offset + size != linkedit.end:
            raise _bad("its signature is not the aligned end of __LINKEDIT")
    return new_limit(code)


def new_limit(code: macho.Slice) -> int:
    """Where a new signature begins, whatever size and place the old one has.

    Raises:
        FormatError: the signature cannot stand last, so no signer could write it.
    """
    return _aligned(_code_end(code), _SIGNATURE_ALIGNMENT)


def _code_end(code: macho.Slice) -> int:
    """Zeros behind an old signature go with it; any other byte there would be lost."""
    linkedit = _linkedit(code)
    if code.signature is None:
        return linkedit.end
    offset, size = code.signature
    behind = code.data[offset + size : linkedit.end]
    inside = linkedit.offset <= offset and code.commands_end <= offset
    if not inside or offset + size > linkedit.end or len(behind) > MEMORY_PAGE or any(behind):
        raise _bad("its signature is not the end of __LINKEDIT")
    return offset


def with_room(code: macho.Slice, signature_size: int, *, memory_page: int = MEMORY_PAGE) -> Image:
    """The code up to its limit, with load commands that name a signature behind it.

    Args:
        code: signed or unsigned code; an old signature is left out.
        signature_size: the room to reserve, a multiple of 16.
        memory_page: what the memory of `__LINKEDIT` is rounded to.

    Returns:
        The code up to `new_limit`; the signature follows, padded to `signature_size`.

    Raises:
        FormatError: no room for the load command, or `__LINKEDIT` is not last.
    """
    linkedit = _linkedit(code)
    limit = new_limit(code)
    if limit + signature_size > 0xFFFFFFFF:
        raise _bad("a signature behind 4 GiB cannot be named")
    kept = _code_end(code)
    head = bytearray(code.data[: min(kept, code.commands_end + _SIGNATURE_COMMAND)])
    _name_signature(head, code, limit, signature_size)
    start = linkedit.command.offset
    size = limit + signature_size - linkedit.offset
    struct.pack_into("<Q", head, start + _VM_SIZE_AT, _aligned(size, memory_page))
    struct.pack_into("<Q", head, start + _FILE_SIZE_AT, size)
    return Image(head=bytes(head), body=code.data[len(head) : kept], fill=bytes(limit - kept))


def _name_signature(head: bytearray, code: macho.Slice, limit: int, size: int) -> None:
    for command in code.commands:
        if command.command == macho.LC_CODE_SIGNATURE:
            struct.pack_into("<II", head, command.offset + 8, limit, size)
            return
    end = code.commands_end
    if end + _SIGNATURE_COMMAND > _first_content(code) or any(head[end : end + 16]):
        raise _bad("there is no room for one more load command")
    struct.pack_into("<IIII", head, end, macho.LC_CODE_SIGNATURE, _SIGNATURE_COMMAND, limit, size)
    count = len(code.commands) + 1
    commands_size = end + _SIGNATURE_COMMAND - macho.HEADER_SIZE
    struct.pack_into("<II", head, 16, count, commands_size)


def _first_content(code: macho.Slice) -> int:
    """Where the first byte that is no load command lies."""
    starts = [
        section.offset
        for segment in code.segments
        for section in segment.sections
        if section.size and not section.zero_fill
    ]
    starts += [segment.offset for segment in code.segments if segment.offset and segment.size]
    return min(starts, default=code.size)


def _linkedit(code: macho.Slice) -> macho.Segment:
    if not code.is_64_bit or code.byte_order != "little":
        raise _bad("only 64-bit little-endian code is signed", observed=code.arch)
    found = code.linkedit
    if found is None:
        raise _bad("it has no __LINKEDIT, so it is no linked code")
    if found.end != code.size or any(segment.end > found.end for segment in code.segments):
        raise _bad("__LINKEDIT is not last")
    if any(segment.end > found.offset for segment in code.segments if segment.name != "__LINKEDIT"):
        raise _bad("a segment lies in __LINKEDIT")
    return found


def join(
    original: bytes | memoryview, parts: Sequence[tuple[macho.Slice, Sequence[Chunk]]]
) -> tuple[Chunk, ...]:
    """Put the new slices of a file together again.

    Args:
        original: the file that was parsed; decides between thin and universal.
        parts: each slice of it, in its order, with its new content in chunks.

    Returns:
        The new content of a thin file as it is; a universal file with each slice at the next
        offset of its alignment, zeros between.

    Raises:
        FormatError: the result does not fit a 32-bit universal header.
    """
    if not macho.is_universal(original):
        return tuple(parts[0][1])
    wide = int.from_bytes(original[:4], "big") == macho.FAT_MAGIC_64
    layout = ">IIQQII" if wide else ">IIIII"
    entries = b""
    bodies: list[Chunk] = []
    end = 8 + len(parts) * struct.calcsize(layout)
    for code, content in parts:
        offset, size = _aligned(end, 1 << code.alignment_log2), sum(map(len, content))
        bodies += [bytes(offset - end), *content]
        end = offset + size
        fields = (code.cpu_type, code.fat_subtype, offset, size, code.alignment_log2)
        if not wide and end > 0xFFFFFFFF:
            raise _bad("the universal file would pass 4 GiB")
        entries += struct.pack(layout, *fields, *([0] if wide else []))
    return (bytes(original[:4]) + struct.pack(">I", len(parts)) + entries, *bodies)


def _aligned(value: int, step: int) -> int:
    return -(-value // step) * step


def _bad(message: str, *, observed: str = "") -> errors.FormatError:
    return errors.FormatError(f"this code cannot be signed: {message}", observed=observed)
