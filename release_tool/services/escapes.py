"""What readers make of escaped text, each reading with its way back to the text itself.

Encoders choose what they escape, and how: Go writes `\\u0026`, PHP `\\/`, pages `&#43;`,
addresses `%2B`, and one stands inside another. Whoever looks for something in a text that was
written so looks into every reading of it.
"""

from __future__ import annotations

import html
import re
import urllib.parse
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

# A page inside JSON inside an address; what is nested deeper no reader undoes by itself.
_DEPTH = 3
# Of a larger text, a listing rather than an answer to be shown, the outermost escapes alone.
_DEEP_CHARACTERS = 256 * 1024
# Of all readings of one text. More are nobody's answer, and would keep the reader busy.
_MOST_ESCAPES = 100_000
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEX = "[0-9a-fA-F]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One reading of a text."""

    text: str
    _inner: Reading | None = None
    """What was read; None for the text itself."""
    _starts: list[int] = field(default_factory=list)
    """Where each stretch begins; an escape is a stretch of its own."""
    _places: list[tuple[int, int]] = field(default_factory=list)
    """Where each begins in what was read, and its length there; 0 for what stands there as is."""

    def whence(self, start: int, end: int) -> tuple[int, int]:
        """Where in the text itself a stretch of this reading stands; of an escape, all of it."""
        if self._inner is None:
            return start, end
        at = bisect_right(self._starts, start) - 1
        place, length = self._places[at]
        first = place if length else place + start - self._starts[at]
        at = bisect_right(self._starts, end - 1) - 1
        place, length = self._places[at]
        last = place + (length or end - self._starts[at])
        return self._inner.whence(first, last)


def readings(text: str) -> Iterator[Reading]:
    """The text itself, and each other text that a reader of escapes may make of it.

    A text with more escapes than any answer has is read as far as there is time for.
    """
    layer, seen, left = [Reading(text=text)], {text}, _MOST_ESCAPES
    yield layer[0]
    for _ in range(_DEPTH if len(text) <= _DEEP_CHARACTERS else 1):
        found = []
        for inner in layer:
            for grammar in _GRAMMARS:
                reading, count = _read(inner, grammar, left)
                left -= count
                if reading.text not in seen:
                    seen.add(reading.text)
                    found.append(reading)
                    yield reading
        layer = found


@dataclass(frozen=True, slots=True)
class _Grammar:
    escape: re.Pattern[str]
    meant: Callable[[str], str]


def _read(inner: Reading, grammar: _Grammar, most: int) -> tuple[Reading, int]:
    """One reading, in which at most so many escapes are undone; and how many were."""
    starts, places, pieces = [0], [(0, 0)], []
    length = place = count = 0
    for found in islice(grammar.escape.finditer(inner.text), most):
        count += 1
        before, meant = inner.text[place : found.start()], grammar.meant(found[0])
        pieces += [before, meant]
        starts += [length + len(before), length + len(before) + len(meant)]
        places += [(found.start(), len(found[0])), (found.end(), 0)]
        length, place = starts[-1], found.end()
    text = "".join((*pieces, inner.text[place:]))
    return Reading(text=text, _inner=inner, _starts=starts, _places=places), count


_BACKSLASH = re.compile(
    rf"\\u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}"
    rf"|\\u{_HEX}{{4}}|\\u\{{{_HEX}{{1,6}}\}}|\\U{_HEX}{{8}}"
    # Octets of one character, as Python, git and C write them.
    rf"|(?:\\x[89a-fA-F]{_HEX})+|\\x[0-7]{_HEX}|(?:\\[23][0-7]{{2}})+|\\[01][0-7]{{2}}"
    r"|\\[\s\S]"
)


def _of_backslash(escape: str) -> str:
    """As JSON, JavaScript, Python, C and their relations mean it."""
    kind, digits = escape[1], escape[2:].strip("{}")
    if len(escape) == 2:
        return _SHORT.get(kind, kind)
    if kind == "x":
        return _octets(bytes.fromhex(escape.replace("\\x", "")))
    if kind not in "uU":
        return _octets(bytes(int(one, 8) for one in escape.split("\\")[1:]))
    if "\\" in digits:
        return bytes.fromhex(digits.replace("\\u", "")).decode("utf-16-be")
    number = int(digits, 16)
    return chr(number) if number <= 0x10FFFF else escape


def _octets(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


_ENTITY = re.compile(r"&(?:#[0-9]{1,10}|#[xX][0-9a-fA-F]{1,10}|[A-Za-z][A-Za-z0-9]{1,31});")
_PERCENT = re.compile(rf"(?:%[89a-fA-F]{_HEX})+|%[0-7]{_HEX}")
_GRAMMARS = (
    _Grammar(_BACKSLASH, _of_backslash),
    _Grammar(_ENTITY, html.unescape),
    _Grammar(_PERCENT, lambda escape: _octets(urllib.parse.unquote_to_bytes(escape))),
)
