"""What lies in an output folder, as records keep it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from release_tool.files.tree import DiskTree
from release_tool.values import SealedFile


def sealed_files(root: Path) -> tuple[SealedFile, ...]:
    """Every regular file and symbolic link below a folder, sorted by path.

    Raises:
        VerificationError: something that is neither file, folder nor link.
        HostError: the system refuses to read.
    """
    tree = DiskTree(root)
    return tuple(
        SealedFile(
            path=entry.path,
            mode=entry.mode,
            size=entry.size,
            sha256=(
                hashlib.sha256(entry.target.encode()).hexdigest()
                if entry.kind == "symlink"
                else tree.digest(entry.path, "sha256").hex()
            ),
            link=entry.kind == "symlink",
        )
        for entry in tree.entries()
        if entry.kind != "directory"
    )
