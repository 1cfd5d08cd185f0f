"""The small JSON documents that stand beside the archives: one line, and read as anybody's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from release_tool import errors


def encode(facts: Mapping[str, object]) -> bytes:
    """One line of JSON, keys sorted."""
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def read(content: bytes, *, limit_bytes: int, what: str) -> dict[str, Any]:
    """The object that a document holds; what stands in it is still anybody's.

    Args:
        content: the whole document.
        limit_bytes: the most that one may have.
        what: what it should be, for the error: `a pointer`.

    Raises:
        FormatError: it is longer, no JSON, or no object.
    """
    if len(content) > limit_bytes:
        raise errors.FormatError(f"is longer than {what}", observed=f"{len(content)} bytes")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise errors.FormatError("is not JSON") from problem
    if not isinstance(found, dict):
        raise errors.FormatError("is not a JSON object")
    return found


def text(name: str, value: object, *, most: int) -> str:
    """A field that must be there: some printable characters, and not more than `most`.

    Raises:
        FormatError: it is not.
    """
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise errors.FormatError(f"names no {name}", observed=repr(value)[:80])
    if not value.isprintable():
        raise errors.FormatError(f"has a {name} that cannot be printed", observed=repr(value)[:80])
    return value
