"""The coordinator ends amid a release and comes back on its port: one registration in any case.

The process that ends is the look-alike's: its cache is gone, its database stays, and while it is
away nobody listens. It comes back when the run has waited long enough, by the run's own pauses, so
nothing here depends on a clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from _pytest.mark import ParameterSet

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.rehearsal import coordinator as look_alike_coordinator
from release_tool.rehearsal import faults, servers
from release_tool.rehearsal import object_store as look_alike_store
from release_tool.rehearsal.release_store import ReleaseStore
from release_tool.services import retries
from release_tool.services.coordinator import Coordinator
from release_tool.services.coordinator_rules import Contract
from release_tool.services.object_store import ObjectStore
from release_tool.stages import register
from tests.stages import release_chain
from tests.stages.release_chain import NAME, Chain
from tests.stages.release_parts import Told
from tests.stages.test_release_on_look_alikes import ADMIN, KEY, LookAlikes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CONTRACTS: tuple[Contract, ...] = ("2026-05", "2026-10")
# A deploy, and an outage that no run waits out.
_DEPLOY_SECONDS = 5.0
_OUTAGE_SECONDS = 3600.0
# The pauses of one stage in all: four tries to register, each with some questions of five tries.
_MOST_WAITED_SECONDS = 300.0
# Past the last question of a whole release.
_LAST_REQUEST = 26
_CAPACITY = 21_100.0
REGISTRATION = "POST /v1/releases"


class Restarting(LookAlikes):
    """Look-alikes whose coordinator can end, with a clock that only waiting moves."""

    def __init__(self, folder: Path, stack: ExitStack, contract: Contract) -> None:
        self.now = 0.0
        bucket = partial(look_alike_store.ObjectStore, clock=self.clock)
        super().__init__(folder, stack, contract, new_bucket=bucket)
        self.rows.close()
        self._folder = folder
        self._database = folder / "releases.sqlite"
        self.seen: list[str] = []
        self.ended: list[str] = []
        """What was asked when it ended."""
        self.ended_at = 0
        self.ends_at: int | tuple[str, int] = 0
        """The request that it ends at: its number, or which one of its method and path."""
        self.after = False
        """Whether it does what was asked before it ends."""
        self.away_seconds = 0.0
        self.loses_providers = False
        """Whether a new process has none until it was asked for them twice."""
        self._reconnecting = 0
        self._back_at = math.inf
        self._begin()
        self._coordinator = stack.enter_context(servers.Server(self._serve))
        stack.callback(lambda: self.rows.close())

    @property
    def policy(self) -> retries.Policy:
        return dataclasses.replace(register.PATIENCE, sleep=self.sleep)

    def coordinator(self, key: str = KEY) -> Coordinator:
        return Coordinator(
            base_url=self.coordinator_url,
            release_key=lambda: key,
            policy=retries.Policy(sleep=self.sleep),
            contract=self.contract,
            admin_key=lambda: ADMIN,
        )

    def object_store(self, secret: str = "") -> ObjectStore:
        return super().object_store(secret) if secret else super().object_store()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self._back_at:
            self.come_back()

    def clock(self) -> float:
        return self.now

    def come_back(self) -> None:
        """Another process on the same database and port."""
        if self._back_at == math.inf:
            return
        self._back_at = math.inf
        self._begin()
        self._reconnecting = 3 if self.loses_providers else 0
        self._coordinator.resume()

    def _begin(self) -> None:
        self.rows = ReleaseStore(self._database, self.contract)
        settings = look_alike_coordinator.Settings(
            release_key=KEY,
            admin_key=ADMIN,
            cdn_url=self.public_url,
            # No test waits it out: only a restart makes it forget.
            cache_seconds=3600,
            contract=self.contract,
        )
        self._application = look_alike_coordinator.Coordinator(
            self.rows, settings, scratch=self._folder, broken=self.broken, fleet=self.fleet
        )

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        self.seen.append(asked)
        if asked == "GET /v1/stats":
            self._reconnect()
        if self.ends_at in ((asked, self.seen.count(asked)), len(self.seen)):
            self.ended.append(asked)
            self.ended_at = len(self.seen)
            self._end(environ)
            raise ConnectionAbortedError
        return self._application(environ, start_response)

    def _reconnect(self) -> None:
        self._reconnecting = max(0, self._reconnecting - 1)
        self.fleet.capacity = 0.0 if self._reconnecting else _CAPACITY

    def _end(self, environ: WSGIEnvironment) -> None:
        self.ends_at = 0
        if self.after:
            for _ in self._application(environ, lambda *_: lambda _: None):
                pass
        self.rows.close()
        self._back_at = self.now + self.away_seconds
        self._coordinator.cease()
        servers.drop_connection(environ)

    def started(self, plan: ReleasePlan, folder: Path) -> Chain:
        """A release of ours; another one was registered before it and is in the cache."""
        chain = release_chain.start(self, plan, folder / "work")
        rules = chain.plan.coordinator.model_copy(update={"contract": self.contract})
        limits = chain.plan.limits.model_copy(update={"latest_poll_seconds": 90.0})
        chain.plan = chain.plan.model_copy(update={"coordinator": rules, "limits": limits})
        chain.reporter = Told()
        return chain

    def registered(self) -> list[str]:
        return [str(row["version"]) for row in self.rows.registrations()]


@pytest.fixture(params=CONTRACTS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restarting]:
    """A fresh store, and a coordinator that can end."""
    with ExitStack() as stack:
        yield Restarting(tmp_path / "world", stack, request.param)


@pytest.fixture
def may(tmp_path: Path) -> Iterator[Restarting]:
    """The same, for May alone."""
    with ExitStack() as stack:
        yield Restarting(tmp_path / "world", stack, "2026-05")


@pytest.fixture
def october(tmp_path: Path) -> Iterator[Restarting]:
    """The same, for October alone."""
    with ExitStack() as stack:
        yield Restarting(tmp_path / "world", stack, "2026-10")


def _is_one_release(world: Restarting, chain: Chain) -> None:
    """One registration, one object of the version, what is served is ours."""
    world.ends_at = 0
    assert world.registered() == ["0.5.0"]
    assert world.seen.count(REGISTRATION) in (1, 2)
    assert world.written().count(f"PutObject {chain.published.key if chain.published else ''}") == 1
    latest = world.coordinator().latest("macos-arm64")
    assert latest
    assert latest.bundle_hash == chain.archive.sha256
    alias = world.index.get(f"releases/latest/{NAME}")
    assert alias
    assert alias.sha256 == chain.archive.sha256


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_registration_outlasts_a_restart(
    world: Restarting, plan: ReleasePlan, tmp_path: Path, *, after: bool
) -> None:
    """Ended before or after it stored: the run waits, looks, and sends again only what is lost."""
    world.ends_at, world.after, world.away_seconds = (REGISTRATION, 1), after, _DEPLOY_SECONDS
    world.broken.set({faults.COORDINATOR_NOT_READY: 1})
    chain = world.started(plan, tmp_path)
    assert chain.resume().outcome == "promoted"
    assert chain.registered
    assert chain.registered.status == ("already_registered" if after else "release_registered")
    assert world.seen.count(REGISTRATION) == (1 if after else 2)
    _is_one_release(world, chain)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_outage_amid_the_registration_ends_the_run_and_the_next_one_finds_out(
    may: Restarting, plan: ReleasePlan, tmp_path: Path, *, after: bool
) -> None:
    """Exit 5 within minutes; the rerun registers, or finds that it is registered."""
    may.ends_at, may.after, may.away_seconds = (REGISTRATION, 1), after, _OUTAGE_SECONDS
    chain = may.started(plan, tmp_path)
    with pytest.raises(errors.TransientError) as caught:
        chain.resume()
    assert may.coordinator_url in caught.value.subject
    assert caught.value.hint
    assert may.now < _MOST_WAITED_SECONDS
    may.come_back()
    assert chain.resume().outcome == "promoted"
    _is_one_release(may, chain)


def test_a_restart_while_promote_waits_is_waited_for(
    may: Restarting, plan: ReleasePlan, tmp_path: Path
) -> None:
    """A stale answer, then nobody, then another process without that cache: promoted."""
    older = release_chain.start(may, plan, tmp_path / "older", version="0.4.9", binary=b"older")
    older.publish()
    older.register()
    assert may.coordinator().latest("macos-arm64")
    chain = may.started(plan, tmp_path)
    chain.publish()
    chain.register()
    served = may.coordinator().latest("macos-arm64")
    assert served
    assert served.version == "0.4.9"
    may.ends_at, may.away_seconds = len(may.seen) + 3, 20.0
    assert chain.promote().outcome == "promoted"
    assert may.ended == ["GET /v1/releases/latest"]
    assert may.registered() == ["0.4.9", "0.5.0"]


def test_an_outage_while_promote_waits_ends_within_its_time(
    may: Restarting, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Exit 5 after the poll's time; registered stays registered, and the rerun promotes."""
    chain = may.started(plan, tmp_path)
    chain.publish()
    chain.register()
    may.ends_at, may.away_seconds = len(may.seen) + 1, _OUTAGE_SECONDS
    with pytest.raises(errors.TransientError):
        chain.promote()
    assert may.now < _MOST_WAITED_SECONDS
    assert may.index.get(f"releases/latest/{NAME}") is None
    may.come_back()
    assert chain.resume().outcome == "promoted"
    _is_one_release(may, chain)


def test_providers_that_come_back_after_a_restart_are_no_loss_of_capacity(
    october: Restarting, plan: ReleasePlan, tmp_path: Path
) -> None:
    """A new process has no provider for a while; the watch sees the dip and that it heals."""
    chain = october.started(plan, tmp_path)
    chain.watch_seconds = 60.0
    october.away_seconds = _DEPLOY_SECONDS
    october.loses_providers = True
    # Once before the registration; the watch asks from then on.
    october.ends_at = "GET /v1/stats", 3
    assert chain.resume().outcome == "promoted"
    assert october.ended == ["GET /v1/stats"]
    assert october.seen.index(REGISTRATION) < october.ended_at
    assert chain.registered
    outcomes = {check.name: check.outcome for check in chain.registered.checks}
    assert outcomes["routable capacity"] == "passed"
    assert isinstance(chain.reporter, Told)
    assert any("routable capacity: 0, " in note for note in chain.reporter.notes)
    _is_one_release(october, chain)


def _each_request() -> list[ParameterSet]:
    return [pytest.param(number, marks=pytest.mark.slow) for number in range(1, _LAST_REQUEST)]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", _each_request())
def test_a_restart_at_any_request_is_waited_for(
    world: Restarting, plan: ReleasePlan, tmp_path: Path, *, at: int, after: bool
) -> None:
    """Whatever was asked: the run goes on by itself and ends in one release."""
    world.ends_at, world.after, world.away_seconds = at, after, _DEPLOY_SECONDS
    chain = world.started(plan, tmp_path)
    assert chain.resume().outcome == "promoted"
    _is_one_release(world, chain)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", _each_request())
def test_an_outage_at_any_request_is_an_error_that_a_rerun_mends(
    world: Restarting, plan: ReleasePlan, tmp_path: Path, *, at: int, after: bool
) -> None:
    """Typed and within minutes; nothing is registered twice."""
    world.ends_at, world.after, world.away_seconds = at, after, _OUTAGE_SECONDS
    chain = world.started(plan, tmp_path)
    with contextlib.suppress(errors.TransientError):
        chain.resume()
    assert world.now < _MOST_WAITED_SECONDS
    world.come_back()
    assert chain.resume().outcome == "promoted"
    _is_one_release(world, chain)


def test_the_requests_above_reach_past_the_last(
    world: Restarting, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The numbers of the sweep cover a whole release."""
    world.started(plan, tmp_path).resume()
    assert REGISTRATION in world.seen
    assert len(world.seen) < _LAST_REQUEST
