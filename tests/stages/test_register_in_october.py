"""Register against the look-alike that speaks October: approvals, refusals, and the fleet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.rehearsal import faults
from release_tool.services import patience
from release_tool.services.coordinator_rules import Contract
from release_tool.services.patience import Patience
from release_tool.services.tombstone import WithdrawnError
from release_tool.stages import approval
from release_tool.values import RegisteredRelease
from tests.stages import release_chain, rollbacks
from tests.stages.release_chain import Chain
from tests.stages.test_release_on_look_alikes import ADMIN, LookAlikes


@pytest.fixture
def hasty() -> Iterator[None]:
    """Pauses of a twentieth: what is waited for here is counted in answers."""
    patience.hold(Patience(pause_share=0.05))
    yield
    patience.hold(Patience())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LookAlikes]:
    """A fresh store, and a coordinator of October."""
    with ExitStack() as stack:
        yield LookAlikes(tmp_path / "world", stack, "2026-10")


def start(
    world: LookAlikes, plan: ReleasePlan, folder: Path, *, qualified: bool = True, **given: str
) -> Chain:
    """A published archive, and a plan that speaks October or what the client is told to speak."""
    binary = given.get("version", "one").encode()
    chain = release_chain.start(world, plan, folder, binary=binary, **given)
    spoken: Contract = world.spoken or world.contract
    chain.plan = chain.plan.model_copy(
        update={
            "coordinator": plan.coordinator.model_copy(update={"contract": spoken}),
            "source": plan.source.model_copy(update={"ci_run_id": "17041704"}),
            "environment": plan.environment.model_copy(update={"require_qualification": qualified}),
        }
    )
    chain.archive = chain.archive.model_copy(
        update={"source_commit": "b" * 40, "code_directory_sha256": "d" * 64}
    )
    chain.watch_seconds = 0.0
    chain.publish()
    return chain


def approve(world: LookAlikes, chain: Chain, **change: object) -> requests.Response:
    """What an operator does with the request that was written."""
    request = json.loads(chain.workspace.path(approval.REQUEST).read_text())
    assert request["evidence"] == ""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    url = f"{world.coordinator_url}/v1/admin/app-attest/builds"
    body = request | {"evidence": "it ran on a Mac"} | change
    return requests.post(url, json=body, headers=headers, timeout=20)


def revoke(world: LookAlikes, chain: Chain) -> None:
    """What an operator does who had second thoughts."""
    requests.post(
        f"{world.coordinator_url}/v1/admin/app-attest/builds/revoke",
        json={"binary_hash": chain.archive.binary_sha256, "reason": "it crashes"},
        headers={"Authorization": f"Bearer {ADMIN}"},
        timeout=20,
    ).raise_for_status()


def outcomes(registered: RegisteredRelease) -> dict[str, str]:
    return {check.name: check.outcome for check in registered.checks}


def test_an_approval_is_waited_for_and_used(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Exit 8 with the request written; the coordinator takes it as it is; then one registration."""
    chain = start(world, plan, tmp_path / "a")
    for _ in range(2):
        with pytest.raises(errors.PendingError, match="nobody has approved") as caught:
            chain.register()
        assert caught.value.subject == str(chain.workspace.path(approval.REQUEST))
    assert world.rows.registrations() == []
    assert chain.intents.declared == []
    assert approve(world, chain).status_code == 200
    assert chain.register().status == "release_registered"
    assert chain.register().status == "already_registered"
    assert len(world.rows.registrations()) == 1


def test_a_request_with_evidence_is_not_written_again(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The operator's words stay; another build's request is replaced."""
    chain = start(world, plan, tmp_path / "a")
    path = chain.workspace.path(approval.REQUEST)
    with pytest.raises(errors.PendingError):
        chain.register()
    filled = json.loads(path.read_text()) | {"evidence": "it ran on a Mac"}
    path.write_text(json.dumps(filled))
    with pytest.raises(errors.PendingError):
        chain.register()
    assert json.loads(path.read_text()) == filled
    path.write_text(json.dumps(filled | {"ci_run_id": "1"}))
    with pytest.raises(errors.PendingError):
        chain.register()
    assert json.loads(path.read_text()) == filled | {"evidence": ""}


@pytest.mark.parametrize(
    ("asks", "said"), [(True, "nobody has approved"), (False, "no approval that fits")]
)
def test_a_coordinator_without_the_question_still_says_pending(
    plan: ReleasePlan, tmp_path: Path, asks: bool, said: str
) -> None:
    """The 409 itself is read where `POST /v1/releases/qualification` does not exist."""
    with ExitStack() as stack:
        world = LookAlikes(tmp_path / "world", stack, "2026-10", approval_question=asks)
        chain = start(world, plan, tmp_path / "a")
        with pytest.raises(errors.PendingError, match=said) as caught:
            chain.register()
        assert "/v1/admin/app-attest/builds, then run again" in caught.value.hint
        assert bool(chain.intents.declared) is not asks
        approve(world, chain)
        assert chain.register().status == "release_registered"


def test_an_approval_of_another_build_is_final(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Exit 7, with the fields that differ."""
    chain = start(world, plan, tmp_path / "a")
    with pytest.raises(errors.PendingError):
        chain.register()
    assert approve(world, chain, ci_run_id="1").status_code == 200
    with pytest.raises(errors.RemoteRefusedError, match="another build") as caught:
        chain.register()
    assert "ci_run_id" in caught.value.observed


def test_a_revoked_approval_is_final(world: LookAlikes, plan: ReleasePlan, tmp_path: Path) -> None:
    """Exit 7; nothing is sent."""
    chain = start(world, plan, tmp_path / "a")
    with pytest.raises(errors.PendingError):
        chain.register()
    approve(world, chain)
    revoke(world, chain)
    with pytest.raises(errors.RemoteRefusedError, match="revoked"):
        chain.register()
    assert world.rows.registrations() == []


@pytest.mark.parametrize("why", ["revoked", "of another build"])
def test_an_approval_that_fits_no_more_is_no_wait_without_end(
    plan: ReleasePlan, tmp_path: Path, why: str
) -> None:
    """Where it cannot be asked why, the advice names what helps then as well: the next version."""
    with ExitStack() as stack:
        world = LookAlikes(tmp_path / "world", stack, "2026-10", approval_question=False)
        chain = start(world, plan, tmp_path / "a")
        with pytest.raises(errors.PendingError):
            chain.register()
        approve(world, chain, **({} if why == "revoked" else {"ci_run_id": "1"}))
        if why == "revoked":
            revoke(world, chain)
        with pytest.raises(errors.ReleaseError) as caught:
            chain.register()
        assert "no matching active approval of this signed build" in caught.value.observed
        assert "nobody has approved" not in str(caught.value)
        assert why in caught.value.hint
        assert "the next version is the way on" in caught.value.hint


def test_what_is_not_known_of_a_build_stops_before_anything_is_sent(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Commit, run and code directory are needed for an approval; each is told at once."""
    chain = start(world, plan, tmp_path / "a")
    chain.archive = chain.archive.model_copy(
        update={"source_commit": "unknown", "code_directory_sha256": "D" * 64}
    )
    chain.plan = chain.plan.model_copy(update={"source": plan.source})
    with pytest.raises(errors.VerificationError) as caught:
        chain.register()
    named = [line.split(":")[0] for line in caught.value.details]
    assert named == ["code_directory_hash", "source_commit", "ci_run_id"]
    assert "RELEASE_CI_RUN_ID" in caught.value.hint


def test_without_an_approval_what_is_known_is_sent(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """An environment that wants none registers at once, and no request is written."""
    chain = start(world, plan, tmp_path / "a", qualified=False)
    chain.archive = chain.archive.model_copy(update={"source_commit": "unknown"})
    assert chain.register().status == "release_registered"
    assert not chain.workspace.path(approval.REQUEST).exists()


def test_a_coordinator_that_always_wants_approvals_is_told(
    plan: ReleasePlan, tmp_path: Path
) -> None:
    """Exit 2 with the setting, where the plan asks for none."""
    with ExitStack() as stack:
        world = LookAlikes(tmp_path / "world", stack, "2026-10", approval_always=True)
        chain = start(world, plan, tmp_path / "a", qualified=False)
        with pytest.raises(errors.UsageError, match="approved builds only") as caught:
            chain.register()
        assert "require_qualification" in caught.value.hint


@pytest.mark.parametrize(
    ("spoken", "there", "always"),
    [("2026-10", "2026-05", False), ("2026-05", "2026-10", True)],
)
def test_a_contract_that_is_not_spoken_is_named(
    plan: ReleasePlan, tmp_path: Path, spoken: Contract, there: Contract, always: bool
) -> None:
    """Exit 2 with the line of release.yaml, and nothing is registered."""
    with ExitStack() as stack:
        world = LookAlikes(tmp_path / "world", stack, there, approval_always=always)
        world.spoken = spoken
        chain = start(world, plan, tmp_path / "a")
        with pytest.raises(errors.UsageError, match=f"speaks the contract {there}"):
            chain.register()
        assert world.rows.registrations() == []


def test_what_is_not_ready_is_asked_again(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """503 for a while on every question and on the registration itself."""
    chain = start(world, plan, tmp_path / "a")
    with pytest.raises(errors.PendingError):
        chain.register()
    approve(world, chain)
    world.broken.set(
        {faults.COORDINATOR_NOT_READY: 3, faults.COORDINATOR_QUALIFICATION_UNAVAILABLE: 2}
    )
    assert chain.register().status == "release_registered"
    assert len(world.rows.registrations()) == 1


@pytest.mark.usefixtures("hasty")
def test_what_is_not_ready_for_longer_than_other_faults_is_waited_for(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """More answers than one question is tried for, before the registration and at it."""
    chain = start(world, plan, tmp_path / "a", qualified=False)
    world.broken.set({faults.COORDINATOR_NOT_READY: 3 * world.policy.attempts})
    assert chain.register().status == "release_registered"
    limits = chain.plan.limits.model_copy(update={"latest_poll_seconds": 0.5})
    chain.plan = chain.plan.model_copy(update={"limits": limits})
    world.broken.set({faults.COORDINATOR_NOT_READY: 1000})
    with pytest.raises(errors.TransientError, match="not ready"):
        chain.register()


def test_the_fleet_is_looked_at_afterwards(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The first release has nothing before it; the second finds the first accepted."""
    first = start(world, plan, tmp_path / "a", qualified=False, version="0.4.9")
    assert outcomes(first.register()) == {
        "/api/version": "passed",
        "the release before is accepted": "not_checked",
        "routable capacity": "passed",
    }
    second = start(world, plan, tmp_path / "b", qualified=False)
    assert set(outcomes(second.register()).values()) == {"passed"}
    # A resume has the same before it, from its intent.
    assert set(outcomes(second.register()).values()) == {"passed"}


def test_an_evicted_release_is_told(world: LookAlikes, plan: ReleasePlan, tmp_path: Path) -> None:
    """Only the newest hashes accepted: exit 6 with advice; repaired there, a rerun passes."""
    start(world, plan, tmp_path / "a", qualified=False, version="0.4.9").register()
    second = start(world, plan, tmp_path / "b", qualified=False)
    world.broken.set({faults.COORDINATOR_EVICTS: 1})
    for _ in range(2):
        with pytest.raises(errors.VerificationError, match="left behind") as caught:
            second.register()
        assert caught.value.details == (
            "the release before is accepted of 0.4.9: expected active, observed inactive",
        )
        assert "roll forward" in caught.value.hint
        assert "let an administrator activate 0.4.9" in caught.value.hint
        assert "release-tool rollback" not in caught.value.hint
    with world.rows.transaction() as connection:
        connection.execute("UPDATE releases SET active = 1")
    assert second.register().status == "already_registered"
    assert len(world.rows.registrations()) == 2


def test_lost_capacity_is_told(world: LookAlikes, plan: ReleasePlan, tmp_path: Path) -> None:
    """A tenth is left after the registration; when it comes back, a rerun passes."""
    chain = start(world, plan, tmp_path / "a", qualified=False)
    world.broken.set({faults.COORDINATOR_CAPACITY_FALLS: 1})
    chain.watch_seconds = 0.2
    with pytest.raises(errors.VerificationError) as caught:
        chain.register()
    assert caught.value.details == (
        "routable capacity: expected at least 10550 of 21100 tokens a second, "
        "observed 2110, 0 providers connected",
    )
    assert "rollback --env rehearsal --to AN-EARLIER-VERSION" in caught.value.hint
    world.fleet.capacity = 20_000
    assert outcomes(chain.register())["routable capacity"] == "passed"


def test_lost_capacity_is_gone_back_from_by_the_command_that_is_named(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Typed as it stands, it withdraws the release that was never promoted; a rerun is refused."""
    older = start(world, plan, tmp_path / "a", qualified=False, version="0.4.9")
    older.register()
    older.promote()
    chain = start(world, plan, tmp_path / "b", qualified=False)
    world.broken.set({faults.COORDINATOR_CAPACITY_FALLS: 1})
    with pytest.raises(errors.VerificationError) as caught:
        chain.register()
    words = "release-tool rollback --env rehearsal --to 0.4.9 --deactivate 0.5.0"
    assert caught.value.hint.endswith(f"or withdraw it: {words}")
    assert rollbacks.of(older, "0.5.0").run().version == "0.4.9"
    with pytest.raises(WithdrawnError):
        chain.register()


def test_capacity_that_is_not_told_any_more_is_no_proof(
    world: LookAlikes, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Told before and not after: prod stops for a look; `unchecked` goes on and says it."""
    chain = start(world, plan, tmp_path / "a", qualified=False)
    world.broken.set({faults.COORDINATOR_CAPACITY_FALLS: 1})
    with pytest.raises(errors.VerificationError):
        chain.register()
    world.fleet.told = False
    with pytest.raises(errors.VerificationError) as caught:
        chain.register()
    assert caught.value.details == (
        "routable capacity: expected at least 10550 of 21100 tokens a second, "
        "observed the coordinator does not tell it any more",
    )
    assert "fleet_watch: unchecked" in caught.value.hint
    chain.waived = True
    assert outcomes(chain.register())["routable capacity"] == "not_checked"
    chain.waived, world.fleet.told, world.fleet.capacity = False, True, 20_000
    assert outcomes(chain.register())["routable capacity"] == "passed"
