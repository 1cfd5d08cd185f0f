"""Inputs that once ended in something else than a value or the format's own error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Regression(NamedTuple):
    """One such input."""

    reader: str
    fault: str
    """What happened then."""
    data: Callable[[], bytes]


REGRESSIONS: Mapping[str, Regression] = {
    "many beginnings of PEM": Regression(
        "armor",
        "each beginning without an end was searched to the end of the text: minutes for 8 MB",
        lambda: b"-----BEGIN CERTIFICATE-----\n" * (8 * 1024 * 1024 // 28),
    ),
}
