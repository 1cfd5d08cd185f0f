"""The notary's zip: exactly one folder, byte for byte the same each time, nothing added."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from release_tool import errors
from release_tool.files import zip_writer
from release_tool.progress import Silent
from tests.files import trees

DECOMPOSED = unicodedata.normalize("NFD", "Größe.txt")


def _app(root: Path) -> None:
    """An app with everything that a zip may get wrong."""
    contents = root / "My.app" / "Contents"
    (contents / "MacOS").mkdir(parents=True)
    (contents / "Empty").mkdir()
    (contents / "MacOS" / "tool").write_bytes(b"\xcf\xfa\xed\xfe" + bytes(5000))
    (contents / "MacOS" / "tool").chmod(0o755)
    (contents / DECOMPOSED).write_text("decomposed")
    (contents / "Übergröße").write_text("composed")
    (contents / "link").symlink_to("MacOS/tool")
    (contents / "secret").write_text("x")
    (contents / "secret").chmod(0o600)
    (root / "beside").write_text("not ours")


def _names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_names_links_and_modes_are_kept(tmp_path: Path) -> None:
    """Names byte for byte (composed or not), links as links, modes as they stand, nothing else."""
    _app(tmp_path)
    made = zip_writer.pack(tmp_path, "My.app", tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        found = {info.filename: info for info in archive.infolist()}
        modes = {name: info.external_attr >> 16 for name, info in found.items()}
        assert archive.read("My.app/Contents/link") == b"MacOS/tool"
    assert f"My.app/Contents/{DECOMPOSED}" in found
    assert "My.app/Contents/Übergröße" in found
    assert stat.S_ISLNK(modes["My.app/Contents/link"])
    assert modes["My.app/Contents/MacOS/tool"] == stat.S_IFREG | 0o755
    assert modes["My.app/Contents/secret"] == stat.S_IFREG | 0o600
    assert stat.S_ISDIR(modes["My.app/Contents/Empty/"])
    assert next(iter(found)) == "My.app/"
    assert not [name for name in found if "beside" in name or "._" in name or "MACOSX" in name]
    assert made.sha256 == hashlib.sha256((tmp_path / "out.zip").read_bytes()).hexdigest()
    assert made.size == (tmp_path / "out.zip").stat().st_size


def test_info_zip_unpacks_the_same_tree(tmp_path: Path) -> None:
    """Info-ZIP, which shares no code with ours, gives the same files, links and modes back."""
    unzip = shutil.which("unzip")
    if unzip is None:
        pytest.skip("no unzip here")
    _app(tmp_path)
    zip_writer.pack(tmp_path, "My.app", tmp_path / "out.zip")
    subprocess.run([unzip, "-q", "out.zip", "-d", "there"], cwd=tmp_path, check=True)
    here, there = tmp_path / "My.app", tmp_path / "there" / "My.app"
    for path in sorted(here.rglob("*")):
        other = there / path.relative_to(here)
        assert other.is_symlink() == path.is_symlink()
        if path.is_symlink():
            assert other.readlink() == path.readlink()
        elif path.is_file():
            assert other.read_bytes() == path.read_bytes()
            assert other.stat().st_mode == path.stat().st_mode
    assert len(list(there.rglob("*"))) == len(list(here.rglob("*")))


@settings(max_examples=20)
@given(trees.trees())
def test_the_same_tree_is_the_same_zip(tree: trees.Tree) -> None:
    """Times, order on the disk and host do not show: content, names and modes alone decide."""
    with tempfile.TemporaryDirectory() as folder:
        made: list[str] = []
        for name in ("a", "b"):
            root = Path(folder) / name
            root.mkdir()
            trees.write(tree if name == "a" else dict(reversed(tree.items())), root / "app")
            for path in (root / "app").rglob("*"):
                os.utime(path, (len(made) * 9e8, 7e8), follow_symlinks=False)
            made.append(zip_writer.pack(root, "app", root / "out.zip").sha256)
        assert made[0] == made[1]


def test_beyond_four_gigabytes_zip64_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limit lowered to a kilobyte each large member and the directory turn to zip64."""
    _app(tmp_path)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    zip_writer.pack(tmp_path, "My.app", tmp_path / "out.zip")
    monkeypatch.undo()
    content = (tmp_path / "out.zip").read_bytes()
    assert b"PK\x06\x06" in content
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert archive.getinfo("My.app/Contents/MacOS/tool").file_size == 5004


def test_a_file_that_grows_or_shrinks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes while it is read is not what was signed; no zip is left."""
    _app(tmp_path)

    class Growing(Silent):
        def start(self, task: str, total_bytes: int | None) -> None:
            with (tmp_path / "My.app/Contents/MacOS/tool").open("ab") as tool:
                tool.write(b"more")

    with pytest.raises(errors.VerificationError, match="changed while it was read"):
        zip_writer.pack(tmp_path, "My.app", tmp_path / "out.zip", reporter=Growing())
    assert not (tmp_path / "out.zip").exists()


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A name that is not UTF-8 has no place on a Mac."""
    _app(tmp_path)
    try:
        os.close(os.open(os.fsencode(tmp_path / "My.app") + b"/\xff", os.O_CREAT | os.O_WRONLY))
    except OSError:
        pytest.skip("this volume takes no such name")
    with pytest.raises(errors.VerificationError, match="not UTF-8"):
        zip_writer.pack(tmp_path, "My.app", tmp_path / "out.zip")


def test_nothing_beside_the_folder_is_packed(tmp_path: Path) -> None:
    """A folder whose name only begins alike stays out."""
    _app(tmp_path)
    (tmp_path / "My.app2").mkdir()
    (tmp_path / "My.app2" / "file").write_text("x")
    zip_writer.pack(tmp_path, "My.app", tmp_path / "out.zip")
    assert all(name.startswith("My.app/") for name in _names(tmp_path / "out.zip"))
