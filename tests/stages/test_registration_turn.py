"""What was sent is waited out before it is sent again, and of several runs one sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.services import registration_claim
from release_tool.services.registration_claim import Claim
from release_tool.stages import register, version_series
from tests import small_world
from tests.scripted_server import Reply, Request
from tests.small_world import PLATFORM, MemoryIntents, SmallWorld, Stored
from tests.stages import release_chain
from tests.stages.release_chain import Chain
from tests.stages.release_parts import Told

CLAIM = "releases/registrations/v0.5.0.json"
MARK = "releases/v0.5.0/registered.json"
_LIMIT = 150.0
# Of a claim of which nobody knows when it was sent.
_LONGEST = 180.0


@dataclass
class Late:
    """A coordinator whose edge gives up on registrations, and which carries them out later."""

    world: SmallWorld
    seconds: float
    cut: int = 1
    """How many are cut; the others are answered."""
    waiting: list[tuple[float, Request]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world.before = self._take
        self.world.when_sleeping = self.arrive

    def _take(self, request: Request) -> Reply | None:
        self.arrive()
        if request.method != "POST" or not self.cut:
            return None
        self.cut -= 1
        self.waiting.append((self.world.now + self.seconds, request))
        return Reply(504, b"<html>gateway timeout</html>")

    def arrive(self) -> None:
        due = [one for one in self.waiting if one[0] <= self.world.now]
        self.waiting = [one for one in self.waiting if one not in due]
        for _, request in due:
            self.world.coordinate(request)


@pytest.fixture
def chain(world: SmallWorld, plan: ReleasePlan, tmp_path: Path) -> Chain:
    """An archive that is published; the fleet is not watched."""
    made = release_chain.start(world, plan, tmp_path / "dist")
    made.watch_seconds = 0.0
    made.reporter = Told()
    made.publish()
    return made


def _notes(chain: Chain) -> list[str]:
    assert isinstance(chain.reporter, Told)
    return [one for one in chain.reporter.notes if one.startswith("registering ")]


@pytest.mark.parametrize("seconds", [20.0, 119.0, 149.0])
def test_a_registration_that_is_carried_out_late_is_not_sent_again(
    world: SmallWorld, chain: Chain, seconds: float
) -> None:
    """The coordinator still downloads when its edge gives up; the run waits, and finds it."""
    Late(world, seconds)
    assert chain.register().status == register.ALREADY
    assert world.posts == 1
    assert world.now <= seconds + 16
    assert MARK in world.objects
    assert len(_notes(chain)) == 1
    assert "it was sent, and not answered" in _notes(chain)[0]


def test_one_that_never_arrives_is_sent_again_once_it_cannot_any_more(
    world: SmallWorld, chain: Chain
) -> None:
    """Not before the coordinator's time is up, and then at once."""
    late = Late(world, 1e9)
    assert chain.register().status == "release_registered"
    assert world.posts == 1
    assert _LIMIT <= world.now < _LIMIT + 20
    assert len(late.waiting) == 1


def _killed(world: SmallWorld, chain: Chain) -> None:
    """A run that dies while the coordinator is at its registration, for a hundred seconds."""
    Late(world, 100.0)
    arriving, world.when_sleeping = world.when_sleeping, _killing
    with pytest.raises(small_world.KilledError):
        chain.register()
    world.when_sleeping = arriving


def test_the_next_run_waits_as_well(world: SmallWorld, chain: Chain) -> None:
    """Its ledger tells of what was sent."""
    _killed(world, chain)
    assert chain.register().status == register.ALREADY
    assert world.posts == 1
    assert "it was sent, and not answered" in _notes(chain)[0]


def test_another_machine_waits_as_well(world: SmallWorld, chain: Chain) -> None:
    """It has the same bytes, and no ledger of the first run: the claim tells."""
    _killed(world, chain)
    chain.intents, chain.reporter = MemoryIntents(), Told()
    assert chain.register().status == register.ALREADY
    assert world.posts == 1
    assert "another run is at it" in _notes(chain)[0]


def _killing() -> None:
    raise small_world.KilledError


def test_a_claim_of_a_run_that_died_is_taken_over(world: SmallWorld, chain: Chain) -> None:
    """Whoever waited it out writes over exactly what it saw."""
    _claim(world, chain)
    assert chain.register().status == "release_registered"
    assert _LONGEST <= world.now < _LONGEST + 20
    assert world.posts == 1


def test_a_claim_that_was_given_back_is_not_waited_for(world: SmallWorld, chain: Chain) -> None:
    """The other run told meanwhile that nothing was registered."""
    _claim(world, chain)

    def give_back() -> None:
        world.when_sleeping = lambda: None
        _claim(world, chain, state="not_taken")

    world.when_sleeping = give_back
    assert chain.register().status == "release_registered"
    assert world.now < 20


def test_a_refused_registration_gives_its_turn_back(world: SmallWorld, chain: Chain) -> None:
    """The next run, here or elsewhere, need not wait."""
    world.before = lambda one: Reply(401) if one.method == "POST" else None
    with pytest.raises(errors.CredentialError):
        chain.register()
    assert registration_claim.parse(world.objects[CLAIM].body).state == "not_taken"
    world.before = lambda _: None
    chain.intents = MemoryIntents()
    assert chain.register().status == "release_registered"
    assert world.now < 20


def test_what_was_never_sent_is_not_waited_for(world: SmallWorld, chain: Chain) -> None:
    """Nobody listens on the port, so nothing can arrive."""
    closed: list[str] = []
    real = chain.world.coordinator

    def coordinator() -> object:
        made = real()
        if not closed:
            closed.append("once")
            asked = made._post

            def post(path: str, body: bytes) -> object:
                made.base_url, there = "http://127.0.0.1:9", made.base_url
                try:
                    return asked(path, body)
                finally:
                    made.base_url, made._post = there, asked  # type: ignore[method-assign]

            made._post = post  # type: ignore[method-assign, assignment]
        return made

    chain.world.coordinator = coordinator  # type: ignore[method-assign, assignment]
    try:
        assert chain.register().status == "release_registered"
    finally:
        chain.world.coordinator = real  # type: ignore[method-assign]
    assert world.posts == 1
    assert world.now < 20


def test_a_run_that_stood_still_takes_its_turn_again(world: SmallWorld, chain: Chain) -> None:
    """Slow between its claim and its request: another run may have waited it out meanwhile."""
    slept: list[Request] = []

    def sleep(request: Request) -> Reply | None:
        if request.method == "PUT" and "/registrations/" in request.path and not slept:
            slept.append(request)
            world.now += _LIMIT
        return None

    world.after = sleep
    assert chain.register().status == "release_registered"
    assert world.posts == 1
    first = registration_claim.parse(slept[0].body)
    assert registration_claim.parse(world.objects[CLAIM].body).whose != first.whose


def test_other_bytes_that_are_under_way_stop_everything(world: SmallWorld, chain: Chain) -> None:
    """They may come to stand; given back, the version is free."""
    _claim(world, chain, sha256="8" * 64)
    with pytest.raises(errors.RemoteRefusedError, match="other bytes was already sent"):
        chain.register()
    assert world.posts == 0
    _claim(world, chain, sha256="8" * 64, state="not_taken")
    assert chain.register().status == "release_registered"


@pytest.mark.parametrize("newer", ["", "0.6.0"])
def test_a_marked_release_that_was_deactivated_is_not_activated_again(
    world: SmallWorld, chain: Chain, newer: str
) -> None:
    """No key, no ledger, no log, and the pointer has moved on: its mark tells."""
    chain.register()
    world.now += 61
    world.evicted.add("0.5.0")
    if newer:
        world.add_row(newer)
    chain.intents = MemoryIntents()
    expected = errors.CredentialError if newer else errors.RemoteRefusedError
    with pytest.raises(expected) as caught:
        chain.register()
    assert "mark beside its archive" in f"{caught.value.expected}{caught.value.observed}"
    assert "ADMIN_KEY" in caught.value.hint
    assert world.posts == 1
    world.admin = True
    with pytest.raises(version_series.DeactivatedError):
        chain.register()
    assert world.posts == 1


def test_a_claim_behind_a_newer_release_wants_the_key(world: SmallWorld, chain: Chain) -> None:
    """No waiting would show whether it arrived, so none is done."""
    _claim(world, chain)
    world.add_row("0.6.0")
    with pytest.raises(errors.CredentialError, match="cannot be seen"):
        chain.register()
    assert (world.posts, world.now) == (0, 0)


def test_a_tombstone_that_comes_behind_the_claim_is_seen(world: SmallWorld, chain: Chain) -> None:
    """The rollback saw no claim, or this run sees its tombstone: one of both, in any order."""

    def withdraw(request: Request) -> Reply | None:
        if request.method == "PUT" and "/registrations/" in request.path:
            world.objects["releases/v0.5.0/tombstone.json"] = Stored(b"{}")
        return None

    world.after = withdraw
    with pytest.raises(errors.RemoteRefusedError, match="tombstone"):
        chain.register()
    assert world.posts == 0
    assert registration_claim.parse(world.objects[CLAIM].body).state == "not_taken"


def test_a_job_without_the_buckets_keys_sends_without_a_claim(
    world: SmallWorld, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads both at the public address: what another one claims is waited for."""
    public: Callable[[Chain], object] = lambda one: registration_claim.served(  # noqa: E731
        world.public_url, "releases", one.plan.version, policy=world.policy
    )
    monkeypatch.setattr(Chain, "claims", public)
    _claim(world, chain)
    assert chain.register().status == "release_registered"
    assert world.now >= _LONGEST
    assert world.posts == 1
    assert MARK not in world.objects


def test_a_slow_run_and_one_that_waits_for_it_send_once(world: SmallWorld, chain: Chain) -> None:
    """What is sent as late as may be after its claim still arrives before the other one sends."""
    late = Late(world, 119.0)
    taking = world.before

    def slow(request: Request) -> Reply | None:
        if request.path == "/v1/stats" and world.now == 0:
            world.now += _LONGEST - _LIMIT
        return taking(request)

    world.before = slow
    world.when_sleeping = _killing
    with pytest.raises(small_world.KilledError):
        chain.register()
    assert len(late.waiting) == 1
    world.when_sleeping, world.now = late.arrive, 1.0
    chain.intents = MemoryIntents()
    assert chain.register().status == register.ALREADY
    assert world.posts == 1


@pytest.mark.parametrize("evicted", [False, True])
def test_what_changed_while_it_was_waited_is_looked_at_again(
    world: SmallWorld, chain: Chain, *, evicted: bool
) -> None:
    """The other run registers and marks, and a newer release hides it before the next look."""
    _claim(world, chain)

    def other() -> None:
        world.when_sleeping = lambda: None
        ours = {
            "bundle_hash": chain.archive.sha256,
            "binary_hash": chain.archive.binary_sha256,
            "metallib_hash": chain.archive.metallib_sha256,
        }
        world.add_row("0.5.0", **ours)
        world.add_row("0.6.0")
        world.objects[MARK] = Stored(b"{}")
        if evicted:
            world.evicted.add("0.5.0")

    world.when_sleeping = other
    with pytest.raises(errors.CredentialError, match="cannot be seen"):
        chain.register()
    assert world.posts == 0


@pytest.mark.parametrize("status", [202, 299, 460, 499, 524])
def test_a_status_that_says_nothing_is_no_refusal(
    world: SmallWorld, chain: Chain, status: int
) -> None:
    """An edge's own numbers: whatever became of the request is waited out."""
    Late(world, 100.0)
    taking = world.before
    world.before = lambda one: Reply(status, b"edge") if taking(one) else None
    try:
        assert chain.register().status == register.ALREADY
    except errors.RemoteRefusedError:
        assert registration_claim.parse(world.objects[CLAIM].body).state == "sending"
        assert chain.register().status == register.ALREADY
    assert world.posts == 1


def test_an_answer_that_is_too_large_says_nothing(world: SmallWorld, chain: Chain) -> None:
    """An edge's page of half a megabyte is no refusal of the coordinator: it may arrive yet."""
    Late(world, 100.0)
    taking = world.before

    def page(request: Request) -> Reply | None:
        return Reply(504, b"x" * 600 * 1024) if taking(request) else None

    world.before = page
    with pytest.raises(errors.RemoteRefusedError, match="larger than any"):
        chain.register()
    assert chain.register().status == register.ALREADY
    assert world.posts == 1


def test_a_failure_in_the_coordinators_own_words_is_not_waited_for(
    world: SmallWorld, chain: Chain
) -> None:
    """It is over: whether it was stored is asked, and nothing can arrive any more."""
    body = b'{"error":{"type":"internal_error","message":"failed to store release"}}'
    failing = 2 * [Reply(500, body, {"Content-Type": "application/json"})]
    world.before = lambda one: failing.pop() if one.method == "POST" and failing else None
    assert chain.register().status == "release_registered"
    assert world.now < 20


def test_a_withdrawal_behind_an_unanswered_registration_says_so(
    world: SmallWorld, chain: Chain
) -> None:
    """Whoever withdrew it must look again: it may be activated yet."""
    Late(world, 100.0)
    taking = world.before

    def withdrawn(request: Request) -> Reply | None:
        if answer := taking(request):
            world.objects["releases/v0.5.0/tombstone.json"] = Stored(b"{}")
        return answer

    world.before = withdrawn
    with pytest.raises(errors.RemoteRefusedError, match="may activate it yet") as caught:
        chain.register()
    assert "run the rollback again" in caught.value.hint
    assert registration_claim.parse(world.objects[CLAIM].body).state == "sending"


def _claim(world: SmallWorld, chain: Chain, **changes: str) -> None:
    made = Claim(
        version="0.5.0",
        platform=PLATFORM,
        sha256=chain.archive.sha256,
        state="sending",
        whose="e" * 32,
    )
    content = registration_claim.encode(replace(made, **changes))  # type: ignore[arg-type]
    world.objects[CLAIM] = Stored(content)
