"""A published archive, from its digest down to Apple's roots, and its bill of materials."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from release_tool import layout
from release_tool.apple import checks, release
from release_tool.apple.facts import BundleFacts
from release_tool.apple.verification import Judge
from release_tool.files.archive_reader import Unpacked
from release_tool.files.tree import DiskTree
from release_tool.progress import Reporter
from release_tool.provenance import sbom
from release_tool.provenance.statement import Statement
from release_tool.services import public_url, release_keys
from release_tool.stages import public_copy
from release_tool.stages.verification_findings import Findings
from release_tool.values import SealedFile

# A download of 2 GiB at 2 MB/s.
_DOWNLOAD_SECONDS = 1000.0


@dataclass(frozen=True, kw_only=True)
class Digests:
    """What a coordinator also says of an archive; empty where it was not unpacked."""

    binary: str = ""
    metallib: str = ""


def places(findings: Findings, said: Statement | None) -> list[str]:
    """Where the archive may stand: that of the coordinator's contract first.

    A release of before a change of contract stands at the other one's.
    """
    plan = findings.plan
    found = [findings.beside(plan.archive.name)]
    if said is not None:
        key = release_keys.by_digest(
            plan.publish.prefix, plan.version, said.sha256, plan.archive.name
        )
        found.append(findings.address(key))
    if plan.coordinator.contract == "2026-10":
        found.reverse()
    return found


def look(
    findings: Findings, said: Statement | None, *, scratch: Path, reporter: Reporter
) -> Digests:
    """Download the archive, unpack it and verify all of it.

    Raises:
        TransientError, RemoteRefusedError: an address does not answer plainly.
    """
    copy = public_copy.PublicCopy(plan=findings.plan, folder=scratch)
    address, served = _download(findings, places(findings, said), copy, reporter)
    if served is None:
        findings.checks.append(
            checks.failed("archive", subject=address, expected="an archive", observed="nothing")
        )
        return Digests()
    if said is not None:
        findings.checks.append(
            checks.compare(
                "archive",
                expected=said.sha256,
                observed=served.sha256,
                subject=address,
                hint="somebody replaced it, or this is another address: do not use it",
            )
        )
    if served.fault is not None or copy.unpacked is None:
        findings.checks.append(
            checks.failed("archive", subject=address, observed=f"it {served.fault}")
        )
        return Digests()
    facts = _signature(findings, copy.root, copy.unpacked)
    _bill(findings, said, served.sha256, copy.unpacked, facts)
    return _digests(findings, copy.unpacked)


def _download(
    findings: Findings, where: list[str], copy: public_copy.PublicCopy, reporter: Reporter
) -> tuple[str, public_url.Served | None]:
    for address in where:
        served = public_url.read(
            address,
            limit_bytes=findings.plan.limits.archive_bytes,
            seconds=_DOWNLOAD_SECONDS,
            reporter=reporter,
            policy=findings.policy,
            consumer=copy.take,
        )
        if served is not None:
            return address, served
    return where[0], None


def _signature(findings: Findings, root: Path, unpacked: Unpacked) -> BundleFacts | None:
    plan, question = findings.plan, findings.question
    report = release.verify(
        DiskTree(root, beside=unpacked.beside),
        judge=Judge(
            trust=question.trust,
            now=question.clock(),
            strict=plan.environment.signer == "portable",
        ),
        flat_copies=layout.flat_names(plan),
        with_app=layout.of(plan).is_app,
    )
    findings.checks += report.checks
    main = report.facts.main if report.facts else None
    findings.checks.append(
        checks.compare(
            "team",
            expected=plan.product.team_id,
            observed=(main.team_id if main else None) or "none",
        )
    )
    hint = "whether Apple revoked a certificate or a ticket: that is asked online, by a Mac"
    findings.checks.append(checks.not_checked("revocation", hint))
    stapled = layout.of(plan).is_app and plan.environment.notarization == "required"
    if stapled and report.facts is not None and report.facts.ticket is None:
        findings.checks.append(
            checks.failed("ticket", expected="a stapled ticket", observed="none")
        )
    return report.facts


def _digests(findings: Findings, unpacked: Unpacked) -> Digests:
    by_path = {one.path: one.sha256 for one in unpacked.members}
    bundle = findings.plan.bundle
    library = bundle.metallib
    return Digests(
        binary=by_path.get(f"bin/{bundle.main_executable}", ""),
        metallib=by_path.get(f"bin/{library.name}", "") if library else "",
    )


def _bill(
    findings: Findings,
    said: Statement | None,
    sha256: str,
    unpacked: Unpacked,
    facts: BundleFacts | None,
) -> None:
    if said is None:
        findings.checks.append(checks.not_checked("SBOM", "no provenance names its digest"))
        return
    address = findings.beside(sbom.NAME)
    content = findings.served("SBOM", address, sbom.LIMIT_BYTES)
    if content is None:
        return
    findings.checks.append(
        checks.compare(
            "SBOM digest",
            expected=said.sbom_sha256,
            observed=hashlib.sha256(content).hexdigest(),
        )
    )
    bill = findings.judged("SBOM", address, lambda: sbom.read(content))
    if bill is not None:
        findings.checks += sbom.judge(bill, sha256, _files(unpacked), sbom.code_of(facts))


def _files(unpacked: Unpacked) -> list[SealedFile]:
    return [
        SealedFile(
            path=one.path,
            mode=one.mode,
            size=one.size,
            sha256=one.sha256,
            link=one.kind == "symlink",
        )
        for one in unpacked.members
        if one.kind != "directory"
    ]
