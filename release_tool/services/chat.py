"""The OpenAI-like chat interface of a provider, plain and streamed, over loopback.

The standard library's client: no proxy setting of the host can lead it elsewhere, and each piece
of an answer gets its own time. Sizes and times are bounded, whatever the provider sends.
Source: OpenAI's reference for chat completions; the HTML standard for event streams.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import select
import socket
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from release_tool import errors
from release_tool.services import deadlines, redaction
from release_tool.services.deadlines import Watched

# An answer of a few tokens has some hundred bytes, a chunk of a stream the same for each token.
_MAX_BODY_BYTES = 4 * 1024 * 1024
_MAX_LINE_BYTES = 256 * 1024
_MAX_CHUNKS = 100_000
_SHOWN = 200
_SENT_BYTES = 64 * 1024
_LINE_END = re.compile(rb"\r\n|\n|\r")
_CHAT = "/v1/chat/completions"
_MODELS = "/v1/models"
_REASONS = ("stop", "length")
_THOUGHTS = "reasoning_content"
# Clients read a stream to its end, not to its mark.
_CLOSING_SECONDS = 10.0

Key = Literal["own", "other", "none"]
"""Which key a request carries: the provider's own, one that it never made, or none."""


class AnswerError(errors.VerificationError):
    """An answer that is none. `provider` adds how the process ended and what it logged."""

    def __init__(
        self, message: str, *, expected: str = "", observed: str = "", hint: str = ""
    ) -> None:
        # What is cut first cannot be known as a secret any more.
        said = redaction.line(observed)[:_SHOWN]
        super().__init__(message, subject="provider", expected=expected, observed=said, hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a provider listens: always loopback."""

    port: int
    host: str = "127.0.0.1"
    token: str = field(default="", repr=False)
    """The key that October's want; it goes nowhere but to loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One user's message, to be answered greedily."""

    model: str
    prompt: str
    max_tokens: int
    more: Mapping[str, str] = field(default_factory=dict)
    """What the request holds beside it (`provider_contract.Contract.raw_answers`)."""

    def body(self, *, stream: bool) -> bytes:
        """The request's JSON."""
        document: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "stream": stream,
            **self.more,
        }
        if stream:
            document["stream_options"] = {"include_usage": True}
        return json.dumps(document).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What came back, and when."""

    text: str
    tokens: int
    """`completion_tokens`; for a stream that tells none, its pieces of text."""
    first_token_seconds: float
    """From the request to the first text; for a plain answer, to its end."""
    decode_seconds: float
    """From the first text to the last; 0 for a plain answer."""
    reason: str = ""
    """`stop` or `length`."""
    counted: bool = True
    """Whether the provider told its tokens. Else a piece of the stream may hold several."""

    @property
    def decode_tokens_per_second(self) -> float:
        """The rate behind the first token; 0 where it cannot be told."""
        if self.decode_seconds <= 0:
            return 0.0
        return max(self.tokens - 1, 0) / self.decode_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """How a request was answered that must not succeed."""

    status: int
    said: str


def health(endpoint: Endpoint, *, seconds: float) -> str | None:
    """The version that `/health` tells, "" if it tells none; None while nothing answers."""
    try:
        document = _get(endpoint, "/health", seconds)
    except AnswerError:
        return None
    if document.get("status") != "ok":
        return None
    version = document.get("version")
    return version if isinstance(version, str) else ""


def models(endpoint: Endpoint, *, seconds: float) -> list[str]:
    """The ids that `/v1/models` lists.

    Raises:
        AnswerError: none, or no such list.
    """
    listed = _get(endpoint, _MODELS, seconds).get("data")
    entries = listed if isinstance(listed, list) else []
    names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    found = [name for name in names if isinstance(name, str) and name]
    if not found:
        raise AnswerError("lists no model", observed=str(listed))
    return found


def complete(endpoint: Endpoint, question: Question, *, seconds: float) -> Completion:
    """One plain chat completion.

    Raises:
        AnswerError: an error status, not JSON, no text, no reason for its end, wrong counts, of
            another model, or too late.
    """
    start = time.monotonic()
    with _exchange(endpoint, _CHAT, question.body(stream=False), seconds) as got:
        document = _json(got.body())
    _require_model(document, question)
    choice = _choice(document)
    message = choice.get("message")
    said = message if isinstance(message, dict) else {}
    _require_speaker(choice, said)
    return Completion(
        text=_required_text(_text(said), thoughts=bool(said.get(_THOUGHTS))),
        tokens=_tokens(document),
        first_token_seconds=time.monotonic() - start,
        decode_seconds=0.0,
        reason=_required_reason(choice.get("finish_reason")),
    )


def stream(endpoint: Endpoint, question: Question, *, seconds: float) -> Completion:
    """One streamed chat completion.

    Raises:
        AnswerError: as `complete`; an error inside the stream, chunks that do not belong together,
            or no end mark.
    """
    start = time.monotonic()
    pieces: list[str] = []
    times: list[float] = []
    told = 0
    shape = _Shape(question)
    for document in _streamed(endpoint, question, seconds):
        if isinstance(document.get("usage"), dict):
            told = _tokens(document)
        piece = shape.take(document)
        if piece:
            pieces.append(piece)
            times.append(time.monotonic())
    text = _required_text("".join(pieces), thoughts=shape.thoughts)
    return Completion(
        text=text,
        tokens=told or len(pieces),
        counted=told > 0,
        first_token_seconds=times[0] - start,
        decode_seconds=times[-1] - times[0],
        reason=_required_reason(shape.reason),
    )


def cancel(endpoint: Endpoint, question: Question, *, seconds: float) -> None:
    """Ask for a stream, and hang up at its first text.

    Raises:
        AnswerError: it ends before there is any.
    """
    shape = _Shape(question)
    with contextlib.closing(_streamed(endpoint, question, seconds)) as events:
        if not any(shape.take(document) for document in events):
            raise AnswerError("answers without any text", expected="content that is not empty")


def refusal(
    endpoint: Endpoint, body: bytes, *, content_type: str, seconds: float, key: Key = "own"
) -> Refusal:
    """How a chat request is answered that is not as it should be.

    The body is sent while no answer has come: who refuses it by its size alone may close early.

    Raises:
        AnswerError: no answer, or too late.
    """
    headers = {"Content-Type": content_type, "Content-Length": str(len(body))}
    headers |= _authorization(endpoint, key)
    with _connected(endpoint, _CHAT, seconds) as (connection, deadline):
        connection.putrequest("POST", _CHAT)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        sock = connection.sock
        _send_until_answered(sock, body, deadline)
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        return _refused(connection, deadline, endpoint)


def models_refusal(endpoint: Endpoint, *, seconds: float) -> Refusal:
    """How the list of models is answered to who has no key.

    Raises:
        AnswerError: no answer, or too late.
    """
    with _connected(endpoint, _MODELS, seconds) as (connection, deadline):
        connection.request("GET", _MODELS)
        return _refused(connection, deadline, endpoint)


def _refused(connection: _Connection, deadline: float, endpoint: Endpoint) -> Refusal:
    # The response takes the socket away from the connection where it is the last one.
    sock = connection.sock
    with connection.getresponse() as response:
        said = _Answer(sock, response, deadline).body()
        return Refusal(status=response.status, said=_told(said, endpoint))


def _send_until_answered(sock: socket.socket, body: bytes, deadline: float) -> None:
    for at in range(0, len(body), _SENT_BYTES):
        left = max(deadline - time.monotonic(), 0.001)
        readable, writable, _ = select.select([sock], [sock], [], left)
        if readable or not writable:
            return
        try:
            sock.sendall(body[at : at + _SENT_BYTES])
        except ConnectionError:
            # It has closed; what it said before may still be read.
            return


def _streamed(
    endpoint: Endpoint, question: Question, seconds: float
) -> Generator[Mapping[str, Any], None, None]:
    """The documents of a stream as they come."""
    with _exchange(endpoint, _CHAT, question.body(stream=True), seconds) as got:
        if not got.content_type.startswith("text/event-stream"):
            raise AnswerError(
                "does not stream", expected="text/event-stream", observed=got.content_type
            )
        yield from _events(got)


class _Shape:
    """Holds the chunks of one stream together: one id, the role first, one end."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._ids: set[object] = set()
        self._begun = False
        self.thoughts = False
        self.reason: object = None

    def take(self, document: Mapping[str, Any]) -> str:
        """The text of a chunk.

        Raises:
            AnswerError: it does not fit to those before.
        """
        self._ids.add(str(document.get("id")))
        if len(self._ids) > 1:
            observed = ", ".join(sorted(map(str, self._ids)))
            raise AnswerError("changes the id within a stream", observed=observed)
        _require_model(document, self._question)
        # The last chunk may tell the usage and have no choice.
        if document.get("choices") == [] and document.get("usage"):
            return ""
        choice = _choice(document)
        delta = choice.get("delta")
        return self._delta(choice, delta if isinstance(delta, dict) else {})

    def _delta(self, choice: Mapping[str, Any], delta: Mapping[str, Any]) -> str:
        if not self._begun and delta.get("role") != "assistant":
            raise AnswerError("does not begin its stream with the role", observed=json.dumps(delta))
        self._begun = True
        text = _text(delta)
        self.thoughts = self.thoughts or bool(delta.get(_THOUGHTS))
        if self.reason is not None and (text or choice.get("finish_reason")):
            raise AnswerError("goes on after the end of its answer", observed=json.dumps(choice))
        if choice.get("finish_reason") is not None:
            self.reason = choice["finish_reason"]
        return text


class _Connection(Watched, http.client.HTTPConnection):
    """What it reads has an end: status, headers and chunk sizes too, which no timeout bounds."""


class _Answer:
    """A response whose every read respects one deadline."""

    def __init__(
        self, sock: socket.socket, response: http.client.HTTPResponse, deadline: float
    ) -> None:
        self._sock = sock
        self._response = response
        self._deadline = deadline
        self._size = 0

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def content_type(self) -> str:
        return (self._response.getheader("Content-Type") or "").lower()

    def hurry(self, seconds: float) -> None:
        """Give the rest of it no longer than this."""
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives, until its end."""
        while not self._response.isclosed():
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise AnswerError("did not end its answer in time")
            self._sock.settimeout(left)
            piece = self._response.read1(64 * 1024)
            if not piece:
                if time.monotonic() >= self._deadline:
                    raise AnswerError("did not end its answer in time")
                # `read1` tells of a chunked body that was cut, and not of a counted one.
                if self._response.length:
                    raise AnswerError("broke off its answer")
                return
            self._size += len(piece)
            if self._size > _MAX_BODY_BYTES:
                raise AnswerError(f"answers with more than {_MAX_BODY_BYTES} bytes")
            yield piece

    def body(self) -> bytes:
        return b"".join(self.pieces())

    def lines(self) -> Iterator[bytes]:
        """The lines of an event stream, which may end in CR, LF or both."""
        rest, ended = b"", False
        for piece in self.pieces():
            # A CR ends its line at once; the LF that may follow it comes with the next piece.
            more = piece.removeprefix(b"\n") if ended else piece
            ended = more.endswith(b"\r")
            *whole, rest = _LINE_END.split(rest + more)
            yield from whole
            if len(rest) > _MAX_LINE_BYTES:
                raise AnswerError(f"streams a line of more than {_MAX_LINE_BYTES} bytes")
        yield rest


@contextmanager
def _connected(
    endpoint: Endpoint, path: str, seconds: float
) -> Iterator[tuple[_Connection, float]]:
    """A connection, and the moment by which all on it has to be over."""
    deadline = time.monotonic() + seconds
    connection = _Connection(endpoint.host, endpoint.port, timeout=seconds)
    with contextlib.closing(connection), _converted(path, seconds):
        yield connection, deadline


@contextmanager
def _exchange(
    endpoint: Endpoint, path: str, body: bytes | None, seconds: float
) -> Iterator[_Answer]:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    headers |= _authorization(endpoint)
    with _connected(endpoint, path, seconds) as (connection, deadline):
        connection.request("GET" if body is None else "POST", path, body=body, headers=headers)
        # The response takes the socket away from the connection where it is the last one.
        sock = connection.sock
        with connection.getresponse() as response:
            answer = _Answer(sock, response, deadline)
            if answer.status != http.client.OK:
                raise AnswerError(
                    f"answers {path} with an error",
                    expected="200",
                    observed=f"{answer.status} {_told(answer.body(), endpoint)}",
                )
            yield answer


@contextmanager
def _converted(path: str, seconds: float) -> Iterator[None]:
    """All that happens to an exchange, which has so many seconds as a whole."""
    deadline = time.monotonic() + seconds
    try:
        with deadlines.within(seconds):
            yield
    except TimeoutError as problem:
        raise _late(path, seconds) from problem
    except (OSError, http.client.HTTPException) as problem:
        if time.monotonic() >= deadline:
            raise _late(path, seconds) from problem
        observed = f"{type(problem).__name__} {problem}".strip()
        raise AnswerError(f"broke off its answer to {path}", observed=observed) from problem


def _late(path: str, seconds: float) -> AnswerError:
    return AnswerError(
        f"did not answer {path} within {seconds:g} s",
        hint="where this host was slow or busy, give it longer: limits.request_seconds of"
        " release.yaml, then run again",
    )


def _told(said: bytes, endpoint: Endpoint) -> str:
    """What an error says, without the key that came with the request."""
    return redaction.line(said.decode("utf-8", "replace"), endpoint.token)[:_SHOWN]


def _get(endpoint: Endpoint, path: str, seconds: float) -> Mapping[str, Any]:
    with _exchange(endpoint, path, None, seconds) as got:
        return _json(got.body())


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as problem:
        said = body[:_SHOWN].decode("utf-8", "replace")
        raise AnswerError("does not answer in JSON", observed=said) from problem
    if not isinstance(document, dict):
        raise AnswerError("answers something else than an object", observed=str(document)[:_SHOWN])
    if document.get("error"):
        raise AnswerError("answers an error", observed=json.dumps(document["error"]))
    return document


def _events(answer: _Answer) -> Iterator[Mapping[str, Any]]:
    """The documents of an event stream, which ends behind its end mark."""
    data: list[bytes] = []
    count = 0
    lines = answer.lines()
    for line in lines:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        if line or not data:
            continue
        event, data = b"\n".join(data), []
        if event == b"[DONE]":
            _require_end(answer, lines)
            return
        count += 1
        if count > _MAX_CHUNKS:
            raise AnswerError(f"streams more than {_MAX_CHUNKS} chunks")
        yield _json(event)
    raise AnswerError("ended its stream without an end mark", expected="data: [DONE]")


def _require_end(answer: _Answer, lines: Iterator[bytes]) -> None:
    answer.hurry(_CLOSING_SECONDS)
    try:
        more = next((line for line in lines if line.startswith(b"data:")), None)
    except (TimeoutError, AnswerError) as problem:
        raise AnswerError(
            "does not end its stream behind the end mark",
            expected=f"an end within {_CLOSING_SECONDS:g} s",
            hint="a client that reads a stream to its end waits for ever",
        ) from problem
    if more is not None:
        observed = more[:_SHOWN].decode("utf-8", "replace")
        raise AnswerError("goes on behind its end mark", observed=observed)


def _choice(document: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise AnswerError("answers without a choice", observed=json.dumps(document))
    choice: Mapping[str, Any] = choices[0]
    if choice.get("finish_reason") == "error":
        raise AnswerError("ended its answer with an error", observed=json.dumps(document))
    return choice


def _authorization(endpoint: Endpoint, key: Key = "own") -> dict[str, str]:
    if not endpoint.token or key == "none":
        return {}
    # Of the same form and length: only its last character is another.
    last = "A" if endpoint.token[-1] != "A" else "B"
    told = endpoint.token if key == "own" else f"{endpoint.token[:-1]}{last}"
    return {"Authorization": f"Bearer {told}"}


def _require_speaker(choice: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """An answer may leave out who says it and which of several it is; it may not be wrong."""
    told = said.get("role", "assistant"), choice.get("index", 0)
    if told != ("assistant", 0):
        raise AnswerError(
            "does not answer as the assistant",
            expected="role assistant, index 0",
            observed=f"role {told[0]}, index {told[1]}",
        )


def _require_model(document: Mapping[str, Any], question: Question) -> None:
    """An answer may leave its model out; it may not name another."""
    named = document.get("model", question.model)
    if named != question.model:
        raise AnswerError("answers as another model", expected=question.model, observed=str(named))


def _required_reason(reason: object) -> str:
    if not isinstance(reason, str) or reason not in _REASONS:
        raise AnswerError(
            "ends its answer without a reason",
            expected=" or ".join(_REASONS),
            observed=str(reason),
        )
    return reason


def _tokens(document: Mapping[str, Any]) -> int:
    usage = document.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or count <= 0:
        raise AnswerError("counts no tokens", expected="completion_tokens > 0", observed=str(usage))
    parts = [usage.get("prompt_tokens"), usage.get("total_tokens")] if usage else []
    if all(isinstance(part, int) for part in parts) and parts[0] + count != parts[1]:
        raise AnswerError(
            "adds its tokens up wrongly",
            expected=f"total_tokens {parts[0] + count}",
            observed=str(parts[1]),
        )
    return count


def _text(said: Mapping[str, Any]) -> str:
    content = said.get("content")
    return content if isinstance(content, str) else ""


def _required_text(text: str, *, thoughts: bool) -> str:
    if not text.strip() and thoughts:
        raise AnswerError(
            "answers with thoughts alone",
            expected="the text as the model wrote it, in content",
            observed=f"nothing but {_THOUGHTS}",
        )
    if not text.strip():
        raise AnswerError("answers without any text", expected="content that is not empty")
    return text
