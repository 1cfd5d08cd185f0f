"""The bucket's public address: anyone may read, as through Cloudflare's edge.

The edge refuses Python's default agent with 403 (error 1010), takes no other method, and answers
ranges and revalidation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import faults, object_store
from release_tool.rehearsal.object_index import ObjectIndex

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class PublicBucket:
    """The WSGI application.

    Args:
        index: the objects.
        broken: faults on demand.
    """

    def __init__(self, index: ObjectIndex, *, broken: faults.Faults) -> None:
        self._index = index
        self._broken = broken

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        return self._answer(request)(environ, start_response)

    def _answer(self, request: Request) -> Response:
        agent = request.headers.get("User-Agent", "")
        if not agent or agent.lower().startswith("python-urllib"):
            return Response("error code: 1010", 403, content_type="text/plain")
        if request.method not in ("GET", "HEAD"):
            return Response("", 405, {"Allow": "GET, HEAD"})
        if self._broken.take(faults.PUBLIC_UNAVAILABLE):
            return Response("error code: 503", 503, content_type="text/plain")
        stored = self._index.get(request.path.removeprefix("/"))
        if stored is None:
            return Response("Object not found", 404, content_type="text/html")
        headers = {
            name: value
            for name, value in stored.headers.items()
            if not name.startswith("x-amz-meta-")
        }
        response = Response(object_store.chunks(self._index.place(stored.sha256)), 200, headers)
        response.headers["ETag"] = stored.etag
        response.last_modified = stored.modified
        response.headers["Content-Length"] = str(stored.size)
        response.make_conditional(request.environ, accept_ranges=True, complete_length=stored.size)
        return response
