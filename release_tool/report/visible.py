"""Texts of records as people can see them: no character of theirs acts on what stands around."""

from __future__ import annotations

import unicodedata

MOST_CHARACTERS = 1500
"""The longest error of ours has a third; what is longer was written to be long."""
_MOST_MARKS = 4
"""Stacked on one letter; no language needs more, and more of them paint over other lines."""


def visible(text: str) -> str:
    """Without characters that control a terminal, or turn the direction of what follows."""
    return "".join(
        mark
        if mark in "\n\t" or unicodedata.category(mark)[0] != "C"
        else "\N{REPLACEMENT CHARACTER}"
        for mark in text
    )


def bounded(text: str, most: int = MOST_CHARACTERS) -> str:
    """At most so many characters of a text, and how many were left out."""
    if len(text) <= most:
        return text
    return f"{text[:most]} … and {len(text) - most} more characters"


def shown(text: str) -> str:
    """A text that is visible, bounded, and stays within its own lines."""
    return _unstacked(visible(bounded(text)))


def _unstacked(text: str) -> str:
    if text.isascii():
        return text
    found: list[str] = []
    stacked = 0
    for mark in text:
        stacked = stacked + 1 if unicodedata.category(mark) in ("Mn", "Me") else 0
        if stacked <= _MOST_MARKS:
            found.append(mark)
    return "".join(found)
