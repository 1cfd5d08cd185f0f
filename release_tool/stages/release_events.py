"""What happens to a release, told in the log: registered, promoted, withdrawn, rolled back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from release_tool.files import atomic
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.provenance import log, statement
from release_tool.provenance.log import Entry, Kind
from release_tool.services import release_log
from release_tool.services.release_log import Logged, ReleaseLog
from release_tool.stages import attestation
from release_tool.values import (
    KeptHead,
    LoggedEvent,
    PromotedRelease,
    PublishedDocument,
    PublishedRelease,
    RegisteredRelease,
    RollbackTarget,
    RolledBack,
    Withdrawn,
)

# Who and why may have 500 characters each, and so has a whole note.
_NOTE_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True)
class Events:
    """Tells the events of one release, each once.

    Args:
        plan: the plan.
        log: the environment's log.
        clock: what an entry says of when.
    """

    plan: ReleasePlan
    log: ReleaseLog
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def registered(
        self, published: PublishedRelease, registered: RegisteredRelease
    ) -> RegisteredRelease:
        """Tell of a registration; the value then says where.

        Raises:
            VerificationError, RemoteRefusedError, TransientError, CredentialError: see
                `ReleaseLog.append`.
        """
        return registered.model_copy(update={"logged": _event(self._registered(published))})

    def promoted(
        self, published: PublishedRelease, promoted: PromotedRelease, *, workspace: Workspace
    ) -> PromotedRelease:
        """Tell of a promotion, and keep the signed head for the release on GitHub.

        A job without the bucket's keys registers without a word, so that is told here at the
        latest. The kept head is that of the first line of the promotion, so that it is the same
        in each repeat.
        """
        logged = self._registered(published)
        if promoted.outcome == "promoted":
            logged = self.log.append(self._entry("promoted", published.archive_sha256))
            whole = self.log.check()
            first = whole.first("promoted", self.plan.version, published.archive_sha256)
            head = whole.head(self.plan.environment.name, first)
        else:
            head = logged.head
        content = self.log.sealed(head)
        atomic.write_atomically(workspace.path(log.HEAD_NAME), content)
        key = release_log.head_key_of(self.plan.publish.prefix)
        document = attestation.document(self.plan, log.HEAD_NAME, content, key=key)
        return promoted.model_copy(update={"logged": _event(logged), "documents": (document,)})

    def withdrawn(
        self, withdrawn: Withdrawn, *, by: str, reason: str, workspace: Workspace
    ) -> Withdrawn:
        """Tell of each version that was withdrawn, and keep the signed head."""
        note = f"by {by or 'nobody named'}: {reason or 'no reason'}"[:_NOTE_CHARACTERS]
        logged = [
            self.log.append(
                self._entry("withdrawn", stone.sha256, version=stone.version, note=note)
            )
            for stone in withdrawn.tombstones
        ]
        if not logged:
            return withdrawn
        last = max(logged, key=lambda one: one.number)
        return withdrawn.model_copy(update={"head": self._kept(last, workspace)})

    def rolled_back(
        self, target: RollbackTarget, done: RolledBack, *, workspace: Workspace
    ) -> RolledBack:
        """Tell of the release that users get again, and keep the signed head."""
        note = f"instead of {' '.join(done.instead_of) or 'nothing'}"[:_NOTE_CHARACTERS]
        logged = self.log.append(
            self._entry("rolled back", target.sha256, version=target.version, note=note)
        )
        return done.model_copy(update={"head": self._kept(logged, workspace)})

    def _kept(self, logged: Logged, workspace: Workspace) -> KeptHead:
        content, name = self.log.sealed(logged.head), log.later_name(logged.head)
        workspace.root.mkdir(parents=True, exist_ok=True)
        atomic.write_atomically(workspace.path(name), content)
        return KeptHead(
            name=name,
            lines=logged.number,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )

    def _registered(self, published: PublishedRelease) -> Logged:
        provenance = _document(published, statement.NAME)
        return self.log.append(
            self._entry(
                "registered",
                published.archive_sha256,
                provenance=provenance.sha256 if provenance else "",
            )
        )

    def _entry(
        self, kind: Kind, sha256: str, *, version: str = "", provenance: str = "", note: str = ""
    ) -> Entry:
        return Entry(
            kind=kind,
            environment=self.plan.environment.name,
            version=version or self.plan.version,
            platform=self.plan.product.platform,
            sha256=sha256,
            provenance=provenance,
            at=self.clock().isoformat(timespec="seconds"),
            note=note,
        )


def _document(published: PublishedRelease, name: str) -> PublishedDocument | None:
    return next((one for one in published.documents if one.name == name), None)


def _event(logged: Logged) -> LoggedEvent:
    return LoggedEvent(line=logged.number, size=logged.head.size, sha256=logged.head.sha256)
