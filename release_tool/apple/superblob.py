"""The container of an embedded signature: blobs by slot, all numbers big-endian.

Source: xnu's `cs_blobs.h`. A blob is its magic, its length with these eight bytes, its data.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from release_tool import errors

MAGIC_EMBEDDED = 0xFADE0CC0
MAGIC_CODE_DIRECTORY = 0xFADE0C02
MAGIC_REQUIREMENTS = 0xFADE0C01
MAGIC_ENTITLEMENTS = 0xFADE7171
MAGIC_ENTITLEMENTS_DER = 0xFADE7172
MAGIC_WRAPPER = 0xFADE0B01

SLOT_CODE_DIRECTORY = 0
SLOT_INFO_PLIST = 1
SLOT_REQUIREMENTS = 2
SLOT_CODE_RESOURCES = 3
SLOT_ENTITLEMENTS = 5
SLOT_ENTITLEMENTS_DER = 7
SLOTS_ALTERNATE = range(0x1000, 0x1005)
"""Further code directories, with other digests."""
SLOT_CMS = 0x10000

# 23 slots are named in cs_blobs.h.
_MAX_BLOBS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperBlob:
    """The blobs of a signature in the order of its index."""

    blobs: tuple[tuple[int, bytes], ...] = field(repr=False)
    """Slot and whole blob, unknown slots included."""
    length: int
    """What the header states; the reserved room behind it is padding."""
    canonical: bool
    """Whether the blobs follow each other without gaps, in the order of the index."""

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


def parse(data: bytes | memoryview) -> SuperBlob:
    """Read a SuperBlob; bytes behind its stated length are not looked at.

    Raises:
        FormatError: truncated, a blob out of bounds, two blobs in one slot or in the same bytes.
    """
    view = memoryview(data)
    if len(view) < 12:
        raise _bad("truncated")
    magic, length, count = struct.unpack_from(">III", view)
    if magic != MAGIC_EMBEDDED:
        raise _bad(f"it begins with {magic:#010x}")
    if count > _MAX_BLOBS or not 12 + 8 * count <= length <= len(view):
        raise _bad(f"{count} blobs in {length} bytes, of which {len(view)} are there")
    index = [struct.unpack_from(">II", view, 12 + 8 * number) for number in range(count)]
    spans = [(offset, _blob_end(view, offset, length)) for _, offset in index]
    _refuse_ambiguity(index, spans, first=12 + 8 * count)
    edges = [12 + 8 * count, *(end for _, end in spans)]
    return SuperBlob(
        blobs=tuple(
            (slot, bytes(view[start:end]))
            for (slot, _), (start, end) in zip(index, spans, strict=True)
        ),
        length=length,
        canonical=[start for start, _ in spans] == edges[:-1] and edges[-1] == length,
    )


def encode(blobs: Sequence[tuple[int, bytes]]) -> bytes:
    """Write a SuperBlob: the index in the given order, the blobs right behind it."""
    offset = 12 + 8 * len(blobs)
    index = b""
    for slot, blob in blobs:
        index += struct.pack(">II", slot, offset)
        offset += len(blob)
    header = struct.pack(">III", MAGIC_EMBEDDED, offset, len(blobs))
    return header + index + b"".join(blob for _, blob in blobs)


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
    return errors.FormatError(f"not an embedded signature: {message}", observed=observed)
