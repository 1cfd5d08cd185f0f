"""Lets two releases go one call at a time, in an order that is given: no luck in a race."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from release_tool.services.object_store import ObjectStore
from tests.small_world import SmallWorld


class Turns:
    """Lets two threads go one request at a time, in an order that is given."""

    def __init__(self, order: list[int]) -> None:
        self._order = iter(order)
        self._turn = threading.Condition()
        self._alive = {0, 1}
        # One release may make several calls at once.
        self._waiting: Counter[int] = Counter()
        self._granted: int | None = None
        self._favoured: list[int] = []
        self.taken = [0, 0]
        """How many calls each one made."""

    def take(self, who: int) -> None:
        with self._turn:
            self._waiting[who] += 1
            self._grant()
            assert self._turn.wait_for(lambda: self._granted == who, timeout=30)
            self._granted = None
            self.taken[who] += 1
            self._waiting[who] -= 1

    def give_back(self) -> None:
        """The call is over; another one of the same release may be waiting."""
        with self._turn:
            self._grant()

    def leave(self, who: int) -> None:
        with self._turn:
            self._alive.discard(who)
            self._grant()

    def let(self, who: int) -> None:
        """Let this one go next, whatever the order says: the other one waits for time to pass."""
        with self._turn:
            self._favoured.append(who)

    def _grant(self) -> None:
        if self._granted is None and self._alive and all(self._waiting[one] for one in self._alive):
            wish = self._favoured.pop() if self._favoured else next(self._order, 0)
            self._granted = wish if wish in self._alive else min(self._alive)
            self._turn.notify_all()


@dataclass
class InTurns:
    """The small world for one of two promoters: each call waits for its turn."""

    inner: SmallWorld
    turns: Turns
    who: int
    store: ObjectStore
    """The same for both: making a client takes long, and only one is ever at work."""

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def sleep(self, seconds: float) -> None:
        """Nobody stands still while the other one sleeps."""
        self.inner.sleep(seconds)
        self.turns.let(1 - self.who)

    def object_store(self) -> object:
        return _Waiting(self.store, self.turns, self.who)

    def coordinator(self) -> object:
        return _Waiting(self.inner.coordinator(), self.turns, self.who)


class _Waiting:
    """A client whose every call waits for its turn."""

    def __init__(self, inner: object, turns: Turns, who: int) -> None:
        self._inner, self._turns, self._who = inner, turns, who

    def __getattr__(self, name: str) -> object:
        method: object = getattr(self._inner, name)
        if not callable(method):
            return method

        def call(*given: object, **named: object) -> object:
            self._turns.take(self._who)
            try:
                return method(*given, **named)
            finally:
                self._turns.give_back()

        return call
