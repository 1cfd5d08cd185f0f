"""The container of a signature, on the samples' linker signature and on hostile input."""

from __future__ import annotations

import struct
from dataclasses import replace

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
    assert superblob.encode_as_read(found) == bytes(written[: found.length])


def test_ambiguity_is_refused() -> None:
    """Two blobs in one slot, or in the same bytes, would be read differently by others."""
    blob = superblob.wrap(superblob.MAGIC_WRAPPER, b"")
    with pytest.raises(errors.FormatError, match="one slot"):
        superblob.parse(superblob.encode([(2, blob), (2, blob)]))
    overlapping = bytearray(superblob.encode([(2, blob), (5, blob)]))
    struct.pack_into(">I", overlapping, 12 + 12, 12 + 16)
    with pytest.raises(errors.FormatError, match="overlap"):
        superblob.parse(bytes(overlapping))


@given(BLOBS, st.permutations(range(8)), st.lists(st.integers(0, 9), min_size=9, max_size=9))
def test_gaps_and_another_order_come_out_byte_for_byte(
    pairs: list[tuple[int, bytes]], order: list[int], gaps: list[int]
) -> None:
    """Blobs that stand apart or otherwise than the index lists them are written where they were."""
    blobs = _blobs(pairs)
    index = [b""] * len(blobs)
    body = b""
    first = 12 + 8 * len(blobs)
    for number, gap in zip([one for one in order if one < len(blobs)], gaps, strict=False):
        slot, blob = blobs[number]
        body += bytes([gap % 3]) * gap
        index[number] = struct.pack(">II", slot, first + len(body))
        body += blob
    body += b"\1" * gaps[-1]
    header = struct.pack(">III", superblob.MAGIC_EMBEDDED, first + len(body), len(blobs))
    written = header + b"".join(index) + body
    found = superblob.parse(written + b"padding")
    assert superblob.encode_as_read(found) == written
    assert list(found.blobs) == blobs
    assert found.canonical == (superblob.encode(blobs) == written)


def test_a_detached_signature_holds_one_for_each_processor() -> None:
    """Apple's `codesign --detached`: by processor type, each an embedded signature."""
    (code,) = macho.parse(macho_samples.thin())
    assert code.signature_bytes is not None
    embedded = superblob.encode(superblob.parse(code.signature_bytes).blobs)
    written = superblob.encode(
        [(code.cpu_type, embedded), (7, superblob.encode([]))], magic=superblob.MAGIC_DETACHED
    )
    (first, second) = superblob.parse_detached(written)
    assert first == (code.cpu_type, superblob.parse(embedded))
    assert second[0] == 7
    outer = superblob.parse(written, magic=superblob.MAGIC_DETACHED)
    assert superblob.encode_as_read(outer) == written
    with pytest.raises(errors.FormatError, match="begins with"):
        superblob.parse(written)
    with pytest.raises(errors.FormatError, match="begins with"):
        superblob.parse_detached(embedded)


def test_a_blob_that_does_not_fit_is_refused() -> None:
    """Writing never goes past the stated length."""
    blob = superblob.wrap(superblob.MAGIC_WRAPPER, b"abc")
    found = superblob.parse(superblob.encode([(2, blob)]))
    with pytest.raises(errors.FormatError, match="do not fit"):
        superblob.encode_as_read(replace(found, length=found.length - 1))


def test_a_blob_of_another_kind_is_refused() -> None:
    """The magic and the length must be the blob's."""
    with pytest.raises(errors.FormatError):
        superblob.unwrap(superblob.wrap(superblob.MAGIC_WRAPPER, b""), superblob.MAGIC_REQUIREMENTS)
    with pytest.raises(errors.FormatError):
        superblob.unwrap(b"", superblob.MAGIC_WRAPPER)
