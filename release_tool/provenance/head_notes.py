"""The log's head in the notes of a release that takes no further asset: written and found."""

from __future__ import annotations

import re

# GitHub keeps a text as its form sends it, with CR and LF. A head has some 500 bytes.
_BLOCK = re.compile(
    r"`(log\.head\.[1-9][0-9]{0,6}\.json)`:\s{1,8}```json\s{1,4}(\{[^\r\n]{1,8192}\})\s{1,4}```"
)


def block(name: str, sealed: str) -> str:
    """What goes to the end of the notes.

    Args:
        name: of the head, as an asset would be called.
        sealed: the signed head, one line of JSON.
    """
    told = f"The head of the log of releases, as `{name}`:"
    return f"\n\n{told}\n\n```json\n{sealed}\n```\n"


def parse(notes: str) -> tuple[tuple[str, bytes], ...]:
    """Every head in anybody's notes: its name, and what stands there as signed."""
    return tuple((found[1], found[2].encode()) for found in _BLOCK.finditer(notes))
