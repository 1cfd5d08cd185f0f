"""An end for every answer: nothing that trickles in lasts longer than its bound.

A socket's own timeout bounds one silence. A byte now and then, in the headers or in the body,
never meets it, and neither library counts the whole. So a clock runs beside each answer that is
awaited, and shuts its connection down; what reads there meets the end of a broken connection.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Guard:
    """The clock of one thread's requests."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self.is_over = False

    def attend(self, connection: socket.socket) -> None:
        """Give an answer that is awaited now its time."""
        self.leave()
        timer = threading.Timer(self._seconds, self._end, (connection,))
        timer.daemon = True
        with self._lock:
            self._timer = timer
        timer.start()

    def leave(self) -> None:
        """Let what was attended go on without a clock."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _end(self, connection: socket.socket) -> None:
        self.is_over = True
        with contextlib.suppress(OSError):
            # The plain socket's, under TLS too: the other takes the session from who reads now.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


_current = threading.local()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bound each answer that this thread awaits in here, from the end of its request on."""
    before = getattr(_current, "guard", None)
    guard = _current.guard = _Guard(seconds)
    try:
        yield
    finally:
        guard.leave()
        _current.guard = before


class Watched:
    """Mixed into a library's connection: awaiting an answer starts the clock."""

    sock: Any

    def getresponse(self, *args: Any, **more: Any) -> Any:  # noqa: ANN401 - the library's own
        """Await the answer of a request that is sent.

        Raises:
            TimeoutError: its time is up; headers that were cut would be taken for whole.
        """
        guard = getattr(_current, "guard", None)
        if guard is not None and self.sock is not None:
            guard.attend(self.sock)
        found = super().getresponse(*args, **more)  # type: ignore[misc]
        if guard is not None and guard.is_over:
            found.close()
            raise TimeoutError("the answer did not end in time")
        return found
