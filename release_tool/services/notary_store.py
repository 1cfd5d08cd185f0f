"""Sending an archive to the notary's S3, whole or in parts that a later process continues.

What fails here is the upload and not the notary: the submission stands, and its credentials are
good for twelve hours.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from release_tool import errors, progress
from release_tool.files import atomic
from release_tool.progress import Reporter
from release_tool.services import (
    clocks,
    deadlines,
    object_store_errors,
    patience,
    retries,
    s3_client,
)
from release_tool.services.notary_uploads import Begun, Target, Uploads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

# Not documented by Apple; every client of the interface signs for it.
REGION = "us-west-2"
MULTIPART_BYTES = 64 * 1024 * 1024
"""Beyond this an upload goes in parts, so that a broken line costs one of them."""
PART_BYTES = 16 * 1024 * 1024
_MOST_PARTS = 9_000
"""S3 takes 10,000."""
_TASK = "upload"
_OVER = ("ExpiredToken", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId")
_SKEWED = "RequestTimeTooSkewed"
_GONE = "NoSuchUpload"
_PASSING_CODES = ("BadDigest", "RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable")
_SERVER_FAULT = 500


class ExpiredError(errors.TransientError):
    """The credentials of this submission serve no more: only a new one can be uploaded."""


class _OverError(Exception):
    """The credentials have ended, which no second try mends."""


class _GoneError(Exception):
    """The store knows nothing of the multipart upload any more."""


@dataclass(kw_only=True)
class Sender:
    """Sends one archive."""

    endpoint: str
    """Empty for AWS itself."""
    uploads: Uploads
    policy: retries.Policy = retries.DEFAULT
    multipart_bytes: int = MULTIPART_BYTES
    part_bytes: int = PART_BYTES

    def send(self, archive: Path, begun: Begun, target: Target, reporter: Reporter) -> Begun:
        """Send what has not arrived yet, and note that all of it has.

        Raises:
            ExpiredError: the credentials serve no more.
            TransientError: no answer, after all tries; what has arrived stays noted.
            RemoteRefusedError, HostError: the store refused.
        """
        try:
            return self._send(archive, begun, target, reporter)
        except _OverError as problem:
            raise ExpiredError(
                "the credentials of this upload have ended",
                observed=str(problem),
                hint="run again: a new submission is made",
            ) from None

    def _send(self, archive: Path, begun: Begun, target: Target, reporter: Reporter) -> Begun:
        size = archive.stat().st_size
        with _converted(target):
            client = s3_client.connect(
                endpoint=self.endpoint,
                region=REGION,
                access_key_id=target.access_key_id,
                secret_access_key=target.secret_access_key,
                session_token=target.session_token,
            )
        with progress.task(reporter, _TASK, size):
            if size <= self.multipart_bytes:
                self._whole(client, archive, target, reporter)
                reporter.advance(_TASK, size)
            else:
                self._in_parts(client, archive, size, begun, target, reporter)
        return self.uploads.arrive(begun)

    def _call(self, action: Callable[[], None], target: Target, reporter: Reporter) -> None:
        def once() -> None:
            with _converted(target):
                action()

        retries.call(once, self.policy, reporter)

    def _whole(self, client: S3Client, archive: Path, target: Target, reporter: Reporter) -> None:
        def put() -> None:
            # Inside the file's own errors: a timeout of botocore is an OSError, too.
            with (
                atomic.naming(archive, "read"),
                archive.open("rb") as body,
                _converted(target),
            ):
                client.put_object(Bucket=target.bucket, Key=target.key, Body=body)

        self._call(put, target, reporter)

    def _in_parts(
        self,
        client: S3Client,
        archive: Path,
        size: int,
        begun: Begun,
        target: Target,
        reporter: Reporter,
    ) -> None:
        try:
            self._parts(client, archive, size, begun, target, reporter)
        except _GoneError:
            # Aborted, or completed by an answer that was lost. The key takes the bytes again.
            reporter.note("the store has forgotten the parts that had arrived: sending all again")
            anew = replace(begun, upload_id="", part_bytes=0, parts={})
            try:
                self._parts(client, archive, size, anew, target, reporter)
            except _GoneError as problem:
                raise errors.TransientError(
                    "the notary's store forgets what it was sent", hint="run again"
                ) from problem

    def _parts(
        self,
        client: S3Client,
        archive: Path,
        size: int,
        begun: Begun,
        target: Target,
        reporter: Reporter,
    ) -> None:
        state = begun if begun.upload_id else self._open(client, size, begun, target, reporter)
        if state.parts:
            reporter.note(f"{len(state.parts)} parts have arrived before, going on behind them")
        done = dict(state.parts)
        for number, offset, count in _plan(size, state.part_bytes):
            if number not in done:
                done[number] = self._part(
                    client,
                    _Piece(archive, offset, count),
                    number,
                    state.upload_id,
                    target,
                    reporter,
                )
                self.uploads.keep(replace(state, parts=done))
            reporter.advance(_TASK, count)
        finished: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": done[number]} for number in sorted(done)
        ]

        def complete() -> None:
            client.complete_multipart_upload(
                Bucket=target.bucket,
                Key=target.key,
                UploadId=state.upload_id,
                MultipartUpload={"Parts": finished},
            )

        self._call(complete, target, reporter)

    def _open(
        self, client: S3Client, size: int, begun: Begun, target: Target, reporter: Reporter
    ) -> Begun:
        opened: list[str] = []

        def create() -> None:
            answer = client.create_multipart_upload(Bucket=target.bucket, Key=target.key)
            opened.append(answer["UploadId"])

        self._call(create, target, reporter)
        part_bytes = max(self.part_bytes, -(-size // _MOST_PARTS))
        state = replace(begun, upload_id=opened[-1], part_bytes=part_bytes, parts={})
        self.uploads.keep(state)
        return state

    def _part(
        self,
        client: S3Client,
        piece: _Piece,
        number: int,
        upload_id: str,
        target: Target,
        reporter: Reporter,
    ) -> str:
        sent: list[str] = []

        def put() -> None:
            answer = client.upload_part(
                Bucket=target.bucket,
                Key=target.key,
                UploadId=upload_id,
                PartNumber=number,
                Body=io.BytesIO(piece.read()),
            )
            sent.append(answer["ETag"])

        self._call(put, target, reporter)
        return sent[-1]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a file; no more of it is held at a time."""

    path: Path
    offset: int
    count: int

    def read(self) -> bytes:
        with atomic.naming(self.path, "read"), self.path.open("rb") as source:
            source.seek(self.offset)
            found = source.read(self.count)
        if len(found) != self.count:
            raise errors.VerificationError(
                "the archive changed while it was sent", subject=str(self.path), hint="run again"
            )
        return found


def _plan(size: int, part_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Number, offset and length of each part."""
    for number, offset in enumerate(range(0, size, part_bytes), 1):
        yield number, offset, min(part_bytes, size - offset)


@contextmanager
def _converted(target: Target) -> Iterator[None]:
    """Turn what botocore raises into errors of ours, without a credential in any text."""
    import botocore.exceptions
    import botocore.parsers
    import urllib3

    try:
        with deadlines.within(patience.answer(s3_client.ANSWER_SECONDS)):
            yield
    except botocore.exceptions.ClientError as problem:
        code, status = object_store_errors.code_and_status(problem.response)
        if code == _GONE:
            raise _GoneError from None
        said = str(problem.response.get("Error", {}).get("Message", ""))
        observed = _without(f"{status} {code}: {said}", target)
        if code in _OVER:
            raise _OverError(observed) from None
        ahead = object_store_errors.ahead(problem.response)
        raise _refusal(code, status, observed, ahead) from None
    except botocore.exceptions.BotoCoreError as problem:
        kind = object_store_errors.kind_of(type(problem)) or errors.RemoteRefusedError
        observed = _without(f"{type(problem).__name__}: {problem}", target)
        raise kind(
            "the archive could not be sent to the notary's store",
            observed=observed,
            hint="the submission stands: run again within 12 hours to go on",
        ) from None
    except (botocore.parsers.ResponseParserError, urllib3.exceptions.HTTPError):
        raise errors.TransientError(
            "the answer of the notary's store cannot be read",
            hint="the submission stands: run again within 12 hours to go on",
        ) from None


def _refusal(code: str, status: int, observed: str, ahead: float) -> errors.ReleaseError:
    if code == _SKEWED:
        return clocks.refused(
            ahead,
            "the notary's store's",
            why="signatures tell time",
            subject="",
            observed=observed,
        )
    if code in _PASSING_CODES or status == 429 or status >= _SERVER_FAULT:
        return errors.TransientError(
            "the notary's store could not take the archive",
            observed=observed,
            hint="the submission stands: run again within 12 hours to go on",
        )
    return errors.RemoteRefusedError(
        "the notary's store refused the archive",
        observed=observed,
        hint="this is the upload, not the notary's verdict; look at what stands before this host",
    )


def _without(text: str, target: Target) -> str:
    for secret in (target.session_token, target.secret_access_key, target.access_key_id):
        if secret:
            text = text.replace(secret, "...")
    return "".join(mark if mark.isprintable() else " " for mark in text)[:400]
