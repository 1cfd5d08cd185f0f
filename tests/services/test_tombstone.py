"""Tombstones: what is written is read back, whatever stands there counts, no cache hides one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.services import retries, tombstone
from release_tool.services.tombstone import Tombstone, WithdrawnError
from tests import scripted_server
from tests.scripted_server import Reply, Request, ScriptedServer

STONE = Tombstone(
    version="0.5.1",
    platform="macos-arm64",
    sha256="9" * 64,
    at="2026-05-14T21:51:07+00:00",
    by="somebody",
    reason="it does not start",
)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A public address on loopback."""
    with scripted_server.running() as made:
        yield made


def _find_served(server: ScriptedServer) -> Tombstone | None:
    policy = retries.Policy(attempts=3, sleep=lambda _: None)
    return tombstone.find_served(server.url, "releases", "0.5.1", policy=policy)


def test_what_is_written_is_one_line_that_is_read_back() -> None:
    """Whoever looks at the key reads who, when, why and which bytes."""
    content = tombstone.encode(STONE)
    assert content.count(b"\n") == 1
    assert tombstone.parse(content) == STONE


@pytest.mark.parametrize(
    "changes", [{"version": 5}, {"by": None}, {"reason": "x" * 501}, {"reason": "a\x1b[31m"}]
)
def test_each_field_is_judged(changes: dict[str, object]) -> None:
    """Anybody's text goes to terminals, so it must be plain and short."""
    whole = json.loads(tombstone.encode(STONE)) | changes
    with pytest.raises(errors.FormatError):
        tombstone.parse(json.dumps(whole).encode())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_end_in_a_tombstone_or_a_format_error(content: bytes) -> None:
    """Whatever stands at the key."""
    with contextlib.suppress(errors.FormatError):
        tombstone.parse(content)


def test_a_refusal_names_who_when_why_and_what_next() -> None:
    """The one next step of a withdrawn version is another version."""
    with pytest.raises(WithdrawnError, match=r"0\.5\.1 was withdrawn") as caught:
        tombstone.refuse(STONE)
    assert caught.value.exit_code == 7
    assert caught.value.details[0] == (
        "withdrawn 2026-05-14T21:51:07+00:00 by somebody: it does not start"
    )
    assert caught.value.hint == "release the next version: 0.5.2"
    tombstone.refuse(None)


def test_the_public_address_is_asked_past_a_cached_404(server: ScriptedServer) -> None:
    """A CDN that keeps each 404 for ever does not hide what was written after the first look."""
    missing: set[str] = set()
    written = False

    def edge(request: Request) -> Reply:
        if request.path in missing or not written:
            missing.add(request.path)
            return Reply(404)
        return Reply(200, tombstone.encode(STONE))

    server.says(edge)
    assert _find_served(server) is None
    written = True
    assert server.reply(server.requests[0]).status == 404
    assert _find_served(server) == STONE
    assert {one.path.partition("?")[0] for one in server.requests} == {
        "/releases/v0.5.1/tombstone.json"
    }


def test_a_try_that_broke_off_leaves_nothing_of_itself(server: ScriptedServer) -> None:
    """The second answer is read from its own beginning."""
    content = tombstone.encode(STONE)
    server.says(Reply(200, content[:40], declared=len(content)), Reply(200, content))
    assert _find_served(server) == STONE


@pytest.mark.parametrize("content", [b"", b"{}", b"not JSON", b"[" * 10_000])
def test_what_cannot_be_read_counts_as_a_tombstone(server: ScriptedServer, content: bytes) -> None:
    """Somebody put it there: the version is not released over it."""
    server.says(Reply(200, content))
    with pytest.raises(WithdrawnError, match="counts as one"):
        _find_served(server)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (503, errors.TransientError),
        (302, errors.RemoteRefusedError),
        (403, errors.RemoteRefusedError),
    ],
)
def test_no_answer_is_no_permission(
    server: ScriptedServer, status: int, kind: type[errors.ReleaseError]
) -> None:
    """Only a 404 says that there is none."""
    server.says(Reply(status))
    with pytest.raises(kind):
        _find_served(server)


@pytest.mark.parametrize(
    ("look", "told"),
    [
        (lambda: tombstone.refuse(STONE), tombstone.told(STONE)),
        (lambda: tombstone.parse(b""), ""),
    ],
)
def test_a_last_look_says_what_crossed_the_rollback(look: Callable[[], object], told: str) -> None:
    """Who, when and why stand under what was done meanwhile; any other fault passes as it is."""
    seen = tombstone.seen_late("0.5.1", doing="it was registered", hint="roll back again")
    with pytest.raises(errors.ReleaseError) as caught, seen:
        look()
    if told:
        assert isinstance(caught.value, WithdrawnError)
        assert caught.value.message == "0.5.1 was withdrawn while it was registered"
        assert caught.value.hint == "roll back again"
        assert caught.value.details[0] == told
    else:
        assert isinstance(caught.value, errors.FormatError)
