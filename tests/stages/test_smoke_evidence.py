"""Evidence is held against what is about to be done, by each stage that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.stages import (
    promote,
    publish,
    register,
    smoke_asked,
    smoke_evidence,
    smoke_launch,
)
from release_tool.values import CheckOutcome, SmokeEvidence, SmokePrompt, SmokeRound
from tests import small_world, smoke_samples
from tests.small_world import SmallWorld
from tests.stages import release_chain
from tests.stages.release_chain import Chain

VALID, OPENS = "the validate action worked", "accepted, Notarized Developer ID"
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


def without(evidence: SmokeEvidence, at: int) -> tuple[CheckOutcome, ...]:
    return (*evidence.checks[:at], *evidence.checks[at + 1 :])


def other_round(evidence: SmokeEvidence) -> SmokeRound:
    last = evidence.rounds[-1]
    answer = last.answers[0].model_copy(update={"prompt": "another"})
    return last.model_copy(update={"answers": (answer, *last.answers[1:])})


def without_tokens(evidence: SmokeEvidence) -> tuple[SmokeRound, ...]:
    last = evidence.rounds[-1]
    answer = last.answers[0].model_copy(update={"completion_tokens": 0})
    return (*evidence.rounds[:-1], last.model_copy(update={"answers": (answer, *last.answers[1:])}))


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
        ({"rounds": (*chain.evidence.rounds[:-1], other_round(chain.evidence))}, "answers at once"),
        ({"prompts": [prompt.model_copy(update={"agreed_tokens": 0})]}, "prompts"),
        ({"prompts": [prompt.model_copy(update={"text": ""})]}, "prompts"),
        ({"prompts": [prompt.model_copy(update={"completion_tokens": 24})]}, "prompts"),
        ({"rounds": without_tokens(chain.evidence)}, "answers at once"),
        ({"long": chain.evidence.long.model_copy(update={"agrees": False})}, "long answer"),
        ({"long": prompt}, "long answer"),
        ({"long": counted(chain.evidence.long, 1)}, "long answer"),
        ({"prompts": [counted(prompt, plan.smoke.max_tokens + 1)]}, "prompts"),
        ({"agreement": "prefix 1"}, "agreement"),
        ({"contract": "2026-10"}, "contract"),
        ({"checks": (*chain.evidence.checks, failed)}, "checks"),
        ({"needs": (failed,)}, "needs of the bundle"),
        ({"install": (failed,)}, "installer"),
    ]
    changes += [({"checks": without(chain.evidence, at)}, "checks") for at in range(0, 12, 3)]
    for change, named in changes:
        chain.evidence = SmokeEvidence.model_validate(good | change)
        with pytest.raises(errors.VerificationError, match=f"does not allow {act}") as caught:
            ACTS[act](chain)
        assert [line.split(":")[0] for line in caught.value.details] == [named]
    assert state(servers) == before


def counted(prompt: SmokePrompt, tokens: int) -> SmokePrompt:
    """The same answer, of so many tokens on both sides."""
    names = ("completion_tokens", "agreed_tokens", "reference_tokens")
    return prompt.model_copy(update=dict.fromkeys(names, tokens))


@pytest.mark.parametrize("act", ["publishing", "registering"])
def test_evidence_of_another_signature_opens_nothing(
    act: str, servers: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The same executable under another signature, or one that nobody has read, is not this."""
    chain = stand_before(act, servers, plan, tmp_path)
    good, before = chain.evidence, state(servers)
    for other in ("9" * 40, ""):
        chain.evidence = good.model_copy(update={"cdhash": other})
        with pytest.raises(errors.VerificationError, match=f"does not allow {act}") as caught:
            ACTS[act](chain)
        assert [line.split(":")[0] for line in caught.value.details] == ["cdhash"]
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
        *("checks", "kind", "host", "what ran", "--version"),
        *("needs of the bundle, judged", "installer, judged"),
    ]
    assert state(servers) == before


@pytest.mark.parametrize("kind", ["needs", "install"])
def test_one_check_of_a_bundle_or_its_installer_is_no_judgement(
    kind: str, plan: ReleasePlan
) -> None:
    """Each need and each trial that a good release passes has to stand there, and passed."""
    real = plan.environment.model_copy(
        update={"provider": "bundle", "built_in": ("api.example",), "trust": "look-alike"}
    )
    asked = plan.model_copy(update={"environment": real})

    def publish(**change: object) -> None:
        evidence = smoke_samples.of_bundle(asked, **change)
        smoke_evidence.require(
            asked,
            evidence,
            archive_sha256="a" * 64,
            binary_sha256="b" * 64,
            act="publishing",
        )

    publish()
    good: tuple[CheckOutcome, ...] = getattr(smoke_samples.of_bundle(asked), kind)
    assert len(good) > 10
    for at, one in enumerate(good):
        open_ = one.model_copy(update={"outcome": "not_checked"})
        for others in ((), (open_,)):
            with pytest.raises(errors.VerificationError) as caught:
                publish(**{kind: (*good[:at], *others, *good[at + 1 :])})
            (line,) = caught.value.details
            assert f", judged: expected all passed, observed {one.name}" in line
    with pytest.raises(errors.VerificationError, match="does not allow"):
        publish(**{kind: (CheckOutcome(name="judged", outcome="passed"),)})


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ({}, "codesign not asked; spctl not asked; stapler not asked"),
        ({"codesign": "accepted", "stapler": VALID}, "spctl not asked"),
        (
            {"codesign": "accepted", "stapler": VALID, "spctl": "refused: rejected"},
            "spctl refused: rejected",
        ),
        (
            {"codesign": "not told: no codesign here", "stapler": VALID, "spctl": OPENS},
            "codesign not told: no codesign here",
        ),
        ({"codesign": "rejected", "stapler": VALID, "spctl": OPENS}, "codesign rejected"),
        ({"codesign": "accepted", "stapler": "no", "spctl": OPENS}, "stapler no"),
        (
            {"codesign": "accepted", "stapler": VALID, "spctl": "override=security disabled"},
            "spctl override=security disabled",
        ),
    ],
)
def test_macos_has_to_have_judged_what_ran(
    verdicts: Mapping[str, str], told: str, plan: ReleasePlan
) -> None:
    """Where Apple is trusted, a record without each good verdict of macOS opens nothing."""
    real = plan.environment.model_copy(
        update={"provider": "bundle", "trust": "apple", "notarization": "required"}
    )
    asked = plan.model_copy(update={"environment": real})

    def publish(verdicts: Mapping[str, str]) -> None:
        smoke_evidence.require(
            asked,
            smoke_samples.of_bundle(asked, macos_verdicts=dict(verdicts)),
            archive_sha256="a" * 64,
            binary_sha256="b" * 64,
            act="publishing",
        )

    publish({"codesign": "accepted", "spctl": OPENS, "stapler": VALID})
    with pytest.raises(errors.VerificationError) as caught:
        publish(verdicts)
    (line,) = caught.value.details
    assert line.startswith("macOS: ")
    assert told in line


def test_each_executable_has_to_have_started(plan: ReleasePlan) -> None:
    """What a real environment asks grows with the executables and helpers of the bundle."""
    real = plan.environment.model_copy(update={"provider": "bundle"})
    asked = smoke_asked.of(plan.model_copy(update={"environment": real}))
    started = {one.subject for one in asked if one.name == "starts with --version"}
    assert started == set(smoke_launch.paths(plan))
    assert started


def test_october_is_asked_what_may_is_not(plan: ReleasePlan) -> None:
    """Its own markers, the environment it was built for, and its key."""
    smoke = plan.smoke.model_copy(update={"contract": "2026-10", "authorization": "token"})
    more = smoke_asked.of(plan.model_copy(update={"smoke": smoke})) - smoke_asked.of(plan)
    assert {one.name for one in more} == {
        *("runtime-smoke", "built for", "key file is private"),
        *("models without a key", "request without a key", "request with another key"),
    }


def test_what_decides_is_part_of_each_record() -> None:
    """A changed prompt or kind of provider makes each of the three records stop counting."""
    for stage in (publish, register, promote):
        assert set(smoke_evidence.READS) <= set(stage.READS)


def test_a_record_of_an_older_shape_stops_counting() -> None:
    """What an older tool recorded lacks what is asked now: it is no evidence, and smoke repeats."""
    old = smoke_samples.evidence().model_dump(mode="json")
    for name in ("checks", "rounds", "long", "cdhash", "transcript_sha256"):
        del old[name]
        with pytest.raises(ValidationError):
            SmokeEvidence.model_validate(old)
