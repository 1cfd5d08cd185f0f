"""Zips of strangers: unpacked as they stand, and refused where they would do harm."""

from __future__ import annotations

import contextlib
import io
import stat
import tracemalloc
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.files import zip_unpacker
from release_tool.files.archive_reader import Limits, Unpacked
from tests.fake_mac import attributes

FILE, LINK, PIPE = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o755, stat.S_IFIFO | 0o644
Entry = tuple[str, bytes, int]
GOOD: tuple[Entry, ...] = (
    ("A.app/Contents/Info.plist", b"<plist/>", FILE),
    ("A.app/Contents/MacOS/a", b"code", stat.S_IFREG | 0o755),
    ("A.app/Contents/link", b"Info.plist", LINK),
    ("A.app/Contents/fonts", b"/System/Library/Fonts", LINK),
    ("__MACOSX/A.app/._Contents", b"attributes", FILE),
)


def packed(folder: Path, entries: Sequence[Entry]) -> Path:
    path = folder / "packed.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = mode << 16
            made.writestr(info, content)
    return path


def unpacked(folder: Path, path: Path, **limits: int) -> Unpacked:
    target = folder / "unpacked"
    target.mkdir()
    return zip_unpacker.unpack(path, target, limits=Limits(**limits))


def test_files_links_and_modes_come_out(tmp_path: Path) -> None:
    """Content, right to run, links inside and into the system; sidecars are told, not unpacked."""
    found = unpacked(tmp_path, packed(tmp_path, GOOD))
    app = tmp_path / "unpacked" / "A.app" / "Contents"
    assert (app / "MacOS/a").read_bytes() == b"code"
    assert (app / "MacOS/a").stat().st_mode & 0o777 == 0o755
    assert (app / "Info.plist").stat().st_mode & 0o777 == 0o644
    assert str((app / "link").readlink()) == "Info.plist"
    assert str((app / "fonts").readlink()) == "/System/Library/Fonts"
    assert not (tmp_path / "unpacked" / "__MACOSX").exists()
    assert [item.path for item in found.members if zip_unpacker.is_beside(item)] == [GOOD[-1][0]]


def test_signatures_beside_files_are_told(tmp_path: Path) -> None:
    """What ditto keeps of a signature belongs to the file; other attributes are no matter."""
    double = attributes.apple_double(
        {"com.apple.cs.CodeDirectory": b"x", "com.apple.quarantine": b"y"}
    )
    beside = ("__MACOSX/A.app/Contents/MacOS/._a", double, FILE)
    found = unpacked(tmp_path, packed(tmp_path, (*GOOD, beside)))
    assert found.beside == {"A.app/Contents/MacOS/a": {"CodeDirectory": b"x"}}


def test_a_damaged_sidecar_is_refused(tmp_path: Path) -> None:
    """With the name of the file that it lies beside."""
    beside = ("__MACOSX/A.app/Contents/MacOS/._a", attributes.apple_double({"a": b"b"})[:-1], FILE)
    with pytest.raises(errors.FormatError, match="leaves it") as caught:
        unpacked(tmp_path, packed(tmp_path, (*GOOD, beside)))
    assert caught.value.subject == "A.app/Contents/MacOS/a"


@pytest.mark.parametrize(
    "entries",
    [
        [("/etc/x", b"", FILE)],
        [("../x", b"", FILE)],
        [("a/../../x", b"", FILE)],
        [("a//b", b"", FILE)],
        [("a\nb", b"", FILE)],
        [("a", b"", FILE), ("A", b"", FILE)],
        [("a", b"", FILE), ("a/b", b"", FILE)],
        [("a", b"/tmp", LINK), ("a/b", b"", FILE)],
        [("a", b"/etc/passwd", LINK)],
        [("a", b"../x", LINK)],
        [("a", b"/System/../etc/passwd", LINK)],
        [("a", b"", LINK)],
        [("a", b"x" * 5000, LINK)],
        [("a", b"", PIPE)],
    ],
    ids=lambda entries: entries[-1][0][:20],
)
def test_hostile_members_are_refused(tmp_path: Path, entries: list[Entry]) -> None:
    """Names that leave or collide, links out of the tree and special files."""
    path = packed(tmp_path, entries)
    with pytest.raises(errors.FormatError):
        unpacked(tmp_path, path)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "limits", [{"members": 2}, {"expanded_bytes": 10}, {"member_bytes": 5}, {"component_bytes": 2}]
)
def test_limits_hold(tmp_path: Path, limits: dict[str, int]) -> None:
    """Members, bytes in all, bytes of one and names are bounded."""
    with pytest.raises(errors.FormatError):
        unpacked(tmp_path, packed(tmp_path, GOOD), **limits)


def test_damage_is_a_format_error(tmp_path: Path) -> None:
    """Cut anywhere, or with a changed byte of its content, it is refused."""
    whole = packed(tmp_path, GOOD).read_bytes()
    damaged = tmp_path / "damaged.zip"
    at = whole.index(b"Info.plist") + len(b"Info.plist")
    for number, content in enumerate(
        (b"", whole[:40], whole[:-30], whole[:at] + b"\xff" + whole[at + 1 :])
    ):
        damaged.write_bytes(content)
        folder = tmp_path / f"unpacked-{number}"
        folder.mkdir()
        with pytest.raises(errors.FormatError):
            zip_unpacker.unpack(damaged, folder)


@pytest.mark.parametrize("name", ["A.app/Contents/link", "__MACOSX/A.app/._Contents"])
def test_a_packed_size_that_lies_costs_no_memory(tmp_path: Path, name: str) -> None:
    """What a member claims to be packed to is not made room for."""
    path = packed(tmp_path, GOOD)
    with zipfile.ZipFile(path) as made:
        packed_size = made.getinfo(name).compress_size
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2", data.rindex(name.encode()) - 46)
    assert int.from_bytes(data[at + 20 : at + 24], "little") == packed_size
    data[at + 20 : at + 24] = (0x40000000).to_bytes(4, "little")
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with contextlib.suppress(errors.FormatError):
            unpacked(tmp_path, path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_size_that_lies_does_not_fill_the_disk(tmp_path: Path) -> None:
    """What inflates to more than its entry says is refused, and no more than that is written."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a", bytes(1_000_000))
    lying = content.getvalue().replace(
        (1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    )
    path = tmp_path / "lying.zip"
    path.write_bytes(lying)
    with pytest.raises(errors.FormatError):
        unpacked(tmp_path, path)
    assert (tmp_path / "unpacked" / "a").stat().st_size <= 10
