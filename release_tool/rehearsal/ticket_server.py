"""A look-alike of the service where stapled tickets come from: CloudKit's lookup of records.

Shapes are those of quoted exchanges: a miss is an HTTP 200, and each record has its own answer.
A ticket comes some seconds after the verdict, and never at the first time of asking.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import faults, servers
from release_tool.rehearsal.notary_store import BEARER_LEAK, NotaryStore, Submission
from release_tool.rehearsal.ticket_signer import HASH_TYPE, TicketSigner

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH = "/database/1/com.apple.gk.ticket-delivery/production/public/records/lookup"
# CloudKit takes 200 operations in one request.
_MOST_RECORDS = 200
_BODY_BYTES = 64 * 1024
_NAME = re.compile(r"2/(?P<kind>[1-5])/(?P<cdhash>[0-9a-f]{40})")
_CDHASH_BYTES = 20
_ANYONE = "_d28c74d86dd6ce5c1ab8ba4ca7a34d3d"


def record_name(cdhash: str) -> str:
    """The name under which the ticket of a SHA-256 cdhash stands."""
    return f"2/{HASH_TYPE}/{cdhash}"


class TicketServer:
    """The WSGI application.

    Args:
        store: verdicts and their tickets.
        signer: makes the tickets of faults.
        broken: faults on demand.
        clock: the time by which tickets come.
    """

    def __init__(
        self,
        store: NotaryStore,
        signer: TicketSigner,
        *,
        broken: faults.Faults,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._signer = signer
        self._broken = broken
        self._clock = clock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.path != PATH:
            return Response("", 404)
        if request.method != "POST":
            return Response("", 405, {"Allow": "POST"})
        if "Authorization" in request.headers:
            self._store.note(BEARER_LEAK, request.path)
        return self._faulty(request) or self._lookup(request)

    def _faulty(self, request: Request) -> Response | None:
        if self._broken.take(faults.TICKET_RESET):
            servers.drop_connection(request.environ)
            return Response("")
        if self._broken.take(faults.TICKET_UNAVAILABLE):
            return _refused(503, "TRY_AGAIN_LATER", "The service is busy")
        if self._broken.take(faults.TICKET_THROTTLED):
            answer = _refused(429, "THROTTLED", "Too many requests")
            answer.headers["Retry-After"] = "1"
            return answer
        if self._broken.take(faults.TICKET_HTML):
            page = "<html><body><h1>502 Bad Gateway</h1></body></html>"
            return Response(page, 502, content_type="text/html")
        return None

    def _lookup(self, request: Request) -> Response:
        body = request.stream.read(_BODY_BYTES + 1)
        try:
            asked = json.loads(body)["records"] if len(body) <= _BODY_BYTES else []
            names = [item["recordName"] for item in asked]
        except (ValueError, TypeError, KeyError, RecursionError):
            return _refused(400, "BAD_REQUEST", "The body is not a list of records")
        if not 1 <= len(names) <= _MOST_RECORDS or not all(map(_is_name, names)):
            return _refused(400, "BAD_REQUEST", "Too many records, or a name that is no text")
        late = self._broken.take(faults.TICKET_LATE)
        found = [self._record(name, late=late) for name in names]
        return _json({"records": found})

    def _record(self, name: str, *, late: bool) -> dict[str, object]:
        submission = None if late else self._find(name)
        ticket = self._ticket(submission, name) if submission else None
        if submission is None or ticket is None:
            self._store.note("ticket miss", name)
            return {
                "recordName": name,
                "reason": "Record not found",
                "serverErrorCode": "NOT_FOUND",
            }
        self._store.note("ticket", name)
        made = {
            "timestamp": int((submission.judged_at or submission.created_at).timestamp() * 1000),
            "userRecordName": _ANYONE,
            "deviceID": "2",
        }
        return {
            "recordName": name,
            "recordType": "DeveloperIDTicket",
            "fields": {
                "signedTicket": {"value": base64.b64encode(ticket).decode(), "type": "BYTES"}
            },
            "pluginFields": {},
            "recordChangeTag": secrets.token_hex(4),
            "created": made,
            "modified": made,
            "deleted": False,
        }

    def _find(self, name: str) -> Submission | None:
        record = self._store.record(name) if _NAME.fullmatch(name) else None
        if record is None:
            return None
        if not record.missed or self._clock() < record.available_at:
            self._store.missed(record.submission)
            return None
        return self._store.get(record.submission)

    def _ticket(self, submission: Submission, name: str) -> bytes | None:
        """The ticket, or what a fault makes of it."""
        ticket = submission.ticket
        if ticket is None or submission.verdict is None:
            return None
        listed = {code.cdhash: code.path for code in submission.verdict.contents}
        if self._broken.take(faults.TICKET_BAD_SIGNATURE):
            return _with_another_time(ticket)
        if self._broken.take(faults.TICKET_OTHER_APP):
            return self._signer.issue([secrets.token_bytes(_CDHASH_BYTES)], self._clock())
        if self._broken.take(faults.TICKET_LACKS_SLICE):
            asked = name.rpartition("/")[2]
            others = [cdhash for cdhash in listed if cdhash != asked] or [asked]
            others.sort(key=lambda cdhash: listed[cdhash] != listed.get(asked))
            kept = [bytes.fromhex(cdhash) for cdhash in listed if cdhash != others[0]]
            return self._signer.issue(kept, self._clock())
        return ticket


def _is_name(name: object) -> bool:
    # JSON can spell half a surrogate pair, which is no text.
    return isinstance(name, str) and not any("\ud800" <= mark <= "\udfff" for mark in name)


def _with_another_time(ticket: bytes) -> bytes:
    """A ticket whose time of issue was moved by a second behind its signer's back."""
    start = ticket.index(b"g8tk") + 16
    return ticket[:start] + bytes([ticket[start] ^ 1]) + ticket[start + 1 :]


def _json(told: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(told), status, content_type="application/json; charset=UTF-8")


def _refused(status: int, code: str, reason: str) -> Response:
    told = {"uuid": str(uuid.uuid4()), "serverErrorCode": code, "reason": reason}
    return _json(told, status)
