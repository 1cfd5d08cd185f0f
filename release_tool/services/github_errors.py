"""What GitHub's refusals mean, and what to do about each.

Rules: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api: wait for
`retry-after`, else for `x-ratelimit-reset` where nothing remains; both come with 403 or 429.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from release_tool import errors
from release_tool.services import retries
from release_tool.services.http_client import Answer

NOT_FOUND = 404
INVALID = 422
_LIMITING = frozenset({403, 429})
_SERVER_FAULT = 500
_PASSING = frozenset({408, 425, 429})
# A longer pause is no pause of a run any more: the primary limit is one of an hour.
_PATIENCE_SECONDS = 120.0
# A secondary limit that names no time asks for at least a minute.
_UNTOLD_SECONDS = 60.0
_DAY_SECONDS = 86_400.0


def refusal(
    answer: Answer, what: str, *, repository: str, now: float, right: str = "contents: write"
) -> errors.ReleaseError:
    """The error for an answer that is none of those expected.

    Args:
        answer: the whole answer.
        what: what was asked, for people.
        repository: of which repository.
        now: the time, in seconds since 1970, that a reset is compared with.
        right: the permission that the question needs.
    """
    told = _shown(answer)
    wait = _wait(answer, now) if answer.status in _LIMITING else None
    if wait is not None:
        return _limited(wait, what, repository, told, now)
    if answer.status in (301, 302, 303, 307, 308):
        return errors.RemoteRefusedError(
            f"GitHub answered {what} with a redirect, which is never followed",
            subject=repository,
            observed=f"{answer.status}",
            hint="set github_repository to the name that the repository has now",
        )
    kind, hint = _remedy(answer, right)
    return kind(f"GitHub refused {what}", subject=repository, observed=told, hint=hint)


def _remedy(answer: Answer, right: str) -> tuple[type[errors.ReleaseError], str]:
    status = answer.status
    if status == 401:
        return errors.CredentialError, "GITHUB_TOKEN has ended or is no token; set it again"
    if status == 403:
        return (
            errors.CredentialError,
            f"the token may not do this here: the job needs `permissions: {right}`",
        )
    if status == NOT_FOUND:
        return (
            errors.CredentialError,
            f"either github_repository is not its name, or the token lacks `{right}`",
        )
    if status in _PASSING or status >= _SERVER_FAULT:
        return errors.TransientError, "run again"
    if status == INVALID and "immutable" in _message(answer).lower():
        return (
            errors.RemoteRefusedError,
            "a published release takes no further asset; what it lacks goes with the next version",
        )
    return errors.RemoteRefusedError, "read GitHub's word above; nothing was published"


def _limited(wait: float, what: str, repository: str, told: str, now: float) -> errors.ReleaseError:
    if wait <= _PATIENCE_SECONDS:
        return retries.BusyError(
            f"GitHub asks for a pause before {what}",
            subject=repository,
            observed=told,
            wait_seconds=wait,
        )
    until = datetime.fromtimestamp(now + wait, UTC)
    return errors.PendingError(
        f"GitHub takes no more requests of this token, {what} included",
        subject=repository,
        observed=told,
        hint=f"run again after {until:%Y-%m-%d %H:%M} UTC to resume",
    )


def _wait(answer: Answer, now: float) -> float | None:
    """How long GitHub wants us to wait; None where it is no limit that refused."""
    after = _seconds(answer.headers, "retry-after")
    if after is not None:
        return after
    if answer.headers.get("x-ratelimit-remaining") == "0":
        reset = _seconds(answer.headers, "x-ratelimit-reset")
        return min(max(reset - now, 1.0), _DAY_SECONDS) if reset is not None else _UNTOLD_SECONDS
    return _UNTOLD_SECONDS if "rate limit" in _message(answer).lower() else None


def _seconds(headers: Mapping[str, str], name: str) -> float | None:
    text = headers.get(name, "")
    # Longer numbers come from no clock.
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        return None
    found = float(text)
    return min(found, _DAY_SECONDS) if name == "retry-after" else found


def _message(answer: Answer) -> str:
    try:
        whole = json.loads(answer.body)
        faults = whole.get("errors") or []
        lines = [str(whole["message"])]
        lines += [_fault(fault) for fault in faults if isinstance(fault, dict)]
        return "; ".join(lines[:5])
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return answer.body[:200].decode(errors="replace")


def _fault(fault: Mapping[str, object]) -> str:
    parts = (fault.get(name) for name in ("resource", "field", "code", "message"))
    return " ".join(str(part) for part in parts if part)


def _shown(answer: Answer) -> str:
    text = f"{answer.status} {_message(answer)}"
    return "".join(mark if mark.isprintable() else " " for mark in text)[:600]
