"""Roll back: tombstone, deactivation, pointer and aliases, in this order, each as often as needed.

The tombstone comes first, so that a run of the bad release that is still under way is refused
before the coordinator forgets it. Each step finds what an earlier try did and leaves it, so a
rollback that was killed is simply begun again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from release_tool import errors
from release_tool.apple import checks
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import (
    precedence,
    public_url,
    registration_claim,
    retries,
    tombstone,
)
from release_tool.services.coordinator import Coordinator, Current, Row
from release_tool.services.coordinator_rules import HASHES, Release
from release_tool.services.object_store import ObjectStore
from release_tool.services.object_store_calls import Outcome
from release_tool.services.release_pointer import Pointer
from release_tool.services.tombstone import Tombstone
from release_tool.stages import (
    aliases,
    findings,
    public_copy,
    registered_copy,
    registration_turn,
)
from release_tool.stages.rollback_survey import Bad, Survey, in_the_way
from release_tool.values import (
    Deactivated,
    DeactivatedRelease,
    RollbackTarget,
    RolledBack,
    Withdrawal,
    Withdrawn,
)

READS = (
    "version",
    "archive",
    "publish",
    "product.platform",
    "bundle.main_executable",
    "bundle.metallib",
    "bundle.executables",
    "environment.signer",
    "environment.registration_seconds",
    "flavour.layout",
    "limits",
    "coordinator.contract",
    "endpoints.r2_endpoint",
    "endpoints.r2_bucket",
    "endpoints.r2_public_url",
    "endpoints.coordinator_url",
)
# A download of 2 GiB at 2 MB/s.
_DOWNLOAD_SECONDS = 1000.0
_FIRST_PAUSE_SECONDS = 1.0
_LARGEST_PAUSE_SECONDS = 10.0


def verify(
    plan: ReleasePlan,
    survey: Survey,
    *,
    workspace: Workspace,
    reporter: Reporter,
    store: ObjectStore,
    judge: registered_copy.Verdict,
    policy: retries.Policy = retries.DEFAULT,
) -> RollbackTarget:
    """Download the release to go back to as users get it, and verify it; nothing is changed.

    Args:
        plan: its version is the one to go back to.
        survey: holds the coordinator's row.
        workspace: for scratch.
        reporter: sees the download.
        store: the bucket.
        judge: judges the unpacked download (`registered_copy.from_the_seal_down`).
        policy: how to retry the public address.

    Raises:
        VerificationError: it is gone, is not what the coordinator's row says, or does not verify.
        CredentialError, RemoteRefusedError, TransientError: the bucket or its address.
    """
    row = survey.target
    there = store.head(survey.key)
    with workspace.scratch("rollback") as scratch:
        copy = public_copy.PublicCopy(plan=plan, folder=scratch)
        served = there and public_url.read(
            row.url,
            limit_bytes=plan.limits.archive_bytes,
            seconds=_DOWNLOAD_SECONDS,
            reporter=reporter,
            total_bytes=there.size,
            policy=policy,
            consumer=copy.take,
        )
        if there is None or not served:
            raise _no_way_back(row, "an archive", "nothing")
        if (served.sha256, served.size) != (row.bundle_hash, there.size):
            wanted = f"{row.bundle_hash}, {there.size} bytes"
            raise _no_way_back(row, wanted, f"{served.sha256}, {served.size} bytes")
        if served.fault is not None or copy.unpacked is None:
            raise _no_way_back(row, "an archive", f"it {served.fault}") from served.fault
        found = judge(plan, row, copy.root, copy.unpacked)
    findings.require(
        found,
        f"{row.url}: {row.version} does not verify; nothing was changed",
        hint="go back to another release",
    )
    return RollbackTarget(
        version=row.version,
        platform=row.platform,
        key=survey.key,
        url=row.url,
        sha256=row.bundle_hash,
        size=there.size,
        checks=sum(check.outcome == "passed" for check in found),
    )


def _no_way_back(row: Release, expected: str, observed: str) -> errors.VerificationError:
    return errors.VerificationError(
        f"users would not get {row.version} as it was registered; nothing was changed",
        subject=row.url,
        expected=expected,
        observed=observed,
        hint="go back to another release",
    )


def withdraw(
    plan: ReleasePlan,
    survey: Survey,
    *,
    store: ObjectStore,
    reporter: Reporter,
    at: str,
    by: str,
    reason: str,
) -> Withdrawn:
    """Write the tombstones, each once for ever; one that stands already is as good.

    Args:
        plan: the plan.
        survey: which versions, and their digests.
        store: the bucket.
        reporter: is told of what stood already.
        at: ISO 8601, UTC.
        by: who withdraws them; anybody may read it.
        reason: why; anybody may read it.

    Raises:
        CredentialError, RemoteRefusedError, TransientError: the bucket.
    """
    made = []
    for bad in survey.bad:
        stone = Tombstone(
            version=bad.version,
            platform=plan.product.platform,
            sha256=bad.sha256,
            at=at,
            by=by,
            reason=reason,
        )
        made.append(_write(plan, stone, store, reporter))
    return Withdrawn(tombstones=tuple(made))


def _write(
    plan: ReleasePlan, stone: Tombstone, store: ObjectStore, reporter: Reporter
) -> Withdrawal:
    key = tombstone.key_of(plan.publish.prefix, stone.version)
    outcome = store.replace(
        key,
        tombstone.encode(stone),
        over=None,
        content_type="application/json",
        version=stone.version,
    )
    stands = tombstone.find(store, plan.publish.prefix, stone.version)
    if stands is None:
        raise errors.TransientError(
            "a tombstone that was written is gone", subject=key, hint="run again"
        )
    if outcome is Outcome.KEPT and stands != stone:
        reporter.note(f"{stone.version} was {tombstone.told(stands)}")
    return Withdrawal(
        version=stone.version,
        key=key,
        sha256=stands.sha256,
        outcome="written" if stands == stone else "stood",
        at=stands.at,
        by=stands.by,
        reason=stands.reason,
    )


def deactivate(
    plan: ReleasePlan,
    survey: Survey,
    *,
    coordinator: Coordinator,
    reporter: Reporter,
    force: bool,
) -> Deactivated:
    """Let the coordinator neither serve nor accept them.

    Args:
        plan: the plan.
        survey: which versions.
        coordinator: the coordinator, with an administrator's key.
        reporter: is told of what was done already, and of warnings.
        force: even while connected providers run them.

    Raises:
        RemoteRefusedError: connected providers run one.
        CredentialError, TransientError: the coordinator.
    """
    done = []
    for bad in survey.bad:
        one = _deactivate(plan, bad, coordinator, force=force)
        if one.outcome != "deactivated":
            reporter.note(f"{one.version}: {_SAID[one.outcome]}")
        if one.warning:
            reporter.warn(f"{one.version}: {one.warning}")
        done.append(one)
    return Deactivated(releases=tuple(done))


_SAID = {
    "inactive": "was not active any more",
    "unknown": "the coordinator never had it; its tombstone keeps it from ever being released",
}


def _deactivate(
    plan: ReleasePlan, bad: Bad, coordinator: Coordinator, *, force: bool
) -> DeactivatedRelease:
    if bad.row is None:
        return DeactivatedRelease(version=bad.version, outcome="unknown")
    if not bad.row.active:
        return DeactivatedRelease(version=bad.version, outcome="inactive")
    answer = coordinator.deactivate(bad.version, plan.product.platform, force=force)
    return DeactivatedRelease(
        version=bad.version,
        outcome="deactivated" if answer.known else "unknown",
        warning=answer.warning,
    )


def point_back(
    plan: ReleasePlan,
    survey: Survey,
    target: RollbackTarget,
    *,
    store: ObjectStore,
    coordinator: Coordinator,
    reporter: Reporter,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> RolledBack:
    """Move pointer and aliases to the release, and see that the coordinator serves it.

    Args:
        plan: the plan.
        survey: which versions were withdrawn, and the coordinator's row of the release.
        target: the release, verified.
        store: the bucket.
        coordinator: the coordinator, with an administrator's key.
        reporter: is told of the waiting.
        sleep: how to wait between questions.
        clock: what measures the waiting.

    Raises:
        RemoteRefusedError: another release came in between, and stays.
        PendingError: the coordinator still serves another after the time for its cache.
        VerificationError: an alias, read back, holds other bytes.
        CredentialError, TransientError: the bucket or the coordinator.
    """
    return _Return(
        plan=plan,
        survey=survey,
        target=target,
        store=store,
        coordinator=coordinator,
        reporter=reporter,
        sleep=sleep,
        began=clock(),
        clock=clock,
    ).run()


@dataclass(kw_only=True)
class _Return:
    plan: ReleasePlan
    survey: Survey
    target: RollbackTarget
    store: ObjectStore
    coordinator: Coordinator
    reporter: Reporter
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    began: float
    told: bool = field(default=False, init=False)

    def run(self) -> RolledBack:
        bad = self._bad
        moving = aliases.Aliases(
            plan=self.plan,
            store=self.store,
            reporter=self.reporter,
            target=Pointer(
                version=self.target.version,
                platform=self.target.platform,
                key=self.target.key,
                url=self.target.url,
                sha256=self.target.sha256,
                size=self.target.size,
                instead_of=" ".join(bad),
            ),
            permit=self._permit,
            confirm=self._confirm,
        )
        moved = moving.move()
        self._await_served()
        # A promotion that paused before its copy may have copied during the wait.
        if not moving.stands():
            moving.move()
        self._outlast_registrations()
        # Whatever crossed us on its way is seen here at the latest.
        self._confirm()
        return RolledBack(
            version=self.target.version,
            instead_of=bad,
            pointer=aliases.pointer_key(self.plan),
            aliases=moved,
        )

    @property
    def _bad(self) -> tuple[str, ...]:
        return tuple(bad.version for bad in self.survey.bad)

    def _outlast_registrations(self) -> None:
        """One that was under way when its tombstone came may arrive, and activates the release."""
        seconds = self.plan.environment.registration_seconds
        until = self.began + registration_turn.longest(seconds)
        pauses = retries.pauses(_FIRST_PAUSE_SECONDS, _LARGEST_PAUSE_SECONDS)
        told = False
        while (left := until - self.clock()) > 0 and (sent := self._under_way()):
            if not told:
                told = True
                self.reporter.note(
                    f"a registration of {', '.join(sent)} was sent and not answered; looking for"
                    f" up to {left:.0f} s whether it arrives"
                )
            self.sleep(min(next(pauses), left))
            self._confirm()

    def _under_way(self) -> list[str]:
        return [one for one in self._bad if self._is_under_way(one)]

    def _is_under_way(self, version: str) -> bool:
        claims = registration_claim.in_bucket(self.store, self.plan.publish.prefix, version)
        try:
            held = claims.find()
        except errors.RemoteRefusedError as problem:
            self.reporter.note(str(problem))
            return False
        return held is not None and held.claim.state == "sending" and not claims.is_marked()

    def _permit(self, key: str, there: str) -> None:
        """Take back the withdrawn ones and what is older; a newer release has won."""
        if there not in self._bad and precedence.is_newer(there, self.target.version):
            raise self._lost(there, f"{key} holds it")

    def _confirm(self) -> None:
        """Ask the inventory, which no cache delays: this release stands first."""
        rows = {
            row.release.version: row
            for row in self.coordinator.inventory()
            if row.release.platform == self.target.platform
        }
        _require_same(self.survey.target, rows.get(self.target.version))
        active = [name for name, row in rows.items() if row.active]
        for name in in_the_way(self.plan, [one for one in active if one not in self._bad]):
            raise self._lost(name, "the coordinator ranks it first")
        for name in self._bad:
            if name in active:
                raise errors.TransientError(
                    f"{name} was registered again while it was withdrawn",
                    hint="run the rollback again: its tombstone stands, so nobody else will",
                )

    def _lost(self, winner: str, why: str) -> errors.RemoteRefusedError:
        """Another release, or another rollback, was quicker."""
        words = " ".join(f"--deactivate {one}" for one in (*self._bad, winner))
        withdrawn = ", ".join(self._bad) or "nothing"
        return errors.RemoteRefusedError(
            f"{winner} came in between, and users get it instead of {self.target.version}",
            expected=f"{self.target.version} first",
            observed=f"{winner}: {why}",
            details=[f"withdrawn all the same: {withdrawn}"],
            hint=(
                f"if {winner} is good, all is well; if not: release-tool rollback {self.plan.flags}"
                f" --to {self.target.version} {words}"
            ),
        )

    def _await_served(self) -> None:
        """Wait out the coordinator's cache; one of May forgets nothing when it deactivates."""
        pauses = retries.pauses(_FIRST_PAUSE_SECONDS, _LARGEST_PAUSE_SECONDS)
        while not self._is_served(last=self._left() <= 0):
            self.sleep(min(next(pauses), max(self._left(), 0.0)))

    def _left(self) -> float:
        return self.began + self.plan.limits.latest_poll_seconds - self.clock()

    def _asked(self) -> tuple[Release | None, Current | None]:
        return self.coordinator.latest(self.target.platform), self.coordinator.current()

    def _is_served(self, *, last: bool) -> bool:
        try:
            latest, current = self._asked()
        except errors.TransientError:
            if last:
                raise
            return False
        served = latest.version if latest else ""
        if served == self.target.version and latest:
            _require_same(self.survey.target, Row(release=latest, active=True))
            if current is None or current.version not in self._bad:
                return True
            served = current.version
        if last or served not in self._bad:
            # Not only an old answer: somebody may have come in between.
            self._confirm()
        if last:
            raise errors.PendingError(
                f"the coordinator does not serve {self.target.version} yet",
                expected=self.target.version,
                observed=served or "no active release",
                hint="everything else is done; run the rollback again to look again",
            )
        if not self.told:
            self.told = True
            self.reporter.note(
                f"the coordinator still serves {served or 'nothing'}, waiting; "
                "it keeps its answer for up to a minute"
            )
        return False


def _require_same(before: Release, now: Row | None) -> None:
    """The row is still what the download was compared with."""
    if now is None or not now.active:
        raise errors.RemoteRefusedError(
            f"{before.version} is not active at the coordinator any more",
            hint="somebody else rolls back as well: agree with them, then run again",
        )
    found = [
        checks.compare(name, expected=getattr(before, name), observed=getattr(now.release, name))
        for name in (*HASHES, "url")
    ]
    findings.require(found, f"the coordinator holds other facts of {before.version} than before")
