"""The chat interface, against a server that answers everything that a provider might."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.services import chat
from tests import scripted_server
from tests.scripted_server import Reply, ScriptedServer

QUESTION = chat.Question(model="m", prompt="Hello?", max_tokens=8)
EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}
DONE = "data: [DONE]\n\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with scripted_server.running() as made:
        yield made


def endpoint(server: ScriptedServer) -> chat.Endpoint:
    return chat.Endpoint(port=int(server.url.rpartition(":")[2]))


def answer(text: str | None, tokens: object = 3, **other: object) -> Reply:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    document = {"choices": [choice], "usage": {"completion_tokens": tokens}, **other}
    return Reply(body=json.dumps(document).encode())


def delta(text: str | None, reason: str | None = None, **other: object) -> str:
    choice = {"delta": {"role": "assistant", "content": text}, "finish_reason": reason}
    return f"data: {json.dumps({'id': 'x', 'choices': [choice], **other})}\n\n"


def test_a_plain_answer_is_read(server: ScriptedServer) -> None:
    """Text and tokens come back, and the request asked for a greedy answer."""
    server.says(answer("Paris."))
    found = chat.complete(endpoint(server), QUESTION, seconds=5)
    assert (found.text, found.tokens) == ("Paris.", 3)
    sent = server.requests[-1]
    assert sent.headers["content-type"] == "application/json"
    document = json.loads(sent.body)
    assert (document["temperature"], document["max_tokens"], document["stream"]) == (0, 8, False)
    assert document["messages"] == [{"role": "user", "content": "Hello?"}]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_stream_is_read(ending: str, server: ScriptedServer) -> None:
    """Pieces are joined in each line ending; comments, empty deltas and the usage are no text."""
    usage = f"data: {json.dumps({'id': 'x', 'choices': [], 'usage': {'completion_tokens': 4}})}\n\n"
    body = ": hello\n\n" + delta("") + delta("Par") + delta("is") + delta(None, "stop") + usage
    body += "data: [DONE]\n\n"
    server.says(Reply(body=body.replace("\n", ending).encode(), headers=EVENTS))
    found = chat.stream(endpoint(server), QUESTION, seconds=5)
    assert (found.text, found.tokens, found.counted) == ("Paris", 4, True)


def test_a_stream_without_usage_counts_its_pieces(server: ScriptedServer) -> None:
    """A provider that tells no usage in a stream still has told pieces."""
    body = delta("Par") + delta("is", "stop") + "data: [DONE]\n\n"
    server.says(Reply(body=body.encode(), headers=EVENTS))
    found = chat.stream(endpoint(server), QUESTION, seconds=5)
    assert (found.tokens, found.counted) == (2, False)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (answer(""), "without any text"),
        (answer(None), "without any text"),
        (answer("Paris", 0), "counts no tokens"),
        (answer("Paris", True), "counts no tokens"),
        (answer("Paris", None), "counts no tokens"),
        (answer("Paris", error={"message": "out of memory"}), "answers an error"),
        (Reply(body=b"[1]"), "something else than an object"),
        (Reply(body=b"[" * 100_000), "does not answer in JSON"),
        (Reply(body=b'{"choices": []}'), "without a choice"),
        (Reply(body=b'{"choices": [{"finish_reason": "error"}]}'), "with an error"),
        (Reply(status=500, body=b"no"), "answers /v1/chat/completions with an error"),
        (Reply(body=b"x" * (5 * 1024 * 1024)), "more than 4194304 bytes"),
        (Reply(body=b"{}", declared=10), "broke off"),
        (answer("Paris", model="another"), "answers as another model"),
        (
            answer("Paris", usage={"completion_tokens": 3, "prompt_tokens": 2, "total_tokens": 6}),
            "adds its tokens up wrongly",
        ),
        (
            answer("Paris", choices=[{"message": {"content": "Paris"}, "finish_reason": "tired"}]),
            "without a reason",
        ),
        (
            answer(
                "Paris",
                choices=[
                    {"message": {"role": "user", "content": "Paris"}, "finish_reason": "stop"}
                ],
            ),
            "does not answer as the assistant",
        ),
    ],
)
def test_an_answer_that_is_none_is_refused(
    reply: Reply, expected: str, server: ScriptedServer
) -> None:
    """A status of 200 proves nothing: each wrong answer is told by what is wrong."""
    server.says(reply)
    with pytest.raises(chat.AnswerError, match=expected):
        chat.complete(endpoint(server), QUESTION, seconds=5)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (delta("Paris"), "without an end mark"),
        (delta(None, "stop") + "data: [DONE]\n\n", "without any text"),
        (delta("Pa") + 'data: {"error": {"message": "no"}}\n\n', "answers an error"),
        (delta("Pa") + delta(None, "error"), "with an error"),
        (delta("Pa") + delta("ris", id="y"), "changes the id"),
        (delta("Pa", model="another"), "answers as another model"),
        (delta("Pa") + delta(None, "stop") + delta("ris"), "goes on after the end"),
        (delta("Pa") + delta(None, "stop") + delta(None, "stop"), "goes on after the end"),
        (delta("Paris") + "data: [DONE]\n\n", "without a reason"),
        ('data: {"choices": [{"delta": {"content": "Pa"}}]}\n\n', "begin its stream with the role"),
        (delta("Pa") + delta(None, "stop") + DONE + delta("ris"), "goes on behind its end mark"),
        ("data: Paris\n\n", "does not answer in JSON"),
        ("data: " + "x" * 300_000, "streams a line"),
    ],
)
def test_a_stream_that_fails_in_the_middle_is_refused(
    body: str, expected: str, server: ScriptedServer
) -> None:
    """An error inside a stream, a missing end and silence are failures."""
    server.says(Reply(body=body.encode(), headers=EVENTS))
    with pytest.raises(chat.AnswerError, match=expected):
        chat.stream(endpoint(server), QUESTION, seconds=5)


def test_a_cancelled_stream_is_left_at_its_first_text(server: ScriptedServer) -> None:
    """What comes after the first text is nobody's business any more; without any it is a fault."""
    server.says(Reply(body=(delta("") + delta("Par")).encode(), headers=EVENTS))
    chat.cancel(endpoint(server), QUESTION, seconds=5)
    server.says(Reply(body=(delta("") + "data: [DONE]\n\n").encode(), headers=EVENTS))
    with pytest.raises(chat.AnswerError, match="without any text"):
        chat.cancel(endpoint(server), QUESTION, seconds=5)


def test_a_refusal_is_told(server: ScriptedServer) -> None:
    """Status and words come back whatever they are, and the key goes along only where it should."""
    server.says(Reply(status=400, body=b"no"), Reply(status=200, body=b"yes"))
    with_key = chat.Endpoint(port=endpoint(server).port, token="dk-local-0")
    found = chat.refusal(with_key, b"{", content_type="text/plain", seconds=5)
    assert found == chat.Refusal(status=400, said="no")
    sent = server.requests[-1]
    assert (sent.body, sent.headers["content-type"]) == (b"{", "text/plain")
    assert sent.headers["authorization"] == "Bearer dk-local-0"
    found = chat.refusal(with_key, b"{", content_type="a/b", seconds=5, key="none")
    assert found.status == 200
    assert "authorization" not in server.requests[-1].headers
    server.says(Reply(status=401), Reply(status=401))
    chat.refusal(with_key, b"{", content_type="a/b", seconds=5, key="other")
    assert server.requests[-1].headers["authorization"] not in ("", "Bearer dk-local-0")
    assert chat.models_refusal(with_key, seconds=5).status == 401
    assert "authorization" not in server.requests[-1].headers
    assert "dk-local-0" not in repr(with_key)


def test_a_stream_must_be_one(server: ScriptedServer) -> None:
    """A plain answer to a request for a stream is refused."""
    server.says(answer("Paris"))
    with pytest.raises(chat.AnswerError, match="does not stream"):
        chat.stream(endpoint(server), QUESTION, seconds=5)


def test_a_late_answer_is_refused_in_time(server: ScriptedServer) -> None:
    """A server that takes the question and says nothing is left at the deadline."""

    def late(_: scripted_server.Request) -> Reply:
        time.sleep(1.0)
        return answer("Paris")

    server.says(late)
    start = time.monotonic()
    with pytest.raises(chat.AnswerError, match="did not answer") as caught:
        chat.complete(endpoint(server), QUESTION, seconds=0.2)
    assert time.monotonic() - start < 0.9
    assert "limits.request_seconds" in caught.value.hint


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_an_answer_that_trickles_is_left_at_the_deadline(begun: bytes) -> None:
    """A byte now and then, in the status, a header or a chunk's size, buys no time."""
    with dripping(begun) as port:
        listening = chat.Endpoint(port=port)
        start = time.monotonic()
        assert chat.health(listening, seconds=0.4) is None
        with pytest.raises(chat.AnswerError, match=r"did not (answer|end) .*"):
            chat.complete(listening, QUESTION, seconds=0.4)
        with pytest.raises(chat.AnswerError, match="did not"):
            chat.refusal(listening, b"{", content_type="application/json", seconds=0.4)
        # Left to itself, the server drips for ten times as long.
        assert time.monotonic() - start < 12


@contextmanager
def dripping(begun: bytes) -> Iterator[int]:
    """A server that begins an answer, and then says one byte each 0.1 s, 120 times."""

    def drip(taken: socket.socket) -> None:
        with taken, contextlib.suppress(OSError):
            taken.recv(65536)
            taken.sendall(begun)
            for _ in range(120):
                time.sleep(0.1)
                taken.sendall(b"0")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("status", [200, 400])
def test_an_echo_of_the_key_is_not_told(status: int, server: ScriptedServer) -> None:
    """A provider that repeats its request tells nobody the key, nor steers a terminal."""
    secret = "dk" + "0123456789abcdef"

    def echo(request: scripted_server.Request) -> Reply:
        said = {"error": {"message": f"\x1b]0;x\x07 {dict(request.headers)}"}}
        return Reply(status=status, body=json.dumps(said, ensure_ascii=False).encode())

    server.says(echo)
    keyed = dataclasses.replace(endpoint(server), token=secret)
    with pytest.raises(chat.AnswerError) as caught:
        chat.complete(keyed, QUESTION, seconds=5)
    refused = chat.refusal(keyed, b"{", content_type="application/json", seconds=5)
    assert server.requests[-1].headers["authorization"] == f"Bearer {secret}"
    for said in (caught.value.observed, refused.said):
        assert secret not in said
        assert "\x1b" not in said
        assert "[redacted]" in said or status == 200


def test_thoughts_alone_are_no_answer(server: ScriptedServer) -> None:
    """They are named, and what keeps them apart can be told of in the request."""
    message = {"role": "assistant", "content": None, "reasoning_content": "Hm."}
    choice = {"message": message, "finish_reason": "stop"}
    document = {"choices": [choice], "usage": {"completion_tokens": 3}}
    server.says(Reply(body=json.dumps(document).encode()))
    raw = dataclasses.replace(QUESTION, more={"reasoning_parser": "none"})
    with pytest.raises(chat.AnswerError, match="thoughts alone"):
        chat.complete(endpoint(server), raw, seconds=5)
    assert json.loads(server.requests[-1].body)["reasoning_parser"] == "none"


def test_health_is_patient(server: ScriptedServer) -> None:
    """Whatever is not `ok` means not yet; a version is told where there is one."""
    server.says(Reply(status=503), Reply(body=b'{"status": "ok", "version": "0.5.0"}'))
    assert chat.health(endpoint(server), seconds=5) is None
    assert chat.health(endpoint(server), seconds=5) == "0.5.0"
    server.says(Reply(body=b'{"status": "loading"}'))
    assert chat.health(endpoint(server), seconds=5) is None
    server.says(Reply(body=b'{"status": "ok"}'))
    assert chat.health(endpoint(server), seconds=5) == ""


def test_a_provider_without_a_model_is_refused(server: ScriptedServer) -> None:
    """A list of models that names none is no list."""
    server.says(Reply(body=b'{"data": [{"name": "x"}, 3]}'))
    with pytest.raises(chat.AnswerError, match="lists no model"):
        chat.models(endpoint(server), seconds=5)


@given(body=st.binary(max_size=300))
def test_any_bytes_end_in_one_error(body: bytes) -> None:
    """Whatever a provider sends, plain or streamed, the only error is ours."""
    with scripted_server.running() as server:
        for headers in ({}, EVENTS):
            server.says(Reply(body=body, headers=headers))
            ask = chat.stream if headers else chat.complete
            with pytest.raises(chat.AnswerError):
                ask(endpoint(server), QUESTION, seconds=5)
