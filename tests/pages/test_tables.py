"""Tables that list what the code lists, held to it both ways."""

from __future__ import annotations

import re

from release_tool import credentials
from release_tool.cli import wiring
from tests.pages import markdown


def test_every_stage_has_its_row() -> None:
    """All stages, in their order."""
    told = [row.cell("stage") for row in markdown.rows(markdown.DOCS / "stages.md")]
    assert told == list(wiring.STAGES)


def test_every_secret_says_where_it_goes() -> None:
    """Each secret setting has its place on the page, and nothing else calls itself one."""
    rows = [
        row
        for row in markdown.rows(markdown.DOCS / "secrets.md")
        if row.heading == "Each secret" and "stages" in row.columns
    ]
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row.cell("secret"))]
    assert sorted(told) == sorted(one.name for one in credentials.SETTINGS if one.secret)


def test_every_setting_is_named_to_a_newcomer() -> None:
    """Whoever releases for the first time meets each name that `doctor` will ask for."""
    text = "".join(
        (markdown.DOCS / f"{page}.md").read_text() for page in ("first-release", "secrets")
    )
    assert [one.name for one in credentials.SETTINGS if one.name not in text] == []


def test_the_picture_shows_the_chain() -> None:
    """The one line of the README's picture, with all stages in their order."""
    (picture,) = [
        line
        for fence in markdown.fences(markdown.ROOT / "README.md")
        for line in fence.text.splitlines()
        if line.strip().startswith(wiring.STAGES[0] + " ")
    ]
    assert re.findall(r"\w+", picture) == list(wiring.STAGES)
