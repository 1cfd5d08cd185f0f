"""Calls at the same time: one that fails ends the others, and they share one bar."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from release_tool.progress import Reporter, Silent
from release_tool.services.at_once import StoppedError, Together


class _Bar(Silent):
    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def advance(self, task: str, count_bytes: int) -> None:
        self.seen[task] = self.seen.get(task, 0) + count_bytes


def test_all_go_on_at_the_same_time_and_answer_in_order() -> None:
    """Each waits until all have begun, which they could not in turn."""
    met = threading.Barrier(3, timeout=30)

    def call(number: int) -> Callable[[], int]:
        return lambda: (met.wait(), number)[1]

    answers = Together().run([call(number) for number in range(3)], at_once=3, name="call")
    assert answers == [0, 1, 2]


def test_the_first_failure_ends_the_others_at_their_next_bytes() -> None:
    """It is what is raised, and not what it did to them; who has not begun never begins."""
    together, begun, stopped = Together(), threading.Event(), threading.Event()
    voice = together.voice(Silent(), "read")

    def endless() -> None:
        begun.set()
        try:
            while True:
                voice.advance("read", 1)
        except StoppedError:
            stopped.set()
            raise

    def failing() -> None:
        assert begun.wait(30)
        raise ConnectionError("broken")

    def later() -> None:
        pytest.fail("begun")

    calls = [endless, failing, *[later] * 9]
    with pytest.raises(ConnectionError, match="broken"):
        together.run(calls, at_once=2, name="call")
    assert stopped.is_set()


def test_a_call_that_begins_anew_takes_its_share_of_the_bar_back() -> None:
    """Both tell of one task; the broken try of one is not counted, whatever it calls its own."""
    together, bar = Together(), _Bar()

    def call(tries: int) -> Callable[[], None]:
        voice: Reporter = together.voice(bar, "read back")

        def read() -> None:
            for _ in range(tries):
                voice.start("mine", 5)
                for _ in range(5):
                    voice.advance("mine", 1)
                voice.finish("mine")

        return read

    together.run([call(1), call(3)], at_once=2, name="call")
    assert bar.seen == {"read back": 10}
