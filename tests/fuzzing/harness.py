"""Give one input to a reader, and say how it ended; make a failing input small."""

from __future__ import annotations

import resource
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, Literal, NamedTuple, NoReturn

from tests.fuzzing.mutation import mutated
from tests.fuzzing.readers import Reader

MEMORY_BYTES: Final = 256 * 1024 * 1024
"""Address space that a reader may take beyond what its process holds before the first input. The
largest input is 256 KiB; our caps on elements and sizes are meant to keep all below this."""

Ending = Literal["value", "refused", "failed"]


class Outcome(NamedTuple):
    """How one input ended."""

    ending: Ending
    seconds: float
    """Of processor time."""
    problem: str = ""
    """What went wrong, and where; the same for the same fault."""


class Failure(NamedTuple):
    """An input that ended in neither a value nor the format's own error."""

    reader: str
    number: int
    problem: str
    data: bytes


class _TookTooLongError(BaseException):
    """Raised in the reader by the timer; no `except Exception` there catches it."""


def run_one(reader: Reader, data: bytes) -> Outcome:
    """Read one input under the time cap."""
    started = time.process_time()
    try:
        with _timer(reader.seconds):
            reader.read(data)
    except reader.refusals:
        outcome = Outcome("refused", time.process_time() - started)
    except _TookTooLongError as problem:
        told = f"took more than {reader.seconds} s {_where(problem)}"
        return Outcome("failed", reader.seconds, told)
    except (Exception, RecursionError, MemoryError) as problem:
        told = f"{type(problem).__name__} {_where(problem)}"
        return Outcome("failed", time.process_time() - started, told)
    else:
        outcome = Outcome("value", time.process_time() - started)
    if outcome.seconds > reader.seconds:
        # A call into C that the timer could not break off.
        told = f"took {outcome.seconds:.1f} s in one call"
        return Outcome("failed", outcome.seconds, told)
    return outcome


def inputs(reader: Reader, numbers: range, seed: int) -> Iterator[tuple[int, bytes]]:
    """The inputs of these numbers; the first ones are the seeds themselves."""
    for number in numbers:
        yield number, input_of(reader, number, seed)


def input_of(reader: Reader, number: int, seed: int) -> bytes:
    """One input, the same for the same numbers and seeds."""
    seeds = reader.seeds
    if number < len(seeds):
        return reader.finish(seeds[number])
    data = mutated(number, seed=seed, name=reader.name, seeds=seeds, structure=reader.structure)
    return reader.finish(data)


def shrunk(reader: Reader, failure: Failure, *, tries: int = 2000) -> bytes:
    """A smaller input with the same fault: parts left out, bytes zeroed."""
    best = failure.data
    size = max(len(best) // 2, 1)
    while size and tries > 0:
        at = 0
        while at < len(best) and tries > 0:
            tries -= 1
            shorter = best[:at] + best[at + size :]
            if run_one(reader, shorter).problem == failure.problem:
                best = shorter
            else:
                at += size
        size //= 2
    return best


@contextmanager
def memory_cap(beyond: int = MEMORY_BYTES) -> Iterator[None]:
    """Let this process take so much more address space and no more: `MemoryError` after that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + beyond, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    with open("/proc/self/statm") as source:  # noqa: PTH123 - one line of Linux's own
        return int(source.read().split()[0]) * resource.getpagesize()


def _timeout(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise _TookTooLongError


@contextmanager
def _timer(seconds: float) -> Iterator[None]:
    old = signal.signal(signal.SIGPROF, _timeout)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def _where(problem: BaseException) -> str:
    """The innermost line of ours."""
    frames = traceback.extract_tb(problem.__traceback__)
    ours = [frame for frame in frames if "release_tool" in frame.filename]
    if not ours:
        return "outside the reader"
    last = ours[-1]
    return f"in {last.filename.rpartition('release_tool/')[2]}:{last.lineno} {last.name}"
