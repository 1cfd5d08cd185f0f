"""Cloudflare R2 through its S3 interface.

Objects are put with one streamed PutObject: R2 takes up to 4.995 GiB that way, the coordinator no
more than 2 GiB, the condition and the whole SHA-256 stand in one request, and the ETag stays the
MD5 that a server-side copy keeps. A multipart upload would lose each of these.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from release_tool import errors, progress
from release_tool.progress import Reporter
from release_tool.services import addresses, object_store_errors, retries, s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Released bytes never change; aliases move, and installers must see that within a minute.
IMMUTABLE = "public, max-age=31536000, immutable"
MOVING = "public, max-age=60, must-revalidate"
_CONTENT_TYPE = "application/gzip"
_SINGLE_PUT_BYTES = int(4.995 * 1024**3)
_CHUNK_BYTES = 1024 * 1024
# Codes that say: something stands there, and the condition kept it.
_KEPT = ("PreconditionFailed", "ObjectLockedByBucketPolicy")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object as the store describes it."""

    key: str
    size: int
    etag: str
    modified: datetime
    sha256: str
    """What its writer noted, or empty; not a proof, see `ObjectStore.digest`."""
    version: str
    """The release that its writer noted, or empty."""


class Outcome(enum.Enum):
    """What a conditional write did."""

    WRITTEN = "written"
    KEPT = "kept"
    """The condition did not hold; nothing was changed."""


class ObjectStore:
    """One bucket.

    Args:
        endpoint: the S3 endpoint.
        bucket: the bucket's name.
        access_key_id: returns the key id, when the client is made and not before.
        secret_access_key: returns the secret, likewise.
        policy: how to retry what fails in passing.

    Raises:
        UsageError: the endpoint is not https, nor http on loopback.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        bucket: str,
        access_key_id: Callable[[], str],
        secret_access_key: Callable[[], str],
        policy: retries.Policy = retries.DEFAULT,
    ) -> None:
        self.endpoint = addresses.base(endpoint, name="R2_ENDPOINT")
        self.bucket = bucket
        self._access_key_id = access_key_id
        self._secret_access_key = secret_access_key
        self._policy = policy
        self._made: S3Client | None = None

    def __repr__(self) -> str:
        return f"ObjectStore({self.endpoint!r}, {self.bucket!r})"

    def check(self) -> None:
        """Ask whether the bucket is there and the credentials may read it.

        Raises:
            CredentialError, RemoteRefusedError, TransientError: it cannot be used.
        """
        with _converted(self.bucket):
            self._client.head_bucket(Bucket=self.bucket)

    def head(self, key: str) -> StoredObject | None:
        """Describe an object; None where none stands.

        Raises:
            CredentialError, RemoteRefusedError, TransientError: the store did not tell.
        """
        return retries.call(lambda: self._head(key), self._policy)

    def create(
        self, key: str, source: Path, *, sha256: str, version: str, reporter: Reporter
    ) -> Outcome:
        """Put a file at a key if and only if nothing stands there.

        A retry whose first try did arrive finds its own bytes and answers `KEPT`: whoever gets
        that compares what stands there.

        Args:
            key: the object's key.
            source: the file.
            sha256: its digest; the store refuses other bytes.
            version: noted beside the object.
            reporter: gets the bytes as the task `upload`.

        Raises:
            UsageError: the file is larger than one request may carry.
            CredentialError, RemoteRefusedError, TransientError: the store did not take it.
        """
        size = source.stat().st_size
        if size > _SINGLE_PUT_BYTES:
            raise errors.UsageError(
                "this is larger than one upload may be",
                subject=str(source),
                expected=f"at most {_SINGLE_PUT_BYTES} bytes",
                observed=f"{size} bytes",
            )

        def once() -> Outcome:
            # Asked on each try: a refusal in the middle of a body often shows as a broken pipe.
            if self._head(key) is not None:
                return Outcome.KEPT
            with progress.task(reporter, "upload", size), source.open("rb") as content:
                body = _Body(content, lambda count: reporter.advance("upload", count))
                return self._put(key, body, size, sha256, version)

        return retries.call(once, self._policy, reporter)

    def copy(
        self,
        source: StoredObject,
        destination: str,
        *,
        over: StoredObject | None,
        sha256: str,
        version: str,
    ) -> Outcome:
        """Copy an object inside the bucket if and only if the destination is what it was.

        R2 judges the destination by headers of its own only (`cf-copy-destination-*`); S3's
        `If-Match` on a copy is ignored there.

        Args:
            source: what to copy, in exactly this state.
            destination: the key to write.
            over: what stood there; None when nothing did.
            sha256: noted beside the object.
            version: noted beside the object.

        Raises:
            CredentialError, RemoteRefusedError, TransientError: the store did not copy.
        """
        condition = (
            {"cf-copy-destination-if-match": over.etag}
            if over
            else {"cf-copy-destination-if-none-match": "*"}
        )
        return retries.call(
            lambda: self._copy(source, destination, condition, sha256, version), self._policy
        )

    def digest(self, stored: StoredObject, *, reporter: Reporter) -> str:
        """SHA-256 of the bytes that the store holds, read through and not taken on trust.

        Raises:
            TransientError: the object changed while it was read, or the connection broke.
            CredentialError, RemoteRefusedError: the store did not hand it out.
        """
        return retries.call(lambda: self._digest(stored, reporter), self._policy, reporter)

    def _head(self, key: str) -> StoredObject | None:
        try:
            with _converted(key, absent=("404", "NoSuchKey", "NotFound")):
                answer = self._client.head_object(Bucket=self.bucket, Key=key)
        except _AbsentError:
            return None
        notes = answer.get("Metadata", {})
        return StoredObject(
            key=key,
            size=answer["ContentLength"],
            etag=answer["ETag"],
            modified=answer["LastModified"],
            sha256=notes.get("sha256", ""),
            version=notes.get("version", ""),
        )

    def _put(self, key: str, body: _Body, size: int, sha256: str, version: str) -> Outcome:
        try:
            with (
                _converted(key, kept=_KEPT),
                self._hooked("before-send.s3.PutObject", body.begin),
            ):
                self._client.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=cast("IO[bytes]", body),
                    ContentLength=size,
                    ContentType=_CONTENT_TYPE,
                    CacheControl=IMMUTABLE,
                    ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
                    IfNoneMatch="*",
                    Metadata={"sha256": sha256, "version": version},
                )
        except _KeptError:
            return Outcome.KEPT
        return Outcome.WRITTEN

    def _copy(
        self,
        source: StoredObject,
        destination: str,
        condition: Mapping[str, str],
        sha256: str,
        version: str,
    ) -> Outcome:
        def add(request: Any, **_: object) -> None:  # noqa: ANN401
            for name, value in condition.items():
                request.headers[name] = value

        try:
            with (
                _converted(destination, kept=("PreconditionFailed",)),
                self._hooked("before-sign.s3.CopyObject", add),
            ):
                self._client.copy_object(
                    Bucket=self.bucket,
                    Key=destination,
                    CopySource={"Bucket": self.bucket, "Key": source.key},
                    CopySourceIfMatch=source.etag,
                    MetadataDirective="REPLACE",
                    ContentType=_CONTENT_TYPE,
                    CacheControl=MOVING,
                    Metadata={"sha256": sha256, "version": version},
                )
        except _KeptError:
            return Outcome.KEPT
        return Outcome.WRITTEN

    def _digest(self, stored: StoredObject, reporter: Reporter) -> str:
        digest = hashlib.sha256()
        try:
            with (
                _converted(stored.key, kept=("PreconditionFailed",)),
                progress.task(reporter, "read back", stored.size),
            ):
                answer = self._client.get_object(
                    Bucket=self.bucket, Key=stored.key, IfMatch=stored.etag
                )
                with closing(answer["Body"]) as body:
                    while chunk := body.read(_CHUNK_BYTES):
                        digest.update(chunk)
                        reporter.advance("read back", len(chunk))
        except _KeptError as problem:
            raise errors.TransientError(
                "the object changed while it was read", subject=stored.key, hint="run again"
            ) from problem
        return digest.hexdigest()

    @contextmanager
    def _hooked(self, event: str, hook: Callable[..., None]) -> Iterator[None]:
        events = self._client.meta.events
        events.register(event, hook)
        try:
            yield
        finally:
            events.unregister(event, hook)

    @property
    def _client(self) -> S3Client:
        if self._made is None:
            self._made = self._connect()
        return self._made

    def _connect(self) -> S3Client:
        with _converted(self.endpoint):
            return s3_client.connect(
                endpoint=self.endpoint,
                region="auto",
                access_key_id=self._access_key_id(),
                secret_access_key=self._secret_access_key(),
            )


class _Body:
    """A file that tells how much of it was sent.

    botocore reads it once to sign and once to send; only the second counts.
    """

    def __init__(self, content: IO[bytes], tell: Callable[[int], None]) -> None:
        self._content = content
        self._tell = tell
        self._sending = False

    def begin(self, **_: object) -> None:
        self._sending = True

    def read(self, count: int = -1) -> bytes:
        chunk = self._content.read(count)
        if self._sending and chunk:
            self._tell(len(chunk))
        return chunk

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()


class _AbsentError(Exception):
    """The store has no such object."""


class _KeptError(Exception):
    """The condition of a write or a read did not hold."""


@contextmanager
def _converted(
    subject: str, *, kept: tuple[str, ...] = (), absent: tuple[str, ...] = ()
) -> Iterator[None]:
    """Turn what botocore raises into errors of ours, and the awaited refusals into outcomes."""
    import botocore.exceptions

    try:
        yield
    except botocore.exceptions.ClientError as problem:
        code, status = object_store_errors.code_and_status(problem.response)
        if code in absent:
            raise _AbsentError from problem
        if code in kept or (kept and status == 412):
            raise _KeptError from problem
        raise object_store_errors.from_answer(problem.response, subject) from problem
    except botocore.exceptions.BotoCoreError as problem:
        raise object_store_errors.from_botocore(problem, subject) from problem
