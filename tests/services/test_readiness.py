"""Waiting for a coordinator that is not ready: for its own time, and for nothing else."""

from __future__ import annotations

import pytest

from release_tool import errors
from release_tool.services import readiness
from release_tool.services.coordinator_refusals import NotReadyError, NotTakenError
from tests.stages.release_parts import Told


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def read(self) -> float:
        return self.now


def ask(clock: Clock, ready_at: float, problem: errors.ReleaseError, told: Told) -> str:
    def answer() -> str:
        if clock.now < ready_at:
            raise problem
        return "served"

    return readiness.when_ready(
        answer, seconds=150, reporter=told, sleep=clock.sleep, clock=clock.read
    )


def test_what_is_not_ready_is_waited_for_and_told_once() -> None:
    """Half a minute and more; one line says so."""
    clock, told = Clock(), Told()
    assert ask(clock, 60, NotReadyError("not ready"), told) == "served"
    assert 60 <= clock.now < 75
    assert told.notes == ["the coordinator is not ready, waiting for up to 150 s"]


def test_the_waiting_has_an_end() -> None:
    """At its bound the last answer is the error."""
    clock = Clock()
    with pytest.raises(NotReadyError):
        ask(clock, 10_000, NotReadyError("not ready"), Told())
    assert clock.now == pytest.approx(150)


def test_no_other_fault_is_waited_for_here() -> None:
    """They are tried again elsewhere, and not as long."""
    clock = Clock()
    with pytest.raises(NotTakenError):
        ask(clock, 1, NotTakenError("busy"), Told())
    assert clock.now == 0
