"""Reading and writing Mach-O files, against LIEF and hostile input."""

from __future__ import annotations

import contextlib
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
            assert image.size == macho_writer.new_limit(code)
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
        ("big-endian processor", 4, 0x0100_0012),
        ("32-bit processor", 4, 7),
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
    assert image.size == limit
    assert limit % 16 == 0
    whole = b"".join(image.chunks) + bytes(8192)
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


@given(st.sampled_from(["arm64", "unsigned arm64"]), st.integers(0, 60_000), st.integers(0, 60_000))
@settings(max_examples=50)
def test_any_span_of_an_image_is_that_of_its_bytes(name: str, start: int, end: int) -> None:
    """Pages are hashed out of pieces: within the changed head, behind it, and across."""
    (code,) = macho.parse(ALL[name])
    image = macho_writer.with_room(code, 8192)
    whole = b"".join(image.chunks)
    assert b"".join(image.span(start, end)) == whole[start:end]


def test_an_unsigned_file_becomes_what_the_linker_signed() -> None:
    """Taking the signature out and making the same room again gives the linker's bytes back."""
    (original,) = macho.parse(ALL["arm64"])
    assert original.signature is not None
    limit, size = original.signature
    (bare,) = macho.parse(ALL["unsigned arm64"])
    assert b"".join(macho_writer.with_room(bare, size).chunks) == ALL["arm64"][:limit]


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
    same = macho_writer.join(data, [(code, (code.data,)) for code in slices])
    assert b"".join(same) == data
    grown = [(code, bytes(code.data) + bytes(100_000)) for code in slices]
    joined = b"".join(macho_writer.join(data, [(code, (new,)) for code, new in grown]))
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


# Other processors, byte orders and word sizes

PROCESSORS: dict[str, tuple[int, int, macho_samples.Order, bool]] = {
    "i386": (7, 3, "<", False),
    "ppc": (18, 10, ">", False),
    "ppc64": (0x01000012, 100, ">", True),
    "arm": (12, 9, "<", False),
    "arm64_32": (0x0200000C, 1, "<", False),
    "x86_64": (0x01000007, 0x80000003, "<", True),
    "arm64": (0x0100000C, 0, "<", True),
    "arm64e": (0x0100000C, 0x80000002, "<", True),
    "cpu 0x63": (0x63, 0, "<", False),
}


def _tool(name: str) -> bytes:
    """A small tool for any processor, with a plist, a library, a run path and a signature."""
    cpu_type, subtype, order, wide = PROCESSORS[name]
    plist = b"<plist/>"
    sections = (("__info_plist", 1000, len(plist)), ("__bss", 99_999, 50))
    commands = [
        macho_samples.segment("__TEXT", 0, 1100, sections[0], order=order, wide=wide),
        macho_samples.segment("__LINKEDIT", 1100, 100, order=order, wide=wide),
        macho_samples.command(
            0xC, "IIII", 24, 2, 0x10203, 0x10000, order=order, text="/usr/lib/libSystem.B.dylib"
        ),
        macho_samples.command(0x8000001C, "I", 12, order=order, text="@loader_path/../lib"),
        macho_samples.command(0x1B, "16s", b"0123456789abcdef", order=order),
        macho_samples.command(0x24, "II", 0x0A0600, 0x0A0700, order=order),
        macho_samples.command(0x7777, "I", 5, order=order),
        macho_samples.command(0x1D, "II", 1120, 64, order=order),
    ]
    head = macho_samples.crafted(*commands, cpu=(cpu_type, subtype), order=order, wide=wide)
    assert len(head) < 1000
    return (head.ljust(1000, b"\0") + plist).ljust(1200, b"\0")


@pytest.mark.parametrize("name", sorted(PROCESSORS))
def test_every_processor_is_read_alike(name: str) -> None:
    """The same tool, in the form that its processor has, gives the same facts."""
    data = _tool(name)
    (code,) = macho.parse(data)
    cpu_type, subtype, order, wide = PROCESSORS[name]
    assert (code.arch, code.cpu_type, code.cpu_subtype) == (name, cpu_type, subtype)
    assert (code.is_64_bit, code.byte_order) == (wide, {"<": "little", ">": "big"}[order])
    assert [(item.name, item.offset, item.end) for item in code.segments] == [
        ("__TEXT", 0, 1100),
        ("__LINKEDIT", 1100, 1200),
    ]
    assert code.info_plist == b"<plist/>"
    assert code.signature == (1120, 64)
    assert code.linked_libraries == ("/usr/lib/libSystem.B.dylib",)
    assert code.libraries[0].kind == "required"
    assert code.libraries[0].current_version == "1.2.3"
    assert code.rpaths == ("@loader_path/../lib",)
    assert code.uuid == b"0123456789abcdef"
    assert (code.minos, code.sdk) == ("10.6.0", "10.7.0")
    assert code.commands[6].name == "0x7777"
    assert code.flag_names == ("no-undefined", "dyld-link", "two-level", "pie")
    assert macho.is_macho(data[:8])


@pytest.mark.parametrize("name", ["i386", "x86_64", "arm", "arm64", "arm64e", "ppc"])
def test_lief_reads_the_same_of_other_processors(name: str) -> None:
    """Segments and libraries agree with an independent parser where that reads the form."""
    file = _by_lief(_tool(name)).at(0)
    assert file is not None
    (code,) = macho.parse(_tool(name))
    assert [(item.name, item.file_offset, item.file_size) for item in file.segments] == [
        (item.name, item.offset, item.size) for item in code.segments
    ]
    assert [item.name for item in file.libraries] == list(code.linked_libraries)
    assert [item.path for item in file.rpaths] == list(code.rpaths)


@pytest.mark.parametrize("name", ["i386", "ppc", "ppc64", "arm64_32"])
def test_only_what_macos_runs_today_is_signed(name: str) -> None:
    """Other code is read and verified, but the writer refuses it by its own error."""
    (code,) = macho.parse(_tool(name))
    with pytest.raises(errors.FormatError, match="64-bit little-endian"):
        macho_writer.with_room(code, 4096)


@pytest.mark.parametrize("wide", [False, True])
def test_old_universal_files_are_read(wide: bool) -> None:
    """PowerPC beside Intel in one file, as Apple shipped it: both byte orders, both word sizes."""
    names = ["ppc", "ppc64", "i386", "x86_64", "arm64", "arm64e"]
    data = macho_samples.fat(*map(_tool, names), wide=wide)
    slices = macho.parse(data)
    assert [code.arch for code in slices] == names
    assert (
        b"".join(macho_writer.join(data, [(code, (code.data,)) for code in slices]))
        == data[: slices[-1].offset + slices[-1].size]
    )


def test_capability_bits_may_differ_between_the_headers() -> None:
    """The high byte of a subtype chooses no slice, so a difference there is a fact."""
    data = macho_samples.fat(_tool("x86_64"), _tool("arm64e"), subtypes={0: 3, 1: 2})
    slices = macho.parse(data)
    assert [(code.arch, code.fat_subtype, code.cpu_subtype) for code in slices] == [
        ("x86_64", 3, 0x80000003),
        ("arm64e", 2, 0x80000002),
    ]
    joined = b"".join(macho_writer.join(data, [(code, (code.data,)) for code in slices]))
    assert joined == data[: len(joined)]


def test_headers_that_name_two_architectures_are_refused() -> None:
    """The system chooses by one header and runs the other: they must agree."""
    with pytest.raises(errors.FormatError, match="another architecture"):
        macho.parse(macho_samples.fat(_tool("arm64e"), subtypes={0: 0}))


def test_one_architecture_twice_is_refused() -> None:
    """Readers would take the first or the last."""
    with pytest.raises(errors.FormatError, match="twice"):
        macho.parse(macho_samples.fat(_tool("arm64"), _tool("arm64")))
    with pytest.raises(errors.FormatError, match="twice"):
        macho.parse(macho_samples.fat(_tool("x86_64"), _tool("x86_64"), subtypes={0: 3}))


def test_a_slice_that_is_no_macho_is_refused() -> None:
    """A universal header over archives or bitcode is no code."""
    data = bytearray(macho_samples.fat(_tool("arm64")))
    data[0x1000:0x1008] = b"!<arch>\n"
    with pytest.raises(errors.FormatError, match="begins otherwise"):
        macho.parse(bytes(data))


# What load commands say


def _library(number: int, *, marker: int = 2, flags: int | None = None) -> bytes:
    fields = (24, marker, 0, 0) if flags is None else (28, marker, 0, 0, flags)
    return macho_samples.command(number, "I" * len(fields), *fields, text="@rpath/a.dylib")


def test_libraries_are_told_by_kind() -> None:
    """Each load command's kind, and the flags of the newer form, which a marker announces."""
    use = 0x1A741800
    (code,) = macho.parse(
        macho_samples.crafted(
            _library(0x0C),
            _library(0x80000018),
            _library(0x8000001F),
            _library(0x20),
            _library(0x80000023),
            _library(0x0C, marker=use, flags=0),
            _library(0x0C, marker=use, flags=2),
            _library(0x80000018, marker=use, flags=9),
            _library(0x0C, marker=use, flags=8),
            _library(0x0C, flags=1),
        )
    )
    kinds = [item.kind for item in code.libraries]
    assert kinds[:5] == ["required", "weak", "reexport", "lazy", "upward"]
    assert kinds[5:] == ["required", "reexport", "weak", "delayed", "required"]
    assert {item.name for item in code.libraries} == {"@rpath/a.dylib"}
    assert [item.may_be_missing for item in code.libraries].count(True) == 2


def test_a_zippered_file_names_both_platforms() -> None:
    """A platform each for macOS and Mac Catalyst; `minos` is what it says of macOS."""
    (code,) = macho.parse(
        macho_samples.crafted(
            macho_samples.command(0x32, "IIII", 6, 0x110000, 0x120000, 0),
            macho_samples.command(0x32, "IIII", 1, 0x0E0000, 0, 0),
        )
    )
    assert [(item.platform_name, item.minos, item.sdk) for item in code.platforms] == [
        ("Mac Catalyst", "17.0.0", "18.0.0"),
        ("macOS", "14.0.0", None),
    ]
    assert (code.minos, code.sdk, code.sdk_packed) == ("14.0.0", "0.0.0", 0)


def test_a_library_says_what_it_is() -> None:
    """The install name, the file's type, and what it sets for dyld."""
    (code,) = macho.parse(
        macho_samples.crafted(
            macho_samples.command(0xD, "IIII", 24, 1, 0x20000, 0x10000, text="@rpath/libx.dylib"),
            macho_samples.command(0x27, "I", 12, text="DYLD_LIBRARY_PATH=/tmp"),
            macho_samples.command(0xE, "I", 12, text="/usr/lib/dyld"),
            file_type=6,
        )
    )
    assert code.install_name is not None
    assert (code.install_name.name, code.install_name.current_version) == (
        "@rpath/libx.dylib",
        "2.0.0",
    )
    assert (code.file_type_name, code.is_executable) == ("dynamic library", False)
    assert code.dyld_environment == ("DYLD_LIBRARY_PATH=/tmp",)
    assert code.dylinker == "/usr/lib/dyld"


def test_names_end_at_their_first_zero() -> None:
    """The system compares names up to a zero; bytes behind it can hide nothing."""
    plist = b"<plist/>"
    section = macho_samples.segment("__TEXT\0abc", 0, 500, ("__info_plist\0x", 400, len(plist)))
    data = (macho_samples.crafted(section).ljust(400, b"\0") + plist).ljust(500, b"\0")
    (code,) = macho.parse(data)
    assert code.text_segment is not None
    assert code.info_plist == plist


def test_a_debug_companion_leaves_its_code_out() -> None:
    """Sections of a segment without bytes in the file name none, wherever they point."""
    segment = macho_samples.segment("__TEXT", 0, 0, ("__text", 99_999, 50_000))
    (code,) = macho.parse(macho_samples.crafted(segment, file_type=10))
    assert code.file_type_name == "debug companion"
    assert [item.zero_fill for item in code.segments[0].sections] == [True]


@pytest.mark.parametrize(
    "commands",
    [
        [macho_samples.command(0x1D, "II", 0, 0)] * 2,
        [macho_samples.command(0x1B, "16s", bytes(16))] * 2,
        [macho_samples.command(0xD, "IIII", 24, 0, 0, 0, text="a")] * 2,
        [macho_samples.command(0xE, "I", 12, text="/usr/lib/dyld")] * 2,
        [macho_samples.segment("__TEXT", 0, 0)] * 2,
        [macho_samples.segment("__TEXT", 0, 0, wide=False)],
        [macho_samples.command(0xC, "IIII", 8, 0, 0, 0, text="inside the fields")],
        [macho_samples.command(0xC, "IIII", 400, 0, 0, 0, text="behind the command")],
        [macho_samples.command(0x8000001C, "I", 4000, text="behind the command")],
        [macho_samples.command(0x1D, "II", 0, 1 << 31)],
        [macho_samples.command(0x1D, "I", 0)],
        [macho_samples.command(0x32, "I", 1)],
        [macho_samples.command(0xC, "I", 12, text="")],
    ],
)
def test_contradictory_commands_are_refused(commands: list[bytes]) -> None:
    """What two readers would read differently, or outside of its place, is no value."""
    with pytest.raises(errors.FormatError):
        macho.parse(macho_samples.crafted(*commands))


@given(st.sampled_from(sorted(PROCESSORS)), st.integers(0, 700), st.binary(min_size=1, max_size=12))
@settings(max_examples=200)
def test_changed_headers_of_any_processor_never_escape(name: str, start: int, noise: bytes) -> None:
    """In every byte order and word size a changed header is read or refused with our error."""
    whole = bytearray(_tool(name))
    whole[start : start + len(noise)] = noise
    with contextlib.suppress(errors.FormatError):
        macho.parse(bytes(whole))
