"""Evidence is held against what is about to be done, by each stage that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from release_tool import errors
from release_tool.ledger import Ledger, Record
from release_tool.plan import ReleasePlan
from release_tool.stages import promote, publish, register, smoke_evidence
from release_tool.values import CheckOutcome, SmokeEvidence
from tests import small_world, smoke_samples
from tests.small_world import SmallWorld
from tests.stages import release_chain
from tests.stages.release_chain import Chain

ACTS: dict[str, Callable[[Chain], object]] = {
    "publishing": Chain.publish,
    "registering": Chain.register,
    "promoting": Chain.promote,
}


@pytest.fixture(scope="module")
def servers() -> Iterator[SmallWorld]:
    """The servers that the tests of this module share."""
    with small_world.existing() as made:
        yield made


def stand_before(act: str, servers: SmallWorld, plan: ReleasePlan, folder: Path) -> Chain:
    """A release with everything done that comes before an act."""
    servers.reset()
    chain = release_chain.start(servers, plan, folder / "dist")
    for name, do in ACTS.items():
        if name == act:
            break
        do(chain)
    return chain


def state(world: SmallWorld) -> tuple[object, ...]:
    return ({key: one.body for key, one in world.objects.items()}, world.puts, world.posts)


@pytest.mark.parametrize("act", ACTS)
def test_a_foreign_record_opens_nothing(
    act: str, servers: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Evidence of another archive, version, executable or set of prompts stops each act alone."""
    chain = stand_before(act, servers, plan, tmp_path)
    good, before = chain.evidence.model_dump(), state(servers)
    prompt = chain.evidence.prompts[0]
    failed = CheckOutcome(name="text after rain", outcome="failed")
    changes: list[tuple[dict[str, object], str]] = [
        ({"archive_sha256": "9" * 64}, "archive"),
        ({"version": "0.4.9"}, "version"),
        ({"executable_sha256": "9" * 64}, "executable"),
        ({"prompts": ()}, "prompts"),
        ({"prompts": (prompt.model_copy(update={"agrees": False}),)}, "prompts"),
        ({"prompts": (prompt.model_copy(update={"prompt": "other"}),)}, "prompts"),
        ({"rounds": chain.evidence.rounds[:-1]}, "answers at once"),
        ({"checks": chain.evidence.checks[1:]}, "checks"),
        ({"checks": (*chain.evidence.checks, failed)}, "checks"),
        ({"needs": (failed,)}, "needs of the bundle"),
        ({"install": (failed,)}, "installer"),
    ]
    for change, named in changes:
        chain.evidence = SmokeEvidence.model_validate(good | change)
        with pytest.raises(errors.VerificationError, match=f"does not allow {act}") as caught:
            ACTS[act](chain)
        assert [line.split(":")[0] for line in caught.value.details] == [named]
    assert state(servers) == before


@pytest.mark.parametrize("act", ACTS)
def test_a_stand_in_opens_no_real_environment(
    act: str, servers: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Dev and prod ask each act anew for the bundle's own executable on Apple Silicon."""
    chain = stand_before(act, servers, plan, tmp_path)
    before = state(servers)
    real = chain.plan.environment.model_copy(update={"provider": "bundle"})
    chain.plan = chain.plan.model_copy(update={"environment": real})
    with pytest.raises(errors.VerificationError) as caught:
        ACTS[act](chain)
    names = [line.split(":")[0] for line in caught.value.details]
    assert names == [
        *("kind", "host", "what ran", "--version"),
        *("needs of the bundle, judged", "installer, judged"),
    ]
    assert state(servers) == before


def test_what_decides_is_part_of_each_record() -> None:
    """A changed prompt or kind of provider makes each of the three records stop counting."""
    for stage in (publish, register, promote):
        assert set(smoke_evidence.READS) <= set(stage.READS)


def test_a_recorded_figure_cannot_be_edited(tmp_path: Path) -> None:
    """Under an unchanged head it breaks the chain; a chain made anew has another head."""

    def record(stage: str, value: object) -> Record:
        return Record.model_validate(
            {
                "number": 0,
                "previous": "",
                "kind": "record",
                "stage": stage,
                "at": "2026-11-24T00:00:00+00:00",
                "host": {"system": "linux"},
                "tool": "test",
                "value": value,
            }
        )

    def chained(folder: Path, evidence: SmokeEvidence) -> str:
        ledger = Ledger(folder)
        ledger.append(record("smoke", evidence.model_dump(mode="json")))
        ledger.append(record("publish", None))
        return ledger.head

    evidence = smoke_samples.evidence()
    head = chained(tmp_path / "ledger", evidence)
    path = tmp_path / "ledger" / "0001-smoke.json"
    text = path.read_text()
    path.write_text(text.replace('"first_token_seconds": 0.1', '"first_token_seconds": 0.2'))
    assert path.read_text() != text
    with pytest.raises(errors.VerificationError, match="chain is broken"):
        Ledger(tmp_path / "ledger")
    faster = evidence.prompts[0].model_copy(update={"first_token_seconds": 0.01})
    other = evidence.model_copy(update={"prompts": (faster,)})
    assert chained(tmp_path / "rewritten", other) != head


def test_a_record_of_an_older_shape_stops_counting() -> None:
    """What an older tool recorded lacks what is asked now: it is no evidence, and smoke repeats."""
    old = smoke_samples.evidence().model_dump(mode="json")
    for name in ("checks", "rounds", "long", "cdhash", "transcript_sha256"):
        del old[name]
        with pytest.raises(ValidationError):
            SmokeEvidence.model_validate(old)
