"""No text of a record becomes markup, in the page or in its twin; nothing else is loaded or run."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from release_tool.report import visible
from release_tool.report.page import document, marked, rendering
from release_tool.report.page.document import Page
from tests import page_samples
from tests.page_samples import HOSTILE, LONG, Release

VOID = {"meta", "input", "br", "link", "img"}
# What the templates use; a tag or an attribute beyond these came out of a text.
TAGS = {
    *("a", "article", "body", "caption", "code", "dd", "desc", "details", "div", "dl", "dt"),
    *("footer", "h1", "h2", "h3", "h4", "head", "header", "html", "input", "label", "li", "main"),
    *(
        "br",
        "meta",
        "nav",
        "ol",
        "p",
        "path",
        "rect",
        "section",
        "span",
        "strong",
        "style",
        "summary",
    ),
    *("svg", "table", "tbody", "td", "th", "thead", "title", "tr", "ul"),
}
ATTRIBUTES = {
    *("aria-hidden", "aria-label", "aria-labelledby", "charset", "class", "content", "d"),
    *("focusable", "height", "href", "http-equiv", "id", "lang", "name", "preserveaspectratio"),
    *("role", "scope", "tabindex", "type", "viewbox", "width", "y"),
}


class Parsed(HTMLParser):
    """Every tag with its attributes, and the text; an unbalanced page is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.style = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    @property
    def shape(self) -> list[str]:
        return [tag for tag, _ in self.tags]


def page(folder: Path, text: str = "") -> Page:
    release = Release(folder, text=text).up_to("github")
    release.fail("promote")
    return document.read(release.workspace)


def html(folder: Path, text: str = "") -> Parsed:
    return Parsed(rendering.as_html(page(folder, text)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page(tmp_path_factory.mktemp("plain"), "plain words")


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        LONG,
        "</title><meta http-equiv=refresh content='0;url=https://evil.example'>",
        '" onfocus=alert(1) autofocus="',
        "--><!--",
        "]]><![CDATA[<b>",
        "</style><style>*{display:none}",
        "{{ page.head }}{% for a in b %}",
    ],
)
def test_a_text_leaves_the_shape_of_the_page(tmp_path: Path, plain: Page, text: str) -> None:
    """By the same parser, the same tags in the same order as with plain words in its place."""
    hostile = html(tmp_path, text)
    assert hostile.shape == Parsed(rendering.as_html(plain)).shape
    assert {tag for tag, _ in hostile.tags} <= TAGS
    assert {name for _, found in hostile.tags for name in found} <= ATTRIBUTES


@functools.cache
def small() -> Page:
    """A page with few sections, for many texts."""
    with tempfile.TemporaryDirectory() as folder:
        release = Release(Path(folder)).up_to("profile")
        release.fail("assemble")
        return replace(document.read(release.workspace), checks=())


def _texts() -> st.SearchStrategy[str]:
    return (
        st.lists(
            st.sampled_from(
                [*"<>&\"'`|*_[]()#@~:/=\\\n\r\t{}%!-", "script", "www.", "http://", "a"]
            )
            | st.characters(),
            max_size=40,
        )
        .map("".join)
        .filter(str.strip)
    )


@given(_texts())
def test_any_text_is_text(text: str) -> None:
    """Generated texts in the verdict, a fact and a stage: the shape stays, the words are shown."""
    parsed = Parsed(rendering.as_html(_with_text(small(), text)))
    assert parsed.shape == Parsed(rendering.as_html(_with_text(small(), "x"))).shape
    shown = " ".join(visible.shown(text).split())
    assert shown in " ".join("".join(parsed.text).split())


@given(_texts())
def test_any_text_is_text_in_the_twin(text: str) -> None:
    """By an independent parser of Markdown: the same blocks and cells, no link, no image."""
    shape = list(_shape(rendering.as_markdown(_with_text(small(), text))))
    assert shape == list(_shape(rendering.as_markdown(_with_text(small(), "x"))))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("cdhash d5cea7fffdb1, timestamped", "cdhash <code>d5cea7fffdb1</code>, timestamped"),
        ("@one, @two; three", "<code>&#64;one&#44; &#64;two</code>; three"),
        ("<b>,,", "<code>&#60;b&#62;</code>,,"),
    ],
)
def test_the_comma_behind_code_is_of_the_sentence(text: str, made: str) -> None:
    """A digest is copied out of the page without it."""
    assert marked.escaped(text) == made


@given(_texts() | st.text(max_size=60))
def test_a_text_of_the_twin_holds_nothing_that_github_links(text: str) -> None:
    """Outside of code only plain words are left: no mention, issue, commit, address or emoji."""
    made = re.sub(r"<code>[A-Za-z0-9 &#;-]*</code>", "", marked.escaped(text))
    assert re.fullmatch(r"[A-Za-z0-9 ,;:()%/.'\"_\u2212\u00b7\u2026\u2014-]*", made)
    assert not re.search(r"(?i)\b[0-9a-f]{7,40}\b|\bgh-\d|www\.|https?:|//|:[a-z_]+:", made)


@pytest.mark.parametrize(
    "text", ["- x", "1. x", "1) x", "---", "# x", "> x", "+ x", "=== x", ": x"]
)
def test_a_text_begins_no_block(text: str) -> None:
    """A paragraph that begins with a recorded text is a paragraph."""
    assert [token.type for token in _parser().parse(marked.escaped(text))] == [
        *("paragraph_open", "inline", "paragraph_close")
    ]


def test_the_twin_keeps_its_shape(tmp_path: Path, plain: Page) -> None:
    """A whole release full of markup: the same tables as one of plain words."""
    hostile = rendering.as_markdown(page(tmp_path, HOSTILE))
    assert list(_shape(hostile)) == list(_shape(rendering.as_markdown(plain)))


def test_the_policy_allows_one_style_and_nothing_else(tmp_path: Path) -> None:
    """No script, picture, frame, form or address: `default-src 'none'` and our style's digest."""
    parsed = html(tmp_path, HOSTILE)
    (policy,) = [found["content"] for tag, found in parsed.tags if "http-equiv" in found]
    digest = base64.b64encode(hashlib.sha256(parsed.style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    links = {found["href"] for tag, found in parsed.tags if "href" in found}
    ids = {found["id"] for _, found in parsed.tags if "id" in found}
    assert {link.removeprefix("#") for link in links} <= ids
    assert "url(" not in parsed.style
    assert "@import" not in parsed.style


def test_nothing_turns_the_direction_or_the_colour(tmp_path: Path) -> None:
    """Controls of terminals and of bidirectional text are shown as what cannot be shown."""
    for text in (rendering.as_html(page(tmp_path, HOSTILE)),):
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x1b\x00]", text)
        assert "\N{REPLACEMENT CHARACTER}gnp.exe" in text


def test_a_stack_of_marks_stays_on_its_line() -> None:
    """More than four on a letter are left out, and no writing system loses any."""
    assert visible.shown("a" + "\u0301" * 50) == "a" + "\u0301" * 4
    assert visible.shown("Tiếng Việt \u0928\u093f") == "Tiếng Việt \u0928\u093f"


def test_a_text_without_an_end_has_one() -> None:
    """And how much was left out is said."""
    assert visible.shown("x" * 5000).endswith(" … and 3500 more characters")


def test_secrets_are_covered_in_every_text(plain: Page) -> None:
    """No record holds one; were it so, neither form of the page would."""
    secret = "dk-secret-0123456789<&"
    changed = _with_text(plain, f"said {secret} aloud")

    def cover(text: str) -> str:
        return text.replace(secret, "...")

    for form in rendering.FORMS:
        text = rendering.render(changed, form, cover=cover)
        assert "0123456789" not in text
        assert "said" in text


def test_a_page_of_the_same_records_is_the_same(tmp_path: Path) -> None:
    """But for the moment at which it was made."""
    workspace = page_samples.good(tmp_path)
    found = document.read(workspace)
    assert rendering.as_html(found) == rendering.as_html(
        document.read(workspace, now=_moment(found))
    )


def _moment(found: Page) -> datetime:
    return datetime.strptime(found.made_at, "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)


def _with_text(found: Page, text: str) -> Page:
    stage = replace(found.stages[0], text=text, notes=(text,), host=text)
    problem = replace(found.verdict.problem, subject=f"s{text}") if found.verdict.problem else None
    return replace(
        found,
        verdict=replace(
            found.verdict, title=text, text=text, next_step=f"n{text}", problem=problem
        ),
        stages=(stage, *found.stages[1:]),
        facts=(document.Fact(name="name", text=text),),
    )


def _parser() -> MarkdownIt:
    return MarkdownIt("gfm-like", {"linkify": False})


def _shape(text: str) -> Iterator[str]:
    for token in _parser().parse(text):
        yield token.type
        for child in token.children or ():
            if child.type == "html_inline":
                if child.content not in ("<code>", "</code>"):
                    yield child.content
            elif child.type != "text":
                yield child.type
