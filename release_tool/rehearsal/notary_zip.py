"""Open an uploaded zip as the notary must: as something hostile.

Names, kinds, counts and sizes are judged before a byte is written; links are written last, so
that nothing is ever written through one.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

# An app has some thousand files; the tree that is judged afterwards takes 100,000.
MOST_MEMBERS = 50_000
# Apple's own limit is not known; a release of ours has 0.1 GB.
MOST_BYTES = 8 * 1024**3
# Deflate reaches 1032 to 1, but code does not: what is denser than this is a bomb. Small files
# of zeros may be.
MOST_RATIO = 200
_DENSE_BYTES = 64 * 1024**2
_NAME_BYTES = 1024
_TARGET_BYTES = 1024
_CHUNK_BYTES = 1024 * 1024
_UTF8_FLAG = 0x800
_ENCRYPTED_FLAG = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_PERMISSIONS = 0o755
_PROBLEMS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


class ZipError(Exception):
    """The archive is not opened; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    info: zipfile.ZipInfo
    path: str
    kind: str


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into an empty folder.

    Raises:
        ZipError: it is no zip, is damaged, or holds what the notary does not take.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            members = _members(source.infolist())
            for member in members:
                _write(source, member, folder)
            for member in members:
                if member.kind == "link":
                    _link(source, member, folder)
    except _PROBLEMS as problem:
        raise ZipError(f"{type(problem).__name__} while it was unpacked") from problem


def _members(infos: list[zipfile.ZipInfo]) -> list[_Member]:
    if len(infos) > MOST_MEMBERS:
        raise ZipError(f"{len(infos)} members, at most {MOST_MEMBERS} are taken")
    if sum(info.file_size for info in infos) > MOST_BYTES:
        raise ZipError(f"more than {MOST_BYTES} bytes when unpacked")
    members = [_member(info) for info in infos]
    if len({member.path for member in members}) != len(members):
        raise ZipError("two members have one name")
    return members


def _member(info: zipfile.ZipInfo) -> _Member:
    path = _name(info)
    if info.flag_bits & _ENCRYPTED_FLAG or info.compress_type not in _METHODS:
        raise ZipError(f"{path!r} is encrypted or compressed in an unknown way")
    if info.file_size > _DENSE_BYTES and info.file_size > MOST_RATIO * max(info.compress_size, 1):
        raise ZipError(f"{path!r} is compressed beyond belief")
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return _Member(info=info, path=path, kind="link")
    if info.filename.endswith("/") or stat.S_ISDIR(mode):
        return _Member(info=info, path=path, kind="folder")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ZipError(f"{path!r} is neither a file, a folder nor a link")
    return _Member(info=info, path=path, kind="file")


def _name(info: zipfile.ZipInfo) -> str:
    """The name, in UTF-8 whether its flag says so or not, as macOS writes it."""
    name = info.orig_filename
    if not info.flag_bits & _UTF8_FLAG:
        name = name.encode("cp437").decode("utf-8")
    path = name.removesuffix("/")
    parts = path.split("/")
    if (
        not path
        or len(path.encode()) > _NAME_BYTES
        or any(part in ("", ".", "..") for part in parts)
        or any(character in path for character in "\0\\")
    ):
        raise ZipError(f"a member is named {name[:80]!r}")
    return path


def _write(source: zipfile.ZipFile, member: _Member, folder: Path) -> None:
    target = folder / member.path
    if member.kind == "folder":
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.kind == "link":
        return
    with source.open(member.info) as content, target.open("xb") as written:
        while chunk := content.read(_CHUNK_BYTES):
            written.write(chunk)
    target.chmod(member.info.external_attr >> 16 & _PERMISSIONS | stat.S_IRUSR | stat.S_IWUSR)


def _link(source: zipfile.ZipFile, member: _Member, folder: Path) -> None:
    if not 0 < member.info.file_size <= _TARGET_BYTES:
        raise ZipError(f"{member.path!r} is a link of {member.info.file_size} bytes")
    # Read at once, it would get the room that its packed size claims.
    with source.open(member.info) as content:
        target = b"".join(iter(lambda: content.read(_TARGET_BYTES), b""))
    (folder / member.path).symlink_to(target.decode("utf-8"))
