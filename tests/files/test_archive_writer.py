"""Packing: the same tree gives the same bytes, and every tool reads them."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.files import (
    archive_proof,
    archive_reader,
    archive_writer,
    gzip_blocks,
    members,
    tar_header,
)
from release_tool.files.members import Member
from tests.files.trees import Tree, contents_of, trees, write

DATE = 1_780_000_000
# macOS tar would take a member `._x` for attributes of `x`.
_PLAIN_TAR = {"LC_ALL": "C.UTF-8", "COPYFILE_DISABLE": "1"}


@settings(max_examples=40)
@given(tree=trees())
def test_any_tree_round_trips(tmp_path_factory: pytest.TempPathFactory, tree: Tree) -> None:
    """What is packed is what is unpacked: contents, kinds, modes, link targets."""
    folder = tmp_path_factory.mktemp("tree")
    write(tree, folder / "in")
    packed = archive_writer.pack(folder / "in", folder / "a.tar.gz", date=DATE)
    (folder / "out").mkdir()
    unpacked = archive_reader.unpack(folder / "a.tar.gz", folder / "out", links=True)
    assert contents_of(folder / "out") == contents_of(folder / "in")
    assert unpacked.members == packed.members
    assert (unpacked.sha256, unpacked.size, unpacked.tar_sha256) == (
        packed.sha256,
        packed.size,
        packed.tar_sha256,
    )


@settings(max_examples=25)
@given(tree=trees())
def test_any_tree_packs_to_the_same_bytes_and_is_proved(
    tmp_path_factory: pytest.TempPathFactory, tree: Tree
) -> None:
    """Written in another order at another time it is the same archive, and canonical."""
    folder = tmp_path_factory.mktemp("tree")
    write(tree, folder / "one")
    write(dict(reversed(tree.items())), folder / "two")
    first = archive_writer.pack(folder / "one", folder / "1.tar.gz", date=DATE)
    second = archive_writer.pack(folder / "two", folder / "2.tar.gz", date=DATE)
    assert (folder / "1.tar.gz").read_bytes() == (folder / "2.tar.gz").read_bytes()
    assert first == second
    if tree:
        assert archive_proof.require_canonical(folder / "1.tar.gz").members == first.members


@settings(max_examples=20)
@given(tree=trees())
def test_python_and_tar_read_it(tmp_path_factory: pytest.TempPathFactory, tree: Tree) -> None:
    """Python and the system's tar list and extract the same tree."""
    folder = tmp_path_factory.mktemp("tree")
    write(tree, folder / "in")
    packed = archive_writer.pack(folder / "in", folder / "a.tar.gz", date=DATE)
    with tarfile.open(folder / "a.tar.gz") as tar:
        assert [member.name.removeprefix("./") for member in tar] == [
            member.path for member in packed.members
        ]
    (folder / "out").mkdir()
    command = ["tar", "xzf", str(folder / "a.tar.gz"), "-C", str(folder / "out")]
    subprocess.run(command, check=True, env={**os.environ, **_PLAIN_TAR})
    assert contents_of(folder / "out") == contents_of(folder / "in")


def _large(folder: Path) -> bytes:
    """A file of some blocks, half of it compressible."""
    block = hashlib.shake_256(b"noise").digest(gzip_blocks.BLOCK_BYTES // 2)
    content = (block + b"zeros and words " * (len(block) // 16)) * 3 + b"rest"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "copy").write_bytes(content)
    (folder / "original").write_bytes(content)
    return content


def test_blocks_are_joined_into_one_gzip_member(tmp_path: Path) -> None:
    """Content over several blocks inflates with zlib, sums included, and repeats cost nothing."""
    content = _large(tmp_path / "in")
    packed = archive_writer.pack(tmp_path / "in", tmp_path / "a.tar.gz", date=DATE)
    stream = gzip.decompress((tmp_path / "a.tar.gz").read_bytes())
    assert hashlib.sha256(stream).hexdigest() == packed.tar_sha256
    assert len(stream) == packed.tar_size
    assert stream.count(content) == 2
    assert archive_proof.require_canonical(tmp_path / "a.tar.gz").sha256 == packed.sha256


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_bytes_do_not_depend_on_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """One thread or seven, with or without reuse of repeated blocks: the same archive."""
    _large(tmp_path / "in")
    usual = archive_writer.pack(tmp_path / "in", tmp_path / "1.tar.gz", date=DATE)
    monkeypatch.setattr(gzip_blocks, "THREADS", threads)
    monkeypatch.setattr(gzip_blocks, "_KEPT_BYTES", 0)
    assert archive_writer.pack(tmp_path / "in", tmp_path / "2.tar.gz", date=DATE) == usual


def test_the_bytes_do_not_depend_on_the_host(tmp_path: Path) -> None:
    """A fixed tree gives this digest on every processor, system and Python."""
    _large(tmp_path / "in")
    (tmp_path / "in" / "bin" / "copy").chmod(0o755)
    text = " ".join(f"{number} {number * number % 9973}" for number in range(300_000))
    (tmp_path / "in" / "text").write_text(text)
    packed = archive_writer.pack(tmp_path / "in", tmp_path / "a.tar.gz", date=DATE)
    assert packed.tar_sha256 == "453cc973428db29b16ac868c2af4e85eee5cb52fffda1e25d732e0fafcec7554"
    assert packed.sha256 == "a1ef6039dc604786b9e525ba840a93b533d6d9704ba68fc15398f4c3fc890269"


def test_copies_are_members_of_their_own(tmp_path: Path) -> None:
    """A copy is packed from its original's file, with the folders above it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "tool").write_bytes(b"code")
    (tmp_path / "in" / "tool").chmod(0o755)
    packed = archive_writer.pack(
        tmp_path / "in", tmp_path / "a.tar.gz", date=DATE, copies={"bin/tool": "tool"}
    )
    found = [(member.path, member.kind, member.mode) for member in packed.members]
    assert found == [
        ("bin", "directory", 0o755),
        ("bin/tool", "file", 0o755),
        ("tool", "file", 0o755),
    ]


@pytest.mark.parametrize("copies", [{"a": "none"}, {"tool": "tool"}, {"../x": "tool"}, {"x": "d"}])
def test_impossible_copies_are_refused(tmp_path: Path, copies: dict[str, str]) -> None:
    """A copy of nothing, over a file, out of the tree or of a folder is refused."""
    (tmp_path / "in" / "d").mkdir(parents=True)
    (tmp_path / "in" / "tool").write_bytes(b"code")
    with pytest.raises(errors.VerificationError):
        archive_writer.pack(tmp_path / "in", tmp_path / "a.tar.gz", date=DATE, copies=copies)
    assert not (tmp_path / "a.tar.gz").exists()


@pytest.mark.parametrize("names", [("a", "A"), ("\u00e9", "e\u0301"), ("dir/x", "Dir/y")])
def test_names_that_differ_only_in_case_or_composition_are_refused(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    """Two names that are one file on the user's volume do not ship."""
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    if len([path for path in (tmp_path / "in").rglob("*") if path.is_file()]) < len(names):
        pytest.skip("this volume cannot tell the two names apart")
    with pytest.raises(errors.FormatError, match="member name"):
        archive_writer.pack(tmp_path / "in", tmp_path / "a.tar.gz", date=DATE)


@pytest.mark.parametrize("size", [0, 6, gzip_blocks.BLOCK_BYTES + 1])
def test_a_content_of_another_size_is_refused(size: int) -> None:
    """A file that grew or shrank since it was listed is refused."""
    member = Member(path="a", kind="file", mode=0o644, size=5)
    with (
        archive_writer.ArchiveWriter(lambda _: None, date=DATE) as writer,
        pytest.raises(errors.VerificationError, match="changed while it was read"),
    ):
        writer.add(member, [b"x" * size])


@pytest.mark.parametrize("date", [-1, 8**11])
def test_a_date_outside_the_format_is_refused(date: int) -> None:
    """A time that no tar header can say is a usage error."""
    member = Member(path="a", kind="file", mode=0o644)
    with pytest.raises(errors.UsageError):
        tar_header.encode(member, date)


def test_kill_leaves_no_archive(tmp_path: Path) -> None:
    """`kill -9` while packing leaves nothing under the archive's name."""
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "large").open("wb") as large:
        large.write(os.urandom(gzip_blocks.BLOCK_BYTES) * 64)
    program = (
        "import sys\nfrom pathlib import Path\nfrom release_tool.files import archive_writer\n"
        "from release_tool.progress import Silent\n"
        "class Told(Silent):\n"
        "    def advance(self, task, count_bytes):\n        print('at work', flush=True)\n"
        "archive_writer.pack(Path(sys.argv[1]), Path(sys.argv[2]), date=0, reporter=Told())\n"
    )
    target = tmp_path / "a.tar.gz"
    command = [sys.executable, "-c", program, str(tmp_path / "in"), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not target.exists()


@given(
    path=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=300)
)
def test_headers_are_what_tarfile_reads(path: str) -> None:
    """Any name, long or not ASCII, comes back from tarfile as it was."""
    path = path.replace("/", "_")
    member = Member(path=path, kind="file", mode=0o755)
    data = tar_header.encode(member, DATE) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        (found,) = tar.getmembers()
    assert found.name == f"./{path}"
    assert (found.mode, found.mtime, found.uid, found.gname) == (0o755, DATE, 0, "")


@given(
    paths=st.lists(
        st.lists(st.sampled_from(["a", "A", "b", "\u00e9", "e\u0301"]), min_size=1, max_size=3),
        max_size=6,
    )
)
def test_names_agree_with_a_plain_model(paths: list[list[str]]) -> None:
    """A list of files is taken if and only if no two of them meet on an undiscerning volume."""
    import unicodedata

    def folded(parts: list[str]) -> tuple[str, ...]:
        return tuple(unicodedata.normalize("NFC", part).casefold() for part in parts)

    def fits() -> bool:
        spelled: dict[tuple[str, ...], tuple[str, ...]] = {}
        files: set[tuple[str, ...]] = set()
        for parts in paths:
            key = folded(parts)
            if key in spelled:
                return False
            for count in range(1, len(parts)):
                parent = key[:count]
                if parent in files or spelled.setdefault(parent, (*parts[:count],)) != (
                    *parts[:count],
                ):
                    return False
            spelled[key] = tuple(parts)
            files.add(key)
        return True

    names = members.Names()
    try:
        for parts in paths:
            names.take("/".join(parts), directory=False)
    except errors.FormatError:
        assert not fits()
    else:
        assert fits()


def test_keeping_blocks_for_a_second_use_changes_no_byte() -> None:
    """A content that comes once or again is compressed to the same bytes, kept or not."""
    content = bytes(range(256)) * 8192
    member = Member(path="a", kind="file", mode=0o644, size=len(content))

    def written(*, repeated: bool) -> bytes:
        found: list[bytes] = []
        with archive_writer.ArchiveWriter(found.append, date=0) as writer:
            for path in ("a", "b"):
                writer.add(replace(member, path=path), [content], repeated=repeated)
            writer.close()
        return b"".join(found)

    assert written(repeated=True) == written(repeated=False)
