"""What the model hub's refusals mean, and what to do about each.

Source: `X-Error-Code` and `X-Error-Message`, which the hub's public client reads; a model that is
not there answers 401 to whoever is not signed in. Its limits come as `Retry-After`, or as fields of
the IETF's draft on rate limits: `RateLimit: "api";r=0;t=55`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from release_tool import errors
from release_tool.services import http_client, retries, retry_after

TOKEN = "HF_TOKEN"  # noqa: S105 - its name
_LIMIT = re.compile(r"r=0{1,4};t=([0-9]{1,6})")
_PASSING = frozenset({408, 425, 429})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# A longer pause is no pause of a run any more; the hub's own window has five minutes.
_LONGEST_WAIT_SECONDS = 300.0
_SHOWN = 300


def refusal(
    status: int, headers: Mapping[str, str], what: str, *, with_token: bool
) -> errors.ReleaseError:
    """The error for an answer that is none of those expected.

    Args:
        status: of the answer.
        headers: its headers, by names in small letters.
        what: what was asked for: the model, or a file of it.
        with_token: whether the question carried a token.
    """
    if status in _PASSING or status >= 500:
        return _passing(status, headers, what)
    kind, message, hint = _remedy(status, headers, with_token=with_token)
    return kind(message, subject=what, observed=_told(status, headers), hint=hint)


def _remedy(
    status: int, headers: Mapping[str, str], *, with_token: bool
) -> tuple[type[errors.ReleaseError], str, str]:
    code, said = headers.get("x-error-code", ""), headers.get("x-error-message", "").lower()
    if status in _REDIRECTS:
        hint = "set smoke.model to the name that the model has now"
        return errors.RemoteRefusedError, "the hub redirects, which is not followed", hint
    if code == "GatedRepo":
        hint = f"accept its terms on the hub, and set {TOKEN} of the account that did"
        return errors.CredentialError, "the hub gives this model to those it knows only", hint
    if status == 401 and "invalid credentials" in said:
        return errors.CredentialError, "the hub does not take the token", f"set {TOKEN} again"
    if "disabled" in said:
        hint = "name another model: smoke.model"
        return errors.RemoteRefusedError, "the hub gives this model to nobody any more", hint
    if code == "RevisionNotFound":
        hint = "correct smoke.model_revision: `release-tool model pin` names the one of today"
        return errors.UsageError, "the hub has no such revision", hint
    if code == "EntryNotFound":
        hint = "run again; if it stays so, pin the model again: `release-tool model pin`"
        return errors.RemoteRefusedError, "the hub lists this file and does not have it", hint
    if code == "RepoNotFound" or status in (401, 404):
        hint = f"correct smoke.model; a private model wants {TOKEN} of an account that may see it"
        kind = errors.UsageError if with_token else errors.CredentialError
        return kind, "the hub has no such model, or does not show it", hint
    if status == 403:
        hint = f"{TOKEN} has to be of an account that may read this model"
        return errors.CredentialError, "the hub does not give this model to this account", hint
    return errors.RemoteRefusedError, "the hub refuses", "read its word above"


def _passing(status: int, headers: Mapping[str, str], what: str) -> errors.TransientError:
    message = "the hub does not answer this now"
    found = _LIMIT.search(headers.get("ratelimit", "").replace(" ", ""))
    if status == 429 and found and "retry-after" not in headers:
        wait = min(float(found[1]) + 1, _LONGEST_WAIT_SECONDS)
        observed = _told(status, headers)
        return retries.BusyError(message, subject=what, observed=observed, wait_seconds=wait)
    return retry_after.passing(
        message, subject=what, observed=_told(status, headers), headers=headers
    )


def _told(status: int, headers: Mapping[str, str]) -> str:
    parts = (str(status), headers.get("x-error-code", ""), headers.get("x-error-message", ""))
    text = " ".join(part for part in parts if part)
    return "".join(mark if mark.isprintable() else " " for mark in text)[:_SHOWN]


def offline(what: str, why: str) -> errors.HostError:
    """The model is not here, and nobody may be asked for it."""
    return errors.HostError(
        f"this host does not have the smoke model, and {why}",
        subject=what,
        hint="download it where the hub may be asked (`release-tool model fetch`), or name a folder"
        " that holds it with --model",
    )


def unreachable(what: str, endpoint: str, problem: errors.TransientError) -> errors.TransientError:
    """The model is not here, and the hub does not answer."""
    return errors.TransientError(
        "this host does not have the smoke model, and the hub cannot be asked for it",
        subject=what,
        expected=f"an answer of {http_client.shown(endpoint)}",
        observed=problem.observed or problem.message,
        hint="go online, or name a folder that holds it with --model",
    )
