"""The approval of a signed build, which only somebody else can give (contract of October, 1.5).

The request for it is written for the operator. Its evidence stays empty on purpose: a release
pipeline that vouched for itself would make the approval worthless.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from release_tool import errors
from release_tool.files import atomic
from release_tool.files.workspace import Workspace
from release_tool.services import coordinator_refusals
from release_tool.services.coordinator import Approval, Coordinator
from release_tool.services.coordinator_refusals import UnapprovedError
from release_tool.services.coordinator_rules import BUILD, Build, Release

REQUEST = "qualification-request.json"
# What the coordinator takes; a longer file is not ours.
_REQUEST_BYTES = 64 * 1024


def write_request(workspace: Workspace, release: Release, build: Build) -> str:
    """Write the body that an administrator sends, unless it stands there, evidence and all.

    Returns:
        Its path, for people.
    """
    row = {name: value for name, value in asdict(release).items() if name != "changelog"}
    wanted = {"release": row} | {name: getattr(build, name) for name in BUILD}
    path = workspace.path(REQUEST)
    if _identity(workspace) != wanted:
        text = json.dumps(wanted | {"evidence": ""}, indent=2, ensure_ascii=False)
        atomic.write_atomically(path, f"{text}\n".encode())
    return str(path)


def require(coordinator: Coordinator, release: Release, build: Build, request: str) -> None:
    """Pass where exactly this build is approved, or where that cannot be asked.

    Args:
        coordinator: who is asked.
        release: what will be registered.
        build: where it comes from.
        request: where the request for an approval stands.

    Raises:
        PendingError: nobody has approved it yet.
        RemoteRefusedError: the approval was revoked, or is of another build.
    """
    found = coordinator.approval(release, build)
    if found is not None and found.status != "approved":
        raise _refusal(found, request)


def after_refusal(
    coordinator: Coordinator,
    release: Release,
    build: Build,
    request: str,
    problem: UnapprovedError,
) -> errors.ReleaseError:
    """The error for a registration that was refused for want of an approval.

    October has one answer for several reasons; the question tells them apart, where it exists,
    else perhaps the answer's own words. Whatever is said of them, they are told.
    """
    found = coordinator.approval(release, build)
    if found is None:
        return _by_words(problem.observed, request)
    if found.status != "approved":
        refused = _refusal(found, request)
        refused.details = (*refused.details, f"it said: {problem.observed}")
        return refused
    return errors.RemoteRefusedError(
        "this build is approved, and the coordinator still refuses it",
        observed=problem.observed,
        hint=(
            "run again in a minute, since it may read its approvals late; if it stays, it holds"
            " other bytes for this version: release the next version"
        ),
    )


def unexpected(problem: UnapprovedError) -> errors.UsageError:
    """The error where the plan wants no approval, and the coordinator does."""
    return errors.UsageError(
        "this coordinator registers approved builds only",
        observed=problem.observed,
        hint="set `require_qualification: true` for this environment in release.yaml",
    )


def _refusal(found: Approval, request: str) -> errors.ReleaseError:
    if found.status == "pending":
        return _pending("pending", request)
    if found.status == "revoked":
        return _revoked()
    named = ", ".join(found.mismatched) or "fields that it does not name"
    return _mismatched(f"differs in {named}")


def _by_words(told: str, request: str) -> errors.ReleaseError:
    """The coordinator cannot be asked why: an advice that helps whatever the reason is."""
    why = coordinator_refusals.why_unapproved(told)
    if why == "revoked":
        return _revoked(told)
    if why == "mismatched":
        return _mismatched(told)
    return errors.PendingError(
        "the coordinator has no approval that fits this build, and does not tell why",
        subject=request,
        observed=told,
        hint=(
            f"if nobody approved it yet, {_APPROVE}; if somebody did, ask an administrator: one"
            " that was revoked, or is of another build, is so for good, and the next version is"
            " the way on"
        ),
    )


_APPROVE = (
    "let an administrator fill in its evidence and send it to /v1/admin/app-attest/builds, then"
    " run again; nothing is signed again"
)


def _revoked(observed: str = "") -> errors.RemoteRefusedError:
    return errors.RemoteRefusedError(
        "the approval of this build was revoked, which is for good",
        observed=observed,
        hint="release the next version",
    )


def _mismatched(observed: str) -> errors.RemoteRefusedError:
    return errors.RemoteRefusedError(
        "another build is approved than this one",
        observed=observed,
        hint="an approval never changes: run again what was approved, or release the next version",
    )


def _pending(observed: str, request: str) -> errors.PendingError:
    return errors.PendingError(
        "nobody has approved this build yet",
        subject=request,
        observed=observed,
        hint=_APPROVE,
    )


def _identity(workspace: Workspace) -> object:
    """What a request that stands there asks for, without its evidence."""
    try:
        with workspace.path(REQUEST).open("rb") as file:
            found = json.loads(file.read(_REQUEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return {name: value for name, value in found.items() if name != "evidence"}
