"""Register: tell the coordinator, once. From here on installers and self-updaters follow.

The coordinator of May replaces a version's row silently, so nothing is sent while it serves other
bytes under this version, and a repeat after an interruption asks before it sends again, for as
long as what was sent may still arrive.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pydantic import JsonValue

from release_tool import errors
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import addresses, coordinator_rules, readiness, retries, tombstone
from release_tool.services.coordinator import Coordinator, Registration
from release_tool.services.coordinator_refusals import (
    FailedError,
    NotTakenError,
    UnapprovedError,
    UnclearError,
)
from release_tool.services.coordinator_rules import BUILD, Build, Release
from release_tool.services.http_client import NoConnectionError, OversizedError
from release_tool.services.registration_claim import Claims
from release_tool.services.tombstone import Finder
from release_tool.stages import (
    approval,
    findings,
    fleet_gate,
    registered_row,
    smoke_evidence,
    version_series,
)
from release_tool.stages.fleet_gate import Watch
from release_tool.stages.registered_row import Public
from release_tool.stages.registration_turn import Turn
from release_tool.values import (
    UNKNOWN,
    CheckOutcome,
    Intents,
    PublishedRelease,
    RegisteredRelease,
    ReleaseArchive,
    SmokeEvidence,
)

READS = (
    *smoke_evidence.READS,
    "product.platform",
    "product.backend",
    "source.changelog",
    "source.ci_run_id",
    "coordinator",
    "environment.require_known_source",
    "environment.require_qualification",
    "environment.fleet_watch",
    "environment.fleet_watch_seconds",
    "limits.latest_poll_seconds",
    "environment.registration_seconds",
    "publish.prefix",
    "endpoints.r2_public_url",
    "endpoints.coordinator_url",
)
ACTION = "register"
ALREADY = "already_registered"
# What was served before stands in the intent: afterwards it cannot be asked for.
_BEFORE = "before"
# What was declared was not sent after all, or answered and not taken.
_REFUSED = "refused"
_REFUSALS = (
    NotTakenError,
    NoConnectionError,
    errors.RemoteRefusedError,
    errors.CredentialError,
    errors.UsageError,
    errors.PendingError,
)
# The coordinator's own download may take two minutes, so few tries are many minutes.
PATIENCE = retries.Policy(attempts=4, first_seconds=2.0, largest_seconds=30.0)


def run(
    plan: ReleasePlan,
    published: PublishedRelease,
    archive: ReleaseArchive,
    evidence: SmokeEvidence,
    *,
    others: Sequence[SmokeEvidence] = (),
    workspace: Workspace,
    reporter: Reporter,
    intents: Intents,
    coordinator: Coordinator,
    tombstones: Finder,
    public: Public,
    claims: Claims,
    policy: retries.Policy = PATIENCE,
    watch: Watch | None = None,
) -> RegisteredRelease:
    """Register the archive, or find that exactly it is registered; then look at the fleet.

    Args:
        plan: the release plan.
        published: where the archive stands.
        archive: the archive and its digests.
        evidence: what ran from exactly this archive.
        others: what ran from it on other hosts.
        workspace: holds the archive, for the coordinator's own checks.
        reporter: is told of repeated tries.
        intents: where the request is written down before it is sent.
        coordinator: the coordinator.
        tombstones: finds a version's tombstone; a job need not have the bucket's keys.
        public: what was published of earlier registrations, likewise.
        claims: the version's claim, likewise.
        policy: how to retry what failed in passing, its download trouble included.
        watch: how to watch the fleet; as long as the plan says without one.

    Raises:
        VerificationError: the evidence is of another archive or of a kind that this environment
            refuses; the coordinator's own checks fail here; its answer differs from what was
            sent; or the fleet suffers from the registration.
        PendingError: nobody has approved this build yet.
        RemoteRefusedError: other bytes are registered under this version, or it refused; the
            version was withdrawn; or deactivated, which `ADMIN_KEY` lets be seen, and without it
            a claim, a pointer or a log of releases that tells of the version.
        UsageError: it speaks another contract than the plan says.
        CredentialError: the coordinator; or a registration was sent whose answer was lost, or is
            told by claim or log, a newer release is served by now, and there is no administrator's
            key to look behind it.
        TransientError: the coordinator.
    """
    release = _release(plan, published, archive)
    build = _build(plan, archive)
    _check(plan, release, build, published, archive, workspace)
    smoke_evidence.require(
        plan,
        evidence,
        others=others,
        archive_sha256=archive.sha256,
        binary_sha256=archive.binary_sha256,
        act="registering",
        cdhash=archive.cdhash,
    )
    _refuse_other_intent(release, intents)
    watch = watch or Watch(
        seconds=plan.environment.fleet_watch_seconds,
        waived=plan.environment.fleet_watch == "unchecked",
        flags=plan.flags,
    )
    ready = partial(
        readiness.when_ready,
        seconds=plan.limits.latest_poll_seconds,
        reporter=reporter,
        sleep=watch.sleep,
        clock=watch.clock,
    )
    served = ready(lambda: _served(plan, coordinator, tombstones))
    if told := version_series.crossing(plan, served):
        reporter.note(told)
    sending = _Sending(
        release=release,
        build=build,
        intents=intents,
        coordinator=coordinator,
        tombstones=tombstones,
        public=public,
        turn=Turn(
            release=release,
            claims=claims,
            seconds=plan.environment.registration_seconds,
            stands=lambda: registered_row.find(release, coordinator) is not None,
            reporter=reporter,
            sleep=watch.sleep,
            clock=watch.clock,
        ),
        request=approval.write_request(workspace, release, build)
        if build and build.qualified
        else "",
    )
    with sending.its_turn():
        status = ready(lambda: retries.call(sending.once, policy, reporter))
    sending.require_not_withdrawn_meanwhile()
    stands = sending.stands or release
    if other := registered_row.other_facts(release, stands):
        reporter.note(
            f"{release.version} stands with these bytes and another {', '.join(other)}, which stays"
        )
    return _registered(stands, status, _judge_fleet(sending, watch, reporter))


def _judge_fleet(sending: _Sending, watch: Watch, reporter: Reporter) -> list[Check]:
    """What the registration did to the fleet; what could not be asked is said."""
    release = sending.release
    found = fleet_gate.judge(
        sending.seen_before(), release, sending.coordinator, sending.tombstones, watch, reporter
    )
    for check in found:
        if check.outcome == "not_checked":
            reporter.note(f"not checked: {check.name}: {check.hint}")
    findings.require(found, f"{release.version} is registered, and what it left behind is wrong")
    return found


def _served(plan: ReleasePlan, coordinator: Coordinator, tombstones: Finder) -> Release | None:
    """What is served as latest, unless this version is another's or was withdrawn."""
    try:
        return version_series.require_own(plan, coordinator)
    except version_series.DeactivatedError:
        # A tombstone tells who withdrew it, and why.
        tombstone.refuse(tombstones(plan.version))
        raise


def _release(plan: ReleasePlan, published: PublishedRelease, archive: ReleaseArchive) -> Release:
    return Release(
        version=plan.version,
        platform=plan.product.platform,
        backend=plan.product.backend,
        binary_hash=archive.binary_sha256,
        bundle_hash=archive.sha256,
        metallib_hash=archive.metallib_sha256,
        url=published.url,
        changelog=plan.source.changelog,
    )


def _build(plan: ReleasePlan, archive: ReleaseArchive) -> Build | None:
    """What October is told of the build; May refuses it."""
    if plan.coordinator.contract == "2026-05":
        return None
    commit = archive.source_commit
    return Build(
        code_directory_hash=archive.code_directory_sha256,
        source_commit="" if commit == UNKNOWN else commit,
        ci_run_id=plan.source.ci_run_id,
        qualified=plan.environment.require_qualification,
    )


def _check(
    plan: ReleasePlan,
    release: Release,
    build: Build | None,
    published: PublishedRelease,
    archive: ReleaseArchive,
    workspace: Workspace,
) -> None:
    """Run the coordinator's own rules, so that a refusal costs nothing."""
    if published.archive_sha256 != archive.sha256:
        raise errors.VerificationError(
            "another archive was published than this one",
            expected=archive.sha256,
            observed=published.archive_sha256,
            hint="run again: the publish stage comes first",
        )
    public_base = addresses.base(plan.endpoints.r2_public_url, name="R2_PUBLIC_URL")
    path = workspace.path(archive.path)
    if not path.is_file():
        raise errors.VerificationError("the archive is not here", subject=archive.path)
    found = coordinator_rules.field_checks(release, public_base=public_base, build=build)
    found += coordinator_rules.archive_checks(
        path, bundle_hash=release.bundle_hash, binary_hash=release.binary_hash
    )
    findings.require(found, "the coordinator would refuse this release; nothing was sent")
    if plan.environment.require_known_source:
        findings.require([_test_check(archive)], "this may not be released; nothing was sent")


def _test_check(archive: ReleaseArchive) -> Check:
    """`assemble` asked too: its record may come from another environment's plan."""
    return checks.compare(
        "test outcome",
        expected="passed",
        observed=archive.test_outcome,
        subject="the binaries' source",
        hint="let the build's tests pass, and write their outcome into build.json",
    )


def _refuse_other_intent(release: Release, intents: Intents) -> None:
    """Other bytes that were sent once under this version may be registered, seen or not."""
    facts = intents.find(ACTION)
    if facts is None:
        return
    sent = {name: str(facts.get(name, "")) for name in coordinator_rules.HASHES}
    ours = {name: value for name, value in _facts(release).items() if name in sent}
    if sent != ours:
        raise errors.RemoteRefusedError(
            f"a registration of other bytes was already sent for {release.version}",
            expected=release.bundle_hash,
            observed=sent["bundle_hash"],
            hint="a registered version never changes: release the next one",
        )


@dataclass(kw_only=True)
class _Sending:
    """One registration, however often it is tried."""

    release: Release
    build: Build | None
    intents: Intents
    coordinator: Coordinator
    tombstones: Finder
    public: Public
    turn: Turn
    request: str
    """Where the request for an approval stands; empty where none is wanted."""
    stands: Release | None = None
    """What was found registered, as it stands."""

    def once(self) -> str:
        """Find it or send it; returns the status."""
        unanswered = self._is_open()
        with self._crossing() if unanswered else contextlib.nullcontext():
            self._look_out()
        self.turn.look()
        told = self._told_publicly()
        if self._stands():
            return ALREADY
        self.turn.refuse_other_bytes()
        if unanswered or self.turn.is_under_way:
            self._require_visible(unanswered=unanswered)
        if self.turn.outlast(unanswered=unanswered):
            return self.once()
        registered_row.refuse_registered_before(self.release, self.coordinator, told)
        if self.build and self.request:
            approval.require(self.coordinator, self.release, self.build, self.request)
        self._take_turn()
        answer = self._send()
        _compare_echo(self.release, answer)
        self.turn.mark()
        return answer.status

    def _crossing(self) -> contextlib.AbstractContextManager[None]:
        return tombstone.seen_late(
            self.release.version,
            doing="a registration of it was under way, and may activate it yet",
            hint="run the rollback again: it looks until nothing can arrive any more",
        )

    def _take_turn(self) -> None:
        self.turn.take()
        # A rollback that comes now sees the claim; one that came before is seen here.
        self._look_out()
        self._declare()
        with self._unless_taken(errors.TransientError):
            self.turn.require_fresh()

    @contextlib.contextmanager
    def _unless_taken(self, *kinds: type[errors.ReleaseError]) -> Iterator[None]:
        """Around what may end without a registration: then nobody needs to wait for one."""
        try:
            yield
        except (OversizedError, UnclearError):
            raise
        except kinds:
            with contextlib.suppress(errors.ReleaseError):
                facts = self.intents.find(ACTION) or {}
                self.intents.declare(ACTION, {**facts, _REFUSED: True})
            raise

    @contextlib.contextmanager
    def its_turn(self) -> Iterator[None]:
        """Around all tries: where nothing is under way any more, another run need not wait."""
        try:
            yield
        except errors.ReleaseError:
            with contextlib.suppress(errors.ReleaseError):
                if not self._is_open():
                    self.turn.give_back()
            raise

    def _told_publicly(self) -> str:
        """What tells of an earlier registration, where the inventory does not."""
        if self.coordinator.has_admin_key:
            return ""
        public = replace(self.public, marked=lambda: self.turn.is_marked)
        return public.tells_of(self.release)

    def _stands(self) -> bool:
        row = registered_row.find(self.release, self.coordinator)
        if row is None:
            return False
        self.stands = row
        self.turn.mark()
        return True

    def _require_visible(self, *, unanswered: bool) -> None:
        """Where a newer release hides it, no waiting would show whether it arrived."""
        if newer := registered_row.behind(self.release, self.coordinator):
            told = "its answer was lost" if unanswered else "another run's claim tells of one"
            lacking = f"{told}, and there is no administrator's key"
            raise registered_row.unseen(self.release, newer, self.coordinator, lacking)

    def _look_out(self) -> None:
        tombstone.refuse(self.tombstones(self.release.version))

    def require_not_withdrawn_meanwhile(self) -> None:
        """A registration that crossed a rollback on its way has activated the release again."""
        with tombstone.seen_late(
            self.release.version,
            doing="it was registered, and may be active",
            hint="run the rollback again: it deactivates what it finds active",
        ):
            self._look_out()

    def seen_before(self) -> Mapping[str, JsonValue]:
        """What the coordinator told before this was sent, on whatever machine that was."""
        facts = self.intents.find(ACTION) or {}
        before = facts.get(_BEFORE)
        return before if isinstance(before, dict) else {}

    def _declare(self) -> None:
        facts = _facts(self.release, self.build)
        declared = self.intents.find(ACTION) or {}
        if {name: declared.get(name) for name in facts} != facts:
            latest = self.coordinator.latest(self.release.platform)
            before = fleet_gate.look(latest, self.coordinator)
            self.intents.declare(ACTION, facts | {_BEFORE: before})
        elif declared.get(_REFUSED):
            self.intents.declare(ACTION, facts | {_BEFORE: declared.get(_BEFORE)})

    def _is_open(self) -> bool:
        """Whether a registration was sent and nobody knows whether it arrived."""
        facts = self.intents.find(ACTION)
        return facts is not None and not facts.get(_REFUSED)

    def _send(self) -> Registration:
        try:
            with self._unless_taken(*_REFUSALS):
                return self._register()
        except UnapprovedError as problem:
            if self.build is None or not self.request:
                raise approval.unexpected(problem) from problem
            raise approval.after_refusal(
                self.coordinator, self.release, self.build, self.request, problem
            ) from problem

    def _register(self) -> Registration:
        self.turn.sends()
        try:
            return self.coordinator.register(self.release, self.build)
        except FailedError:
            self.turn.answered()
            raise


def _compare_echo(release: Release, answer: Registration) -> None:
    differing = coordinator_rules.differences(release, answer.release)
    if answer.status != "release_registered":
        differing.insert(0, f"status: expected release_registered, answered {answer.status}")
    if differing:
        raise errors.VerificationError(
            "the coordinator registered something else than was sent",
            details=differing,
            hint="look at the release on the coordinator before anything else is done",
        )


def _facts(release: Release, build: Build | None = None) -> dict[str, JsonValue]:
    """What the intent keeps: all that identifies the request, the changelog by its digest."""
    return {
        **({name: getattr(build, name) for name in BUILD} if build else {}),
        "version": release.version,
        "platform": release.platform,
        "backend": release.backend,
        "binary_hash": release.binary_hash,
        "bundle_hash": release.bundle_hash,
        "metallib_hash": release.metallib_hash,
        "url": release.url,
        "changelog_sha256": hashlib.sha256(release.changelog.encode()).hexdigest(),
    }


def _registered(release: Release, status: str, found: list[Check]) -> RegisteredRelease:
    return RegisteredRelease(
        version=release.version,
        platform=release.platform,
        backend=release.backend,
        binary_hash=release.binary_hash,
        bundle_hash=release.bundle_hash,
        metallib_hash=release.metallib_hash,
        url=release.url,
        status=status,
        checks=tuple(CheckOutcome.model_validate(check.as_json()) for check in found),
    )
