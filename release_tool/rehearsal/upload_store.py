"""The S3 of the look-alike notary: one object for each submission, for its credentials alone.

Unlike `object_store` it stands for AWS itself: temporary credentials with a session token,
`aws-chunked` bodies, `100 Continue`, parts of any sizes above 5 MiB. It can only be written to.
"""

from __future__ import annotations

import hashlib
import hmac
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import (
    faults,
    multipart,
    s3_body,
    s3_chunks,
    s3_errors,
    servers,
    signature_v4,
)
from release_tool.rehearsal.notary_store import BEARER_LEAK, NotaryStore, Part, Submission

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REGION = "us-west-2"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_CHUNK_BYTES = 1024 * 1024
# A completion of 10,000 parts with their checksums has some two megabytes.
_WISH_BYTES = 8 * 1024 * 1024
# As many as S3 lists in one answer.
_LISTED_PARTS = 1000
_CUT_AFTER_BYTES = 1000


class UploadStore:
    """The WSGI application.

    Args:
        store: the notary's submissions.
        uploaded: called with the id of a submission whose upload is whole.
        broken: faults on demand.
        clock: the time by which credentials expire.
    """

    def __init__(
        self,
        store: NotaryStore,
        *,
        uploaded: Callable[[str], None],
        broken: faults.Faults,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._uploaded = uploaded
        self._broken = broken
        self._clock = clock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            answer = self._answer(request)
        except s3_errors.S3Error as refusal:
            answer = refusal.response(with_body=request.method != "HEAD")
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Response:
        submission = self._authorize(request.environ)
        bucket, _, key = request.path.removeprefix("/").partition("/")
        if (bucket, key) != (submission.bucket, submission.object_key):
            raise s3_errors.access_denied()
        if self._is_cut(request):
            request.stream.read(_CUT_AFTER_BYTES)
            servers.drop_connection(request.environ)
            return Response("")
        if self._broken.take(faults.UPLOAD_UNAVAILABLE):
            raise s3_errors.S3Error(503, "SlowDown", "Please reduce your request rate.")
        answer = self._dispatch(request, submission)
        if self._broken.take(faults.UPLOAD_DROP_AFTER_WRITE):
            servers.drop_connection(request.environ)
        return answer

    def _is_cut(self, request: Request) -> bool:
        later = request.args.get("partNumber", "1") != "1"
        return (later and self._broken.take(faults.UPLOAD_CUT_LATER_PART)) or self._broken.take(
            faults.UPLOAD_CUT
        )

    def _authorize(self, environ: WSGIEnvironment) -> Submission:
        """Whose upload this is: credentials, token, time and signature."""
        name = signature_v4.access_key_id(environ)
        if environ.get("HTTP_AUTHORIZATION", "").startswith("Bearer"):
            self._store.note(BEARER_LEAK, environ["PATH_INFO"])
        if not name:
            raise s3_errors.access_denied()
        submission = self._store.of_access_key(name)
        if submission is None:
            raise s3_errors.S3Error(
                403, "InvalidAccessKeyId", "The access key ID does not exist in our records."
            )
        token: str = environ.get("HTTP_X_AMZ_SECURITY_TOKEN", "")
        if not hmac.compare_digest(token.encode(), submission.session_token.encode()):
            raise s3_errors.S3Error(
                400, "InvalidToken", "The provided token is malformed or otherwise invalid."
            )
        if self._clock() >= submission.expires_at or self._broken.take(faults.UPLOAD_EXPIRED):
            raise s3_errors.S3Error(400, "ExpiredToken", "The provided token has expired.")
        credentials = signature_v4.Credentials(
            access_key_id=name, secret_access_key=submission.secret_access_key
        )
        signature_v4.verify(environ, credentials, regions=(REGION,))
        return submission

    def _dispatch(self, request: Request, submission: Submission) -> Response:
        asked = frozenset(request.args) - {"x-id", "max-parts", "part-number-marker"}
        handlers: dict[tuple[str, frozenset[str]], Callable[[Request, Submission], Response]] = {
            ("PUT", frozenset()): self._put,
            ("PUT", frozenset({"partNumber", "uploadId"})): self._upload_part,
            ("POST", frozenset({"uploads"})): self._create,
            ("POST", frozenset({"uploadId"})): self._complete,
            ("GET", frozenset({"uploadId"})): self._list_parts,
            ("DELETE", frozenset({"uploadId"})): self._abort,
        }
        handler = handlers.get((request.method, asked))
        if handler is None:
            raise s3_errors.access_denied()
        return handler(request, submission)

    def _put(self, request: Request, submission: Submission) -> Response:
        if "x-amz-copy-source" in request.headers:
            raise s3_errors.access_denied()
        with s3_body.spool(request, self._store.scratch, _source(request)) as body:
            self._keep(submission, body.path, body.sha256, "PutObject")
        return Response("", 200, {"ETag": f'"{body.md5.hex()}"'})

    def _create(self, request: Request, submission: Submission) -> Response:
        del request
        return _xml(
            "InitiateMultipartUploadResult",
            Bucket=submission.bucket,
            Key=submission.object_key,
            UploadId=self._store.begin_upload(submission.id),
        )

    def _upload_part(self, request: Request, submission: Submission) -> Response:
        upload = self._upload(request, submission)
        number = multipart.part_number(request.args["partNumber"])
        with s3_body.spool(request, self._store.scratch, _source(request)) as body:
            part = Part(
                number=number, etag=body.md5.hex(), size=body.size, uploaded_at=self._clock()
            )
            self._store.keep_part(upload, part, body.path, submission.id)
        return Response("", 200, {"ETag": f'"{part.etag}"'})

    def _list_parts(self, request: Request, submission: Submission) -> Response:
        upload = self._upload(request, submission)
        behind = _number(request.args.get("part-number-marker", "0"))
        most = min(_number(request.args.get("max-parts", str(_LISTED_PARTS))), _LISTED_PARTS)
        parts = [part for part in self._store.parts(upload) if part.number > behind]
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber>"
            f"<LastModified>{part.uploaded_at:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
            f"<ETag>&quot;{part.etag}&quot;</ETag><Size>{part.size}</Size></Part>"
            for part in parts[:most]
        )
        return _xml(
            "ListPartsResult",
            listed,
            Bucket=submission.bucket,
            Key=submission.object_key,
            UploadId=upload,
            PartNumberMarker=str(behind),
            NextPartNumberMarker=str(parts[:most][-1].number if parts[:most] else 0),
            MaxParts=str(most),
            IsTruncated=str(len(parts) > most).lower(),
        )

    def _complete(self, request: Request, submission: Submission) -> Response:
        upload = self._upload(request, submission)
        wish = request.stream.read(_WISH_BYTES)
        parts = self._chosen(upload, wish)
        whole, sha256 = self._join(upload, parts)
        try:
            self._keep(submission, whole, sha256, "CompleteMultipartUpload")
        finally:
            whole.unlink(missing_ok=True)
        self._store.forget_upload(upload)
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        return _xml(
            "CompleteMultipartUploadResult",
            Bucket=submission.bucket,
            Key=submission.object_key,
            ETag=f'"{etag}"',
        )

    def _chosen(self, upload: str, wish: bytes) -> list[Part]:
        """The parts that a completion names: AWS wants 5 MiB of each but the last."""
        known = {(part.number, part.etag): part for part in self._store.parts(upload)}
        named = multipart.wished(wish)
        if any(item not in known for item in named):
            raise s3_errors.invalid_part("One or more of the parts could not be found.")
        parts = [known[item] for item in named]
        if any(part.size < multipart.SMALLEST_PART_BYTES for part in parts[:-1]):
            raise s3_errors.S3Error(
                400, "EntityTooSmall", "Your proposed upload is smaller than the minimum."
            )
        return parts

    def _join(self, upload: str, parts: list[Part]) -> tuple[Path, str]:
        digest = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=self._store.scratch, delete=False) as whole:
            for part in parts:
                with self._store.part_place(upload, part.number).open("rb") as content:
                    while chunk := content.read(_CHUNK_BYTES):
                        digest.update(chunk)
                        whole.write(chunk)
        return Path(whole.name), digest.hexdigest()

    def _abort(self, request: Request, submission: Submission) -> Response:
        upload = self._upload(request, submission)
        self._store.forget_upload(upload)
        self._store.note("AbortMultipartUpload", submission.id)
        return Response("", 204)

    def _upload(self, request: Request, submission: Submission) -> str:
        identity = request.args["uploadId"]
        if not self._store.has_upload(identity, submission.id):
            raise s3_errors.no_such_upload()
        return identity

    def _keep(self, submission: Submission, content: Path, sha256: str, operation: str) -> None:
        self._store.uploaded(submission.id, content, sha256, operation, self._clock())
        self._uploaded(submission.id)


def _source(request: Request) -> s3_chunks.ChunkedBody | None:
    """A decoder for the body, or None where it is sent as it is."""
    stated = request.headers.get("x-amz-content-sha256", "")
    if not stated.startswith("STREAMING-"):
        return None
    if stated != s3_chunks.UNSIGNED_TRAILER:
        raise s3_errors.not_implemented(stated)
    length = request.headers.get("x-amz-decoded-content-length", "")
    if not length.isascii() or not length.isdigit() or len(length) > 15:
        raise s3_errors.S3Error(411, "MissingContentLength", "The decoded length is required.")
    return s3_chunks.ChunkedBody(request.stream, int(length))


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise s3_errors.S3Error(400, "InvalidArgument", "Not a number that is allowed here.")
    return int(text)


def _xml(name: str, inner: str = "", **fields: str) -> Response:
    told = "".join(f"<{field}>{escape(value)}</{field}>" for field, value in fields.items())
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<{name} xmlns="{_NAMESPACE}">{told}{inner}</{name}>'
    )
    return Response(text, content_type="application/xml")
