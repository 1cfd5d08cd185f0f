"""Covers a secret in what an outsider wrote, however it was spelled on its way back.

What stands before a service may echo a request: in a page, in JSON, in the address of a redirect.
Such answers are shown to people and kept in records, so whoever sends a secret covers it in what
comes back.
"""

from __future__ import annotations

import base64
import html
import json
import urllib.parse
from collections.abc import Iterable, Iterator

COVER = "..."
SHORTEST = 6
"""A shorter secret stands in texts that tell nothing of it; covering it would only garble them."""


def text(shown: str, secrets: Iterable[str]) -> str:
    """A text without any of the secrets."""
    for spelling in _all_spellings(secrets):
        shown = shown.replace(spelling, COVER)
    return shown


def body(content: bytes, secrets: Iterable[str]) -> bytes:
    """The same for bytes."""
    for spelling in _all_spellings(secrets):
        content = content.replace(spelling.encode("utf-8", "surrogatepass"), COVER.encode())
    return content


def spellings(secret: str) -> list[str]:
    """The secret as it is, escaped for JSON, pages and addresses, in hexadecimal and base64.

    Base64 has three forms, by where the secret begins in what was encoded; of each, those
    characters are taken that depend on the secret alone. The longest spelling comes first.
    """
    raw = secret.encode("utf-8", "surrogatepass")
    written = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        html.escape(secret),
    }
    found = {
        *written,
        # A dump of the headers inside an answer of JSON.
        *(json.dumps(form)[1:-1] for form in written),
        urllib.parse.quote(raw, safe=""),
        urllib.parse.quote(raw),
        urllib.parse.quote_plus(raw),
        raw.hex(),
        raw.hex().upper(),
    }
    found.update(_in_base64(raw))
    return sorted(found, key=lambda form: (-len(form), form))


def _all_spellings(secrets: Iterable[str]) -> Iterator[str]:
    for secret in secrets:
        if len(secret) >= SHORTEST:
            yield from spellings(secret)


def _in_base64(raw: bytes) -> Iterator[str]:
    for before, cut in ((0, 0), (1, 2), (2, 3)):
        whole = base64.b64encode(bytes(before) + raw).decode()
        certain = whole[cut : (before + len(raw)) * 8 // 6]
        yield certain
        yield certain.translate(str.maketrans("+/", "-_"))
