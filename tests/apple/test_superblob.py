"""The container of a signature, on the samples' linker signature and on hostile input."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import macho, superblob
from tests import macho_samples

SLOTS = st.integers(0, 0x10002)
BLOBS = st.lists(
    st.tuples(SLOTS, st.binary(max_size=40)), max_size=8, unique_by=lambda pair: pair[0]
)


def _blobs(pairs: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    return [(slot, superblob.wrap(superblob.MAGIC_WRAPPER, data)) for slot, data in pairs]


def test_a_linkers_signature_comes_out_byte_for_byte() -> None:
    """Reading and writing a signature that a linker made changes nothing."""
    (code,) = macho.parse(macho_samples.thin())
    room = code.signature_bytes
    assert room is not None
    found = superblob.parse(room)
    assert found.canonical
    assert superblob.encode(found.blobs) == bytes(room[: found.length])
    assert found.slots == (superblob.SLOT_CODE_DIRECTORY,)


@given(BLOBS, st.binary(max_size=20))
def test_writing_and_reading_agree(pairs: list[tuple[int, bytes]], padding: bytes) -> None:
    """Whatever is written is read back, with padding behind it or without."""
    blobs = _blobs(pairs)
    written = superblob.encode(blobs)
    found = superblob.parse(written + padding)
    assert list(found.blobs) == blobs
    assert found.length == len(written)
    assert found.canonical
    for slot, data in pairs:
        assert superblob.unwrap(found.get(slot) or b"", superblob.MAGIC_WRAPPER) == data


@given(BLOBS, st.data())
def test_a_truncated_signature_is_a_format_error(
    pairs: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    """Cut anywhere, it is refused."""
    written = superblob.encode(_blobs(pairs))
    end = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(errors.FormatError):
        superblob.parse(written[:end])


@given(BLOBS, st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_noise_never_escapes(pairs: list[tuple[int, bytes]], start: int, noise: bytes) -> None:
    """Changed anywhere, it is read or refused with our error."""
    written = bytearray(superblob.encode(_blobs(pairs)))
    written[start : start + len(noise)] = noise
    try:
        found = superblob.parse(bytes(written))
    except errors.FormatError:
        return
    assert all(len(blob) >= 8 for _, blob in found.blobs)


def test_ambiguity_is_refused() -> None:
    """Two blobs in one slot, or in the same bytes, would be read differently by others."""
    blob = superblob.wrap(superblob.MAGIC_WRAPPER, b"")
    with pytest.raises(errors.FormatError, match="one slot"):
        superblob.parse(superblob.encode([(2, blob), (2, blob)]))
    overlapping = bytearray(superblob.encode([(2, blob), (5, blob)]))
    struct.pack_into(">I", overlapping, 12 + 12, 12 + 16)
    with pytest.raises(errors.FormatError, match="overlap"):
        superblob.parse(bytes(overlapping))


def test_gaps_are_read_and_told() -> None:
    """A gap between blobs is no error, but such a signature is not of our writing."""
    blob = superblob.wrap(superblob.MAGIC_WRAPPER, b"")
    written = bytearray(superblob.encode([(2, blob)]))
    written[20:20] = b"gap!"
    struct.pack_into(">I", written, 4, len(written))
    struct.pack_into(">I", written, 16, 24)
    found = superblob.parse(bytes(written))
    assert found.get(2) == blob
    assert not found.canonical


def test_a_blob_of_another_kind_is_refused() -> None:
    """The magic and the length must be the blob's."""
    with pytest.raises(errors.FormatError):
        superblob.unwrap(superblob.wrap(superblob.MAGIC_WRAPPER, b""), superblob.MAGIC_REQUIREMENTS)
    with pytest.raises(errors.FormatError):
        superblob.unwrap(b"", superblob.MAGIC_WRAPPER)
