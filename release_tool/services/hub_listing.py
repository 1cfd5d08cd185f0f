"""What the model hub says of a revision: its commit, and the files that it holds.

Source: the shapes that the hub's public client reads. A file has the SHA-1 of its git blob as
`oid`, and one of the large file storage also `lfs.oid`, the SHA-256 of its bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from release_tool import errors

FILES = 512
"""A model has a dozen files; one in two hundred shards is none that a smoke run loads."""
TOTAL_BYTES = 32 * 1024**3
"""Of a whole model: what is larger fits into no Mac's memory beside the provider."""
# One level is usual; git allows more, and no folder of a model needs it.
_DEPTH = 8
_NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._ +@=,()-]{0,199}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file of a model."""

    path: str
    """Relative, with `/`; nothing in it leads out of its folder."""
    size: int
    """In bytes."""
    blob: str
    """SHA-1 of the git blob; of the pointer, where the file itself lies in the large storage."""
    sha256: str = ""
    """Of the bytes, for files of the large storage; empty for all others."""


def parse_commit(body: bytes) -> str:
    """The commit of a revision, from what the hub says of it.

    Raises:
        FormatError: it names none.
    """
    document = _document(body, "what the hub says of the revision")
    found = document.get("sha") if isinstance(document, dict) else None
    if not isinstance(found, str) or not _SHA1.fullmatch(found):
        raise errors.FormatError("the hub names no commit", observed=repr(found)[:80])
    return found


def parse_page(body: bytes) -> tuple[HubFile, ...]:
    """The files of one page of a listing; folders have none of their own.

    Raises:
        FormatError: it is no listing, or holds what no model may hold.
    """
    document = _document(body, "the hub's listing")
    if not isinstance(document, list) or len(document) > 2 * FILES:
        raise errors.FormatError("the hub's listing is none", expected=f"up to {2 * FILES} entries")
    entries = [one if isinstance(one, dict) else {} for one in document]
    return tuple(_file(one) for one in entries if one.get("type") != "directory")


def judge(files: Iterable[HubFile]) -> tuple[HubFile, ...]:
    """The whole listing, in the order of the paths.

    Raises:
        FormatError: it is empty or too large, two files would lie on each other on a Mac, whose
            disks know no small and capital letters, or it is no model.
    """
    found = sorted(files, key=lambda one: one.path)
    if not any(one.path == "config.json" for one in found):
        raise errors.FormatError("the hub's listing has no config.json: that is no model")
    if len(found) > FILES:
        raise _excess("files", FILES, len(found))
    if (total := sum(one.size for one in found)) > TOTAL_BYTES:
        raise _excess("bytes", TOTAL_BYTES, total)
    seen: set[str] = set()
    for one in found:
        folded = one.path.casefold()
        above = {folded.rsplit("/", number)[0] for number in range(1, folded.count("/") + 1)}
        if folded in seen or above & seen:
            raise errors.FormatError(
                "two files of the hub's listing lie on each other", subject=one.path
            )
        seen.add(folded)
    return tuple(found)


def _file(entry: dict[str, Any]) -> HubFile:
    large = entry.get("lfs") or {}
    path, size, blob = entry.get("path"), entry.get("size"), entry.get("oid")
    digest = large.get("oid", "") if isinstance(large, dict) else None
    if not isinstance(path, str) or not _is_plain(path):
        raise errors.FormatError(
            "the hub lists a file that may not be written", observed=repr(path)[:200]
        )
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= TOTAL_BYTES:
        raise errors.FormatError("the hub lists no size", subject=path, observed=repr(size)[:40])
    if not isinstance(blob, str) or not _SHA1.fullmatch(blob):
        raise errors.FormatError("the hub lists no digest", subject=path, observed=repr(blob)[:80])
    if not isinstance(digest, str) or (large and not _SHA256.fullmatch(digest)):
        raise errors.FormatError(
            "the hub lists no digest of a large file", subject=path, observed=repr(digest)[:80]
        )
    return HubFile(path=path, size=size, blob=blob, sha256=digest)


def _is_plain(path: str) -> bool:
    steps = path.split("/")
    return len(steps) <= _DEPTH and all(
        _NAME.fullmatch(step) and step not in (".", "..") for step in steps
    )


def _document(body: bytes, what: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise errors.FormatError(f"{what} is no JSON", observed=type(problem).__name__) from None


def _excess(what: str, limit: int, observed: int) -> errors.FormatError:
    return errors.FormatError(
        f"the hub lists more {what} than a smoke run's model has",
        expected=f"at most {limit}",
        observed=f"{observed}",
        hint="name a smaller model: smoke.model",
    )
