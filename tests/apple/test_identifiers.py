"""Identifiers that nobody named, as Apple's published signer derives them."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import identifiers, macho
from tests import macho_samples


@pytest.mark.parametrize(
    ("path", "name"),
    [
        # The three examples that Apple's source names.
        ("libfrotz7.3.5.dylib", "libfrotz7"),
        ("mumble.77.plugin", "mumble.77"),
        ("rumble.rb", "rumble"),
        ("/usr/lib/libz.1.2.12.dylib", "libz.1"),
        ("Contents/MacOS/tool", "tool"),
        ("Kit.framework", "Kit"),
        ("foo.2.3.4", "foo.2"),
        ("foo3.5", "foo3"),
        ("7zip.bin", "7zip"),
        ("7.2", "7.2"),
        (".hidden", ""),
        ("ends.with.", "ends.with."),
        ("two.words.app", "two.words"),
        ("naïve.so", "naïve"),
    ],
)
def test_a_name_out_of_a_path(path: str, name: str) -> None:
    """Folders, extension and later numbers go; what begins with a digit stays."""
    assert identifiers.canonical(path) == name


@given(st.text(max_size=30))
def test_any_path_has_a_name(path: str) -> None:
    """The name is a beginning of the last component, whatever it is."""
    assert path.rpartition("/")[2].startswith(identifiers.canonical(path))


def test_ad_hoc_names_without_a_dot_are_made_unique() -> None:
    """The linker's UUID is appended as codesign writes it; a dot or a signer makes it needless."""
    (code,) = macho.parse(macho_samples.thin())
    assert code.uuid is not None
    suffix = b"UUID".hex() + code.uuid.hex()
    assert identifiers.of_tool("bin/tool", (code,), adhoc=True) == f"tool-{suffix}"
    assert identifiers.of_tool("bin/tool", (code,), adhoc=False) == "tool"
    assert identifiers.of_tool("mumble.77.so", (code,), adhoc=True) == "mumble.77"


def test_without_a_uuid_the_load_commands_make_it_unique() -> None:
    """SHA-1 over the 28 bytes of a 32-bit header and the load commands, for 64-bit code too."""
    data = bytearray(macho_samples.thin())
    (code,) = macho.parse(bytes(data))
    for command in code.commands:
        if command.command == 0x1B:
            struct.pack_into("<I", data, command.offset, 0x2A)
    (code,) = macho.parse(bytes(data))
    assert code.uuid is None
    digest = hashlib.sha1(data[:28] + data[32 : code.commands_end]).hexdigest()
    assert identifiers.of_tool("tool", (code,), adhoc=True) == f"tool-{digest}"


def test_all_slices_share_one_identifier() -> None:
    """The arm64 slice is asked, as on the Macs of today."""
    slices = macho.parse(macho_samples.universal())
    arm = next(code for code in slices if code.arch == "arm64")
    assert identifiers.host_slice(slices) is arm
    assert arm.uuid is not None
    assert identifiers.of_tool("tool", slices, adhoc=True).endswith(arm.uuid.hex())


def test_a_bundle_is_called_as_it_says() -> None:
    """By its identifier, else its name, else its folder's."""
    slices = macho.parse(macho_samples.thin())
    for info, expected in (
        ({"CFBundleIdentifier": "io.example.kit", "CFBundleName": "Kit"}, "io.example.kit"),
        ({"CFBundleName": "Kit 2"}, "Kit 2"),
        ({}, "Folder"),
    ):
        assert identifiers.of_bundle("Folder.app", info, slices, adhoc=False) == expected
    with pytest.raises(errors.FormatError, match="is no text"):
        identifiers.of_bundle("Folder.app", {"CFBundleIdentifier": 7}, slices, adhoc=False)
