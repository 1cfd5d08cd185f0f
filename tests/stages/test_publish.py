"""Publish: created once, never overwritten, read back as the world gets it."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.values import PublishedRelease, SmokeEvidence
from tests import small_world, smoke_samples
from tests.scripted_server import Reply, Request
from tests.small_world import SmallWorld
from tests.stages import release_chain
from tests.stages.release_chain import NAME, Chain

KEY = f"releases/v0.5.0/{NAME}"


@pytest.fixture
def chain(world: SmallWorld, plan: ReleasePlan, tmp_path: Path) -> Chain:
    """An archive that smoked."""
    return release_chain.start(world, plan, tmp_path / "dist")


def test_the_archive_is_created_and_read_back(world: SmallWorld, chain: Chain) -> None:
    """The bytes of the workspace stand at the versioned key, and the value says where."""
    assert chain.publish() == PublishedRelease(
        archive_sha256=chain.archive.sha256,
        size=len(chain.content),
        key=KEY,
        url=f"{world.public_url}/{KEY}",
        created=True,
    )
    assert world.objects[KEY].body == chain.content
    assert list(world.objects) == [KEY]


def test_the_same_bytes_are_success(world: SmallWorld, chain: Chain) -> None:
    """A second run sends nothing and says that it did not create."""
    chain.publish()
    assert chain.publish().created is False
    assert world.puts == 1


def test_other_bytes_are_refused_for_ever(world: SmallWorld, chain: Chain) -> None:
    """Exit 7, both sides named with digest, size and time, and the way out."""
    other = b"other bytes" * 100
    world.objects[KEY] = small_world.Stored(other, {"sha256": chain.archive.sha256})
    with pytest.raises(errors.RemoteRefusedError) as caught:
        chain.publish()
    assert caught.value.exit_code == 7
    assert caught.value.lines() == [
        f"cannot publish: {KEY} already holds other bytes",
        f"  there     {hashlib.sha256(other).hexdigest()} · 1.1 kB · put 2026-05-14 21:51 UTC",
        f"  ours      {chain.archive.sha256} · {chain.archive.size / 1000:.1f} kB",
        "  A registered hash may point at those bytes, so they are never overwritten. "
        "If 0.5.0 was never registered, release 0.5.1.",
    ]
    assert world.objects[KEY].body == other


@pytest.mark.parametrize(
    ("version", "following"), [("0.5.0-dev.1", "0.5.0-dev.2"), ("1.2.9", "1.2.10")]
)
def test_the_way_out_names_the_next_version(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path, version: str, following: str
) -> None:
    """A prerelease is followed by its next number."""
    chain = release_chain.start(world, plan, tmp_path, version=version)
    world.objects[f"releases/v{version}/{NAME}"] = small_world.Stored(b"x")
    with pytest.raises(errors.RemoteRefusedError) as caught:
        chain.publish()
    assert caught.value.hint.endswith(f"release {following}.")


def test_a_build_suffix_makes_the_coordinators_address(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """`+` is a plain character of the address and of the key."""
    chain = release_chain.start(world, plan, tmp_path, version="0.5.0+b1")
    assert chain.publish().url == f"{world.public_url}/releases/v0.5.0+b1/{NAME}"


def _refused(world: SmallWorld, chain: Chain, **changes: object) -> list[str]:
    evidence = chain.evidence.model_dump() | changes
    chain.evidence = SmokeEvidence.model_validate(evidence)
    with pytest.raises(errors.VerificationError) as caught:
        chain.publish()
    assert world.objects == {}
    return [detail.split(":")[0] for detail in caught.value.details]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"archive_sha256": "9" * 64}, ["archive"]),
        ({"version": "0.4.9"}, ["version"]),
        ({"executable_sha256": "9" * 64}, ["executable"]),
        ({"prompts": ()}, ["prompts"]),
        ({"archive_sha256": "9" * 64, "version": "x", "prompts": ()},
         ["archive", "version", "prompts"]),
    ],
)  # fmt: skip
def test_evidence_must_be_of_exactly_this_archive(
    world: SmallWorld, chain: Chain, changes: dict[str, object], names: list[str]
) -> None:
    """Evidence of anything else sends nothing, and says each reason at once."""
    assert _refused(world, chain, **changes) == names


def test_a_prompt_that_disagrees_is_refused(world: SmallWorld, chain: Chain) -> None:
    """One of the prompts is enough."""
    prompt = chain.evidence.prompts[0]
    other = prompt.model_copy(update={"agrees": False})
    assert _refused(world, chain, prompts=(prompt, other)) == ["prompts"]


def test_a_stand_in_does_not_serve_a_real_environment(world: SmallWorld, chain: Chain) -> None:
    """Dev and prod take the bundle's own executable on Apple Silicon, and nothing else."""
    real = chain.plan.environment.model_copy(update={"provider": "bundle"})
    chain.plan = chain.plan.model_copy(update={"environment": real})
    unjudged = ["needs of the bundle, judged", "installer, judged"]
    ran = ["checks", "kind", "host", "what ran", "--version"]
    assert _refused(world, chain) == [*ran, *unjudged]
    own = smoke_samples.of_bundle(chain.plan)
    chain.evidence = chain.evidence.model_copy(
        update={
            "kind": "bundle",
            "host": chain.evidence.host.model_copy(update={"system": "macos", "machine": "arm64"}),
            "ran_sha256": chain.evidence.executable_sha256,
            "version_ran": True,
            "needs": own.needs,
            "install": own.install,
            "checks": own.checks,
        }
    )
    assert chain.publish().created


@pytest.mark.parametrize("damage", [b"", b"longer", None])
def test_an_archive_that_changed_is_never_sent(
    world: SmallWorld, chain: Chain, damage: bytes | None
) -> None:
    """The file is hashed again as it lies on disk now."""
    path = chain.workspace.path(NAME)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"x" if damage else b"")
    with pytest.raises(errors.VerificationError):
        chain.publish()
    assert world.objects == {}


def test_a_public_address_of_another_bucket_is_noticed(world: SmallWorld, chain: Chain) -> None:
    """A 404 is asked again for a while, then it is a failed verification."""
    asked: list[str] = []

    def nothing(request: Request) -> Reply | None:
        if request.path.startswith("/public"):
            asked.append(request.path)
            return Reply(404)
        return None

    world.before = nothing
    with pytest.raises(errors.VerificationError) as caught:
        chain.publish()
    assert caught.value.observed == "nothing (404)"
    assert len(asked) == 4


def test_a_late_public_address_is_waited_for(world: SmallWorld, chain: Chain) -> None:
    """A CDN may hold on to a 404 for a moment."""
    answers = [Reply(404), Reply(503), None]
    world.before = lambda request: answers.pop(0) if "/public" in request.path else None
    assert chain.publish().created
    assert world.now > 1.5


def test_other_bytes_at_the_public_address_are_noticed(world: SmallWorld, chain: Chain) -> None:
    """What the world gets decides, not what was sent."""
    world.before = lambda request: Reply(200, b"other") if "/public" in request.path else None
    with pytest.raises(errors.VerificationError) as caught:
        chain.publish()
    assert caught.value.expected.startswith(chain.archive.sha256)


@pytest.mark.parametrize("status", [429, 503])
def test_the_store_may_be_busy(world: SmallWorld, chain: Chain, status: int) -> None:
    """One write a second for each key: the second try comes a second later."""
    answers = [Reply(status), None]
    world.before = lambda request: answers.pop(0) if request.method == "PUT" else None
    assert chain.publish().created
    assert world.now >= 1.0


def test_of_two_publishers_exactly_one_wins(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Both saw an empty key, both send other bytes: one stands, the other gets exit 7."""
    chains = [
        release_chain.start(world, plan, tmp_path / name, binary=name.encode())
        for name in ("one", "two")
    ]
    together = threading.Barrier(2, timeout=20)
    outcomes: dict[int, object] = {}

    def meet(request: Request) -> Reply | None:
        if request.method == "PUT":
            together.wait()
        return None

    def publish(index: int) -> None:
        try:
            outcomes[index] = chains[index].publish()
        except errors.ReleaseError as problem:
            outcomes[index] = problem

    world.before = meet
    threads = [threading.Thread(target=publish, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [index for index in range(2) if isinstance(outcomes[index], PublishedRelease)]
    assert len(winners) == 1
    loser = outcomes[1 - winners[0]]
    assert isinstance(loser, errors.RemoteRefusedError)
    assert loser.exit_code == 7
    assert world.objects[KEY].body == chains[winners[0]].content
    assert world.puts == 1
