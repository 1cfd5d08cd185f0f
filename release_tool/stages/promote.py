"""Promote: move the pointer and the aliases, once the coordinator serves this release as latest.

The aliases are looked at first, then the pointer moves by compare-and-swap and never back, then
each alias is copied over only in the state in which it was seen. Whoever moves the pointer later
has seen the aliases later or finds them changed: a slow loser cannot overwrite the winner, in any
order of events.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import semver

from release_tool import errors
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import release_pointer, retries
from release_tool.services.coordinator import Coordinator
from release_tool.services.coordinator_rules import HASHES, Release
from release_tool.services.object_store import ObjectStore, StoredObject
from release_tool.services.object_store_calls import Outcome
from release_tool.services.release_pointer import Pointer
from release_tool.stages import smoke_evidence
from release_tool.values import (
    PromotedRelease,
    PublishedRelease,
    RegisteredRelease,
    SmokeEvidence,
)

READS = (
    *smoke_evidence.READS,
    "archive",
    "publish",
    "product.platform",
    "limits.latest_poll_seconds",
    "endpoints.r2_endpoint",
    "endpoints.r2_bucket",
    "endpoints.coordinator_url",
)
# Each lost race means that somebody else moved the alias; more than a few is a quarrel.
_RACES = 4
_FIRST_PAUSE_SECONDS = 1.0
_LARGEST_PAUSE_SECONDS = 10.0


def run(
    plan: ReleasePlan,
    published: PublishedRelease,
    registered: RegisteredRelease,
    evidence: SmokeEvidence,
    *,
    workspace: Workspace,  # noqa: ARG001
    reporter: Reporter,
    store: ObjectStore,
    coordinator: Coordinator,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> PromotedRelease:
    """Point to this release, unless a newer one is served.

    Args:
        plan: the release plan.
        published: where the archive stands.
        registered: what the coordinator has.
        evidence: what ran from exactly the registered archive.
        workspace: not used; every stage takes it.
        reporter: is told of the waiting.
        store: the bucket.
        coordinator: the coordinator.
        sleep: how to wait between questions.
        clock: what measures the waiting.

    Raises:
        RemoteRefusedError: the coordinator serves other bytes under this version or ranks an
            older one above it; the pointer or an alias holds a newer release than that.
        PendingError: it still serves an older release after the time for its cache.
        VerificationError: the evidence is of another archive or of a kind that this environment
            refuses; an alias, read back, holds other bytes.
        CredentialError, TransientError: the store or the coordinator.
    """
    smoke_evidence.require(
        plan,
        evidence,
        archive_sha256=registered.bundle_hash,
        binary_sha256=registered.binary_hash,
        act="promoting",
    )
    promotion = _Promotion(
        plan=plan,
        published=published,
        registered=registered,
        reporter=reporter,
        store=store,
        coordinator=coordinator,
        sleep=sleep,
        clock=clock,
        deadline=clock() + plan.limits.latest_poll_seconds,
    )
    return promotion.run()


class _SupersededError(Exception):
    """A newer release is served; there is nothing to do, and nothing wrong."""

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version = version


@dataclass(kw_only=True)
class _Promotion:
    plan: ReleasePlan
    published: PublishedRelease
    registered: RegisteredRelease
    reporter: Reporter
    store: ObjectStore
    coordinator: Coordinator
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    deadline: float
    told: bool = False

    def run(self) -> PromotedRelease:
        try:
            self._await_latest()
            source = self._source()
            seen = {alias: self.store.head(alias) for alias in self._aliases()}
            for alias, state in seen.items():
                self._step_back(alias, state)
            for alias, state in seen.items():
                self._move(source, alias, state)
        except _SupersededError as newer:
            return self._outcome("superseded", newer.version, ())
        return self._outcome("promoted", self.plan.version, tuple(seen))

    def _outcome(self, outcome: str, latest: str, aliases: tuple[str, ...]) -> PromotedRelease:
        return PromotedRelease.model_validate(
            {
                "version": self.plan.version,
                "outcome": outcome,
                "latest_version": latest,
                "aliases": aliases,
                "pointer": self._pointer_key if aliases else "",
            }
        )

    def _aliases(self) -> list[str]:
        names = [self.plan.archive.name, *self.plan.publish.legacy_aliases]
        return [f"{self.plan.publish.prefix}/latest/{name}" for name in dict.fromkeys(names)]

    @property
    def _pointer_key(self) -> str:
        return f"{self.plan.publish.prefix}/latest/{release_pointer.NAME}"

    def _source(self) -> StoredObject:
        source = self.store.head(self.published.key)
        if source is None or source.size != self.published.size:
            raise errors.VerificationError(
                "the published archive does not stand at its key any more",
                subject=self.published.key,
                expected=f"{self.published.size} bytes",
                observed=f"{source.size} bytes" if source else "nothing",
                hint="run the publish stage again: release-tool run --only publish",
            )
        return source

    def _await_latest(self) -> None:
        """Wait until the coordinator serves this release.

        A coordinator of May keeps answering from a cache for a minute after a registration.
        """
        pauses = retries.pauses(_FIRST_PAUSE_SECONDS, _LARGEST_PAUSE_SECONDS)
        while not self._is_latest(last=self._left() <= 0):
            self.sleep(min(next(pauses), max(self._left(), 0.0)))

    def _left(self) -> float:
        return self.deadline - self.clock()

    def _is_latest(self, *, last: bool) -> bool:
        """Ask once; with `last`, an answer that is not ours is an error."""
        try:
            latest = self.coordinator.latest(self.registered.platform)
        except errors.TransientError:
            if last:
                raise
            return False
        if latest and latest.version == self.registered.version:
            _compare_row(self.registered, latest)
            return True
        if latest and is_newer(latest.version, self.registered.version):
            raise _SupersededError(latest.version)
        if last:
            raise _not_served(self.registered.version, latest.version if latest else "")
        if not self.told:
            self.told = True
            self.reporter.note(
                f"latest still serves {latest.version if latest else 'nothing'}, waiting; "
                "the coordinator keeps it for up to a minute"
            )
        return False

    def _point(self) -> None:
        """Move the pointer to this release, or find it there.

        Raises:
            _SupersededError: it names a newer release, and the coordinator serves that.
            RemoteRefusedError: it names one that the coordinator does not serve, or other bytes
                under this version, or is no pointer.
        """
        ours = Pointer(
            version=self.plan.version,
            platform=self.registered.platform,
            key=self.published.key,
            url=self.published.url,
            sha256=self.published.archive_sha256,
            size=self.published.size,
        )
        for _ in range(_RACES):
            found = self.store.read(self._pointer_key, limit_bytes=release_pointer.LIMIT_BYTES)
            there = _parsed(*found) if found else None
            if there == ours:
                return
            if there is not None:
                self._may_replace(there, ours)
            outcome = self.store.replace(
                self._pointer_key,
                release_pointer.encode(ours),
                over=found[0] if found else None,
                content_type="application/json",
                version=ours.version,
            )
            if outcome is Outcome.KEPT:
                self.reporter.note("the pointer was moved by somebody else, looking again")
        raise _quarrel(self._pointer_key)

    def _step_back(self, alias: str, seen: StoredObject | None) -> None:
        """Leave an alias that holds a newer release as it is."""
        if seen is not None and is_newer(seen.version, self.plan.version):
            self._await_newer(alias, seen.version)

    def _may_replace(self, there: Pointer, ours: Pointer) -> None:
        """Let the pointer go forward only."""
        if is_newer(there.version, ours.version):
            self._await_newer(self._pointer_key, there.version)
        if there.version == ours.version and there.sha256 != ours.sha256:
            raise errors.RemoteRefusedError(
                f"the pointer names {ours.version} with other bytes; nothing was moved",
                subject=self._pointer_key,
                expected=ours.sha256,
                observed=there.sha256,
                hint="a released version never changes: release the next one",
            )

    def _move(self, source: StoredObject, alias: str, seen: StoredObject | None) -> None:
        for _ in range(_RACES):
            # After the alias was seen, so that a newer release cannot slip in between.
            self._await_latest()
            self._point()
            if seen is not None and self._is_ours(source, seen):
                break
            self._step_back(alias, seen)
            if self._copy(source, alias, seen) is Outcome.WRITTEN:
                break
            self.reporter.note(f"{alias} was moved by somebody else, looking again")
            seen = self.store.head(alias)
        else:
            raise _quarrel(alias)
        self._read_back(alias)

    def _is_ours(self, source: StoredObject, seen: StoredObject) -> bool:
        """Whether an alias needs no copy; a copy of what went in parts may get another ETag."""
        if seen.size != source.size:
            return False
        if seen.etag == source.etag:
            return True
        ours = self.published.archive_sha256
        # One that moves while it is read is not copied over either: the condition sees to that.
        with contextlib.suppress(errors.TransientError):
            return seen.sha256 == ours == self.store.digest(seen, reporter=self.reporter)
        return False

    def _copy(self, source: StoredObject, alias: str, seen: StoredObject | None) -> Outcome:
        return self.store.copy(
            source,
            alias,
            over=seen,
            sha256=self.published.archive_sha256,
            version=self.plan.version,
        )

    def _await_newer(self, alias: str, version: str) -> None:
        """Wait until the coordinator serves the newer release that already stands at a key.

        Raises:
            _SupersededError: it does.
            RemoteRefusedError: it does not, even after the time for its cache.
        """
        pauses = retries.pauses(_FIRST_PAUSE_SECONDS, _LARGEST_PAUSE_SECONDS)
        while self._left() > 0:
            self.sleep(min(next(pauses), max(self._left(), 0.0)))
            self._await_latest()
        raise errors.RemoteRefusedError(
            f"{version} stands there, which is newer, yet {self.plan.version} is latest",
            subject=alias,
            expected=f"the coordinator to serve {version}",
            observed=f"it serves {self.plan.version}",
            hint=f"if {version} was withdrawn, this stage never goes back to an older one",
        )

    def _read_back(self, alias: str) -> None:
        stands, digest = self._stands(alias)
        if digest == self.published.archive_sha256:
            return
        # Not ours: either a newer release came in after the copy, or something is wrong.
        self._await_latest()
        self._step_back(alias, stands)
        raise errors.VerificationError(
            "the alias, read back, holds other bytes",
            subject=alias,
            expected=self.published.archive_sha256,
            observed=digest or "nothing",
            hint="run again; if it stays, somebody else writes to this key",
        )

    def _stands(self, alias: str) -> tuple[StoredObject | None, str]:
        """What an alias holds, with the digest of its bytes; it may move while it is read."""
        stands = self.store.head(alias)
        for _ in range(_RACES):
            if stands is None:
                return None, ""
            try:
                return stands, self.store.digest(stands, reporter=self.reporter)
            except errors.TransientError:
                before, stands = stands, self.store.head(alias)
                if stands is not None and stands.etag == before.etag:
                    raise
        raise _quarrel(alias)


def _quarrel(key: str) -> errors.TransientError:
    return errors.TransientError(
        "somebody else keeps moving this alias", subject=key, hint="run again"
    )


def _parsed(stored: StoredObject, content: bytes) -> Pointer:
    try:
        return release_pointer.parse(content)
    except errors.FormatError as problem:
        raise errors.RemoteRefusedError(
            f"the pointer {problem.message}; nothing was moved",
            subject=stored.key,
            observed=problem.observed,
            hint="somebody else writes to this key: look at it, take it away, and run again",
        ) from problem


def _compare_row(registered: RegisteredRelease, latest: Release) -> None:
    names = (*HASHES, "platform", "backend", "url")
    differing = [
        f"{name}: registered {getattr(registered, name)}, served {getattr(latest, name)}"
        for name in names
        if getattr(registered, name) != getattr(latest, name)
    ]
    if differing:
        raise errors.RemoteRefusedError(
            f"the coordinator serves {registered.version} with other facts than were registered",
            details=differing,
            hint="somebody registered this version again; the aliases were not moved",
        )


def _not_served(version: str, latest: str) -> errors.ReleaseError:
    if latest and may_ranks_above(latest, version):
        return errors.RemoteRefusedError(
            f"the coordinator ranks {latest} above {version}, so it never serves {version}",
            expected=f"{version}, by SemVer precedence",
            observed=f"latest is {latest}",
            hint=(
                "a coordinator of May compares the numbers between dots and takes a prerelease "
                f"for newer: deactivate {latest} there, then run again"
            ),
        )
    return errors.PendingError(
        f"the coordinator does not serve {version} as latest yet",
        expected=version,
        observed=latest or "no active release",
        hint="run again to resume; if it stays, see whether the release was deactivated",
    )


def is_newer(version: str, than: str) -> bool:
    """Whether `version` ranks above `than` by SemVer precedence; what is no SemVer never does."""
    try:
        return semver.Version.parse(version) > semver.Version.parse(than)
    except ValueError:
        return False


def may_ranks_above(version: str, other: str) -> bool:
    """Whether a coordinator of May ranks `version` above `other` although SemVer does not.

    Its comparator splits at dots and scans one integer out of each piece, so `0.5.0-dev.1`
    becomes 0, 5, 0, 1 and stands above `0.5.0`.
    """
    return not is_newer(version, other) and _may_rank(version) > _may_rank(other)


def _may_rank(version: str) -> tuple[int, ...]:
    pieces = [re.match(r"[0-9]{1,18}", piece) for piece in version.split(".")]
    numbers = [int(piece.group()) if piece else 0 for piece in pieces]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
