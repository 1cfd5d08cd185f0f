"""`make fuzz`: a hundred thousand inputs for each reader, on one core.

Each reader runs in a process of its own, whose address space is capped. An input that ends in
neither a value nor the format's own error, takes more than a second of processor time, or asks
for more memory than the cap is made smaller and saved.
"""

from __future__ import annotations

import argparse
import mmap
import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from tests.fuzzing import harness
from tests.fuzzing.harness import Failure
from tests.fuzzing.mutation import MAX_BYTES
from tests.fuzzing.readers import BY_NAME, READERS, Reader

_STUCK_SECONDS = 120
"""Without a sign of life for so long, a child hangs in a call that the timer cannot break off."""
_KEPT_FAULTS = 20
_HEADER = 16
_LASTING = ("took", "hangs", "the process", "MemoryError")


class Report(NamedTuple):
    """What a child tells at its end."""

    endings: Counter[str]
    slowest: float
    """Seconds of processor time of the slowest input."""
    seconds: float
    grown_kib: int
    """How far the peak of resident memory rose above what it was before the first input."""
    failures: list[Failure]


def main() -> int:
    """Run the chosen readers one after the other; 1 when anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help="by default every one")
    parser.add_argument("--count", type=int, default=100_000, help="inputs for each reader")
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, default=Path("build/fuzz"), help="failing inputs")
    wanted = parser.parse_args()
    unknown = [name for name in wanted.readers if name not in BY_NAME]
    if unknown:
        parser.error(f"no reader {unknown[0]!r}; there are: {', '.join(BY_NAME)}")
    chosen = [BY_NAME[name] for name in wanted.readers] or list(READERS)
    numbers = range(wanted.start, wanted.start + wanted.count)
    failed = sum(not _run(reader, numbers, wanted.seed, wanted.save) for reader in chosen)
    print(f"{len(chosen) - failed} of {len(chosen)} readers hold", flush=True)
    return 1 if failed else 0


def _run(reader: Reader, numbers: range, seed: int, save: Path) -> bool:
    shared = mmap.mmap(-1, _HEADER + 2 * MAX_BYTES)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(
        target=_child, args=(reader, numbers, seed, shared, theirs)
    )
    child.start()
    theirs.close()
    report = _await(child, ours, shared, reader)
    _tell(reader, report)
    for failure in report.failures:
        _save(reader, failure, save)
    return not report.failures


def _child(
    reader: Reader, numbers: range, seed: int, shared: mmap.mmap, answer: Connection
) -> None:
    os.nice(10)
    warnings.simplefilter("error")
    endings: Counter[str] = Counter()
    failures: dict[str, Failure] = {}
    slowest, started = 0.0, time.process_time()
    for data in reader.seeds[:3]:
        harness.run_one(reader, reader.finish(data))
    before = _peak_kib()
    with harness.memory_cap():
        for number, data in harness.inputs(reader, numbers, seed):
            _note(shared, number, data)
            outcome = harness.run_one(reader, data)
            endings[outcome.ending] += 1
            slowest = max(slowest, outcome.seconds)
            if outcome.ending == "failed" and len(failures) < _KEPT_FAULTS:
                failures.setdefault(
                    outcome.problem, Failure(reader.name, number, outcome.problem, data)
                )
    grown = _peak_kib() - before
    answer.send(
        Report(endings, slowest, time.process_time() - started, grown, list(failures.values()))
    )


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _note(shared: mmap.mmap, number: int, data: bytes) -> None:
    """What is read now, for whoever finds this process stuck or dead."""
    kept = data[: len(shared) - _HEADER]
    shared[_HEADER : _HEADER + len(kept)] = kept
    shared[:_HEADER] = number.to_bytes(8, "big") + len(kept).to_bytes(8, "big")


def _noted(shared: mmap.mmap) -> tuple[int, bytes]:
    size = int.from_bytes(shared[8:16], "big")
    return int.from_bytes(shared[:8], "big"), shared[_HEADER : _HEADER + size]


def _await(
    child: multiprocessing.process.BaseProcess,
    answer: Connection,
    shared: mmap.mmap,
    reader: Reader,
) -> Report:
    last = -1
    while not answer.poll(_STUCK_SECONDS):
        number, data = _noted(shared)
        if number == last or not child.is_alive():
            child.kill()
            return _lost(reader, number, data, "hangs in one call")
        last = number
    try:
        report = answer.recv()
    except EOFError:
        return _lost(reader, *_noted(shared), "the process died")
    finally:
        child.join()
    assert isinstance(report, Report)
    return report


def _lost(reader: Reader, number: int, data: bytes, problem: str) -> Report:
    failure = Failure(reader.name, number, problem, data)
    return Report(Counter({"failed": 1}), 0, 0, 0, [failure])


def _tell(reader: Reader, report: Report) -> None:
    endings = report.endings
    print(
        f"{reader.name:<24} {endings.total():>7} inputs  {endings['value']:>6} values "
        f"{endings['refused']:>6} refused {endings['failed']:>4} failed  "
        f"slowest {report.slowest * 1000:.0f} ms  peak +{report.grown_kib / 1024:.0f} MiB  "
        f"{report.seconds:.0f} s",
        flush=True,
    )


def _save(reader: Reader, failure: Failure, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{reader.name.replace(' ', '-')}-{failure.number}.bin"
    # What took too long or killed its process is kept as it is: each try would do so again.
    lasting = failure.problem.startswith(_LASTING)
    small = failure.data if lasting else harness.shrunk(reader, failure)
    path.write_bytes(small)
    print(
        f"  {failure.problem}\n    input {failure.number}, {len(small)} bytes: {path}", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
