"""Register: tell the coordinator, once. From here on installers and self-updaters follow.

The coordinator of May replaces a version's row silently, so nothing is sent while it serves other
bytes under this version, and a repeat after an interruption asks before it sends again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pydantic import JsonValue

from release_tool import errors
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import addresses, coordinator_rules, retries
from release_tool.services.coordinator import Coordinator, Registration
from release_tool.services.coordinator_rules import Release
from release_tool.stages import findings
from release_tool.values import Intents, PublishedRelease, RegisteredRelease, ReleaseArchive

READS = (
    "version",
    "product.platform",
    "product.backend",
    "source.changelog",
    "endpoints.r2_public_url",
    "endpoints.coordinator_url",
)
ACTION = "register"
ALREADY = "already_registered"
# The coordinator's own download may take two minutes, so few tries are many minutes.
PATIENCE = retries.Policy(attempts=4, first_seconds=2.0, largest_seconds=30.0)


def run(
    plan: ReleasePlan,
    published: PublishedRelease,
    archive: ReleaseArchive,
    *,
    workspace: Workspace,
    reporter: Reporter,
    intents: Intents,
    coordinator: Coordinator,
    policy: retries.Policy = PATIENCE,
) -> RegisteredRelease:
    """Register the published archive, or find that exactly it is registered.

    Args:
        plan: the release plan.
        published: where the archive stands.
        archive: the archive and its digests.
        workspace: holds the archive, for the coordinator's own checks.
        reporter: is told of repeated tries.
        intents: where the request is written down before it is sent.
        coordinator: the coordinator.
        policy: how to retry what failed in passing, its download trouble included.

    Raises:
        VerificationError: the coordinator's own checks fail here, or its answer differs from
            what was sent.
        RemoteRefusedError: other bytes are registered under this version, or it refused.
        CredentialError, TransientError: the coordinator.
    """
    release = _release(plan, published, archive)
    _check(plan, release, published, archive, workspace)
    _refuse_other_intent(release, intents)
    return retries.call(lambda: _once(release, intents, coordinator), policy, reporter)


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


def _check(
    plan: ReleasePlan,
    release: Release,
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
    found = coordinator_rules.field_checks(release, public_base=public_base)
    found += coordinator_rules.archive_checks(
        path, bundle_hash=release.bundle_hash, binary_hash=release.binary_hash
    )
    findings.require(found, "the coordinator would refuse this release; nothing was sent")


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


def _once(release: Release, intents: Intents, coordinator: Coordinator) -> RegisteredRelease:
    if _stands(release, coordinator):
        return _registered(release, ALREADY)
    facts = _facts(release)
    if intents.find(ACTION) != facts:
        intents.declare(ACTION, facts)
    answer = coordinator.register(release)
    _compare_echo(release, answer)
    return _registered(release, answer.status)


def _stands(release: Release, coordinator: Coordinator) -> bool:
    """Whether the coordinator serves exactly this release.

    `latest` may be a minute old. `/api/version` tells less, but a registration clears it at once.

    Raises:
        RemoteRefusedError: it serves other bytes under this version.
    """
    latest = coordinator.latest(release.platform)
    if latest and latest.version == release.version:
        _refuse_other_bytes(release, {name: getattr(latest, name) for name in _BYTES})
        return not coordinator_rules.differences(release, latest)
    current = coordinator.current()
    if current is None or current.version != release.version:
        return False
    if not addresses.same(current.download_url, release.url):
        # It tells of one platform only, and that is not ours.
        return False
    _refuse_other_bytes(release, {"bundle_hash": current.bundle_hash})
    return True


_BYTES = coordinator_rules.HASHES


def _refuse_other_bytes(release: Release, served: Mapping[str, str]) -> None:
    other = [name for name, value in served.items() if value != getattr(release, name)]
    if other:
        raise errors.RemoteRefusedError(
            f"the coordinator serves {release.version} with other bytes; nothing was sent",
            details=[
                f"{name}: there {served[name] or 'none'}, ours {getattr(release, name)}"
                for name in other
            ],
            hint="a registered version never changes: release the next one",
        )


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


def _facts(release: Release) -> dict[str, JsonValue]:
    """What the intent keeps: all that identifies the request, the changelog by its digest."""
    return {
        "version": release.version,
        "platform": release.platform,
        "backend": release.backend,
        "binary_hash": release.binary_hash,
        "bundle_hash": release.bundle_hash,
        "metallib_hash": release.metallib_hash,
        "url": release.url,
        "changelog_sha256": hashlib.sha256(release.changelog.encode()).hexdigest(),
    }


def _registered(release: Release, status: str) -> RegisteredRelease:
    return RegisteredRelease(
        version=release.version,
        platform=release.platform,
        backend=release.backend,
        binary_hash=release.binary_hash,
        bundle_hash=release.bundle_hash,
        metallib_hash=release.metallib_hash,
        url=release.url,
        status=status,
    )
