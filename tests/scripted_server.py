"""A small HTTP server on loopback that answers as a test tells it, and keeps what it was sent."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """One scripted answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    declared: int | None = None
    """Content-Length to claim, where it is not the truth."""


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class ScriptedServer:
    """Answers in the order of its script, the last answer again and again."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.script: list[Reply | Callable[[Request], Reply]] = []
        handler = _handler(self)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def says(self, *replies: Reply | Callable[[Request], Reply]) -> None:
        self.script = list(replies)

    def reply(self, request: Request) -> Reply:
        self.requests.append(request)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return step if isinstance(step, Reply) else step(request)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            # Ends its wait for the next connection.
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(owner: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        do_HEAD = do_POST = do_DELETE = do_PATCH = do_PUT = do_CONNECT = do_GET  # noqa: N815

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = owner.reply(Request(self.command, self.path, headers, body))
            # Not `send_response`: the time of the answer may be scripted, too.
            self.send_response_only(reply.status)
            length = len(reply.body) if reply.declared is None else reply.declared
            own = {"Date": self.date_time_string(), "Content-Length": str(length)}
            for name, value in {**own, **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    return Handler


@contextmanager
def running() -> Iterator[ScriptedServer]:
    """One scripted server, ended afterwards."""
    made = ScriptedServer()
    try:
        yield made
    finally:
        made.close()
