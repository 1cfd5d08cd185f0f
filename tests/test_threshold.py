"""Thresholds: a tiny grammar that reads back what it writes, and names what is wrong."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import threshold
from release_tool.threshold import METRICS, STATISTICS, Threshold, ThresholdError


@st.composite
def thresholds(draw: st.DrawFn) -> Threshold:
    metric = draw(st.sampled_from(sorted(METRICS)))
    kind = METRICS[metric]
    digits = draw(st.integers(0, 10**9 - 1))
    # As `parse` keeps it: without needless zeros.
    number = (Decimal(digits).scaleb(-draw(st.integers(0, 6)))).normalize() + 0
    return Threshold(
        metric=metric,
        statistic=draw(st.sampled_from(STATISTICS)),
        at_once=draw(st.none() | st.integers(1, 64)),
        bound=kind.bound,
        number=number,
        unit=draw(st.sampled_from(sorted(kind.units))),
    )


@given(thresholds())
def test_what_is_written_is_read_back(made: Threshold) -> None:
    """The text of a threshold is the threshold."""
    assert threshold.parse(str(made)) == made


@given(st.text(max_size=80) | st.from_regex(r"[a-z_]{1,12}(:[a-z0-9]{1,4}){0,3}[<>=]{1,2}[0-9.]+"))
def test_any_text_is_a_threshold_or_refused(text: str) -> None:
    """No text ends in anything but a threshold, which reads back, or the one error."""
    try:
        found = threshold.parse(text)
    except ThresholdError:
        return
    assert threshold.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "limit", "good", "bad"),
    [
        ("ttft:p95<=400ms", 0.4, 0.4, 0.4001),
        ("ttft<=1.5s", 1.5, 1.5, 1.51),
        ("ttft : p95 <= 700 ms", None, None, None),
        ("ttft:p95 <= 700 ms", 0.7, 0.7, 0.71),
        ("decode_ratio:b4>=0.80", 0.8, 0.8, 0.79),
        ("decode:min:b2>=30tok/s", 30, 30, 29.9),
        ("ttft_ratio:b1:max<=1.2", 1.2, 1.2, 1.21),
    ],
)
def test_a_bound_holds_up_to_its_number(
    text: str, limit: float | None, good: float, bad: float
) -> None:
    """A value at the number passes, one beyond fails, in the metric's own unit."""
    if limit is None:
        with pytest.raises(ThresholdError):
            threshold.parse(text)
        return
    found = threshold.parse(text)
    assert found.limit == limit
    assert found.allows(good)
    assert not found.allows(bad)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "such as ttft:p95<=400ms"),
        ("ttft", "such as ttft:p95<=400ms"),
        ("ttfb<=1s", "not 'ttfb'; did you mean ttft?"),
        ("decode-ratio>=1", "not 'decode-ratio'; did you mean decode_ratio?"),
        ("ttft:p59<=1s", "not 'p59'; did you mean p95?"),
        ("ttft:p50:p95<=1s", "one statistic, not 'p50' and 'p95'"),
        ("ttft:b1:b2<=1s", "at most one of b1 to b64, not 'b2'"),
        ("ttft:b65<=1s", "at most one of b1 to b64, not 'b65'"),
        ("ttft<=400", "ttft in ms or s"),
        ("ttft<=400min", "ttft in ms or s, not in 'min'"),
        ("decode_ratio>=0.8x", "decode_ratio without a unit, not in 'x'"),
        ("decode_ratio<=0.8", ">=, not <=: decode_ratio is better high"),
        ("ttft>=1s", "<=, not >=: ttft is better low"),
        ("ttft<1s", "<=, not <: ttft is better low"),
        ("ttft<=-1s", "such as"),
        ("ttft<=1e3s", "such as"),
        ("ttft<=\u0661s", "such as"),
        ("ttft<=nans", "such as"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    """Each fault says what was expected, and the nearest word where one is near."""
    with pytest.raises(ThresholdError) as caught:
        threshold.parse(text)
    assert told in str(caught.value)


def test_values_are_shown_with_their_unit() -> None:
    """Milliseconds below a second, tokens a second, plain ratios."""
    told = [threshold.shown("ttft", 0.0842), threshold.shown("ttft", 2.5)]
    told += [threshold.shown("decode", 112.44), threshold.shown("decode_ratio", 0.93)]
    assert told == ["84.2 ms", "2.50 s", "112.4 tok/s", "0.930"]
