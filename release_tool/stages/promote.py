"""Promote: move the pointer and the aliases, once the coordinator serves this release as latest.

Here they only go forward, and never to a version that was withdrawn; how they are moved so that
of two releases the newer wins is told in `aliases`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from release_tool import errors
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import addresses, precedence, retries, tombstone
from release_tool.services.coordinator import Coordinator, Current
from release_tool.services.coordinator_rules import HASHES, Release
from release_tool.services.object_store import ObjectStore
from release_tool.services.release_pointer import Pointer
from release_tool.stages import aliases, fleet_gate, smoke_evidence
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
    "coordinator.contract",
    "limits.latest_poll_seconds",
    "endpoints.r2_endpoint",
    "endpoints.r2_bucket",
    "endpoints.coordinator_url",
)
_FIRST_PAUSE_SECONDS = 1.0
_LARGEST_PAUSE_SECONDS = 10.0


def run(
    plan: ReleasePlan,
    published: PublishedRelease,
    registered: RegisteredRelease,
    evidence: SmokeEvidence,
    *,
    others: Sequence[SmokeEvidence] = (),
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
        others: what ran from it on other hosts.
        workspace: not used; every stage takes it.
        reporter: is told of the waiting.
        store: the bucket.
        coordinator: the coordinator.
        sleep: how to wait between questions.
        clock: what measures the waiting.

    Raises:
        RemoteRefusedError: the coordinator serves or tells other bytes under this version, or
            ranks an older one above it; the pointer or an alias holds a newer release than that;
            the version was withdrawn.
        PendingError: it still serves an older release after the time for its cache, or its
            `/api/version` still tells of another one.
        VerificationError: the evidence is of another archive or of a kind that this environment
            refuses; an alias, read back, holds other bytes.
        CredentialError, TransientError: the store or the coordinator.
    """
    smoke_evidence.require(
        plan,
        evidence,
        others=others,
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
        moving = aliases.Aliases(
            plan=self.plan,
            store=self.store,
            reporter=self.reporter,
            target=Pointer(
                version=self.plan.version,
                platform=self.registered.platform,
                key=self.published.key,
                url=self.published.url,
                sha256=self.published.archive_sha256,
                size=self.published.size,
            ),
            permit=self._step_back,
            confirm=self._confirm,
        )
        self._look_out()
        try:
            self._await_latest()
            moved = moving.move()
        except _SupersededError as newer:
            return self._outcome("superseded", newer.version, ())
        self._require_not_withdrawn_meanwhile()
        return self._outcome("promoted", self.plan.version, moved)

    def _confirm(self) -> None:
        self._await_latest()
        # Last, as the wait for the coordinator may take a minute.
        self._look_out()

    def _look_out(self) -> None:
        tombstone.refuse(tombstone.find(self.store, self.plan.publish.prefix, self.plan.version))

    def _require_not_withdrawn_meanwhile(self) -> None:
        """An alias that held the older release all along cannot tell us from a rollback to it."""
        with tombstone.seen_late(
            self.plan.version,
            doing="the aliases were moved to it",
            hint="run the rollback again: it moves back what it finds moved",
        ):
            self._look_out()

    def _outcome(self, outcome: str, latest: str, moved: tuple[str, ...]) -> PromotedRelease:
        return PromotedRelease.model_validate(
            {
                "version": self.plan.version,
                "outcome": outcome,
                "latest_version": latest,
                "aliases": moved,
                "pointer": aliases.pointer_key(self.plan) if moved else "",
            }
        )

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
            return self._is_told(last=last)
        if latest and precedence.is_newer(latest.version, self.registered.version):
            raise _SupersededError(latest.version)
        if last:
            raise _not_served(self.registered.version, latest.version if latest else "")
        self._tell(
            f"latest still serves {latest.version if latest else 'nothing'}, waiting; "
            "the coordinator keeps it for up to a minute"
        )
        return False

    def _is_told(self, *, last: bool) -> bool:
        """Whether `/api/version` follows `latest`, as both contracts say; asked once.

        It tells of one platform, and the newest coordinators may word it otherwise: what is not
        understood is nothing to wait for.
        """
        if self.registered.platform != fleet_gate.TOLD_PLATFORM:
            return True
        try:
            told = self.coordinator.current()
        except errors.TransientError:
            if last:
                raise
            return False
        if told is None:
            return True
        # Where no release stands, a built-in version is told, without a digest.
        if told.version == self.registered.version and told.bundle_hash:
            self._compare_told(told)
            return True
        if last:
            raise _not_told(self.registered.version, told.version)
        self._tell(f"/api/version still tells {told.version[:80]}, waiting")
        return False

    def _compare_told(self, told: Current) -> None:
        ours = {"bundle_hash": self.registered.bundle_hash}
        there = {"bundle_hash": told.bundle_hash}
        # October's names are not known for certain; an address under another one is none.
        if self.plan.coordinator.contract == "2026-05":
            same = addresses.same(told.download_url, self.registered.url)
            ours["url"] = self.registered.url
            there["url"] = self.registered.url if same else told.download_url
        _refuse_others(self.registered.version, "/api/version tells of", ours, there)

    def _tell(self, text: str) -> None:
        if not self.told:
            self.told = True
            self.reporter.note(text)

    def _step_back(self, key: str, there: str) -> None:
        """Leave what holds or names a newer release as it is."""
        if precedence.is_newer(there, self.plan.version):
            self._await_newer(key, there)

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
            hint=(
                f"if {version} was deactivated, go back to {self.plan.version}:"
                f" release-tool rollback {self.plan.flags}"
                f" --to {self.plan.version} --deactivate {version}"
            ),
        )


def _compare_row(registered: RegisteredRelease, latest: Release) -> None:
    names = (*HASHES, "platform", "backend", "url")
    _refuse_others(
        registered.version,
        "the coordinator serves",
        {name: getattr(registered, name) for name in names},
        {name: getattr(latest, name) for name in names},
    )


def _refuse_others(
    version: str, who: str, registered: Mapping[str, str], served: Mapping[str, str]
) -> None:
    differing = [
        f"{name}: registered {ours}, served {served[name][:300]}"
        for name, ours in registered.items()
        if ours != served[name]
    ]
    if differing:
        raise errors.RemoteRefusedError(
            f"{who} {version} with other facts than were registered",
            details=differing,
            hint="somebody registered this version again; the aliases were not moved",
        )


def _not_told(version: str, told: str) -> errors.PendingError:
    return errors.PendingError(
        f"latest serves {version}, and /api/version does not tell of it yet",
        expected=version,
        observed=told[:80] or "no version",
        hint="run again to resume; if it stays, the coordinator must be looked at: who asks"
        " /api/version is given the other one",
    )


def _not_served(version: str, latest: str) -> errors.ReleaseError:
    if latest and precedence.may_ranks_above(latest, version):
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
