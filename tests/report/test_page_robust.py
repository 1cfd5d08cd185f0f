"""A page of whatever a record may hold: it says what it can, and never ends in a bug."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from release_tool.ledger import Ledger, Record
from release_tool.report.overview import ROLLBACK, STAGES
from release_tool.report.page import document, rendering, told
from release_tool.report.page.told import Around
from release_tool.values import SmokeEvidence
from tests import page_samples
from tests.page_samples import Release

NOW = datetime(2026, 11, 27, tzinfo=UTC)
NUMBERS: list[JsonValue] = [0, -1, 2**70, 10**400, 0.0, -0.5, 1e308, float("nan"), float("inf")]
TEXTS: list[JsonValue] = [
    "",
    "x",
    "9999-12-31T23:59:59+00:00",
    "2026-01-01",
    "://[",
    "\ud800",
    "0" * 99,
]
OTHERS: list[JsonValue] = [None, [], {}, True, [None], {"": None}]


@functools.cache
def samples() -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """The records of a release and of a rollback, whose inputs never part them."""
    with tempfile.TemporaryDirectory() as folder:
        release = Release(Path(folder)).up_to("github")
        release.fail("promote")
        release.intend("register", "register", submission_id="1")
        back = page_samples.roll_back(Path(folder))
        read = (Ledger(place / "ledger").records for place in (release.workspace, back))
        one, other = (tuple(one.model_copy(update={"inputs": {}}) for one in got) for got in read)
        return one, other


def places(value: JsonValue, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to each value inside of one."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value[:2]):
            yield from places(inner, (*path, at))


def put(value: JsonValue, path: tuple[str | int, ...], other: JsonValue) -> JsonValue:
    """The value with another at the end of a way."""
    if not path:
        return other
    step, *rest = path
    if isinstance(value, dict):
        assert isinstance(step, str)
        return {**value, step: put(value[step], tuple(rest), other)}
    assert isinstance(value, list)
    assert isinstance(step, int)
    return [*value[:step], put(value[step], tuple(rest), other), *value[step + 1 :]]


def write(records: tuple[Record, ...], back: tuple[Record, ...]) -> str:
    """Both forms of the page."""
    release = told.of(STAGES, records, "0" * 64)
    around = Around(
        folder=Path("prod/0.5.0"),
        environment="prod",
        version="0.5.0",
        release=release,
        rollbacks=(told.of(ROLLBACK, back, ""),),
        earlier=(),
        smokes=(),
    )
    pages = [around, replace(around, release=told.of(ROLLBACK, back, ""), rollbacks=())]
    smoke = release.get("smoke", SmokeEvidence)
    if smoke:
        pages.append(replace(around, smokes=(smoke,)))
    return "".join(
        rendering.render(document.of(one, NOW), form) for one in pages for form in rendering.FORMS
    )


@st.composite
def changes(draw: st.DrawFn) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Both chains with one value of one record replaced."""
    one, other = samples()
    records = [*one, *other]
    at = draw(st.integers(0, len(records) - 1))
    whole: JsonValue = records[at].model_dump(mode="json", exclude={"merged"})
    path = draw(st.sampled_from([found for found in places(whole) if found and found[0] != "kind"]))
    changed = put(whole, path, draw(st.sampled_from([*NUMBERS, *TEXTS, *OTHERS])))
    # What is no record the ledger refuses, before any page.
    with contextlib.suppress(ValueError):
        records[at] = Record.model_validate(changed)
    return tuple(records[: len(one)]), tuple(records[len(one) :])


@given(changes())
def test_any_value_of_a_record_makes_a_page(
    chains: tuple[tuple[Record, ...], tuple[Record, ...]],
) -> None:
    """Numbers that nobody measured, times that are none, addresses that are none, other shapes."""
    text = write(*chains)
    assert text.count("<!doctype html>") in (2, 3)


def test_lists_without_an_end_have_one(tmp_path: Path) -> None:
    """A thousand aliases, files and checks: the page stays one that a browser opens."""
    release = Release(tmp_path).up_to("register")
    made = page_samples.MADE["promote"](release)
    release.record("promote", made.model_copy(update={"aliases": ("releases/latest/x",) * 5000}))
    found = document.read(release.workspace)
    assert len(found.places) == document.MOST_ROWS
    assert len(rendering.as_html(found)) < 300_000
