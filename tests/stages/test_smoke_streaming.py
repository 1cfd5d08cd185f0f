"""Who keeps an answer back is told from an honest stream on a machine that has no time."""

from __future__ import annotations

import pytest

from release_tool.services.chat import Completion, Question
from release_tool.stages import smoke_streaming

QUESTION = Question(model="m", prompt="q", max_tokens=24)


def answer(first: float, decode: float) -> Completion:
    return Completion(text="a", tokens=24, first_token_seconds=first, decode_seconds=decode)


def test_the_share_is_of_the_whole_time() -> None:
    """From the request to the last text; of an answer in no time there is none."""
    assert smoke_streaming.share(answer(1.0, 3.0)) == pytest.approx(0.75)
    assert smoke_streaming.share(answer(2.0, 0.0)) == 0.0
    assert smoke_streaming.share(answer(0.0, 0.0)) == 0.0


def test_a_stream_in_one_piece_is_asked_for_more() -> None:
    """Each time for twice as much, up to a bound; what shows that it streams ends the asking."""
    asked, shares = [], [0.0]
    while more := smoke_streaming.longer(QUESTION, shares):
        asked.append(more.max_tokens)
        shares.append(0.0)
    assert asked == [48, 96, 192, 384]
    assert len(shares) == smoke_streaming.ATTEMPTS
    assert smoke_streaming.judge(shares).outcome == "failed"
    assert "in each of 5 attempts" in smoke_streaming.judge(shares).observed
    assert smoke_streaming.longer(QUESTION, [0.0, 0.5]) is None
    assert smoke_streaming.judge([0.0, 0.5]).outcome == "passed"


def test_no_more_is_asked_for_than_the_bound_or_the_question() -> None:
    """A question that is longer by itself is asked again as it is."""
    long = Question(model="m", prompt="q", max_tokens=1000)
    again = smoke_streaming.longer(long, [0.0])
    assert again is not None
    assert again.max_tokens == 1000
    again = smoke_streaming.longer(QUESTION, [0.0] * 4)
    assert again is not None
    assert again.max_tokens == 384
