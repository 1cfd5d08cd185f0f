"""Counts the points of a run, and kills a run at each of them: the work of one process."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from release_tool.cli.wiring import STAGES
from tests.killing import judging
from tests.killing.courses import END, RELEASE, Course, of_point
from tests.killing.world import World

_BEFORE_SMOKE = STAGES[: STAGES.index("smoke")]
_SHOWN = 600
_KILLED = -9
_TORN = -25
"""SIGXFSZ: the kernel killed the writer in the middle of a file."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one point."""

    point: str
    outcome: str
    """`holds`, `fails`, or `passed by`: the run ended before it came to this point again."""
    seconds: float
    faults: tuple[str, ...] = ()


@dataclass
class Sweep:
    """One worker.

    Args:
        folder: everything of it; must not exist.
        stages: whose points it may be asked for.
        whole: whether a rerun goes to the end, even where the smoke run lies between.
        course: what is killed.
    """

    folder: Path
    stages: Sequence[str] = STAGES
    whole: bool = True
    course: Course = RELEASE
    world: World = field(init=False)
    _expected: dict[bool, set[str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.world = World(self.folder, self.course)
        self.world.snapshots({*self.stages} if self.whole else {*self.stages, "smoke"})

    def expected(self, *, whole: bool) -> set[str]:
        """The names that a run leaves which nobody killed."""
        if whole not in self._expected:
            self.world.restore(END if whole else "smoke")
            # One run more, so that what every run leaves is there in both cases.
            self.world.run(*([] if whole else ["--until", "archive"]))
            self._expected[whole] = judging.names(self.world)
        return self._expected[whole]

    def points(self, stage: str) -> list[str]:
        """The points of one stage, as a run that nobody kills comes to them."""
        self.world.restore(stage)
        journal = self.folder / f"{stage}.points"
        until = () if self.course.is_rollback else ("--until", stage)
        ended = self.world.run(*until, journal=journal)
        if ended.status != 0:
            raise RuntimeError(ended.output)
        names = journal.read_text(encoding="utf-8").splitlines()
        if self.course.is_rollback:
            return _thinned(names)
        # What happens before the first stage happens in each run, and is swept with the first.
        wanted = (stage, "start") if stage == STAGES[0] else (stage,)
        known = {f"{self.course.prefix}{one}" for one in wanted}
        return _thinned([name for name in names if name.split(" ", 1)[0] in known])

    def judge(self, point: str) -> Verdict:
        """Kill a run there, run it again, and judge what is left."""
        began = time.monotonic()
        stage = stage_of(point)
        world = self.world
        whole = self.whole or stage not in _BEFORE_SMOKE
        expected = self.expected(whole=whole)
        world.restore(stage)
        until = [] if whole else ["--until", "archive"]
        killed = world.run(*until, wanted=point)
        before = judging.recorded(world)
        faults = list(judging.secrets(world, [killed.output]))
        ended = world.finish(*until)
        faults += judging.faults(world, ended, before, expected, whole=whole)
        outcome = "holds"
        if killed.status not in (_KILLED, _TORN):
            outcome = "passed by"
            if killed.status != 0:
                faults.append(f"ended {killed.status}: {killed.output[-800:]}")
        return Verdict(
            point=point,
            outcome="fails" if faults else outcome,
            seconds=time.monotonic() - began,
            faults=tuple(fault[-_SHOWN:] for fault in faults[:5]),
        )

    def close(self) -> None:
        """End the look-alikes."""
        self.world.stop()


def stage_of(point: str) -> str:
    """The stage before which a run begins that shall come to a point."""
    course = of_point(point)
    name = point.split(" ", 1)[0].removeprefix(course.prefix)
    return name if name in course.steps else course.steps[0]


def _thinned(names: list[str]) -> list[str]:
    """Of what repeats itself the first two and the last: polls, and files of a tree that goes."""
    places: dict[str, list[str]] = defaultdict(list)
    for name in names:
        places[name.rpartition(" #")[0]].append(name)
    return list(_kept(names, places))


def _kept(names: list[str], places: dict[str, list[str]]) -> Iterator[str]:
    for name in names:
        same = places[name.rpartition(" #")[0]]
        if name in (*same[:2], same[-1]):
            yield name
