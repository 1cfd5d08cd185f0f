"""A large object in parts, resumed part by part after a kill.

R2's rules (developers.cloudflare.com/r2/objects/multipart-objects/): all parts but the last are
equal, 5 MiB at least, 10,000 at most. The condition stands on CompleteMultipartUpload; where it
fails there the upload is gone, so nothing is tried again blindly: whoever gets `KEPT` compares
what stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from release_tool import errors, progress
from release_tool.progress import Reporter
from release_tool.services import retries
from release_tool.services.object_store_calls import (
    KEPT_CODES,
    AbsentError,
    KeptError,
    Outcome,
    converted,
)
from release_tool.services.part_sending import NO_UPLOAD, Part, Sending, parts_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# An upload that vanishes again and again is being aborted by somebody.
_BEGINNINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """From which size on a file goes in parts, and how large each is.

    Args:
        above_bytes: a file up to this size goes in one request, with its whole SHA-256 beside it.
        part_bytes: of every part but the last: what a broken connection may cost. The 2 GiB that
            a release may have make 128 of them.
        at_once: how many are sent at the same time, each over a connection of its own; a kill
            costs no more than these.
    """

    above_bytes: int = 32 * 1024**2
    part_bytes: int = 16 * 1024**2
    at_once: int = 4


class Journal(Protocol):
    """Where the upload is written down, so that another process finds it."""

    def find(self) -> Mapping[str, object] | None:
        """The facts of the upload that was begun last, or None."""

    def declare(self, facts: Mapping[str, str | int]) -> None:
        """Write down an upload that has begun."""


class Forgetful:
    """A journal that keeps nothing: a kill costs the whole upload."""

    def find(self) -> Mapping[str, object] | None:
        return None

    def declare(self, facts: Mapping[str, str | int]) -> None: ...


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
        layout: the size of every part but the last, and how many are sent at once.
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
    layout: Parts
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
        parts = parts_of(self.source.stat().st_size, self.layout.part_bytes)
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

    def _carry(self, upload: str, parts: Sequence[Part]) -> Outcome:
        standing = self._standing(upload)
        sending = Sending(
            client=self.client,
            bucket=self.bucket,
            key=self.key,
            upload=upload,
            source=self.source,
            standing=standing,
            policy=self.policy,
            reporter=self.reporter,
        )
        with (
            progress.task(self.reporter, "upload", sum(part.size for part in parts)),
            _noticing(),
        ):
            etags = sending.run(parts, at_once=self.layout.at_once)
        outcome = self._complete(upload, etags)
        if outcome is Outcome.KEPT:
            # R2 has dropped it by now, S3 would keep its parts.
            self._abandon(upload)
        return outcome

    def _resumed(self, parts: Sequence[Part]) -> str:
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

    def _begin(self, parts: Sequence[Part]) -> str:
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

    def _facts(self, upload: str, parts: Sequence[Part]) -> dict[str, str | int]:
        return {
            "upload_id": upload,
            "key": self.key,
            "bucket": self.bucket,
            "sha256": self.sha256,
            "size": sum(part.size for part in parts),
            "part_bytes": self.layout.part_bytes,
        }

    def _standing(self, upload: str) -> dict[int, tuple[str, int]]:
        """The parts that the store holds: number to ETag and size.

        A part counts only where its ETag is the MD5 of ours; any other is sent again.
        """

        def once() -> dict[int, tuple[str, int]]:
            with converted(self.key, absent=NO_UPLOAD):
                answer = self.client.list_parts(Bucket=self.bucket, Key=self.key, UploadId=upload)
            return {
                one["PartNumber"]: (one["ETag"], one["Size"]) for one in answer.get("Parts", [])
            }

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
                with converted(self.key, kept=KEPT_CODES, absent=NO_UPLOAD):
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
            with converted(self.key, absent=NO_UPLOAD):
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
