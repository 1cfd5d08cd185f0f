"""The notary's client against an awkward script: each refusal with its advice, and no secret."""

from __future__ import annotations

import json
import socket
import struct
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.progress import Silent
from release_tool.services import retries
from release_tool.services.notary_api import NotaryAPI
from tests import scripted_server
from tests.scripted_server import Reply, Request, ScriptedServer
from tests.services import notary_script as script
from tests.services.notary_script import ID
from tests.services.test_notary_token import NOW

LOG = b'{"status": "Accepted"}'


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server.running() as made:
        yield made


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    """A host that no token may reach."""
    with scripted_server.running() as made:
        made.says(Reply(200, LOG))
        yield made


def _tokens(server: ScriptedServer) -> list[str]:
    return [request.headers.get("authorization", "") for request in server.requests]


def test_each_request_has_a_token_of_its_own(server: ScriptedServer, tmp_path: Path) -> None:
    """A token that is kept ends in 401 amid a long wait; ours is minted anew each time."""
    server.says(script.state("In Progress"))
    client = script.client(server.url, tmp_path)
    for _ in range(3):
        assert client.status(ID) == "In Progress"
    assert len(set(_tokens(server))) == 3
    assert all(token.startswith("Bearer ey") for token in _tokens(server))
    sent = server.requests[0]
    assert (sent.method, sent.path) == ("GET", f"/notary/v2/submissions/{ID}")
    assert sent.headers["accept"] == "application/json"
    assert sent.headers["user-agent"].startswith("release-tool/")


def test_a_submission_names_the_file_and_its_digest(
    server: ScriptedServer, other: ScriptedServer, tmp_path: Path
) -> None:
    """The POST carries name and digest as JSON; the archive goes to the store without a token."""
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"PK" * 100)
    server.says(script.created())
    other.says(Reply(200, b"", {"ETag": '"e"'}))
    client = script.client(server.url, tmp_path, upload_url=other.url)
    assert client.submit(archive, name="D.zip", sha256="a" * 64, reporter=Silent()) == ID
    sent = server.requests[0]
    assert (sent.method, sent.path) == ("POST", "/notary/v2/submissions")
    assert json.loads(sent.body) == {"submissionName": "D.zip", "sha256": "a" * 64}
    assert sent.headers["content-type"] == "application/json"
    (stored,) = other.requests
    assert stored.body == archive.read_bytes()
    assert stored.path == f"/{script.BUCKET}/{script.OBJECT}"
    assert "Bearer" not in stored.headers["authorization"]
    assert stored.headers["x-amz-security-token"] == script.SECRETS["awsSessionToken"]


STATUSES = ["Accepted", "In Progress", "Invalid", "Rejected", "Sleeping since Tuesday"]


@pytest.mark.parametrize("status", STATUSES)
def test_apples_word_is_passed_on(server: ScriptedServer, tmp_path: Path, status: str) -> None:
    """A word that is new to us comes as it is."""
    server.says(script.state(status))
    assert script.client(server.url, tmp_path).status(ID) == status


def test_the_history_tells_ids_names_and_times(server: ScriptedServer, tmp_path: Path) -> None:
    """Times are UTC; one that is none is left out and the entry stays."""
    server.says(script.history({}, {"created": "yesterday", "status": "Invalid"}))
    first, second = script.client(server.url, tmp_path).history()
    assert first.created == datetime(2026, 11, 24, 17, 2, 11, 98000, tzinfo=UTC)
    assert (second.created, second.status) == (None, "Invalid")


def test_a_401_is_tried_once_more_with_another_token(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """The first may have met a clock's edge; the second is a verdict."""
    server.says(script.refusal(401, "NOT_AUTHORIZED"), script.state("Accepted"))
    assert script.client(server.url, tmp_path).status(ID) == "Accepted"
    assert len(set(_tokens(server))) == 2
    server.says(script.refusal(401, "NOT_AUTHORIZED"))
    with pytest.raises(errors.CredentialError, match="refused the API key") as caught:
        script.client(server.url, tmp_path).status(ID)
    assert "APPLE_API_ISSUER_ID" in caught.value.hint
    assert len(server.requests) == 4


def _date(moment: float) -> str:
    return format_datetime(datetime.fromtimestamp(moment, UTC), usegmt=True)


@pytest.mark.parametrize(("offset", "text"), [(-900, "15 min ahead of"), (100, "100 s behind")])
def test_a_clock_that_differs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int, text: str
) -> None:
    """A 401 of a server that tells another time: the clock is to blame, exit 3."""
    answer = script.refusal(401, "NOT_AUTHORIZED")
    with scripted_server.running() as server:
        monkeypatch.setattr(
            "http.server.BaseHTTPRequestHandler.date_time_string",
            lambda *_: _date(NOW + offset),
        )
        server.says(answer)
        client = script.client(server.url, tmp_path)
        client.clock = lambda: NOW
        with pytest.raises(errors.HostError, match=text) as caught:
            client.status(ID)
    assert "clock" in caught.value.hint


FORBIDDEN = [
    (
        "FORBIDDEN.REQUIRED_AGREEMENTS_MISSING_OR_EXPIRED",
        errors.RemoteRefusedError,
        "Account Holder",
    ),
    ("FORBIDDEN.MISSING_PROVIDER", errors.CredentialError, "team"),
    ("FORBIDDEN_ERROR", errors.CredentialError, "role"),
    ("", errors.CredentialError, "role"),
]


@pytest.mark.parametrize(("code", "kind", "who"), FORBIDDEN)
def test_a_403_is_told_by_its_code(
    server: ScriptedServer,
    tmp_path: Path,
    code: str,
    kind: type[errors.ReleaseError],
    who: str,
) -> None:
    """One status with opposite remedies: who must act is named, and nothing is retried."""
    server.says(script.refusal(403, code, "a required agreement"))
    with pytest.raises(kind) as caught:
        script.client(server.url, tmp_path).history()
    assert who in caught.value.hint
    assert "a required agreement" in caught.value.observed
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (script.refusal(404, "NOT_FOUND", "no such submission"), errors.RemoteRefusedError, "404"),
        (script.refusal(409, "CONFLICT", "in use"), errors.RemoteRefusedError, "409 CONFLICT"),
        (script.refusal(400, "BAD", "name"), errors.RemoteRefusedError, "400 BAD name"),
        (script.refusal(422, "ENTITY_ERROR", "sha"), errors.RemoteRefusedError, "422"),
        (Reply(403, b"<html>forbidden</html>"), errors.CredentialError, "<html>forbidden"),
        (Reply(400, b"\xff\x00\x1b[31m"), errors.RemoteRefusedError, "400"),
    ],
)
def test_a_refusal_is_told_in_apples_words(
    server: ScriptedServer,
    tmp_path: Path,
    answer: Reply,
    kind: type[errors.ReleaseError],
    text: str,
) -> None:
    """No retry, the code and the text shown on one printable line."""
    server.says(answer)
    with pytest.raises(kind) as caught:
        script.client(server.url, tmp_path).status(ID)
    assert text in caught.value.observed
    assert caught.value.observed.isprintable()
    assert len(server.requests) == 1


PASSING = [
    script.refusal(500, "UNEXPECTED_ERROR"),
    Reply(502, b"<html>bad gateway</html>", {"Content-Type": "text/html"}),
    script.refusal(503, "SERVICE_UNAVAILABLE"),
    script.refusal(408, "TIMEOUT"),
    Reply(200, b"<html>sign in</html>", {"Content-Type": "text/html"}),
    Reply(200, b'{"data": {"id', {"Content-Type": "application/json"}),
    Reply(200, b"{}", {"Content-Type": "application/json"}, declared=5000),
    Reply(200, b"[" * 50_000, {"Content-Type": "application/json"}),
]


@pytest.mark.parametrize("answer", PASSING)
def test_what_passes_is_tried_again(server: ScriptedServer, tmp_path: Path, answer: Reply) -> None:
    """5xx, pages of an edge, cut and broken answers: again, and the third try counts."""
    server.says(answer, answer, script.state("Accepted"))
    assert script.client(server.url, tmp_path).status(ID) == "Accepted"
    server.says(answer)
    with pytest.raises(errors.TransientError):
        script.client(server.url, tmp_path).status(ID)


def test_a_service_that_is_not_there_is_given_up(tmp_path: Path) -> None:
    """Nobody listens: exit 5 after all tries, each behind a pause."""
    with scripted_server.running() as gone:
        url = gone.url
    slept: list[float] = []
    with pytest.raises(errors.TransientError, match="no answer"):
        script.client(url, tmp_path, slept=slept).status(ID)
    assert len(slept) == 2
    assert min(slept) > 0


def _reset(connection: socket.socket) -> None:
    """End a connection with a reset, not with an end of its data."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_connection_that_is_reset_is_tried_again(tmp_path: Path) -> None:
    """Two connections end in a reset; the third is answered, and that answer counts."""
    whole = json.dumps(
        {"data": {"id": ID, "attributes": {"name": "D.zip", "status": "Accepted"}}}
    ).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    answer += b"Content-Length: %d\r\n\r\n%s" % (len(whole), whole)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(2):
                _reset(listening.accept()[0])
            connection = listening.accept()[0]
            connection.recv(65_536)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        slept: list[float] = []
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert script.client(url, tmp_path, slept=slept).status(ID) == "Accepted"
        thread.join()
    assert len(slept) == 2


@pytest.mark.parametrize(
    ("asked", "least"), [("7", 7.0), ("999999", 300.0), ("soon", 0.0), ("-4", 0.0), ("", 0.0)]
)
def test_patience_is_as_long_as_apple_asks(
    server: ScriptedServer, tmp_path: Path, asked: str, least: float
) -> None:
    """`Retry-After` is kept within reason; anything else waits as ever."""
    slept: list[float] = []
    busy = script.refusal(429, "RATE_LIMIT_EXCEEDED", headers={"Retry-After": asked})
    server.says(busy, script.state("Accepted"))
    assert script.client(server.url, tmp_path, slept=slept).status(ID) == "Accepted"
    assert slept[0] >= least
    assert slept[0] <= max(least, 1.5)


def test_retry_after_may_be_a_date(server: ScriptedServer, tmp_path: Path) -> None:
    """The other form of RFC 9110."""
    slept: list[float] = []
    until = _date(datetime.now(UTC).timestamp() + 60)
    server.says(
        script.refusal(503, "BUSY", headers={"Retry-After": until}), script.state("Accepted")
    )
    script.client(server.url, tmp_path, slept=slept).status(ID)
    assert 50 < slept[0] <= 60


def test_all_tries_refused_for_patience_say_when_to_come_back(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Exit 5 with the seconds."""
    server.says(script.refusal(429, "RATE_LIMIT_EXCEEDED", headers={"Retry-After": "42"}))
    with pytest.raises(retries.BusyError) as caught:
        script.client(server.url, tmp_path).history()
    assert "42 s" in caught.value.hint
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_token_never_follows_a_redirect(
    server: ScriptedServer, other: ScriptedServer, tmp_path: Path, status: int
) -> None:
    """Refused by name; the other host sees no request."""
    server.says(Reply(status, b"", {"Location": f"{other.url}/notary"}))
    with pytest.raises(errors.RemoteRefusedError, match="redirect"):
        script.client(server.url, tmp_path).status(ID)
    assert other.requests == []


@pytest.mark.parametrize(
    "url", ["http://appstoreconnect.apple.com", "ftp://x", "https://u:p@x.com", "https://x/?a=b"]
)
def test_the_token_never_travels_in_the_clear(tmp_path: Path, url: str) -> None:
    """Plain http is for this machine only; a client for anything else is not even made."""
    with pytest.raises(errors.UsageError, match="notary_url"):
        script.client(url, tmp_path)


def test_a_body_that_echoes_the_token_shows_none(server: ScriptedServer, tmp_path: Path) -> None:
    """What stands before a service may repeat a request in its page."""

    def echo(request: Request) -> Reply:
        return Reply(400, f"you sent {request.headers['authorization']}".encode())

    server.says(echo)
    with pytest.raises(errors.RemoteRefusedError) as caught:
        script.client(server.url, tmp_path).status(ID)
    assert "you sent Bearer ..." in caught.value.observed
    assert "ey" not in caught.value.observed.replace("they", "")


@pytest.mark.parametrize(
    "answer",
    [
        script.reply(200, {"data": []}),
        script.reply(200, {"data": {"attributes": {}}}),
        script.reply(200, {"data": {"attributes": {"status": ""}}}),
        script.reply(200, {"data": {"attributes": {"status": "Accepted\nx"}}}),
        script.reply(200, {"data": {"attributes": {"status": 3}}}),
        script.reply(200, []),
        script.state("Accepted", "0b5c6f1e-2d5b-4b0e-9d2e-8a4f3b2c1de2"),
    ],
)
def test_another_shape_is_no_answer(server: ScriptedServer, tmp_path: Path, answer: Reply) -> None:
    """JSON that says something else is exit 6, not a guess."""
    server.says(answer)
    with pytest.raises(errors.VerificationError, match="cannot be read"):
        script.client(server.url, tmp_path).status(ID)


@pytest.mark.parametrize(
    "changed",
    [
        {"bucket": "../other"},
        {"bucket": ""},
        {"object": None},
        {"awsSessionToken": 5},
        {"awsSecretAccessKey": ""},
    ],
)
def test_credentials_of_another_shape_are_refused_untold(
    server: ScriptedServer, tmp_path: Path, changed: dict[str, object]
) -> None:
    """Nothing is uploaded, nothing is kept, and no error shows what came."""
    (tmp_path / "a.zip").write_bytes(b"PK")
    server.says(script.created(**changed))
    with pytest.raises(errors.VerificationError) as caught:
        script.client(server.url, tmp_path).submit(
            tmp_path / "a.zip", name="a", sha256="a" * 64, reporter=Silent()
        )
    shown = "".join(traceback.format_exception(caught.value))
    assert "unter2" not in shown
    assert not (tmp_path / ".notary").exists()


@pytest.mark.parametrize("submission_id", ["", "../../x", f"{ID}/logs", "0" * 36, f"{ID}\n"])
def test_an_id_that_is_none_never_reaches_an_address(
    server: ScriptedServer, tmp_path: Path, submission_id: str
) -> None:
    """Ids come from records and answers; only a UUID becomes a path."""
    with pytest.raises(errors.VerificationError):
        script.client(server.url, tmp_path).status(submission_id)
    assert server.requests == []


def test_the_log_is_fetched_without_the_token(
    server: ScriptedServer, other: ScriptedServer, tmp_path: Path
) -> None:
    """The presigned address gets no header of ours, and its answer comes as bytes."""
    server.says(script.log_at(f"{other.url}/log.json?X-Amz-Signature=hunter2"))
    assert script.client(server.url, tmp_path).log(ID) == LOG
    (asked,) = other.requests
    assert asked.path == "/log.json?X-Amz-Signature=hunter2"
    assert "authorization" not in asked.headers


def test_no_log_yet_is_none(server: ScriptedServer, tmp_path: Path) -> None:
    """404 before completion is not an error."""
    server.says(script.refusal(404, "NOT_FOUND", "submissionsLog"))
    assert script.client(server.url, tmp_path).log(ID) is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Reply(403, b"expired"), errors.TransientError),
        (Reply(404, b""), errors.TransientError),
        (Reply(503, b""), errors.TransientError),
        (Reply(200, b"x", declared=900), errors.TransientError),
        (Reply(302, b"", {"Location": "http://127.0.0.1:1/"}), errors.RemoteRefusedError),
        (Reply(400, b"hunter2"), errors.RemoteRefusedError),
        (Reply(200, b"x" * (16 * 1024 * 1024 + 1)), errors.RemoteRefusedError),
    ],
)
def test_a_log_that_does_not_come_is_told_without_its_address(
    server: ScriptedServer,
    other: ScriptedServer,
    tmp_path: Path,
    answer: Reply,
    kind: type[errors.ReleaseError],
) -> None:
    """The address is a secret: neither the error nor its traceback holds it."""
    other.says(answer)
    server.says(script.log_at(f"{other.url}/hunter2-path?X-Amz-Signature=hunter2"))
    with pytest.raises(kind) as caught:
        script.client(server.url, tmp_path).log(ID)
    shown = "".join(traceback.format_exception(caught.value)) + json.dumps(caught.value.as_json())
    assert "hunter2" not in shown


REMOTE = "https://appstoreconnect.apple.com"
LOG_ADDRESSES = [
    ("https://osxapps-ssl.itunes.apple.com/log.json?accessKey=1", True),
    ("https://notary-artifacts-prod.s3.us-west-2.amazonaws.com/log.json?X-Amz-Expires=1", True),
    ("https://osxapps-ssl.itunes.apple.com:443/log.json", True),
    ("http://osxapps-ssl.itunes.apple.com/log.json", False),
    ("https://osxapps-ssl.itunes.apple.com:8443/log.json", False),
    ("https://evilapple.com/log.json", False),
    ("https://apple.com.evil.example/log.json", False),
    ("https://user:hunter2@x.apple.com/log.json", False),
    ("https://169.254.169.254/latest/meta-data", False),
    ("https://127.0.0.1/log.json", False),
    ("http://localhost:8080/log.json", False),
    ("https://[::1]/log.json", False),
    ("file:///etc/passwd", False),
    ("gopher://x.apple.com/", False),
    ("https://x.apple.com:99999/", False),
    ("//x.apple.com/log.json", False),
    ("https://x.apple.com/\u202e", False),
    ("https://evil.example\\.apple.com/log.json", False),
    ("https://evil.example[x.apple.com]/log.json", False),
]


@pytest.mark.parametrize(("address", "good"), LOG_ADDRESSES)
def test_logs_are_fetched_where_apple_keeps_them(tmp_path: Path, address: str, good: bool) -> None:
    """An answer cannot send this host to another one, to itself or to a file."""
    client = script.client(REMOTE, tmp_path)
    if good:
        client._judge_log_address(address)
        return
    with pytest.raises(errors.VerificationError) as caught:
        client._judge_log_address(address)
    assert "hunter2" not in "\n".join(caught.value.lines())


def test_nothing_about_a_client_shows_a_secret(tmp_path: Path) -> None:
    """Its repr names the addresses only."""
    client: NotaryAPI = script.client(REMOTE, tmp_path)
    assert "PRIVATE" not in repr(client)
    assert "2X9R4HXF34" not in repr(client)
