"""The figures of the smoke runs as strips on one scale, beside thresholds and earlier releases."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from release_tool import smoke_lanes, smoke_records, threshold
from release_tool.report import smoke, smoke_before
from release_tool.report.page.told import SHOWN_EARLIER, Around, is_sane
from release_tool.threshold import METRICS, Metric, Threshold
from release_tool.values import SmokeEvidence, SmokeFigure

TITLES: Mapping[Metric, str] = {
    "ttft": "Time to the first text",
    "decode": "Decoding, tokens a second of each answer",
    "ttft_ratio": "Time to the first text, over the reference's",
    "decode_ratio": "Decoding, over the reference's rate",
}
_WIDTH = 1000
# A threshold that is further away would press all figures into one corner.
_FURTHEST = 3.0
_ROOM = 1.08
_MOST_STRIPS = 64
_MOST_RUNS = 16
"""As many lanes a release may ask for."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One release's figure with one number of prompts at once; places are thousandths."""

    release: str
    is_this: bool
    at_once: int
    samples: int
    low: int
    middle: int
    high95: int
    high: int
    limit: int | None
    """Where a threshold of it stands; None without one, or where it is beyond the scale."""
    shown: tuple[str, str, str, str, str]
    """min, p50, mean, p95, max, with their unit."""

    @property
    def described(self) -> str:
        """The strip in words."""
        low, middle, _, high95, high = self.shown
        return f"from {low} to {high}, half within {middle}, p95 {high95}"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One metric."""

    metric: str
    title: str
    better: str
    """`lower is better` or `higher is better`."""
    top: str
    """What the right edge stands for."""
    strips: tuple[Strip, ...]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A threshold as it was asked, and what was observed."""

    text: str
    held: bool
    expected: str
    observed: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """The smoke run of one host."""

    title: str
    is_stand_in: bool
    facts: tuple[tuple[str, str], ...]
    charts: tuple[Chart, ...]
    thresholds: tuple[Asked, ...]
    differing: tuple[tuple[str, str], ...]
    """Earlier releases whose figures are not comparable, and why."""


def of(around: Around) -> tuple[Run, ...]:
    """The runs that count, of every host, the newest last."""
    lanes = {
        evidence.transcript: smoke_before.lane_of(record, evidence.host)
        for record in smoke_records.counting(around.release.records)
        if (evidence := smoke_before.evidence_of(record))
    }
    return tuple(
        _run(one, tuple(_earlier(around, one, lanes.get(one.transcript, ""))))
        for one in around.smokes[-_MOST_RUNS:]
    )


def _earlier(around: Around, evidence: SmokeEvidence, lane: str) -> Iterator[SmokeEvidence]:
    """The same kind of host in earlier releases, as the report in Markdown compares it."""
    found = smoke_before.each(around.folder, evidence, lane)
    sane = (one for one in found if is_sane(one.model_dump(mode="json")))
    return itertools.islice(sane, SHOWN_EARLIER)


def _run(evidence: SmokeEvidence, earlier: Sequence[SmokeEvidence]) -> Run:
    before = [(one.version, one) for one in earlier]
    reports = [(version, smoke.of(evidence, found).differing) for version, found in before]
    return Run(
        title=smoke_lanes.shown(evidence.host),
        is_stand_in=evidence.kind == "stand-in",
        facts=smoke.of(evidence).run,
        charts=tuple(_charts(evidence, before)),
        thresholds=tuple(
            Asked(
                text=one.name,
                held=one.outcome == "passed",
                expected=one.expected,
                observed=one.observed,
            )
            for one in evidence.thresholds
        ),
        differing=tuple((version, why) for version, why in reports if why),
    )


def _charts(
    evidence: SmokeEvidence, before: Sequence[tuple[str, SmokeEvidence]]
) -> Iterator[Chart]:
    limits = _limits(evidence)
    releases = [(evidence.version, evidence, True), *((name, one, False) for name, one in before)]
    for metric, kind in METRICS.items():
        found = [
            (name, figure, is_this)
            for name, one, is_this in releases
            for figure in one.figures
            if figure.metric == metric
        ]
        if not found:
            continue
        top = _top([figure for _, figure, _ in found], limits.get(metric, ()))
        del found[_MOST_STRIPS:]
        found.sort(key=lambda one: one[1].at_once)  # stable: this release, then earlier ones
        yield Chart(
            metric=metric,
            title=TITLES[metric],
            better="lower is better" if kind.bound == "<=" else "higher is better",
            top=threshold.shown(metric, top),
            strips=tuple(
                _strip(
                    name, figure, top, limits.get(metric, ()) if is_this else (), is_this=is_this
                )
                for name, figure, is_this in found
            ),
        )


def _limits(evidence: SmokeEvidence) -> dict[Metric, tuple[Threshold, ...]]:
    found: dict[Metric, tuple[Threshold, ...]] = {}
    for one in evidence.thresholds:
        try:
            asked = threshold.parse(one.name)
        except threshold.ThresholdError:
            continue  # of another version of this tool
        found[asked.metric] = (*found.get(asked.metric, ()), asked)
    return found


def _top(figures: Sequence[SmokeFigure], limits: Sequence[Threshold]) -> float:
    largest = max((figure.max for figure in figures), default=0.0)
    near = [one.limit for one in limits if one.limit <= largest * _FURTHEST]
    return max([largest, *near, 0.0]) * _ROOM


def _strip(
    name: str, figure: SmokeFigure, top: float, limits: Sequence[Threshold], *, is_this: bool
) -> Strip:
    def place(value: float) -> int:
        return max(0, min(_WIDTH, round(value / top * _WIDTH))) if top > 0 else 0

    asked = [one.limit for one in limits if one.at_once in (None, figure.at_once)]
    near = [one for one in asked if 0 <= one <= top]
    low, middle, mean, high95, high = (
        threshold.shown(figure.metric, value).removesuffix(" tok/s")  # the title says it
        for value in (figure.min, figure.p50, figure.mean, figure.p95, figure.max)
    )
    return Strip(
        release=name,
        is_this=is_this,
        at_once=figure.at_once,
        samples=figure.samples,
        low=place(figure.min),
        middle=place(figure.p50),
        high95=place(figure.p95),
        high=place(figure.max),
        limit=place(near[0]) if near else None,
        shown=(low, middle, mean, high95, high),
    )
