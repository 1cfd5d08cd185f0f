"""Thresholds as a release file says them: `ttft:p95<=400ms`, `decode_ratio:b4>=0.8`.

    metric[:statistic][:bN] op number[unit]

Without a statistic the mean counts; without `bN` the threshold holds for every number of prompts
that were asked at once. What is better lower gets an upper bound only, what is better higher a
lower one: the other way round it would hold however slow the provider is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, cast

Metric = Literal["ttft", "decode", "ttft_ratio", "decode_ratio"]
Statistic = Literal["mean", "p50", "p95", "min", "max"]
Bound = Literal["<=", ">="]

STATISTICS: tuple[Statistic, ...] = ("mean", "p50", "p95", "min", "max")
DEFAULT: Statistic = "mean"
FORM = "metric[:statistic][:bN] op number[unit], such as ttft:p95<=400ms"
# The plan asks no more at once.
_MOST_AT_ONCE = 64
_PARTS = re.compile(
    r"([^\s:<>=]{1,32})((?::[^\s:<>=]{1,32}){0,4})\s{0,4}([<>=]{1,2})\s{0,4}"
    r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s{0,4}([^\s0-9]{0,16})",
)
_AT_ONCE = re.compile(r"b([1-9][0-9]?)")


class Kind(NamedTuple):
    """What a metric is measured in, and which end of it is the bad one."""

    units: Mapping[str, int]
    """How many of each unit make one of the metric's own; without "" one has to be said."""
    bound: Bound
    shown: str
    """The unit that people read it in."""


METRICS: Mapping[Metric, Kind] = {
    "ttft": Kind({"ms": 1000, "s": 1}, "<=", "ms"),
    "decode": Kind({"": 1, "tok/s": 1}, ">=", "tok/s"),
    "ttft_ratio": Kind({"": 1}, "<=", ""),
    "decode_ratio": Kind({"": 1}, ">=", ""),
}
"""`ttft`: from the request to the first text, seconds. `decode`: tokens a second behind the first,
of each answer. The ratios: each answer's figure over mlx-lm's for the same prompt, with as many
at once."""


class ThresholdError(ValueError):
    """A text is no threshold; the message says what was expected in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A bound on one statistic of one metric. Its text is what `parse` reads."""

    metric: Metric
    statistic: Statistic = DEFAULT
    at_once: int | None = None
    """Prompts asked at once; None for each number of them that was asked."""
    bound: Bound
    number: Decimal
    unit: str = ""

    @property
    def limit(self) -> float:
        """In the metric's own unit: seconds, tokens a second, or a plain ratio."""
        return float(self.number / METRICS[self.metric].units[self.unit])

    def allows(self, value: float) -> bool:
        """Whether a value, in the metric's own unit, is within the bound."""
        return value <= self.limit if self.bound == "<=" else value >= self.limit

    def __str__(self) -> str:
        statistic = "" if self.statistic == DEFAULT else f":{self.statistic}"
        at_once = "" if self.at_once is None else f":b{self.at_once}"
        return f"{self.metric}{statistic}{at_once}{self.bound}{self.number:f}{self.unit}"


def parse(text: str) -> Threshold:
    """Read a threshold.

    Raises:
        ThresholdError: it is none.
    """
    found = _PARTS.fullmatch(text.strip(" "))
    if found is None:
        raise ThresholdError(FORM)
    name, selectors, bound, number, unit = found.groups()
    metric = cast("Metric", _known("metric", name, METRICS))
    kind = METRICS[metric]
    if bound != kind.bound:
        raise ThresholdError(f"{kind.bound}, not {bound}: {metric} is {_better(kind)}")
    if unit not in kind.units:
        raise ThresholdError(_unit_fault(metric, kind, unit))
    statistic, at_once = _selected(selectors.split(":")[1:])
    return Threshold(
        metric=metric,
        statistic=statistic,
        at_once=at_once,
        bound=kind.bound,
        number=_plain(Decimal(number)),
        unit=unit,
    )


def shown(metric: Metric, value: float) -> str:
    """A value in the metric's own unit, as people read it: `84 ms`, `112.4 tok/s`, `0.93`."""
    if metric == "ttft":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.2f} s"
    return f"{value:.1f} tok/s" if metric == "decode" else f"{value:.3f}"


def _selected(words: Iterable[str]) -> tuple[Statistic, int | None]:
    statistic: str | None = None
    at_once: int | None = None
    for word in words:
        found = _AT_ONCE.fullmatch(word)
        if found and at_once is None and int(found[1]) <= _MOST_AT_ONCE:
            at_once = int(found[1])
        elif found:
            raise ThresholdError(f"at most one of b1 to b{_MOST_AT_ONCE}, not {word!r}")
        elif statistic is None:
            statistic = _known("statistic", word, STATISTICS)
        else:
            raise ThresholdError(f"one statistic, not {statistic!r} and {word!r}")
    return cast("Statistic", statistic or DEFAULT), at_once


def _known(what: str, word: str, known: Iterable[str]) -> str:
    if word in known:
        return word
    close = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ThresholdError(f"a {what} ({', '.join(known)}), not {word!r}{hint}")


def _unit_fault(metric: Metric, kind: Kind, unit: str) -> str:
    units = " or ".join(name for name in kind.units if name)
    wanted = f"{metric} in {units}" if units else f"{metric} without a unit"
    return f"{wanted}, not in {unit!r}" if unit else wanted


def _better(kind: Kind) -> str:
    return "better low" if kind.bound == "<=" else "better high"


def _plain(number: Decimal) -> Decimal:
    """Without needless zeros: 0.80 and 0.8 are one threshold."""
    return number.normalize() + 0
