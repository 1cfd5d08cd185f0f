"""What one verification of a published release is asked with, and what it has found so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from release_tool import errors
from release_tool.apple import certificates, checks
from release_tool.apple.checks import Check
from release_tool.plan import ReleasePlan
from release_tool.provenance.keys import PublicKey
from release_tool.services import addresses, public_document, release_keys, retries

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and who is believed.

    Args:
        plan: version, addresses and what the release must be.
        trusted: the keys that sign provenance and log.
        trust: the roots that sign code and tickets.
        seen: a signed head of the log that was seen before; None without one.
        flavour_named: whether somebody chose the plan's flavour; else it is the usual one.
        commit: the source commit that the release must be of; empty for any.
        clock: the time at which signatures must hold.
    """

    plan: ReleasePlan
    trusted: Sequence[PublicKey]
    trust: certificates.Trust
    seen: bytes | None = None
    flavour_named: bool = True
    commit: str = ""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(kw_only=True)
class Findings:
    """The checks of one verification, in order, and how it asks for documents."""

    question: Question
    policy: retries.Policy = retries.DEFAULT
    checks: list[Check] = field(default_factory=list, init=False)

    @property
    def plan(self) -> ReleasePlan:
        """What the release must be."""
        return self.question.plan

    def address(self, key: str) -> str:
        """Where anybody gets an object of the bucket."""
        base = addresses.base(self.plan.endpoints.r2_public_url, name="R2_PUBLIC_URL")
        return addresses.join(base, key)

    def beside(self, name: str) -> str:
        """The same for a document of the version."""
        return self.address(release_keys.beside(self.plan.publish.prefix, self.plan.version, name))

    def served(self, name: str, address: str, limit_bytes: int) -> bytes | None:
        """A document as it is served, or None with the check that failed.

        Raises:
            TransientError, RemoteRefusedError: the address does not answer plainly.
        """
        content = public_document.fetch(address, limit_bytes=limit_bytes, policy=self.policy)
        if content is None:
            self.checks.append(
                checks.failed(name, subject=address, expected="a document", observed="nothing")
            )
        return content

    def judged(self, name: str, subject: str, act: Callable[[], _T]) -> _T | None:
        """What an act gives, or None with the check that failed."""
        try:
            return act()
        except errors.VerificationError as problem:
            self.checks.append(
                checks.failed(
                    name,
                    subject=subject,
                    expected=problem.expected,
                    observed=f"it {problem.message}"
                    + (f": {problem.observed}" if problem.observed else ""),
                )
            )
            return None
