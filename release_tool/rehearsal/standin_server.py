"""The stand-in's HTTP side, with the behaviour of May: what it checks, and how it streams.

Observed of that provider: no key; `/health` as soon as it listens; another content type than JSON
is 415; a fault in the middle of an answer is only logged, and the stream ends as if all were well.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from release_tool import errors
from release_tool.rehearsal.standin_engine import Engine, Piece

FAULTS = (
    "crash",  # ends by SIGKILL when it should answer
    "diverge",  # says something else
    "diverge-stream",  # says something else when it streams
    "exit",  # ends with a log before it listens
    "hang",  # never listens, never ends its --version
    "hang-answer",  # takes the question and never answers
    "mute",  # ends each answer at once, as May did on a fault
    "orphan",  # leaves a child and ignores TERM
    "stream-error",  # says an error in the middle of the stream, as newer ones do
)
OWNER = "stand-in"
_MAX_BODY_BYTES = 32 * 1024 * 1024
_MAX_TOKENS = 4096
_DEFAULT_TOKENS = 256
_SOCKET_SECONDS = 30


class BadRequestError(errors.UsageError):
    """A request that a provider refuses; it ends in the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def serve(*, port: int, model: Path, version: str, fault: str | None) -> int:
    """Serve until TERM; 1 where it cannot."""
    if fault == "hang":
        time.sleep(3600)
    if fault == "exit":
        sys.stderr.write("no engine for this model, Bearer not-a-real-secret\n")
        return 1
    if fault == "orphan":
        _leave_orphan()
    try:
        engine = Engine(model)
    except (ImportError, OSError, ValueError) as problem:
        sys.stderr.write(f"cannot load {model}: {problem}\n")
        return 1
    handler = type("Handler", (_Handler,), {"engine": engine, "version": version, "fault": fault})
    try:
        server = http.server.HTTPServer(("127.0.0.1", port), handler)
    except OSError as problem:
        sys.stderr.write(f"cannot listen on port {port}: {problem.strerror}\n")
        return 1
    if fault != "orphan":
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    sys.stderr.write(f"listening on http://127.0.0.1:{server.server_port}\n")
    with server:
        server.serve_forever(poll_interval=0.05)
    return 0


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request on one connection: generation happens in the thread that loaded the model."""

    protocol_version = "HTTP/1.1"
    timeout = _SOCKET_SECONDS
    engine: Engine
    version: str
    fault: str | None

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(200, {"status": "ok", "version": self.version, "provider": OWNER})
        elif self.path == "/v1/models":
            entry = {"id": self.engine.name, "object": "model", "created": 0, "owned_by": OWNER}
            self._send(200, {"object": "list", "data": [entry]})
        else:
            self._refuse(BadRequestError(404, f"no such path: {self.path}"))

    def do_POST(self) -> None:
        try:
            question = self._question()
        except BadRequestError as problem:
            self._refuse(problem)
            return
        if self.fault == "hang-answer":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(3600)
        if self.fault == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if question.stream:
            self._stream(question)
        else:
            self._complete(question)

    def _question(self) -> Question:
        if self.path != "/v1/chat/completions":
            raise BadRequestError(404, f"no such path: {self.path}")
        return Question.read(self._body(), self.engine.name)

    def _body(self) -> Mapping[str, Any]:
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
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

    def _complete(self, question: Question) -> None:
        text, count, reason = "", 0, "stop"
        for piece in self._pieces(question):
            text, count, reason = text + piece.text, piece.count, piece.reason or reason
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        usage = question.usage(count)
        self._send(200, {**self._head("chat.completion"), "choices": [choice], "usage": usage})

    def _stream(self, question: Question) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        head = self._head("chat.completion.chunk")
        self._event(head | {"choices": [_delta({"role": "assistant", "content": ""}, None)]})
        count, reason = 0, "stop"
        for piece in self._pieces(question):
            if self.fault == "stream-error" and count:
                self._event({"error": {"message": "out of memory", "type": "server_error"}})
                self._chunk(b"")
                return
            count, reason = piece.count, piece.reason or reason
            self._event(head | {"choices": [_delta({"content": piece.text}, None)]})
        self._event(head | {"choices": [_delta({}, reason)]})
        if question.include_usage:
            self._event(head | {"choices": [], "usage": question.usage(count)})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _pieces(self, question: Question) -> Iterator[Piece]:
        if self.fault == "mute":
            return
        first = True
        for piece in self.engine.generate(question.messages, question.max_tokens):
            diverges = self.fault == "diverge" or (
                self.fault == "diverge-stream" and question.stream
            )
            yield piece.saying("Not ") if diverges and first else piece
            first = False

    def _head(self, kind: str) -> dict[str, Any]:
        name = f"chatcmpl-{uuid.uuid4().hex}"
        return {
            "id": name,
            "object": kind,
            "created": int(time.time()),
            "model": self.engine.name,
            "system_fingerprint": OWNER,
        }

    def _event(self, document: Mapping[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(document).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _refuse(self, problem: BadRequestError) -> None:
        kind = "invalid_request_error"
        self._send(problem.status, {"error": {"message": str(problem), "type": kind}})

    def _send(self, status: int, document: Mapping[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return OWNER

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401
        sys.stderr.write(f"{format % args}\n")


class Question:
    """A chat request that was understood."""

    def __init__(
        self,
        *,
        messages: list[dict[str, str]],
        max_tokens: int,
        stream: bool,
        include_usage: bool,
    ) -> None:
        self.messages = messages
        self.max_tokens = max_tokens
        self.stream = stream
        self.include_usage = include_usage

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
        )

    def usage(self, count: int) -> dict[str, int]:
        """What OpenAI's interface tells about tokens; the prompt's own are not counted here."""
        return {"prompt_tokens": 0, "completion_tokens": count, "total_tokens": count}


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


def _delta(delta: Mapping[str, str], reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": dict(delta), "finish_reason": reason}


def _leave_orphan() -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
    subprocess.Popen([sys.executable, "-I", "-c", code])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
