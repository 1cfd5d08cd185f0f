"""Unpack a stranger's zip of an app into scratch: every name, size and link judged before.

Same rules as for tar archives: names that mean the same on every volume, links that stay inside,
limits on members and bytes. What ditto keeps beside files (`__MACOSX`) is left out and told; the
signatures in it belong to the files.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from release_tool import errors
from release_tool.apple import apple_double
from release_tool.apple.detached_signature import MAX_PART_BYTES, PREFIX
from release_tool.files import atomic, hashing, members, zip_directory
from release_tool.files.archive_reader import LIMITS, Limits, Unpacked
from release_tool.files.members import Member, shown
from release_tool.files.tree import APPLE_DOUBLE_PREFIX

MAGIC = b"PK\x03\x04"
_SYSTEM_FOLDERS = ("/System/", "/Library/")
_UNIX = 3
_PIECE_BYTES = 64 * 1024
# A signature's large part is its code directory; a larger file is a resource fork, and no matter.
_BESIDE_BYTES = 2 * MAX_PART_BYTES


def unpack(archive: Path, folder: Path, *, limits: Limits = LIMITS) -> Unpacked:
    """Unpack a zip into an existing, empty folder; links come last.

    Returns:
        Every member, those beside the files included; there is no tar stream, so no digest of it.

    Raises:
        FormatError: the zip is damaged, hostile or over a limit.
        HostError: the system refuses.
    """
    with zip_directory.opening(archive) as opened:
        listed = _listed(opened, limits)
        unpacked = [_unpack_one(opened, info, member, folder) for info, member in listed]
        signatures = dict(_signatures(opened, listed))
    found = [replace(one, signature=signatures.get(one.path, ())) for one in unpacked]
    for member in found:
        if member.kind == "symlink" and not is_beside(member):
            target = _target(member, limits)
            with atomic.naming(folder / member.path, "make"):
                (folder / member.path).symlink_to(target)
    return Unpacked(
        sha256=hashing.sha256_of(archive),
        size=archive.stat().st_size,
        tar_sha256="",
        members=tuple(found),
    )


def _target(member: Member, limits: Limits) -> str:
    """Where a link leads: inside, or into the system's folders, as the seal may allow."""
    if member.target.startswith(_SYSTEM_FOLDERS) and ".." not in member.target.split("/"):
        return member.target
    return members.checked_target(member.path, member.target, path_bytes=limits.path_bytes)


def is_beside(member: Member) -> bool:
    """Whether a member holds what lies beside a file, and is none of the app's."""
    return member.path.split("/", 1)[0] == zip_directory.BESIDE


def _signatures(
    opened: zipfile.ZipFile, listed: list[tuple[zipfile.ZipInfo, Member]]
) -> Iterator[tuple[str, tuple[tuple[str, bytes], ...]]]:
    """The parts of signatures that ditto keeps beside files, by the file's path."""
    for info, member in listed:
        path = file_beside(member.path)
        if not path or member.kind != "file" or member.size > _BESIDE_BYTES:
            continue
        data = _whole(opened, info)
        if data.startswith(apple_double.MAGIC):
            yield path, tuple(signature_in(data, path).items())


def file_beside(path: str) -> str:
    """Which file a member of `__MACOSX` lies beside; empty for any other member."""
    top, _, rest = path.partition("/")
    folder, slash, name = rest.rpartition("/")
    if top != zip_directory.BESIDE or not name.startswith(APPLE_DOUBLE_PREFIX):
        return ""
    return f"{folder}{slash}{name.removeprefix(APPLE_DOUBLE_PREFIX)}"


def signature_in(data: bytes, path: str) -> dict[str, bytes]:
    """The parts of a signature in AppleDouble, by name without codesign's prefix.

    Raises:
        FormatError: it is damaged.
    """
    try:
        found = apple_double.parse(data)
    except errors.FormatError as problem:
        problem.subject = shown(path)
        raise
    return {
        name.removeprefix(PREFIX): content
        for name, content in found.items()
        if name.startswith(PREFIX)
    }


def _listed(opened: zipfile.ZipFile, limits: Limits) -> list[tuple[zipfile.ZipInfo, Member]]:
    infos = zip_directory.members_of(opened, most=limits.members)
    if sum(info.file_size for info in infos) > limits.expanded_bytes:
        raise errors.FormatError(f"a zip of more than {limits.expanded_bytes} bytes")
    names = members.Names()
    listed = [(info, _member(info, limits)) for info in infos]
    for _, member in listed:
        names.take(member.path, directory=member.kind == "directory")
    return listed


def _member(info: zipfile.ZipInfo, limits: Limits) -> Member:
    path = members.checked_path(
        zip_directory.name_of(info).rstrip("/"),
        path_bytes=limits.path_bytes,
        component_bytes=limits.component_bytes,
    )
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    if info.file_size > limits.member_bytes:
        raise errors.FormatError("is larger than a member may be", subject=shown(path))
    if info.is_dir():
        return Member(path=path, kind="directory", mode=stat.S_IMODE(mode) or 0o755)
    if stat.S_ISLNK(mode):
        if info.file_size > zip_directory.LINK_BYTES:
            raise errors.FormatError("a link with an endless target", subject=shown(path))
        return Member(path=path, kind="symlink", mode=stat.S_IMODE(mode))
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise errors.FormatError("is neither a file, a folder nor a link", subject=shown(path))
    return Member(path=path, kind="file", mode=stat.S_IMODE(mode) or 0o644, size=info.file_size)


def _unpack_one(
    opened: zipfile.ZipFile, info: zipfile.ZipInfo, member: Member, folder: Path
) -> Member:
    path = folder / member.path
    if is_beside(member):
        return member
    with atomic.naming(path, "unpack"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.kind == "directory":
            path.mkdir(exist_ok=True)
            path.chmod(member.mode | 0o700)
            return member
    if member.kind == "symlink":
        raw = _whole(opened, info)
        target = raw.decode("utf-8", "surrogateescape")
        return replace(member, target=target, sha256=hashlib.sha256(raw).hexdigest())
    return replace(member, sha256=_write(opened, info, path, member.mode))


def _whole(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A small member. Asked for at once, it would get the room that its packed size claims."""
    with opened.open(info) as content:
        return b"".join(iter(lambda: content.read(_PIECE_BYTES), b""))


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, mode: int) -> str:
    """Inflate a file, never more than the directory of the zip says: `zipfile` stops there."""
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with (
        atomic.naming(path, "unpack"),
        os.fdopen(os.open(path, flags, 0o600), "wb") as target,
        opened.open(info) as content,
    ):
        while piece := content.read(hashing.CHUNK_BYTES):
            digest.update(piece)
            target.write(piece)
        os.fchmod(target.fileno(), mode & 0o7777 | 0o600)
    return digest.hexdigest()
