"""Publish: the archive at its own key, created once, and judged as the world gets it.

A key is written only while nothing stands there. The same bytes are success; other bytes are
refused for ever, because a registered digest may point at them. Where the key holds the digest,
a small document at the version's own key takes the version for one archive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from release_tool import errors, progress
from release_tool.apple import checks
from release_tool.files import hashing
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import (
    addresses,
    precedence,
    public_url,
    release_keys,
    release_pointer,
    retries,
    tombstone,
)
from release_tool.services.object_store import ObjectStore, StoredObject
from release_tool.services.object_store_calls import Outcome
from release_tool.services.release_pointer import Pointer
from release_tool.stages import findings, public_copy, smoke_evidence
from release_tool.values import Intents, PublishedRelease, ReleaseArchive, SmokeEvidence

READS = (
    *smoke_evidence.READS,
    "archive",
    "publish.prefix",
    "product.platform",
    "coordinator.contract",
    "bundle.executables",
    "bundle.metallib",
    "limits.archive_bytes",
    "limits.member_bytes",
    "limits.members",
    "environment.signer",
    "flavour.layout",
    "endpoints.r2_endpoint",
    "endpoints.r2_bucket",
    "endpoints.r2_public_url",
)
ACTION = "upload"
# A download of 2 GiB at 2 MB/s.
_READ_BACK_SECONDS = 1000.0


def run(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    evidence: SmokeEvidence,
    *,
    others: Sequence[SmokeEvidence] = (),
    workspace: Workspace,
    reporter: Reporter,
    intents: Intents,
    store: ObjectStore,
    judge: public_copy.Verdict,
    policy: retries.Policy = retries.DEFAULT,
) -> PublishedRelease:
    """Put the archive at its key if nothing stands there, and judge what users get from there.

    Args:
        plan: the release plan.
        archive: the archive that ships.
        evidence: what ran from exactly this archive.
        others: what ran from it on other hosts.
        workspace: holds the archive.
        reporter: sees hashing, upload and read-back.
        intents: where an upload in parts is written down, so that another run goes on with it.
        store: the bucket.
        judge: judges the unpacked download (`public_copy.from_the_seal_down`).
        policy: how to retry the public address.

    Raises:
        VerificationError: the evidence is of another archive or of a kind that this environment
            refuses; the archive has changed; the public address serves other bytes.
        RemoteRefusedError: the key holds other bytes; the version was withdrawn.
        CredentialError, TransientError: the store.
    """
    public_base = addresses.base(plan.endpoints.r2_public_url, name="R2_PUBLIC_URL")
    tombstone.refuse(tombstone.find(store, plan.publish.prefix, plan.version))
    smoke_evidence.require(
        plan,
        evidence,
        others=others,
        archive_sha256=archive.sha256,
        binary_sha256=archive.binary_sha256,
        act="publishing",
        cdhash=archive.cdhash,
    )
    _judge_archive(archive, workspace, reporter)
    _refuse_another(plan, archive, store, reporter)
    key = key_of(plan, archive)
    created = _put(plan, archive, key, workspace, reporter, intents, store)
    url = addresses.join(public_base, key)
    with workspace.scratch("publish") as scratch:
        copy = public_copy.PublicCopy(plan=plan, folder=scratch)
        _read_back(plan, archive, url, copy, reporter, policy)
        _judge_copy(plan, archive, url, copy, judge)
    if _holds_digest(plan):
        _take_version(plan, archive, key, url, store)
    # Whoever publishes under the other form looks behind its own write as well: one sees the other.
    _refuse_another(plan, archive, store, reporter)
    return PublishedRelease(
        archive_sha256=archive.sha256, size=archive.size, key=key, url=url, created=created
    )


def key_of(plan: ReleasePlan, archive: ReleaseArchive) -> str:
    """The archive's key, by what the coordinator accepts.

    A key that holds the digest cannot hold other bytes of the version; coordinators of May know
    only the versioned one.
    """
    if _holds_digest(plan):
        return release_keys.by_digest(
            plan.publish.prefix, plan.version, archive.sha256, plan.archive.name
        )
    return _beside(plan, plan.archive.name)


def _beside(plan: ReleasePlan, name: str) -> str:
    return release_keys.beside(plan.publish.prefix, plan.version, name)


def _holds_digest(plan: ReleasePlan) -> bool:
    return plan.coordinator.contract == "2026-10"


def _put(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    key: str,
    workspace: Workspace,
    reporter: Reporter,
    intents: Intents,
    store: ObjectStore,
) -> bool:
    """Whether the archive was put; without, exactly its bytes stood there."""
    outcome = store.create(
        key,
        workspace.path(archive.path),
        sha256=archive.sha256,
        version=plan.version,
        reporter=reporter,
        journal=_Journal(intents),
    )
    if outcome is Outcome.KEPT:
        there = store.head(key)
        if there is None:
            raise errors.TransientError(
                "the key was taken and is empty now", subject=key, hint="run again"
            )
        _judge_standing(plan, archive, there, store, reporter)
    return outcome is Outcome.WRITTEN


def _refuse_another(
    plan: ReleasePlan, archive: ReleaseArchive, store: ObjectStore, reporter: Reporter
) -> None:
    """See that the version is no other archive's under the key of the other contract.

    Each contract's keys exclude other bytes among themselves only, and the configuration may have
    changed since the version was registered.
    """
    if not _holds_digest(plan):
        found = store.read(_version_key(plan), limit_bytes=release_pointer.LIMIT_BYTES)
        if found is not None:
            _judge_version(plan, archive, *found)
        return
    there = store.head(_beside(plan, plan.archive.name))
    if there is not None:
        _judge_standing(plan, archive, there, store, reporter)


def _version_key(plan: ReleasePlan) -> str:
    """Where the one archive of a version is named, under the contract whose keys hold digests."""
    return _beside(plan, release_pointer.NAME)


def _take_version(
    plan: ReleasePlan, archive: ReleaseArchive, key: str, url: str, store: ObjectStore
) -> None:
    """Let one archive have the version, whoever else publishes it at this moment.

    Such keys differ for other bytes, so both would come to stand, and a coordinator that asks for
    no approval lets the later registration replace the earlier one.
    """
    ours = Pointer(
        version=plan.version,
        platform=plan.product.platform,
        key=key,
        url=url,
        sha256=archive.sha256,
        size=archive.size,
    )
    place = _version_key(plan)
    store.replace(
        place,
        release_pointer.encode(ours),
        over=None,
        content_type="application/json",
        version=plan.version,
    )
    found = store.read(place, limit_bytes=release_pointer.LIMIT_BYTES)
    if found is None:
        raise errors.TransientError(
            "the version was taken and is free now", subject=place, hint="run again"
        )
    _judge_version(plan, archive, *found)


def _judge_version(
    plan: ReleasePlan, archive: ReleaseArchive, there: StoredObject, content: bytes
) -> None:
    try:
        digest = release_pointer.parse(content).sha256
    except errors.FormatError:
        digest = ""
    if digest != archive.sha256:
        raise errors.RemoteRefusedError(
            f"cannot publish: {plan.version} is already another archive's",
            subject=there.key,
            expected=archive.sha256,
            observed=f"{digest or 'what is no pointer'}, put {there.modified:%Y-%m-%d %H:%M} UTC",
            hint=(
                "Other bytes may be registered for it, so it is not given away again. "
                f"If it was never registered, release {precedence.next_version(plan.version)}."
            ),
        )


@dataclass(frozen=True, slots=True)
class _Journal:
    """The upload under way, in the ledger."""

    intents: Intents

    def find(self) -> Mapping[str, object] | None:
        return self.intents.find(ACTION)

    def declare(self, facts: Mapping[str, str | int]) -> None:
        self.intents.declare(ACTION, {**facts})


def _judge_archive(archive: ReleaseArchive, workspace: Workspace, reporter: Reporter) -> None:
    """Digest the file as it lies on disk now; the record may be older than a mishap."""
    path = workspace.path(archive.path)
    if not path.is_file():
        raise errors.VerificationError("the archive is not here", subject=archive.path)
    with progress.task(reporter, "hash", archive.size):
        digest = hashing.sha256_of(path, reporter=reporter)
    findings.require(
        [
            checks.compare("size", expected=f"{archive.size}", observed=f"{path.stat().st_size}"),
            checks.compare("sha256", expected=archive.sha256, observed=digest),
        ],
        f"{archive.path} is not the archive that was recorded",
        hint="run again: the archive stage notices the change",
    )


def _judge_standing(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    there: StoredObject,
    store: ObjectStore,
    reporter: Reporter,
) -> None:
    """Accept what stands at a key only as exactly our bytes."""
    digest = ""
    if there.size <= plan.limits.archive_bytes:
        digest = store.digest(there, reporter=reporter)
    if digest != archive.sha256:
        raise _taken(plan, archive, there, digest)


def _taken(
    plan: ReleasePlan, archive: ReleaseArchive, there: StoredObject, digest: str
) -> errors.RemoteRefusedError:
    version = plan.version
    put = there.modified.strftime("%Y-%m-%d %H:%M UTC")
    return errors.RemoteRefusedError(
        f"cannot publish: {there.key} already holds other bytes",
        details=[
            f"there     {digest or 'too large to hash'} · {_shown_size(there.size)} · put {put}",
            f"ours      {archive.sha256} · {_shown_size(archive.size)}",
        ],
        hint=(
            "A registered hash may point at those bytes, so they are never overwritten. "
            f"If {version} was never registered, release {precedence.next_version(version)}."
        ),
    )


def _read_back(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    url: str,
    copy: public_copy.PublicCopy,
    reporter: Reporter,
    policy: retries.Policy,
) -> None:
    served = _served(plan, archive, url, copy, reporter, policy)
    if served is None or (served.sha256, served.size) != (archive.sha256, archive.size):
        raise errors.VerificationError(
            "the public address does not serve what was put",
            subject=url,
            expected=f"{archive.sha256}, {archive.size} bytes",
            observed=f"{served.sha256}, {served.size} bytes" if served else "nothing (404)",
            hint="R2_PUBLIC_URL must be the public address of R2_BUCKET, with nothing rewriting it",
        )
    if served.fault is not None:
        raise errors.VerificationError(
            f"what users download cannot be unpacked: it {served.fault}",
            subject=url,
            hint="nothing was registered; pack and release the next version",
        ) from served.fault


def _judge_copy(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    url: str,
    copy: public_copy.PublicCopy,
    judge: public_copy.Verdict,
) -> None:
    assert copy.unpacked  # noqa: S101 - read through without a fault
    findings.require(
        judge(plan, archive, copy.root, copy.unpacked),
        f"{url}: what users download does not verify",
        hint="nothing was registered; release the next version",
    )


def _served(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    url: str,
    copy: public_copy.PublicCopy,
    reporter: Reporter,
    policy: retries.Policy,
) -> public_url.Served | None:
    """Read the public address; a CDN may hold on to a 404 for a moment."""
    pauses = retries.pauses(policy.first_seconds, policy.largest_seconds)
    for _ in range(policy.attempts):
        served = public_url.read(
            url,
            limit_bytes=plan.limits.archive_bytes,
            seconds=_READ_BACK_SECONDS,
            reporter=reporter,
            total_bytes=archive.size,
            policy=policy,
            consumer=copy.take,
        )
        if served is not None:
            return served
        policy.sleep(next(pauses))
    return None


def _shown_size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{size / 1e3:.1f} kB"
