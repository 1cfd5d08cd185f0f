"""The aims of the bench: each is told beside what was measured, and none is missed in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GROWTH = 1.2
"""Peaks within this are the same: allocators and the interpreter vary by some megabytes."""


@dataclass
class Aims:
    """What was aimed at, and what of it was missed."""

    missed: list[str] = field(default_factory=list)

    def at_most(self, what: str, found: float, limit: float) -> str:
        """The aim beside a number that should be small, in a few words."""
        return self._told(what, f"aim at most {limit:g}", holds=found <= limit)

    def at_least(self, what: str, found: float, limit: float) -> str:
        """The same for one that should be large."""
        return self._told(what, f"aim at least {limit:g}", holds=found >= limit)

    def flat(self, what: str, peaks: Mapping[int, int]) -> str:
        """Peaks of memory by size, and whether the largest size needs more than the smallest.

        Args:
            what: whose memory it is.
            peaks: bytes by the bytes that were worked on.
        """
        small, large = min(peaks), max(peaks)
        growth = peaks[large] / peaks[small]
        told = ", ".join(
            f"{peaks[size] / 1e6:.0f} MB at {size / 1e6:.0f} MB" for size in sorted(peaks)
        )
        aim = self._told(what, f"aim the same, within {GROWTH:g} times", holds=growth <= GROWTH)
        difference = (peaks[large] - peaks[small]) / 1e6
        return (
            f"{told}: {growth:.2f} times from the smallest to the largest,"
            f" {difference:+.0f} MB {aim}"
        )

    def summary(self) -> list[str]:
        """What was missed, a line each; one line where nothing was."""
        return [f"missed: {what}" for what in self.missed] or ["every aim that was measured is met"]

    def _told(self, what: str, aim: str, *, holds: bool) -> str:
        if holds:
            return f"({aim})"
        self.missed.append(f"{what} ({aim})")
        return f"({aim}: missed)"
