"""What anybody can verify of a published release, with no account: every word against another.

Who is trusted comes from outside: Apple's roots, and the keys that release.yaml pins. All that is
downloaded is compared with what one of them signed. What this holds against and what not stands in
docs/verify-release.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from release_tool import errors
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.progress import Reporter
from release_tool.provenance.log import Head
from release_tool.provenance.statement import Statement
from release_tool.services import retries, tombstone
from release_tool.services.coordinator import Coordinator
from release_tool.services.github_public import PublicReleases
from release_tool.stages import (
    verification_archive,
    verification_coordinator,
    verification_github,
    verification_log,
    verification_provenance,
)
from release_tool.stages.verification_findings import Findings, Question


@dataclass(kw_only=True)
class Verification:
    """One verification; `checks` holds what was found, in order.

    Args:
        question: what is asked, and who is believed.
        coordinator: what it serves is compared.
        github: has heads of the log; None where nobody asks it.
        left_out: why nobody does.
        scratch: an empty folder for what is unpacked.
        reporter: is told of bytes.
        policy: how to try again.
    """

    question: Question
    coordinator: Coordinator
    github: PublicReleases | None = None
    left_out: str = ""
    scratch: Path
    reporter: Reporter
    policy: retries.Policy = retries.DEFAULT
    checks: list[Check] = field(default_factory=list, init=False)
    statement: Statement | None = field(default=None, init=False)
    head: Head | None = field(default=None, init=False)
    """Of the log as it is served, signed."""

    @property
    def holds(self) -> bool:
        """Whether nothing failed; what was not checked is told by its own check."""
        return checks.all_hold(self.checks)

    def run(self) -> None:
        """Download and verify everything.

        Raises:
            UsageError: nobody named a flavour, and the signed statement says that it is of
                another one than the usual.
            TransientError, RemoteRefusedError: the public address does not answer plainly.
        """
        findings = Findings(question=self.question, policy=self.policy)
        self.checks = findings.checks
        _tombstone(findings)
        said = verification_provenance.look(findings)
        self.statement = said.statement
        self._require_flavour()
        digests = verification_archive.look(
            findings, said.statement, scratch=self.scratch, reporter=self.reporter
        )
        # Before the log, which only grows: it has all that was on GitHub when it was asked.
        witnesses = verification_github.ask(self.github, self.left_out)
        standing = verification_log.look(findings, said)
        self.head = standing.head
        verification_github.compare(findings, standing, witnesses)
        verification_coordinator.look(
            findings, self.coordinator, said=said.statement, digests=digests, kept=standing.log
        )

    def _require_flavour(self) -> None:
        """A release that nobody asked for as what it is deserves no verdict.

        Its statement's word is not taken instead: what must be inside is for who asks to say.
        """
        failed = [one.name for one in self.checks if one.outcome == "failed"]
        said = self.statement
        if (
            said is None
            or self.question.flavour_named
            or failed != [verification_provenance.FLAVOUR]
        ):
            return
        plan = self.question.plan
        raise errors.UsageError(
            f"{plan.version} is of flavour {said.flavour}; nothing more was verified",
            expected=f"{plan.flavour.name}, since none is named",
            observed=f"{said.flavour}, by its signed provenance",
            hint=f"add --flavour {said.flavour}, if that is what you were given",
        )


def _tombstone(findings: Findings) -> None:
    plan = findings.plan
    try:
        found = tombstone.find_served(
            plan.endpoints.r2_public_url,
            plan.publish.prefix,
            plan.version,
            policy=findings.policy,
        )
        told = tombstone.told(found) if found else ""
    except tombstone.WithdrawnError as problem:
        told = problem.message
    if told:
        hint = "it is not to be used: take another release"
        check = checks.failed("tombstone", expected="none", observed=told, hint=hint)
    else:
        check = checks.passed("tombstone", "none, so it was not withdrawn")
    findings.checks.append(check)
