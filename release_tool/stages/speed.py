"""How fast the provider answers, beside mlx-lm in the same run, and what the release asks for.

Everything is computed from the recorded answers alone, so that whoever holds the evidence can
compute and judge it again. A ratio is taken answer by answer, for the same prompt with as many at
once. A figure exists only where every one of its answers gave it: one answer whose rate cannot be
told must not vanish from a percentile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from release_tool import figures, threshold
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.plan import Smoke
from release_tool.threshold import METRICS, Metric, Threshold
from release_tool.values import SmokeAnswer, SmokeFigure, SmokePrompt, SmokeRound

_HINT = "slower than the release asks for: see smoke.thresholds, and do not ship"
_DIGITS = 6
# The same model on the same machine: what comes faster was kept back, and its rate says nothing.
_MOST_RATIO = 50.0


class _Times(NamedTuple):
    """One answer and the reference's; 0 where something was not measured."""

    first: float
    rate: float
    reference_first: float
    reference_rate: float


def of(prompts: Iterable[SmokePrompt], rounds: Iterable[SmokeRound]) -> tuple[SmokeFigure, ...]:
    """The figures of each metric, with each number of prompts at once.

    Args:
        prompts: what was asked one by one; they count among the rounds of one.
        rounds: what was asked at once.
    """
    answers: dict[int, list[_Times]] = {1: [_alone(prompt) for prompt in prompts]}
    for one in rounds:
        answers.setdefault(one.at_once, []).extend(_of_round(one))
    return tuple(
        _figure(metric, at_once, found)
        for at_once, times in sorted(answers.items())
        for metric in METRICS
        if (found := _measured(metric, times))
    )


def judge(smoke: Smoke, found: Sequence[SmokeFigure]) -> Iterator[Check]:
    """Hold the figures against each threshold; what was not measured fails.

    Args:
        smoke: its thresholds, and how many were to be asked at once.
        found: the figures.
    """
    by_place = {(one.metric, one.at_once): one for one in found}
    asked = sorted({1, *smoke.concurrency})
    for text in smoke.thresholds:
        wanted = threshold.parse(text)
        numbers = asked if wanted.at_once is None else [wanted.at_once]
        yield _judged(text, wanted, {n: by_place.get((wanted.metric, n)) for n in numbers})


def _judged(text: str, wanted: Threshold, found: Mapping[int, SmokeFigure | None]) -> Check:
    expected = f"{wanted.bound} {threshold.shown(wanted.metric, wanted.limit)}"
    missing = [f"b{number}" for number, figure in found.items() if figure is None]
    if missing:
        observed = f"not measured at {', '.join(missing)}"
        return checks.failed(text, expected=expected, observed=observed, hint=_HINT)
    values = {
        number: float(getattr(figure, wanted.statistic))
        for number, figure in found.items()
        if figure is not None
    }
    worst = max if wanted.bound == "<=" else min
    number = worst(values, key=values.__getitem__)
    observed = f"{threshold.shown(wanted.metric, values[number])} at b{number}"
    if wanted.allows(values[number]):
        return checks.passed(text, observed, expected=expected)
    return checks.failed(text, expected=expected, observed=observed, hint=_HINT)


def _measured(metric: Metric, answers: Sequence[_Times]) -> list[float]:
    """The metric of every answer; nothing where one of them does not give it."""
    found = [_one(metric, times) for times in answers]
    told = [value for value in found if value is not None and value > 0]
    return told if len(told) == len(found) else []


def _one(metric: Metric, times: _Times) -> float | None:
    if metric == "ttft":
        return times.first
    if metric == "decode":
        return times.rate
    if metric == "ttft_ratio":
        return figures.ratio(times.first, times.reference_first)
    found = figures.ratio(times.rate, times.reference_rate)
    return found if found is not None and found <= _MOST_RATIO else None


def _figure(metric: Metric, at_once: int, measured: Sequence[float]) -> SmokeFigure:
    spread = figures.spread(measured)
    rounded = {name: round(value, _DIGITS) for name, value in spread._asdict().items()}
    return SmokeFigure.model_validate({**rounded, "metric": metric, "at_once": at_once})


def _alone(prompt: SmokePrompt) -> _Times:
    return _Times(
        prompt.first_token_seconds,
        prompt.decode_tokens_per_second,
        prompt.reference_first_token_seconds,
        prompt.reference_decode_tokens_per_second,
    )


def _of_round(one: SmokeRound) -> Iterator[_Times]:
    for at, answer in enumerate(one.answers):
        beside: SmokeAnswer | None = one.reference[at] if at < len(one.reference) else None
        yield _Times(
            answer.first_token_seconds,
            answer.decode_tokens_per_second,
            beside.first_token_seconds if beside else 0.0,
            beside.decode_tokens_per_second if beside else 0.0,
        )
