"""The ticket lookup against an awkward script: misses with 200, contradictions, withdrawals."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from release_tool import errors
from release_tool.services import retries
from release_tool.services.stapler import TicketService
from tests import scripted_server
from tests.scripted_server import Reply, ScriptedServer

CDHASH = "5d0f0f6e2b1a" + "0" * 28
NAME = f"2/2/{CDHASH}"
TICKET = b"s8ch and so on"
JSON = {"Content-Type": "application/json;charset=utf-8"}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server.running() as made:
        yield made


def _service(server: ScriptedServer, slept: list[float] | None = None) -> TicketService:
    times = [] if slept is None else slept
    policy = retries.Policy(attempts=3, sleep=times.append)
    return TicketService(url=f"{server.url}/records/lookup", policy=policy)


def _records(*records: object) -> Reply:
    return Reply(200, json.dumps({"records": records}).encode(), JSON)


def found(**changed: object) -> dict[str, object]:
    """A record as Apple delivers one."""
    value = base64.b64encode(TICKET).decode()
    return {
        "recordName": NAME,
        "recordType": "DeveloperIDTicket",
        "fields": {"signedTicket": {"value": value, "type": "BYTES"}},
        "pluginFields": {},
        "recordChangeTag": "k1",
        "created": {"timestamp": 1, "userRecordName": "_x", "deviceID": "2"},
        "modified": {"timestamp": 1, "userRecordName": "_x", "deviceID": "2"},
        "deleted": False,
    } | changed


MISS = {"recordName": NAME, "reason": "Record not found", "serverErrorCode": "NOT_FOUND"}


def test_a_ticket_is_asked_for_by_hash_type_and_cdhash(server: ScriptedServer) -> None:
    """The record's name is `2/<hash type>/<cdhash>`; nothing of ours goes along."""
    server.says(_records(found()))
    assert _service(server).lookup(CDHASH) == TICKET
    (sent,) = server.requests
    assert (sent.method, sent.path) == ("POST", "/records/lookup")
    assert json.loads(sent.body) == {"records": [{"recordName": NAME}]}
    assert "authorization" not in sent.headers
    server.says(_records(found(recordName=f"2/1/{CDHASH}")))
    assert _service(server).lookup(CDHASH, hash_type=1) == TICKET


def test_a_miss_is_none_and_costs_one_request(server: ScriptedServer) -> None:
    """Not found comes with HTTP 200 and is normal for minutes."""
    server.says(_records(MISS))
    assert _service(server).lookup(CDHASH) is None
    assert len(server.requests) == 1


CONTRADICTIONS = [
    _records(),
    _records(found(recordName=f"2/2/{'1' * 40}")),
    _records(found(), found()),
    _records(found(recordType="Other")),
    _records(found(fields={})),
    _records(found(fields={"signedTicket": {"value": 7}})),
    _records(found(fields={"signedTicket": {"value": "not base64!"}})),
    _records("text"),
    Reply(200, b'{"records": [', JSON),
    Reply(200, b"<html>", {"Content-Type": "text/html"}),
    Reply(200, b"[" * 50_000, JSON),
    Reply(200, b"{}", JSON, declared=99),
    _records({"recordName": NAME, "serverErrorCode": "TRY_AGAIN_LATER"}),
    Reply(421, b"{}", JSON),
    Reply(503, b""),
]


@pytest.mark.parametrize("answer", CONTRADICTIONS)
def test_an_answer_that_contradicts_itself_is_asked_for_again(
    server: ScriptedServer, answer: Reply
) -> None:
    """Another record, two, none, no ticket, no base64, a page: again, and the third counts."""
    server.says(answer, answer, _records(found()))
    assert _service(server).lookup(CDHASH) == TICKET
    server.says(answer)
    with pytest.raises(errors.TransientError):
        _service(server).lookup(CDHASH)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (_records(found(deleted=True)), "withdrawn"),
        (_records({"recordName": NAME, "serverErrorCode": "ACCESS_DENIED"}), "refused"),
        (Reply(404, b""), "does not answer lookups"),
        (Reply(403, b"<html>"), "does not answer lookups"),
        (Reply(302, b"", {"Location": "http://127.0.0.1:1"}), "does not answer lookups"),
    ],
)
def test_a_refusal_is_final(server: ScriptedServer, answer: Reply, text: str) -> None:
    """Exit 7 at once; a redirect is not followed."""
    server.says(answer)
    with pytest.raises(errors.RemoteRefusedError, match=text):
        _service(server).lookup(CDHASH)
    assert len(server.requests) == 1


def test_patience_is_as_long_as_the_service_asks(server: ScriptedServer) -> None:
    """`Retry-After` of a busy service is kept."""
    slept: list[float] = []
    server.says(Reply(503, b"", {"Retry-After": "9"}), _records(found()))
    assert _service(server, slept).lookup(CDHASH) == TICKET
    assert slept[0] >= 9


@pytest.mark.parametrize("cdhash", ["", "A" * 40, "1" * 41, "../" * 13 + "1"])
def test_what_is_no_cdhash_is_not_asked_for(server: ScriptedServer, cdhash: str) -> None:
    """Only forty hex digits become a record's name."""
    with pytest.raises(errors.VerificationError):
        _service(server).lookup(cdhash)
    assert server.requests == []


def test_the_probe_asks_for_no_real_code(server: ScriptedServer) -> None:
    """A miss is the good answer."""
    server.says(_records({**MISS, "recordName": f"2/2/{'0' * 40}"}))
    _service(server).check()
    server.says(Reply(500, b""))
    with pytest.raises(errors.TransientError):
        _service(server).check()


def test_plain_http_is_for_this_machine_only() -> None:
    """A ticket proves itself, but whom we ship is nobody's business on the way."""
    with pytest.raises(errors.UsageError, match="ticket_url"):
        TicketService(url="http://api.apple-cloudkit.com/lookup")
