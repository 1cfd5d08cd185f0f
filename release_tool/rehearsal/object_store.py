"""The object store's look-alike: moto's S3 server behind a layer that enforces what R2 does.

The layer judges, on what developers.cloudflare.com/r2/api/s3/ tells: the signature, one bucket,
the digests of the body, refused headers and encodings, conditions, equal parts, and one write a
second for each key. Bodies are spooled to disk once; moto gets them from there.
"""

from __future__ import annotations

import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import (
    faults,
    multipart,
    object_conditions,
    s3_body,
    s3_errors,
    servers,
    signature_v4,
)
from release_tool.rehearsal.moto_bucket import Answer, MotoBucket
from release_tool.rehearsal.object_index import ObjectIndex, Stored
from release_tool.rehearsal.s3_body import Body

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SECONDS_BETWEEN_WRITES = 1.0
_CHUNK_BYTES = 1024 * 1024
_OK = 200
_SERVED_HEADERS = re.compile(
    r"content-type|cache-control|content-disposition|content-encoding|content-language|expires"
    r"|x-amz-meta-.+",
    re.IGNORECASE,
)
_DESTINATION = "cf-copy-destination-"
_SOURCE = "x-amz-copy-source-"
_LISTING = frozenset(
    {
        "list-type", "prefix", "delimiter", "max-keys", "marker", "start-after",
        "continuation-token", "encoding-type", "fetch-owner", "location", "uploads", "x-id",
    }
)  # fmt: skip


class ObjectStore:
    """The WSGI application of one bucket.

    Args:
        bucket: its name; any other is refused.
        credentials: its one access key.
        index: its objects on disk.
        broken: faults on demand.
        read_only: whether its key is one of R2's "Object Read only".
        clock: what measures the time between two writes to a key.
    """

    def __init__(
        self,
        bucket: str,
        credentials: signature_v4.Credentials,
        *,
        index: ObjectIndex,
        broken: faults.Faults,
        read_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bucket = bucket
        self._clock = clock
        self._read_only = read_only
        self._credentials = credentials
        self._index = index
        self._broken = broken
        self._uploads = multipart.Uploads(index.scratch)
        self._written: dict[str, float] = {}
        self._lock = threading.RLock()
        self._moto = MotoBucket(bucket, self._place)
        for stored in index.everything():
            self._moto.restore(stored, index.place(stored.sha256))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            answer = self._answer(request)
        except s3_errors.S3Error as refusal:
            answer = refusal.response(with_body=request.method != "HEAD")
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Response:
        _refuse_encodings(request.headers)
        signature_v4.verify(request.environ, self._credentials)
        _refuse_headers(request.headers)
        bucket, _, key = request.path.removeprefix("/").partition("/")
        if not bucket:
            raise s3_errors.access_denied()
        if bucket != self._bucket:
            raise s3_errors.S3Error(404, "NoSuchBucket", "The specified bucket does not exist.")
        with s3_body.spool(request, self._index.scratch) as body:
            return self._dispatch(request, key, body)

    def _dispatch(self, request: Request, key: str, body: Body) -> Response:
        asked = set(request.args) - {"x-id"}
        if self._read_only and request.method not in ("GET", "HEAD"):
            raise s3_errors.access_denied()
        if not key:
            if request.method not in ("GET", "HEAD") or not asked <= _LISTING:
                raise s3_errors.access_denied()
            return _passed(self._ask(request, body))
        if request.method in ("GET", "HEAD") and asked in (set(), {"uploadId"}):
            return self._read(request, key, body)
        handlers: dict[tuple[str, frozenset[str]], Any] = {
            ("PUT", frozenset()): self._put,
            ("PUT", frozenset({"partNumber", "uploadId"})): self._upload_part,
            ("POST", frozenset({"uploads"})): self._create_upload,
            ("POST", frozenset({"uploadId"})): self._complete_upload,
            ("DELETE", frozenset({"uploadId"})): self._abort_upload,
            ("DELETE", frozenset()): self._delete,
        }
        handler = handlers.get((request.method, frozenset(asked)))
        if handler is None:
            raise s3_errors.not_implemented(f"{request.method} {','.join(sorted(asked))}")
        if self._broken.take(faults.STORE_UNAVAILABLE):
            raise s3_errors.unavailable()
        with self._lock:
            answer: Response = handler(request, key, body)
        if answer.status_code == _OK and self._broken.take(faults.STORE_DROP_AFTER_WRITE):
            servers.drop_connection(request.environ)
        return answer

    def _read(self, request: Request, key: str, body: Body) -> Response:
        """Moto judges and describes; whole objects are streamed from disk, not from its memory."""
        stored = self._index.get(key)
        if request.method == "HEAD" or stored is None or "Range" in request.headers:
            return _passed(self._ask(request, body))
        if request.args:
            return _passed(self._ask(request, body))
        answer = self._ask(request, body, method="HEAD")
        if answer.status != _OK:
            return _passed(answer)
        response = Response(chunks(self._index.place(stored.sha256)), _OK)
        response.headers = answer.headers
        response.headers["Content-Length"] = str(stored.size)
        return response

    def _put(self, request: Request, key: str, body: Body) -> Response:
        if "x-amz-copy-source" in request.headers:
            return self._copy(request, key, body)
        object_conditions.check(request.headers, self._index.get(key))
        self._await_turn(key)
        answer = self._ask(request, body, drop=object_conditions.NAMES)
        if answer.status == _OK:
            self._index.keep(body.path, body.sha256)
            self._record("PutObject", request, key, body.sha256)
        return _passed(answer)

    def _copy(self, request: Request, key: str, body: Body) -> Response:
        source = self._source(request.headers["x-amz-copy-source"])
        if request.headers.get("x-amz-metadata-directive", "COPY") not in ("COPY", "REPLACE"):
            raise s3_errors.not_implemented("x-amz-metadata-directive")
        object_conditions.check(request.headers, source, prefix=_SOURCE)
        object_conditions.check(request.headers, self._index.get(key), prefix=_DESTINATION)
        self._await_turn(key)
        dropped = [
            f"{prefix}{name}"
            for name in object_conditions.NAMES
            # S3's own conditions on the destination of a copy are ignored.
            for prefix in ("", _SOURCE, _DESTINATION)
        ]
        answer = self._ask(request, body, drop=dropped)
        if answer.status == _OK:
            self._record("CopyObject", request, key, source.sha256)
        return _passed(answer)

    def _source(self, header: str) -> Stored:
        bucket, _, key = urllib.parse.unquote(header).removeprefix("/").partition("/")
        found = self._index.get(key)
        if bucket != self._bucket:
            raise s3_errors.access_denied()
        if found is None:
            raise s3_errors.S3Error(404, "NoSuchKey", "The specified key does not exist.")
        return found

    def _place(self, key: str) -> Path:
        stored = self._index.get(key)
        assert stored  # noqa: S101 - a copy's source was looked up
        return self._index.place(stored.sha256)

    def _delete(self, request: Request, key: str, body: Body) -> Response:
        answer = self._ask(request, body)
        self._index.delete(key)
        return _passed(answer)

    def _create_upload(self, request: Request, key: str, body: Body) -> Response:
        answer = self._ask(request, body)
        if answer.status == _OK:
            self._uploads.begin(multipart.upload_id(answer.body), key)
        return _passed(answer)

    def _upload_part(self, request: Request, key: str, body: Body) -> Response:
        if "x-amz-copy-source" in request.headers:
            raise s3_errors.not_implemented("UploadPartCopy")
        upload = self._uploads.find(request.args["uploadId"], key)
        number = multipart.part_number(request.args["partNumber"])
        answer = self._ask(request, body)
        if answer.status == _OK:
            upload.keep(number, body, answer.headers.get("ETag", ""))
        return _passed(answer)

    def _complete_upload(self, request: Request, key: str, body: Body) -> Response:
        upload = self._uploads.find(request.args["uploadId"], key)
        parts = upload.chosen(body.path.read_bytes())
        try:
            object_conditions.check(request.headers, self._index.get(key))
        except s3_errors.S3Error:
            # R2's changelog, 2023-08-11: the upload is gone with its failed condition.
            self._abort(request, key)
            raise
        self._await_turn(key)
        answer = self._ask(request, body, drop=object_conditions.NAMES)
        if answer.status == _OK:
            joined, digest = self._uploads.join(parts)
            self._index.keep(joined, digest)
            self._record("CompleteMultipartUpload", request, key, digest)
            self._uploads.forget(request.args["uploadId"])
        return _passed(answer)

    def _abort_upload(self, request: Request, key: str, _: Body) -> Response:
        self._uploads.find(request.args["uploadId"], key)
        return _passed(self._abort(request, key))

    def _abort(self, request: Request, key: str) -> Answer:
        identity = request.args["uploadId"]
        self._uploads.forget(identity)
        return self._moto.request(request.environ, "DELETE", key, {"uploadId": identity})

    def _await_turn(self, key: str) -> None:
        """Refuse a second write to a key within a second; remember this one."""
        now = self._clock()
        if now - self._written.get(key, -SECONDS_BETWEEN_WRITES) < SECONDS_BETWEEN_WRITES:
            raise s3_errors.too_many_requests()
        self._written[key] = now

    def _record(self, operation: str, request: Request, key: str, digest: str) -> None:
        """Describe the object as moto does, so that a restart brings back the same."""
        told = self._moto.request(request.environ, "HEAD", key, {})
        size = self._index.place(digest).stat().st_size
        if told.status != _OK or int(told.headers["Content-Length"]) != size:
            raise s3_errors.S3Error(500, "InternalError", "moto holds another object")
        stored = Stored(
            key=key,
            sha256=digest,
            size=size,
            etag=told.headers["ETag"],
            modified=datetime.now(UTC),
            headers={
                name.lower(): value
                for name, value in told.headers.items()
                if _SERVED_HEADERS.fullmatch(name)
            },
        )
        self._index.put(operation, stored)

    def _ask(
        self,
        request: Request,
        body: Body,
        *,
        method: str | None = None,
        drop: Iterable[str] = (),
    ) -> Answer:
        environ = dict(request.environ)
        for name in drop:
            environ.pop(f"HTTP_{name.upper().replace('-', '_')}", None)
        if method is not None:
            environ["REQUEST_METHOD"] = method
        with body.path.open("rb") as content:
            return self._moto.ask(environ, content, body.size)


def chunks(path: Path) -> Iterable[bytes]:
    """A file, piece by piece."""
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            yield chunk


def _refuse_encodings(headers: Headers) -> None:
    """R2 takes none of the streaming payloads that newer SDKs send by default."""
    stated = headers.get("x-amz-content-sha256", "")
    if stated.startswith("STREAMING-"):
        raise s3_errors.not_implemented(stated)
    if "aws-chunked" in headers.get("Content-Encoding", "").lower():
        raise s3_errors.not_implemented("aws-chunked")
    if "x-amz-trailer" in headers:
        raise s3_errors.not_implemented("x-amz-trailer")


_REFUSED = re.compile(
    r"x-amz-acl|x-amz-grant-.*|x-amz-tagging.*|x-amz-server-side-encryption"
    r"|x-amz-server-side-encryption-(?!customer-).*|x-amz-object-lock-.*|x-amz-bypass-.*"
    r"|x-amz-website-redirect-location|x-amz-expected-bucket-owner"
    r"|x-amz-source-expected-bucket-owner|x-amz-request-payer|x-amz-mfa",
    re.IGNORECASE,
)


def _refuse_headers(headers: Headers) -> None:
    for name, value in headers.items():
        if _REFUSED.fullmatch(name):
            raise s3_errors.not_implemented(f"Header '{name.lower()}' with value '{value}'")


def _passed(answer: Answer) -> Response:
    # As an iterable: a text would overwrite the length that an answer to HEAD tells.
    return Response([answer.body], answer.status, answer.headers)
