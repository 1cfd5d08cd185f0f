"""What many measurements come to: mean, percentiles by nearest rank, and both ends.

Nearest rank: the p-th percentile of n sorted values is the ceil(p/100 * n)-th. It is always a value
that was measured, never one between two; of fewer than 20 values p95 is the largest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """The statistics of some measurements."""

    samples: int
    mean: float
    p50: float
    p95: float
    min: float
    max: float


def spread(measured: Sequence[float]) -> Spread:
    """The statistics of at least one finite measurement."""
    values = sorted(measured)
    return Spread(
        samples=len(values),
        # Division may round past the largest of equal values.
        mean=min(max(math.fsum(values) / len(values), values[0]), values[-1]),
        p50=nearest_rank(values, 50),
        p95=nearest_rank(values, 95),
        min=values[0],
        max=values[-1],
    )


def nearest_rank(values: Sequence[float], percent: int) -> float:
    """The percentile of sorted values, 1 to 100."""
    # In whole numbers: 0.95 * 20 is a little more than 19 in floating point.
    rank = -(-percent * len(values) // 100)
    return values[max(rank, 1) - 1]


def ratio(value: float, reference: float) -> float | None:
    """How many times the reference a value is; None where one of them was not measured."""
    if value <= 0 or reference <= 0:
        return None
    return value / reference
