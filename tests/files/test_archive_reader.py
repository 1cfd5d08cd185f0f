"""Hostile archives of every kind, made by hand or by tarfile."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Iterable
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
    tar_header,
)
from release_tool.files.archive_reader import Limits
from release_tool.files.members import Member
from release_tool.files.tree import DiskTree
from tests.files.trees import contents_of

DATE = 1_780_000_000


def _tar(
    *members: tuple[str, bytes], edit: Callable[[tarfile.TarInfo], object] | None = None
) -> bytes:
    """A tar stream of files by tarfile; `edit` may change each header before it is written."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if edit is not None:
                edit(info)
            tar.addfile(info, io.BytesIO(content[: info.size]))
    return whole.getvalue()


def _typed(kind: bytes, name: str = "a", target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)


def _header(**fields: bytes) -> bytes:
    """One ustar header with fields overwritten by their offset, checksum made good."""
    block = bytearray(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT))
    for place, value in fields.items():
        offset = int(place.removeprefix("at"))
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _pax(records: bytes, kind: bytes = b"x") -> bytes:
    header = _header(at124=b"%011o\0" % len(records), at156=kind)
    return header + records + bytes(-len(records) % 512)


def _record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + 2 if len(body) + 2 > 9 else len(body) + 1
    length += len(str(length)) - len(str(length - 1)) if length in (100, 1000) else 0
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


_END = bytes(1024)
_A = _header()

_HOSTILE: dict[str, tuple[bytes, str]] = {
    "absolute": (_tar(("/etc/passwd", b"")), "empty or absolute"),
    "climbing": (_tar(("../a", b"")), r"`\.\.` component"),
    "climbing inside": (_tar(("a/../../b", b"")), r"`\.\.` component"),
    "dot inside": (_tar(("a/./b", b"")), "component"),
    "double slash": (_tar(("a//b", b"")), "component"),
    "dot slash twice": (_tar(("././a", b"")), "component"),
    "empty name": (_header(at0=bytes(100)) + _END, "empty"),
    "control character": (_tar(("a\x1b[31m", b"")), "control"),
    "not UTF-8": (_header(at0=b"\xff\xfe") + _END, "UTF-8"),
    "long component": (_tar(("x" * 256, b"")), "component over"),
    "long path": (_tar(("/".join(["y" * 200] * 21), b"")), "too long"),
    "deep path": (_tar(("/".join("d" * 70), b"")), "too deep"),
    "twice": (_tar(("a", b""), ("a", b"")), "stands twice"),
    "twice in case": (_tar(("a", b""), ("A", b"")), "stands twice"),
    "twice in composition": (_tar(("\u00e9", b""), ("e\u0301", b"")), "stands twice"),
    "twice sharp s": (_tar(("stra\u00dfe", b""), ("STRASSE", b"")), "stands twice"),
    "twice with dot slash": (_tar(("a", b""), ("./a", b"")), "stands twice"),
    "file then folder": (_tar(("a", b""), ("a/b", b"")), "no folder"),
    "folder then file": (_tar(("a/b", b""), ("a", b"")), "stands twice"),
    "folder in two cases": (_tar(("Bin/a", b""), ("bin/b", b"")), "elsewhere"),
    "hard link": (_typed(tarfile.LNKTYPE, target="a"), "hard link"),
    "symbolic link": (_typed(tarfile.SYMTYPE, target="b"), "is a link"),
    "character device": (_typed(tarfile.CHRTYPE), "device"),
    "block device": (_typed(tarfile.BLKTYPE), "device"),
    "pipe": (_typed(tarfile.FIFOTYPE), "named pipe"),
    "contiguous": (_typed(tarfile.CONTTYPE), "reserved"),
    "sparse": (_typed(tarfile.GNUTYPE_SPARSE), "sparse"),
    "sparse by pax": (_pax(_record("GNU.sparse.major", "1")) + _A + _END, "sparse"),
    "unknown type": (_header(at156=b"Z") + _END, "unknown type"),
    "file called folder": (_header(at0=b"a/") + _END, "called a folder"),
    "folder with content": (_header(at0=b"d/", at156=b"5", at124=b"00000000005\0"), "no file"),
    "set-id": (_tar(("a", b""), edit=lambda i: setattr(i, "mode", 0o4755)), "set-id"),
    "wrong checksum": (b"b" + _A[1:] + _END, "checksum"),
    "checksum no number": (_A[:148] + b"xxxxxxxx" + _A[156:] + _END, "checksum"),
    "size no number": (_header(at124=b"zz") + _END, "not a number"),
    "binary size": (_header(at124=b"\x80" + bytes(11)) + _END, "not a number"),
    "negative size": (_header(at124=b"-1") + _END, "not a number"),
    "no ustar": (_header(at257=bytes(8)) + _END, "ustar"),
    "truncated content": (_header(at124=b"%011o\0" % 600) + bytes(512), "too early"),
    "no end": (_A, "too early"),
    "one zero block": (_A + bytes(512), "too early"),
    "data after one zero block": (_A + bytes(512) + _A, "goes on"),
    "data after the end": (_A + _END + b"x" * 512, "after the end of its tar"),
    "data far after the end": (_A + _END + bytes(10**6) + b"x", "after the end of its tar"),
    "padding": (_header(at124=b"00000000001\0") + b"x" * 512 + _END, "padding"),
    "pax size lie": (
        _pax(_record("size", "9" * 18)) + _A + _END,
        "larger than a member",
    ),
    "pax size text": (_pax(_record("size", "-1")) + _A + _END, "pax size"),
    "pax size huge": (_pax(_record("size", "9" * 5000)) + _A + _END, "pax size"),
    "pax record short": (_pax(b"9 path=\n") + _A + _END, "does not end"),
    "pax record without length": (_pax(b"path=a\n") + _A + _END, "no length"),
    "pax record long": (_pax(b"99999 path=a\n") + _A + _END, "does not end"),
    "pax zero length": (_pax(b"0 path=a\n") + _A + _END, "does not end"),
    "pax twice": (_pax(_record("path", "b") * 2) + _A + _END, "twice"),
    "two pax headers": (
        _pax(_record("path", "b")) + _pax(_record("path", "c")) + _A + _END,
        "twice",
    ),
    "pax without member": (_pax(_record("path", "b")) + _END, "without its member"),
    "pax climbing": (_pax(_record("path", "../b")) + _A + _END, "component"),
    "pax null": (_pax(_record("path", "b\0c")) + _A + _END, "control"),
    "global path": (_pax(_record("path", "b"), b"g") + _A + _END, "global"),
    "GNU climbing": (_pax(b"../b\0", b"L") + _A + _END, "component"),
    "huge pax": (
        _header(at124=b"%011o\0" % (2 * 1024**2), at156=b"x") + bytes(3 * 1024**2),
        "limit",
    ),
}


def _write(folder: Path, data: bytes) -> Path:
    path = folder / "hostile.tar.gz"
    path.write_bytes(data)
    return path


def _unpack(folder: Path, data: bytes, limits: Limits = archive_reader.LIMITS) -> Path:
    target = folder / "out"
    target.mkdir(exist_ok=True)
    archive_reader.unpack(_write(folder, data), target, limits=limits)
    return target


@pytest.mark.parametrize("name", sorted(_HOSTILE))
def test_hostile_archives_are_refused(tmp_path: Path, name: str) -> None:
    """Each trick ends in one format error that says what it is, and nothing lies outside."""
    stream, expected = _HOSTILE[name]
    with pytest.raises(errors.FormatError, match=expected):
        _unpack(tmp_path, gzip.compress(stream, mtime=0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.tar.gz", "out"]


def _good() -> bytes:
    return gzip.compress(_tar(("bin/a", b"content"), ("b", b"")), mtime=0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "too early"),
        (b"\x1f\x8b", "too early"),
        (b"not gzip at all" * 50, "not an intact gzip"),
        (_tar(("a", b"")), "not an intact gzip"),
        (_good()[:-1], "too early"),
        (_good()[:-9], "too early"),
        (_good() + b"\0", "after the end of the gzip"),
        (_good() + _good(), "after the end of the gzip"),
        (_good()[:-8] + bytes(4) + _good()[-4:], "not an intact gzip"),
        (_good()[:-4] + bytes(4), "not an intact gzip"),
        (gzip.compress(b"", mtime=0), "too early"),
        (zlib.compress(_tar(("a", b""))), "not an intact gzip"),
    ],
)
def test_damaged_gzip_is_refused(tmp_path: Path, data: bytes, expected: str) -> None:
    """Truncated, joined, foreign and miscounted streams end in one format error."""
    with pytest.raises(errors.FormatError, match=expected):
        _unpack(tmp_path, data)


def test_a_good_foreign_archive_is_unpacked(tmp_path: Path) -> None:
    """What tarfile writes, with and without `./` and folders, comes out whole."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        for name, kind in (("./", b"5"), ("./bin/", b"5"), ("./bin/" + "n" * 200, b"0")):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid = kind, 0o755, 501
            info.size = 3 if kind == b"0" else 0
            tar.addfile(info, io.BytesIO(b"abc"))
    target = _unpack(tmp_path, whole.getvalue())
    assert contents_of(target) == {
        "bin": ("directory", b"", 0o755),
        "bin/" + "n" * 200: ("file", b"abc", 0o755),
    }


def test_attributes_in_pax_headers_are_listed(tmp_path: Path) -> None:
    """Attributes that macOS tar put into pax headers are named with their member."""
    stream = _pax(_record("SCHILY.xattr.com.apple.cs.CodeDirectory", "x")) + _A + _END
    target = tmp_path / "out"
    target.mkdir()
    found = archive_reader.unpack(_write(tmp_path, gzip.compress(stream)), target)
    assert [member.attributes for member in found.members] == [("com.apple.cs.CodeDirectory",)]


@pytest.mark.parametrize(
    ("limits", "members"),
    [
        (Limits(compressed_bytes=100), [("a", os.urandom(500))]),
        (Limits(expanded_bytes=5000), [("a", bytes(6000))]),
        (Limits(member_bytes=99), [("a", bytes(100))]),
        (Limits(members=2), [("a", b""), ("b", b""), ("c", b"")]),
        (Limits(path_bytes=10), [("a/b/c/d/e/f", b"")]),
        (Limits(component_bytes=3), [("abcd", b"")]),
        (Limits(metadata_bytes=50), [("n" * 150, b"")]),
        (Limits(all_metadata_bytes=1200), [("n" * 150, b""), ("m" * 150, b"")]),
    ],
)
def test_every_limit_holds(
    tmp_path: Path, limits: Limits, members: list[tuple[str, bytes]]
) -> None:
    """One over each limit is refused; with the usual limits the same archive is fine."""
    data = gzip.compress(_tar(*members))
    with pytest.raises(errors.FormatError):
        _unpack(tmp_path, data, limits)
    (tmp_path / "fine").mkdir()
    archive_reader.unpack(_write(tmp_path, data), tmp_path / "fine")


def _flood(block: bytes, count: int) -> bytes:
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    pieces = [compressor.compress(block * 1000) for _ in range(count // 1000)]
    return b"".join([*pieces, compressor.compress(_END), compressor.flush()])


@pytest.mark.parametrize(
    "block",
    [_pax(b""), _pax(_record("comment", "x"), b"g"), _header(at0=b"./\0", at156=b"5")],
    ids=["empty pax headers", "global headers", "roots"],
)
def test_floods_of_headers_end_early(tmp_path: Path, block: bytes) -> None:
    """A hundred thousand headers that make no member are refused within seconds."""
    started = time.monotonic()
    with pytest.raises(errors.FormatError):
        _unpack(tmp_path, _flood(block, 100_000))
    assert time.monotonic() - started < 10


def test_a_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    """A member that claims 400 MB of zeros is refused by the expanded limit, not by the disk."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1024**2)
    data = compressor.compress(_header(at124=b"%011o\0" % (400 * 1024**2)))
    data += b"".join(compressor.compress(zeros) for _ in range(8)) + compressor.flush()
    with pytest.raises(errors.FormatError, match="expands beyond"):
        _unpack(tmp_path, data, Limits(expanded_bytes=4 * 1024**2))
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= 4 * 1024**2


@pytest.mark.parametrize("start", [b"", _header()], ids=["nothing", "one file"])
def test_zeros_behind_the_end_are_not_read_on(tmp_path: Path, start: bytes) -> None:
    """A record's worth of zeros is taken; a gigabyte stops after the first of them."""
    record = gzip.compress(start + bytes(512 * 1024))
    _unpack(tmp_path, record)
    shutil.rmtree(tmp_path / "out")
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(1024**2)
    data = compressor.compress(start) + b"".join(compressor.compress(zeros) for _ in range(1024))
    started = time.monotonic()
    with pytest.raises(errors.FormatError, match="goes on after the end"):
        _unpack(tmp_path, data + compressor.flush())
    assert time.monotonic() - started < 2


def test_the_folder_must_be_empty(tmp_path: Path) -> None:
    """Nothing is unpacked over what is there, nor into what is no folder."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(errors.UsageError, match="not empty"):
        _unpack(tmp_path, _good())
    with pytest.raises(errors.HostError):
        archive_reader.unpack(_write(tmp_path, _good()), tmp_path / "none")


_LINKS: dict[str, tuple[str, str, bool]] = {
    "inside": ("d/l", "../bin/x", True),
    "beside": ("l", "bin/x", True),
    "to the root": ("d/l", "..", True),
    "absolute": ("l", "/etc", False),
    "out": ("l", "..", False),
    "out of two": ("d/l", "../../x", False),
    "down and up": ("l", "d/..", False),
    "down and out": ("l", "d/../../x", False),
    "empty": ("l", "", False),
}


@pytest.mark.parametrize("name", sorted(_LINKS))
def test_links_are_taken_only_when_asked_and_inside(tmp_path: Path, name: str) -> None:
    """A link that leaves the tree is refused; a good one is made only where it is asked for."""
    path, target, good = _LINKS[name]
    data = _write(tmp_path, gzip.compress(_typed(tarfile.SYMTYPE, path, target)))
    (tmp_path / "out").mkdir()
    with pytest.raises(errors.FormatError, match="is a link"):
        archive_reader.unpack(data, tmp_path / "out")
    if good:
        archive_reader.unpack(data, tmp_path / "out", links=True)
        assert str((tmp_path / "out" / path).readlink()) == target
    else:
        with pytest.raises(errors.FormatError, match="links"):
            archive_reader.unpack(data, tmp_path / "out", links=True)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """A member below a link is refused, whichever comes first."""
    link, below = _typed(tarfile.SYMTYPE, "d", ".")[:512], _header(at0=b"d/x")
    for number, stream in enumerate((link + below + _END, below + link + _END)):
        target = tmp_path / f"out{number}"
        target.mkdir()
        with pytest.raises(errors.FormatError):
            archive_reader.unpack(_write(tmp_path, gzip.compress(stream)), target, links=True)
        assert not any(path.is_symlink() for path in target.rglob("*"))


@settings(max_examples=150)
@given(data=st.binary(max_size=2000))
def test_any_bytes_give_our_error_or_an_archive(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """Whatever the stream is, reading ends in a format error or in an archive."""
    folder = tmp_path_factory.mktemp("any")
    for content in (data, gzip.compress(data), gzip.compress(_A + data + _END)):
        try:
            (folder / "out").mkdir(exist_ok=True)
            archive_reader.unpack(_write(folder, content), folder / "out")
        except errors.FormatError:
            pass
        except errors.UsageError:
            return  # the folder was filled by the part before


def _packed(folder: Path, contents: Iterable[tuple[str, bytes, int]]) -> bytes:
    for name, content, mode in contents:
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    archive_writer.pack(folder / "in", folder / "a.tar.gz", date=DATE)
    return (folder / "a.tar.gz").read_bytes()


@pytest.fixture
def packed(tmp_path: Path) -> bytes:
    """A small archive of ours, with runs that deflate can say in many ways."""
    runs = b"abcabcabc" * 300 + bytes(2000)
    return _packed(tmp_path, [("bin/tool", runs, 0o755), ("Info.plist", b"<plist/>", 0o644)])


def test_every_changed_byte_is_noticed(tmp_path: Path, packed: bytes) -> None:
    """Each byte of an archive, changed in one bit, ends in a verification error."""
    path = tmp_path / "changed.tar.gz"
    for index in range(len(packed)):
        changed = bytearray(packed)
        changed[index] ^= 1 << index % 8
        path.write_bytes(changed)
        with pytest.raises(errors.VerificationError):
            archive_proof.require_canonical(path)


def test_every_truncation_and_addition_is_noticed(tmp_path: Path, packed: bytes) -> None:
    """An archive cut short anywhere or made longer is refused."""
    path = tmp_path / "changed.tar.gz"
    for end in range(0, len(packed), 7):
        path.write_bytes(packed[:end])
        with pytest.raises(errors.VerificationError):
            archive_proof.require_canonical(path)
    path.write_bytes(packed + b"\0")
    with pytest.raises(errors.VerificationError):
        archive_proof.require_canonical(path)


def _written(*members: tuple[Member, bytes], date: int = DATE) -> bytes:
    """An archive by our writer, but of members that `pack` would not give it so."""
    pieces: list[bytes] = []
    with archive_writer.ArchiveWriter(pieces.append, date=date) as writer:
        for member, content in members:
            writer.add(member, [content])
        writer.close()
    return b"".join(pieces)


def _file(path: str) -> tuple[Member, bytes]:
    return Member(path=path, kind="file", mode=0o644, size=1), b"x"


def test_other_writers_choices_are_refused(tmp_path: Path, packed: bytes) -> None:
    """The same content by another compressor, order, mode or header is not ours."""
    stream = gzip.decompress(packed)
    foreign = {
        "gzip": gzip.compress(stream, mtime=0),
        "gzip with a name": packed[:3] + b"\x08" + packed[4:10] + b"name\0" + packed[10:],
        "tarfile": gzip.compress(_tar(("./Info.plist", b"<plist/>"))),
        "order": _written(_file("b"), _file("a")),
        "no folder": _written(_file("bin/a")),
        "nothing": _written(),
        "longer end": gzip.compress(stream + bytes(tar_header.RECORD_BYTES), mtime=0),
    }
    for name, data in foreign.items():
        path = tmp_path / "foreign.tar.gz"
        path.write_bytes(data)
        with pytest.raises(errors.VerificationError):
            pytest.fail(f"{name}: {archive_proof.require_canonical(path)}")


def test_the_deviation_is_placed(tmp_path: Path, packed: bytes) -> None:
    """The error says where the archive departs from ours: the member or the byte."""
    path = tmp_path / "changed.tar.gz"
    path.write_bytes(packed[:9] + b"\x03" + packed[10:])
    with pytest.raises(errors.VerificationError, match="byte 9 is not what this tool writes"):
        archive_proof.require_canonical(path)
    pieces: list[bytes] = []
    with gzip_blocks.GzipBlocks(pieces.append) as blocks:
        blocks.write(_tar(("./a", b""), edit=lambda info: setattr(info, "mode", 0o600)))
        blocks.close()
    path.write_bytes(b"".join(pieces))
    with pytest.raises(errors.VerificationError, match="a: the tar header is not what"):
        archive_proof.require_canonical(path)


def _with_attributes(folder: Path, headers: dict[str, str], *names: str) -> Path:
    """An archive of empty files, the last one with pax headers."""
    path = folder / "attributes.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as target:
        for name in names:
            member = tarfile.TarInfo(name)
            member.pax_headers = headers if name == names[-1] else {}
            target.addfile(member)
    return path


def test_signatures_in_attributes_are_told(tmp_path: Path) -> None:
    """Raw or in libarchive's base64 without padding; other attributes are only named."""
    opened = tmp_path / "opened"
    opened.mkdir()
    headers = {
        "LIBARCHIVE.xattr.com.apple.cs.CodeDirectory": "+t4MAg",
        "LIBARCHIVE.xattr.com.apple.cs.CodeSignature": "AAAA",
        "SCHILY.xattr.com.apple.cs.CodeSignature": "raw",
        "SCHILY.xattr.com.apple.quarantine": "0081",
    }
    found = archive_reader.unpack(_with_attributes(tmp_path, headers, "a"), opened)
    assert found.beside == {
        "a": {"CodeDirectory": bytes.fromhex("fade0c02"), "CodeSignature": b"raw"}
    }
    assert "com.apple.quarantine" in found.members[0].attributes
    tree = DiskTree(opened, beside=found.beside)
    assert tree.detached("a")["CodeSignature"] == b"raw"


def test_an_attribute_that_is_not_base64_is_refused(tmp_path: Path) -> None:
    """As damaged, before anything hangs on it."""
    opened = tmp_path / "opened"
    opened.mkdir()
    headers = {"LIBARCHIVE.xattr.com.apple.cs.CodeDirectory": "***"}
    with pytest.raises(errors.FormatError, match="base64"):
        archive_reader.unpack(_with_attributes(tmp_path, headers, "a"), opened)


def test_sidecars_are_files_unless_their_file_is_there(tmp_path: Path) -> None:
    """`._a` beside `a` is macOS's way to keep attributes; `._b` alone is a file."""
    path = _with_attributes(tmp_path, {}, "._a", "._b", "a")
    for sidecars, names in ((True, ["._a", "._b", "a"]), (False, ["._b", "a"])):
        opened = tmp_path / f"opened {sidecars}"
        opened.mkdir()
        found = archive_reader.unpack(path, opened, sidecars=sidecars)
        assert sorted(one.path for one in found.members) == names
        assert sorted(one.name for one in opened.iterdir()) == names
