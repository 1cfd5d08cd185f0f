"""Reading and writing Mach-O files, against LIEF and hostile input."""

from __future__ import annotations

import struct

import lief
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import macho, macho_writer
from tests import macho_samples

ALL = {
    "arm64": macho_samples.thin(),
    "x86_64": macho_samples.thin(macho_samples.INTEL),
    "unsigned arm64": macho_samples.unsigned(),
    "universal": macho_samples.universal(),
    "universal, 64-bit header": macho_samples.universal(wide=True),
}
BYTES = st.sampled_from(sorted(ALL))


def _by_lief(data: bytes) -> lief.MachO.FatBinary:
    """The whole file: a slice of LIEF's does not outlive it."""
    lief.logging.disable()
    found = lief.MachO.parse(list(data))
    assert found is not None
    return found


@pytest.mark.parametrize("name", sorted(set(ALL) - {"universal, 64-bit header"}))
def test_it_reads_what_lief_reads(name: str) -> None:
    """Segments, libraries, versions and signature agree with an independent parser."""
    theirs = _by_lief(ALL[name])
    ours = macho.parse(ALL[name])
    assert theirs.size == len(ours)
    for one, other in zip(ours, theirs, strict=True):
        assert one.offset == other.fat_offset
        assert [
            (segment.name, segment.offset, segment.size, segment.vm_size)
            for segment in one.segments
        ] == [
            (item.name, item.file_offset, item.file_size, item.virtual_size)
            for item in other.segments
        ]
        assert list(one.linked_libraries) == [item.name for item in other.libraries]
        assert other.build_version is not None
        assert one.minos == ".".join(map(str, other.build_version.minos))
        assert one.sdk == ".".join(map(str, other.build_version.sdk))
        signature = other.code_signature if other.has_code_signature else None
        found = signature and (signature.data_offset, signature.data_size)
        assert one.signature == found
        assert one.is_executable


def test_both_universal_headers_say_the_same() -> None:
    """The 64-bit form, which LIEF does not read, gives the slices of the 32-bit one."""
    narrow, wide = (macho.parse(macho_samples.universal(wide=wide)) for wide in (False, True))
    assert [(code.offset, bytes(code.data)) for code in narrow] == [
        (code.offset, bytes(code.data)) for code in wide
    ]


def test_architectures_and_kinds_are_named() -> None:
    """A universal file gives its slices in its order."""
    assert [code.arch for code in macho.parse(ALL["universal"])] == ["x86_64", "arm64"]
    assert macho.is_universal(ALL["universal"])
    assert not macho.is_universal(ALL["arm64"])


@given(BYTES, st.data())
@settings(max_examples=120)
def test_a_truncated_file_is_a_format_error(name: str, data: st.DataObject) -> None:
    """Cut anywhere, a file is refused with our error and nothing else."""
    whole = ALL[name]
    end = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 4000))
    with pytest.raises(errors.FormatError):
        macho.parse(whole[:end])


@given(BYTES, st.integers(0, 3000), st.binary(min_size=1, max_size=12))
@settings(max_examples=250)
def test_changed_headers_never_escape(name: str, start: int, noise: bytes) -> None:
    """Whatever stands in the load commands, reader and writer work or raise FormatError."""
    whole = bytearray(ALL[name])
    position = start if "universal" not in name else (start if start % 2 else 0x4000 + start)
    whole[position : position + len(noise)] = noise
    try:
        for code in macho.parse(bytes(whole)):
            image = macho_writer.with_room(code, 4096)
            assert len(image) == macho_writer.code_limit(code)
    except errors.FormatError:
        pass


@given(st.binary(max_size=400))
def test_noise_is_a_format_error(noise: bytes) -> None:
    """Random bytes are refused, with any magic before them."""
    for magic in (b"", struct.pack("<I", macho.MAGIC_64), b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"):
        with pytest.raises(errors.FormatError):
            macho.parse(magic + noise)


def test_a_java_class_is_no_macho() -> None:
    """A class file shares the universal magic but not a plausible count."""
    assert not macho.is_macho(bytes.fromhex("cafebabe00000034"))
    assert macho.is_macho(ALL["universal"][:8])
    assert macho.is_macho(ALL["arm64"][:8])
    assert not macho.is_macho(b"\xca\xfe")


@pytest.mark.parametrize(
    ("name", "offset", "value"),
    [
        ("count of commands", 16, 1 << 20),
        ("size of commands", 20, 1 << 30),
        ("size of the first command", 36, 0),
        ("processor", 4, 0x0100_0012),
    ],
)
def test_one_wrong_field_is_named(name: str, offset: int, value: int) -> None:
    """A header that contradicts itself is refused, not followed."""
    data = bytearray(ALL["arm64"])
    struct.pack_into("<I", data, offset, value)
    with pytest.raises(errors.FormatError):
        macho.parse(bytes(data))


def test_overlapping_slices_are_refused() -> None:
    """Two slices may not share bytes: each would hash the other's signature."""
    data = bytearray(ALL["universal"])
    data[8 + 20 : 8 + 40] = data[8:28]
    with pytest.raises(errors.FormatError, match="overlap"):
        macho.parse(bytes(data))


@pytest.mark.parametrize("name", ["arm64", "x86_64", "unsigned arm64"])
def test_room_is_made_as_lief_expects_it(name: str) -> None:
    """After room was made, LIEF finds the signature, and the layout holds."""
    (code,) = macho.parse(ALL[name])
    image = macho_writer.with_room(code, 8192)
    limit = macho_writer.code_limit(code)
    assert len(image) == limit
    assert limit % 16 == 0
    whole = bytes(image) + bytes(8192)
    file = _by_lief(whole)
    found = file.at(0)
    assert found is not None
    assert lief.MachO.check_layout(found) == (True, "")
    signature = found.code_signature
    assert signature is not None
    assert (signature.data_offset, signature.data_size) == (limit, 8192)
    (again,) = macho.parse(whole)
    assert again.signature == (limit, 8192)
    assert again.linkedit is not None
    assert again.linkedit.end == len(whole)
    assert again.linkedit.vm_size >= again.linkedit.size


def test_an_unsigned_file_becomes_what_the_linker_signed() -> None:
    """Taking the signature out and making the same room again gives the linker's bytes back."""
    (original,) = macho.parse(ALL["arm64"])
    assert original.signature is not None
    limit, size = original.signature
    (bare,) = macho.parse(ALL["unsigned arm64"])
    assert bytes(macho_writer.with_room(bare, size)) == ALL["arm64"][:limit]


def test_code_without_room_for_a_command_is_refused() -> None:
    """Bytes behind the load commands are never overwritten."""
    data = bytearray(ALL["unsigned arm64"])
    (code,) = macho.parse(bytes(data))
    data[code.commands_end + 3] = 1
    (code,) = macho.parse(bytes(data))
    with pytest.raises(errors.FormatError, match="no room"):
        macho_writer.with_room(code, 4096)


def test_data_behind_linkedit_is_refused() -> None:
    """A signature must stand last, so appended data is not signed over silently."""
    (code,) = macho.parse(ALL["arm64"] + bytes(64))
    with pytest.raises(errors.FormatError, match="__LINKEDIT is not last"):
        macho_writer.with_room(code, 4096)


@pytest.mark.parametrize("wide", [False, True])
def test_a_universal_file_is_put_together_again(wide: bool) -> None:
    """Unchanged slices give the same file; grown ones move the next to its alignment."""
    data = macho_samples.universal(wide=wide)
    slices = macho.parse(data)
    assert macho_writer.join(data, [(code, bytes(code.data)) for code in slices]) == data
    grown = [(code, bytes(code.data) + bytes(100_000)) for code in slices]
    joined = macho_writer.join(data, grown)
    again = macho.parse(joined)
    assert [bytes(code.data) for code in again] == [content for _, content in grown]
    assert all(code.offset % (1 << code.alignment_log2) == 0 for code in again)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFF), st.integers(0, 0xFF))
def test_versions_go_both_ways(major: int, minor: int, patch: int) -> None:
    """Packed versions and text agree."""
    text = f"{major}.{minor}.{patch}"
    assert macho.version_text(macho.packed_version(text)) == text
    assert macho.packed_version(f"{major}.{minor}") == macho.packed_version(f"{major}.{minor}.0")


@pytest.mark.parametrize("text", ["", "14.", "14.0.0.0", "x", "1٤.0", "70000", "14.256", "-1"])
def test_what_is_no_version_is_refused(text: str) -> None:
    """Only one to three small decimal parts are a version."""
    with pytest.raises(errors.FormatError):
        macho.packed_version(text)
