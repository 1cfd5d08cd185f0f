"""Beside the archive: its bill of materials and its provenance, each created once.

Both are made of recorded facts, so a repeat finds its own bytes. Where the archive was packed
again, to the same bytes at another time, the statement that stands stays: it is as true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from release_tool import errors
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.files import atomic
from release_tool.files.archive_reader import Unpacked
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.provenance import sbom, statement
from release_tool.provenance.keys import PublicKey, SigningKey
from release_tool.provenance.statement import Materials, Run
from release_tool.services import addresses, precedence, release_keys
from release_tool.services.object_store import ObjectStore
from release_tool.stages import public_copy
from release_tool.values import PublishedDocument, PublishedRelease, ReleaseArchive

READS = (
    "version",
    "product.name",
    "product.team_id",
    "source.tag",
    "source.ci_run_id",
    "flavour.name",
    "flavour.title",
    "environment.name",
    "environment.provenance.builder",
    "environment.github_repository",
)


@dataclass
class Reading:
    """Judges what users download, and keeps what was read of it on the way."""

    read: public_copy.Reader
    facts: BundleFacts | None = field(default=None, init=False)

    def judge(
        self, plan: ReleasePlan, archive: ReleaseArchive, root: Path, unpacked: Unpacked
    ) -> Sequence[Check]:
        """The verdict of `public_copy.from_the_seal_down`."""
        judged = self.read(plan, archive, root, unpacked)
        self.facts = judged.facts
        return judged.checks


def publish(
    plan: ReleasePlan,
    published: PublishedRelease,
    made: Materials,
    run: Run,
    facts: BundleFacts | None,
    *,
    key: SigningKey,
    trusted: Sequence[PublicKey],
    workspace: Workspace,
    store: ObjectStore,
    reporter: Reporter,
) -> PublishedRelease:
    """Put bill and provenance beside an archive that stands and verifies.

    Args:
        plan: the release plan.
        published: where the archive stands.
        made: what it was made of.
        run: when, where and by what.
        facts: what was read of it, as users download it.
        key: signs the provenance.
        trusted: the keys that count; `key` is among them.
        workspace: gets both documents.
        store: the bucket.
        reporter: is told of a statement that stood.

    Returns:
        The same value, with its documents.

    Raises:
        RemoteRefusedError: another bill, or a statement of another build, stands there.
        CredentialError, TransientError: the bucket.
    """
    beside = _Beside(plan=plan, workspace=workspace, store=store)
    bill = sbom.build(plan, made.archive.sha256, made.archive.members, sbom.code_of(facts))
    beside.same(sbom.NAME, bill, sbom.MEDIA_TYPE)
    digest = hashlib.sha256(bill).hexdigest()
    content = statement.payload(plan, made, run, sbom_sha256=digest)
    sealed = statement.seal(content, key)
    stands = beside.create(statement.NAME, sealed, "application/json")
    if stands != sealed:
        _judge_standing(beside.key(statement.NAME), stands, content, trusted)
        reporter.note("the provenance of this archive stands already, of an earlier run")
    documents = (beside.keep(sbom.NAME, bill), beside.keep(statement.NAME, stands))
    return published.model_copy(update={"documents": documents})


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """The version's own place in the bucket."""

    plan: ReleasePlan
    workspace: Workspace
    store: ObjectStore

    def key(self, name: str) -> str:
        return release_keys.beside(self.plan.publish.prefix, self.plan.version, name)

    def create(self, name: str, content: bytes, content_type: str) -> bytes:
        """Put a document unless one stands there; returns what does."""
        key = self.key(name)
        self.store.replace(
            key, content, over=None, content_type=content_type, version=self.plan.version
        )
        found = self.store.read(key, limit_bytes=sbom.LIMIT_BYTES)
        if found is None:
            raise errors.TransientError(
                "a document that was put is gone", subject=key, hint="run again"
            )
        return found[1]

    def same(self, name: str, content: bytes, content_type: str) -> None:
        stands = self.create(name, content, content_type)
        if stands != content:
            raise _taken(self.key(name), self.plan.version, content, stands)

    def keep(self, name: str, content: bytes) -> PublishedDocument:
        path = self.workspace.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_atomically(path, content)
        return document(self.plan, name, content, key=self.key(name))


def document(plan: ReleasePlan, name: str, content: bytes, *, key: str) -> PublishedDocument:
    """How a record names a document that stands at a key, and in the workspace."""
    base = addresses.base(plan.endpoints.r2_public_url, name="R2_PUBLIC_URL")
    return PublishedDocument(
        name=name,
        key=key,
        url=addresses.join(base, key),
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )


def _judge_standing(key: str, stands: bytes, ours: bytes, trusted: Sequence[PublicKey]) -> None:
    """Accept what stands as another true statement on exactly this archive."""
    meant = statement.read(ours)
    try:
        there = statement.unseal(stands, trusted=trusted)
    except errors.VerificationError as problem:
        raise errors.RemoteRefusedError(
            f"what stands where the provenance belongs {problem.message}",
            subject=key,
            expected=problem.expected,
            observed=problem.observed,
            hint=f"it is never overwritten: look who wrote it, or release {_next(meant.version)}",
        ) from problem
    facts = (there.sha256, there.sbom_sha256, there.builder, there.definition)
    if facts != (meant.sha256, meant.sbom_sha256, meant.builder, meant.definition):
        raise _taken(key, meant.version, ours, stands)


def _taken(key: str, version: str, ours: bytes, stands: bytes) -> errors.RemoteRefusedError:
    return errors.RemoteRefusedError(
        "another document stands here already, and it is never overwritten",
        subject=key,
        expected=hashlib.sha256(ours).hexdigest(),
        observed=hashlib.sha256(stands).hexdigest(),
        hint=f"the same archive was published with other facts: release {_next(version)}",
    )


def _next(version: str) -> str:
    return precedence.next_version(version)
