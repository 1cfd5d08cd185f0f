"""Bill and provenance beside an archive: created once, found again, and never written over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.provenance import sbom, statement
from release_tool.provenance.keys import SigningKey
from release_tool.provenance.statement import Run
from release_tool.stages import attestation
from release_tool.values import PublishedRelease
from tests import small_world
from tests.provenance import samples
from tests.small_world import KilledError, Killer, SmallWorld, Stored
from tests.stages.release_parts import Told

PROVENANCE, BILL = "releases/v0.5.0/provenance.dsse.json", "releases/v0.5.0/sbom.cdx.json"
OURS, OTHER = samples.key(), samples.key("other")
LATER = replace(samples.RUN, invocation="6" * 64, finished="2026-05-14T22:00:00+00:00")


@pytest.fixture(scope="module")
def module_world() -> Iterator[SmallWorld]:
    with small_world.existing() as made:
        yield made


@pytest.fixture
def world(module_world: SmallWorld) -> SmallWorld:
    module_world.reset()
    return module_world


class Release:
    """One archive, and a workspace for its documents."""

    def __init__(self, world: SmallWorld, plan: ReleasePlan, folder: Path) -> None:
        endpoints = plan.endpoints.model_copy(update={"r2_public_url": world.public_url})
        signed_for = samples.with_provenance(plan, OURS)
        self.world = world
        self.plan = signed_for.model_copy(update={"endpoints": endpoints})
        self.workspace = Workspace(folder)
        self.told = Told()

    def publish(
        self, run: Run = samples.RUN, key: SigningKey = OURS, commit: str = samples.COMMIT
    ) -> PublishedRelease:
        made = samples.materials(self.plan)
        archive = made.archive.model_copy(update={"source_commit": commit})
        return attestation.publish(
            self.plan,
            PublishedRelease(
                archive_sha256=archive.sha256, size=100, key="k", url="https://u", created=True
            ),
            replace(made, archive=archive),
            run,
            None,
            key=key,
            trusted=[OURS.public],
            workspace=self.workspace,
            store=self.world.object_store(),
            reporter=self.told,
        )


@pytest.fixture
def release(world: SmallWorld, plan: ReleasePlan, tmp_path: Path) -> Release:
    return Release(world, plan, tmp_path)


def test_both_documents_stand_and_are_recorded(release: Release) -> None:
    """In the bucket, the workspace and the value: the same bytes, the bill bound by digest."""
    found = release.publish()
    stored = release.world.objects
    for one in found.documents:
        assert one.url == f"{release.world.public_url}/{one.key}"
        assert hashlib.sha256(stored[one.key].body).hexdigest() == one.sha256
        assert (release.workspace.root / one.name).read_bytes() == stored[one.key].body
    assert found.outputs() == {one.name: one.sha256 for one in found.documents}
    said = statement.unseal(stored[PROVENANCE].body, trusted=[OURS.public])
    assert said.sbom_sha256 == hashlib.sha256(stored[BILL].body).hexdigest()
    assert sbom.read(stored[BILL].body).sha256 == said.sha256 == found.archive_sha256


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 5))
def test_a_kill_at_each_request_changes_nothing_of_what_comes(
    release: Release, at: int, after: bool
) -> None:
    """The next run finds its own bytes."""
    wanted = Release(release.world, release.plan, release.workspace.root / "other").publish()
    release.world.reset()
    killer = Killer(release.world, at, after=after)
    with pytest.raises(KilledError):
        release.publish()
    killer.disarm()
    release.world.when_sleeping = lambda: None
    assert release.publish() == wanted
    assert release.world.puts == 2
    assert release.told.notes == []


def test_an_archive_that_was_packed_again_keeps_its_statement(release: Release) -> None:
    """The same bytes at another time: what stands is as true, and it is what goes to GitHub."""
    first = release.publish()
    assert release.publish(LATER) == first
    assert release.world.puts == 2
    assert release.told.notes == [
        "the provenance of this archive stands already, of an earlier run"
    ]


def test_another_source_is_another_statement(release: Release) -> None:
    """The same archive cannot come of two sources: exit 7, and nothing is written over."""
    release.publish()
    before = dict(release.world.objects)
    with pytest.raises(errors.RemoteRefusedError, match="another document stands here"):
        release.publish(commit="4" * 40)
    assert release.world.objects == before


def test_a_statement_that_somebody_else_put_there_is_not_taken(release: Release) -> None:
    """Whoever may write to the bucket cannot say how our archive was made."""
    made = samples.materials(release.plan)
    bill = sbom.build(release.plan, made.archive.sha256, made.archive.members, ())
    digest = hashlib.sha256(bill).hexdigest()
    content = statement.payload(release.plan, made, LATER, sbom_sha256=digest)
    for stands in (statement.seal(content, OTHER), b"something", b""):
        release.world.reset()
        release.world.objects[PROVENANCE] = Stored(stands)
        with pytest.raises(errors.RemoteRefusedError, match="where the provenance belongs"):
            release.publish()
        assert release.world.objects[PROVENANCE].body == stands


def test_another_bill_is_refused_before_the_statement(release: Release) -> None:
    """It would be named by a digest that it does not have."""
    release.world.objects[BILL] = Stored(b"{}")
    with pytest.raises(errors.RemoteRefusedError, match="another document stands here"):
        release.publish()
    assert PROVENANCE not in release.world.objects
