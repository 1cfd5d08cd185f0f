"""A proxy in the environment: asked by every client or by none, and never told a secret."""

from __future__ import annotations

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
