"""Whatever page it is: links lead somewhere, and the tests that it names exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from release_tool import data, release_file, release_yaml
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


@each_page
def test_data_is_data(page: Path) -> None:
    """What is shown of JSON and YAML is read by a parser of it."""
    for fence in markdown.fences(page):
        if fence.language == "json":
            assert json.loads(fence.text)
        if fence.language == "yaml":
            # A comment alone is data, too.
            yaml.safe_load(fence.text)


def test_the_helper_of_the_page_is_taken(tmp_path: Path) -> None:
    """The release file takes the declarations as they stand on the page, one behind the other."""
    shown = list(markdown.fences(markdown.DOCS / "adding-a-helper.md"))
    lines = "\n".join(one.text for one in shown if one.language == "yaml")
    added = yaml.safe_load(lines)["bundle"]
    assert set(added) == {"helpers", "capability_markers"}
    whole = yaml.safe_load(data.release_file().read_text())
    whole["bundle"] |= added
    path = tmp_path / "release.yaml"
    path.write_text(yaml.safe_dump(whole))
    found, problems = release_file.validate(release_yaml.read(path), {})
    assert problems == []
    assert found
    assert found.bundle.helpers[0].identifier == "io.darkbloom.fan-helper"


def test_every_page_is_in_the_index() -> None:
    """Nobody finds a page that no list names."""
    listed = set(re.findall(r"\]\(([a-z-]+\.md)\)", (markdown.DOCS / "README.md").read_text()))
    there = {page.name for page in markdown.DOCS.glob("*.md")} - {"README.md"}
    assert there <= listed


def test_a_newcomer_ends_in_five_minutes() -> None:
    """At two hundred words a minute; depth has its own pages."""
    assert len((markdown.ROOT / "README.md").read_text().split()) < 1000
