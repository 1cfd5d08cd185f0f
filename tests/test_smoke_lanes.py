"""Which host fills which lane, and what each act asks of every lane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from release_tool import data, errors, release_file, release_yaml, smoke_lanes
from release_tool.plan import ReleasePlan, SmokeLane
from release_tool.services import hub_cache
from release_tool.stages import smoke_evidence, smoke_model
from release_tool.values import Host, SmokeEvidence
from tests import smoke_samples

GIB = 1024**3
OLD = Host(
    system="macos",
    release="14.6.1",
    build="23G93",
    machine="arm64",
    chip="Apple M1",
    memory_bytes=8 * GIB,
    sip="enabled",
)
NEW = Host(
    system="macos",
    release="26.1",
    build="25B78",
    machine="arm64",
    chip="Apple M4 Max",
    memory_bytes=64 * GIB,
    sip="enabled",
)
LINUX = Host(system="linux", release="26.1", machine="arm64", memory_bytes=64 * GIB)
OLDEST = SmokeLane(name="oldest", macos="oldest-supported")
NEWEST = SmokeLane(name="newest", macos="newest")


def asking(
    plan: ReleasePlan,
    lanes: Sequence[SmokeLane],
    *,
    scope: str = "required",
    provider: str = "stand-in",
) -> ReleasePlan:
    """The plan with other lanes, of macOS 14 to 26."""
    smoke = plan.smoke.model_copy(update={"require": tuple(lanes), "newest_macos": "26"})
    told = plan.environment.model_copy(update={"lanes": scope, "provider": provider})
    return plan.model_copy(update={"smoke": smoke, "environment": told})


@pytest.mark.parametrize(
    ("lane", "filled"),
    [
        ({}, {"old", "new", "linux"}),
        ({"macos": "oldest-supported"}, {"old"}),
        ({"macos": "newest"}, {"new"}),
        ({"macos": "14"}, {"old"}),
        ({"macos": "14.5"}, set()),
        ({"macos": ">=14.4,<15"}, {"old"}),
        ({"macos": "<=14.6"}, {"old"}),
        ({"macos": "<14.6"}, set()),
        ({"macos": ">14.6"}, {"new"}),
        ({"chip": "apple m1"}, {"old"}),
        ({"memory_gib": 16}, {"new", "linux"}),
        ({"memory_gib_at_most": 8}, {"old"}),
        ({"sip": "enabled"}, {"old", "new"}),
        ({"macos": "newest", "memory_gib_at_most": 8}, set()),
    ],
)
def test_a_lane_takes_the_hosts_that_it_names(
    lane: dict[str, object], filled: set[str], plan: ReleasePlan
) -> None:
    """Each condition by itself, and all that are said together."""
    one = SmokeLane.model_validate({"name": "lane", **lane})
    asked = smoke_lanes.of(asking(plan, [one]))
    hosts = {"old": OLD, "new": NEW, "linux": LINUX}
    assert {name for name, host in hosts.items() if asked.filled_by(one, host)} == filled


@pytest.mark.parametrize(
    "macos", ["latest", "14.", ">=", ">=14,", "=14", "14.1.2.3", ">=14,<15,<16"]
)
def test_no_other_range_is_understood(macos: str) -> None:
    """A lane that nothing could fill by a slip of the pen is refused with the file."""
    with pytest.raises(ValueError, match="macos"):
        SmokeLane(name="lane", macos=macos)


def test_hosts_keep_things_apart_where_several_are_wanted(plan: ReleasePlan) -> None:
    """The folder says system, build, chip and memory, so that two hosts never write one file."""
    asked = asking(plan, [OLDEST, NEWEST])
    assert smoke_lanes.folder(asked, OLD) == "smoke/macos-14.6.1-23g93-arm64-apple-m1-8-gib"
    assert smoke_lanes.folder(asked, NEW) != smoke_lanes.folder(asked, OLD)
    hostile = OLD.model_copy(update={"chip": "../../x", "release": "..", "build": "."})
    assert "/" not in smoke_lanes.name_of(hostile)
    assert smoke_lanes.folder(asking(plan, [SmokeLane(name="any")]), OLD) == "smoke"
    assert smoke_lanes.folder(asking(plan, [OLDEST], scope="any-host"), OLD) == "smoke"


def evidence(plan: ReleasePlan, host: Host, **change: object) -> SmokeEvidence:
    """What the bundle's own executable proved on a host."""
    return smoke_samples.of_bundle(plan, **{"host": host} | change)


def require(plan: ReleasePlan, newest: SmokeEvidence, *others: SmokeEvidence) -> None:
    smoke_evidence.require(
        plan,
        newest,
        others=others,
        archive_sha256="a" * 64,
        binary_sha256="b" * 64,
        act="publishing",
    )


def test_each_lane_needs_evidence_that_holds_by_itself(plan: ReleasePlan) -> None:
    """Missing, of another archive, of a stand-in: the lane is named, and what fills it."""
    asked = asking(plan, [OLDEST, NEWEST], provider="bundle")
    newest, oldest = evidence(asked, NEW), evidence(asked, OLD)
    require(asked, newest, oldest)
    require(asked, oldest, newest)
    bad = [
        (),
        (evidence(asked, OLD, archive_sha256="9" * 64),),
        (evidence(asked, OLD, kind="stand-in"),),
        (evidence(asked, OLD, version="0.4.9"),),
        (evidence(asked, OLD, checks=oldest.checks[1:]),),
        (evidence(asked, OLD.model_copy(update={"release": "13.7"})),),
        (evidence(asked, LINUX),),
    ]
    for others in bad:
        with pytest.raises(errors.VerificationError, match="does not allow publishing") as caught:
            require(asked, newest, *others)
        assert [line.split(":")[0] for line in caught.value.details] == ["lane oldest"]
        assert "a record of macOS 14 (oldest-supported)" in caught.value.details[0]
        for word in ("--only smoke", "handoff pack", "handoff merge"):
            assert word in caught.value.hint


def test_one_host_may_fill_two_lanes(plan: ReleasePlan) -> None:
    """A small old Mac is both the oldest and the smallest."""
    small = SmokeLane(name="small", memory_gib_at_most=8)
    asked = asking(plan, [OLDEST, small], provider="bundle")
    require(asked, evidence(asked, OLD))


def test_an_environment_may_take_any_host(plan: ReleasePlan) -> None:
    """A rehearsal runs on what is there; its stand-in fills no lane of a Mac."""
    asked = asking(plan, [OLDEST, NEWEST], scope="any-host")
    require(asked, evidence(asked, LINUX, kind="stand-in"))
    with pytest.raises(errors.VerificationError):
        require(asking(plan, [OLDEST, NEWEST]), evidence(asked, LINUX, kind="stand-in"))


def test_a_pinned_model_is_asked_of_every_host(plan: ReleasePlan) -> None:
    """Another model's answers prove something else; a stand-in's model is its own."""
    asked = asking(plan, [OLDEST, NEWEST], provider="bundle")
    pinned = asked.smoke.model_copy(update={"model_sha256": "c" * 64})
    asked = asked.model_copy(update={"smoke": pinned})
    good = evidence(asked, NEW, model_sha256="c" * 64)
    require(asked, good, evidence(asked, OLD, model_sha256="c" * 64))
    with pytest.raises(errors.VerificationError) as caught:
        require(asked, good, evidence(asked, OLD, model_sha256="d" * 64))
    assert "that does not hold: model" in caught.value.details[0]


def test_another_model_is_refused_before_anything_starts(plan: ReleasePlan, tmp_path: Path) -> None:
    """With both digests and what to do."""
    (tmp_path / "config.json").write_text("{}")
    asked = asking(plan, [OLDEST], provider="bundle")
    assert smoke_model.require_digest(asked, tmp_path) == hub_cache.digest(tmp_path)
    for digest, fits in (("c" * 64, False), (hub_cache.digest(tmp_path), True)):
        part = asked.smoke.model_copy(update={"model_sha256": digest})
        wanting = asked.model_copy(update={"smoke": part})
        if fits:
            assert smoke_model.require_digest(wanting, tmp_path) == digest
            continue
        with pytest.raises(errors.VerificationError, match="not the model") as caught:
            smoke_model.require_digest(wanting, tmp_path)
        assert (caught.value.expected, caught.value.observed) == (
            digest,
            hub_cache.digest(tmp_path),
        )


@pytest.mark.parametrize(
    ("lanes", "told"),
    [
        ("[{name: a}, {name: a}]", "two lanes are called a"),
        ("[{name: a, macos: newest}]", "needs smoke.newest_macos"),
        ("[{name: a, memory_gib: 16, memory_gib_at_most: 8}]", "so much and so little"),
        ("[{name: a, macos: latest}]", "macos"),
        ("[]", "require"),
    ],
)
def test_lanes_that_nothing_fills_are_refused_with_the_file(lanes: str, told: str) -> None:
    """Each fault by its own words."""
    text = data.release_file().read_text(encoding="utf-8")
    old = text[text.index("  require:\n") : text.index("\n# A small language model")]
    text = text.replace(old, f"  require: {lanes}\n")
    document = release_yaml.parse(text.encode(), name="release.yaml")
    wrong = release_file.validate(document, {})[1]
    assert any(told in one for one in wrong), wrong
