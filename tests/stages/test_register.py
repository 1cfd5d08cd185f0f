"""Register: the coordinator's own checks first, one request, its answer compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.stages import register, version_series
from release_tool.values import FLEET_WATCH, RegisteredRelease
from tests import small_world
from tests.scripted_server import Reply, Request
from tests.small_world import PLATFORM, SmallWorld
from tests.stages import release_chain
from tests.stages.release_chain import METALLIB, NAME, Chain
from tests.stages.release_parts import Told, changed


@pytest.fixture
def chain(world: SmallWorld, plan: ReleasePlan, tmp_path: Path) -> Chain:
    """An archive that is published."""
    made = release_chain.start(world, plan, tmp_path / "dist")
    made.publish()
    return made


def _expected(chain: Chain, status: str = "release_registered") -> RegisteredRelease:
    assert chain.published
    return RegisteredRelease(
        version="0.5.0",
        platform=PLATFORM,
        backend="mlx-swift",
        binary_hash=chain.archive.binary_sha256,
        bundle_hash=chain.archive.sha256,
        metallib_hash=METALLIB,
        url=chain.published.url,
        status=status,
    )


def _facts(registered: RegisteredRelease) -> RegisteredRelease:
    """What was registered, without what was looked at afterwards."""
    return registered.model_copy(update={"checks": ()})


def test_the_release_is_registered_once(world: SmallWorld, chain: Chain) -> None:
    """One POST, an intent before it, the echo as the value."""
    seen: list[int] = []

    def watch(request: Request) -> Reply | None:
        if request.method == "POST":
            seen.append(len(chain.intents.declared))
        return None

    world.before = watch
    assert _facts(chain.register()) == _expected(chain)
    assert (world.posts, seen) == (1, [1])
    facts = chain.intents.find("register")
    assert facts is not None
    assert facts["bundle_hash"] == chain.archive.sha256


def test_what_stands_is_not_sent_again(world: SmallWorld, chain: Chain) -> None:
    """A second machine without any record finds the release and sends nothing."""
    chain.register()
    world.now += 61
    chain.intents = small_world.MemoryIntents()
    assert _facts(chain.register()) == _expected(chain, register.ALREADY)
    assert world.posts == 1
    assert chain.intents.declared == []


def test_a_resume_behind_the_cache_of_may_does_not_send_again(
    world: SmallWorld, chain: Chain
) -> None:
    """`latest` still serves the release before, but `/api/version` is cleared at once."""
    world.add_row("0.4.9")
    world.coordinator().latest(PLATFORM)
    chain.register()
    assert _facts(chain.register()) == _expected(chain, register.ALREADY)
    assert world.posts == 1


def test_an_intent_whose_request_never_arrived_is_sent(world: SmallWorld, chain: Chain) -> None:
    """It was answered, so after asking the same request goes out at once."""
    world.before = lambda request: Reply(401) if request.method == "POST" else None
    with pytest.raises(errors.CredentialError):
        chain.register()
    assert world.posts == 0
    world.before = lambda _: None
    started = world.now
    assert _facts(chain.register()) == _expected(chain)
    assert world.now - started <= chain.watch_seconds + 1
    assert world.posts == 1


def test_other_bytes_under_this_version_stop_everything(world: SmallWorld, chain: Chain) -> None:
    """May would replace the row silently, so nothing is sent, and all differences are told."""
    world.add_row("0.5.0")
    with pytest.raises(errors.RemoteRefusedError) as caught:
        chain.register()
    assert [line.split(":")[0] for line in caught.value.details] == [
        "binary_hash", "bundle_hash", "metallib_hash",
    ]  # fmt: skip
    assert world.posts == 0
    assert chain.intents.declared == []


def test_other_bytes_behind_the_cache_stop_everything(world: SmallWorld, chain: Chain) -> None:
    """`latest` has not seen them yet, `/api/version` has."""
    world.coordinator().latest(PLATFORM)
    assert chain.published
    world.add_row("0.5.0", url=chain.published.url)
    with pytest.raises(errors.RemoteRefusedError):
        chain.register()
    assert world.posts == 0


def test_other_bytes_at_another_address_behind_the_cache_stop_everything(
    world: SmallWorld, chain: Chain
) -> None:
    """`/api/version` tells of our platform, so the version is ours wherever its archive lies."""
    world.coordinator().latest(PLATFORM)
    world.add_row("0.5.0")
    with pytest.raises(errors.RemoteRefusedError, match="with other bytes"):
        chain.register()
    assert world.posts == 0


def test_an_intent_for_other_bytes_stops_everything(world: SmallWorld, chain: Chain) -> None:
    """They may be registered without being seen: an older coordinator, a newer release."""
    chain.intents.declare("register", {"version": "0.5.0", "bundle_hash": "9" * 64})
    with pytest.raises(errors.RemoteRefusedError, match="already sent"):
        chain.register()
    assert world.posts == 0


def test_an_older_release_at_latest_is_no_obstacle(world: SmallWorld, chain: Chain) -> None:
    """Only the same version is compared."""
    world.add_row("0.4.9")
    world.add_row("0.6.0")
    assert _facts(chain.register()) == _expected(chain)


def test_a_row_behind_a_newer_release_is_found_in_the_inventory(
    world: SmallWorld, chain: Chain
) -> None:
    """The first answer is lost while 0.6.0 is served, which both public answers tell instead."""
    world.admin = True
    world.add_row("0.6.0")
    lost = [Reply(502, b"bad gateway")]
    world.after = lambda one: lost.pop() if one.method == "POST" and lost else None
    assert _facts(chain.register()) == _expected(chain, register.ALREADY)
    assert world.posts == 1
    chain.intents = small_world.MemoryIntents()
    assert _facts(chain.register()) == _expected(chain, register.ALREADY)
    assert world.posts == 1


def test_what_cannot_be_seen_behind_a_newer_release_is_not_sent_again(
    world: SmallWorld, chain: Chain
) -> None:
    """Its answer was lost and no key opens the inventory: exit 4, now and in a rerun; then found.

    A second registration of May would activate what somebody deactivated meanwhile.
    """
    world.add_row("0.6.0")
    lost = [Reply(502, b"bad gateway")]
    world.after = lambda one: lost.pop() if one.method == "POST" and lost else None
    for _ in range(2):
        with pytest.raises(errors.CredentialError, match="cannot be seen") as caught:
            chain.register()
        assert "ADMIN_KEY" in caught.value.hint
    assert world.posts == 1
    world.admin = True
    assert _facts(chain.register()) == _expected(chain, register.ALREADY)
    assert world.posts == 1


def test_a_refused_registration_behind_a_newer_release_is_sent_again(
    world: SmallWorld, chain: Chain
) -> None:
    """An answer that it was not taken leaves no question, neither in this run nor in the next."""
    world.add_row("0.6.0")
    message = "release artifact verification failed: download bundle: unexpected status 503"
    body = json.dumps({"error": {"type": "invalid_request_error", "message": message}}).encode()
    refusing = 5 * [Reply(400, body)]
    world.before = lambda one: refusing.pop() if one.method == "POST" and refusing else None
    with pytest.raises(errors.TransientError):
        chain.register()
    assert world.posts == 0
    assert _facts(chain.register()) == _expected(chain)
    facts = chain.intents.find("register")
    assert facts is not None
    assert "refused" not in facts


def test_other_bytes_behind_a_newer_release_stop_everything(
    world: SmallWorld, chain: Chain
) -> None:
    """The inventory alone tells of them; May would replace the row."""
    world.admin = True
    world.add_row("0.5.0")
    world.add_row("0.6.0")
    with pytest.raises(errors.RemoteRefusedError, match=r"holds 0\.5\.0 with other bytes"):
        chain.register()
    assert world.posts == 0


@pytest.mark.parametrize("admin", [False, True])
def test_a_watch_that_the_plan_does_without_is_recorded(
    world: SmallWorld, chain: Chain, admin: bool
) -> None:
    """Not checked, and why; with an administrator's key all is looked at, waived or not."""
    world.admin = admin
    world.add_row("0.4.9")
    chain.waived = True
    found = {check.name: check for check in chain.register().checks}
    assert (FLEET_WATCH in found) is not admin
    if admin:
        assert found["the release before is accepted"].outcome == "passed"
    else:
        assert found[FLEET_WATCH].outcome == "not_checked"
        assert "fleet_watch: unchecked" in found[FLEET_WATCH].hint


def test_what_was_deactivated_is_not_activated_again(world: SmallWorld, chain: Chain) -> None:
    """By somebody who left no tombstone: a rerun sees it in the inventory and sends nothing."""
    world.admin = True
    chain.register()
    world.evicted.add("0.5.0")
    world.now += 61
    with pytest.raises(errors.RemoteRefusedError, match="was deactivated") as caught:
        chain.register()
    assert "0.5.1" in caught.value.hint
    assert world.posts == 1


@pytest.mark.parametrize("declared", [False, True], ids=["fresh-ledger", "same-ledger"])
def test_what_the_pointer_names_and_nobody_serves_is_not_registered_again(
    world: SmallWorld, chain: Chain, declared: bool
) -> None:
    """Deactivated without a tombstone, and rerun by a job that has no administrator's key."""
    chain.resume()
    world.evicted.add("0.5.0")
    world.now += 61
    if not declared:
        chain.intents = small_world.MemoryIntents()
    with pytest.raises(errors.RemoteRefusedError, match="not served any more") as caught:
        chain.register()
    assert "release 0.5.1" in caught.value.hint
    assert "ADMIN_KEY" in caught.value.hint
    assert world.posts == 1
    assert "0.5.0" in world.evicted


@pytest.mark.parametrize("newer", [True, False])
def test_what_the_log_tells_and_nobody_serves_is_not_registered_again(
    world: SmallWorld, chain: Chain, newer: bool
) -> None:
    """It never became the latest, so no pointer names it; a fresh ledger, and no inventory.

    Behind a newer release its state cannot be seen (4), without one somebody took it away (7).
    With an administrator's key the inventory decides.
    """
    world.add_row("0.6.0")
    chain.register()
    chain.logged, chain.intents = True, small_world.MemoryIntents()
    world.evicted.add("0.5.0")
    if not newer:
        world.evicted.add("0.6.0")
    world.now += 61
    expected = errors.CredentialError if newer else errors.RemoteRefusedError
    with pytest.raises(expected) as caught:
        chain.register()
    assert "ADMIN_KEY" in caught.value.hint
    assert world.posts == 1
    world.admin = True
    with pytest.raises(version_series.DeactivatedError):
        chain.register()
    del world.rows["0.5.0", PLATFORM]
    assert chain.register().status == "release_registered"
    assert world.posts == 2


def test_the_same_bytes_are_not_sent_for_another_changelog(world: SmallWorld, chain: Chain) -> None:
    """The tag's text changed since: what stands stays, the record says how, a note what differs."""
    chain.register()
    world.now += 61
    chain.intents = small_world.MemoryIntents()
    chain.reporter = told = Told()
    chain.plan = changed(chain.plan, source={"changelog": "better words"})
    for world.admin in (False, True):
        assert _facts(chain.register()) == _expected(chain, register.ALREADY)
    assert [one for one in told.notes if "stands with" in one] == 2 * [
        "0.5.0 stands with these bytes and another changelog, which stays"
    ]
    assert world.posts == 1


def test_the_same_bytes_are_not_sent_for_another_contract(world: SmallWorld, chain: Chain) -> None:
    """Their address is another one now; what stands is recorded, and promoted as it stands."""
    before = chain.register()
    world.now += 61
    chain.intents = small_world.MemoryIntents()
    chain.plan = changed(chain.plan, coordinator={"contract": "2026-10"})
    assert "/artifacts/" in chain.publish().url
    after = chain.register()
    assert (after.status, after.url) == (register.ALREADY, before.url)
    assert chain.promote().outcome == "promoted"
    assert world.posts == 1


def test_a_deactivated_version_is_seen_before_anything_is_signed(
    world: SmallWorld, chain: Chain
) -> None:
    """The preflight's question is enough; a row of another version or platform is no matter."""
    world.admin = True
    world.add_row("0.4.9")
    world.evicted.add("0.4.9")
    version_series.require_own(chain.plan, world.coordinator())
    world.add_row("0.5.0")
    world.evicted.add("0.5.0")
    with pytest.raises(errors.RemoteRefusedError, match="was deactivated"):
        version_series.require_own(chain.plan, world.coordinator())


def test_what_is_deactivated_while_it_is_sent_is_not_sent_again(
    world: SmallWorld, chain: Chain
) -> None:
    """The first answer is lost, and somebody deactivates the row before the second try."""
    world.admin = True

    def lose(request: Request) -> Reply | None:
        if request.method != "POST":
            return None
        world.evicted.add("0.5.0")
        return Reply(502, b"bad gateway")

    world.after = lose
    with pytest.raises(errors.RemoteRefusedError, match="was deactivated"):
        chain.register()
    assert world.posts == 1


def test_download_trouble_is_tried_again(world: SmallWorld, chain: Chain) -> None:
    """The coordinator could not read the address for a moment; asking comes before each try."""
    message = "release artifact verification failed: download bundle: unexpected status 503"
    body = json.dumps({"error": {"type": "invalid_request_error", "message": message}}).encode()
    answers = [Reply(400, body), Reply(400, body), None]
    world.before = lambda request: answers.pop(0) if request.method == "POST" else None
    assert _facts(chain.register()) == _expected(chain)
    assert world.now >= 2.0


def test_a_verdict_on_the_bytes_is_final(world: SmallWorld, chain: Chain) -> None:
    """The store's bytes changed after publishing: one request, exit 7, the coordinator's words."""
    world.objects[f"releases/v0.5.0/{NAME}"] = small_world.Stored(b"changed")
    posts: list[Request] = []

    def watch(request: Request) -> Reply | None:
        if request.method == "POST":
            posts.append(request)
        return None

    world.before = watch
    with pytest.raises(errors.RemoteRefusedError) as caught:
        chain.register()
    assert "bundle hash mismatch" in caught.value.observed
    assert len(posts) == 1


def test_an_answer_that_was_lost_is_asked_for(world: SmallWorld, chain: Chain) -> None:
    """The row is written, the answer is a 502: the next try finds it and sends nothing."""
    answers = [Reply(502)]
    world.after = lambda request: answers.pop() if request.method == "POST" and answers else None
    assert _facts(chain.register()) == _expected(chain, register.ALREADY)
    assert world.posts == 1


@pytest.mark.parametrize(
    "change",
    [
        {"bundle_hash": "9" * 64},
        {"version": "0.5.1"},
        {"changelog": "other"},
        {"url": "https://elsewhere.example/x"},
        {"metallib_hash": ""},
    ],
)
def test_an_echo_that_differs_is_exit_6(
    world: SmallWorld, chain: Chain, change: dict[str, str]
) -> None:
    """The echo is compared field by field."""

    def twist(request: Request) -> Reply | None:
        if request.method != "POST":
            return None
        row = json.loads(request.body) | change
        return Reply(200, json.dumps({"status": "release_registered", "release": row}).encode())

    world.after = twist
    with pytest.raises(errors.VerificationError) as caught:
        chain.register()
    assert [line.split(":")[0] for line in caught.value.details] == list(change)


def test_the_coordinators_checks_run_here_first(world: SmallWorld, chain: Chain) -> None:
    """Everything that it would refuse is told at once, and nothing is sent."""
    plan = chain.plan
    product = plan.product.model_copy(update={"platform": "macOS"})
    source = plan.source.model_copy(update={"changelog": "x" * 70_000})
    chain.plan = plan.model_copy(update={"product": product, "source": source})
    chain.workspace.path(NAME).write_bytes(b"not an archive")
    world.before = lambda _: pytest.fail("a request was sent")
    with pytest.raises(errors.VerificationError) as caught:
        chain.register()
    assert [line.split(":")[0] for line in caught.value.details] == [
        "platform", "url", "body", "bundle_hash", "archive",
    ]  # fmt: skip
    assert caught.value.hint == "shorten the changelog"


def test_another_archive_than_the_published_is_refused(chain: Chain) -> None:
    """The two values must be of one archive."""
    chain.archive = chain.archive.model_copy(update={"sha256": "9" * 64})
    with pytest.raises(errors.VerificationError, match="another archive"):
        chain.register()


def test_hostile_tag_text_travels_as_data(world: SmallWorld, chain: Chain) -> None:
    """Quotes, shell and escapes in a tag's text come back as they were."""
    text = '"},"version":"9.9.9"} $(x) `y` \x1b[31m \u2028 </script>'
    source = chain.plan.source.model_copy(update={"changelog": text})
    chain.plan = chain.plan.model_copy(update={"source": source})
    chain.register()
    assert list(world.rows) == [("0.5.0", PLATFORM)]
    assert world.rows["0.5.0", PLATFORM]["changelog"] == text


@pytest.mark.parametrize("outcome", ["failed", "unknown"])
def test_an_environment_that_knows_its_source_registers_no_failed_tests(
    world: SmallWorld, chain: Chain, outcome: str
) -> None:
    """Exit 6 before anything is sent; an environment that takes them registers."""
    chain.archive = chain.archive.model_copy(update={"test_outcome": outcome})
    loose = chain.plan
    strict = loose.environment.model_copy(update={"require_known_source": True})
    chain.plan = loose.model_copy(update={"environment": strict})
    with pytest.raises(errors.VerificationError, match="may not be released") as caught:
        chain.register()
    assert caught.value.details == (
        f"test outcome of the binaries' source: expected passed, observed {outcome}",
    )
    assert world.posts == 0
    chain.plan = loose
    assert chain.register().status == "release_registered"


class _Listening(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def note(self, text: str) -> None:
        self._told.append(text)


def _succeed(world: SmallWorld, plan: ReleasePlan, folder: Path) -> Chain:
    """0.5.1, about to be registered with 0.5.0 before it, where the inventory can be read."""
    world.admin = True
    release_chain.start(world, plan, folder / "before").resume()
    world.now += 61
    after = release_chain.start(world, plan, folder / "after", version="0.5.1", binary=b"after")
    after.publish()
    return after


def test_an_eviction_within_the_watch_is_told(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The release before is looked at until the watch ends, and not only at its beginning."""
    chain = _succeed(world, plan, tmp_path)
    beginning = world.now

    def evict() -> None:
        if world.now - beginning > 20:
            world.evicted.add("0.5.0")

    world.when_sleeping = evict
    with pytest.raises(errors.VerificationError) as caught:
        chain.register()
    assert caught.value.details == (
        "the release before is accepted of 0.5.0: expected active, observed inactive",
    )
    assert world.now - beginning == pytest.approx(chain.watch_seconds)


def test_an_eviction_that_heals_within_the_watch_is_none(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """A coordinator may read its rows again; the wait is told once."""
    chain = _succeed(world, plan, tmp_path)

    def evict(request: Request) -> Reply | None:
        if request.method == "POST":
            world.evicted.add("0.5.0")
        return None

    world.after = evict
    world.when_sleeping = world.evicted.clear
    told: list[str] = []
    chain.reporter = _Listening(told)
    found = {check.name: check.outcome for check in chain.register().checks}
    assert found["the release before is accepted"] == "passed"
    assert [text for text in told if "inactive" in text] == [
        "the release before is accepted: inactive; watching on for 30 s"
    ]
