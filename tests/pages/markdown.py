"""What stands in the pages: tables, fenced blocks, links and the tests that they name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))

_FENCE = re.compile(r"^ *```(\S*)$")
_NAMED = re.compile(r"`(?:tests/)?([a-z0-9_/]+\.py)(?:::(test_[a-z0-9_]+))?`")
_CELLS = re.compile(r"(?<!\\)\|")


class Fence(NamedTuple):
    """One fenced block, with the number of its first line."""

    page: Path
    line: int
    language: str
    text: str


class Row(NamedTuple):
    """One row of a table: the heading above it, the names of its columns, its cells."""

    heading: str
    columns: tuple[str, ...]
    cells: tuple[str, ...]

    def cell(self, column: str) -> str:
        return self.cells[self.columns.index(column)]


def fences(page: Path) -> Iterator[Fence]:
    """Every fenced block of a page."""
    open_at: tuple[int, str] | None = None
    block: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        found = _FENCE.match(line)
        if found and open_at is None:
            open_at, block = (number + 1, found[1]), []
        elif found and open_at is not None:
            yield Fence(page, *open_at, "\n".join(block))
            open_at = None
        else:
            block.append(line)
    assert open_at is None, f"{page}: a fence is not closed"


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"))


def rows(page: Path) -> Iterator[Row]:
    """Every row of every table of a page."""
    heading = ""
    columns: tuple[str, ...] = ()
    lines = prose(page).splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        elif not line.startswith("|"):
            columns = ()
        elif re.match(r"^\|[-| :]+\|$", below):
            columns = _cells(line)
        elif not re.match(r"^\|[-| :]+\|$", line):
            yield Row(heading, columns, _cells(line))


def named_tests(text: str) -> list[tuple[str, str]]:
    """The files of tests, and the tests in them, that a text names below `tests/`."""
    return [(file, name) for file, name in _NAMED.findall(text) if _is_test(file)]


@lru_cache
def tests_of(path: Path) -> frozenset[str]:
    """The names of the tests of a file, without importing it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def missing_tests(text: str) -> list[str]:
    """What a text names and nobody wrote."""
    found = []
    for file, name in named_tests(text):
        path = ROOT / "tests" / file
        if not path.is_file() or (name and name not in tests_of(path)):
            found.append(f"{file}::{name}" if name else file)
    return found


def _is_test(file: str) -> bool:
    return file.rpartition("/")[2].startswith("test_")


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in _CELLS.split(line.strip().strip("|")))
