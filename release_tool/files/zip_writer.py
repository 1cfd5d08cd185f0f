"""The zip that the notary gets: exactly one folder, the same bytes each time it is made.

Members are stored, not deflated: a deflater's bytes differ between hosts, and the archive's digest
is how a submission is found again. Names stay byte for byte what they are on disk (UTF-8, composed
or not), links stay links, modes stay, and nothing is added: no `__MACOSX`, no `._` companion.
"""

from __future__ import annotations

import hashlib
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path

from release_tool import errors
from release_tool.apple.tree import TreeEntry
from release_tool.files import atomic, hashing
from release_tool.files.members import Member, shown
from release_tool.files.tree import DiskTree
from release_tool.progress import Reporter, Silent, task

# The earliest time that a zip can tell: the content alone decides the bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_MSDOS_FOLDER = 0x10
_LINK_MODE = 0o777
_KIND_BITS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Zipped:
    """A finished zip."""

    sha256: str
    size: int
    members: tuple[Member, ...]
    """Files and links with the digest of what was packed; folders without."""


def pack(root: Path, folder: str, destination: Path, *, reporter: Reporter | None = None) -> Zipped:
    """Zip a folder below `root`, itself the first member; it appears whole or not at all.

    Args:
        root: holds the folder.
        folder: its name; nothing else of `root` is packed.
        destination: the zip to write.
        reporter: sees the task `zip` over the bytes of the files.

    Raises:
        VerificationError: a name that is no UTF-8, a file that changes meanwhile, something that
            is neither file, folder nor link.
        HostError: the system refuses.
    """
    shown_to = reporter or Silent()
    tree = DiskTree(root)
    inside = f"{folder}/"
    entries = [
        entry for entry in tree.entries() if entry.path == folder or entry.path.startswith(inside)
    ]
    total = sum(entry.size for entry in entries if entry.kind == "file")
    with (
        task(shown_to, "zip", total),
        atomic.new_file(destination) as target,
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        members = tuple(_add(archive, tree, entry, shown_to) for entry in entries)
    return Zipped(
        sha256=hashing.sha256_of(destination), size=destination.stat().st_size, members=members
    )


def _add(archive: zipfile.ZipFile, tree: DiskTree, entry: TreeEntry, reporter: Reporter) -> Member:
    info = _info(entry)
    if entry.kind == "file":
        digest = _file(archive, info, tree, entry, reporter)
    elif entry.kind == "symlink":
        archive.writestr(info, entry.target.encode())
        digest = hashlib.sha256(entry.target.encode()).hexdigest()
    else:
        archive.writestr(info, b"")
        digest = ""
    return Member(
        path=entry.path,
        kind=entry.kind,
        mode=entry.mode,
        size=entry.size if entry.kind == "file" else 0,
        target=entry.target,
        sha256=digest,
    )


def _info(entry: TreeEntry) -> zipfile.ZipInfo:
    try:
        (entry.path + entry.target).encode()
    except UnicodeEncodeError as problem:
        raise errors.VerificationError(
            "has a name or a target that is not UTF-8", subject=shown(entry.path)
        ) from problem
    folder = entry.kind == "directory"
    info = zipfile.ZipInfo(f"{entry.path}/" if folder else entry.path, _DATE)
    info.create_system = _UNIX
    mode = _LINK_MODE if entry.kind == "symlink" else entry.mode
    info.external_attr = (_KIND_BITS[entry.kind] | mode) << 16 | (_MSDOS_FOLDER if folder else 0)
    return info


def _file(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    tree: DiskTree,
    entry: TreeEntry,
    reporter: Reporter,
) -> str:
    """Store a file chunk by chunk; its size decides beforehand whether it needs zip64."""
    info.file_size = entry.size
    digest = hashlib.sha256()
    left = entry.size
    with tree.open(entry.path) as source, archive.open(info, "w") as target:
        while chunk := source.read(hashing.CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
            target.write(chunk)
            reporter.advance("zip", len(chunk))
    if left:
        raise errors.VerificationError(
            "changed while it was read", subject=entry.path, expected=f"{entry.size} bytes"
        )
    return digest.hexdigest()
