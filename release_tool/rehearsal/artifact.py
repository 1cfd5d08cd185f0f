"""The coordinator's own look at an archive: download, digest, and a walk over every member.

Section 1.1 of the contract: all that is refused here ends in a 400 whose message begins with
`release artifact verification failed:`. Texts of its own download begin with `download bundle` or
`read bundle`; those pass, the others do not.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import posixpath
import tempfile
import time
import urllib.parse
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from release_tool.rehearsal import tar_walk

# The contract's caps: 2 GiB for the archive, 512 MiB for the executable, 2 minutes in all.
BUNDLE_BYTES = 2 * 1024**3
BINARY_BYTES = 512 * 1024**2
BUDGET_SECONDS = 120.0
BINARY = "bin/darkbloom"
_CHUNK_BYTES = 1024 * 1024
_REGULAR = b"0"


class ArtifactError(Exception):
    """The artifact was refused; the text is the coordinator's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The caps, smaller only where a test cannot move gigabytes."""

    bundle_bytes: int = BUNDLE_BYTES
    binary_bytes: int = BINARY_BYTES
    budget_seconds: float = BUDGET_SECONDS


def verify(url: str, *, bundle_hash: str, binary_hash: str, scratch: Path, limits: Limits) -> None:
    """Download an archive and compare it with a registration.

    Args:
        url: the address that the coordinator derived, never the caller's text.
        bundle_hash: 64 hex digits in lower case.
        binary_hash: the same, of the executable.
        scratch: folder for the temporary file.
        limits: the caps.

    Raises:
        ArtifactError: the first thing that is wrong.
    """
    deadline = time.monotonic() + limits.budget_seconds
    with tempfile.TemporaryFile(dir=scratch) as kept:
        digest = _download(url, kept, limits.bundle_bytes, deadline)
        if digest != bundle_hash:
            raise ArtifactError(f"bundle_hash mismatch: expected {bundle_hash}, got {digest}")
        kept.seek(0)
        _walk(kept, deadline, binary_hash, limits.binary_bytes)


def _download(url: str, kept: IO[bytes], cap: int, deadline: float) -> str:
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=max(1.0, deadline - time.monotonic()))
    try:
        try:
            connection.request("GET", parts.path, headers={"User-Agent": "Go-http-client/1.1"})
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as problem:
            raise ArtifactError(f"download bundle: {problem}") from problem
        if answer.status != http.client.OK:
            # A redirect is not followed, so it is just another wrong status.
            raise ArtifactError(f"download bundle: unexpected status {answer.status}")
        return _keep(answer, kept, cap, deadline)
    finally:
        connection.close()


def _keep(answer: http.client.HTTPResponse, kept: IO[bytes], cap: int, deadline: float) -> str:
    stated = answer.length
    digest, size = hashlib.sha256(), 0
    try:
        while chunk := answer.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > cap:
                raise ArtifactError(f"bundle exceeds {cap} bytes")
            if time.monotonic() > deadline:
                raise ArtifactError("read bundle: context deadline exceeded")
            digest.update(chunk)
            kept.write(chunk)
    except (OSError, http.client.HTTPException) as problem:
        raise ArtifactError(f"read bundle: {problem}") from problem
    if stated is not None and size != stated:
        raise ArtifactError("read bundle: unexpected EOF")
    return digest.hexdigest()


class _Dated:
    """A stream that stops giving once the budget is spent: a bomb expands for ever."""

    def __init__(self, stream: tar_walk.Readable, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, size: int, /) -> bytes:
        if time.monotonic() > self._deadline:
            raise ArtifactError("read bundle archive: context deadline exceeded")
        return self._stream.read(size)


def _walk(kept: IO[bytes], deadline: float, binary_hash: str, cap: int) -> None:
    seen = False
    try:
        with gzip.GzipFile(fileobj=kept, mode="rb") as stream:
            for member in tar_walk.members(_Dated(stream, deadline)):
                if _clean(member.name) != BINARY:
                    continue
                if seen:
                    raise ArtifactError(f"bundle contains {BINARY} more than once")
                seen = True
                _binary(member, binary_hash, cap)
    except (tar_walk.TarError, zlib.error, EOFError, OSError) as problem:
        raise ArtifactError(f"open bundle archive: {problem}") from problem
    if not seen:
        raise ArtifactError(f"bundle does not contain {BINARY}")


def _binary(member: tar_walk.Member, binary_hash: str, cap: int) -> None:
    if member.kind != _REGULAR:
        raise ArtifactError(f"{BINARY} is not a regular file")
    if member.size > cap:
        raise ArtifactError(f"{BINARY} exceeds {cap} bytes")
    if (digest := member.digest()) != binary_hash:
        raise ArtifactError(f"binary_hash mismatch: expected {binary_hash}, got {digest}")


def _clean(name: str) -> str:
    """The clean name of a member; an unsafe one refuses the whole bundle."""
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise ArtifactError(f"bundle contains unsafe path {name!r}")
    return posixpath.normpath(name.removeprefix("./") or ".")
