"""A request's body, spooled to disk once while every stated digest of it is computed."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request

from release_tool.rehearsal import s3_errors

_CHUNK_BYTES = 1024 * 1024
# R2's limits page: one PutObject carries at most 4.995 GiB.
SINGLE_PUT_BYTES = int(4.995 * 1024**3)
_HEX = re.compile(r"[0-9a-f]{64}")
_UNSIGNED = "UNSIGNED-PAYLOAD"
# R2 knows these too; nothing of ours sends them, and the standard library lacks most.
_UNKNOWN_CHECKSUMS = ("x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme")


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A spooled body."""

    path: Path
    """A scratch file; whoever keeps it moves it away."""
    size: int
    sha256: str
    md5: bytes


class Source(Protocol):
    """Where a body comes from that is not simply what stands behind the headers."""

    @property
    def length(self) -> int:
        """Of the body, once decoded."""

    def read(self, count: int, /) -> bytes: ...

    def stated(self) -> Mapping[str, str]:
        """Checksum headers that came behind the body; only after all was read."""


@contextmanager
def spool(request: Request, folder: Path, source: Source | None = None) -> Iterator[Body]:
    """Read a body into a file, compare it with every digest that the request states.

    Args:
        request: whose body.
        folder: for the file.
        source: decodes the body, and states its digests instead of the header
            `x-amz-content-sha256`; None where the body is sent as it is.

    Raises:
        S3Error: no length, too long, cut off, or another digest.
    """
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as content:
        path = Path(content.name)
    try:
        yield _read(request, path, source)
    finally:
        path.unlink(missing_ok=True)


def _read(request: Request, path: Path, source: Source | None) -> Body:
    length = source.length if source else request.content_length
    if length is None and request.method in ("PUT", "POST") and not _is_bodiless(request):
        raise s3_errors.S3Error(411, "MissingContentLength", "Content-Length is required.")
    if (length or 0) > SINGLE_PUT_BYTES:
        raise s3_errors.S3Error(400, "EntityTooLarge", "The proposed upload is too large.")
    found = {"sha256": hashlib.sha256(), "md5": hashlib.md5(), "sha1": hashlib.sha1()}
    used = [found["sha256"], found["md5"]]
    if source or "x-amz-checksum-sha1" in request.headers:
        used.append(found["sha1"])
    stream = source or request.stream
    crc, size = 0, 0
    with path.open("wb") as content:
        while chunk := stream.read(_CHUNK_BYTES):
            for digest in used:
                digest.update(chunk)
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
            content.write(chunk)
    if size != (length or 0):
        raise s3_errors.S3Error(400, "IncompleteBody", "The body was cut off.")
    octets = {name: digest.digest() for name, digest in found.items()}
    octets["crc32"] = crc.to_bytes(4)
    if source is None:
        _compare_payload(request.headers.get("x-amz-content-sha256", ""), octets)
    _compare(
        Headers([*request.headers.items(), *(source.stated() if source else {}).items()]), octets
    )
    return Body(path=path, size=size, sha256=octets["sha256"].hex(), md5=octets["md5"])


def _is_bodiless(request: Request) -> bool:
    return "uploads" in request.args or "x-amz-copy-source" in request.headers


def _compare_payload(signed: str, octets: dict[str, bytes]) -> None:
    if signed == _UNSIGNED:
        return
    if not _HEX.fullmatch(signed):
        raise s3_errors.S3Error(
            400, "InvalidArgument", "x-amz-content-sha256 must be a SHA-256 in hex."
        )
    if signed != octets["sha256"].hex():
        raise s3_errors.bad_digest("x-amz-content-sha256")


def _compare(headers: Headers, octets: dict[str, bytes]) -> None:
    for name in _UNKNOWN_CHECKSUMS:
        if name in headers:
            raise s3_errors.not_implemented(name)
    stated = {
        "Content-MD5": "md5",
        "x-amz-checksum-sha256": "sha256",
        "x-amz-checksum-sha1": "sha1",
        "x-amz-checksum-crc32": "crc32",
    }
    for header, name in stated.items():
        if header in headers and headers[header] != base64.b64encode(octets[name]).decode():
            raise s3_errors.bad_digest(header)
