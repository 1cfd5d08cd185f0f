"""Waiting for a coordinator that serves nothing until it has read its approvals."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from release_tool.progress import Reporter
from release_tool.services import retries
from release_tool.services.coordinator_refusals import NotReadyError

_R = TypeVar("_R")
_FIRST_PAUSE_SECONDS = 1.0
_LARGEST_PAUSE_SECONDS = 10.0


def when_ready(
    action: Callable[[], _R],
    *,
    seconds: float,
    reporter: Reporter,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> _R:
    """Do it, and again while the coordinator says that it is not ready.

    Its approvals take up to half a minute to reach it (section 1.5 of its contract), which is
    longer than other passing faults are waited for.

    Args:
        action: what is asked; asks first itself where it must not be done twice.
        seconds: how long that is waited for.
        reporter: is told of it once.
        sleep: how to wait.
        clock: what measures the waiting.

    Raises:
        NotReadyError: it is not ready after that time.
        ReleaseError: whatever else the action raises.
    """
    deadline = clock() + seconds
    pauses = retries.pauses(_FIRST_PAUSE_SECONDS, _LARGEST_PAUSE_SECONDS)
    told = False
    while True:
        try:
            return action()
        except NotReadyError:
            left = deadline - clock()
            if left <= 0:
                raise
            if not told:
                told = True
                reporter.note(f"the coordinator is not ready, waiting for up to {left:.0f} s")
            sleep(min(next(pauses), left))
