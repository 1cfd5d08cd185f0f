"""Code directories of every version, on the samples' linker signature and on hostile input."""

from __future__ import annotations

import hashlib
import struct

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
from release_tool.apple.code_directory import CodeDirectory
from tests import macho_samples

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
TYPES = {1: 20, 2: 32, 3: 20, 4: 48, 5: 64}


@st.composite
def directories(draw: st.DrawFn) -> CodeDirectory:
    """Any directory that our writer can be asked for."""
    hash_type = draw(st.sampled_from(sorted(TYPES)))
    digest = st.binary(min_size=TYPES[hash_type], max_size=TYPES[hash_type])
    version = draw(st.sampled_from([0x20000, 0x20100, 0x20200, 0x20300, 0x20400, 0x20500, 0x20600]))
    special = draw(st.dictionaries(st.integers(1, 11), digest.filter(any), max_size=5))
    pages = draw(st.integers(0, 6))
    runs, names, modern = version >= 0x20500, version >= 0x20200, version >= 0x20400
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
        code_hashes=tuple(draw(digest) for _ in range(pages)),
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
    assert len(found.code_hashes) == -(-found.code_limit // found.page_size)


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
        ({"com.apple.security.get-task-allow": True}, 0x11),
        ({"com.apple.security.get-task-allow": False}, 0x1),
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
