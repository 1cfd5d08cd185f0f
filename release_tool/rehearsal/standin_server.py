"""The stand-in's HTTP side, as providers of May and of October 2026 behave.

Observed of May's: no key; `/health` as soon as it listens, with the version; another content type
than JSON is 415; each answer ends with `stop`, whatever ended it; a fault in the middle of an
answer is only logged, and the stream ends as if all were well. October's asks for a key unless told
not to, tells no version, reads JSON of any type, and tells of such a fault in the stream.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from release_tool import errors
from release_tool.rehearsal.standin_engine import Engine, GenerationError, Piece

OWNER = "stand-in"
MAY = "2026-05"
OCTOBER = "2026-10"
_MAX_BODY_BYTES = 32 * 1024 * 1024
_MAX_TOKENS = 4096
_DEFAULT_TOKENS = 256
_SOCKET_SECONDS = 30
# Closed at once, a socket with unread bytes takes the answer away from the client.
_LINGER_SECONDS = 0.5


class BadRequestError(errors.UsageError):
    """A request that a provider refuses; it ends in the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a stand-in serves."""

    contract: str
    """`2026-05` or `2026-10`."""
    version: str
    token: str = ""
    """What requests must carry; empty for none."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One request on one connection. Faults override single methods (`standin_faults`)."""

    protocol_version = "HTTP/1.1"
    timeout = _SOCKET_SECONDS
    engine: Engine
    manner: Manner

    def do_GET(self) -> None:
        if self.path == "/health":
            self.send_document(200, self.health())
        elif not self.is_let_in():
            self.refuse(BadRequestError(401, "a key is needed"))
        elif self.path == "/v1/models":
            self.send_document(200, {"object": "list", "data": self.listed()})
        else:
            self.refuse(BadRequestError(404, f"no such path: {self.path}"))

    def do_POST(self) -> None:
        try:
            if not self.is_let_in():
                raise BadRequestError(401, "a key is needed")  # noqa: TRY301
            question = self.question()
        except BadRequestError as problem:
            self.refuse(problem)
            return
        if question.stream:
            self.stream(question)
        else:
            self.complete(question)

    def health(self) -> dict[str, Any]:
        # October's tells no version.
        told = {"version": self.manner.version} if self.manner.contract == MAY else {}
        return {"status": "ok", **told, "provider": OWNER}

    def listed(self) -> list[dict[str, Any]]:
        return [{"id": self.engine.name, "object": "model", "created": 0, "owned_by": OWNER}]

    def is_let_in(self) -> bool:
        token = self.manner.token
        return not token or self.headers.get("Authorization", "") == f"Bearer {token}"

    def question(self) -> Question:
        if self.path != "/v1/chat/completions":
            raise BadRequestError(404, f"no such path: {self.path}")
        return Question.read(self.body(), self.engine.name)

    def body(self) -> Mapping[str, Any]:
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and self.manner.contract == MAY:
            raise BadRequestError(415, "the body must be application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            raise BadRequestError(411, "the length of the body is missing")
        if int(length) > _MAX_BODY_BYTES:
            raise BadRequestError(413, f"the body has more than {_MAX_BODY_BYTES} bytes")
        try:
            document = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as problem:
            raise BadRequestError(400, "the body is no JSON") from problem
        if not isinstance(document, dict):
            raise BadRequestError(400, "the body is no object")
        return document

    def complete(self, question: Question) -> None:
        text, last = "", Piece(text="", count=0, reason="stop")
        for piece in self.pieces(question):
            text, last = text + piece.text, piece
        self.send_document(200, self.completion(text, last))

    def said(self, text: str) -> dict[str, Any]:
        """How a text stands in a message."""
        return {"content": text}

    def completion(self, text: str, last: Piece) -> dict[str, Any]:
        message = {"role": "assistant", **self.said(text)}
        choice = {"index": 0, "message": message, "finish_reason": self.reason(last)}
        return {
            **self.head("chat.completion"),
            "choices": [choice],
            "usage": self.usage(last),
        }

    def stream(self, question: Question) -> None:
        self.begin_stream()
        head = self.head("chat.completion.chunk")
        self.event(head | {"choices": [delta(self.first_delta(), None)]})
        last = Piece(text="", count=0, reason="stop")
        try:
            for piece in self.pieces(question):
                last = piece
                self.event(head | {"choices": [delta(self.said(piece.text), None)]})
        except OSError:
            # Who asked has gone: the answer is dropped.
            self.log_message("a stream was cancelled")
            return
        except GenerationError as problem:
            self.log_message("generation failed: %s", problem.__cause__)
            if self.manner.contract != MAY:
                self.fail_stream(head)
                return
        self.end_stream(question, head, last)

    def fail_stream(self, head: Mapping[str, Any]) -> None:
        """October tells of a fault, and ends the stream without its mark."""
        error = {"message": "generation failed", "type": "server_error"}
        self.event({**head, "choices": [delta({}, "error")], "error": error})
        self.chunk(b"")

    def begin_stream(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()

    def first_delta(self) -> dict[str, str]:
        return {"role": "assistant", "content": ""}

    def end_stream(self, question: Question, head: Mapping[str, Any], last: Piece) -> None:
        self.event({**head, "choices": [delta({}, self.reason(last))]})
        if question.include_usage:
            self.event({**head, "choices": [], "usage": self.usage(last)})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def reason(self, last: Piece) -> str:
        """May's says `stop` of each answer, of one that was cut too."""
        return last.reason or "stop" if self.manner.contract != MAY else "stop"

    def pieces(self, question: Question) -> Iterator[Piece]:
        return self.engine.ask(question.messages, question.max_tokens)

    def usage(self, last: Piece) -> dict[str, int]:
        """What OpenAI's interface tells about tokens."""
        return {
            "prompt_tokens": last.prompt_count,
            "completion_tokens": last.count,
            "total_tokens": last.prompt_count + last.count,
        }

    def head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self.engine.name,
            "system_fingerprint": OWNER,
        }

    def event(self, document: Mapping[str, Any]) -> None:
        self.chunk(b"data: " + json.dumps(document).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def refuse(self, problem: BadRequestError) -> None:
        kind = "invalid_request_error"
        self.send_document(problem.status, {"error": {"message": str(problem), "type": kind}})
        self.drain()

    def send_document(self, status: int, document: Mapping[str, Any]) -> None:
        self.send_bytes(status, json.dumps(document).encode(), "application/json")

    def send_bytes(self, status: int, body: bytes, kind: str) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def drain(self) -> None:
        """Take what is still coming for a moment."""
        self.connection.settimeout(_LINGER_SECONDS)
        left = _MAX_BODY_BYTES
        with contextlib.suppress(OSError):
            while left > 0 and (got := self.rfile.read1(64 * 1024)):
                left -= len(got)

    def version_string(self) -> str:
        return OWNER

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401
        sys.stderr.write(f"{format % args}\n")


def serve(
    *,
    port: int,
    model: Path,
    manner: Manner,
    handler: type[Handler] = Handler,
    on_term: Callable[[threading.Event], None] = threading.Event.set,
) -> int:
    """Serve until TERM; 1 where it cannot.

    Args:
        port: where to listen, on 127.0.0.1.
        model: the model's folder.
        manner: how it behaves.
        handler: answers requests; faults are handlers of their own.
        on_term: what TERM does; it gets the event that ends the serving.
    """
    try:
        engine = Engine(model)
    except (ImportError, OSError, ValueError) as problem:
        sys.stderr.write(f"cannot load {model}: {problem}\n")
        return 1
    own = type("Own", (handler,), {"engine": engine, "manner": manner})
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), own)
    except OSError as problem:
        sys.stderr.write(f"cannot listen on port {port}: {problem.strerror}\n")
        return 1
    server.daemon_threads = True
    stop = threading.Event()

    def ended(number: int, frame: FrameType | None) -> None:
        del number, frame
        on_term(stop)

    signal.signal(signal.SIGTERM, ended)
    sys.stderr.write(f"listening on http://127.0.0.1:{server.server_port}\n")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    engine.run(stop)
    server.shutdown()
    server.socket.close()
    return 0


class Question:
    """A chat request that was understood."""

    def __init__(
        self,
        *,
        messages: list[dict[str, str]],
        max_tokens: int,
        stream: bool,
        include_usage: bool,
        is_raw: bool,
    ) -> None:
        self.messages = messages
        self.max_tokens = max_tokens
        self.stream = stream
        self.include_usage = include_usage
        self.is_raw = is_raw

    @classmethod
    def read(cls, document: Mapping[str, Any], model: str) -> Question:
        """Understand a request.

        Raises:
            BadRequestError: something that a provider refuses.
        """
        if document.get("model") != model:
            raise BadRequestError(404, f"only {model} is served here")
        if document.get("temperature", 0) != 0:
            raise BadRequestError(400, "only greedy answers are given here: temperature 0")
        options = document.get("stream_options")
        return cls(
            messages=_messages(document.get("messages")),
            max_tokens=_max_tokens(document.get("max_tokens", _DEFAULT_TOKENS)),
            stream=document.get("stream") is True,
            include_usage=isinstance(options, dict) and options.get("include_usage") is True,
            is_raw=document.get("reasoning_parser") == "none",
        )


def delta(said: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    """The choice of one chunk."""
    return {"index": 0, "delta": dict(said), "finish_reason": reason}


def _messages(found: object) -> list[dict[str, str]]:
    if not isinstance(found, list) or not found:
        raise BadRequestError(400, "messages is no list of messages")
    messages = []
    for message in found:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            raise BadRequestError(400, "a message needs a role and a content")
        messages.append({"role": role, "content": content})
    return messages


def _max_tokens(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= _MAX_TOKENS:
        raise BadRequestError(400, f"max_tokens is no number from 1 to {_MAX_TOKENS}")
    return found
