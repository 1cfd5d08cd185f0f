"""How long this process waits for others, as a release's plan says: one place for all services.

Each call has a bound of its own. The plan can only shorten them: a run against look-alikes that
stall and cut would wait out minutes of them, and prove no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What the plan allows.

    Args:
        answer_seconds: the most that is waited for any one answer.
        pause_share: the share of every pause between tries that is kept, at most 1.
    """

    answer_seconds: float = math.inf
    pause_share: float = 1.0


class _Held:
    patience = Patience()


def hold(patience: Patience) -> None:
    """Let this process wait no longer than that from now on."""
    _Held.patience = patience


def answer(seconds: float) -> float:
    """The bound of one answer whose own bound is `seconds`."""
    return min(seconds, _Held.patience.answer_seconds)


def pause(seconds: float) -> float:
    """The pause in place of one of `seconds`."""
    return seconds * _Held.patience.pause_share
