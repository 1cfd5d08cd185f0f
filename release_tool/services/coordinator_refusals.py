"""What the coordinator's refusals mean, and what helps: section 1 of its contract.

One status has several meanings: a 400 may be the coordinator's own download, a 409 a missing
approval or other bytes, and some answers show that it speaks the other contract.
"""

from __future__ import annotations

import re
from typing import Literal

from release_tool import errors
from release_tool.services import coordinator_answers, http_client
from release_tool.services.coordinator_answers import Said
from release_tool.services.coordinator_rules import BUILD, Contract

_ARTIFACT_PREFIX = "release artifact verification failed:"
# The coordinator's own download failed; its verdicts on the bytes have other texts.
_DOWNLOAD_TROUBLE = ("download bundle", "read bundle")
_PASSING_STATUSES = (408, 425, 429)
_SERVER_FAULT = 500
_UNAVAILABLE = 503
# What says that a request was not carried out, whoever of those on the way to it says so.
_REFUSING = (400, 401, 403, 404, 405, 406, 409, 411, 413, 414, 415, 422, 431)
_REDIRECTS = range(300, 400)
_FORBIDDEN = (401, 403)
# What shows the other contract in these came before anything was written.
_JUDGED = (400, 409)
_UNAPPROVED = "app_attest_qualification_required"
_NOT_READY = ("release_not_ready", "qualification_unavailable")
# October has one type for two refusals; only the text of the second says one of these.
_IMMUTABLE = (
    *("immutable", "conflict", "already published", "published version"),
    *("other bytes", "different bytes", "replacement bytes"),
)
_REVOKED = re.compile(r"\brevoked\b")
_MISMATCHED = re.compile(r"\b(mismatch(ed|es|ing)?|another build|other build)\b")
# A text that lists what may be wrong, or says what is not, singles nothing out.
_LISTING = re.compile(r"\b(or|nor|no|not|none|neither|without|missing)\b|/")


class UnapprovedError(errors.PendingError):
    """This build waits for somebody's approval."""


class NotTakenError(errors.TransientError):
    """It answered that it did not do as asked, and may when it is asked again."""


class FailedError(errors.TransientError):
    """It answered that it failed: nothing is under way, and whether it did as asked is unknown."""


class UnclearError(errors.RemoteRefusedError):
    """A status that no contract knows, which says nothing of what became of the request."""


class NotReadyError(NotTakenError):
    """It serves nothing until it has read its approvals."""


def refusal(
    answer: http_client.Answer,
    what: str,
    *,
    address: str,
    contract: Contract,
    administrator: bool,
    prefix: str = "",
) -> errors.ReleaseError:
    """The error for an answer that is no success.

    Args:
        answer: the answer.
        what: what was asked, for the message.
        address: the coordinator.
        contract: what it is spoken to in.
        administrator: whether an administrator's key was sent.
        prefix: of the settings' names in this environment, such as `PROD_`.
    """
    said = coordinator_answers.error(answer.body)
    told = said.shown(answer.status)
    if answer.status in _REDIRECTS:
        location = answer.headers.get("location", "nowhere")[:200]
        return errors.RemoteRefusedError(
            f"the coordinator answered {what} with a redirect, which is never followed",
            subject=address,
            observed=f"{answer.status} to {location}",
            hint=f"set {prefix}COORDINATOR_URL to the address that answers itself",
        )
    if administrator and answer.status in _FORBIDDEN:
        return errors.CredentialError(
            "the coordinator refused the administrator's key",
            subject=address,
            observed=told,
            hint=f"set {prefix}ADMIN_KEY to a key of the coordinator's administrators",
        )
    if answer.status == 401:
        return errors.CredentialError(
            "the coordinator refused the release key",
            subject=address,
            observed=told,
            hint=f"{prefix}RELEASE_KEY must equal the coordinator's EIGENINFERENCE_RELEASE_KEY",
        )
    if other := _spoken(answer.status, said, contract):
        nothing = "; nothing was registered" if answer.status in _JUDGED else ""
        return errors.UsageError(
            f"the coordinator speaks the contract {other}, release.yaml says {contract}",
            subject=address,
            observed=told,
            hint=f"set `coordinator: contract: {other}` in release.yaml{nothing}",
        )
    kind, message, hint = _remedy(answer.status, said)
    return kind(
        message or f"the coordinator refused {what}", subject=address, observed=told, hint=hint
    )


def is_passing(answer: http_client.Answer, contract: Contract) -> bool:
    """Whether a question may be answered when it is asked again."""
    said = coordinator_answers.error(answer.body)
    if said.type == "not_configured" or _spoken(answer.status, said, contract):
        return False
    return answer.status in _PASSING_STATUSES or answer.status >= _SERVER_FAULT


def is_download_trouble(message: str) -> bool:
    """Whether a 400 tells of the coordinator's own download, which may succeed later.

    Verdicts on the downloaded bytes (digest, members, size) are final.
    """
    reason = message.removeprefix(_ARTIFACT_PREFIX).strip().lower()
    return reason.startswith(_DOWNLOAD_TROUBLE)


def why_unapproved(told: str) -> Literal["revoked", "mismatched", "untold"]:
    """What a refusal's own words single out as what is wrong with an approval.

    Args:
        told: `UnapprovedError.observed`.
    """
    words = told.lower()
    revoked, mismatched = _REVOKED.search(words), _MISMATCHED.search(words)
    if bool(revoked) == bool(mismatched) or _LISTING.search(words):
        return "untold"
    return "revoked" if revoked else "mismatched"


def _spoken(status: int, said: Said, contract: Contract) -> Contract | None:
    """The other contract, where an answer shows that it is spoken."""
    if contract == "2026-05":
        shown = (status == 409 and said.type == _UNAPPROVED) or said.type in _NOT_READY
        return "2026-10" if shown else None
    unknown = status == 400 and "unknown field" in said.message
    sent = (*BUILD, "require_app_attest_qualification")
    return "2026-05" if unknown and any(name in said.message for name in sent) else None


_Remedy = tuple[type[errors.ReleaseError], str, str]


def _remedy(status: int, said: Said) -> _Remedy:
    """The kind of error, its message where the usual one says too little, and what helps."""
    if status == 409:
        return _conflict(said)
    if said.type == "not_configured":
        hint = "set EIGENINFERENCE_R2_CDN_URL on the coordinator"
        return errors.RemoteRefusedError, "", hint
    if status == 400 and is_download_trouble(said.message):
        hint = "the coordinator could not download the archive; run again"
        return NotTakenError, "", hint
    if said.type in _NOT_READY:
        hint = "it has not read its approvals yet; run again in a minute"
        return NotReadyError, "the coordinator is not ready", hint
    # Its own word for that it is not there now; an edge's page says nothing of what it does.
    if status in _PASSING_STATUSES or (status == _UNAVAILABLE and said.type):
        return NotTakenError, "", "run again"
    if status >= _SERVER_FAULT:
        return FailedError if said.type else errors.TransientError, "", "run again"
    if status in _REFUSING or status in _REDIRECTS:
        return errors.RemoteRefusedError, "", _HINTS.get(status, "nothing was registered")
    return UnclearError, "", "look at what stands before the coordinator, and run again"


def _conflict(said: Said) -> _Remedy:
    if said.type == "release_in_use":
        hint = "deactivating it takes them out of service: say --force if that is meant"
        return errors.RemoteRefusedError, "connected providers still run this release", hint
    if any(word in said.message.lower() for word in _IMMUTABLE):
        return (
            errors.RemoteRefusedError,
            "the coordinator holds other bytes, or another approved build, for this version",
            "what was published never changes: release the next version",
        )
    if said.type == _UNAPPROVED:
        return (
            UnapprovedError,
            "this build is not approved",
            "let an administrator approve exactly this build, then run again",
        )
    return (
        errors.RemoteRefusedError,
        "",
        "it holds another approval or other bytes for this version: release the next version",
    )


_HINTS = {
    403: "something before the coordinator refuses this host or its user agent",
    404: "COORDINATOR_URL does not lead to a coordinator",
}
