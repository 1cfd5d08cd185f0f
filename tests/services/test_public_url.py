"""The public address as the world sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from release_tool import errors
from release_tool.progress import Silent
from release_tool.services import public_url, retries
from tests import scripted_server
from tests.scripted_server import Reply, ScriptedServer

CONTENT = bytes(range(256)) * 5000


class _Counting(Silent):
    def __init__(self) -> None:
        self.seen = 0

    def advance(self, task: str, count_bytes: int) -> None:
        self.seen += count_bytes


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server on loopback."""
    with scripted_server.running() as made:
        yield made


def _read(
    address: str, *, limit: int = 10_000_000, reporter: Silent | None = None
) -> public_url.Served | None:
    return public_url.read(
        address,
        limit_bytes=limit,
        seconds=10,
        reporter=reporter or Silent(),
        policy=retries.Policy(attempts=3, sleep=lambda _: None),
    )


def test_what_is_served_is_hashed_and_counted(server: ScriptedServer) -> None:
    """The digest and the size of exactly the bytes that travelled, told as they pass."""
    server.says(Reply(200, CONTENT))
    reporter = _Counting()
    served = _read(server.url + "/releases/x", reporter=reporter)
    expected = hashlib.sha256(CONTENT).hexdigest()
    assert served == public_url.Served(sha256=expected, size=len(CONTENT))
    assert reporter.seen == len(CONTENT)
    assert server.requests[0].headers["user-agent"].startswith("release-tool/")


def test_nothing_there_is_none(server: ScriptedServer) -> None:
    """404 is an answer of its own."""
    server.says(Reply(404))
    assert _read(server.url) is None


@pytest.mark.parametrize(
    "reply",
    [
        Reply(302, b"", {"Location": "https://elsewhere.example/x"}),
        Reply(403, b"error code: 1010"),
        Reply(206, CONTENT),
        Reply(200, CONTENT, {"Content-Encoding": "gzip"}),
    ],
)
def test_anything_but_the_plain_file_is_refused(server: ScriptedServer, reply: Reply) -> None:
    """Redirects, refusals, parts and re-encoded bodies are not what was stored."""
    server.says(reply)
    with pytest.raises(errors.RemoteRefusedError):
        _read(server.url)
    assert len(server.requests) == 1


def test_an_edge_that_says_when_to_come_back_is_believed(server: ScriptedServer) -> None:
    """`Retry-After`, in seconds, is the least of the pause."""
    pauses: list[float] = []
    server.says(Reply(429, b"", {"Retry-After": "9"}), Reply(200, CONTENT))
    policy = retries.Policy(attempts=3, sleep=pauses.append)
    served = public_url.read(
        server.url, limit_bytes=10_000_000, seconds=10, reporter=Silent(), policy=policy
    )
    assert served
    assert [pause >= 9 for pause in pauses] == [True]


def test_a_body_over_the_cap_is_refused(server: ScriptedServer) -> None:
    """Reading stops at the cap."""
    server.says(Reply(200, CONTENT))
    with pytest.raises(errors.RemoteRefusedError):
        _read(server.url, limit=len(CONTENT) - 1)


def test_passing_faults_are_tried_again(server: ScriptedServer) -> None:
    """429, 503 and a broken body, then the file."""
    server.says(Reply(429), Reply(503), Reply(200, CONTENT))
    assert _read(server.url) is not None
    server.says(Reply(200, CONTENT[:10], declared=20))
    with pytest.raises(errors.TransientError):
        _read(server.url)
