"""The heads of the log on GitHub, where the bucket's writers cannot reach, against the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from release_tool import errors
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.provenance import log
from release_tool.provenance.log import Head
from release_tool.services.github_public import PublicHead, PublicReleases
from release_tool.stages import verification_log
from release_tool.stages.verification_findings import Findings
from release_tool.stages.verification_log import Standing

NAME = "log head on GitHub"
_INSTEAD = "give one that you kept with --log-head"


@dataclass(frozen=True, kw_only=True)
class Witnesses:
    """What GitHub has, or why nothing of it is compared."""

    heads: Sequence[PublicHead] = ()
    instead: Check | None = None


def ask(github: PublicReleases | None, left_out: str) -> Witnesses:
    """Fetch the heads; to be asked for before the log, which only grows.

    Args:
        github: whom to ask; None for nobody.
        left_out: why nobody is asked.
    """
    if github is None:
        return Witnesses(instead=checks.not_checked(NAME, f"{left_out}: {_INSTEAD}"))
    try:
        heads = github.heads()
    except (errors.TransientError, errors.RemoteRefusedError) as problem:
        told = f"{problem} {problem.observed}".rstrip()
        return Witnesses(instead=checks.not_checked(NAME, f"{told}; {_INSTEAD}"))
    except errors.VerificationError as problem:
        told = f"GitHub's answer {problem.message} {problem.observed}".rstrip()
        return Witnesses(instead=checks.failed(NAME, subject=problem.subject, observed=told))
    if not heads:
        told = f"no release of {github.repository} has one: {_INSTEAD}"
        return Witnesses(instead=checks.not_checked(NAME, told))
    return Witnesses(heads=heads)


def compare(findings: Findings, standing: Standing, witnesses: Witnesses) -> None:
    """Whether the served log begins with every head that GitHub has, and its own is no shorter.

    Anybody can sign something, and a key that was lost is listed no more: beside a head that
    counts, one of another key proves nothing. Alone it is a failure.
    """
    if witnesses.instead is not None:
        findings.checks.append(witnesses.instead)
    believed = [one for one in witnesses.heads if _is_signed(findings, one)]
    strange = [one for one in witnesses.heads if one not in believed]
    found = [_one(findings, standing, head) for head in believed or strange]
    held = [head for head in found if head is not None]
    if held and len(held) == len(found):
        lines = max(head.count for head in held)
        told = ", ".join(map(str, believed))
        findings.checks.append(checks.passed(NAME, f"{lines} lines, and all are there: {told}"))
    if believed and strange:
        told = ", ".join(map(str, strange))
        hint = f"no key that is listed signed {told}: they count for nothing"
        findings.checks.append(checks.not_checked(NAME, hint))


def _is_signed(findings: Findings, there: PublicHead) -> bool:
    try:
        log.unseal(there.content, trusted=findings.question.trusted)
    except errors.VerificationError:
        return False
    return True


def _one(findings: Findings, standing: Standing, there: PublicHead) -> Head | None:
    head = verification_log.witnessed(
        findings, standing, there.content, name=NAME, subject=str(there)
    )
    named = log.lines_named(there.name)
    if head is None or named in (None, head.count):
        return head
    findings.checks.append(
        checks.failed(
            NAME,
            subject=str(there),
            expected=f"a head over {named} lines",
            observed=f"one over {head.count}",
        )
    )
    return None
