"""Covers a secret in what an outsider wrote, however it was spelled on its way back.

What stands before a service may echo a request: in a page, in JSON, in the address of a redirect.
Such answers are shown to people and kept in records, so whoever sends a secret covers it in what
comes back.
"""

from __future__ import annotations

import base64
import functools
import html
import itertools
import json
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence

from release_tool.services import escapes

COVER = "..."
SHORTEST = 6
"""A shorter secret stands in texts that tell nothing of it; covering it would only garble them."""


def text(shown: str, secrets: Iterable[str]) -> str:
    """A text without any of the secrets, in every reading of it."""
    known = [secret for secret in secrets if len(secret) >= SHORTEST]
    for secret in known:
        for spelling in spellings(secret):
            shown = shown.replace(spelling, COVER)
    return _without(shown, _escaped(shown, known))


def body(content: bytes, secrets: Iterable[str]) -> bytes:
    """The same for bytes, in UTF-16 and UTF-32 too, which readers of JSON take as well.

    Bytes without a secret come back as they were, whatever they are.
    """
    known = list(secrets)
    encoding = json.detect_encoding(content)
    if not encoding.startswith("utf-8"):
        wide = content.decode(encoding, "replace")
        covered = text(wide, known)
        content = content if covered == wide else covered.encode()
    shown = content.decode("utf-8", "surrogateescape")
    covered = text(shown, known)
    return content if covered == shown else covered.encode("utf-8", "surrogateescape")


def stands_in(shown: str, secret: str) -> bool:
    """Whether a text holds a secret, in any spelling that is covered."""
    return any(
        spelling in reading.text
        for reading in escapes.readings(shown)
        for spelling in spellings(secret)
    )


@functools.lru_cache(maxsize=256)
def spellings(secret: str) -> tuple[str, ...]:
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
    found.update(in_base64(raw))
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def in_base64(raw: bytes) -> Iterator[str]:
    """What depends on some bytes alone in the base64 of whatever holds them, in both alphabets."""
    for before, cut in ((0, 0), (1, 2), (2, 3)):
        whole = base64.b64encode(bytes(before) + raw).decode()
        certain = whole[cut : (before + len(raw)) * 8 // 6]
        yield certain
        yield certain.translate(str.maketrans("+/", "-_"))


def _escaped(shown: str, secrets: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where secrets stand that only a reader of escapes sees."""
    for reading in itertools.islice(escapes.readings(shown), 1, None):
        for secret in secrets:
            for spelling in spellings(secret):
                at = reading.text.find(spelling)
                while at >= 0:
                    yield reading.whence(at, at + len(spelling))
                    at = reading.text.find(spelling, at + len(spelling))


def _without(shown: str, stretches: Iterable[tuple[int, int]]) -> str:
    kept, place = [], 0
    for start, end in sorted(stretches):
        if start >= place:
            kept += [shown[place:start], COVER]
        place = max(place, end)
    return "".join((*kept, shown[place:]))
