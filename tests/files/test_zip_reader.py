"""Other tools' zips: what they hold, as it will be compared with what was signed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.files import zip_reader, zip_unpacker, zip_writer
from release_tool.files.zip_writer import Zipped
from tests.files import trees


@given(trees.trees())
def test_what_we_write_is_read_back(tree: trees.Tree) -> None:
    """Reader and writer agree on every member, its kind, mode and digest."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        trees.write(tree, root / "app")
        made = zip_writer.pack(root, "app", root / "out.zip")
        assert zip_reader.read(root / "out.zip") == made


def test_info_zips_archives_are_read(tmp_path: Path) -> None:
    """A tool that shares no code with ours, deflating, with links kept."""
    program = shutil.which("zip")
    if program is None:
        pytest.skip("no zip here")
    (tmp_path / "app" / "inner").mkdir(parents=True)
    (tmp_path / "app" / "inner" / "file").write_bytes(b"content " * 1000)
    (tmp_path / "app" / "link").symlink_to("inner/file")
    subprocess.run([program, "-q", "-r", "-y", "out.zip", "app"], cwd=tmp_path, check=True)
    ours = zip_writer.pack(tmp_path, "app", tmp_path / "ours.zip")
    theirs = zip_reader.read(tmp_path / "out.zip")
    assert _files(theirs) == _files(ours)


def _files(zipped: Zipped) -> set[tuple[str, str, str]]:
    return {(one.path, one.kind, one.sha256) for one in zipped.members}


def test_names_that_are_not_marked_as_utf8_are_read_as_it(tmp_path: Path) -> None:
    """Ditto writes UTF-8 and does not set the flag; decomposed names stay so."""
    name = unicodedata.normalize("NFD", "Größe")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as made:
        made.writestr(zipfile.ZipInfo("x" * len(name.encode())), b"1")
    content = (tmp_path / "out.zip").read_bytes()
    encoded = name.encode()
    (tmp_path / "out.zip").write_bytes(content.replace(b"x" * len(encoded), encoded))
    (member,) = zip_reader.read(tmp_path / "out.zip").members
    assert member.path == name


def test_sidecars_of_attributes_are_no_files_of_the_app(tmp_path: Path) -> None:
    """What lies beside files travels along and is not compared."""
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as made:
        made.writestr("app/file", b"1")
        made.writestr("__MACOSX/app/._file", b"2")
    assert [one.path for one in zip_reader.read(tmp_path / "out.zip").members] == ["app/file"]


def test_a_damaged_member_is_noticed(tmp_path: Path) -> None:
    """Its checksum does not hold."""
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as made:
        made.writestr("app/file", b"content")
    content = (tmp_path / "out.zip").read_bytes()
    (tmp_path / "out.zip").write_bytes(content.replace(b"content", b"CONTENT"))
    with pytest.raises(errors.FormatError):
        zip_reader.read(tmp_path / "out.zip")


def _changed(folder: Path, change: Callable[[bytearray], object]) -> Path:
    with zipfile.ZipFile(folder / "out.zip", "w") as made:
        made.writestr("n", b"content")
    content = bytearray((folder / "out.zip").read_bytes())
    change(content)
    (folder / "out.zip").write_bytes(content)
    return folder / "out.zip"


def _directory(content: bytearray) -> int:
    return content.index(b"PK\x01\x02")


def _method(number: int) -> Callable[[bytearray], object]:
    def change(content: bytearray) -> None:
        for at in (8, _directory(content) + 10):
            content[at : at + 2] = number.to_bytes(2, "little")

    return change


def _nameless(content: bytearray) -> None:
    at = _directory(content)
    content[at + 28 : at + 34] = b"\0\0\1\0\0\0"  # no name, one byte of further fields


def _before_the_beginning(content: bytearray) -> None:
    content[-4] = 0x5E  # a comment that is not there
    content[content.index(b"PK\x05\x06") + 16] = 0xFF


@pytest.mark.parametrize(
    "change", [_method(12), _method(14), _method(97), _nameless, _before_the_beginning]
)
def test_odd_directories_end_in_the_formats_error(
    tmp_path: Path, change: Callable[[bytearray], object]
) -> None:
    """Other packers than a Mac's, a member without a name, offsets that lead out of the file."""
    path = _changed(tmp_path, change)
    with pytest.raises(errors.FormatError):
        zip_reader.read(path)
    (tmp_path / "unpacked").mkdir()
    with pytest.raises(errors.FormatError):
        zip_unpacker.unpack(path, tmp_path / "unpacked")


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_any_changed_byte_ends_in_a_value_or_the_formats_error(at: int, value: int) -> None:
    """A zip with one byte changed never breaks the reader."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("app/file", b"content " * 20)
            made.writestr("app/other", b"x")
        content = bytearray(path.read_bytes())
        content[at % len(content)] = value
        path.write_bytes(content)
        try:
            zip_reader.read(path)
        except errors.FormatError:
            return
