"""The parts of one upload on their way, several at once.

Each is read from the disk as it is sent: memory does not grow with the file, and a slow connection
does not hold the others.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from release_tool.progress import Reporter
from release_tool.services import retries
from release_tool.services.at_once import Together
from release_tool.services.object_store_calls import Body, begin_body, converted, hooked

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NO_UPLOAD = ("NoSuchUpload",)
_CHUNK_BYTES = 1024 * 1024
# How soon a pause between tries notices that another part has failed.
_NOTICE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of the file."""

    number: int
    """From 1."""
    start: int
    size: int


def parts_of(size: int, part_bytes: int) -> list[Part]:
    """Cut a file of `size` bytes: every part has `part_bytes`, the last one what is left."""
    return [
        Part(number=number, start=start, size=min(part_bytes, size - start))
        for number, start in enumerate(range(0, size, part_bytes), 1)
    ]


@dataclass(frozen=True, kw_only=True)
class Sending:
    """One go at sending the parts that are missing.

    Args:
        client: of the bucket's store; its connections are as many as are sent at once.
        bucket: the bucket.
        key: the object's key.
        upload: the upload's id.
        source: the file.
        standing: the parts that the store holds, number to ETag and size.
        policy: how to retry what fails in passing; each part by itself.
        reporter: gets the bytes as the task `upload`, each once.
    """

    client: S3Client
    bucket: str
    key: str
    upload: str
    source: Path
    standing: Mapping[int, tuple[str, int]]
    policy: retries.Policy
    reporter: Reporter
    _together: Together = field(default_factory=Together, init=False)

    def run(self, parts: Sequence[Part], *, at_once: int) -> list[str]:
        """Send what the store does not hold; returns the ETag of every part in order.

        The first part that fails for good ends the others at their next bytes.

        Raises:
            AbsentError: the store does not know the upload.
            CredentialError, RemoteRefusedError, TransientError: it did not take a part.
        """
        calls = [partial(self._one, part) for part in parts]
        with hooked(self.client, "before-send.s3.UploadPart", begin_body):
            return self._together.run(calls, at_once=at_once, name="part")

    def _one(self, part: Part) -> str:
        with self.source.open("rb") as content:
            digest = _md5(content, part)
            etag, size = self.standing.get(part.number, ("", 0))
            if etag.strip('"') == digest.hex() and size == part.size:
                self._tell(part.size)
                return etag
            return self._send(part, content, digest)

    def _send(self, part: Part, content: IO[bytes], digest: bytes) -> str:
        sent = 0

        def tell(count: int) -> None:
            nonlocal sent
            sent += count
            self._tell(count)

        def once() -> str:
            nonlocal sent
            # What a broken try sent is taken back, so that the bar never runs over its end.
            self._tell(-sent)
            sent = 0
            body = Body(content, tell, start=part.start, size=part.size)
            with converted(self.key, absent=NO_UPLOAD):
                answer = self.client.upload_part(
                    Bucket=self.bucket,
                    Key=self.key,
                    UploadId=self.upload,
                    PartNumber=part.number,
                    Body=cast("IO[bytes]", body),
                    ContentLength=part.size,
                    ContentMD5=base64.b64encode(digest).decode(),
                )
            return answer["ETag"]

        return retries.call(once, replace(self.policy, sleep=self._rest), self.reporter)

    def _tell(self, count: int) -> None:
        self._together.tell(self.reporter, "upload", count)

    def _rest(self, seconds: float) -> None:
        """Wait before a part is tried again, in steps that notice the end of the others."""
        left = seconds
        while left > 0:
            self._together.check()
            self.policy.sleep(min(left, _NOTICE_SECONDS))
            left -= _NOTICE_SECONDS


def _md5(content: IO[bytes], part: Part) -> bytes:
    """What S3 names a part's ETag, and what stands in Content-MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    content.seek(part.start)
    left = part.size
    while left and (chunk := content.read(min(left, _CHUNK_BYTES))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.digest()
