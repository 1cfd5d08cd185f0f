"""`python -m tests.killing`: kills a run at each point, as a table; exits 1 where one fails."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.killing.courses import COURSES, Course, of_point
from tests.killing.sweep import Sweep, stage_of


def main() -> int:
    """Divide the points among workers, or be one of them."""
    options = _parser().parse_args()
    # What was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.worker:
        _work(options)
        return 0
    with tempfile.TemporaryDirectory(prefix="killing-") as folder:
        verdicts = list(_shown(_divided(Path(folder).resolve(), options), as_json=options.json))
    counted = {
        outcome: sum(one["outcome"] == outcome for one in verdicts)
        for outcome in ("holds", "passed by", "fails")
    }
    if not options.json:
        print("\n".join(f"{outcome:<10} {count}" for outcome, count in counted.items()))
    return int(not verdicts or counted["fails"] > 0)


def _divided(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The verdicts of all workers as they come; a line is short enough for one write to a pipe."""
    command = [sys.executable, "-m", "tests.killing", *sys.argv[1:]]
    reading, writing = os.pipe()
    workers = [
        subprocess.Popen(
            [*command, "--worker", str(folder / str(number)), "--number", str(number)],
            stdout=writing,
        )
        for number in range(options.jobs)
    ]
    os.close(writing)
    try:
        with os.fdopen(reading, encoding="utf-8") as told:
            yield from map(json.loads, told)
        for worker in workers:
            if worker.wait() != 0:
                message = f"a worker ended {worker.returncode}"
                raise RuntimeError(message)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()


def _work(options: argparse.Namespace) -> None:
    for course in COURSES.values():
        if stages := _wanted(options, course):
            folder = options.worker / course.name
            folder.parent.mkdir(exist_ok=True)
            _sweep(options, Sweep(folder, stages, whole=not options.short, course=course))


def _wanted(options: argparse.Namespace, course: Course) -> list[str]:
    """The stages of a course that are asked for."""
    if options.point:
        wanted = {stage_of(point) for point in options.point if of_point(point) is course}
        return [stage for stage in course.steps if stage in wanted]
    if options.course and course.name not in options.course:
        return []
    return [stage for stage in course.swept if not options.stage or stage in options.stage]


def _sweep(options: argparse.Namespace, sweep: Sweep) -> None:
    named = [point for point in options.point if of_point(point) is sweep.course]
    try:
        for point in named or _points(sweep, options.every):
            # By name: two workers may count another number of polls.
            if zlib.crc32(point.encode()) % options.jobs == options.number:
                print(json.dumps(asdict(sweep.judge(point))), flush=True)
    finally:
        sweep.close()


def _points(sweep: Sweep, every: int) -> Iterator[str]:
    for stage in sweep.stages:
        yield from sweep.points(stage)[::every]


def _shown(verdicts: Iterator[dict[str, Any]], *, as_json: bool) -> Iterator[dict[str, Any]]:
    for one in verdicts:
        if as_json:
            print(json.dumps(one), flush=True)
        else:
            print(f"{one['outcome']:<10} {one['seconds']:5.1f} s  {one['point']}", flush=True)
            lines = [line for fault in one["faults"] for line in fault.splitlines()]
            print("".join(f"             {line}\n" for line in lines), end="")
        yield one


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.killing", description=__doc__)
    stages = dict.fromkeys(stage for course in COURSES.values() for stage in course.swept)
    parser.add_argument("--stage", action="append", choices=[*stages], help="only these")
    parser.add_argument("--course", action="append", choices=[*COURSES], help="only these")
    parser.add_argument("--point", action="append", default=[], help="only these, by name")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th point")
    parser.add_argument(
        "--short", action="store_true", help="end reruns of what is before the smoke run there"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="a line for each verdict")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
