"""The log of releases as it is served, under its signed heads, and what it says of a release."""

from __future__ import annotations

from dataclasses import dataclass

from release_tool import errors
from release_tool.apple import checks
from release_tool.provenance import dsse, log
from release_tool.provenance.log import Head, Log
from release_tool.stages.verification_findings import Findings
from release_tool.stages.verification_provenance import Provenance

_SEEN = "give a log.head.json that you kept with --log-head"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The log that is served, and its head."""

    log: Log | None = None
    """None where none is served, or its chain does not hold."""
    head: Head | None = None
    """Signed, and the log begins with what it covers."""


def look(findings: Findings, said: Provenance) -> Standing:
    """Fetch head and log and compare them with each other and with the statement.

    Raises:
        TransientError, RemoteRefusedError: an address does not answer plainly.
    """
    prefix = findings.plan.publish.prefix
    # The head first: the log only grows, so it covers each head that was read before.
    head_address = findings.address(f"{prefix}/{log.HEAD_NAME}")
    sealed = findings.served("log head", head_address, dsse.LIMIT_BYTES)
    kept = _log(findings, findings.address(f"{prefix}/{log.NAME}"))
    if kept is None:
        return Standing()
    head = _covered(findings, kept, sealed, head_address) if sealed is not None else None
    standing = Standing(log=kept, head=head)
    _seen(findings, standing)
    _inclusion(findings, kept, said)
    return standing


def _log(findings: Findings, address: str) -> Log | None:
    content = findings.served("log", address, log.LIMIT_BYTES)
    kept = findings.judged("log", address, lambda: log.parse(content or b""))
    if content is None or kept is None:
        return None
    unsigned = kept.unsigned(findings.question.trusted)
    if unsigned:
        found = checks.failed(
            "log",
            subject=address,
            expected="every line signed by a trusted key",
            observed=f"{len(unsigned)} are not, line {unsigned[0]} first",
        )
    else:
        told = f"{len(kept.lines)} lines, each signed and bound to those before it"
        found = checks.passed("log", told)
    findings.checks.append(found)
    return kept


def _covered(findings: Findings, kept: Log, sealed: bytes, address: str) -> Head | None:
    name = "log head"
    head = _opened(findings, kept, sealed, name=name, subject=address)
    if head is None:
        return None
    findings.checks.append(checks.passed(name, f"signed over {head}"))
    if behind := len(kept.lines) - head.count:
        findings.checks.append(
            checks.not_checked(
                name,
                f"{behind} lines stand behind it: a release is being made, or its run broke off"
                " and is to be run again",
            )
        )
    return head


def _opened(
    findings: Findings, kept: Log, sealed: bytes, *, name: str, subject: str
) -> Head | None:
    """A head of this environment that the log begins with, or None with the check that failed."""
    trusted = findings.question.trusted
    head = findings.judged(name, subject, lambda: log.unseal(sealed, trusted=trusted))
    if head is None:
        return None
    whose = checks.compare(
        name, expected=findings.plan.environment.name, observed=head.environment, subject=subject
    )
    if whose.outcome == "failed":
        findings.checks.append(whose)
        return None
    try:
        log.judge(kept, head)
    except errors.VerificationError as problem:
        told = f"the log {problem.message}: {problem.observed}"
        findings.checks.append(
            checks.failed(name, subject=subject, expected=problem.expected, observed=told)
        )
        return None
    return head


def _seen(findings: Findings, standing: Standing) -> None:
    name, given = "log head seen before", findings.question.seen
    if given is None:
        findings.checks.append(checks.not_checked(name, _SEEN))
        return
    seen = witnessed(findings, standing, given, name=name, subject="--log-head")
    if seen is not None:
        findings.checks.append(checks.passed(name, f"{seen.count} lines, and all are there"))


def witnessed(
    findings: Findings, standing: Standing, sealed: bytes, *, name: str, subject: str
) -> Head | None:
    """A head that was seen elsewhere, if log and served head have all that it covers.

    A beginning of a chain is a chain: only who has seen more can tell.

    Returns:
        the head, or None with the check that failed; None also where no log is served.
    """
    if standing.log is None:
        return None
    seen = _opened(findings, standing.log, sealed, name=name, subject=subject)
    served = standing.head
    if seen is None or served is None or served.count >= seen.count:
        return seen
    findings.checks.append(
        checks.failed(
            name,
            subject=subject,
            expected=f"a head over at least {seen.count} lines",
            observed=f"the served head covers {served.count}",
        )
    )
    return None


def _inclusion(findings: Findings, kept: Log, said: Provenance) -> None:
    version, statement = findings.plan.version, said.statement
    if (entry := kept.withdrawn(version)) is not None:
        findings.checks.append(
            checks.failed(
                "log entry",
                expected=f"{version} in use",
                observed=f"withdrawn {entry.at} {entry.note}",
                hint="it is not to be used: take another release",
            )
        )
    if statement is None:
        findings.checks.append(checks.not_checked("log entry", "no provenance names the archive"))
        return
    found = kept.archives(version)
    findings.checks.append(
        checks.compare(
            "log entry",
            expected=statement.sha256,
            observed=", ".join(found) or "no registration",
            subject=version,
        )
    )
    number = kept.first("registered", version, statement.sha256)
    if number is not None:
        findings.checks.append(
            checks.compare(
                "provenance in the log",
                expected=kept.lines[number - 1].entry.provenance,
                observed=said.envelope_sha256,
            )
        )
