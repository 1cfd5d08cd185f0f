"""What the coordinator tells of a release, against what was signed and unpacked."""

from __future__ import annotations

from collections.abc import Iterator

from release_tool import errors
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.provenance.log import Log
from release_tool.provenance.statement import Statement
from release_tool.services import precedence
from release_tool.services.coordinator import Coordinator
from release_tool.services.coordinator_rules import Release
from release_tool.stages import verification_archive
from release_tool.stages.verification_archive import Digests
from release_tool.stages.verification_findings import Findings

_NAME = "coordinator"


def look(
    findings: Findings,
    coordinator: Coordinator,
    *,
    said: Statement | None,
    digests: Digests,
    kept: Log | None,
) -> None:
    """Ask for the latest release and compare its row; no answer is no finding."""
    try:
        latest = coordinator.latest(findings.plan.product.platform)
    except (errors.TransientError, errors.RemoteRefusedError) as problem:
        hint = f"it does not answer: {problem.message} {problem.observed}".rstrip()
        findings.checks.append(checks.not_checked(_NAME, hint))
        return
    except errors.VerificationError as problem:
        findings.checks.append(checks.failed(_NAME, observed=f"its answer: {problem.message}"))
        return
    if latest is None:
        findings.checks.append(checks.not_checked(_NAME, "it serves no release"))
    elif latest.version == findings.plan.version:
        findings.checks += _row(findings, latest, said, digests)
    else:
        findings.checks += _other(findings.plan.version, latest, kept)


def _row(
    findings: Findings, row: Release, said: Statement | None, digests: Digests
) -> Iterator[Check]:
    told = (
        ("coordinator bundle_hash", said.sha256 if said else "", row.bundle_hash),
        ("coordinator binary_hash", digests.binary, row.binary_hash),
        ("coordinator metallib_hash", digests.metallib, row.metallib_hash),
    )
    for name, expected, observed in told:
        if expected:
            yield checks.compare(name, expected=expected, observed=observed)
    where = verification_archive.places(findings, said)
    if row.url not in where:
        yield checks.failed("coordinator url", expected=" or ".join(where), observed=row.url[:300])


def _other(version: str, latest: Release, kept: Log | None) -> Iterator[Check]:
    """It tells of one release only; that one, too, must be in the log."""
    relation = "newer" if precedence.is_newer(latest.version, version) else "older"
    yield checks.not_checked(
        _NAME, f"it serves {latest.version}, which is {relation}, and tells of no other"
    )
    if kept is None:
        return
    if kept.withdrawn(latest.version):
        yield checks.failed(
            f"coordinator's {latest.version}",
            expected="a release that stands",
            observed="one that was withdrawn, by the log",
            hint="deactivate it: release-tool rollback",
        )
        return
    known = kept.digests(latest.version)
    yield checks.compare(
        f"coordinator's {latest.version}",
        expected=next((one for one in known if one == latest.bundle_hash), "")
        or " or ".join(known)
        or "a release that the log knows",
        observed=latest.bundle_hash,
    )
