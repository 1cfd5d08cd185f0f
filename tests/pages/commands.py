"""The command lines of the pages, one simple command each, as a shell would read them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.pages import markdown

TOOL = ("release-tool", ".venv/bin/release-tool")
# What a shell does by itself.
BUILTINS = frozenset({".", "[", "cd", "eval", "export", "test", "true"})

_SEPARATORS = frozenset("|&;()")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_INLINE = re.compile(r"`(release-tool [^`]+)`")


class Command(NamedTuple):
    """One simple command of a line."""

    page: Path
    line: int
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.words[0]

    @property
    def is_ours(self) -> bool:
        return self.name in TOOL

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line} {shlex.join(self.words)}"


def shown() -> list[Command]:
    """Every command of every block of shell in the pages, in their order."""
    return [
        Command(fence.page, fence.line + offset, words)
        for page in markdown.PAGES
        for fence in markdown.fences(page)
        if fence.language == "sh"
        for offset, line in _lines(fence.text)
        for words in simple(line)
    ]


def inline() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Commands of ours in the middle of a text, which may leave words out."""
    for page in markdown.PAGES:
        for found in _INLINE.findall(markdown.prose(page)):
            yield page, tuple(shlex.split(found.replace("…", "")))


def simple(line: str) -> Iterator[tuple[str, ...]]:
    """The simple commands of a line: pipelines apart, redirections and assignments left out."""
    words: list[str] = []
    for token in [*_tokens(line), ";"]:
        if not set(token) <= _SEPARATORS:
            words.append(token)
            if token.startswith("$("):
                yield from simple(token[2:-1])
            continue
        found = _without_redirections(words)
        while found and _ASSIGNMENT.match(found[0]):
            found = found[1:]
        if found:
            yield tuple(found)
        words = []


def _tokens(line: str) -> list[str]:
    reader = shlex.shlex(line, posix=True, punctuation_chars="|&;()<>")
    reader.whitespace_split = True
    reader.commenters = "#"
    return list(reader)


def _without_redirections(words: list[str]) -> list[str]:
    found = []
    after = False
    for word in words:
        if set(word) <= set("<>"):
            after = True
        elif after:
            after = False
        else:
            found.append(word)
    return found


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Whole lines: one that ends with a backslash goes on in the next."""
    begun, start = "", 0
    for offset, line in enumerate(text.splitlines()):
        start = start if begun else offset
        begun += line
        if begun.endswith("\\"):
            begun = begun[:-1]
            continue
        if begun.strip():
            yield start, begun.strip()
        begun = ""
