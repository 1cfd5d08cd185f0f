"""The page of exit codes and the code that makes them agree, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterator

from release_tool import errors
from release_tool.cli import preflight
from tests.pages import markdown

PAGE = markdown.DOCS / "exit-codes.md"
# What is no error of the tree.
_OTHERS = {0: "done", errors.EXIT_BUG: "bug", errors.EXIT_INTERRUPTED: "interrupted"}


def _family(kind: type[errors.ReleaseError]) -> Iterator[type[errors.ReleaseError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _family(child)


def _told() -> dict[int, set[str]]:
    found = {}
    for row in markdown.rows(PAGE):
        names = re.findall(r"`(\w+)`", row.cell("name")) or [row.cell("name")]
        found[int(row.cell("code"))] = set(names)
    return found


def test_page_and_code_have_the_same_codes() -> None:
    """Each class of the tree stands on the page under its own code, and nothing else does."""
    made: dict[int, set[str]] = {code: {name} for code, name in _OTHERS.items()}
    for kind in _family(errors.ReleaseError):
        made.setdefault(kind.exit_code, set()).add(kind.__name__)
    assert _told() == made


def test_the_page_and_the_preflight_have_the_same_order() -> None:
    """What must be mended first, when several things are wrong at once."""
    (listed,) = re.findall(r"mended first: ([0-9, ]+), and (\d) only", markdown.prose(PAGE))
    told = [int(code) for code in f"{listed[0]}, {listed[1]}".split(", ")]
    assert told == [kind.exit_code for kind in preflight._GRAVITY]


def test_what_a_json_error_holds_stands_on_the_page() -> None:
    """Every key of the document, but the one that is always false."""
    keys = set(errors.ReleaseError("x").as_json()) - {"ok"}
    assert keys <= set(re.findall(r"`(\w+)`", markdown.prose(PAGE)))
