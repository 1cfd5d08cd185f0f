"""Each claim names its kinds of proof, and tests that exist."""

from __future__ import annotations

import pytest

from tests.pages import markdown
from tests.pages.markdown import Row

ROWS = list(markdown.rows(markdown.DOCS / "claims.md"))
KINDS = {"real", "tool", "look-alike", "Mac to come"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.cells[0][:60])
def test_a_claim_says_what_proves_it(row: Row) -> None:
    """Known kinds, a test or a tool of ours, and bold exactly where a Mac is awaited."""
    kinds = row.cell("kinds").split(", ")
    assert set(kinds) <= KINDS
    assert len(row.cell("proved by")) > 20
    tests, tools = markdown.named_tests(row.cell("tests")), "`tools/" in row.cell("tests")
    assert tests or tools
    assert ("Mac to come" in kinds) == ("**" in row.cell("proved by"))


def test_there_are_claims() -> None:
    """The table is read at all."""
    assert len(ROWS) > 25
