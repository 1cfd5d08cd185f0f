"""Whatever page it is: links lead somewhere, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import markdown

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
each_page = pytest.mark.parametrize("page", markdown.PAGES, ids=lambda page: page.name)


def _anchor(heading: str) -> str:
    """As GitHub makes one of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _headings(page: Path) -> set[str]:
    return {
        _anchor(line.lstrip("#").strip())
        for line in markdown.prose(page).splitlines()
        if line.startswith("#")
    }


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file of the tree, and a heading of it where it names one."""
    for target in _LINK.findall(markdown.prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in _headings(there), target


@each_page
def test_named_tests_exist(page: Path) -> None:
    """A proof that is gone proves nothing."""
    assert markdown.missing_tests(page.read_text(encoding="utf-8")) == []


@each_page
def test_named_files_exist(page: Path) -> None:
    """What a page calls by its path in the tree is there."""
    for name in re.findall(
        r"`((?:release_tool|tests|tools|docs|templates)/[\w/.-]+)`", markdown.prose(page)
    ):
        assert (markdown.ROOT / name).exists(), name
