"""A credential goes to the configured host alone, and comes back in no text.

Proved for every call of every client: the table in `service_calls` is compared with the code.
"""

from __future__ import annotations

import ast
import base64
import html
import inspect
import json
import socket
import threading
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

import release_tool.services
from release_tool import errors
from release_tool.progress import Silent
from release_tool.services import (
    addresses,
    covering,
    github_storage,
    http_client,
    multipart_upload,
    notary_store,
    public_url,
    retries,
    s3_client,
)
from release_tool.services.coordinator import Coordinator
from release_tool.services.github import GitHub
from release_tool.services.github_issues import Issues
from release_tool.services.github_public import PublicReleases
from release_tool.services.github_runs import Runs
from release_tool.services.hub import Hub
from release_tool.services.notary_api import NotaryAPI
from release_tool.services.object_store import ObjectStore
from release_tool.services.stapler import TicketService
from release_tool.services.timestamp import TimestampService
from tests.scripted_server import Reply, Request, ScriptedServer
from tests.services import service_calls
from tests.services.service_calls import CALLS, SECRETS, Call, Clients

World = tuple[ScriptedServer, ScriptedServer, Clients]
NAMES = [call.name for call in CALLS]
each_call = pytest.mark.parametrize("call", CALLS, ids=NAMES)


@pytest.fixture(scope="module")
def module_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with service_calls.living(tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.fixture
def world(module_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The clients, on a host whose `.netrc` knows a password for every machine."""
    ours, other, clients = module_world
    ours.requests.clear()
    other.requests.clear()
    other.says(Reply())
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password of-the-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    return ours, other, clients


# The table is whole.


def test_every_call_of_every_client_is_in_the_table() -> None:
    """A public method that is added to a client is missing here until it is proved."""
    classes = (
        *(Coordinator, GitHub, Hub, Issues, NotaryAPI, Runs),
        *(ObjectStore, PublicReleases, TicketService, TimestampService),
    )
    inner = (multipart_upload.MultipartUpload, notary_store.Sender)
    found = {
        f"{one.__name__}.{name}"
        for one in (*classes, *inner)
        for name, member in vars(one).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    # It looks into a folder of this host.
    assert found - {"NotaryAPI.is_begun"} | {public_url.read.__name__} == set(NAMES)


def test_no_other_module_speaks_to_a_host() -> None:
    """Who imports a client of HTTP or a socket is known; the table covers each."""
    speaking = {"http_client", "s3_client", "requests", "urllib3", "boto3", "http", "socket"}
    folder = Path(release_tool.services.__file__).parent
    found = {path.stem for path in folder.glob("*.py") if speaking & set(_imported(path))}
    assert found == {
        # In the table.
        *("coordinator", "github", "github_issues", "github_storage", "notary_api"),
        "github_public",
        *("hub", "hub_download"),
        *("notary_store", "object_store", "public_url", "stapler", "timestamp"),
        # What they are built on; shapes of answers alone.
        *("deadlines", "http_client", "s3_client", "object_store_calls"),
        *("coordinator_refusals", "github_errors", "hub_errors", "notary_errors"),
        # Loopback alone, and no secret: the provider under test.
        *("chat", "provider", "candidate_server"),
    }


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]
            yield node.module.rpartition(".")[2]
            yield from (alias.name for alias in node.names)


# Where a credential goes.

REDIRECTS = (301, 302, 303, 307, 308)
TARGETS: tuple[Callable[[str, str], str], ...] = (
    lambda there, said: f"{there}/taken?{said}",
    lambda there, said: f"{there.replace('127.0.0.1', 'localhost')}/taken?{said}",
    lambda there, said: f"{there.removeprefix('http:')}/taken?{said}",
    lambda there, said: f"{there.replace('http:', 'https:')}/taken?{said}",
    lambda _, said: f"/taken?{said}",
    lambda _, said: f"taken?{said}",
    lambda there, said: f"{there.replace('//', f'//{said}@')}/taken",
)


@each_call
def test_no_credential_follows_a_redirect(call: Call, world: World) -> None:
    """Whatever the status and wherever it leads, nobody else is asked, and the error is silent."""
    ours, other, clients = world
    for number, target in enumerate(TARGETS):
        status = REDIRECTS[number % len(REDIRECTS)]

        def redirect(request: Request, target: object = target, status: int = status) -> Reply:
            assert callable(target)
            said = urllib.parse.quote(_sent(request))
            location = target(other.url, f"token={said}")
            return Reply(status, _echoed(request), _told(location))

        ours.says(redirect)
        problem = service_calls.attempt(call, clients)
        if problem is not None:
            _assert_silent(problem)
    assert ours.requests
    assert all("taken" not in request.path for request in ours.requests)
    _assert_sent(call, ours.requests)
    for request in other.requests:
        assert call.follows
        assert not _sent(request)
        assert not _leaks(f"{request.path} {request.headers}", ours.requests)


def _told(location: str) -> dict[str, str]:
    # The last two are what S3 tells a client that came to the wrong region.
    return {
        "Location": location,
        "Set-Cookie": "session=of-the-server; Path=/",
        "x-amz-bucket-region": "eu-central-1",
    }


def _sent(request: Request) -> str:
    return request.headers.get("authorization", "")


def _assert_sent(call: Call, requests: list[Request]) -> None:
    """The credential that was meant, and neither a password of the `.netrc` nor a cookie."""
    for request in requests:
        assert _sent(request).partition(" ")[0] == call.sends
        assert "cookie" not in request.headers


# What comes back.

STATUSES = (200, 400, 401, 403, 404, 409, 412, 422, 429, 500, 503)


def _echoed(request: Request) -> bytes:
    """Everything that was sent, in several spellings, as careless gateways answer."""
    told = {name: value for name, value in request.headers.items() if name != "host"}
    sent = _sent(request)
    pieces = [
        sent,
        request.headers.get("x-amz-security-token", ""),
        repr(told),
        urllib.parse.quote(sent),
        sent.encode().hex(),
        base64.b64encode(f"Authorization: {sent}".encode()).decode(),
    ]
    return " ".join(pieces).encode()


BODIES: tuple[Callable[[str], tuple[str, str]], ...] = (
    lambda said: (said, "text/html"),
    lambda said: (json.dumps({"error": {"type": "unauthorized", "message": said}}), "text/json"),
    lambda said: (json.dumps({"message": said, "errors": [{"message": said}]}), "application/json"),
    lambda said: (json.dumps({"errors": [{"code": said, "detail": said}]}), "application/json"),
    lambda said: (
        f"<Error><Code>SignatureDoesNotMatch</Code><Message>{said}</Message></Error>",
        "application/xml",
    ),
    lambda said: (json.dumps({"data": {"attributes": {"status": said}, "id": said}}), said),
    lambda said: (json.dumps({"records": [{"serverErrorCode": said}], "status": said}), "x/json"),
    # As encoders escape that choose for themselves, before readers undo it.
    lambda said: (_in_json(said).replace("+", "\\u002b").replace("&", "\\u0026"), "text/json"),
    lambda said: (_in_json(said).replace("/", "\\/"), "text/json"),
    lambda said: ("".join(f"&#{ord(mark)};" for mark in said), "text/html"),
    lambda said: (
        "<?xml version='1.0'?><Error><Code>AccessDenied</Code>"
        f"<Message>{''.join(f'&#x{ord(mark):X};' for mark in said)}</Message></Error>",
        "application/xml",
    ),
    # An entity of the document's own stands within the secrets, where no spelling has one.
    lambda said: (
        "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e 'CANARY'><!ENTITY s 'ignature='>]>"
        "<Error><Code>AccessDenied</Code><Message>"
        f"{html.escape(said).replace('CANARY', '&e;').replace('ignature=', '&s;')}"
        "</Message></Error>",
        "application/xml",
    ),
)


def _in_json(said: str) -> str:
    return json.dumps(
        {
            "error": {"type": "unauthorized", "message": said},
            "message": said,
            "errors": [{"code": said, "detail": said, "message": said}],
        }
    )


@each_call
def test_no_error_shows_a_credential_that_a_server_echoes(call: Call, world: World) -> None:
    """Pages, JSON, XML, content types, reasons: what is shown and recorded holds no secret."""
    ours, _, clients = world
    for number, status in enumerate(STATUSES):
        ours.requests.clear()
        body = BODIES[number % len(BODIES)]
        _ask(call, ours, clients, status, body)
        _ask(call, ours, clients, 502, body)
    for body in BODIES[len(STATUSES) :]:
        _ask(call, ours, clients, 400, body)


@each_call
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-be"])
def test_no_error_shows_a_credential_in_another_encoding(
    call: Call, encoding: str, world: World
) -> None:
    """Readers of JSON and XML find the encoding out by themselves."""
    ours, _, clients = world
    for body in (_in_json, lambda said: f"<Error><Message>{html.escape(said)}</Message></Error>"):

        def echo(request: Request, body: Callable[[str], str] = body) -> Reply:
            return Reply(400, body(_echoed(request).decode()).encode(encoding))

        ours.says(echo)
        problem = service_calls.attempt(call, clients)
        if problem is not None:
            _assert_silent(problem, ours.requests)


def _ask(
    call: Call,
    ours: ScriptedServer,
    clients: Clients,
    status: int,
    body: Callable[[str], tuple[str, str]],
) -> None:
    def echo(request: Request) -> Reply:
        said, kind = body(_echoed(request).decode())
        return Reply(status, said.encode(), {"Content-Type": kind, "Retry-After": "0"})

    ours.says(echo)
    problem = service_calls.attempt(call, clients)
    if problem is not None:
        _assert_silent(problem, ours.requests)


def _assert_silent(problem: errors.ReleaseError, requests: list[Request] | None = None) -> None:
    """Neither the error nor a traceback of it shows a secret."""
    shown = [
        *problem.lines(),
        repr(problem),
        json.dumps(problem.as_json()),
        "".join(traceback.format_exception(problem)),
    ]
    assert not _leaks("\n".join(shown), requests or [])


def _leaks(text: str, requests: list[Request]) -> list[str]:
    """Which secrets stand in a text: tokens and signatures made for a request are among them."""
    sent = [_sent(request).partition(" ")[2] for request in requests]
    minted = [one.partition("Signature=")[2] or one for one in sent]
    secrets = [one for one in (*SECRETS, *minted) if one]
    return [one for one in secrets if covering.stands_in(text, one)]


def test_the_watch_for_echoes_can_fail() -> None:
    """A secret in any spelling is found, so the proofs above prove something."""
    for secret in SECRETS:
        for form in covering.spellings(secret):
            assert _leaks(f"refused {form}.", []) == [secret]
        for before in ("", "x", "Bearer ", "Authorization: Bearer "):
            told = base64.b64encode(f"{before}{secret} and more".encode()).decode()
            assert _leaks(told, []) == [secret]


# In the clear.

ELSEWHERE = [
    "http://192.0.2.1",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://[::ffff:192.0.2.1]",
    "http://127.0.0.1@evil.example",
    "http://evil.example@127.0.0.1",
    "http://127.0.0.1:80@evil.example",
    "http://evil.example[::1]",
    "http://[::1]evil.example",
    "http://[::1].evil.example",
    "http://[::1%25lo]",
    "http://evil.example\\[::1]",
    "http://evil.example\\@127.0.0.1",
    "http://evil.example\t@127.0.0.1",
    "http://127.0.0.1\\@evil.example",
    "http://127.0.0.1.",
    "http://localhost.",
    "http://2130706433",
    "http://0x7f000001",
    "http://0x7f.0.0.1",
    "http://0177.0.0.1",
    "http://127.1",
    "http://127.0.0.1%00.evil.example",
    "http://127.0.0.1;evil.example",
    "http://127.0.0.1,evil.example",
    "http://ⓛocalhost",
    "HTTP://EVIL.EXAMPLE",
    "ws://127.0.0.1",
    "ftp://127.0.0.1",
    "//127.0.0.1",
]


@pytest.fixture
def no_socket(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Whom somebody asked for, and would have connected to."""
    asked: list[object] = []

    def noted(*arguments: object, **_: object) -> object:
        asked.append(arguments)
        raise OSError("no test may do this")

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    monkeypatch.setattr(socket.socket, "connect", noted)
    return asked


@pytest.mark.parametrize("address", ELSEWHERE)
def test_no_client_takes_an_address_in_the_clear(
    address: str, no_socket: list[object], tmp_path: Path
) -> None:
    """Each client refuses it, before a name is looked up or a socket opened."""
    made: list[Callable[[], object]] = [
        lambda: Coordinator(base_url=address, release_key=lambda: "k"),
        lambda: GitHub(api_url=address, uploads_url="https://x", repository="a/b", token=str),
        lambda: GitHub(api_url="https://x", uploads_url=address, repository="a/b", token=str),
        lambda: ObjectStore(endpoint=address, bucket="b", access_key_id=str, secret_access_key=str),
        lambda: TicketService(url=address),
        lambda: Hub(endpoint=address, token=str),
        lambda: service_calls.Clients(address, tmp_path).notary,
    ]
    for make in made:
        with pytest.raises(errors.UsageError):
            make()
    assert no_socket == []


@pytest.mark.parametrize("address", ELSEWHERE)
def test_no_request_carries_a_credential_in_the_clear(
    address: str, no_socket: list[object]
) -> None:
    """Where a client were given such an address all the same, the request is not made."""
    with pytest.raises(errors.UsageError) as caught:
        http_client.exchange(
            "GET",
            f"{address}/x",
            seconds=1,
            limit_bytes=1,
            headers={"authorization": f"Bearer {service_calls.RELEASE_KEY}"},
        )
    assert no_socket == []
    _assert_silent(caught.value)


_PARTS = st.sampled_from(
    [
        *("127.0.0.1", "localhost", "[::1]", "::1", "evil.example", "LOCALHOST", "127.0.0.1."),
        *("@", ":", "\\", "/", "#", "?", "[", "]", "%", "%40", "%2e", ".", "\t", "\n", "\r", " "),
        *("80", ":80", ";", ",", "//", "ⓛ", "。", "\u200b", "0x7f", "127", "\0", "&", "=", "'"),
    ]
)


@given(st.lists(_PARTS | st.text(max_size=3), max_size=6).map("".join))
@example("evil.example[::1]")
@example("[::1]evil.example")
def test_every_reader_finds_this_machine_in_an_address_in_the_clear(authority: str) -> None:
    """What is taken as http on loopback is that for urllib3 and requests too, whatever is asked."""
    address = f"http://{authority}"
    try:
        taken = addresses.base(address, name="X")
    except errors.UsageError:
        return
    for path in ("", "/v1/releases", "/x?y=1"):
        prepared = requests.Request("GET", taken + path).prepare().url or ""
        for one in (taken + path, prepared):
            host = (urllib3.util.parse_url(one).host or "").strip("[]")
            assert host.lower() in ("localhost", "::1", "0:0:0:0:0:0:0:1") or host.startswith(
                "127."
            )
            assert addresses.is_loopback(one)


# Proxies.


def test_a_proxy_sees_the_host_and_no_credential(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Https goes through a tunnel that is asked for without our header, by either library."""
    seen, proxy = _deaf_proxy()
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy.replace("//", "//user:canary-proxy-password@"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    clients = service_calls.Clients("https://outside.invalid", tmp_path)
    for call in (
        CALLS[0],
        _named("GitHub.check"),
        _named("NotaryAPI.status"),
        _named("ObjectStore.head"),
    ):
        problem = service_calls.attempt(call, clients)
        assert isinstance(problem, errors.TransientError)
        _assert_silent(problem)
        assert "canary-proxy-password" not in "\n".join(problem.lines())
    assert len(seen) >= 4
    for request in seen:
        assert request.startswith(b"CONNECT outside.invalid:443 ")
        assert b"\nauthorization:" not in request.lower()
        assert not _leaks(request.decode(), [])


def _named(name: str) -> Call:
    return next(call for call in CALLS if call.name == name)


def _deaf_proxy() -> tuple[list[bytes], str]:
    """A proxy that reads one request of each connection and hangs up."""
    seen: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                seen.append(connection.recv(65536))

    threading.Thread(target=serve, daemon=True).start()
    return seen, f"http://127.0.0.1:{listening.getsockname()[1]}"


# Addresses that are capabilities by themselves, and keys that are none.


def test_no_error_shows_the_signature_of_a_presigned_address(
    no_socket: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails on the way to a storage, the error names the host at most."""
    presigned = "https://storage.example/a?X-Amz-Signature=canary-signature-0123456789"
    transfer = github_storage.Transfer(name="a", limit_bytes=1, reporter=Silent())
    for problem in (
        requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED", f"url: {presigned}"),
        requests.exceptions.InvalidURL(presigned),
        requests.exceptions.ConnectionError(f"refused {presigned}"),
    ):

        def fail(*_: object, problem: Exception = problem, **__: object) -> None:
            raise problem

        monkeypatch.setattr(requests.Session, "request", fail)
        with pytest.raises(errors.ReleaseError) as caught:
            github_storage.fetch(presigned, transfer, seconds=1, local=False)
        shown = "".join([*caught.value.lines(), *traceback.format_exception(caught.value)])
        assert "canary-signature" not in shown


ODD = [
    "two\nlines-0123456789",
    "quo'te\"and%20-0123456789",
    "schlüssel-0123456789",
    " blank-0123456789 ",
]


@pytest.mark.parametrize("odd", ["", "x", *ODD])
def test_a_key_that_is_none_is_never_shown(odd: str, no_socket: list[object]) -> None:
    """Keys with line ends, quotes, blanks or letters of other scripts are refused or just used."""
    store = ObjectStore(
        endpoint="http://127.0.0.1:1",
        bucket="releases",
        access_key_id=lambda: odd,
        secret_access_key=lambda: odd,
        policy=retries.Policy(attempts=1),
    )
    coordinator = Coordinator(
        base_url="http://127.0.0.1:1",
        release_key=lambda: odd,
        admin_key=lambda: odd,
        policy=retries.Policy(attempts=1),
    )
    for ask in (lambda: store.head("k"), coordinator.check_key, coordinator.inventory):
        with pytest.raises(errors.ReleaseError) as caught:
            ask()
        shown = "\n".join([*caught.value.lines(), *traceback.format_exception(caught.value)])
        assert len(odd) < 2 or not any(form in shown for form in covering.spellings(odd.strip()))


def test_a_client_of_the_store_names_no_key() -> None:
    """Neither what holds the keys nor an error of making it shows one."""
    with pytest.raises(errors.CredentialError) as caught:
        s3_client.connect(
            endpoint="http://127.0.0.1:1",
            region="auto",
            access_key_id="AKIACANARY0123456789\n",
            secret_access_key=service_calls.SECRET_ACCESS_KEY,
        )
    _assert_silent(caught.value)
