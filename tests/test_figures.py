"""Statistics: by nearest rank, so that each percentile is a value that was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import figures

VALUES = st.lists(st.floats(min_value=0, max_value=1e9, allow_nan=False), min_size=1, max_size=50)


@given(VALUES)
def test_statistics_lie_between_the_ends(measured: list[float]) -> None:
    """Percentiles are measured values, and nothing lies beyond the ends."""
    found = figures.spread(measured)
    assert found.samples == len(measured)
    assert found.min <= found.p50 <= found.p95 <= found.max
    assert found.min <= found.mean <= found.max
    assert {found.p50, found.p95} <= set(measured)


@given(VALUES, st.integers(1, 100))
def test_a_percentile_is_the_least_that_enough_do_not_exceed(
    measured: list[float], percent: int
) -> None:
    """The definition itself: at least p percent are at most it, and of no lesser one."""
    values = sorted(measured)
    found = figures.nearest_rank(values, percent)
    enough = [one for one in values if sum(v <= one for v in values) * 100 >= percent * len(values)]
    assert found == enough[0]


def test_known_percentiles() -> None:
    """Of 1 to 20: the median is the 10th, p95 the 19th; of 1 to 4 p95 is the largest."""
    twenty = figures.spread([float(number) for number in range(20, 0, -1)])
    assert twenty == (20, 10.5, 10.0, 19.0, 1.0, 20.0)
    assert figures.spread([4.0, 1.0, 3.0, 2.0]) == (4, 2.5, 2.0, 4.0, 1.0, 4.0)
    assert figures.spread([0.1]) == (1, 0.1, 0.1, 0.1, 0.1, 0.1)


@pytest.mark.parametrize(("value", "reference"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (0.0, 0.0)])
def test_what_was_not_measured_has_no_ratio(value: float, reference: float) -> None:
    """A zero stands for what could not be told, and never becomes a good ratio."""
    assert figures.ratio(value, reference) is None
    assert figures.ratio(1.0, 2.0) == 0.5
