"""Multipart uploads under way: their parts on disk, and R2's rules on them.

All parts but the last are equal and of 5 MiB at least; at most 10,000 of them
(developers.cloudflare.com/r2/objects/multipart-objects/). An upload does not survive a restart;
its client is told that there is no such upload.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from release_tool.rehearsal import s3_errors
from release_tool.rehearsal.s3_body import Body

SMALLEST_PART_BYTES = 5 * 1024**2
MOST_PARTS = 10_000
_UPLOAD_ID = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_PART = re.compile(rb"<Part>(.*?)</Part>", re.DOTALL)
_PART_NUMBER = re.compile(rb"<PartNumber>\s*(\d{1,5})\s*</PartNumber>")
_ETAG = re.compile(rb"<ETag>\s*(?:&quot;|\"|&#34;)?([0-9a-fA-F]+)(?:&quot;|\"|&#34;)?\s*</ETag>")
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One uploaded part."""

    path: Path
    size: int
    etag: str
    """Without quotes."""


@dataclass(slots=True, kw_only=True)
class Upload:
    """One upload under way."""

    key: str
    folder: Path
    parts: dict[int, Part] = field(default_factory=dict)

    def keep(self, number: int, body: Body, etag: str) -> None:
        """Keep a part; a later one of the same number replaces it."""
        path = self.folder / f"{number}"
        body.path.replace(path)
        self.parts[number] = Part(path=path, size=body.size, etag=etag.strip('"'))

    def chosen(self, wish: bytes) -> list[Part]:
        """The parts that a completion names.

        Raises:
            S3Error: an unknown part, a wrong order, or sizes that R2 refuses.
        """
        numbers = wished(wish)
        found = [self.parts.get(number) for number, _ in numbers]
        parts = [
            part
            for part, (_, etag) in zip(found, numbers, strict=True)
            if part is not None and part.etag == etag
        ]
        if len(parts) != len(numbers):
            raise s3_errors.invalid_part("One or more of the parts could not be found.")
        _judge_sizes([part.size for part in parts])
        return parts


class Uploads:
    """Every upload under way.

    Args:
        scratch: where parts lie.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._known: dict[str, Upload] = {}

    def begin(self, identity: str, key: str) -> None:
        """Note a new upload."""
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        self._known[identity] = Upload(key=key, folder=folder)

    def find(self, identity: str, key: str) -> Upload:
        """An upload of this key.

        Raises:
            S3Error: there is none.
        """
        upload = self._known.get(identity)
        if upload is None or upload.key != key:
            raise s3_errors.no_such_upload()
        return upload

    def join(self, parts: list[Part]) -> tuple[Path, str]:
        """Write parts into one file; return it with its SHA-256."""
        digest = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=self._scratch, delete=False) as whole:
            for part in parts:
                with part.path.open("rb") as content:
                    while chunk := content.read(_CHUNK_BYTES):
                        digest.update(chunk)
                        whole.write(chunk)
        return Path(whole.name), digest.hexdigest()

    def forget(self, identity: str) -> None:
        """Drop an upload with its parts."""
        upload = self._known.pop(identity, None)
        if upload is not None:
            for part in upload.folder.iterdir():
                part.unlink()
            upload.folder.rmdir()


def wished(wish: bytes) -> list[tuple[int, str]]:
    """Number and ETag of each part that a completion names.

    Raises:
        S3Error: no such list, or a wrong order.
    """
    numbers = [_named(item) for item in _PART.findall(wish)]
    if not numbers:
        raise s3_errors.S3Error(400, "MalformedXML", "The XML was not well-formed.")
    if any(ours[0] >= theirs[0] for ours, theirs in pairwise(numbers)):
        raise s3_errors.S3Error(400, "InvalidPartOrder", "Parts are not in ascending order.")
    return numbers


def upload_id(answer: bytes) -> str:
    """The id in an answer to CreateMultipartUpload."""
    found = _UPLOAD_ID.search(answer)
    if found is None:
        raise s3_errors.S3Error(500, "InternalError", "no upload id")
    return found[1].decode()


def part_number(text: str) -> int:
    """A part number within R2's bounds.

    Raises:
        S3Error: it is none.
    """
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 1 <= number <= MOST_PARTS:
        raise s3_errors.S3Error(
            400, "InvalidArgument", "Part number must be between 1 and 10000, inclusive."
        )
    return number


def _named(item: bytes) -> tuple[int, str]:
    number, etag = _PART_NUMBER.search(item), _ETAG.search(item)
    if number is None or etag is None:
        raise s3_errors.S3Error(400, "MalformedXML", "The XML was not well-formed.")
    return int(number[1]), etag[1].decode().lower()


def _judge_sizes(sizes: list[int]) -> None:
    *leading, last = sizes
    if any(size != leading[0] for size in leading) or (leading and last > leading[0]):
        raise s3_errors.invalid_part("All non-trailing parts must have the same length.")
    if any(size < SMALLEST_PART_BYTES for size in leading):
        raise s3_errors.S3Error(
            400, "EntityTooSmall", "Your proposed upload is smaller than the minimum."
        )
