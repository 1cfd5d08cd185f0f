"""Moto's S3 server for one bucket, asked inside this process; the only importer of moto.

Moto answers S3's own shapes (XML, listing, multipart, copies); what R2 does otherwise is judged
before it is asked. It keeps its objects in the process and knows one bucket of each name in it,
so a process holds one bucket.
"""

from __future__ import annotations

import io
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from werkzeug.datastructures import Headers
from werkzeug.test import run_wsgi_app

from release_tool.rehearsal.object_index import Stored

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_ACCOUNT = "123456789012"
_PARTITION = "aws"
_REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What moto answered."""

    status: int
    headers: Headers
    body: bytes


class MotoBucket:
    """One bucket in moto.

    Args:
        name: the bucket's name; whatever this process's moto held before is forgotten.
        place: where the bytes of an object lie on disk.
    """

    def __init__(self, name: str, place: Callable[[str], Path]) -> None:
        # Imported here: it takes a third of a second, and only this process needs it.
        from moto.moto_server.werkzeug_app import create_backend_app
        from moto.s3.models import s3_backends

        self._name = name
        self._application = create_backend_app("s3")
        self._backend: Any = s3_backends[_ACCOUNT][_PARTITION]
        self._backend.reset()
        self._backend.create_bucket(name, _REGION)
        self._place = place
        self._copy_of_moto = self._backend.copy_object
        self._backend.copy_object = self._copy

    def restore(self, stored: Stored, content: Path) -> None:
        """Put back an object of an earlier process, with its ETag and time."""
        key = self._backend.put_object(self._name, stored.key, b"", etag=stored.etag.strip('"'))
        _lie_at(key, content)
        key.set_metadata(dict(stored.headers))
        key.last_modified = stored.modified.replace(tzinfo=None)

    def ask(self, environ: WSGIEnvironment, body: IO[bytes], size: int) -> Answer:
        """Hand a request on, with its body from a file."""
        passed = dict(environ)
        passed["wsgi.input"] = body
        passed["CONTENT_LENGTH"] = str(size)
        chunks, status, headers = run_wsgi_app(self._application, passed, buffered=True)
        return Answer(status=int(status.split()[0]), headers=headers, body=b"".join(chunks))

    def request(
        self, environ: WSGIEnvironment, method: str, key: str, query: Mapping[str, str]
    ) -> Answer:
        """Ask a question of our own, on behalf of a client's request."""
        told = {name: value for name, value in environ.items() if not _is_condition(name)}
        told["REQUEST_METHOD"] = method
        told["PATH_INFO"] = f"/{self._name}/{key}".encode().decode("latin-1")
        told["QUERY_STRING"] = urllib.parse.urlencode(query)
        told["RAW_URI"] = told["REQUEST_URI"] = urllib.parse.quote(f"/{self._name}/{key}")
        return self.ask(told, io.BytesIO(), 0)

    def _copy(self, source: Any, bucket: str, name: str, **told: object) -> None:  # noqa: ANN401
        """Copy by reference, as a store does: moto would read, write and digest every byte.

        A copy of what went in parts gets an ETag of another form, as S3's does; what R2 gives it
        is not told.
        """
        hollow = object.__new__(type(source))
        hollow.__dict__.update(source.__dict__, _value_buffer=io.BytesIO(), disposed=True)
        self._copy_of_moto(hollow, bucket, name, **told)
        copied, content = self._backend.get_object(bucket, name), self._place(source.name)
        etag = source.etag.strip('"')
        copied._etag = content.name[: len(etag.partition("-")[0])] if "-" in etag else etag  # noqa: SLF001
        _lie_at(copied, content)


def _lie_at(key: Any, content: Path) -> None:  # noqa: ANN401 - moto's own
    """Let an object of moto's have its bytes in a file; moto has no setting for that."""
    key._value_buffer.close()  # noqa: SLF001
    key._value_buffer = content.open("rb")  # noqa: SLF001
    key.contentsize = content.stat().st_size


def _is_condition(name: str) -> bool:
    return name.startswith(("HTTP_IF_", "HTTP_X_AMZ_", "HTTP_RANGE"))
