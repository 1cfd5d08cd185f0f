"""Every fault of the wire is what it says, down to what a plain client sees of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from release_tool import errors
from release_tool.rehearsal import wire
from release_tool.rehearsal.servers import Server
from release_tool.rehearsal.wire import Rule, Wire

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ANSWER = json.dumps({"status": "well", "numbers": list(range(20))}).encode()
SECRET = "Bearer a-secret-of-the-wire"


@dataclass
class World:
    """An application that notes what it was handed, on a wire."""

    lines: Wire = field(default_factory=Wire)
    bodies: list[bytes] = field(default_factory=list)
    port: int = 0
    answer: bytes = ANSWER
    fails: bool = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        self.bodies.append(environ["wsgi.input"].read(length))
        if self.fails:
            raise RuntimeError("the application fails")
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(self.answer)))]
        start_response("200 OK", headers)
        return [self.answer]

    def ask(
        self, method: str = "POST", path: str = "/things", body: bytes = b"a body", wait: float = 5
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=wait)
        try:
            connection.request(method, path, body or None, {"Authorization": SECRET})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def breaks(self, kind: str, **limits: object) -> None:
        self.lines.set([Rule(service="one", kind=kind, **limits)])  # type: ignore[arg-type]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    with ExitStack() as stack:
        elsewhere = stack.enter_context(Server(made.lines.elsewhere))
        made.lines.elsewhere_url = f"http://localhost:{elsewhere.port}"
        made.port = stack.enter_context(Server(made, name="one", wire=made.lines)).port
        yield made
        made.lines.set([])


def test_without_rules_everything_goes_well(world: World) -> None:
    """A wire without faults hands requests and answers on as they are, and counts them."""
    assert world.ask()[::2] == (200, ANSWER)
    assert world.bodies == [b"a body"]
    assert world.lines.report().requests == {"one": 1}
    assert world.lines.report().hits == 0


def test_refused_is_a_port_where_nobody_listens(world: World) -> None:
    """For as long as the rule holds, and the same server answers on the same port afterwards."""
    world.breaks("refused")
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            world.ask()
    world.lines.set([])
    assert world.ask()[0] == 200


def test_a_refusal_in_passing_ends_by_itself(world: World) -> None:
    """A counted refusal is a server that is back after the rule's seconds."""
    world.breaks("refused", count=1, seconds=0.1)
    assert world.lines.report().hits == 1
    answered = 0
    for _ in range(1000):
        with contextlib.suppress(ConnectionRefusedError):
            answered = world.ask()[0]
            break
        time.sleep(0.02)
    assert answered == 200


def test_a_narrow_refusal_waits_for_its_request(world: World) -> None:
    """The request that it waits for is cut, and the next finds nobody."""
    world.breaks("refused", path="/critical")
    assert world.ask()[0] == 200
    with pytest.raises(ConnectionError):
        world.ask(path="/critical")
    with pytest.raises(ConnectionRefusedError):
        world.ask()
    assert len(world.bodies) == 1


def test_reset_cuts_a_body_and_nothing_is_handled(world: World) -> None:
    """A request with a body is cut in its middle, one without in its answer's."""
    world.breaks("reset")
    with pytest.raises(ConnectionError):
        world.ask(body=b"x" * 4_000_000)
    assert world.bodies == []
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        world.ask("GET", body=b"")


def test_stalled_takes_and_never_answers(world: World) -> None:
    """The client's own timeout ends it; nothing is handled."""
    world.breaks("stalled")
    with pytest.raises(TimeoutError):
        world.ask(wait=0.2)
    assert world.bodies == []


def test_slow_is_the_right_answer_late(world: World) -> None:
    """A slow answer is whole in the end."""
    world.breaks("slow", seconds=0.2)
    before = time.monotonic()
    assert world.ask()[::2] == (200, ANSWER)
    assert time.monotonic() - before >= 0.1


def test_endless_never_ends_and_never_pauses_long(world: World) -> None:
    """Bytes come well within a client's timeout, and the last one never does."""
    world.breaks("endless")
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=5)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read(2) == ANSWER[:2]
    connection.close()


@pytest.mark.parametrize(("kind", "status"), [("429", 429), ("500", 500), ("503", 503)])
def test_refusals_of_an_edge_hand_nothing_on(world: World, kind: str, status: int) -> None:
    """429 says when to come back; 500 shows the request, credentials included, as edges do."""
    world.breaks(kind)
    told, headers, body = world.ask()
    assert told == status
    assert world.bodies == []
    assert headers.get("retry-after") == ("1" if kind == "429" else None)
    assert (SECRET.encode() in body) == (kind == "500")


def test_truncated_is_chunks_without_an_end(world: World) -> None:
    """It was handled, and half of the answer comes."""
    world.breaks("truncated")
    with pytest.raises(http.client.IncompleteRead) as caught:
        world.ask()
    assert caught.value.partial == b"" or ANSWER.startswith(caught.value.partial)
    assert world.bodies == [b"a body"]


def test_longer_promises_more_than_comes(world: World) -> None:
    """The whole body comes, and the promised length does not."""
    world.breaks("longer")
    with pytest.raises(http.client.IncompleteRead) as caught:
        world.ask()
    assert caught.value.partial == ANSWER


def test_shorter_promises_less_than_comes(world: World) -> None:
    """A client that believes the length gets half, without any error."""
    world.breaks("shorter")
    assert world.ask()[2] == ANSWER[: len(ANSWER) // 2]


def test_other_bytes_differ_in_one_bit(world: World) -> None:
    """The length stays, and exactly one bit does not."""
    world.breaks("other-bytes")
    found = world.ask()[2]
    assert len(found) == len(ANSWER)
    pairs = zip(found, ANSWER, strict=True)
    assert sum((one ^ other).bit_count() for one, other in pairs) == 1


@pytest.mark.parametrize("kind", ["shorter", "other-bytes"])
def test_an_answer_without_a_body_is_none_that_could_be_spoilt(world: World, kind: str) -> None:
    """It counts as no hit, and the next request with one is the first that goes wrong."""
    world.breaks(kind, count=1)
    world.answer = b""
    assert world.ask()[::2] == (200, b"")
    world.answer = ANSWER
    assert world.ask("HEAD", body=b"")[::2] == (200, b"")
    assert world.lines.report().hits == 0
    assert world.ask()[2] != ANSWER
    assert world.lines.report().hits == 1
    assert world.ask()[2] == ANSWER


@pytest.mark.parametrize(
    "kind", ["reset", pytest.param("endless", marks=pytest.mark.slow), "truncated"]
)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_without_a_body_it_is_the_head_that_ends_early(
    world: World, kind: str, method: str
) -> None:
    """No client gets the right answer where its end is what goes wrong."""
    world.breaks(kind, count=1)
    world.answer = b""
    with pytest.raises((OSError, http.client.HTTPException)):
        world.ask(method, body=b"", wait=0.5)
    assert world.lines.report().hits == 1


def test_slow_without_a_body_is_late_as_well(world: World) -> None:
    """Its head waits as long as a body would take to come."""
    world.breaks("slow", count=1, seconds=0.3)
    world.answer = b""
    with pytest.raises(TimeoutError):
        world.ask("HEAD", body=b"", wait=0.1)


def test_wrong_json_comes_with_success_and_nothing_is_handled(world: World) -> None:
    """Once JSON of another shape, once none at all; both say 200 and JSON."""
    world.breaks("other-json")
    status, headers, body = world.ask()
    assert (status, headers["content-type"]) == (200, "application/json")
    assert "unexpected" in json.loads(body)
    world.breaks("not-json")
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(world.ask()[2])
    assert world.bodies == []


def test_a_redirect_leads_to_a_host_that_notes_what_comes(world: World) -> None:
    """A client that takes its credentials along is seen."""
    world.breaks("redirect")
    status, headers, _ = world.ask(path="/things?one=1")
    assert (status, world.bodies) == (307, [])
    address = headers["location"]
    assert address == f"{world.lines.elsewhere_url}/things?one=1"
    connection = http.client.HTTPConnection(address.split("/")[2])
    connection.request("POST", "/things?one=1", b"", {"Authorization": SECRET})
    assert connection.getresponse().status == 200
    connection.close()
    (strayed,) = world.lines.report().strayed
    assert strayed["authorization"] == SECRET
    assert strayed["target"] == "/things?one=1"


def test_a_duplicate_is_handled_twice(world: World) -> None:
    """The application gets the same body twice, and the report says of which request."""
    world.breaks("duplicate")
    assert world.ask()[::2] == (200, ANSWER)
    assert world.bodies == [b"a body"] * 2
    assert world.lines.report().duplicated == ["one POST /things"]


def test_a_lost_answer_was_a_success(world: World) -> None:
    """It is handled, and the client gets nothing."""
    world.breaks("lost-answer")
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        world.ask()
    assert world.bodies == [b"a body"]


def _settle(world: World) -> None:
    deadline = time.monotonic() + 60
    while world.lines.report().outstanding:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_late_is_cut_at_once_and_handled_afterwards(world: World) -> None:
    """The whole body is there when nobody waits for its answer any more; then none is left."""
    world.breaks("late", count=1, seconds=1.0)
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        world.ask(body=b"x" * 100_000)
    assert (world.bodies, world.lines.report().outstanding) == ([], 1)
    assert world.ask(body=b"another")[0] == 200
    _settle(world)
    assert world.bodies == [b"another", b"x" * 100_000]


def test_the_end_of_the_rules_takes_no_late_request_back(world: World) -> None:
    """It stays outstanding under other rules, and is handled at its own time."""
    world.breaks("late", seconds=0.5)
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        world.ask()
    world.lines.set([])
    assert world.lines.report().outstanding == 1
    assert wire.report_of(world.lines.report().as_json()).outstanding == 1
    assert world.bodies == []
    _settle(world)
    assert world.bodies == [b"a body"]


def test_a_late_failure_is_told_to_nobody(
    world: World, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """An application that fails late leaves no traceback, and nothing outstanding."""
    world.fails = True
    world.breaks("late", seconds=0.0)
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        world.ask()
    _settle(world)
    assert world.bodies == [b"a body"]
    assert capfd.readouterr() == ("", "")
    assert list(recwarn) == []


def test_a_server_that_ends_handles_nothing_late() -> None:
    """Its end waits for nothing, and its application is left alone from then on."""
    made = World()
    with Server(made, name="one", wire=made.lines) as server:
        made.port = server.port
        made.breaks("late", seconds=3600.0)
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            made.ask()
        assert made.lines.report().outstanding == 1
    _settle(made)
    assert made.bodies == []


def test_rules_are_limited_to_requests_and_counts(world: World) -> None:
    """Method, target, agent and size choose; some may go well first, and so many go wrong."""
    world.breaks("503", method="POST", path="^/critical", least_bytes=3, skip=1, count=2)
    others = [
        ("GET", "/critical", b""),
        ("POST", "/x/critical", b"abc"),
        ("POST", "/critical", b"a"),
    ]
    assert [world.ask(*one)[0] for one in others] == [200] * 3
    found = [world.ask("POST", "/critical", b"abc")[0] for _ in range(4)]
    assert found == [200, 503, 503, 200]
    world.breaks("503", agent="nobody")
    assert world.ask()[0] == 200


@pytest.mark.parametrize(
    "told",
    [
        {"service": "one", "kind": "no such"},
        {"service": "nobody", "kind": "503"},
        {"service": "one", "kind": "503", "path": "("},
    ],
)
def test_rules_that_mean_nothing_are_refused(world: World, told: dict[str, object]) -> None:
    """A typing error in a rule is not a row without a fault."""
    with pytest.raises(errors.UsageError):
        world.lines.set([wire.rule_of(told)])


@pytest.mark.parametrize(
    "told",
    [
        {"kind": "503"},
        {"service": 1, "kind": "503"},
        {"service": "one", "kind": "late", "seconds": "soon"},
        {"service": "one", "kind": "late", "seconds": -1},
        {"x": 1},
    ],
)
def test_what_is_no_rule_is_refused(told: dict[str, object]) -> None:
    """As it comes in by the control address."""
    with pytest.raises(errors.UsageError):
        wire.rule_of(told)


def test_the_end_of_the_rules_frees_who_waits(world: World) -> None:
    """A stalled request does not hold its thread when the rules end."""
    world.breaks("stalled")
    seen: list[type[BaseException]] = []

    def ask() -> None:
        try:
            world.ask(wait=60)
        except (ConnectionError, http.client.HTTPException) as problem:
            seen.append(type(problem))

    client = threading.Thread(target=ask)
    client.start()
    while not world.lines.report().hits:
        time.sleep(0.01)
    world.lines.set([])
    client.join(30)
    assert seen
