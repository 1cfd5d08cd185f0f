"""Digests of files that are too large to hold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

from release_tool.files import atomic
from release_tool.progress import Reporter, Silent

CHUNK_BYTES = 1024 * 1024
# What several digests read in turn stays in a core's own cache.
_SHARED_CHUNK_BYTES = 256 * 1024


def sha256_of(path: Path, *, reporter: Reporter | None = None, task: str = "hash") -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Args:
        path: a regular file; a link to one is followed.
        reporter: sees `task` advance where given; the caller starts and finishes it.
        task: the name of the work.

    Raises:
        HostError: the file cannot be read.
    """
    return digest_of(path, "sha256", reporter=reporter, task=task).hex()


def digest_of(
    path: Path, algorithm: str, *, reporter: Reporter | None = None, task: str = "hash"
) -> bytes:
    """The digest of a file's content by any algorithm that hashlib knows.

    Raises:
        HostError: the file cannot be read.
    """
    shown = reporter or Silent()
    digest = hashlib.new(algorithm)
    with atomic.naming(path, "read"), path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            shown.advance(task, len(chunk))
    return digest.digest()


def digests_of(source: BufferedReader, algorithms: Sequence[str]) -> dict[str, bytes]:
    """Digests of the rest of an open file by algorithm, read once and never held."""
    found = {name: hashlib.new(name) for name in algorithms}
    chunk = bytearray(_SHARED_CHUNK_BYTES)
    view = memoryview(chunk)
    while count := source.readinto(chunk):
        for digest in found.values():
            digest.update(view[:count])
    return {name: digest.digest() for name, digest in found.items()}
