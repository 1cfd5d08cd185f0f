"""Cloudflare R2 through its S3 interface.

A file is put with one streamed PutObject, where the condition and the whole SHA-256 stand in one
request, or from a size on in parts (`multipart_upload`), where a kill costs no more than a part.
An ETag is therefore a name of a state and never a digest.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypedDict, cast

from release_tool import errors, progress
from release_tool.progress import Reporter
from release_tool.services import addresses, retries, s3_client
from release_tool.services.multipart_upload import Forgetful, Journal, MultipartUpload, Parts
from release_tool.services.object_store_calls import (
    KEPT_CODES,
    AbsentError,
    Body,
    KeptError,
    Outcome,
    begin_body,
    converted,
    hooked,
)

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef

# Released bytes never change; aliases move, and installers must see that within a minute.
IMMUTABLE = "public, max-age=31536000, immutable"
MOVING = "public, max-age=60, must-revalidate"
_CONTENT_TYPE = "application/gzip"
_SINGLE_PUT_BYTES = int(4.995 * 1024**3)
_CHUNK_BYTES = 1024 * 1024
# A download of 2 GiB at 2 MB/s.
_READ_SECONDS = 1000.0
_ABSENT = ("404", "NoSuchKey", "NotFound")
# Of the copy that this thread asks for. A hook for each call would be shared by all threads of a
# client, and botocore may miss one that is hung up while another call looks its hooks up.
_DESTINATION: ContextVar[Mapping[str, str]] = ContextVar("destination")


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


class _Condition(TypedDict, total=False):
    IfMatch: str
    IfNoneMatch: str


_NO_BUCKET = ("404", "NoSuchBucket")
_NO_UPLOAD = "NoSuchUpload"
_NEVER_BEGUN = "release-tool-asks-whether-it-may-write"


class ObjectStore:
    """One bucket.

    Args:
        endpoint: the S3 endpoint.
        bucket: the bucket's name.
        access_key_id: returns the key id, when the client is made and not before.
        secret_access_key: returns the secret, likewise.
        policy: how to retry what fails in passing.
        parts: from which size on a file goes in parts.

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
        parts: Parts = Parts(),  # noqa: B008 - frozen
    ) -> None:
        self.endpoint = addresses.base(endpoint, name="R2_ENDPOINT")
        self.bucket = bucket
        self._access_key_id = access_key_id
        self._secret_access_key = secret_access_key
        self._policy = policy
        self._parts = parts
        self._made: S3Client | None = None

    def __repr__(self) -> str:
        return f"ObjectStore({self.endpoint!r}, {self.bucket!r})"

    def check(self) -> None:
        """Ask whether the bucket is there and the credentials may read it.

        Raises:
            CredentialError, RemoteRefusedError, TransientError: it cannot be used.
        """
        try:
            # The answer has no body, so nothing but its status says what is missing.
            with converted(self.bucket, absent=_NO_BUCKET):
                self._client.head_bucket(Bucket=self.bucket)
        except AbsentError:
            raise errors.RemoteRefusedError(
                "there is no such bucket",
                subject=self.bucket,
                hint="check R2_BUCKET and R2_ENDPOINT",
            ) from None

    def check_write(self, key: str) -> None:
        """Ask whether the credentials may write, by a part of an upload that was never begun.

        It needs the right that every upload needs, and no store can make an object of it, not even
        one that ignores conditions: a part lies in an upload, and there is none of this name.

        Raises:
            CredentialError: they may only read.
            RemoteRefusedError, TransientError: the store did not judge it.
        """
        try:
            with converted(key, absent=(_NO_UPLOAD,)):
                self._client.upload_part(
                    Bucket=self.bucket, Key=key, PartNumber=1, UploadId=_NEVER_BEGUN, Body=b""
                )
        except AbsentError:
            return
        raise errors.RemoteRefusedError(
            "the store took a part of an upload that was never begun",
            subject=key,
            hint="this is no object store that a release can trust",
        )

    def head(self, key: str) -> StoredObject | None:
        """Describe an object; None where none stands.

        Raises:
            CredentialError, RemoteRefusedError, TransientError: the store did not tell.
        """
        return retries.call(lambda: self._head(key), self._policy)

    def create(
        self,
        key: str,
        source: Path,
        *,
        sha256: str,
        version: str,
        reporter: Reporter,
        journal: Journal | None = None,
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
            journal: where an upload in parts is written down and found again.

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
        if size > self._parts.above_bytes:
            return self._in_parts(key, source, sha256, version, reporter, journal or Forgetful())

        def once() -> Outcome:
            # Asked on each try: a refusal in the middle of a body often shows as a broken pipe.
            if self._head(key) is not None:
                return Outcome.KEPT
            with progress.task(reporter, "upload", size), source.open("rb") as content:
                body = Body(
                    content, lambda count: reporter.advance("upload", count), start=0, size=size
                )
                return self._put(key, body, size, sha256, version)

        return retries.call(once, self._policy, reporter)

    def _in_parts(
        self,
        key: str,
        source: Path,
        sha256: str,
        version: str,
        reporter: Reporter,
        journal: Journal,
    ) -> Outcome:
        upload = MultipartUpload(
            client=self._client,
            bucket=self.bucket,
            key=key,
            source=source,
            sha256=sha256,
            layout=self._parts,
            content_type=_CONTENT_TYPE,
            cache_control=IMMUTABLE,
            notes={"sha256": sha256, "version": version},
            journal=journal,
            policy=self._policy,
            reporter=reporter,
            taken=lambda: self._head(key) is not None,
        )
        return upload.run()

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

    def read(self, key: str, *, limit_bytes: int) -> tuple[StoredObject, bytes] | None:
        """A small object with the state in which it was read; None where none stands.

        Raises:
            RemoteRefusedError: it is larger than `limit_bytes`, or the store refused.
            CredentialError, TransientError: the store did not tell.
        """
        return retries.call(lambda: self._read(key, limit_bytes), self._policy)

    def replace(
        self,
        key: str,
        content: bytes,
        *,
        over: StoredObject | None,
        content_type: str,
        version: str,
    ) -> Outcome:
        """Write a small moving object if and only if the key is as it was read.

        A retry whose first try did arrive answers `KEPT`: whoever gets that reads again.

        Args:
            key: the key to write.
            content: what to write.
            over: what was read there; None when nothing was.
            content_type: of the object.
            version: noted beside the object.

        Raises:
            CredentialError, RemoteRefusedError, TransientError: the store did not take it.
        """
        return retries.call(
            lambda: self._replace(key, content, over, content_type, version), self._policy
        )

    def digest(self, stored: StoredObject, *, reporter: Reporter) -> str:
        """SHA-256 of the bytes that the store holds, read through and not taken on trust.

        Raises:
            TransientError: the object changed while it was read, or the connection broke.
            CredentialError, RemoteRefusedError: the store did not hand it out.
        """
        try:
            return retries.call(lambda: self._digest(stored, reporter), self._policy, reporter)
        except KeptError as problem:
            raise errors.TransientError(
                "the object changed while it was read", subject=stored.key, hint="run again"
            ) from problem

    def _head(self, key: str) -> StoredObject | None:
        try:
            with converted(key, absent=_ABSENT):
                answer = self._client.head_object(Bucket=self.bucket, Key=key)
        except AbsentError:
            return None
        return _described(key, answer)

    def _read(self, key: str, limit_bytes: int) -> tuple[StoredObject, bytes] | None:
        try:
            with converted(key, absent=_ABSENT):
                answer = self._client.get_object(Bucket=self.bucket, Key=key)
                with closing(answer["Body"]) as body:
                    content = _whole(body, limit_bytes)
        except AbsentError:
            return None
        if len(content) > limit_bytes:
            raise errors.RemoteRefusedError(
                "is larger than this object ever is",
                subject=key,
                expected=f"at most {limit_bytes} bytes",
                observed=f"{answer['ContentLength']} bytes",
                hint="somebody else writes to this key; look at what stands there",
            )
        return _described(key, answer), content

    def _replace(
        self,
        key: str,
        content: bytes,
        over: StoredObject | None,
        content_type: str,
        version: str,
    ) -> Outcome:
        digest = hashlib.sha256(content)
        condition: _Condition = {"IfMatch": over.etag} if over else {"IfNoneMatch": "*"}
        try:
            # S3 answers 404 where R2 answers 412: what was read is gone.
            with converted(key, kept=(*KEPT_CODES, *_ABSENT)):
                self._client.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=content,
                    ContentType=content_type,
                    CacheControl=MOVING,
                    ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
                    Metadata={"sha256": digest.hexdigest(), "version": version},
                    **condition,
                )
        except KeptError:
            return Outcome.KEPT
        return Outcome.WRITTEN

    def _put(self, key: str, body: Body, size: int, sha256: str, version: str) -> Outcome:
        try:
            with (
                converted(key, kept=KEPT_CODES),
                hooked(self._client, "before-send.s3.PutObject", begin_body),
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
        except KeptError:
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
        try:
            with converted(destination, kept=("PreconditionFailed",)), _judged_by(condition):
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
        except KeptError:
            return Outcome.KEPT
        return Outcome.WRITTEN

    def _digest(self, stored: StoredObject, reporter: Reporter) -> str:
        digest = hashlib.sha256()
        with (
            converted(stored.key, kept=("PreconditionFailed",), seconds=_READ_SECONDS),
            progress.task(reporter, "read back", stored.size),
        ):
            answer = self._client.get_object(
                Bucket=self.bucket, Key=stored.key, IfMatch=stored.etag
            )
            with closing(answer["Body"]) as body:
                while chunk := body.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    reporter.advance("read back", len(chunk))
        return digest.hexdigest()

    @property
    def _client(self) -> S3Client:
        if self._made is None:
            self._made = self._connect()
        return self._made

    def _connect(self) -> S3Client:
        with converted(self.endpoint):
            client = s3_client.connect(
                endpoint=self.endpoint,
                region="auto",
                access_key_id=self._access_key_id(),
                secret_access_key=self._secret_access_key(),
            )
        client.meta.events.register("before-sign.s3.CopyObject", _add_condition)
        return client


@contextmanager
def _judged_by(condition: Mapping[str, str]) -> Iterator[None]:
    """Let the copy that this thread asks for carry a condition on its destination."""
    before = _DESTINATION.set(condition)
    try:
        yield
    finally:
        _DESTINATION.reset(before)


def _add_condition(request: Any, **_: object) -> None:  # noqa: ANN401 - botocore's own
    """Every copy has a condition; one without is a mistake that must not be sent."""
    for name, value in _DESTINATION.get().items():
        request.headers[name] = value


def _whole(body: StreamingBody, limit_bytes: int) -> bytes:
    """All bytes of a small object, or one more than it may have.

    Read on to the end: only there does botocore notice that a body broke off.
    """
    content = b""
    while len(content) <= limit_bytes and (chunk := body.read(limit_bytes + 1 - len(content))):
        content += chunk
    return content


def _described(key: str, answer: HeadObjectOutputTypeDef | GetObjectOutputTypeDef) -> StoredObject:
    notes = answer.get("Metadata", {})
    try:
        return StoredObject(
            key=key,
            size=answer["ContentLength"],
            etag=answer["ETag"],
            modified=answer["LastModified"],
            sha256=notes.get("sha256", ""),
            version=notes.get("version", ""),
        )
    except KeyError as problem:
        raise errors.RemoteRefusedError(
            "what answers for the object store describes no object",
            subject=key,
            expected="an ETag, a length and a time",
            observed=f"no {problem.args[0]}",
            hint="check R2_ENDPOINT, and look at what stands before the store",
        ) from None
