"""What lies in a zip that another tool made of our app: names, kinds, modes and digests.

For `ditto`'s zips, whose bytes nobody promises: what they hold is compared with what was signed
before anything is uploaded.
"""

from __future__ import annotations

import hashlib
import stat
import zipfile
from pathlib import Path

from release_tool import errors
from release_tool.files import hashing, zip_directory
from release_tool.files.members import Member, shown
from release_tool.files.zip_writer import Zipped

_MOST_MEMBERS = 100_000
"""As many files as a tree may have that is walked at all."""


def read(archive: Path) -> Zipped:
    """Read a zip and digest every member; sidecars of attributes are left out.

    Raises:
        FormatError: it is no zip, or one that is damaged.
        HostError: the system refuses.
    """
    with zip_directory.opening(archive) as opened:
        found = zip_directory.members_of(opened, most=_MOST_MEMBERS)
        named = [(zip_directory.name_of(info), info) for info in found]
        members = tuple(
            _member(opened, name, info)
            for name, info in named
            if name.split("/", 1)[0] != zip_directory.BESIDE
        )
        size = archive.stat().st_size
    return Zipped(sha256=hashing.sha256_of(archive), size=size, members=members)


def _member(opened: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Member:
    mode = info.external_attr >> 16
    if info.is_dir():
        return Member(path=name.rstrip("/"), kind="directory", mode=stat.S_IMODE(mode))
    link = stat.S_ISLNK(mode)
    if link and info.file_size > zip_directory.LINK_BYTES:
        raise errors.FormatError("a link with an endless target", subject=shown(name))
    digest = hashlib.sha256()
    target = b""
    with opened.open(info) as content:
        while chunk := content.read(hashing.CHUNK_BYTES):
            digest.update(chunk)
            target += chunk if link else b""
    return Member(
        path=name,
        kind="symlink" if link else "file",
        mode=stat.S_IMODE(mode),
        size=0 if link else info.file_size,
        target=target.decode("utf-8", "surrogateescape"),
        sha256=digest.hexdigest(),
    )
