"""Whether a provider streams its answer while it makes it, whatever else this machine does.

Who keeps an answer back until it is whole sends all of it at once. So does, for the reader, an
honest stream while the reader or the server gets no processor; but the longer an answer takes, the
less of it is hidden so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.services.chat import Completion, Question

NAME = "streams while it generates"
ATTEMPTS = 5
# Of a long answer, nine tenths and more come behind the first token, wherever prompts are short.
_SHARE = 0.1
# Some seconds of a provider whose shorter answers are over before a reader wakes up.
_MOST_TOKENS = 400


def share(answer: Completion) -> float:
    """How much of an answer's time lies behind its first text."""
    whole = answer.first_token_seconds + answer.decode_seconds
    return answer.decode_seconds / whole if whole > 0 else 0.0


def longer(question: Question, shares: Sequence[float]) -> Question | None:
    """What to ask next, by the shares up to now; None where enough is known."""
    if shares[-1] >= _SHARE or len(shares) >= ATTEMPTS:
        return None
    most = max(question.max_tokens, _MOST_TOKENS)
    return replace(question, max_tokens=min(question.max_tokens * 2 ** len(shares), most))


def judge(shares: Sequence[float]) -> Check:
    """Whether at least one answer came while it was made."""
    told = f"text for {shares[-1]:.0%} of its time"
    if shares[-1] >= _SHARE:
        return checks.passed(NAME, told)
    return checks.failed(
        NAME,
        expected=f"text for {_SHARE:.0%} of its time at least",
        observed=f"{told}, in each of {len(shares)} attempts",
        hint="it keeps its answer back until it has all of it: no rate can be told of that",
    )
