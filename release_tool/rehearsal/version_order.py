"""Precedence of versions as Go's `golang.org/x/mod/semver` has it: SemVer 2.0, section 11."""

from __future__ import annotations

import re

_NUMBER = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
# int() refuses longer texts, and a 64 KiB body may hold them.
_DIGITS = 4000

_Identifier = tuple[int, int, str]
_Key = tuple[int, tuple[int, ...], int, tuple[_Identifier, ...]]


def compare(left: str, right: str) -> int:
    """Negative, zero or positive; what is no version ranks below every version."""
    ours, theirs = _key(left), _key(right)
    return (ours > theirs) - (ours < theirs)


def _key(version: str) -> _Key:
    found = _VERSION.fullmatch(version) if len(version) <= _DIGITS else None
    if found is None:
        return (0, (), 0, ())
    *core, suffix = found.groups()
    identifiers = tuple(_identifier(part) for part in suffix.split(".")) if suffix else ()
    return (1, tuple(map(int, core)), 0 if suffix else 1, identifiers)


def _identifier(text: str) -> _Identifier:
    """Numbers rank by value and below words, words by their ASCII."""
    return (0, int(text), "") if text.isdigit() else (1, 0, text)
