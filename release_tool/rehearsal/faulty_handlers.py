"""Handlers of the stand-in's server that are each broken in one way, for `standin_faults`."""

# ruff: noqa: ARG002, D101, N802 - each overrides one method of `Handler`, and its name says how

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from release_tool.rehearsal.standin_engine import Piece
from release_tool.rehearsal.standin_server import BadRequestError, Handler, Question, delta

_LONG_SECONDS = 3600
_SLOW_SECONDS = 0.5
_DRIP_SECONDS = 0.3


def hang(*_: object) -> NoReturn:
    """Never come back."""
    while True:
        time.sleep(_LONG_SECONDS)


# Its first answers.


class Loading(Handler):
    def health(self) -> dict[str, Any]:
        return {**super().health(), "status": "loading"}


class OtherHealth(Handler):
    def health(self) -> dict[str, Any]:
        return {**super().health(), "version": "0.0.1"}


class HealthWithoutVersion(Handler):
    def health(self) -> dict[str, Any]:
        return {"status": "ok"}


class PageForHealth(Handler):
    def do_GET(self) -> None:
        self.send_bytes(200, b"<html>ok</html>", "text/html")


class OtherModel(Handler):
    def listed(self) -> list[dict[str, Any]]:
        return [{**super().listed()[0], "id": "another/model"}]


class NoModel(Handler):
    def listed(self) -> list[dict[str, Any]]:
        return []


class NeedsKey(Handler):
    def is_let_in(self) -> bool:
        return False


class OpenToAll(Handler):
    def is_let_in(self) -> bool:
        return True


class AnyKey(Handler):
    """Whatever has the form of one."""

    def is_let_in(self) -> bool:
        wanted = f"Bearer {self.manner.token}"
        return len(self.headers.get("Authorization", "")) == len(wanted)


class OpenModels(Handler):
    def is_let_in(self) -> bool:
        return self.command == "GET" or super().is_let_in()


# Its answers.


class Mute(Handler):
    def pieces(self, question: Question) -> Iterator[Piece]:
        return iter(())


class Blank(Handler):
    def pieces(self, question: Question) -> Iterator[Piece]:
        return (piece.saying(" ") for piece in super().pieces(question))


class Thinking(Handler):
    """No fault: a model that thinks, whose thoughts stand apart unless they are asked for."""

    raw = False

    def question(self) -> Question:
        asked = super().question()
        self.raw = asked.is_raw
        return asked

    def said(self, text: str) -> dict[str, Any]:
        return super().said(text) if self.raw else {"content": None, "reasoning_content": text}


class OnlyThinking(Thinking):
    def said(self, text: str) -> dict[str, Any]:
        return {"content": None, "reasoning_content": text}


class DripHead(Handler):
    """Never silent for long, and never done with its headers."""

    def do_POST(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            self.wfile.write(b"a")
            time.sleep(_DRIP_SECONDS)


class DripSize(Handler):
    """Never done with saying how long the next chunk is."""

    def event(self, document: Mapping[str, Any]) -> None:
        while True:
            self.wfile.write(b"0")
            time.sleep(_DRIP_SECONDS)


class SlowFirst(Handler):
    """Right, and late with its first text."""

    def pieces(self, question: Question) -> Iterator[Piece]:
        time.sleep(_SLOW_SECONDS)
        yield from super().pieces(question)


class Diverging(Handler):
    at = 1

    def diverges(self, question: Question) -> bool:
        return True

    def pieces(self, question: Question) -> Iterator[Piece]:
        found = super().pieces(question)
        if not self.diverges(question):
            return found
        return (p.saying(f"!{p.text}") if p.count == self.at else p for p in found)


class DivergingLate(Diverging):
    at = 5


class DivergingStream(Diverging):
    def diverges(self, question: Question) -> bool:
        return question.stream


class DivergingLong(Diverging):
    """Right for as long as most tests ask."""

    at = 20


class DivergingPlainLong(DivergingLong):
    def diverges(self, question: Question) -> bool:
        return not question.stream


class DivergingToKey(Handler):
    """It tells a key, as one that echoes its log would."""

    def pieces(self, question: Question) -> Iterator[Piece]:
        key = " Bearer dk-local-not-a-real-secret"
        return (p.saying(key) if p.count > 2 else p for p in super().pieces(question))


class StopsEarly(Handler):
    """It says four tokens, and counts all that were asked for."""

    def pieces(self, question: Question) -> Iterator[Piece]:
        return (p.saying("") if p.count > 4 else p for p in super().pieces(question))


class UserRole(Handler):
    def completion(self, text: str, last: Piece) -> dict[str, Any]:
        found = super().completion(text, last)
        found["choices"][0]["message"]["role"] = "user"
        return found


class Mixed(Handler):
    """Two answers at once get each other's words."""

    busy: list[int] = []  # noqa: RUF012 - shared by all requests, as the fault is

    def pieces(self, question: Question) -> Iterator[Piece]:
        self.busy.append(1)
        try:
            for piece in super().pieces(question):
                yield piece.saying(f"~{piece.text}") if len(self.busy) > 1 else piece
        finally:
            self.busy.pop()


class OneAtATime(Handler):
    lock = threading.Lock()

    def question(self) -> Question:
        if not self.lock.acquire(blocking=False):
            raise BadRequestError(503, "busy")
        return super().question()

    def handle(self) -> None:
        try:
            super().handle()
        finally:
            with contextlib.suppress(RuntimeError):
                self.lock.release()


class Crash(Handler):
    def question(self) -> Question:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().question()


class HangAnswer(Handler):
    def question(self) -> Question:
        hang()


class Stall(Handler):
    def pieces(self, question: Question) -> Iterator[Piece]:
        for piece in super().pieces(question):
            yield piece
            if piece.count > 1:
                hang()


class Stop(Handler):
    """It is there and does nothing, as under a debugger."""

    def question(self) -> Question:
        os.kill(os.getpid(), signal.SIGSTOP)
        return super().question()


class ErrorInside(Handler):
    def completion(self, text: str, last: Piece) -> dict[str, Any]:
        return {"error": {"message": "out of memory", "type": "server_error"}}


class BrokenJson(Handler):
    def send_document(self, status: int, document: Mapping[str, Any]) -> None:
        if "choices" in document:
            self.send_bytes(status, b'{"choices": [', "application/json")
        else:
            super().send_document(status, document)


class CutJson(Handler):
    def send_header(self, keyword: str, value: str) -> None:
        more = keyword == "Content-Length" and self.command == "POST"
        super().send_header(keyword, str(int(value) + 10) if more else value)


class NoEndReason(Handler):
    def completion(self, text: str, last: Piece) -> dict[str, Any]:
        found = super().completion(text, last)
        found["choices"][0]["finish_reason"] = None
        return found


class WrongEndReason(Handler):
    def completion(self, text: str, last: Piece) -> dict[str, Any]:
        found = super().completion(text, last)
        found["choices"][0]["finish_reason"] = "stop"
        return found


class ForeignAnswer(Handler):
    def head(self, kind: str) -> dict[str, Any]:
        return {**super().head(kind), "model": "another/model"}


class Usage(Handler):
    change: Mapping[str, int] = {}

    def usage(self, last: Piece) -> dict[str, int]:
        found = super().usage(last)
        return {key: max(count + self.change.get(key, 0), 0) for key, count in found.items()}


class UsageZero(Usage):
    change = {"completion_tokens": -(10**6), "total_tokens": -(10**6)}  # noqa: RUF012


class UsageMore(Usage):
    change = {"completion_tokens": 3, "total_tokens": 3}  # noqa: RUF012


class UsageSum(Usage):
    change = {"total_tokens": 1}  # noqa: RUF012


class Endless(Handler):
    """No limit holds it."""

    def question(self) -> Question:
        found = super().question()
        found.max_tokens += 7
        return found


# Its streams.


class Stream(Handler):
    """Changes single events of a stream."""

    sent = 0

    def event(self, document: Mapping[str, Any]) -> None:
        self.sent += 1
        for one in self.events(dict(document), self.sent):
            super().event(one)

    def events(self, document: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
        yield document


class NoEndMark(Handler):
    def chunk(self, data: bytes) -> None:
        if data != b"data: [DONE]\n\n":
            super().chunk(data)


class ErrorInStream(Handler):
    def pieces(self, question: Question) -> Iterator[Piece]:
        for piece in super().pieces(question):
            if question.stream and piece.count > 2:
                error = {"message": "out of memory", "type": "server_error"}
                self.event({"error": error})
            yield piece


class OtherIds(Stream):
    def events(self, document: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
        yield {**document, "id": f"chatcmpl-{number}"}


class NoRole(Handler):
    def first_delta(self) -> dict[str, str]:
        return {"content": ""}


class NoEndChunk(Handler):
    def end_stream(self, question: Question, head: Mapping[str, Any], last: Piece) -> None:
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")


class TextAfterEnd(Handler):
    def end_stream(self, question: Question, head: Mapping[str, Any], last: Piece) -> None:
        self.event({**head, "choices": [delta({}, last.reason or "stop")]})
        self.event({**head, "choices": [delta({"content": "more"}, None)]})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")


class OnePiece(Handler):
    def pieces(self, question: Question) -> Iterator[Piece]:
        found = list(super().pieces(question))
        return iter([found[-1].saying("".join(piece.text for piece in found))])


class Burst(Handler):
    """A stream of what was all there before."""

    def pieces(self, question: Question) -> Iterator[Piece]:
        return iter(list(super().pieces(question)))


class NeverCloses(Handler):
    def chunk(self, data: bytes) -> None:
        if not data:
            hang()
        super().chunk(data)


class TextAfterMark(Handler):
    def end_stream(self, question: Question, head: Mapping[str, Any], last: Piece) -> None:
        self.event({**head, "choices": [delta({}, self.reason(last))]})
        self.chunk(b"data: [DONE]\n\n")
        self.event({**head, "choices": [delta({"content": "of another answer"}, None)]})
        self.chunk(b"")


class StreamAsJson(Handler):
    def send_header(self, keyword: str, value: str) -> None:
        is_stream = value == "text/event-stream"
        super().send_header(keyword, "application/json" if is_stream else value)


class PlainForStream(Handler):
    def stream(self, question: Question) -> None:
        self.complete(question)


class CrashOnCancel(Handler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401
        super().log_message(format, *args)
        if "cancelled" in format:
            os.kill(os.getpid(), signal.SIGSEGV)


class DeafAfterCancel(Handler):
    """The answer that nobody wants any more holds the engine for ever."""

    stuck = threading.Event()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401
        super().log_message(format, *args)
        if "cancelled" in format:
            self.stuck.set()

    def pieces(self, question: Question) -> Iterator[Piece]:
        if self.stuck.is_set():
            hang()
        return super().pieces(question)


# What it refuses.


class FailOnMalformed(Handler):
    status = 500

    def refuse(self, problem: BadRequestError) -> None:
        if problem.status in (400, 404):
            problem.status = self.status
        super().refuse(problem)


class AcceptMalformed(FailOnMalformed):
    status = 200


class HangOnMalformed(Handler):
    def refuse(self, problem: BadRequestError) -> None:
        if problem.status == 400:
            hang()
        super().refuse(problem)


class CrashOnMalformed(Handler):
    def refuse(self, problem: BadRequestError) -> None:
        if problem.status == 400:
            os.kill(os.getpid(), signal.SIGABRT)
        super().refuse(problem)


class AnyType(Handler):
    def refuse(self, problem: BadRequestError) -> None:
        if problem.status == 415:
            problem.status = 200
        super().refuse(problem)


class FailOnLarge(Handler):
    def refuse(self, problem: BadRequestError) -> None:
        if problem.status == 413:
            problem.status = 507
        super().refuse(problem)


class CrashOnLarge(Handler):
    def refuse(self, problem: BadRequestError) -> None:
        if problem.status == 413:
            os.kill(os.getpid(), signal.SIGKILL)
        super().refuse(problem)


class DeafOnLarge(Handler):
    """It closes without a word."""

    def refuse(self, problem: BadRequestError) -> None:
        if problem.status == 413:
            self.close_connection = True
            return
        super().refuse(problem)
