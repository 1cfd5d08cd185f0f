"""Roll back on the embedded environment's store and coordinators, of May and of October."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.rehearsal import faults
from release_tool.services.coordinator import Coordinator
from release_tool.services.coordinator_rules import Contract
from release_tool.services.tombstone import WithdrawnError
from release_tool.values import RolledBack
from tests.stages import release_chain, rollbacks
from tests.stages.release_chain import Chain
from tests.stages.rollbacks import Notes
from tests.stages.test_release_on_look_alikes import ALIASES, KEY, POINTER, LookAlikes


@pytest.fixture
def may(tmp_path: Path) -> Iterator[LookAlikes]:
    """A fresh store, and a coordinator of May."""
    with ExitStack() as stack:
        yield LookAlikes(tmp_path / "world", stack)


@pytest.fixture
def october(tmp_path: Path) -> Iterator[LookAlikes]:
    """A fresh store, and a coordinator of October."""
    with ExitStack() as stack:
        yield LookAlikes(tmp_path / "world", stack, "2026-10")


def _start(world: LookAlikes, plan: ReleasePlan, folder: Path, version: str) -> Chain:
    chain = release_chain.start(
        world, plan, folder / version, version=version, binary=version.encode()
    )
    contract: Contract = world.contract
    chain.plan = chain.plan.model_copy(
        update={
            "coordinator": plan.coordinator.model_copy(update={"contract": contract}),
            "source": plan.source.model_copy(update={"ci_run_id": "17041704"}),
            "limits": plan.limits.model_copy(update={"latest_poll_seconds": 4.0}),
        }
    )
    chain.archive = chain.archive.model_copy(
        update={"source_commit": "b" * 40, "code_directory_sha256": "d" * 64}
    )
    chain.watch_seconds = 0.0
    return chain


def _released(
    world: LookAlikes, plan: ReleasePlan, folder: Path, *versions: str
) -> tuple[Chain, ...]:
    chains = tuple(_start(world, plan, folder, version) for version in versions)
    for chain in chains:
        assert chain.resume().outcome == "promoted"
    return chains


def _aliased(world: LookAlikes) -> set[str]:
    return {world.index.get(alias).sha256 for alias in ALIASES}  # type: ignore[union-attr]


def _pointed(world: LookAlikes) -> str:
    found = world.object_store().read(POINTER, limit_bytes=10_000)
    assert found
    return str(json.loads(found[1])["version"])


def test_a_release_in_use_is_withdrawn_by_force_only(
    october: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """409 names the count and the flag, behind the tombstone; with force it warns and goes on."""
    good, bad = _released(october, plan, tmp_path, "0.5.0", "0.5.1")
    october.fleet.connected = {bad.archive.binary_sha256: 3}
    with pytest.raises(errors.RemoteRefusedError) as caught:
        rollbacks.of(good, "0.5.1").run()
    assert "3 connected providers report it" in caught.value.observed
    assert "--force" in caught.value.hint
    assert (_pointed(october), _aliased(october)) == ("0.5.1", {bad.archive.sha256})
    with pytest.raises(WithdrawnError):
        bad.promote()
    notes = Notes()
    rollbacks.of(good, "0.5.1", force=True).run(notes)
    assert "warning: 0.5.1: 3 connected providers still report it" in notes.said
    assert (_pointed(october), _aliased(october)) == ("0.5.0", {good.archive.sha256})
    rollbacks.of(good, "0.5.1").run()


@pytest.mark.slow
def test_the_address_of_october_is_gone_back_to(
    october: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The archive's key holds its digest; the tombstone stands beside all of the version's."""
    good, _ = _released(october, plan, tmp_path, "0.5.0", "0.5.1")
    rollbacks.of(good, "0.5.1").run()
    found = october.object_store().read(POINTER, limit_bytes=10_000)
    assert found
    assert json.loads(found[1])["key"].startswith("releases/v0.5.0/artifacts/")
    assert october.index.get("releases/v0.5.1/tombstone.json")


@pytest.mark.slow
def test_by_semver_a_prerelease_need_not_be_named(
    october: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """October ranks 0.5.0-dev.1 below 0.5.0; it stays active."""
    _, good, _ = _released(october, plan, tmp_path, "0.5.0-dev.1", "0.5.0", "0.5.1")
    assert rollbacks.of(good, "0.5.1").run().version == "0.5.0"
    assert [row["version"] for row in october.rows.everything() if row["active"]] == [
        "0.5.0-dev.1", "0.5.0",
    ]  # fmt: skip


def test_a_wrong_administrators_key_changes_nothing(
    may: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """403 is exit 4, before the first write."""
    good, _ = _released(may, plan, tmp_path, "0.5.0", "0.5.1")
    before = may.written()
    attempt = rollbacks.of(good, "0.5.1")
    attempt.client = Coordinator(
        base_url=may.coordinator_url, release_key=lambda: KEY, admin_key=lambda: "wrong"
    )
    with pytest.raises(errors.CredentialError, match="administrator's key"):
        attempt.run()
    assert may.written() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.STORE_UNAVAILABLE, marks=pytest.mark.slow),
        faults.STORE_DROP_AFTER_WRITE,
        pytest.param(faults.PUBLIC_UNAVAILABLE, marks=pytest.mark.slow),
    ],
)
def test_passing_faults_are_sat_out(
    may: LookAlikes, plan: ReleasePlan, tmp_path: Path, fault: str
) -> None:
    """Unavailable for two requests, or an answer that is lost: one rollback all the same."""
    good, _ = _released(may, plan, tmp_path, "0.5.0", "0.5.1")
    attempt = rollbacks.of(good, "0.5.1")
    survey = attempt.begin()
    may.broken.set({fault: 1 if "drop" in fault else 2})
    attempt.finish(survey)
    assert (_pointed(may), _aliased(may)) == ("0.5.0", {good.archive.sha256})
    assert may.written().count("PutObject releases/v0.5.1/tombstone.json") == 1


@pytest.mark.slow
def test_a_rollback_and_a_newer_release_at_once_end_with_the_release(
    may: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Both at the same time, on threads: users get 0.5.2 everywhere, and one of both is told."""
    good, _ = _released(may, plan, tmp_path, "0.5.0", "0.5.1")
    following = _start(may, plan, tmp_path, "0.5.2")
    following.publish()
    attempt = rollbacks.of(good, "0.5.1")
    survey = attempt.begin()
    outcomes: list[RolledBack | errors.ReleaseError] = []

    def roll_back() -> None:
        try:
            outcomes.append(attempt.finish(survey))
        except errors.ReleaseError as problem:
            outcomes.append(problem)

    other = threading.Thread(target=roll_back)
    other.start()
    assert following.resume().outcome == "promoted"
    other.join()
    assert (_pointed(may), _aliased(may)) == ("0.5.2", {following.archive.sha256})
    assert may.index.get("releases/v0.5.1/tombstone.json")
    (outcome,) = outcomes
    if isinstance(outcome, errors.ReleaseError):
        assert "0.5.2 came in between" in outcome.message


@pytest.mark.slow
def test_two_rollbacks_at_once_are_as_good_as_one(
    may: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Two people on two machines: one tombstone, and both succeed."""
    good, _ = _released(may, plan, tmp_path, "0.5.0", "0.5.1")
    attempts = [rollbacks.of(good, "0.5.1") for _ in range(2)]
    surveys = [attempt.begin() for attempt in attempts]
    for folder, attempt in zip(("a", "b"), attempts, strict=True):
        attempt.workspace = type(attempt.workspace)(tmp_path / folder)
    done: list[RolledBack] = []
    threads = [
        threading.Thread(target=lambda one=one, seen=seen: done.append(one.finish(seen)))
        for one, seen in zip(attempts, surveys, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.version for one in done] == ["0.5.0", "0.5.0"]
    assert (_pointed(may), _aliased(may)) == ("0.5.0", {good.archive.sha256})
    assert may.written().count("PutObject releases/v0.5.1/tombstone.json") == 1
