"""The table of known failures names tests that exist, in every row."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "incidents.md"
_NAMED = re.compile(r"`([a-z_/0-9]+\.py)(?:::(test_[a-z0-9_]+))?`")
# A row without a test must say why nothing can be done.
_EXCUSES = ("no tool can",)


def _rows() -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(TABLE.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("| ") and not line.startswith(("| when |", "| what hurts |")):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            yield number, [cell.strip() for cell in cells]


ROWS = [pytest.param(cells, id=f"line {number}") for number, cells in _rows()]


@lru_cache
def _tests_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("cells", ROWS)
def test_each_row_names_tests_that_exist_or_its_excuse(cells: list[str]) -> None:
    """A promise without a test is no answer, and neither is the name of a test that is gone."""
    *_, answer, named = cells
    found = _NAMED.findall(named)
    assert found or answer.startswith(_EXCUSES), answer
    for file, name in found:
        path = ROOT / "tests" / file
        assert path.is_file(), file
        assert not name or name in _tests_of(path), f"{file}::{name}"


def test_the_table_is_read() -> None:
    """The rows are found at all: some dozens, in six tables."""
    assert len(ROWS) > 60
