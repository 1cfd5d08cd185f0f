"""The cautions of every HTTP request."""

from __future__ import annotations

import inspect
import io
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import urllib3

from release_tool import errors
from release_tool.services import addresses, http_client
from tests import scripted_server
from tests.scripted_server import Reply, ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server on loopback."""
    with scripted_server.running() as made:
        yield made


def _get(address: str, *, seconds: float = 5.0, limit: int = 1000) -> http_client.Answer:
    return http_client.exchange("GET", address, seconds=seconds, limit_bytes=limit)


def test_an_answer_is_read_whole_and_the_agent_is_named(server: ScriptedServer) -> None:
    """Status, headers and body come back; the request names itself and asks for plain bytes."""
    server.says(Reply(418, b"short and stout", {"X-Pot": "tea"}))
    answer = _get(server.url)
    assert (answer.status, answer.body) == (418, b"short and stout")
    assert answer.headers["x-pot"] == "tea"
    sent = server.requests[0].headers
    assert sent["user-agent"].startswith("release-tool/")
    assert sent["accept-encoding"] == "identity"


def test_a_redirect_is_an_answer_and_not_followed(server: ScriptedServer) -> None:
    """A 302 is handed back, and its target is never asked."""
    with scripted_server.running() as other:
        other.says(Reply())
        server.says(Reply(302, b"", {"Location": other.url}))
        assert _get(server.url).status == 302
        assert other.requests == []


def test_a_netrc_never_replaces_our_authorization(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header that we make is the header that arrives, whatever `.netrc` says."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr(addresses, "is_loopback", lambda _: False)
    monkeypatch.setenv("NO_PROXY", "*")
    server.says(Reply())
    http_client.exchange(
        "GET", server.url, seconds=5, limit_bytes=10, headers={"Authorization": "Bearer ours"}
    )
    assert server.requests[0].headers["authorization"] == "Bearer ours"


def test_no_proxy_stands_before_loopback(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies of the environment do not see what goes to this machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.says(Reply(200, b"direct"))
    assert _get(server.url).body == b"direct"


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_the_proxy_of_the_environment_is_asked_for_other_hosts(
    name: str, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not on this machine goes to the proxy, which learns the whole address."""
    for other in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, server.url)
    server.says(Reply(200, b"by proxy"))
    assert _get("http://outside.invalid/ts01").body == b"by proxy"
    assert server.requests[0].path == "http://outside.invalid/ts01"


def test_a_body_over_the_limit_is_refused(server: ScriptedServer) -> None:
    """A peer cannot fill the memory."""
    server.says(Reply(200, b"x" * 5000))
    with pytest.raises(errors.RemoteRefusedError):
        _get(server.url, limit=4999)
    assert len(_get(server.url, limit=5000).body) == 5000


def test_a_body_that_ends_early_is_a_passing_fault(server: ScriptedServer) -> None:
    """Fewer bytes than declared are never taken for the whole."""
    server.says(Reply(200, b"half", declared=8))
    with pytest.raises(errors.TransientError):
        _get(server.url)


def test_nobody_listening_is_a_passing_fault() -> None:
    """A refused connection says which address and why, without library internals."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(errors.TransientError) as caught:
        _get(address)
    assert "refused" in caught.value.observed
    assert " object at 0x" not in caught.value.observed


def test_a_body_that_drips_runs_out_of_time() -> None:
    """The budget holds for the whole answer, not only for each silence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dripping = threading.Thread(target=_drip, args=(listener,))
        dripping.start()
        started = time.monotonic()
        with pytest.raises(errors.TransientError):
            _get(f"http://127.0.0.1:{listener.getsockname()[1]}", seconds=0.6)
        assert time.monotonic() - started < 3
        dripping.join()


def _drip(listener: socket.socket) -> None:
    peer, _ = listener.accept()
    with peer:
        peer.recv(4096)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            for _ in range(30):
                peer.sendall(b"x")
                time.sleep(0.1)
        except OSError:
            return


def _classes(module: object, base: type[BaseException]) -> list[type[BaseException]]:
    found = [member for _, member in inspect.getmembers(module, inspect.isclass)]
    return [member for member in found if issubclass(member, base)]


@pytest.mark.parametrize(
    "foreign",
    [
        *_classes(requests.exceptions, requests.RequestException),
        *_classes(urllib3.exceptions, urllib3.exceptions.HTTPError),
    ],
    ids=lambda foreign: f"{foreign.__module__}.{foreign.__name__}",
)
def test_every_exception_of_the_libraries_is_caught(foreign: type[BaseException]) -> None:
    """Whatever requests or urllib3 raise on this road becomes one of ours."""
    problem = foreign.__new__(foreign)
    vars(problem).update(partial=0, expected=1, length=b"x")  # what some texts are made of
    assert isinstance(problem, Exception)
    ours = http_client.convert(problem, "https://cdn.example")
    assert isinstance(ours, errors.ReleaseError)
    with pytest.raises(type(ours)), http_client._converted("https://cdn.example"):
        raise problem


def test_a_certificate_that_does_not_hold_is_no_passing_fault() -> None:
    """A wrong certificate is exit 6: trying again would not make it right."""
    problem = requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")
    assert isinstance(http_client.convert(problem, "x"), errors.VerificationError)
    broken = requests.exceptions.SSLError("EOF occurred in violation of protocol")
    assert isinstance(http_client.convert(broken, "x"), errors.TransientError)


def test_what_was_never_sent_is_told_from_what_broke_off() -> None:
    """Nobody listens: nothing can have arrived. Cut behind the request, it may have."""
    with pytest.raises(http_client.NoConnectionError):
        _get("http://127.0.0.1:9/")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def end() -> None:
            listener.accept()[0].close()

        ending = threading.Thread(target=end)
        ending.start()
        with pytest.raises(errors.TransientError) as caught:
            _get(f"http://127.0.0.1:{port}/")
        ending.join()
    assert not isinstance(caught.value, http_client.NoConnectionError)


def test_a_wrong_address_is_a_usage_error() -> None:
    """What cannot be requested at all is not retried."""
    with pytest.raises(errors.UsageError):
        _get("gopher://127.0.0.1/")


def test_a_file_is_sent_as_it_is_read(server: ScriptedServer, tmp_path: Path) -> None:
    """The whole file with its length, in pieces that the reporter hears of."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 50_000)
    told: list[int] = []
    server.says(Reply(201))
    with path.open("rb") as source:
        body = http_client.FileBody(source, size=500_000, seconds=5, told=told.append)
        answer = http_client.exchange(
            "POST", server.url + "/x", seconds=5, limit_bytes=10, body=body
        )
    assert answer.status == 201
    assert server.requests[0].body == path.read_bytes()
    assert server.requests[0].headers["content-length"] == "500000"
    assert sum(told) == 500_000
    assert len(told) > 1


def test_sending_a_file_ends_in_time() -> None:
    """Time that is up ends the request as a fault in passing, whatever is left to send."""
    body = http_client.FileBody(io.BytesIO(b"x"), size=1, seconds=-1, told=lambda _: None)
    with pytest.raises(errors.TransientError, match="in time"):
        body.read()


@pytest.mark.parametrize("location", ["https://[", "//[::1", "http://a:99999999/"])
def test_the_address_of_a_redirect_is_not_looked_at(server: ScriptedServer, location: str) -> None:
    """One that no library can parse is an answer like any other; its body is bounded too."""
    server.says(Reply(302, b"x" * 100, {"Location": location}))
    answer = http_client.exchange("GET", server.url + "/x", seconds=5, limit_bytes=200)
    assert (answer.status, answer.headers["location"]) == (302, location)
    server.says(Reply(302, b"x" * 100, {"Location": "https://other.example/"}))
    with pytest.raises(errors.RemoteRefusedError, match="larger"):
        http_client.exchange("GET", server.url + "/x", seconds=5, limit_bytes=50)
