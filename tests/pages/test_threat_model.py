"""The threat model treats every boundary by every letter, and each row names its tests."""

from __future__ import annotations

import pytest

from tests.pages import markdown
from tests.pages.markdown import Row

PAGE = markdown.DOCS / "threat-model.md"
ROWS = list(markdown.rows(PAGE))
BOUNDARIES = list(dict.fromkeys(row.heading for row in ROWS))
_NOT = "does not apply: "


def _of(boundary: str) -> list[Row]:
    return [row for row in ROWS if row.heading == boundary]


def test_each_boundary_of_the_release_is_there() -> None:
    """From the maintainer's machine to the packages that all of it runs on."""
    assert len(BOUNDARIES) == 12
    assert len(ROWS) == 12 * 6


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_each_letter_is_treated(boundary: str) -> None:
    """All six of STRIDE, once each and in their order."""
    assert "".join(row.cell("letter") for row in _of(boundary)) == "STRIDE"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.heading} {row.cells[0]}")
def test_each_threat_is_held_by_tests_that_exist(row: Row) -> None:
    """A threat without a test is not held; one that does not apply says why."""
    assert all(row.cells), "an empty cell"
    if row.cell("threat").startswith(_NOT):
        assert len(row.cell("threat")) > len(_NOT) + 20
        return
    assert len(row.cell("what holds it")) > 10
    assert markdown.named_tests(row.cell("tests"))


def test_the_page_says_what_is_left() -> None:
    """A model in which nothing is left was not thought through."""
    assert sum(row.cell("what is left") != "\N{EN DASH}" for row in ROWS) > len(ROWS) / 2
