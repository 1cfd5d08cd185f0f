"""What `-v` explains: whom the tool asks, what it reuses and why, and how long each took.

Whoever knows a fact tells it here; without `-v` nobody listens, and telling costs nothing. What
is told names no value of a setting, and the listener covers every line all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

Listener = Callable[[str], None]


class _Heard:
    by: ClassVar[Listener | None] = None


def listen(listener: Listener | None) -> None:
    """Let this process tell it from now on; None for nobody."""
    _Heard.by = listener


def tell(text: str) -> None:
    """One fact in one line."""
    if _Heard.by is not None:
        _Heard.by(text)


class Question:
    """One request on its way."""

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer = "no answer"


@contextmanager
def asking(what: str) -> Iterator[Question]:
    """Tell a request with its answer, as soon as that is known or given up.

    Args:
        what: method and address, without a query: that may be a signature.
    """
    question, started = Question(), time.monotonic()
    try:
        yield question
    finally:
        tell(f"{what}: {question.answer}, {time.monotonic() - started:.2f} s")
