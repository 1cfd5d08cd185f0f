"""A large object in parts, resumed part by part after a kill.

R2's rules (developers.cloudflare.com/r2/objects/multipart-objects/): all parts but the last are
equal, 5 MiB at least, 10,000 at most. The condition stands on CompleteMultipartUpload; where it
fails there the upload is gone, so nothing is tried again blindly: whoever gets `KEPT` compares
what stands.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

from release_tool import errors, progress
from release_tool.progress import Reporter
from release_tool.services import retries
from release_tool.services.object_store_calls import (
    KEPT_CODES,
    AbsentError,
    Body,
    KeptError,
    Outcome,
    converted,
    hooked,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CHUNK_BYTES = 1024 * 1024
_NO_UPLOAD = ("NoSuchUpload",)
# An upload that vanishes again and again is being aborted by somebody.
_BEGINNINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """From which size on a file goes in parts, and how large each is.

    Args:
        above_bytes: a file up to this size goes in one request, with its whole SHA-256 beside it.
        part_bytes: of every part but the last: what a kill or a broken connection may cost. The
            2 GiB that a release may have make 128 of them.
    """

    above_bytes: int = 32 * 1024**2
    part_bytes: int = 16 * 1024**2


class Journal(Protocol):
    """Where the upload is written down, so that another process finds it."""

    def find(self) -> Mapping[str, object] | None:
        """The facts of the upload that was begun last, or None."""

    def declare(self, facts: Mapping[str, str | int | list[str]]) -> None:
        """Write down an upload that has begun."""


class Forgetful:
    """A journal that keeps nothing: a kill costs the whole upload."""

    def find(self) -> Mapping[str, object] | None:
        return None

    def declare(self, facts: Mapping[str, str | int | list[str]]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    number: int
    start: int
    size: int
    md5: str
    """In hex: what S3 names a part's ETag, and what stands in Content-MD5."""


class _VanishedError(Exception):
    """The store does not know the upload any more."""


@dataclass(frozen=True, kw_only=True)
class MultipartUpload:
    """One file on its way to one key.

    Args:
        client: of the bucket's store.
        bucket: the bucket.
        key: the object's key.
        source: the file.
        sha256: its digest, which the journal keeps and the object notes.
        part_bytes: the size of every part but the last.
        content_type: of the object.
        cache_control: of the object.
        notes: metadata beside the object.
        journal: where the upload is written down.
        policy: how to retry what fails in passing; each part by itself.
        reporter: gets the bytes as the task `upload`.
        taken: tells whether something stands at the key now.
    """

    client: S3Client
    bucket: str
    key: str
    source: Path
    sha256: str
    part_bytes: int
    content_type: str
    cache_control: str
    notes: Mapping[str, str]
    journal: Journal
    policy: retries.Policy
    reporter: Reporter
    taken: Callable[[], bool]

    def run(self) -> Outcome:
        """Send what the store does not hold yet, and complete if nothing stands at the key.

        Raises:
            CredentialError, RemoteRefusedError, TransientError: the store did not take it.
        """
        parts = _parts_of(self.source, self.part_bytes)
        for _ in range(_BEGINNINGS):
            begun = self._resumed(parts)
            if retries.call(self.taken, self.policy, self.reporter):
                self._abandon(begun)
                return Outcome.KEPT
            upload = begun or self._begin(parts)
            try:
                return self._carry(upload, parts)
            except _VanishedError:
                self.reporter.note(f"upload {upload[:12]} is gone, beginning anew")
                self._forget()
        raise errors.TransientError(
            "the store keeps losing the upload", subject=self.key, hint="run again"
        )

    def _carry(self, upload: str, parts: Sequence[_Part]) -> Outcome:
        standing = self._standing(upload)
        total = sum(part.size for part in parts)
        with progress.task(self.reporter, "upload", total), self.source.open("rb") as content:
            etags = []
            for part in parts:
                etag, size = standing.get(part.number, ("", 0))
                if etag.strip('"') == part.md5 and size == part.size:
                    self.reporter.advance("upload", part.size)
                else:
                    etag = self._send(upload, part, content)
                etags.append(etag)
        return self._complete(upload, etags)

    def _resumed(self, parts: Sequence[_Part]) -> str:
        """The id of an upload of exactly these bytes, or empty."""
        facts = self.journal.find()
        upload = facts.get("upload_id") if facts else None
        if facts is None or not isinstance(upload, str) or not upload:
            return ""
        if {**facts} == self._facts(upload, parts):
            return upload
        if facts.get("key") == self.key:
            self._abandon(upload)
        return ""

    def _begin(self, parts: Sequence[_Part]) -> str:
        def once() -> str:
            with converted(self.key):
                answer = self.client.create_multipart_upload(
                    Bucket=self.bucket,
                    Key=self.key,
                    ContentType=self.content_type,
                    CacheControl=self.cache_control,
                    Metadata=self.notes,
                )
            return answer["UploadId"]

        upload = retries.call(once, self.policy, self.reporter)
        self.journal.declare(self._facts(upload, parts))
        return upload

    def _forget(self) -> None:
        self.journal.declare({"upload_id": "", "key": self.key})

    def _facts(self, upload: str, parts: Sequence[_Part]) -> dict[str, str | int | list[str]]:
        return {
            "upload_id": upload,
            "key": self.key,
            "bucket": self.bucket,
            "sha256": self.sha256,
            "size": sum(part.size for part in parts),
            "part_bytes": self.part_bytes,
            "part_md5": [part.md5 for part in parts],
        }

    def _standing(self, upload: str) -> dict[int, tuple[str, int]]:
        """The parts that the store holds: number to ETag and size.

        A part counts only where its ETag is the MD5 of ours; any other is sent again.
        """

        def once() -> dict[int, tuple[str, int]]:
            with converted(self.key, absent=_NO_UPLOAD):
                answer = self.client.list_parts(Bucket=self.bucket, Key=self.key, UploadId=upload)
            return {
                one["PartNumber"]: (one["ETag"], one["Size"]) for one in answer.get("Parts", [])
            }

        with _noticing():
            return retries.call(once, self.policy, self.reporter)

    def _send(self, upload: str, part: _Part, content: IO[bytes]) -> str:
        sent = 0

        def tell(count: int) -> None:
            nonlocal sent
            sent += count
            self.reporter.advance("upload", count)

        def once() -> str:
            nonlocal sent
            # What a broken try sent is taken back, so that the bar never runs over its end.
            self.reporter.advance("upload", -sent)
            sent = 0
            body = Body(content, tell, start=part.start, size=part.size)
            with (
                converted(self.key, absent=_NO_UPLOAD),
                hooked(self.client, "before-send.s3.UploadPart", body.begin),
            ):
                answer = self.client.upload_part(
                    Bucket=self.bucket,
                    Key=self.key,
                    UploadId=upload,
                    PartNumber=part.number,
                    Body=cast("IO[bytes]", body),
                    ContentLength=part.size,
                    ContentMD5=base64.b64encode(bytes.fromhex(part.md5)).decode(),
                )
            return answer["ETag"]

        with _noticing():
            return retries.call(once, self.policy, self.reporter)

    def _complete(self, upload: str, etags: Sequence[str]) -> Outcome:
        """Make the object, if nothing stands at its key.

        An answer that was lost may have been a success: the key is looked at before each try.
        """

        def once() -> Outcome:
            if self.taken():
                return Outcome.KEPT
            try:
                with converted(self.key, kept=KEPT_CODES, absent=_NO_UPLOAD):
                    self.client.complete_multipart_upload(
                        Bucket=self.bucket,
                        Key=self.key,
                        UploadId=upload,
                        IfNoneMatch="*",
                        MultipartUpload={
                            "Parts": [
                                {"PartNumber": number, "ETag": etag}
                                for number, etag in enumerate(etags, 1)
                            ]
                        },
                    )
            except KeptError:
                return Outcome.KEPT
            return Outcome.WRITTEN

        with _noticing():
            return retries.call(once, self.policy, self.reporter)

    def _abandon(self, upload: str) -> None:
        """Drop the parts of an upload that nobody completes; the store does so in a week."""
        if not upload:
            return
        try:
            with converted(self.key, absent=_NO_UPLOAD):
                self.client.abort_multipart_upload(
                    Bucket=self.bucket, Key=self.key, UploadId=upload
                )
        except AbsentError:
            return
        except errors.ReleaseError as problem:
            self.reporter.note(f"upload {upload[:12]} is left behind: {problem}")


@contextmanager
def _noticing() -> Iterator[None]:
    """Tell an upload that is gone from an object that is not there."""
    try:
        yield
    except AbsentError as problem:
        raise _VanishedError from problem


def _parts_of(source: Path, part_bytes: int) -> list[_Part]:
    return list(_walk(source, part_bytes))


def _walk(source: Path, part_bytes: int) -> Iterator[_Part]:
    with source.open("rb") as content:
        start = 0
        while size := _digested(content, part_bytes, digest := hashlib.md5(usedforsecurity=False)):
            number = start // part_bytes + 1
            yield _Part(number=number, start=start, size=size, md5=digest.hexdigest())
            start += size


def _digested(content: IO[bytes], count: int, digest: hashlib._Hash) -> int:
    """Digest up to so many bytes; returns how many there were."""
    left = count
    while left and (chunk := content.read(min(left, _CHUNK_BYTES))):
        digest.update(chunk)
        left -= len(chunk)
    return count - left
