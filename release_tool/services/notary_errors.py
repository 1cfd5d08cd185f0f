"""What the notary's refusals mean, and who can mend each.

Codes: those that users of the service report. One status has several causes with opposite
remedies, 403 above all, so the code decides before the status does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from release_tool import errors
from release_tool.services import clocks, retry_after
from release_tool.services.http_client import Answer

_REDIRECTS = range(300, 400)
_PASSING = frozenset({408, 425, 429})
_SERVER_FAULT = 500
_SHOWN = 400
NOT_FOUND = 404
_AGREEMENTS = "FORBIDDEN.REQUIRED_AGREEMENTS_"
_PROVIDER = "FORBIDDEN.MISSING_PROVIDER"
_KEY_HINT = (
    "check APPLE_API_KEY_P8, APPLE_API_KEY_ID and APPLE_API_ISSUER_ID against App Store Connect,"
    " Users and Access, Integrations: the key may be revoked, or of another team"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Apple's error body, as far as it could be read."""

    code: str
    text: str

    def shown(self, status: int) -> str:
        return " ".join(part for part in (str(status), self.code, self.text) if part)


def read(body: bytes) -> Said:
    """The first error of an error body; the start of the body where it is none of Apple's."""
    try:
        first = json.loads(body)["errors"][0]
        code = str(first.get("code", ""))
        text = str(first.get("detail") or first.get("title") or "")
    except (ValueError, RecursionError, TypeError, KeyError, IndexError, AttributeError):
        code, text = "", body[:_SHOWN].decode(errors="replace").strip()
    return Said(code=_plain(code), text=_plain(text))


def refusal(answer: Answer, what: str, *, host: str, now: datetime) -> errors.ReleaseError:
    """The error for an answer that is no success.

    Args:
        answer: status, headers and body; the token must not stand in the body.
        what: what was asked: `the status of a submission`.
        host: whom.
        now: this host's time, for a refusal that differing clocks explain.
    """
    said = read(answer.body)
    observed = said.shown(answer.status)
    message = f"the notary refused {what}"
    if answer.status in _REDIRECTS:
        return errors.RemoteRefusedError(
            f"the notary answered {what} with a redirect, which is never followed",
            subject=host,
            observed=f"{answer.status} to {_plain(answer.headers.get('location', 'nowhere'))}",
            hint="the token goes to the notary's own address only; look at what stands before it",
        )
    if answer.status in _PASSING or answer.status >= _SERVER_FAULT:
        return _passing(answer, what, host, observed)
    if answer.status == 401:
        return _unauthorized(answer, host, observed, now)
    if answer.status == 403:
        kind, hint = _forbidden(said.code)
        return kind(message, subject=host, observed=observed, hint=hint)
    return errors.RemoteRefusedError(
        message, subject=host, observed=observed, hint=_HINTS.get(answer.status, "")
    )


_HINTS: Mapping[int, str] = {
    404: "the key's team has no such submission: is it the team that submitted?",
    409: "the notary holds something else under this name; run again",
}


def _passing(answer: Answer, what: str, host: str, observed: str) -> errors.ReleaseError:
    text = f"the notary could not answer {what}"
    if answer.status == 429:
        text = f"the notary asked for patience with {what}"
    return retry_after.passing(text, subject=host, observed=observed, headers=answer.headers)


def _unauthorized(answer: Answer, host: str, observed: str, now: datetime) -> errors.ReleaseError:
    ahead = clocks.ahead(answer.headers, now)
    if abs(ahead) > clocks.TOLERANCE_SECONDS:
        return clocks.refused(
            ahead, "the notary's", why="tokens tell time", subject=host, observed=observed
        )
    return errors.CredentialError(
        "the notary refused the API key, with a fresh token too",
        subject=host,
        observed=observed,
        hint=_KEY_HINT,
    )


def _forbidden(code: str) -> tuple[type[errors.ReleaseError], str]:
    if code.startswith(_AGREEMENTS):
        return errors.RemoteRefusedError, (
            "an agreement is missing or has expired: the team's Account Holder accepts it at"
            " https://developer.apple.com/account; no key or role can, and retrying does not help"
        )
    if code.startswith(_PROVIDER):
        return errors.CredentialError, (
            "the key belongs to no team that may notarize: make one in the team that signs"
        )
    return errors.CredentialError, (
        "the key's role is too narrow: make a team key with the role Developer or above; where"
        " the role is right, the Account Holder looks for an agreement to accept"
    )


def _plain(text: str) -> str:
    return "".join(mark if mark.isprintable() else " " for mark in text)[:_SHOWN]
