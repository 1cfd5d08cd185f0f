"""Evidence cannot be replayed: other evidence passes for this release's in no way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.ledger import Ledger
from release_tool.plan import ReleasePlan
from release_tool.values import SmokeEvidence
from tests import small_world, smoke_samples
from tests.handoff import releases
from tests.handoff.releases import Members, Release
from tests.small_world import SmallWorld
from tests.stages import release_chain


@pytest.fixture(scope="module")
def servers() -> Iterator[SmallWorld]:
    """The servers that the tests of this module share."""
    with small_world.existing() as made:
        yield made


@dataclass
class Stand:
    """A release behind its smoke run, and what of it travels to the job that publishes."""

    servers: SmallWorld
    plan: ReleasePlan
    folder: Path

    def publish(self, environment: str = "", **change: object) -> None:
        """Publish with evidence that is another one in something."""
        chain = release_chain.start(self.servers, self.plan, self.folder / "dist")
        if environment == "dev":
            real = chain.plan.environment.model_copy(update={"provider": "bundle"})
            chain.plan = chain.plan.model_copy(update={"environment": real})
        chain.evidence = chain.evidence.model_copy(update=change)
        chain.publish()

    def smoked(self, name: str, evidence: SmokeEvidence) -> Release:
        """A release whose ledger ends with a smoke record."""
        made = releases.signed(self.folder / name / "0.5.0", self.plan)
        made.file("archive", releases.ARCHIVE, b"archive" * 100, ["sign"])
        made.append("smoke", value=evidence.model_dump(mode="json"))
        return made

    @property
    def evidence(self) -> SmokeEvidence:
        return smoke_samples.of(self.plan)

    @property
    def faster(self) -> SmokeEvidence:
        """The same with one figure that nobody measured."""
        first, *others = self.evidence.prompts
        prompt = first.model_copy(update={"first_token_seconds": 0.01})
        return self.evidence.model_copy(update={"prompts": (prompt, *others)})

    def unpack(self, archive: Path, release: Release, head: str) -> None:
        release.unpack(archive, self.folder / "there" / "0.5.0", head)


def another_archive(stand: Stand) -> None:
    stand.publish(archive_sha256="9" * 64)


def another_version(stand: Stand) -> None:
    stand.publish(version="0.4.9")


def stand_in_in_dev(stand: Stand) -> None:
    stand.publish(environment="dev")


def edited_figure(stand: Stand) -> None:
    """On the disk, under an unchanged head."""
    release = stand.smoked("here", stand.evidence)
    # The last record has no other behind it: its own digest is the head, as the next two show.
    release.append("publish")
    edit(release.root / "ledger")
    Ledger(release.root / "ledger")


def edited_figure_on_its_way(stand: Stand) -> None:
    """In the handoff between two jobs, under an unchanged head."""
    release, archive = stand.smoked("here", stand.evidence), stand.folder / "handoff.tar.gz"
    head = release.pack(archive)

    def change(found: Members) -> Members:
        return [
            (member, edited(content) if member.path.endswith("-smoke.json") else content)
            for member, content in found
        ]

    releases.forged(archive, change)
    stand.unpack(archive, release, head)


def rewritten_chain(stand: Stand) -> None:
    """Whole in itself, with the edited figure; its head is another than the job's output."""
    head = stand.smoked("here", stand.evidence).ledger.head
    release, archive = stand.smoked("rewritten", stand.faster), stand.folder / "handoff.tar.gz"
    assert release.pack(archive) != head
    stand.unpack(archive, release, head)


def edit(ledger: Path) -> None:
    [path] = ledger.glob("*-smoke.json")
    path.write_bytes(edited(path.read_bytes()))


def edited(record: bytes) -> bytes:
    changed = record.replace(b'"first_token_seconds": 0.1', b'"first_token_seconds": 0.2')
    assert changed != record
    return changed


REPLAYS: dict[str, tuple[Callable[[Stand], None], str]] = {
    "another archive": (another_archive, "does not allow publishing"),
    "another version": (another_version, "does not allow publishing"),
    "an edited figure under an unchanged head": (edited_figure, "chain is broken"),
    "the same on its way": (edited_figure_on_its_way, "does not hold the ledger"),
    "a rewritten chain under another head": (rewritten_chain, "another ledger"),
    "a stand-in in dev": (stand_in_in_dev, "does not allow publishing"),
}


@pytest.mark.parametrize("replay", REPLAYS)
def test_evidence_cannot_be_replayed(
    replay: str, servers: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Each is refused, and nothing is published or unpacked; without the change all goes well."""
    servers.reset()
    do, told = REPLAYS[replay]
    with pytest.raises(errors.VerificationError) as caught:
        do(Stand(servers, plan, tmp_path))
    assert told in caught.value.message
    assert caught.value.exit_code == 6
    assert servers.objects == {}
    assert not (tmp_path / "there" / "0.5.0").exists()


def test_evidence_that_is_this_releases_own_passes(
    servers: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The counterpart: the same steps with nothing changed publish and unpack."""
    servers.reset()
    stand = Stand(servers, plan, tmp_path)
    stand.publish()
    assert servers.objects
    release, archive = stand.smoked("here", stand.evidence), tmp_path / "handoff.tar.gz"
    head = release.pack(archive)
    stand.unpack(archive, release, head)
    assert replace(release, root=tmp_path / "there" / "0.5.0").ledger.head == head
