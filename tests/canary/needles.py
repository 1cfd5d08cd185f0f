"""The secrets that are known, and the search for them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from release_tool.services import covering

SHORTEST = 12
"""A shorter value, or one that is a word of a test, would be found where it means nothing."""
_LONG = 256
_SLICE = 48
_BASE64_LINE = re.compile(r"[A-Za-z0-9+/=]{40,}")


class Needles:
    """Secrets by name; each is searched for in all its spellings."""

    def __init__(self) -> None:
        self._forms: dict[tuple[str, str], tuple[bytes, ...]] = {}
        self._current: set[tuple[str, str]] = set()
        self._kept: set[tuple[str, str]] = set()
        self.names: set[str] = set()
        """The names of all secrets that were ever noted."""

    def add(self, name: str, value: str, *, keep: bool = False) -> None:
        """Note a secret; what is as short as a word is not searched for.

        Args:
            name: for the report; the value itself is never told.
            value: the secret.
            keep: whether it counts for all tests, and not only for those of this module.
        """
        pair = (name, value)
        if len(value.strip()) < SHORTEST:
            return
        if pair not in self._forms:
            self._forms[pair] = tuple(_forms(value))
        self.names.add(name)
        self._current.add(pair)
        if keep:
            self._kept.add(pair)

    def forget(self) -> None:
        """Another module begins: its tests have secrets of their own."""
        self._current = set(self._kept)

    def found_in(self, text: bytes) -> Iterator[str]:
        """The names of the secrets that stand in a text."""
        for pair in sorted(self._current):
            if any(form in text for form in self._forms[pair]):
                yield pair[0]


def _forms(value: str) -> Iterator[bytes]:
    for piece in _pieces(value):
        for form in covering.spellings(piece):
            yield form.encode("utf-8", "surrogatepass")


def _pieces(value: str) -> list[str]:
    """Of a file in PEM or base64, lines that no other file has; else the value itself."""
    if "-----BEGIN " in value:
        return [line for line in value.splitlines() if _BASE64_LINE.fullmatch(line)]
    if len(value) <= _LONG:
        return [value.strip()]
    # Certificates stand in the middle of such files, and elsewhere too.
    return ["".join(value.split())[-_SLICE - 4 : -4]]
