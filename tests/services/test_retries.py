"""What is tried again, how often and how patiently."""

from __future__ import annotations

import itertools

import pytest

from release_tool import errors
from release_tool.services import retries


class _Failing:
    def __init__(self, *problems: errors.ReleaseError) -> None:
        self.problems = list(problems)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.problems:
            raise self.problems.pop(0)
        return "done"


def _policy(slept: list[float], attempts: int = 4) -> retries.Policy:
    return retries.Policy(attempts=attempts, sleep=slept.append)


def test_passing_faults_are_tried_again_with_growing_pauses() -> None:
    """Two faults, then success: three calls, pauses of a second at least."""
    slept: list[float] = []
    action = _Failing(errors.TransientError("a"), errors.TransientError("b"))
    assert retries.call(action, _policy(slept)) == "done"
    assert action.calls == 3
    assert len(slept) == 2
    assert 1.0 <= slept[0] <= 1.5 <= slept[1] <= 2.25


def test_a_verdict_is_never_tried_again() -> None:
    """A refusal is passed on at once, as it was."""
    slept: list[float] = []
    refusal = errors.RemoteRefusedError("no")
    action = _Failing(refusal)
    with pytest.raises(errors.RemoteRefusedError) as caught:
        retries.call(action, _policy(slept))
    assert caught.value is refusal
    assert (action.calls, slept) == (1, [])


def test_the_tries_are_bounded() -> None:
    """The last fault is what the reader sees."""
    slept: list[float] = []
    action = _Failing(*[errors.TransientError(f"{count}") for count in range(9)])
    with pytest.raises(errors.TransientError, match="3"):
        retries.call(action, _policy(slept))
    assert (action.calls, len(slept)) == (4, 3)


def test_pauses_end_where_a_service_asks_for_more_and_more() -> None:
    """Five minutes once, and not four times: the second refusal says when to come back."""
    slept: list[float] = []
    busy = [
        retries.BusyError("busy", subject="s", observed="429", wait_seconds=300) for _ in range(4)
    ]
    action = _Failing(*busy)
    with pytest.raises(retries.BusyError) as caught:
        retries.call(action, _policy(slept))
    assert caught.value is busy[1]
    assert (action.calls, slept) == (2, [300.0])


def test_pauses_grow_to_their_bound_with_jitter() -> None:
    """Pauses never fall under the first nor rise over the bound by more than a half."""
    taken = list(itertools.islice(retries.pauses(1.0, 8.0), 40))
    assert all(1.0 <= pause <= 12.0 for pause in taken)
    assert max(taken) > 6.0
    assert len(set(taken)) > 30
