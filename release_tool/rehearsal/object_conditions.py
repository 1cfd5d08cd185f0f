"""Conditional operations as R2 judges them.

Source: developers.cloudflare.com/r2/api/s3/conditional-operations/. `*` or a list of ETags, weak
ones included; `If-Match` fails where the key is missing.
"""

from __future__ import annotations

from datetime import datetime

from werkzeug.datastructures import Headers
from werkzeug.http import parse_date, parse_etags

from release_tool.rehearsal import s3_errors
from release_tool.rehearsal.object_index import Stored

NAMES = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")


def check(headers: Headers, current: Stored | None, *, prefix: str = "") -> None:
    """Judge the four conditions that begin with `prefix` on what stands there.

    Raises:
        S3Error: 412, one of them does not hold.
    """
    match = headers.get(f"{prefix}if-match")
    if match is not None and (current is None or not _lists(match, current.etag)):
        raise s3_errors.precondition_failed()
    none = headers.get(f"{prefix}if-none-match")
    if none is not None and current is not None and _lists(none, current.etag):
        raise s3_errors.precondition_failed()
    if current is None:
        return
    modified = current.modified.replace(microsecond=0)
    since = _date(headers.get(f"{prefix}if-modified-since"))
    if since is not None and modified <= since:
        raise s3_errors.precondition_failed()
    unmodified = _date(headers.get(f"{prefix}if-unmodified-since"))
    if unmodified is not None and modified > unmodified:
        raise s3_errors.precondition_failed()


def _lists(header: str, etag: str) -> bool:
    bare = etag.strip('"')
    # Clients may leave the quotes out.
    return header.strip() == bare or parse_etags(header).contains_weak(bare)


def _date(header: str | None) -> datetime | None:
    return parse_date(header) if header else None
