"""The fault matrix: each service of a release fails in each way, once and for good.

For each row a release that stands before the stage is carried on by the command line, as a process
of its own, against look-alikes with the fault; then the fault ends and the advice is followed,
which is to run again. Each row is judged by what the look-alikes and the disk hold afterwards.
Further sets do the same without an administrator's key, for a coordinator of October, and to a
rollback.
Exits with 1 where a row breaks a rule.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import fault_judge
import fault_rollback
import fault_rows
import fault_world
from fault_cli import CommandLine
from fault_judge import Judgement, Look
from fault_rows import Row
from fault_world import BACK, LARGE, SHAPES, SMALL, Said, Site, World

from release_tool.rehearsal import wire

NOT_MET = "not met"
"""The run ended before the fault, twice: the row proves nothing."""
_TRIES = 3
"""How often the advice is followed; what wants more is no advice."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a row ended in."""

    row: Row
    code: int
    """Of the run that met the fault."""
    seconds: float
    requests: int
    """Of the run that met the fault, to all services."""
    hits: int
    """Requests that went wrong."""
    left: str
    """What that run left behind."""
    again: int
    """How often the advice was followed."""
    end: int
    """The last exit code."""
    broken: tuple[str, ...]
    said: str
    """What the runs said, for rows that break a rule."""

    @property
    def kind(self) -> str:
        """The outcome in a word."""
        if self.broken:
            return "BROKEN"
        if not self.hits:
            return NOT_MET
        if self.again:
            return "typed error, then success"
        return "success"


@dataclass(kw_only=True)
class _Trial:
    """One row under way."""

    row: Row
    world: World

    def run(self) -> Result:
        where = self.row.target
        library = LARGE if where.is_large else SMALL
        with (
            self.world.site(where.stage, library, SHAPES[where.shape]) as site,
            site.served() as living,
        ):
            judgement = Judgement()
            before = fault_judge.look(site)
            living.set_rules([self.row.rule])
            first = self._act(site)
            # Who is in a hurry runs again while something is still on its way.
            report = living.wire_report()
            living.set_rules([])
            now = fault_judge.look(site)
            fault_judge.said(judgement, first)
            self._standing(judgement, before, now, site)
            fault_judge.strayed(judgement, report)
            left = fault_judge.left_behind(site, before, now)
            texts, last, again = [first.text], first, 0
            while last.ended.code and again < _TRIES:
                again += 1
                site.follow(last, living)
                last = self._act(site)
                texts.append(last.text)
                fault_judge.said(judgement, last)
            fault_world.settled(living)
            end = fault_judge.look(site)
            judgement.require(last.ended.code == 0, "its advice does not end in success")
            self._standing(judgement, before, end, site)
            self._finished(judgement, end, report, site)
            fault_judge.secrets(judgement, site, texts)
        return Result(
            row=self.row,
            code=first.ended.code,
            seconds=first.ended.seconds,
            requests=report.requests.total(),
            hits=report.hits,
            left=left,
            again=again,
            end=last.ended.code,
            broken=tuple(dict.fromkeys(judgement.broken)),
            said="\n".join(texts),
        )

    def _act(self, site: Site) -> Said:
        if site.shape is BACK:
            return site.roll_back()
        return site.run(*(("--until", self.row.until) if self.row.until else ()))

    def _standing(self, judgement: Judgement, before: Look, now: Look, site: Site) -> None:
        if site.shape is BACK:
            fault_rollback.standing(judgement, before, now)
        else:
            fault_judge.standing(judgement, before, now, site)

    def _finished(self, judgement: Judgement, end: Look, report: wire.Report, site: Site) -> None:
        if site.shape is BACK:
            fault_rollback.finished(judgement, end, report, site)
        elif self.row.until:
            judgement.require(bool(end.made(self.row.until)), f"no {self.row.until}")
            judgement.require(not end.registrations, "registered before it was asked for")
        else:
            fault_judge.finished(judgement, end, report, site)


def trial(row: Row, world: World) -> Result:
    """Carry out one row, and judge it; once more where its fault was never met.

    Answers are given little time, so on a busy machine a run may end before it comes to the fault.
    """
    found = _Trial(row=row, world=world).run()
    return found if found.hits else _Trial(row=row, world=world).run()


class _Worker:
    """What one process of the matrix keeps between its rows."""

    world: World

    @classmethod
    def begin(cls, folder: str) -> None:
        place = Path(tempfile.mkdtemp(prefix="world-", dir=folder))
        cls.world = World(folder=place, program=CommandLine(place / "program.log"))
        cls.world.prepare()

    @classmethod
    def run(cls, row: Row) -> Result:
        return trial(row, cls.world)


def _chosen(wanted: Sequence[str], sets: Sequence[str]) -> list[Row]:
    """Rows of some sets whose name contains each of the words."""
    rows = [
        row
        for row in fault_rows.every()
        if all(word in row.name for word in wanted) and (not sets or row.target.shape in sets)
    ]
    # What comes near the registration first: who breaks off has seen what matters.
    return sorted(rows, key=lambda row: row.is_early)


def carried_out(rows: Sequence[Row], workers: int) -> Iterable[Result]:
    """Carry out rows, so many at a time; the results as they come."""
    folder = tempfile.mkdtemp(prefix="faults-")
    try:
        with ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_Worker.begin,
            initargs=(folder,),
        ) as pool:
            waiting = {pool.submit(_Worker.run, row): row for row in rows}
            for future in as_completed(waiting):
                try:
                    yield future.result()
                except BrokenProcessPool as problem:
                    raise SystemExit("a worker of the matrix ended, see above") from problem
                except Exception:
                    yield _failed(waiting[future], traceback.format_exc())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _failed(row: Row, why: str) -> Result:
    return Result(
        row=row,
        code=-1,
        seconds=0.0,
        requests=0,
        hits=0,
        left="",
        again=0,
        end=-1,
        broken=("the matrix itself failed",),
        said=why,
    )


def line(result: Result) -> str:
    """One row of the table."""
    row = result.row
    then = f", then {result.end} after {result.again}" if result.again else ""
    return (
        f"{row.target.name:<22} {row.kind:<12} {row.strength:<9} exit {result.code}{then}".ljust(70)
        + f"{result.seconds:5.1f} s {result.requests:4} requests {result.hits:3} hit  "
        + f"left {result.left}  {result.kind}"
        + (f": {'; '.join(result.broken)}" if result.broken else "")
    )


def summary(results: Sequence[Result]) -> list[str]:
    """The table in a few lines, by service and outcome."""
    lines = []
    for service in dict.fromkeys(result.row.target.name for result in results):
        found = [result for result in results if result.row.target.name == service]
        counted = Counter(result.kind for result in found)
        codes = Counter(result.code for result in found if result.code)
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))
        exits = ", ".join(f"{count} with exit {code}" for code, count in sorted(codes.items()))
        lines.append(
            f"{service:<22} {len(found):3} rows: {told}" + (f" ({exits})" if exits else "")
        )
    whole = Counter(result.kind for result in results)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(whole.items()))
    return [*lines, f"{len(results)} rows: {told}"]


def main() -> int:
    """Run the rows that were asked for, and print them."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("words", nargs="*", help="only rows whose name holds all of these")
    options.add_argument(
        "--set", action="append", default=[], choices=sorted(SHAPES), help="only rows of this set"
    )
    options.add_argument("--workers", type=int, default=3)
    options.add_argument("--verbose", action="store_true", help="what the runs said, of all rows")
    chosen = options.parse_args()
    began, results = time.monotonic(), []
    order = {row: number for number, row in enumerate(fault_rows.every())}
    for result in carried_out(_chosen(chosen.words, chosen.set), chosen.workers):
        results.append(result)
        print(line(result), flush=True)
        if result.broken or chosen.verbose:
            print("\n".join(f"    | {text}" for text in result.said.splitlines()), flush=True)
    results.sort(key=lambda one: order[one.row])
    print("\n".join(["", *summary(results)]))
    print(f"in {time.monotonic() - began:.0f} s, {chosen.workers} rows at a time")
    return 1 if any(result.broken or not result.hits for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
