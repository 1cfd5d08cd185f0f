"""A short run of `make fuzz`: whatever comes in, a value or the format's own error comes out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import get_args

import pytest

from release_tool import errors
from tests.fuzzing import harness, mutation
from tests.fuzzing.readers import BY_NAME, READERS, Reader
from tests.fuzzing.regressions import REGRESSIONS

INPUTS = 80


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name.replace(" ", "-"))
def test_mutated_inputs_end_in_a_value_or_the_formats_own_error(reader: Reader) -> None:
    """The seeds themselves and mutations of them, each within the time cap."""
    count = INPUTS + len(reader.seeds)
    outcomes = [
        (number, harness.run_one(reader, data).problem)
        for number, data in harness.inputs(reader, range(count), seed=20)
    ]
    assert [outcome for outcome in outcomes if outcome[1]] == []


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name.replace(" ", "-"))
def test_some_seed_of_each_reader_is_read(reader: Reader) -> None:
    """Mutations of what is refused at once would reach nothing."""
    endings = [harness.run_one(reader, reader.finish(seed)).ending for seed in reader.seeds]
    assert "value" in endings


@pytest.mark.parametrize("name", REGRESSIONS)
def test_what_once_failed_is_answered(name: str) -> None:
    """Inputs that the long run found, made smaller, and what their fault was."""
    found = REGRESSIONS[name]
    outcome = harness.run_one(BY_NAME[found.reader], found.data())
    assert outcome.problem == ""


def _reader(read: Callable[[bytes], object]) -> Reader:
    return Reader(name="a test", read=read, make_seeds=lambda: [b"seed"])


def test_the_harness_sees_every_kind_of_fault() -> None:
    """Another exception, endless recursion and an endless loop are told apart from answers."""

    def recurse(data: bytes) -> object:
        return recurse(data)

    def hang(data: bytes) -> object:
        while data:
            pass
        return None

    def refuse(data: bytes) -> object:
        raise errors.FormatError("no")

    def fail(data: bytes) -> object:
        return data[99]

    problems = [harness.run_one(_reader(read), b"x").problem for read in (fail, recurse, hang)]
    assert [problem.split()[0] for problem in problems] == ["IndexError", "RecursionError", "took"]
    assert harness.run_one(_reader(refuse), b"x").ending == "refused"
    assert harness.run_one(_reader(len), b"x").ending == "value"


@pytest.mark.skipif(sys.platform != "linux", reason="the cap on address space is Linux's")
def test_the_harness_sees_what_asks_for_too_much_memory() -> None:
    """An allocation beyond the cap fails, and is told."""
    greedy = _reader(lambda _: bytearray(harness.MEMORY_BYTES * 4))
    with harness.memory_cap():
        assert harness.run_one(greedy, b"x").problem.startswith("MemoryError")
    assert harness.run_one(_reader(lambda _: bytearray(1 << 20)), b"x").ending == "value"


def test_a_failing_input_is_made_small() -> None:
    """What has nothing to do with the fault is left out."""

    def fail(data: bytes) -> object:
        if b"!" in data:
            raise KeyError
        return None

    failure = harness.Failure("a test", 0, "KeyError outside the reader", bytes(500) + b"a!" * 3)
    assert harness.shrunk(_reader(fail), failure) == b"!"


def _made(seed: int, structure: mutation.Structure) -> list[bytes]:
    seeds = (b"\x30\x03\x02\x01\x07", b"<a>")
    return [
        mutation.mutated(number, seed=seed, name="x", seeds=seeds, structure=structure)
        for number in range(40)
    ]


def test_inputs_are_the_same_for_the_same_number() -> None:
    """So that a run can be repeated from its seed; another seed gives others."""
    for structure in get_args(mutation.Structure):
        made = [_made(seed, structure) for seed in (1, 1, 2)]
        assert made[0] == made[1] != made[2]


def test_der_mutations_reach_below_the_lengths() -> None:
    """Of mutated elements most are still whole: the lengths above a change follow."""
    reader = BY_NAME["certificate"]
    changed = [data for _, data in harness.inputs(reader, range(100, 300), seed=3)]
    whole = [data for data in changed if harness.run_one(BY_NAME["der"], data).ending == "value"]
    assert len(whole) > len(changed) // 4
