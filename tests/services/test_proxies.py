"""A proxy in the environment: asked by every client or by none, and never told a secret."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from release_tool import errors
from release_tool.services import http_client, proxies, retries
from release_tool.services.coordinator import Coordinator
from release_tool.services.object_store import ObjectStore
from tests import scripted_server
from tests.scripted_server import Reply, ScriptedServer

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
SECRET = "look-alike-secret-that-nobody-sees"
_ONCE = retries.Policy(attempts=1)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A proxy that notes what it is told and leads nowhere; nothing names it yet."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with scripted_server.running() as server:
        server.says(Reply(502))
        yield server


def _store(endpoint: str) -> None:
    ObjectStore(
        endpoint=endpoint,
        bucket="releases",
        access_key_id=lambda: "AKIDLOOKALIKE0001",
        secret_access_key=lambda: SECRET,
        policy=_ONCE,
    ).head("key")


def _coordinator(address: str) -> None:
    Coordinator(base_url=address, release_key=lambda: SECRET, seconds=3, policy=_ONCE).check_key()


CLIENTS = pytest.mark.parametrize("ask", [_store, _coordinator], ids=["store", "coordinator"])


@CLIENTS
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_every_client_asks_the_proxy_and_tells_it_a_host_only(
    proxy: ScriptedServer, monkeypatch: pytest.MonkeyPatch, name: str, ask: Callable[[str], None]
) -> None:
    """A tunnel to the host; keys and tokens travel inside of TLS, which never began here."""
    monkeypatch.setenv(name, proxy.url)
    with pytest.raises(errors.TransientError):
        ask("https://outside.invalid")
    assert {(one.method, one.path) for one in proxy.requests} == {
        ("CONNECT", "outside.invalid:443")
    }
    for request in proxy.requests:
        assert not {"authorization", "x-amz-security-token"} & set(request.headers)
        assert SECRET not in f"{request}"


@CLIENTS
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "all_proxy", "HTTP_PROXY"])
def test_no_client_asks_a_proxy_for_this_machine(
    proxy: ScriptedServer, monkeypatch: pytest.MonkeyPatch, name: str, ask: Callable[[str], None]
) -> None:
    """Loopback is reached directly, whatever the environment says."""
    monkeypatch.setenv(name, proxy.url)
    with scripted_server.running() as server:
        server.says(Reply(404))
        with suppress(errors.ReleaseError):
            ask(server.url)
        assert server.requests
    assert not proxy.requests


@pytest.mark.parametrize("name", NAMES[:3])
def test_a_token_never_goes_to_a_proxy_in_the_clear(
    proxy: ScriptedServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Plain http with a credential is refused before anything is sent."""
    monkeypatch.setenv(name, proxy.url)
    with pytest.raises(errors.UsageError, match="in the clear"):
        http_client.exchange(
            "GET",
            "http://outside.invalid/",
            seconds=3,
            limit_bytes=10,
            headers={"Authorization": f"Bearer {SECRET}"},
        )
    assert not proxy.requests


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_hosts_that_need_no_proxy_have_none(
    proxy: ScriptedServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """By host, by domain, or all."""
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    assert proxies.before("https://store.outside.invalid") == {"https": proxy.url}
    for spared in (
        "store.outside.invalid",
        ".outside.invalid",
        "*",
        "other.invalid,outside.invalid",
    ):
        monkeypatch.setenv(name, spared)
        assert proxies.before("https://store.outside.invalid") == {}


PASSWORD = "canary-proxy-password-0123"
WRONG = [
    ("socks5://user:PW@127.0.0.1:9", "it speaks socks5"),
    ("socks5h://user:PW@127.0.0.1:9", "it speaks socks5h"),
    ("ftp://user:PW@127.0.0.1:9", "it speaks ftp"),
    ("http://user:PW@", "it names no host"),
    ("http://:PW@/", "it names no host"),
    ("http://user:PW@127.0.0.1:99999", "it is no address"),
    ("http://user:PW@[::1", "it is no address"),
    ("http://user:PW@ho st:3", "its host is not plain"),
    ("http://us/er:PW@127.0.0.1:9", "something stands behind its host"),
    ("http://user:PW#@127.0.0.1:9", "something stands behind its host"),
    ("http://user:PW@127.0.0.1:9?x", "something stands behind its host"),
    ("http://user:PW@127.0.0.1:9/proxy.pac", "something stands behind its host"),
    ("http://us@er:PW@127.0.0.1:9", "its host is not plain"),
    ("user:PW", "it is no address"),
]


@CLIENTS
@pytest.mark.parametrize(("named", "reason"), WRONG)
def test_what_is_no_proxy_is_told_alike_by_every_client_and_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
    proxy: ScriptedServer,
    named: str,
    reason: str,
    ask: Callable[[str], None],
) -> None:
    """A mistake of the setting, by its name: nothing is sent, and nothing tried again."""
    monkeypatch.setenv("HTTPS_PROXY", named.replace("PW", PASSWORD))
    with pytest.raises(errors.UsageError, match=reason) as caught:
        ask("https://outside.invalid")
    told = caught.value
    assert "HTTPS_PROXY" in told.message
    assert "correct HTTPS_PROXY" in told.hint
    assert PASSWORD not in f"{told.as_json()}"
    assert not proxy.requests


@CLIENTS
@pytest.mark.parametrize(
    "named",
    ["http://USER@HOST", "HTTP://USER@HOST", "USER@HOST", "//USER@HOST", "http://USER@HOST/"],
)
def test_a_proxy_is_read_alike_however_it_is_written(
    monkeypatch: pytest.MonkeyPatch, proxy: ScriptedServer, named: str, ask: Callable[[str], None]
) -> None:
    """With its user's name and password, in every client."""
    host = proxy.url.removeprefix("http://")
    user = f"user:{PASSWORD}"
    monkeypatch.setenv("https_proxy", named.replace("USER", user).replace("HOST", host))
    with pytest.raises(errors.TransientError) as caught:
        ask("https://outside.invalid")
    assert PASSWORD not in f"{caught.value.as_json()}"
    sent = base64.b64encode(user.encode()).decode()
    assert {one.headers["proxy-authorization"] for one in proxy.requests} == {f"Basic {sent}"}


@CLIENTS
def test_a_dead_proxy_is_a_passing_fault_and_keeps_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: ScriptedServer, ask: Callable[[str], None]
) -> None:
    """It may live again; what the libraries say of it is shown without the password."""
    monkeypatch.setenv("ALL_PROXY", f"HTTP://user:{PASSWORD}@127.0.0.1:1")
    with pytest.raises(errors.TransientError) as caught:
        ask("https://outside.invalid")
    assert PASSWORD not in f"{caught.value.as_json()}"


def test_an_address_that_is_none_is_refused_by_the_client(proxy: ScriptedServer) -> None:
    """As a server may name it in a redirect: no bug, and nobody is asked."""
    assert proxies.before("https://[outside.invalid/") == {}
    with pytest.raises(errors.UsageError):
        http_client.exchange("GET", "https://[outside.invalid/", seconds=3, limit_bytes=10)


def test_passwords_of_proxies_are_known_in_both_spellings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is wrong with the address; none is none."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    assert proxies.passwords() == []
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:of%2Fproxy@host")
    monkeypatch.setenv("HTTP_PROXY", "user:other@")
    monkeypatch.setenv("ALL_PROXY", "http://user@host:80")
    assert proxies.passwords() == ["of%2Fproxy", "of/proxy", "other"]
