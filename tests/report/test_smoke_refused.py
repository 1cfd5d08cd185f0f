"""The page of a refused smoke run: the failures first, all that was judged behind them."""

from __future__ import annotations

from markdown_it import MarkdownIt

from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.report import smoke_refused


def rendered(**groups: list[Check]) -> str:
    kept = {
        "version": "0.5.0",
        "archive_sha256": "ab" * 32,
        "message": "the provider is too slow: do not ship",
        "groups": {name: [one.as_json() for one in found] for name, found in groups.items()},
    }
    return str(MarkdownIt("commonmark").enable("table").render(smoke_refused.as_markdown(kept)))


def test_what_failed_stands_first_with_threshold_and_observed() -> None:
    """One table of failures over all groups, then each group whole."""
    slow = checks.failed("ttft:p95<=2s", expected="<= 2 s", observed="3.1 s at b1")
    good = checks.passed("text", "agrees", subject="What is the capital of France?")
    open_ = checks.not_checked("installer", "nothing to try")
    page = rendered(provider=[good], speed=[slow], installer=[open_])
    first, *others = page.split("<table>")[1:]
    assert first.count("<tr>") == 2
    for told in ("ttft:p95&lt;=2s", "FAIL", "&lt;= 2 s", "3.1 s at b1"):
        assert told in first
    assert [one.count("<tr>") for one in others] == [2, 2, 2]
    assert "provider: 1 of 1 passed" in page
    assert "speed: 0 of 1 passed" in page
    assert "text of What is the capital of France?" in others[0]
    assert "not checked" in others[2]
    assert "nothing to try" in others[2]


def test_what_came_out_the_same_several_times_is_told_once() -> None:
    """Of four answers at once, each another token: one row with their number; no empty group."""
    wrong = checks.failed("text with 4 at once", expected="token 5", observed="!", subject="q")
    page = rendered(provider=[wrong] * 4, speed=[])
    assert page.count("text with 4 at once of q (4)") == 2
    assert "provider: 0 of 4 passed" in page
    assert "speed" not in page


def test_no_text_of_a_provider_becomes_markup() -> None:
    """Whatever it answers stays inside its cell."""
    evil = "| x |\n\n# big <script>alert(1)</script> [a](javascript:x) `c` **b**"
    page = rendered(provider=[checks.failed("text", expected=evil, observed=evil, subject=evil)])
    assert page.count("<h2>") == 1
    assert page.count("<h3>") == 1
    for mark in ("<script", "<a ", "<code", "<strong", "<h1"):
        assert mark not in page
    assert all(row.count("<td>") == 4 for row in page.split("<tr>")[2:3])


def test_a_run_that_judged_nothing_has_no_table() -> None:
    """The verdict alone."""
    assert "<table>" not in rendered()


def test_whole_digests_do_not_push_what_was_observed_off_the_page() -> None:
    """As everywhere for people the first twelve digits stand there; records hold the whole."""
    wrong = checks.failed("flat copy", expected="ab" * 32, observed="cd" * 32, subject="bin/x")
    page = rendered(needs=[wrong])
    assert "<td>abababababab…</td>" in page
    assert "<td>cdcdcdcdcdcd…</td>" in page
