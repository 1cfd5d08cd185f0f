"""The last three stages on one archive, as the pipeline would run them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter, Silent
from release_tool.services import registration_claim, retries, tombstone
from release_tool.services.coordinator import Coordinator
from release_tool.services.object_store import ObjectStore
from release_tool.services.registration_claim import Claims
from release_tool.services.release_pointer import Pointer
from release_tool.services.tombstone import Tombstone
from release_tool.stages import aliases, promote, public_copy, publish, register
from release_tool.stages.fleet_gate import Watch
from release_tool.stages.registered_row import Public
from release_tool.values import (
    PromotedRelease,
    PublishedRelease,
    RegisteredRelease,
    ReleaseArchive,
    SmokeEvidence,
)
from tests import smoke_samples
from tests.small_world import MemoryIntents, make_archive

METALLIB = "c" * 64
NAME = "darkbloom-bundle-macos-arm64.tar.gz"


class World(Protocol):
    """Where a release is carried to: the small world, or the embedded environment's look-alikes."""

    @property
    def store_url(self) -> str: ...

    @property
    def public_url(self) -> str: ...

    @property
    def coordinator_url(self) -> str: ...

    @property
    def policy(self) -> retries.Policy: ...

    def object_store(self) -> ObjectStore: ...

    def coordinator(self) -> Coordinator: ...

    def sleep(self, seconds: float) -> None: ...

    def clock(self) -> float: ...


@dataclass
class Chain:
    """One machine's workspace and the records that it has so far."""

    world: World
    plan: ReleasePlan
    workspace: Workspace
    archive: ReleaseArchive
    evidence: SmokeEvidence
    intents: MemoryIntents = field(default_factory=MemoryIntents)
    uploads: MemoryIntents = field(default_factory=MemoryIntents)
    judge: public_copy.Verdict = lambda *_: ()
    """These archives hold no app; those of `test_public_copy` do."""
    reporter: Reporter = field(default_factory=Silent)
    watch_seconds: float = 30.0
    waived: bool = False
    logged: bool = False
    """Whether the log of releases tells of this version."""
    published: PublishedRelease | None = None
    registered: RegisteredRelease | None = None
    promoted: PromotedRelease | None = None

    def publish(self) -> PublishedRelease:
        self.published = publish.run(
            self.plan,
            self.archive,
            self.evidence,
            workspace=self.workspace,
            reporter=self.reporter,
            intents=self.uploads,
            store=self.world.object_store(),
            judge=self.judge,
            policy=self.world.policy,
        )
        return self.published

    def register(self) -> RegisteredRelease:
        assert self.published
        self.registered = register.run(
            self.plan,
            self.published,
            self.archive,
            self.evidence,
            workspace=self.workspace,
            reporter=self.reporter,
            intents=self.intents,
            coordinator=self.world.coordinator(),
            tombstones=self.find_tombstone,
            public=Public(pointer=self.find_pointer, logged=lambda: self.logged),
            claims=self.claims(),
            policy=self.world.policy,
            watch=Watch(
                seconds=self.watch_seconds,
                waived=self.waived,
                flags=self.plan.flags,
                sleep=self.world.sleep,
                clock=self.world.clock,
            ),
        )
        return self.registered

    def claims(self) -> Claims:
        """As a job that has the bucket's keys."""
        return registration_claim.in_bucket(
            self.world.object_store(), "releases", self.plan.version
        )

    def find_tombstone(self, version: str) -> Tombstone | None:
        """As a job that has the bucket's keys looks for it."""
        return tombstone.find(self.world.object_store(), "releases", version)

    def find_pointer(self) -> Pointer | None:
        """Likewise."""
        found = aliases.read_pointer(self.world.object_store(), aliases.pointer_key(self.plan))
        return found[1] if found else None

    def promote(self) -> PromotedRelease:
        assert self.published
        assert self.registered
        self.promoted = promote.run(
            self.plan,
            self.published,
            self.registered,
            self.evidence,
            workspace=self.workspace,
            reporter=self.reporter,
            store=self.world.object_store(),
            coordinator=self.world.coordinator(),
            sleep=self.world.sleep,
            clock=self.world.clock,
        )
        return self.promoted

    def resume(self) -> PromotedRelease:
        """Go on from the records that stand."""
        if self.published is None:
            self.publish()
        if self.registered is None:
            self.register()
        return self.promoted or self.promote()

    @property
    def content(self) -> bytes:
        return self.workspace.path(NAME).read_bytes()


def start(
    world: World,
    plan: ReleasePlan,
    folder: Path,
    *,
    binary: bytes = b"one",
    version: str = "0.5.0",
) -> Chain:
    """A workspace with an archive and its evidence, nothing published yet."""
    folder.mkdir(parents=True, exist_ok=True)
    content = make_archive(binary)
    (folder / NAME).write_bytes(content)
    return Chain(
        world=world,
        plan=_plan(world, plan, version),
        workspace=Workspace(folder),
        archive=_archive(content, binary),
        evidence=smoke_samples.of(
            plan,
            archive_sha256=hashlib.sha256(content).hexdigest(),
            executable_sha256=hashlib.sha256(binary).hexdigest(),
            version=version,
        ),
    )


def _plan(world: World, plan: ReleasePlan, version: str) -> ReleasePlan:
    endpoints = plan.endpoints.model_copy(
        update={
            "r2_endpoint": world.store_url,
            "r2_public_url": world.public_url,
            "coordinator_url": world.coordinator_url,
        }
    )
    return plan.model_copy(update={"version": version, "endpoints": endpoints})


def _archive(content: bytes, binary: bytes) -> ReleaseArchive:
    return ReleaseArchive(
        path=NAME,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        tar_sha256="0" * 64,
        binary_sha256=hashlib.sha256(binary).hexdigest(),
        enclave_sha256="0" * 64,
        metallib_sha256=METALLIB,
        cdhash="0" * 40,
        code_directory_sha256="0" * 64,
        source_commit="unknown",
        test_outcome="unknown",
        members=(),
    )
