"""Texts of records inside Markdown as GitHub reads it: none becomes markup, a link or a mention.

GitHub makes links of mentions, issue numbers, commits and addresses behind the parser, out of the
text that it shows, so escaping does not stop it. It leaves code alone: words that hold anything
else than plain characters are written as code.
"""

from __future__ import annotations

import itertools
import re

from release_tool.report.notes import fact
from release_tool.report.visible import shown

_PLAIN = re.compile(r"[A-Za-z0-9,;:()%/.'\"_\u2212\u00b7\u2026\u2014-]+")
# What would be structure or a link although it consists of plain characters: emphasis, the
# beginning of a list or a rule, a short name of an emoji (the minutes of a time are none), a
# commit, an issue, an address.
_MARKUP = re.compile(
    r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^[-:]|^[0-9]+[.)]$|:(?![0-9]{2}:)[A-Za-z0-9_-]+:"
    r"|(?<![A-Za-z0-9])[0-9a-fA-F]{7,}(?![A-Za-z0-9])|(?i:gh-[0-9]|www\.|http|ftp)|//"
)


class Safe(str):
    """Text that is Markdown already."""

    __slots__ = ()


def escaped(text: str) -> Safe:
    """A text of a record on one line: plain words as they are, all else as code."""
    words = shown(text).split()
    return Safe(
        " ".join(
            " ".join(run) if plain else _as_code(" ".join(run))
            for plain, run in itertools.groupby(words, _is_plain)
        )
    )


def _as_code(text: str) -> str:
    """The words as code; the comma or semicolon behind them belongs to the sentence."""
    words = text.rstrip(",;")
    return fact(words) + text[len(words) :]


def _is_plain(word: str) -> bool:
    return bool(_PLAIN.fullmatch(word)) and not _MARKUP.search(word)
