"""The container of a signature: blobs by slot, all numbers big-endian.

Source: xnu's `cs_blobs.h`. A blob is its magic, its length with these eight bytes, its data. A
detached signature holds an embedded one for each processor, whose type stands where slots do.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from release_tool import errors

MAGIC_EMBEDDED = 0xFADE0CC0
MAGIC_DETACHED = 0xFADE0CC1
MAGIC_CODE_DIRECTORY = 0xFADE0C02
MAGIC_REQUIREMENTS = 0xFADE0C01
MAGIC_ENTITLEMENTS = 0xFADE7171
MAGIC_ENTITLEMENTS_DER = 0xFADE7172
MAGIC_LAUNCH_CONSTRAINT = 0xFADE8181
MAGIC_WRAPPER = 0xFADE0B01

SLOT_CODE_DIRECTORY = 0
SLOT_INFO_PLIST = 1
SLOT_REQUIREMENTS = 2
SLOT_CODE_RESOURCES = 3
SLOT_ENTITLEMENTS = 5
SLOT_REP_SPECIFIC = 6
"""Of a disk image: its trailer."""
SLOT_ENTITLEMENTS_DER = 7
SLOTS_LAUNCH_CONSTRAINTS = range(8, 12)
"""Of the code itself, its parent, its responsible process, its libraries."""
SLOTS_ALTERNATE = range(0x1000, 0x1005)
"""Further code directories, with other digests."""
SLOT_CMS = 0x10000
SLOT_IDENTIFICATION = 0x10001
SLOT_TICKET = 0x10002
"""A notarization ticket, where it is stapled into the signature: disk images."""

# 23 slots are named in cs_blobs.h.
_MAX_BLOBS = 64
_HEADER_SIZE, _ENTRY_SIZE = 12, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperBlob:
    """The blobs of a signature in the order of its index."""

    magic: int
    """`MAGIC_EMBEDDED` or `MAGIC_DETACHED`."""
    blobs: tuple[tuple[int, bytes], ...] = field(repr=False)
    """Slot and whole blob, unknown slots included."""
    offsets: tuple[int, ...] = field(repr=False)
    """Where each blob stands."""
    gaps: tuple[tuple[int, bytes], ...] = field(repr=False)
    """Offset and bytes of what is not all zero and belongs to no blob."""
    length: int
    """What the header states; the reserved room behind it is padding."""

    @property
    def canonical(self) -> bool:
        """Whether the blobs follow each other without gaps, in the order of the index."""
        return self.offsets == _offsets(self.blobs) and self.length == _length(self.blobs)

    def get(self, slot: int) -> bytes | None:
        """The whole blob of a slot, or None."""
        return next((blob for found, blob in self.blobs if found == slot), None)

    @property
    def slots(self) -> tuple[int, ...]:
        return tuple(slot for slot, _ in self.blobs)

    @property
    def code_directories(self) -> tuple[bytes, ...]:
        """The code directory and its alternates, in slot order."""
        wanted = (SLOT_CODE_DIRECTORY, *SLOTS_ALTERNATE)
        found = ((slot, self.get(slot)) for slot in wanted)
        return tuple(blob for _, blob in found if blob is not None)


def parse(data: bytes | memoryview, *, magic: int = MAGIC_EMBEDDED) -> SuperBlob:
    """Read a SuperBlob; bytes behind its stated length are not looked at.

    Args:
        data: the signature and any padding.
        magic: which container it must be.

    Raises:
        FormatError: truncated, a blob out of bounds, two blobs in one slot or in the same bytes.
    """
    view = memoryview(data)
    if len(view) < _HEADER_SIZE:
        raise _bad("truncated")
    found, length, count = struct.unpack_from(">III", view)
    if found != magic:
        raise _bad(f"it begins with {found:#010x}")
    first = _HEADER_SIZE + _ENTRY_SIZE * count
    if count > _MAX_BLOBS or not first <= length <= len(view):
        raise _bad(f"{count} blobs in {length} bytes, of which {len(view)} are there")
    places = range(_HEADER_SIZE, first, _ENTRY_SIZE)
    index = [struct.unpack_from(">II", view, place) for place in places]
    spans = [(offset, _blob_end(view, offset, length)) for _, offset in index]
    _refuse_ambiguity(index, spans, first=first)
    return SuperBlob(
        magic=magic,
        blobs=tuple(
            (slot, bytes(view[start:end]))
            for (slot, _), (start, end) in zip(index, spans, strict=True)
        ),
        offsets=tuple(start for start, _ in spans),
        gaps=tuple(_gaps(view[:length], [(0, first), *spans])),
        length=length,
    )


def _gaps(view: memoryview, spans: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    ordered = sorted([*spans, (len(view), len(view))])
    for (_, end), (start, _) in itertools.pairwise(ordered):
        between = bytes(view[end:start])
        if between.strip(b"\0"):
            yield end, between


def parse_detached(data: bytes | memoryview) -> tuple[tuple[int, SuperBlob], ...]:
    """Read a detached signature: the processor's type and the signature of each slice.

    Raises:
        FormatError: no detached signature, or what it holds are no embedded ones.
    """
    outer = parse(data, magic=MAGIC_DETACHED)
    return tuple((cpu_type, parse(blob)) for cpu_type, blob in outer.blobs)


def encode(blobs: Sequence[tuple[int, bytes]], *, magic: int = MAGIC_EMBEDDED) -> bytes:
    """Write a SuperBlob: the index in the given order, the blobs right behind it."""
    return encode_as_read(
        SuperBlob(
            magic=magic,
            blobs=tuple(blobs),
            offsets=_offsets(blobs),
            gaps=(),
            length=_length(blobs),
        )
    )


def encode_as_read(found: SuperBlob) -> bytes:
    """Write what `parse` returned, each blob and each gap where it stood.

    Raises:
        FormatError: a blob does not fit where it is to stand.
    """
    whole = bytearray(found.length)
    index = [
        struct.pack(">II", slot, offset)
        for (slot, _), offset in zip(found.blobs, found.offsets, strict=True)
    ]
    header = struct.pack(">III", found.magic, found.length, len(found.blobs)) + b"".join(index)
    blobs = zip(found.offsets, (blob for _, blob in found.blobs), strict=True)
    for offset, content in ((0, header), *found.gaps, *blobs):
        if offset + len(content) > found.length:
            raise _bad(f"{len(content)} bytes at {offset} do not fit {found.length}")
        whole[offset : offset + len(content)] = content
    return bytes(whole)


def _offsets(blobs: Sequence[tuple[int, bytes]]) -> tuple[int, ...]:
    """Where each blob stands when they follow each other."""
    first = _HEADER_SIZE + _ENTRY_SIZE * len(blobs)
    sizes = (len(blob) for _, blob in blobs)
    return tuple(itertools.accumulate(sizes, initial=first))[:-1]


def _length(blobs: Sequence[tuple[int, bytes]]) -> int:
    return _HEADER_SIZE + sum(_ENTRY_SIZE + len(blob) for _, blob in blobs)


def wrap(magic: int, payload: bytes) -> bytes:
    """Make a blob of its magic and data."""
    return struct.pack(">II", magic, 8 + len(payload)) + payload


def unwrap(blob: bytes, magic: int) -> bytes:
    """The data of a blob.

    Raises:
        FormatError: another magic, or a length that is not the blob's.
    """
    if len(blob) < 8 or struct.unpack_from(">II", blob) != (magic, len(blob)):
        raise _bad(f"a blob of magic {magic:#010x} was due", observed=blob[:8].hex())
    return blob[8:]


def _blob_end(view: memoryview, offset: int, length: int) -> int:
    if offset + 8 > length:
        raise _bad(f"a blob begins at {offset}, the signature ends at {length}")
    (size,) = struct.unpack_from(">I", view, offset + 4)
    if size < 8 or offset + size > length:
        raise _bad(f"a blob at {offset} claims {size} bytes, the signature ends at {length}")
    return int(offset + size)


def _refuse_ambiguity(
    index: list[tuple[int, ...]], spans: list[tuple[int, int]], *, first: int
) -> None:
    if len({slot for slot, _ in index}) != len(index):
        raise _bad("two blobs stand in one slot")
    ordered = sorted([(0, first), *spans])
    if any(end > start for (_, end), (start, _) in itertools.pairwise(ordered)):
        raise _bad("two blobs overlap")


def _bad(message: str, *, observed: str = "") -> errors.FormatError:
    return errors.FormatError(f"not a code signature: {message}", observed=observed)
