"""One spelling of a JSON document, so that its digest and its signature mean its facts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from release_tool import errors


def encode(facts: Mapping[str, object]) -> bytes:
    """JSON in ASCII: keys sorted, no white space."""
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode(content: bytes, *, limit_bytes: int, what: str) -> dict[str, Any]:
    """The object of a document that is spelled in this one way.

    A key that stands twice, a number in another notation or a space would let two readers see
    two documents, so each is refused.

    Args:
        content: the whole document.
        limit_bytes: the most that one may have.
        what: what it should be, for the error: `a statement`.

    Raises:
        FormatError: it is longer, no JSON object, or spelled otherwise.
    """
    found = any_spelling(content, limit_bytes=limit_bytes, what=what)
    try:
        same = encode(found) == content
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise errors.FormatError("is JSON in another spelling than ours")
    return found


def any_spelling(content: bytes, *, limit_bytes: int, what: str) -> dict[str, Any]:
    """The object of a document that others may have written; a key that stands twice is refused.

    Raises:
        FormatError: it is longer, or no JSON object.
    """
    if len(content) > limit_bytes:
        raise errors.FormatError(f"is longer than {what}", observed=f"{len(content)} bytes")
    try:
        found = json.loads(content, object_pairs_hook=_once)
    except (ValueError, RecursionError) as problem:
        raise errors.FormatError("is not JSON") from problem
    if not isinstance(found, dict):
        raise errors.FormatError("is not a JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise errors.FormatError("holds a key twice")
    return found
