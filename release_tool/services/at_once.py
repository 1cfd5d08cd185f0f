"""Calls that go on at the same time, each in a thread of its own, and end together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import TypeVar

from release_tool.progress import Reporter

T = TypeVar("T")


class StoppedError(Exception):
    """Another call has failed, so this one goes on for nothing."""


@dataclass(frozen=True, slots=True)
class Together:
    """Some calls of which the first that fails for good ends the others at their next bytes."""

    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _telling: threading.Lock = field(default_factory=threading.Lock, init=False)

    def run(self, calls: Sequence[Callable[[], T]], *, at_once: int, name: str) -> list[T]:
        """What each call returned, in order.

        Args:
            calls: each must look at `check` now and then, or talk to a `voice`.
            at_once: how many go on at the same time.
            name: of the threads.

        Raises:
            whatever the first that failed raised, and not what that did to the others.
        """
        pool = futures.ThreadPoolExecutor(at_once, name)
        going = [pool.submit(call) for call in calls]
        try:
            ended = futures.wait(going, return_when=futures.FIRST_EXCEPTION)
        except BaseException:
            # Interrupted: nobody waits for connections that may have stalled.
            self._stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        failed = [one for one in ended.done if one.exception()]
        if failed:
            self._stop.set()
        pool.shutdown(cancel_futures=True)
        return [one.result() for one in failed or going]

    def check(self) -> None:
        """Whether to go on.

        Raises:
            StoppedError: no.
        """
        if self._stop.is_set():
            raise StoppedError

    def tell(self, reporter: Reporter, task: str, count_bytes: int) -> None:
        """Add to a task that these calls share: reporters are not made for threads.

        Raises:
            StoppedError: another call has failed.
        """
        self.check()
        with self._telling:
            reporter.advance(task, count_bytes)

    def voice(self, reporter: Reporter, task: str) -> Reporter:
        """What one call may talk to, where all of them share the one task."""
        return _Voice(self, reporter, task)


class _Voice:
    """A reporter for one of the calls; a task of its own is its share of theirs."""

    def __init__(self, together: Together, reporter: Reporter, task: str) -> None:
        self._together = together
        self._reporter = reporter
        self._task = task
        self._told = 0

    def note(self, text: str) -> None:
        self._reporter.note(text)

    def warn(self, text: str) -> None:
        self._reporter.warn(text)

    def start(self, task: str, total_bytes: int | None) -> None:
        """Begin the share, or begin it anew: a bar must not run over its end."""
        del task, total_bytes
        self.advance(self._task, -self._told)

    def advance(self, task: str, count_bytes: int) -> None:
        del task
        self._told += count_bytes
        self._together.tell(self._reporter, self._task, count_bytes)

    def finish(self, task: str) -> None: ...
