"""A folder on disk as a tree."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple.tree import BundleTree, Remembered, Subtree, in_memory
from release_tool.files import extended_attributes
from release_tool.files.tree import DiskTree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "b" / "c").mkdir(parents=True)
    (root / "b" / "c" / "file").write_bytes(b"content")
    (root / "b" / "c" / "file").chmod(0o755)
    (root / "a").symlink_to("b/c")
    (root / "b-d").write_bytes(b"")
    return root


def test_entries_are_sorted_and_links_not_followed(folder: Path) -> None:
    """Every entry once, sorted by path, a link to a folder as a link."""
    tree: BundleTree = DiskTree(folder)
    found = [(entry.path, entry.kind, entry.mode, entry.size) for entry in tree.entries()]
    link_mode = (folder / "a").lstat().st_mode & 0o7777
    folder_mode = (folder / "b").stat().st_mode & 0o7777
    assert found == [
        ("a", "symlink", link_mode, 3),
        ("b", "directory", folder_mode, 0),
        ("b-d", "file", (folder / "b-d").stat().st_mode & 0o7777, 0),
        ("b/c", "directory", folder_mode, 0),
        ("b/c/file", "file", 0o755, 7),
    ]
    assert tree.entries()[0].target == "b/c"


def test_content_head_and_digest(folder: Path) -> None:
    """A file's content, its beginning and its digest are those on disk."""
    tree = DiskTree(folder)
    assert tree.read("b/c/file") == b"content"
    assert tree.head("b/c/file", 3) == b"con"
    assert tree.head("b/c/file", 99) == b"content"
    assert tree.digest("b/c/file", "sha1") == hashlib.sha1(b"content").digest()


def test_a_view_is_the_content_and_outlives_the_name(folder: Path) -> None:
    """A mapped file shows its bytes, also once its name is gone; an empty one shows none."""
    tree = DiskTree(folder)
    found = tree.view("b/c/file")
    (folder / "b/c/file").unlink()
    assert bytes(found) == b"content"
    assert found.readonly
    assert bytes(tree.view("b-d")) == b""


@pytest.mark.parametrize("kind", ["disk", "memory", "subtree", "remembered"])
def test_many_digests_are_those_of_each_file(kind: str, folder: Path) -> None:
    """Whatever the tree is: several algorithms of many files, as hashlib alone has them."""
    contents = {f"many/{number}": bytes([number % 256]) * number * 999 for number in range(99)}
    (folder / "many").mkdir()
    for path, content in contents.items():
        (folder / path).write_bytes(content)
    trees: dict[str, BundleTree] = {
        "disk": DiskTree(folder),
        "memory": in_memory(contents),
        "subtree": Subtree(tree=DiskTree(folder.parent), prefix=folder.name),
        "remembered": Remembered(DiskTree(folder)),
    }
    tree = trees[kind]
    wanted = {path: ("sha256", "sha1") if path[-1] == "1" else ("sha256",) for path in contents}
    expected = {
        path: {name: hashlib.new(name, contents[path]).digest() for name in names}
        for path, names in wanted.items()
    }
    assert tree.digests(wanted) == expected
    assert tree.digests({}) == {}
    assert bytes(tree.view("many/7")) == contents["many/7"]
    if kind == "remembered":
        shutil.rmtree(folder / "many")
        assert tree.digests(wanted) == expected


def test_one_missing_file_stops_them_all(folder: Path) -> None:
    """The first file that cannot be read is named."""
    with pytest.raises(errors.VerificationError) as caught:
        DiskTree(folder).digests({"b/c/file": ("sha256",), "none": ("sha256",)})
    assert caught.value.subject == "none"


@pytest.mark.parametrize(
    "path", ["none", "a/file", "b", "a", "b-d/x", "../root/b-d", "b/../b-d", "pipe"]
)
def test_only_regular_files_below_the_root_are_read(folder: Path, path: str) -> None:
    """Folders, links, paths through links, pipes and paths outside are refused, at once."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(errors.VerificationError):
        DiskTree(folder).read(path)
    with pytest.raises(errors.VerificationError):
        DiskTree(folder).view(path)


def test_a_pipe_is_no_entry(folder: Path) -> None:
    """A named pipe in the tree is refused by its path."""
    os.mkfifo(folder / "b" / "pipe")
    with pytest.raises(errors.VerificationError, match=r"b/pipe: is neither"):
        DiskTree(folder).entries()


def test_a_missing_root_is_a_host_error(tmp_path: Path) -> None:
    """A folder that is not there gives one clear error."""
    with pytest.raises(errors.HostError, match="cannot read"):
        DiskTree(tmp_path / "none").entries()


def test_attributes_are_listed(folder: Path) -> None:
    """Extended attributes are listed by the path that has them."""
    assert DiskTree(folder).attributes() == {}
    if not hasattr(os, "setxattr"):
        pytest.skip("this system has no setxattr in Python")
    try:
        os.setxattr(folder / "b-d", "user.mark", b"1")
    except OSError:
        pytest.skip("this volume has no extended attributes")
    assert DiskTree(folder).attributes() == {"b-d": ("user.mark",)}
    assert extended_attributes.names(folder / "a") == ()
