"""How one request goes wrong, down to the bytes on its connection."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from werkzeug.test import run_wsgi_app
from werkzeug.wsgi import get_input_stream

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

RETRY_AFTER_SECONDS = 1
# A stalled request ends with its client; this is for one that waits for ever.
_STALL_SECONDS = 600.0
_LOOK_SECONDS = 0.05
_DRIPS = 20
_DRIP_SECONDS = 0.1
_HTML = [("Content-Type", "text/html; charset=utf-8")]
_JSON = [("Content-Type", "application/json")]
_BODILESS = ("204", "304")
# Framing is written anew; the others stay as the application said.
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})


class Answer(NamedTuple):
    """What an application answered, whole."""

    status: str
    headers: Sequence[tuple[str, str]]
    body: bytes


class UnspoiltError(Exception):
    """The answer has nothing that this could spoil; nothing was sent yet."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One request that shall go wrong."""

    application: WSGIApplication
    environ: WSGIEnvironment
    calm: threading.Event
    """Set when faults are over: nothing needs to wait any longer."""
    elsewhere_url: str
    put_off: Callable[[Callable[[], object]], None]
    """Does something later, when nobody waits for it any more."""
    seconds: float
    """How long a slow answer takes."""

    @property
    def connection(self) -> socket.socket:
        """The client's connection."""
        found: socket.socket = self.environ["werkzeug.socket"]
        return found

    @property
    def has_answer_body(self) -> bool:
        """Whether an answer has a body at all."""
        return bool(self.environ["REQUEST_METHOD"] != "HEAD")

    def carried(self, answer: Answer) -> bytes:
        """What of an answer's body goes over the wire at all."""
        return answer.body if self.promises_body(answer) else b""

    def promises_body(self, answer: Answer) -> bool:
        """Whether the answer's length is the body's; it may be nothing."""
        return self.has_answer_body and answer.status[:3] not in _BODILESS

    def request_body(self) -> bytes:
        """The whole body of the request, once."""
        body: bytes = get_input_stream(self.environ).read()
        return body

    def handled(self, body: bytes | None = None) -> Answer:
        """Let the application answer.

        Args:
            body: of the request, where it was read before.
        """
        environ = dict(self.environ)
        if body is not None:
            environ["wsgi.input"] = BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
            environ.pop("wsgi.input_terminated", None)
        pieces, status, headers = run_wsgi_app(self.application, environ, buffered=True)
        return Answer(status, list(headers), b"".join(pieces))


Act = Callable[[Turn], None]


def target(environ: WSGIEnvironment) -> str:
    """What was asked for, as it stood in the request line."""
    return str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"])


def cut(environ: WSGIEnvironment) -> None:
    """Reset the connection: the client gets an RST, and no orderly end."""
    connection: socket.socket = environ["werkzeug.socket"]
    # Closed for good here: the handler would send an orderly end before.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())


def end(environ: WSGIEnvironment) -> None:
    """End the connection in order; the handler would wait for another request on it."""
    connection: socket.socket = environ["werkzeug.socket"]
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def reset(turn: Turn) -> None:
    """Cut in the middle of the request's body, unhandled; without one, of the answer's."""
    length = int(turn.environ.get("CONTENT_LENGTH") or 0)
    if length > 1:
        turn.environ["wsgi.input"].read(length // 2)
    else:
        answer = turn.handled()
        sent = len(turn.carried(answer)) // 2
        turn.connection.sendall(_whole(turn, answer)[:-sent] if sent else b"HTTP/1.1")
    cut(turn.environ)


def stalled(turn: Turn) -> None:
    """Take all that comes and answer nothing, until the client leaves."""
    deadline = time.monotonic() + _STALL_SECONDS
    while not turn.calm.is_set() and time.monotonic() < deadline:
        if _is_readable(turn.connection) and not turn.connection.recv(65536):
            return


def slow(turn: Turn) -> None:
    """The right answer, a piece at a time."""
    answer = turn.handled(turn.request_body())
    body = turn.carried(answer)
    if not body:
        turn.calm.wait(turn.seconds)
    _write(turn, answer, b"", len(answer.body))
    step = max(len(body) // _DRIPS, 1)
    pieces = [body[start : start + step] for start in range(0, len(body), step)]
    for piece in pieces:
        turn.calm.wait(turn.seconds / len(pieces))
        turn.connection.sendall(piece)


def endless(turn: Turn) -> None:
    """The right answer, a byte at a time, whose last byte never comes."""
    answer = turn.handled(turn.request_body())
    whole = _whole(turn, answer)
    # Where no body is, it is the head that never ends.
    start = len(whole) - len(turn.carried(answer)) if turn.carried(answer) else 0
    turn.connection.sendall(whole[:start])
    for place in range(start, len(whole) - 1):
        if turn.calm.wait(_DRIP_SECONDS):
            return
        turn.connection.sendall(whole[place : place + 1])
    stalled(turn)


def throttled(turn: Turn) -> None:
    """429 with `Retry-After`; nothing is handled."""
    after = [("Retry-After", str(RETRY_AFTER_SECONDS))]
    _refuse(turn, Answer("429 Too Many Requests", _HTML + after, b"<html>slow down</html>"))


def broken(turn: Turn) -> None:
    """500 from an edge that shows the request which it could not pass on, credentials included."""
    shown = "\n".join(
        f"{name}: {value}" for name, value in turn.environ.items() if name.startswith("HTTP_")
    )
    _refuse(turn, Answer("500 Internal Server Error", _HTML, f"<html>{shown}</html>".encode()))


def unavailable(turn: Turn) -> None:
    """503; nothing is handled."""
    _refuse(turn, Answer("503 Service Unavailable", _HTML, b"<html>back soon</html>"))


def truncated(turn: Turn) -> None:
    """Handled; half of the answer in chunks, and an orderly end without the last chunk."""
    answer = turn.handled(turn.request_body())
    half = turn.carried(answer)[: len(answer.body) // 2]
    if not half:
        # Nothing to cut; many clients take a head that ends early for whole, but no status line.
        turn.connection.sendall(b"HTTP/1.1")
        return
    turn.connection.sendall(_head(answer, None, chunked=True))
    turn.connection.sendall(b"%x\r\n%b\r\n" % (len(half), half))


def longer(turn: Turn) -> None:
    """Handled; more bytes are promised than come before the end."""
    answer = turn.handled(turn.request_body())
    if not turn.promises_body(answer):
        raise UnspoiltError(answer)
    _write(turn, answer, answer.body, len(answer.body) + 7)


def shorter(turn: Turn) -> None:
    """Handled; fewer bytes are promised than come."""
    answer = turn.handled(turn.request_body())
    if not turn.carried(answer):
        raise UnspoiltError(answer)
    _write(turn, answer, answer.body, len(answer.body) // 2)


def other_bytes(turn: Turn) -> None:
    """Handled; one bit in the middle of the answer's body is another."""
    answer = turn.handled(turn.request_body())
    body = bytearray(turn.carried(answer))
    if not body:
        raise UnspoiltError(answer)
    body[len(body) // 2] ^= 1
    _write(turn, answer, bytes(body), len(body))


def other_json(turn: Turn) -> None:
    """200 with JSON of another shape; nothing is handled."""
    _refuse(turn, Answer("200 OK", _JSON, json.dumps({"unexpected": [None, 1, "x"]}).encode()))


def not_json(turn: Turn) -> None:
    """200 that calls itself JSON and is none; nothing is handled."""
    _refuse(turn, Answer("200 OK", _JSON, b'{"cut in the mid'))


def redirect(turn: Turn) -> None:
    """307 to another host; nothing is handled."""
    place = [("Location", f"{turn.elsewhere_url}{target(turn.environ)}")]
    _refuse(turn, Answer("307 Temporary Redirect", _HTML + place, b"<html>over there</html>"))


def duplicate(turn: Turn) -> None:
    """Handled twice, as by a proxy that tries again; the second answer is the one that comes."""
    body = turn.request_body()
    turn.handled(body)
    answer = turn.handled(body)
    _write(turn, answer, answer.body, len(answer.body))


def lost_answer(turn: Turn) -> None:
    """Handled, and the connection ends without an answer."""
    turn.handled(turn.request_body())
    cut(turn.environ)


def late(turn: Turn) -> None:
    """Taken whole and cut, as by an edge that gave up; the service behind it handles it later."""
    turn.put_off(partial(turn.handled, turn.request_body()))
    cut(turn.environ)


def right(turn: Turn, answer: Answer) -> None:
    """Answer as the application did."""
    turn.connection.sendall(_whole(turn, answer))


def _refuse(turn: Turn, answer: Answer) -> None:
    """Answer in the application's place, once the request is read: a client still sends it."""
    turn.request_body()
    _write(turn, answer, answer.body, len(answer.body))


def _write(turn: Turn, answer: Answer, body: bytes, length: int) -> None:
    turn.connection.sendall(_head(answer, length if turn.has_answer_body else None))
    if turn.has_answer_body and body:
        turn.connection.sendall(body)


def _whole(turn: Turn, answer: Answer) -> bytes:
    """The right answer, as it goes over the wire."""
    head = _head(answer, len(answer.body) if turn.has_answer_body else None)
    return head + turn.carried(answer)


def _head(answer: Answer, length: int | None, *, chunked: bool = False) -> bytes:
    """Status line and headers; with `length` None those about the body stay as they were."""
    lines = [f"HTTP/1.1 {answer.status}"]
    told = {name.lower(): value for name, value in answer.headers}
    lines += [f"{name}: {value}" for name, value in answer.headers if name.lower() not in _FRAMING]
    bodiless = answer.status[:3] in _BODILESS
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif length is not None and not bodiless:
        lines.append(f"Content-Length: {length}")
    elif "content-length" in told:
        lines.append(f"Content-Length: {told['content-length']}")
    lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _is_readable(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], _LOOK_SECONDS)[0])
