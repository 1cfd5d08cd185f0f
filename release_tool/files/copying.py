"""Copies files by their content alone: nothing that the system attached comes along."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from release_tool import errors
from release_tool.files import atomic
from release_tool.files.hashing import CHUNK_BYTES
from release_tool.files.tree import DiskTree
from release_tool.progress import Reporter, Silent


def copy_file(
    source: Path,
    destination: Path,
    *,
    mode: int,
    reporter: Reporter | None = None,
    task: str = "copy",
) -> str:
    """Copy a regular file into a new one, and digest what was copied.

    Args:
        source: a regular file; a link is refused.
        destination: must not exist; the folders above it are made.
        mode: permission bits of the new file.
        reporter: sees `task` advance where given; the caller starts and finishes it.
        task: the name of the work.

    Returns:
        SHA-256 of the content, in hexadecimal.

    Raises:
        VerificationError: the source is missing or no regular file.
        HostError: the system refuses.
    """
    shown = reporter or Silent()
    digest = hashlib.sha256()
    with atomic.naming(destination, "write"):
        destination.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with (
            DiskTree(source.parent).open(source.name) as from_file,
            os.fdopen(os.open(destination, flags, 0o600), "wb") as to_file,
        ):
            while chunk := from_file.read(CHUNK_BYTES):
                digest.update(chunk)
                to_file.write(chunk)
                shown.advance(task, len(chunk))
            os.fchmod(to_file.fileno(), mode)
    return digest.hexdigest()


def require_folder(path: Path, what: str) -> None:
    """Refuse a path that is no folder.

    Raises:
        UsageError: it is none.
    """
    if not path.is_dir():
        raise errors.UsageError(f"{what} is not a folder", subject=str(path))
