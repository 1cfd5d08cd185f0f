"""The page as HTML and as Markdown. Every text is escaped unless it is a template's own.

The HTML is one file without a script: its policy forbids everything but the one style sheet whose
digest it names. So a text that broke out of its place, by a mistake of ours, could load nothing,
run nothing, and send nothing anywhere.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable
from typing import Literal

import jinja2
import markupsafe
from jinja2.runtime import Context

from release_tool import data
from release_tool.report.page import marked
from release_tool.report.page.document import Page
from release_tool.report.visible import shown

Form = Literal["html", "markdown"]
FORMS: tuple[Form, ...] = ("html", "markdown")
SUFFIXES: dict[Form, str] = {"html": ".html", "markdown": ".md"}
_STYLE = "report.css"

Cover = Callable[[str], str]
"""Takes secrets out of a text."""


def render(page: Page, form: Form, *, cover: Cover = str) -> str:
    """One page.

    Args:
        page: what to say.
        form: as a whole HTML file, or as GitHub-flavoured Markdown.
        cover: the last look at each text: no record holds a secret, and this stands behind that.
    """
    return as_html(page, cover) if form == "html" else as_markdown(page, cover)


def as_html(page: Page, cover: Cover = str) -> str:
    """The whole file."""
    style = (data.templates_folder() / _STYLE).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return _html().render(
        page=page,
        cover=cover,
        style=markupsafe.Markup(style),  # noqa: S704 - our own file
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none';"
        " form-action 'none'",
    )


def as_markdown(page: Page, cover: Cover = str) -> str:
    """The twin: the same facts as tables."""
    return _markdown().render(page=page, cover=cover).strip() + "\n"


# Every expression of a template passes one of these two, so no text can be forgotten.


@jinja2.pass_context
def _for_html(context: Context, value: object) -> object:
    if isinstance(value, str) and not isinstance(value, markupsafe.Markup):
        return shown(context["cover"](value))  # escaped behind this
    return value


@jinja2.pass_context
def _for_markdown(context: Context, value: object) -> object:
    if isinstance(value, str) and not isinstance(value, marked.Safe):
        return marked.escaped(context["cover"](value))
    return value


@functools.cache
def _html() -> jinja2.Template:
    return _environment(_for_html, autoescape=True).get_template("report.html.j2")


@functools.cache
def _markdown() -> jinja2.Template:
    return _environment(_for_markdown, autoescape=False).get_template("report.md.j2")


def _environment(finalize: Callable[..., object], *, autoescape: bool) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(data.templates_folder()),
        undefined=jinja2.StrictUndefined,
        autoescape=autoescape,  # noqa: S701 - off for Markdown alone, which `finalize` escapes
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
