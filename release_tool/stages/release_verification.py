"""What anybody can verify of a published release, with no account: every word against another.

Who is trusted comes from outside: Apple's roots, and the keys that release.yaml pins. All that is
downloaded is compared with what one of them signed. What this holds against and what not stands in
docs/verify-release.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from release_tool import errors, layout
from release_tool.apple import certificates, checks, release
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.apple.verification import Judge
from release_tool.files.archive_reader import Unpacked
from release_tool.files.tree import DiskTree
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.provenance import dsse, log, sbom, statement
from release_tool.provenance.keys import PublicKey
from release_tool.provenance.log import Head, Log
from release_tool.provenance.statement import Statement
from release_tool.services import (
    addresses,
    precedence,
    public_document,
    public_url,
    release_keys,
    retries,
    tombstone,
)
from release_tool.services.coordinator import Coordinator
from release_tool.services.coordinator_rules import Release
from release_tool.stages import public_copy
from release_tool.values import SealedFile

# A download of 2 GiB at 2 MB/s.
_DOWNLOAD_SECONDS = 1000.0
_SEEN = "give the log.head.json of the newest release on GitHub with --log-head"
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and who is believed.

    Args:
        plan: version, addresses and what the release must be.
        trusted: the keys that sign provenance and log.
        trust: the roots that sign code and tickets.
        seen: a signed head of the log that was seen before; None without one.
        commit: the source commit that the release must be of; empty for any.
        clock: the time at which signatures must hold.
    """

    plan: ReleasePlan
    trusted: Sequence[PublicKey]
    trust: certificates.Trust
    seen: bytes | None = None
    commit: str = ""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(kw_only=True)
class Verification:
    """One verification; `checks` holds what was found, in order."""

    question: Question
    coordinator: Coordinator
    scratch: Path
    reporter: Reporter
    policy: retries.Policy = retries.DEFAULT
    checks: list[Check] = field(default_factory=list, init=False)
    statement: Statement | None = field(default=None, init=False)
    head: Head | None = field(default=None, init=False)
    """Of the log as it is served, signed."""
    _envelope_sha256: str = field(default="", init=False)
    _binary_sha256: str = field(default="", init=False)
    _metallib_sha256: str = field(default="", init=False)

    @property
    def holds(self) -> bool:
        """Whether nothing failed; what was not checked is told by its own check."""
        return checks.all_hold(self.checks)

    def run(self) -> None:
        """Download and verify everything.

        Raises:
            TransientError, RemoteRefusedError: the public address does not answer plainly.
        """
        self._tombstone()
        self._provenance()
        self._archive()
        kept = self._log()
        self._coordinator(kept)

    @property
    def _plan(self) -> ReleasePlan:
        return self.question.plan

    def _address(self, key: str) -> str:
        base = addresses.base(self._plan.endpoints.r2_public_url, name="R2_PUBLIC_URL")
        return addresses.join(base, key)

    def _beside(self, name: str) -> str:
        return self._address(
            release_keys.beside(self._plan.publish.prefix, self._plan.version, name)
        )

    def _served(self, name: str, address: str, limit_bytes: int) -> bytes | None:
        content = public_document.fetch(address, limit_bytes=limit_bytes, policy=self.policy)
        if content is None:
            self.checks.append(
                checks.failed(name, subject=address, expected="a document", observed="nothing")
            )
        return content

    def _judged(self, name: str, subject: str, act: Callable[[], _T]) -> _T | None:
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

    def _tombstone(self) -> None:
        try:
            found = tombstone.find_served(
                self._plan.endpoints.r2_public_url,
                self._plan.publish.prefix,
                self._plan.version,
                policy=self.policy,
            )
            told = tombstone.told(found) if found else ""
        except tombstone.WithdrawnError as problem:
            told = problem.message
        if told:
            hint = "it is not to be used: take another release"
            self.checks.append(
                checks.failed("tombstone", expected="none", observed=told, hint=hint)
            )
        else:
            self.checks.append(checks.passed("tombstone", "none, so it was not withdrawn"))

    # Provenance.

    def _provenance(self) -> None:
        address = self._beside(statement.NAME)
        content = self._served("provenance", address, dsse.LIMIT_BYTES)
        if content is None:
            return
        self._envelope_sha256 = hashlib.sha256(content).hexdigest()
        opened = self._judged(
            "provenance",
            address,
            lambda: dsse.unseal(
                content, payload_type=statement.PAYLOAD_TYPE, trusted=self.question.trusted
            ),
        )
        if opened is None:
            return
        self.checks.append(checks.passed("provenance", f"signed by key {opened.key.keyid}"))
        self.statement = self._judged("provenance", address, lambda: statement.read(opened.payload))
        if self.statement is not None:
            self.checks += self._statement(self.statement)

    def _statement(self, said: Statement) -> Iterator[Check]:
        plan = self._plan
        section = plan.environment.provenance
        facts = {
            "provenance version": (plan.version, said.version),
            "provenance environment": (plan.environment.name, said.environment),
            "archive name": (plan.archive.name, said.name),
            "build type": (statement.BUILD_TYPE, said.build_type),
        }
        if section is not None:
            facts["builder"] = (section.builder, said.builder)
        for name, (expected, observed) in facts.items():
            yield checks.compare(name, expected=expected, observed=observed)
        yield self._commit(said)

    def _commit(self, said: Statement) -> Check:
        given, observed = self.question.commit, said.commit or "unknown"
        if given:
            # As it is shown everywhere, a commit may be cut.
            expected = observed if observed.startswith(given) else given
            return checks.compare("source commit", expected=expected, observed=observed)
        if said.commit:
            return checks.passed("source commit", said.commit)
        if self._plan.environment.require_known_source:
            return checks.failed("source commit", expected="a commit", observed="unknown")
        return checks.not_checked("source commit", "it was not known where this was built")

    # The archive.

    def _archive(self) -> None:
        copy = public_copy.PublicCopy(plan=self._plan, folder=self.scratch)
        address, served = self._download(copy)
        if served is None:
            self.checks.append(
                checks.failed("archive", subject=address, expected="an archive", observed="nothing")
            )
            return
        if self.statement is not None:
            self.checks.append(
                checks.compare(
                    "archive",
                    expected=self.statement.sha256,
                    observed=served.sha256,
                    subject=address,
                    hint="somebody replaced it, or this is another address: do not use it",
                )
            )
        if served.fault is not None or copy.unpacked is None:
            self.checks.append(
                checks.failed("archive", subject=address, observed=f"it {served.fault}")
            )
            return
        facts = self._signature(copy.root, copy.unpacked)
        self._bill(served.sha256, copy.unpacked, facts)

    def _download(self, copy: public_copy.PublicCopy) -> tuple[str, public_url.Served | None]:
        """By the address of the coordinator's contract, and the other one after it."""
        places = self._places()
        for address in places:
            served = public_url.read(
                address,
                limit_bytes=self._plan.limits.archive_bytes,
                seconds=_DOWNLOAD_SECONDS,
                reporter=self.reporter,
                policy=self.policy,
                consumer=copy.take,
            )
            if served is not None:
                return address, served
        return places[0], None

    def _places(self) -> list[str]:
        """Where the archive may stand: a release of before a change of contract at the other."""
        places = [self._beside(self._plan.archive.name)]
        if self.statement is not None:
            places.append(
                self._address(
                    release_keys.by_digest(
                        self._plan.publish.prefix,
                        self._plan.version,
                        self.statement.sha256,
                        self._plan.archive.name,
                    )
                )
            )
        if self._plan.coordinator.contract == "2026-10":
            places.reverse()
        return places

    def _signature(self, root: Path, unpacked: Unpacked) -> BundleFacts | None:
        plan = self._plan
        report = release.verify(
            DiskTree(root, beside=unpacked.beside),
            judge=Judge(
                trust=self.question.trust,
                now=self.question.clock(),
                strict=plan.environment.signer == "portable",
            ),
            flat_copies=layout.flat_names(plan),
            with_app=layout.of(plan).is_app,
        )
        self.checks += report.checks
        main = report.facts.main if report.facts else None
        self.checks.append(
            checks.compare(
                "team",
                expected=plan.product.team_id,
                observed=(main.team_id if main else None) or "none",
            )
        )
        by_path = {one.path: one.sha256 for one in unpacked.members}
        self._binary_sha256 = by_path.get(f"bin/{plan.bundle.main_executable}", "")
        library = plan.bundle.metallib
        self._metallib_sha256 = by_path.get(f"bin/{library.name}", "") if library else ""
        hint = "whether Apple revoked a certificate or a ticket: that is asked online, by a Mac"
        self.checks.append(checks.not_checked("revocation", hint))
        stapled = layout.of(plan).is_app and plan.environment.notarization == "required"
        if stapled and report.facts is not None and report.facts.ticket is None:
            self.checks.append(
                checks.failed("ticket", expected="a stapled ticket", observed="none")
            )
        return report.facts

    def _bill(self, sha256: str, unpacked: Unpacked, facts: BundleFacts | None) -> None:
        if self.statement is None:
            self.checks.append(checks.not_checked("SBOM", "no provenance names its digest"))
            return
        address = self._beside(sbom.NAME)
        content = self._served("SBOM", address, sbom.LIMIT_BYTES)
        if content is None:
            return
        self.checks.append(
            checks.compare(
                "SBOM digest",
                expected=self.statement.sbom_sha256,
                observed=hashlib.sha256(content).hexdigest(),
            )
        )
        bill = self._judged("SBOM", address, lambda: sbom.read(content))
        if bill is not None:
            self.checks += sbom.judge(bill, sha256, _files(unpacked), sbom.code_of(facts))

    # The log.

    def _log(self) -> Log | None:
        prefix = self._plan.publish.prefix
        # The head first: the log only grows, so it covers each head that was read before.
        head_address = self._address(f"{prefix}/{log.HEAD_NAME}")
        sealed = self._served("log head", head_address, dsse.LIMIT_BYTES)
        address = self._address(f"{prefix}/{log.NAME}")
        content = self._served("log", address, log.LIMIT_BYTES)
        kept = self._judged("log", address, lambda: log.parse(content or b""))
        if content is None or kept is None:
            return None
        unsigned = kept.unsigned(self.question.trusted)
        if unsigned:
            self.checks.append(
                checks.failed(
                    "log",
                    subject=address,
                    expected="every line signed by a trusted key",
                    observed=f"{len(unsigned)} are not, line {unsigned[0]} first",
                )
            )
        else:
            told = f"{len(kept.lines)} lines, each signed and bound to those before it"
            self.checks.append(checks.passed("log", told))
        if sealed is not None:
            self._covered(kept, sealed, head_address)
        self._seen(kept)
        self._inclusion(kept)
        return kept

    def _covered(self, kept: Log, sealed: bytes, address: str) -> None:
        head = self._judged(
            "log head", address, lambda: log.unseal(sealed, trusted=self.question.trusted)
        )
        if head is None or not self._of_this_environment(head, "log head"):
            return
        if not self._begins(kept, head, "log head"):
            return
        self.head = head
        self.checks.append(checks.passed("log head", f"signed over {head}"))
        if behind := len(kept.lines) - head.count:
            self.checks.append(
                checks.not_checked(
                    "log head",
                    f"{behind} lines stand behind it: a release is being made, or its run broke off"
                    " and is to be run again",
                )
            )

    def _begins(self, kept: Log, head: Head, name: str) -> bool:
        try:
            log.judge(kept, head)
        except errors.VerificationError as problem:
            self.checks.append(
                checks.failed(
                    name,
                    expected=problem.expected,
                    observed=f"the log {problem.message}: {problem.observed}",
                )
            )
            return False
        return True

    def _of_this_environment(self, head: Head, name: str) -> bool:
        found = checks.compare(
            name, expected=self._plan.environment.name, observed=head.environment
        )
        if found.outcome == "failed":
            self.checks.append(found)
        return found.outcome == "passed"

    def _seen(self, kept: Log) -> None:
        """A beginning of a chain is a chain: only who has seen more can tell."""
        given = self.question.seen
        if given is None:
            self.checks.append(checks.not_checked("log head seen before", _SEEN))
            return
        name = "log head seen before"
        seen = self._judged(
            name, "--log-head", lambda: log.unseal(given, trusted=self.question.trusted)
        )
        if seen is None or not self._of_this_environment(seen, name):
            return
        if self._begins(kept, seen, name) and self._is_not_older(seen, name):
            self.checks.append(checks.passed(name, f"{seen.count} lines, and all are there"))

    def _is_not_older(self, seen: Head, name: str) -> bool:
        if self.head is None or self.head.count >= seen.count:
            return True
        self.checks.append(
            checks.failed(
                name,
                expected=f"a head over at least {seen.count} lines",
                observed=f"the served head covers {self.head.count}",
            )
        )
        return False

    def _inclusion(self, kept: Log) -> None:
        version = self._plan.version
        if (entry := kept.withdrawn(version)) is not None:
            self.checks.append(
                checks.failed(
                    "log entry",
                    expected=f"{version} in use",
                    observed=f"withdrawn {entry.at} {entry.note}",
                    hint="it is not to be used: take another release",
                )
            )
        if self.statement is None:
            self.checks.append(checks.not_checked("log entry", "no provenance names the archive"))
            return
        found = kept.archives(version)
        self.checks.append(
            checks.compare(
                "log entry",
                expected=self.statement.sha256,
                observed=", ".join(found) or "no registration",
                subject=version,
            )
        )
        number = kept.first("registered", version, self.statement.sha256)
        if number is not None:
            self.checks.append(
                checks.compare(
                    "provenance in the log",
                    expected=kept.lines[number - 1].entry.provenance,
                    observed=self._envelope_sha256,
                )
            )

    # The coordinator.

    def _coordinator(self, kept: Log | None) -> None:
        name = "coordinator"
        try:
            latest = self.coordinator.latest(self._plan.product.platform)
        except (errors.TransientError, errors.RemoteRefusedError) as problem:
            hint = f"it does not answer: {problem.message} {problem.observed}".rstrip()
            self.checks.append(checks.not_checked(name, hint))
            return
        except errors.VerificationError as problem:
            self.checks.append(checks.failed(name, observed=f"its answer: {problem.message}"))
            return
        if latest is None:
            self.checks.append(checks.not_checked(name, "it serves no release"))
            return
        if latest.version == self._plan.version:
            self.checks += self._row(latest)
            return
        self.checks += self._other(latest, kept)

    def _row(self, row: Release) -> Iterator[Check]:
        if self.statement is not None:
            yield checks.compare(
                "coordinator bundle_hash", expected=self.statement.sha256, observed=row.bundle_hash
            )
        unpacked = (
            ("coordinator binary_hash", self._binary_sha256, row.binary_hash),
            ("coordinator metallib_hash", self._metallib_sha256, row.metallib_hash),
        )
        for name, expected, observed in unpacked:
            if expected:
                yield checks.compare(name, expected=expected, observed=observed)
        places = self._places()
        if row.url not in places:
            yield checks.failed(
                "coordinator url", expected=" or ".join(places), observed=row.url[:300]
            )

    def _other(self, latest: Release, kept: Log | None) -> Iterator[Check]:
        """It tells of one release only; that one, too, must be in the log."""
        name = "coordinator"
        relation = "newer" if precedence.is_newer(latest.version, self._plan.version) else "older"
        yield checks.not_checked(
            name, f"it serves {latest.version}, which is {relation}, and tells of no other"
        )
        known = kept.digests(latest.version) if kept else []
        if kept is not None:
            yield checks.compare(
                f"coordinator's {latest.version}",
                expected=next((one for one in known if one == latest.bundle_hash), "")
                or " or ".join(known)
                or "a release that the log knows",
                observed=latest.bundle_hash,
            )


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
