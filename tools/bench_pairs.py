"""Paired runs: theirs and ours in turn, so that whatever else the host does hits both."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pairs:
    """Seconds of both sides, run by run."""

    theirs: Sequence[float]
    ours: Sequence[float]

    @property
    def ratio(self) -> float:
        """The median of theirs over ours, pair by pair."""
        return statistics.median(
            theirs / ours for theirs, ours in zip(self.theirs, self.ours, strict=True)
        )

    def seconds(self) -> str:
        theirs, ours = statistics.median(self.theirs), statistics.median(self.ours)
        return f"{theirs:.3f} s, ours {ours:.3f} s"


def alternate(theirs: Callable[[], None], ours: Callable[[], None], pairs: int) -> Pairs:
    """Run both in turn, so that whatever else the host does hits both; the first pair warms up."""
    times: dict[Callable[[], None], list[float]] = {theirs: [], ours: []}
    for number in range(pairs + 1):
        for side, seconds in times.items():
            started = time.perf_counter()
            side()
            if number:
                seconds.append(time.perf_counter() - started)
    return Pairs(theirs=times[theirs], ours=times[ours])


def run(command: Sequence[str], *, environ: Mapping[str, str] | None = None) -> None:
    """Run a command that must succeed, with this process's environment where none is given."""
    done = subprocess.run(command, capture_output=True, check=False, env=environ)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stderr.decode(errors='replace')[:500]}")
