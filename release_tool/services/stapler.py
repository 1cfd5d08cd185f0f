"""Apple's ticket service: the notarization ticket of a code directory, or that there is none yet.

The lookup is CloudKit's public record interface, as Apple's own `stapler` uses it; nothing about
it is secret. A miss is answered with HTTP 200, and is normal for minutes behind the verdict.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from release_tool import errors
from release_tool.apple import ticket
from release_tool.services import addresses, http_client, retries, retry_after
from release_tool.services.http_client import Answer

SHA256 = ticket.HASH_SHA256
_SECONDS = 30.0
# A ticket in base64 and what stands around it.
_ANSWER_BYTES = 2 * ticket.MAX_BYTES
_RECORD = "DeveloperIDTicket"
_FIELD = "signedTicket"
_ABSENT = ("NOT_FOUND", "UNKNOWN_ITEM")
_PASSING = frozenset({408, 421, 425, 429})
_PASSING_CODES = (
    *("INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "THROTTLED", "TRY_AGAIN_LATER", "ZONE_BUSY"),
)
_SERVER_FAULT = 500
_CDHASH = re.compile(r"[0-9a-f]{40}")


@dataclass(kw_only=True)
class TicketService:
    """Where tickets are looked up.

    Raises:
        UsageError: the address is not https, nor http on loopback.
    """

    url: str
    policy: retries.Policy = retries.DEFAULT

    def __post_init__(self) -> None:
        self.url = addresses.base(self.url, name="ticket_url")

    def check(self) -> None:
        """Ask for the ticket of no code: the answer that counts is that there is one.

        Raises:
            TransientError, RemoteRefusedError: the service does not answer as it should.
        """
        self.lookup("0" * 40)

    def lookup(self, cdhash: str, *, hash_type: int = SHA256) -> bytes | None:
        """The ticket for a code directory as it is delivered, unverified; None where none is yet.

        Args:
            cdhash: 40 hex digits in lower case.
            hash_type: the code directory's number of its hash.

        Raises:
            TransientError: no answer, or one that contradicts itself, after all tries.
            RemoteRefusedError: the service refused, or Apple has withdrawn the ticket.
        """
        if not _CDHASH.fullmatch(cdhash):
            raise errors.VerificationError(
                "this is no cdhash", expected="40 hex digits", observed=repr(cdhash[:60])
            )
        name = f"2/{hash_type}/{cdhash}"
        return retries.call(lambda: self._once(name), self.policy)

    def _once(self, name: str) -> bytes | None:
        answer = http_client.exchange(
            "POST",
            self.url,
            seconds=_SECONDS,
            limit_bytes=_ANSWER_BYTES,
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=json.dumps({"records": [{"recordName": name}]}).encode(),
        )
        if answer.status != 200:
            raise _refusal(answer, self.url)
        return _ticket(_record(answer, name), name)


def _record(answer: Answer, name: str) -> Mapping[str, object]:
    """The one record that was asked for; an answer about something else is not taken."""
    try:
        records = json.loads(answer.body)["records"]
        record = records[0]
    except (ValueError, RecursionError, TypeError, KeyError, IndexError):
        raise _unreadable("no record", name) from None
    if not isinstance(record, dict) or len(records) != 1 or record.get("recordName") != name:
        raise _unreadable("another record than the one asked for", name)
    return record


def _ticket(record: Mapping[str, object], name: str) -> bytes | None:
    code = record.get("serverErrorCode")
    if code in _ABSENT:
        return None
    if code is not None:
        said = _plain(f"{code}: {record.get('reason', '')}")
        kind = errors.TransientError if code in _PASSING_CODES else errors.RemoteRefusedError
        raise kind("the ticket service refused", subject=name, observed=said, hint="run again")
    if record.get("deleted"):
        raise errors.RemoteRefusedError(
            "Apple has withdrawn this ticket",
            subject=name,
            hint="look at the mail of the team's Account Holder: the release may be revoked",
        )
    field = record.get("fields")
    signed = field.get(_FIELD) if isinstance(field, dict) else None
    value = signed.get("value") if isinstance(signed, dict) else None
    if record.get("recordType") != _RECORD or not isinstance(value, str):
        raise _unreadable(f"no {_RECORD} with a {_FIELD}", name)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _unreadable("a ticket that is not base64", name) from None


def _refusal(answer: Answer, url: str) -> errors.ReleaseError:
    observed = _plain(f"{answer.status} {answer.body[:200].decode(errors='replace')}")
    if answer.status in _PASSING or answer.status >= _SERVER_FAULT:
        text = "the ticket service is not available"
        return retry_after.passing(text, subject=url, observed=observed, headers=answer.headers)
    return errors.RemoteRefusedError(
        "the ticket service does not answer lookups",
        subject=url,
        expected="200",
        observed=observed,
        hint="look at what stands before this host",
    )


def _unreadable(observed: str, name: str) -> errors.TransientError:
    return errors.TransientError(
        "the ticket service contradicts itself", subject=name, observed=observed, hint="run again"
    )


def _plain(text: str) -> str:
    return "".join(mark if mark.isprintable() else " " for mark in text)[:300].strip()
