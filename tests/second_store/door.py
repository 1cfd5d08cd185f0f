"""The gateway behind a door that sees each request, so that tests can break it and count writes.

The door passes on every request as it came, signature and all, and judges nothing. What was
written is read back from the gateway and kept in an `ObjectIndex`, as the look-alike's is: that is
what tests and the public address look at.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tempfile
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import faults, s3_errors, servers, signature_v4
from release_tool.rehearsal.object_index import ObjectIndex, Stored
from release_tool.services import s3_client
from tests.second_store import gateway

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from mypy_boto3_s3 import S3Client

_SECONDS = 60
# Of one connection, and not of what it carries.
_HOP = ("connection", "transfer-encoding", "keep-alive", "date", "server")
_SERVED = {
    "ContentType": "content-type",
    "CacheControl": "cache-control",
}


class SecondStore:
    """Makes what the look-alike's class makes: one bucket as a WSGI application.

    Making it again over the same index is a restart: objects stay, uploads are gone.
    """

    def __init__(self) -> None:
        self._running = ExitStack()

    def __call__(
        self,
        bucket: str,
        credentials: signature_v4.Credentials,
        *,
        index: ObjectIndex,
        broken: faults.Faults,
    ) -> WSGIApplication:
        self.close()
        port = self._running.enter_context(
            gateway.running(index.scratch.parent / "gateway", bucket, credentials)
        )
        client = s3_client.connect(
            endpoint=f"http://127.0.0.1:{port}",
            region="auto",
            access_key_id=credentials.access_key_id,
            secret_access_key=credentials.secret_access_key,
        )
        return _Door(bucket=bucket, port=port, client=client, index=index, broken=broken)

    def close(self) -> None:
        """End the gateway."""
        self._running.close()


@dataclass(frozen=True, kw_only=True)
class _Door:
    bucket: str
    port: int
    client: S3Client
    index: ObjectIndex
    broken: faults.Faults
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        writes = request.method not in ("GET", "HEAD")
        if writes and self.broken.take(faults.STORE_UNAVAILABLE):
            return s3_errors.unavailable().response(with_body=True)(environ, start)
        answer = self._passed_on(request)
        operation = _operation(request)
        if operation and answer.status_code in (200, 204) and b"<Error>" not in answer.data:
            self._note(operation, request.path.removeprefix(f"/{self.bucket}/"))
        if writes and answer.status_code == 200 and self.broken.take(faults.STORE_DROP_AFTER_WRITE):
            servers.drop_connection(environ)
        return answer(environ, start)

    def _passed_on(self, request: Request) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        connection.putrequest(
            request.method,
            request.environ["RAW_URI"],
            skip_host=True,
            skip_accept_encoding=True,
        )
        for name, value in request.headers.items():
            if name.lower() not in _HOP:
                connection.putheader(name, value)
        connection.endheaders(request.get_data() or None)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        headers = [pair for pair in answer.getheaders() if pair[0].lower() not in _HOP]
        # As an iterable: a text would overwrite the length that an answer to HEAD tells.
        return Response([content], answer.status, headers)

    def _note(self, operation: str, key: str) -> None:
        """Keep what stands there now; the last to look sees what the last one wrote."""
        with self.lock:
            if operation == "DeleteObject":
                self.index.delete(key)
                return
            told = self.client.get_object(Bucket=self.bucket, Key=key)
            with tempfile.NamedTemporaryFile(dir=self.index.scratch, delete=False) as content:
                shutil.copyfileobj(told["Body"], content)
            path = Path(content.name)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self.index.keep(path, digest)
            notes = {f"x-amz-meta-{name}": value for name, value in told["Metadata"].items()}
            named = {name: told[field] for field, name in _SERVED.items() if field in told}  # type: ignore[literal-required]
            self.index.put(
                operation,
                Stored(
                    key=key,
                    sha256=digest,
                    size=told["ContentLength"],
                    etag=told["ETag"],
                    modified=told["LastModified"],
                    headers={**notes, **named},
                ),
            )


def _operation(request: Request) -> str:
    """What a request writes, or nothing."""
    if request.method == "PUT" and "partNumber" not in request.args:
        return "CopyObject" if "x-amz-copy-source" in request.headers else "PutObject"
    if request.method == "POST" and "uploadId" in request.args:
        return "CompleteMultipartUpload"
    if request.method == "DELETE" and "uploadId" not in request.args:
        return "DeleteObject"
    return ""
