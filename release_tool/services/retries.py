"""Bounded retries of what failed in passing; the only importer of tenacity.

Only `TransientError` is retried. Everything else is a verdict and is passed on at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from release_tool import errors
from release_tool.progress import Reporter, Silent
from release_tool.services import patience

_Result = TypeVar("_Result")
_RANDOM = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How often and how patiently to try again.

    Args:
        attempts: tries in all, the first one included.
        first_seconds: the shortest pause. R2 takes one write a second for each key.
        largest_seconds: the longest pause.
        idle_seconds: the most that all pauses take together. A service may ask for more; its
            error then says when to come back, and whoever waits longer than this asks again.
        sleep: how to wait; tests pass their own.
    """

    attempts: int = 5
    first_seconds: float = 1.0
    largest_seconds: float = 20.0
    idle_seconds: float = 300.0
    sleep: Callable[[float], None] = time.sleep


DEFAULT = Policy()


class BusyError(errors.TransientError):
    """A passing fault whose service says when to come back.

    Args:
        message: as for every error, with its further parts.
        wait_seconds: the shortest pause before the next try.
    """

    def __init__(self, message: str, *, subject: str, observed: str, wait_seconds: float) -> None:
        super().__init__(
            message,
            subject=subject,
            observed=observed,
            hint=f"run again in {wait_seconds:.0f} s",
        )
        self.wait_seconds = wait_seconds


def call(
    action: Callable[[], _Result], policy: Policy = DEFAULT, reporter: Reporter | None = None
) -> _Result:
    """Run `action` until it does not raise `TransientError`, as often as the policy allows.

    Raises:
        TransientError: the last one, when all tries failed in passing.
    """
    told = reporter or Silent()
    growing = pauses(policy.first_seconds, policy.largest_seconds)

    def tell(state: tenacity.RetryCallState) -> None:
        problem = state.outcome.exception() if state.outcome else None
        told.note(f"trying again in {state.upcoming_sleep:.0f} s: {problem}")

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(errors.TransientError),
        stop=lambda state: (
            state.attempt_number >= policy.attempts
            or state.idle_for + state.upcoming_sleep > policy.idle_seconds
        ),
        wait=lambda state: max(next(growing), _asked_for(state)),
        sleep=policy.sleep,
        before_sleep=tell,
        reraise=True,
    )
    return retrying(action)


def _asked_for(state: tenacity.RetryCallState) -> float:
    problem = state.outcome.exception() if state.outcome else None
    return problem.wait_seconds if isinstance(problem, BusyError) else 0.0


def pauses(first_seconds: float, largest_seconds: float) -> Iterator[float]:
    """Endless growing pauses, each up to a half longer, so that two pollers do not walk in step."""
    pause = first_seconds
    while True:
        yield patience.pause(pause * _RANDOM.uniform(1.0, 1.5))
        pause = min(pause * 1.5, largest_seconds)
