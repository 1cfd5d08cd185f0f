"""The control address of the embedded environment: alive, faults, stop.

Only who reads the token in the state folder may ask: other users of the machine reach the port.
"""

from __future__ import annotations

import hmac
import json
import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from release_tool import errors
from release_tool.rehearsal import faults, places
from release_tool.rehearsal.wire import Wire, rule_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Control:
    """The WSGI application.

    Args:
        token: what a request must carry.
        instance: tells this process from an earlier one on the same port.
        broken: where faults are set.
        wire: where faults of the wire are set.
        ended: set when the process shall end.
    """

    def __init__(
        self,
        *,
        token: str,
        instance: str,
        broken: faults.Faults,
        wire: Wire,
        ended: threading.Event,
    ) -> None:
        self._token = token
        self._instance = instance
        self._broken = broken
        self._wire = wire
        self._ended = ended

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        token = request.headers.get(places.CONTROL_HEADER, "")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return Response("", 401)
        match request.method, request.path:
            case "GET", "/alive":
                told: dict[str, object] = {"instance": self._instance, "pid": os.getpid()}
                return Response(json.dumps(told), content_type="application/json")
            case "POST", "/faults":
                return self._set_faults(request)
            case "POST", "/wire":
                return self._set_rules(request)
            case "GET", "/wire":
                told = self._wire.report().as_json()
                return Response(json.dumps(told), content_type="application/json")
            case "POST", "/stop":
                self._ended.set()
                return Response("", 202)
        return Response("", 404)

    def _set_faults(self, request: Request) -> Response:
        try:
            wanted = {str(name): int(count) for name, count in json.loads(request.data).items()}
            self._broken.set(wanted)
        except (ValueError, TypeError, AttributeError, errors.UsageError) as problem:
            return Response(str(problem), 400)
        return Response("", 204)

    def _set_rules(self, request: Request) -> Response:
        try:
            self._wire.set([rule_of(told) for told in json.loads(request.data)])
        except (ValueError, TypeError, AttributeError, errors.UsageError) as problem:
            return Response(str(problem), 400)
        return Response("", 204)
