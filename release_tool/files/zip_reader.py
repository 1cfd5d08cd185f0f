"""What lies in a zip that another tool made of our app: names, kinds, modes and digests.

For `ditto`'s zips, whose bytes nobody promises: what they hold is compared with what was signed
before anything is uploaded.
"""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from pathlib import Path

from release_tool import errors
from release_tool.files import atomic, hashing
from release_tool.files.members import Member, shown
from release_tool.files.zip_writer import Zipped

_MOST_MEMBERS = 100_000
"""As many files as a tree may have that is walked at all."""
_LINK_BYTES = 4096
_UTF8 = 0x800
_BESIDE = "__MACOSX/"
"""Where ditto keeps what lies beside files: attributes in AppleDouble, no files of the app."""


def read(archive: Path) -> Zipped:
    """Read a zip and digest every member; sidecars of attributes are left out.

    Raises:
        FormatError: it is no zip, or one that is damaged.
        HostError: the system refuses.
    """
    with atomic.naming(archive, "read"):
        try:
            with zipfile.ZipFile(archive) as opened:
                found = opened.infolist()
                if len(found) > _MOST_MEMBERS:
                    raise errors.FormatError(f"a zip of {len(found)} members")
                named = [(_name(info), info) for info in found]
                members = tuple(
                    _member(opened, name, info)
                    for name, info in named
                    if not name.startswith(_BESIDE)
                )
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as problem:
            raise errors.FormatError(
                "not a zip that can be read", subject=archive.name
            ) from problem
        size = archive.stat().st_size
    return Zipped(sha256=hashing.sha256_of(archive), size=size, members=members)


def _name(info: zipfile.ZipInfo) -> str:
    """The name as UTF-8: ditto writes it so and does not say so."""
    if info.flag_bits & _UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError as problem:
        raise errors.FormatError(
            "a member's name is not UTF-8", subject=shown(info.filename)
        ) from problem


def _member(opened: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Member:
    mode = info.external_attr >> 16
    if info.is_dir():
        return Member(path=name.rstrip("/"), kind="directory", mode=stat.S_IMODE(mode))
    link = stat.S_ISLNK(mode)
    if link and info.file_size > _LINK_BYTES:
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
