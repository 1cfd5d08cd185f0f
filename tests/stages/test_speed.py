"""Figures and thresholds, from recorded answers: no clock runs here."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from release_tool import errors
from release_tool.plan import ReleasePlan, Smoke
from release_tool.stages import findings, smoke_evidence, speed
from release_tool.values import SmokeAnswer, SmokeFigure, SmokePrompt, SmokeRound
from tests import smoke_samples


def answer(first: float, rate: float) -> SmokeAnswer:
    return SmokeAnswer(
        prompt="q", completion_tokens=9, first_token_seconds=first, decode_tokens_per_second=rate
    )


def prompt(first: float, rate: float, beside: tuple[float, float] = (0.1, 100.0)) -> SmokePrompt:
    times = {
        "first_token_seconds": first,
        "decode_tokens_per_second": rate,
        "reference_first_token_seconds": beside[0],
        "reference_decode_tokens_per_second": beside[1],
    }
    return smoke_samples.prompt().model_copy(update=times)


def together(
    *given: tuple[float, float], reference: Sequence[tuple[float, float]] = ()
) -> SmokeRound:
    return SmokeRound(
        at_once=len(given),
        seconds=1.0,
        answers=tuple(answer(*one) for one in given),
        reference=tuple(answer(*one) for one in reference),
    )


PROMPTS = (prompt(0.1, 90.0), prompt(0.3, 110.0))
ROUNDS = (
    together((0.2, 100.0), reference=[(0.1, 100.0)]),
    together((0.4, 40.0), (0.6, 60.0), reference=[(0.2, 50.0), (0.2, 100.0)]),
)


def figure(found: Sequence[SmokeFigure], metric: str, at_once: int) -> SmokeFigure:
    [one] = [one for one in found if (one.metric, one.at_once) == (metric, at_once)]
    return one


def policy(*thresholds: str, concurrency: tuple[int, ...] = (1, 2)) -> Smoke:
    return Smoke(prompts=("q",), model="m", thresholds=thresholds, concurrency=concurrency)


def observed(*thresholds: str, rounds: Sequence[SmokeRound] = ROUNDS) -> list[tuple[str, str]]:
    found = speed.judge(policy(*thresholds), speed.of(PROMPTS, rounds))
    return [(check.outcome, check.observed) for check in found]


def test_figures_of_each_number_at_once() -> None:
    """Prompts asked one by one count as rounds of one; ratios are taken answer by answer."""
    found = speed.of(PROMPTS, ROUNDS)
    alone = figure(found, "ttft", 1)
    assert (alone.samples, alone.mean, alone.p50, alone.p95) == (3, 0.2, 0.2, 0.3)
    two = figure(found, "ttft_ratio", 2)
    assert (two.samples, two.min, two.max, two.mean) == (2, 2.0, 3.0, 2.5)
    rates = figure(found, "decode_ratio", 2)
    assert (rates.min, rates.max, rates.mean) == (0.6, 0.8, 0.7)
    assert len(found) == 8


def test_rounds_of_one_number_are_taken_together() -> None:
    """A number that is listed twice has the answers of both rounds in its figures."""
    found = speed.of((), (ROUNDS[1], ROUNDS[1]))
    assert figure(found, "decode", 2).samples == 4


def test_a_threshold_is_held_against_its_statistic() -> None:
    """Each passes or fails by the figure that it names, and tells it."""
    assert observed("ttft:p95:b1<=300ms", "ttft:p95:b1<=299ms") == [
        ("passed", "300 ms at b1"),
        ("failed", "300 ms at b1"),
    ]
    assert observed("decode_ratio:b2>=0.7", "decode_ratio:min:b2>=0.7") == [
        ("passed", "0.700 at b2"),
        ("failed", "0.600 at b2"),
    ]


def test_without_a_number_the_worst_counts() -> None:
    """It must hold with each number of prompts at once."""
    assert observed("ttft:max<=500ms", "decode:mean>=60tok/s") == [
        ("failed", "600 ms at b2"),
        ("failed", "50.0 tok/s at b2"),
    ]


@pytest.mark.parametrize(
    "rounds",
    [
        (),
        (together((0.4, 40.0), (0.6, 60.0)),),
        (together((0.4, 0.0), (0.6, 60.0), reference=[(0.2, 50.0), (0.2, 100.0)]),),
        (together((0.4, 40.0), (0.6, 60.0), reference=[(0.2, 0.0), (0.2, 100.0)]),),
    ],
    ids=["not asked", "no reference", "a rate not told", "a reference not told"],
)
def test_what_was_not_measured_does_not_pass(rounds: Sequence[SmokeRound]) -> None:
    """One answer without its figure is enough: it must not vanish from a percentile."""
    wanted = ["decode_ratio:b2>=0.000001", "decode_ratio>=0.000001"]
    assert observed(*wanted, rounds=rounds) == [("failed", "not measured at b2")] * 2


def test_a_rate_that_cannot_be_is_not_measured() -> None:
    """Sixty times as fast as the same model by mlx-lm: it was kept back, and came at once."""
    found = speed.of((*PROMPTS, prompt(0.1, 6000.0)), ROUNDS)
    kinds = {(one.metric, one.at_once) for one in found}
    assert ("decode", 1) in kinds
    assert ("decode_ratio", 1) not in kinds
    [check] = speed.judge(policy("decode_ratio:p50:b1>=0.5"), found)
    assert (check.outcome, check.observed) == ("failed", "not measured at b1")


def test_each_missed_threshold_is_listed() -> None:
    """Exit 6, with the threshold as it was written, what it wants and what was observed."""
    wanted = policy("ttft:b1<=1ms", "ttft:b1<=9s", "decode_ratio:b2>=0.8")
    with pytest.raises(errors.VerificationError) as caught:
        findings.require(speed.judge(wanted, speed.of(PROMPTS, ROUNDS)), "too slow")
    assert caught.value.exit_code == 6
    assert caught.value.details == (
        "ttft:b1<=1ms: expected <= 1 ms, observed 200 ms at b1",
        "decode_ratio:b2>=0.8: expected >= 0.800, observed 0.700 at b2",
    )


def test_evidence_is_judged_again_from_its_answers(plan: ReleasePlan) -> None:
    """Who publishes holds the answers against the plan's thresholds, whatever the record claims."""
    made = smoke_samples.of(plan, version="0.5.0")
    claims = made.model_copy(update={"figures": speed.of(PROMPTS, ())})

    def publish(*thresholds: str) -> None:
        smoke = plan.smoke.model_copy(update={"thresholds": thresholds})
        smoke_evidence.require(
            plan.model_copy(update={"smoke": smoke, "version": "0.5.0"}),
            claims,
            archive_sha256="a" * 64,
            binary_sha256="b" * 64,
            act="publishing",
        )

    publish("ttft:b4<=100ms")
    with pytest.raises(errors.VerificationError, match="does not allow publishing") as caught:
        publish("ttft:b4<=99ms", "decode_ratio:b4>=0.5")
    assert caught.value.details == (
        "ttft:b4<=99ms: expected <= 99 ms, observed 100 ms at b4",
        "decode_ratio:b4>=0.5: expected >= 0.500, observed not measured at b4",
    )
