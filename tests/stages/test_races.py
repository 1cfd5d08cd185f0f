"""Two releases at once, at every request of the one: a single winner, and the other is told why."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from _pytest.mark import ParameterSet

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.services import release_pointer
from release_tool.values import PromotedRelease
from tests import small_world
from tests.scripted_server import Reply, Request
from tests.small_world import POINTER, SmallWorld
from tests.stages import release_chain
from tests.stages.release_chain import NAME, Chain
from tests.stages.turns import InTurns, Turns

ALIASES = (f"releases/latest/{NAME}", "releases/latest/eigeninference-bundle-macos-arm64.tar.gz")
# Past the last call of a whole release.
_LAST_CALL = 56
CONTRACTS = ("2026-05", "2026-10")


def _each_call(every: int) -> list[ParameterSet]:
    """Each call of a whole release; the default suite takes some of them, `make kill` all."""
    return [
        pytest.param(call, marks=[pytest.mark.slow] if call % every else [])
        for call in range(_LAST_CALL)
    ]


@dataclass
class Raced:
    """What became of two chains."""

    contents: list[bytes]
    """The archive of each."""
    outcomes: list[PromotedRelease | errors.ReleaseError]
    calls: int
    """How many the first one made."""


def _race(
    world: SmallWorld,
    plan: ReleasePlan,
    alone: int,
    binaries: tuple[bytes, bytes],
    *,
    versions: tuple[str, str] = ("0.5.0", "0.5.0"),
    contract: str = "2026-05",
) -> Raced:
    """The first stops after so many calls, the second goes from start to end, the first goes on."""
    world.reset()
    world.by_semver = contract == "2026-10"
    turns, store = Turns([0] * alone + [1] * 90), world.object_store()
    outcomes: dict[int, PromotedRelease | errors.ReleaseError] = {}
    with tempfile.TemporaryDirectory() as folder:
        chains = [
            release_chain.start(
                world, plan, Path(folder) / str(who), binary=binaries[who], version=versions[who]
            )
            for who in (0, 1)
        ]

        def release(who: int) -> None:
            chain = chains[who]
            rules = chain.plan.coordinator.model_copy(update={"contract": contract})
            chain.plan = chain.plan.model_copy(update={"coordinator": rules})
            chain.world = cast("release_chain.World", InTurns(world, turns, who, store))
            try:
                outcomes[who] = chain.resume()
            except errors.ReleaseError as problem:
                outcomes[who] = problem
            finally:
                turns.leave(who)

        threads = [threading.Thread(target=release, args=(who,)) for who in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        contents = [chain.content for chain in chains]
    return Raced(contents, [outcomes[who] for who in (0, 1)], turns.taken[0])


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("alone", _each_call(3))
def test_of_other_bytes_for_one_version_one_wins(
    servers: SmallWorld, plan: ReleasePlan, alone: int, contract: str
) -> None:
    """Exactly one is registered and served; the other is refused before it registers."""
    raced = _race(servers, plan, alone, (b"first", b"second"), contract=contract)
    (winner,) = [who for who in (0, 1) if isinstance(raced.outcomes[who], PromotedRelease)]
    loser = raced.outcomes[1 - winner]
    assert isinstance(loser, errors.RemoteRefusedError)
    assert "another archive's" in str(loser) or "already holds other bytes" in str(loser)
    assert servers.posts == 1
    _serves(servers, "0.5.0", raced.contents[winner])


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("alone", _each_call(6))
def test_the_same_bytes_from_two_machines_are_one_release(
    servers: SmallWorld, plan: ReleasePlan, alone: int, contract: str
) -> None:
    """Both end well, one object is written, and one of them sends the registration."""
    raced = _race(servers, plan, alone, (b"same", b"same"), contract=contract)
    assert [getattr(one, "outcome", one) for one in raced.outcomes] == ["promoted"] * 2
    assert servers.puts == (1 if contract == "2026-05" else 2)
    assert servers.posts == 1
    _serves(servers, "0.5.0", raced.contents[0])


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("alone", _each_call(6))
def test_the_older_of_two_versions_never_ends_as_latest(
    servers: SmallWorld, plan: ReleasePlan, alone: int, contract: str
) -> None:
    """From upload to alias, wherever the older one is overtaken, the newer stays."""
    raced = _race(
        servers,
        plan,
        alone,
        (b"older", b"newer"),
        versions=("0.5.0", "0.5.1"),
        contract=contract,
    )
    older, newer = raced.outcomes
    assert isinstance(newer, PromotedRelease)
    assert newer.outcome == "promoted"
    assert isinstance(older, PromotedRelease)
    assert (older.outcome, older.latest_version) in (
        ("superseded", "0.5.1"),
        ("promoted", "0.5.0"),
    )
    assert servers.posts == 2
    _serves(servers, "0.5.1", raced.contents[1])


@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_races_cover_a_whole_release(
    servers: SmallWorld, plan: ReleasePlan, contract: str
) -> None:
    """The numbers above reach past the last call of the first one."""
    raced = _race(servers, plan, 90, (b"same", b"same"), contract=contract)
    assert raced.calls < _LAST_CALL


def test_a_version_of_long_ago_is_not_registered_with_other_bytes(
    servers: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Served as latest or not: a coordinator that replaces rows would take them silently."""
    servers.reset()
    chains = {
        name: _october(release_chain.start(
            servers, plan, tmp_path / name, binary=name.encode(), version=version
        ))
        for name, version in {"old": "0.5.0", "new": "0.5.1", "other": "0.5.0"}.items()
    }  # fmt: skip
    chains["old"].resume()
    servers.now += 61
    chains["new"].resume()
    with pytest.raises(errors.RemoteRefusedError, match="already another archive's") as caught:
        chains["other"].resume()
    assert "release 0.5.1" in caught.value.hint
    row = servers.rows["0.5.0", small_world.PLATFORM]
    assert row["bundle_hash"] == chains["old"].archive.sha256


@pytest.mark.parametrize("first", CONTRACTS)
def test_a_version_stays_with_its_archive_when_the_contract_changes(
    servers: SmallWorld, plan: ReleasePlan, tmp_path: Path, first: str
) -> None:
    """The two contracts' keys do not exclude each other, and no newer release hides the older."""
    servers.reset()
    old, new, other = (
        release_chain.start(servers, plan, tmp_path / name, binary=name.encode(), version=version)
        for name, version in (("old", "0.5.0"), ("new", "0.5.1"), ("other", "0.5.0"))
    )
    for chain in (old, new) if first == "2026-10" else (other,):
        _october(chain)
    for chain in (old, new):
        chain.resume()
        servers.now += 61
    uploaded = servers.puts
    with pytest.raises(errors.RemoteRefusedError, match=r"cannot publish: .* already"):
        other.resume()
    assert servers.puts == uploaded
    assert servers.posts == 2
    row = servers.rows["0.5.0", small_world.PLATFORM]
    assert row["bundle_hash"] == old.archive.sha256


def test_of_two_contracts_at_once_one_archive_at_most_is_published(
    servers: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The other one comes while this one uploads, behind its first look."""
    for first in CONTRACTS:
        servers.reset()
        one, other = (
            release_chain.start(servers, plan, tmp_path / first / name, binary=name.encode())
            for name in ("one", "other")
        )
        _october(one if first == "2026-10" else other)
        met: list[str] = []

        def meanwhile(request: Request, other: Chain = other, met: list[str] = met) -> Reply | None:
            if request.method == "PUT" and not met:
                met.append(request.path)
                other.publish()
            return None

        servers.before = meanwhile
        with pytest.raises(errors.RemoteRefusedError, match=r"cannot publish: .* already"):
            one.publish()
        assert met


def _october(chain: Chain) -> Chain:
    rules = chain.plan.coordinator.model_copy(update={"contract": "2026-10"})
    chain.plan = chain.plan.model_copy(update={"coordinator": rules})
    return chain


def _serves(world: SmallWorld, version: str, content: bytes) -> None:
    """Row, pointer and aliases are of one archive."""
    digest = hashlib.sha256(content).hexdigest()
    assert world.rows[version, small_world.PLATFORM]["bundle_hash"] == digest
    pointer = release_pointer.parse(world.objects[POINTER].body)
    assert (pointer.version, pointer.sha256) == (version, digest)
    assert {world.objects[alias].body for alias in ALIASES} == {content}
