"""Code directories of every version, on the samples' linker signature and on hostile input."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import (
    code_directory,
    code_directory_builder,
    macho,
    macho_writer,
    superblob,
)
from release_tool.apple.code_directory import CodeDirectory, ScatterRange
from tests import macho_samples

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
TYPES = {1: 20, 2: 32, 3: 20, 4: 48, 5: 64}


@st.composite
def scatters(draw: st.DrawFn, pages: int) -> tuple[ScatterRange, ...]:
    """Ranges in order, within so many pages, with or without holes."""
    chosen = draw(st.lists(st.booleans(), min_size=pages, max_size=pages).filter(any))
    found: list[ScatterRange] = []
    for page, taken in enumerate(chosen):
        if taken and found and found[-1].base + found[-1].pages == page and draw(st.booleans()):
            found[-1] = found[-1]._replace(pages=found[-1].pages + 1)
        elif taken:
            found.append(ScatterRange(1, page, draw(st.integers(0, 2**64 - 1)), page % 2))
    return tuple(found)


@st.composite
def directories(draw: st.DrawFn) -> CodeDirectory:
    """Any directory that our writer can be asked for."""
    hash_type = draw(st.sampled_from(sorted(TYPES)))
    digest = st.binary(min_size=TYPES[hash_type], max_size=TYPES[hash_type])
    version = draw(st.sampled_from([0x20000, 0x20100, 0x20200, 0x20300, 0x20400, 0x20500, 0x20600]))
    special = draw(st.dictionaries(st.integers(1, 11), digest.filter(any), max_size=5))
    pages = draw(st.integers(0, 6))
    runs, names, modern = version >= 0x20500, version >= 0x20200, version >= 0x20400
    scatter = draw(scatters(pages)) if version >= 0x20100 and pages and draw(st.booleans()) else ()
    return CodeDirectory(
        version=version,
        flags=draw(st.integers(0, 0xFFFFFFFF)),
        identifier=draw(NAMES),
        team_id=draw(NAMES) if names and draw(st.booleans()) else None,
        hash_type=hash_type,
        page_size_log2=12,
        code_limit=max(0, pages * 4096 - draw(st.integers(0, 4095))) if pages else 0,
        special_slots=max(special, default=0) + draw(st.integers(0, 2)),
        special=special,
        code_hashes=tuple(draw(digest) for _ in range(sum(one.pages for one in scatter) or pages)),
        scatter=scatter,
        spare2=draw(st.integers(0, 2**32 - 1)),
        spare3=draw(st.integers(0, 2**32 - 1)) if names else 0,
        platform=draw(st.integers(0, 255)),
        exec_segment_base=draw(st.integers(0, 2**64 - 1)) if modern else 0,
        exec_segment_limit=draw(st.integers(0, 2**64 - 1)) if modern else 0,
        exec_segment_flags=draw(st.integers(0, 2**64 - 1)) if modern else 0,
        runtime=draw(st.integers(0, 2**32 - 1)) if runs else 0,
        linkage=draw(st.binary(min_size=12, max_size=12)) if version >= 0x20600 else b"",
    )


def _linker_signed() -> tuple[macho.Slice, bytes]:
    (code,) = macho.parse(macho_samples.thin())
    assert code.signature_bytes is not None
    raw = superblob.parse(code.signature_bytes).get(superblob.SLOT_CODE_DIRECTORY)
    assert raw is not None
    return code, raw


@given(directories())
def test_writing_and_reading_agree(directory: CodeDirectory) -> None:
    """Every field of every version is read back as it was written."""
    raw = code_directory.encode(directory)
    found = code_directory.parse(raw)
    assert code_directory.encode(found) == raw
    for name in CodeDirectory.__dataclass_fields__:
        if name != "raw":
            assert getattr(found, name) == getattr(directory, name), name


@given(directories(), st.data())
@settings(max_examples=80)
def test_a_truncated_directory_is_a_format_error(
    directory: CodeDirectory, data: st.DataObject
) -> None:
    """Cut anywhere, it is refused: also where its stated length is cut with it."""
    raw = code_directory.encode(directory)
    end = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(errors.FormatError):
        code_directory.parse(raw[:end])
    if end >= 8 and directory.code_hashes:
        shorter = bytearray(raw[:end])
        struct.pack_into(">I", shorter, 4, end)
        with pytest.raises(errors.FormatError):
            code_directory.parse(bytes(shorter))


@given(directories(), st.integers(0, 100), st.binary(min_size=1, max_size=8))
@settings(max_examples=150)
def test_noise_never_escapes(directory: CodeDirectory, start: int, noise: bytes) -> None:
    """Changed anywhere, it is read or refused with our error."""
    raw = bytearray(code_directory.encode(directory))
    raw[start : start + len(noise)] = noise
    try:
        found = code_directory.parse(bytes(raw))
    except errors.FormatError:
        return
    assert len(list(found.covered())) == len(found.code_hashes)
    assert found.is_whole or found.scatter
    assert code_directory.encode(found) == bytes(raw)


def test_a_linkers_directory_comes_out_byte_for_byte() -> None:
    """What another writer laid out, ours lays out alike, and its pages hash to its slots."""
    code, raw = _linker_signed()
    found = code_directory.parse(raw)
    assert code_directory.encode(found) == raw
    assert set(found.flag_names) == {"adhoc", "linker-signed"}
    pages = code_directory.page_hashes(
        code.data,
        code_limit=found.code_limit,
        page_size_log2=found.page_size_log2,
        hash_type=found.hash_type,
    )
    assert tuple(pages) == found.code_hashes


def test_the_cdhash_is_the_cut_digest() -> None:
    """20 bytes of SHA-256 over the whole blob; the full digest stays whole."""
    _, raw = _linker_signed()
    assert code_directory.full_digest(raw) == hashlib.sha256(raw).digest()
    assert code_directory.cdhash(raw) == hashlib.sha256(raw).digest()[:20]
    with pytest.raises(errors.FormatError):
        code_directory.cdhash(b"\0" * 100)


def test_the_size_is_known_before_a_page_is_hashed() -> None:
    """The load command names the room, and lies in the first page."""
    code, _ = _linker_signed()
    planned = code_directory_builder.planned(
        hash_type=code_directory.SHA256,
        page_size_log2=code_directory_builder.page_size_log2("arm64"),
        code_limit=40_000,
        identifier="io.example",
        team_id="SLDQ2GJ6TL",
        flags=code_directory.RUNTIME,
        special={7: b"\1" * 32},
        exec_segment=(0, 16384, 1),
        runtime=0x1B0000,
    )
    image = macho_writer.Image(head=bytes(code.data[:99]), body=code.data[99:], fill=b"")
    built = code_directory_builder.build(planned, image)
    assert len(built) == code_directory_builder.encoded_size(planned)
    found = code_directory.parse(built)
    assert (found.version, found.special_slots, found.page_size) == (0x20500, 7, 16384)
    assert len(found.code_hashes) == 3


def test_code_shorter_than_its_limit_is_refused() -> None:
    """A directory that claims more than there is covers nothing."""
    with pytest.raises(errors.FormatError):
        list(code_directory.page_hashes(bytes(10), code_limit=11, page_size_log2=12, hash_type=2))


@pytest.mark.parametrize(
    ("entitlements", "flags"),
    [
        ({}, 0x1),
        ({"get-task-allow": True}, 0x11),
        ({"get-task-allow": False}, 0x1),
        ({"com.apple.security.get-task-allow": True}, 0x1),
        ({"com.apple.security.cs.allow-jit": True}, 0x1),
        ({"dynamic-codesigning": True}, 0x41),
    ],
)
def test_entitlements_show_in_the_exec_segment(entitlements: dict[str, object], flags: int) -> None:
    """Only the private ones, and only where they are true."""
    found = code_directory_builder.exec_segment_flags(main_binary=True, entitlements=entitlements)
    assert found == flags


def test_a_library_has_no_exec_segment_flags() -> None:
    """The flag of a main binary belongs to executables."""
    assert code_directory_builder.exec_segment_flags(main_binary=False, entitlements={}) == 0


# Layouts of other writers


def _moved(directory: CodeDirectory, places: dict[str, int], length: int, fill: int) -> bytes:
    """The same directory with its parts elsewhere and bytes between them."""
    raw = code_directory.encode(directory)
    scatter, team = struct.unpack_from(">II", raw, 44)
    (hashes,) = struct.unpack_from(">I", raw, 16)
    (name,) = struct.unpack_from(">I", raw, 20)
    specials = directory.special_slots * directory.hash_size
    blob = bytearray([fill]) * length
    blob[:88] = raw[:88]
    parts = {
        "name": (name, len(directory.identifier.encode()) + 1, 20, 0),
        "team": (team, len((directory.team_id or "").encode()) + 1, 48, 0),
        "scatter": (scatter, 24 * (len(directory.scatter) + 1), 44, 0),
        "hashes": (hashes - specials, len(raw) - hashes + specials, 16, specials),
    }
    for part, (start, size, field, before) in parts.items():
        blob[places[part] : places[part] + size] = raw[start : start + size]
        struct.pack_into(">I", blob, field, places[part] + before)
    struct.pack_into(">I", blob, 4, length)
    return bytes(blob)


def _small() -> CodeDirectory:
    return CodeDirectory(
        version=0x20400,
        flags=0x8000_0002,
        identifier="io.example",
        team_id="SLDQ2GJ6TL",
        hash_type=code_directory.SHA256,
        page_size_log2=12,
        code_limit=5 * 4096 - 1,
        special_slots=2,
        special={2: b"\2" * 32},
        code_hashes=(b"\3" * 32, b"\4" * 32, b"\5" * 32),
        scatter=(ScatterRange(1, 0, 0), ScatterRange(2, 3, 0x180000000)),
    )


@given(st.permutations(["name", "team", "scatter", "hashes"]), st.integers(0, 9), st.integers(0, 1))
def test_another_order_with_gaps_comes_out_byte_for_byte(
    order: list[str], gap: int, fill: int
) -> None:
    """Whatever stands between the parts, and whichever part is first, encoding gives it back."""
    directory = _small()
    sizes = {"name": 11, "team": 11, "scatter": 72, "hashes": 5 * 32}
    position, places = 88 + gap, {}
    for part in order:
        places[part] = position
        position += sizes[part] + gap
    raw = _moved(directory, places, position, fill * 0xEE)
    found = code_directory.parse(raw)
    assert code_directory.encode(found) == raw
    assert (found.identifier, found.team_id) == (directory.identifier, directory.team_id)
    assert found.code_hashes == directory.code_hashes
    assert found.scatter == directory.scatter
    ours = order == ["scatter", "name", "team", "hashes"] and not gap
    assert (found.layout is None) == ours


def test_bytes_before_the_hashes_are_kept() -> None:
    """Hashes of the code before its encryption have a field of their own and stand between."""
    raw = bytearray(code_directory.encode(replace(_small(), version=0x20500)))
    (hashes,) = struct.unpack_from(">I", raw, 16)
    start = hashes - 64
    raw[start:start] = b"\7" * 96
    struct.pack_into(">I", raw, 4, len(raw))
    struct.pack_into(">I", raw, 16, hashes + 96)
    struct.pack_into(">I", raw, 92, start)
    found = code_directory.parse(bytes(raw))
    assert found.pre_encrypt_offset == start
    assert code_directory.encode(found) == bytes(raw)


def test_a_code_limit_in_both_fields_is_kept() -> None:
    """The 64-bit field counts where it is filled, whatever the other says."""
    raw = bytearray(code_directory.encode(_small()))
    struct.pack_into(">I", raw, 32, 0xFFFFFFFF)
    struct.pack_into(">Q", raw, 56, 5 * 4096 - 1)
    found = code_directory.parse(bytes(raw))
    assert found.code_limit == 5 * 4096 - 1
    assert found.code_limit_fields == (0xFFFFFFFF, 5 * 4096 - 1)
    assert code_directory.encode(found) == bytes(raw)


def test_code_beyond_four_gigabytes_has_the_wide_limit() -> None:
    """Only the 64-bit field can hold it."""
    directory = replace(_small(), scatter=(ScatterRange(3, 0x200000, 0),), code_limit=1 << 34)
    found = code_directory.parse(code_directory.encode(directory))
    assert found.code_limit == 1 << 34
    assert not found.is_whole


def test_scattered_code_is_hashed_by_its_ranges() -> None:
    """Each slot is of the page that its range names; pages in a hole have none."""
    code = bytes(number for number in range(5) for _ in range(4096))[: 5 * 4096 - 1]
    directory = _small()
    hashes = tuple(code_directory.slot_hashes(directory, code))
    assert hashes == tuple(
        hashlib.sha256(code[page * 4096 : (page + 1) * 4096]).digest() for page in (0, 3, 4)
    )
    assert list(directory.covered()) == [(0, 4096), (12288, 16384), (16384, 20479)]
    assert not directory.is_whole
    whole = replace(directory, scatter=(), code_hashes=(b"",) * 5)
    assert whole.is_whole
    assert len(list(code_directory.slot_hashes(whole, code))) == 5
    with pytest.raises(errors.FormatError):
        list(code_directory.slot_hashes(directory, code[:-1]))


@pytest.mark.parametrize(
    "scatter",
    [
        (ScatterRange(2, 0, 0),),
        (ScatterRange(4, 0, 0),),
        (ScatterRange(2, 0, 0), ScatterRange(1, 1, 0)),
        (ScatterRange(1, 3, 0), ScatterRange(2, 0, 0)),
        (ScatterRange(1, 0, 0), ScatterRange(2, 4, 0)),
        (ScatterRange(3, 0xFFFFFFFF, 0),),
        (ScatterRange(0xFFFFFFFF, 0, 0),),
    ],
)
def test_scatter_that_contradicts_itself_is_refused(scatter: tuple[ScatterRange, ...]) -> None:
    """Out of order, overlapping, behind the code, or of more or fewer slots than there are."""
    with pytest.raises(errors.FormatError):
        code_directory.parse(code_directory.encode(replace(_small(), scatter=scatter)))


@pytest.mark.parametrize(("offset", "value"), [(44, 4), (44, 0x7FFFFFFF), (20, 0), (48, 40)])
def test_parts_outside_of_their_place_are_refused(offset: int, value: int) -> None:
    """No part may lie in the header or behind the blob."""
    raw = bytearray(code_directory.encode(_small()))
    struct.pack_into(">I", raw, offset, value)
    with pytest.raises(errors.FormatError):
        code_directory.parse(bytes(raw))


def test_one_hash_over_everything() -> None:
    """A page size of zero, as disk images have it, makes one page of all code."""
    code = bytes(range(256)) * 100
    directory = replace(
        _small(), page_size_log2=0, code_limit=len(code), scatter=(), code_hashes=(b"\1" * 32,)
    )
    found = code_directory.parse(code_directory.encode(directory))
    assert list(code_directory.slot_hashes(found, code)) == [hashlib.sha256(code).digest()]
    scattered = code_directory.encode(replace(directory, scatter=(ScatterRange(1, 0, 0),)))
    with pytest.raises(errors.FormatError, match="outside"):
        code_directory.parse(scattered)
