"""The small JSON document that says which release is the latest, and where its archive stands.

It is written only over the state in which it was read (`ObjectStore.replace`), so of two releases
that race to it the later one sees what the earlier one wrote.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from release_tool import errors
from release_tool.services import json_document

NAME = "release.json"
# Ours has some 400 bytes; what is far larger is something else.
LIMIT_BYTES = 16 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEXTS = ("version", "platform", "key", "url", "sha256")
_TEXT_CHARACTERS = 2048
# The largest object that R2 holds is 4.995 TiB.
_LARGEST = 5 * 1024**4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Where the latest release stands."""

    version: str
    platform: str
    key: str
    """The archive's key, which never moves."""
    url: str
    """Its public address."""
    sha256: str
    size: int
    """Bytes of the archive."""
    instead_of: str = ""
    """The withdrawn versions that it was moved back from; stands in the document only then."""


def encode(pointer: Pointer) -> bytes:
    """The document: one line of JSON, keys sorted."""
    facts = asdict(pointer)
    if not pointer.instead_of:
        del facts["instead_of"]
    return json_document.encode(facts)


def parse(content: bytes) -> Pointer:
    """Read a document; further keys of later writers are left aside.

    Raises:
        FormatError: it is no such document.
    """
    found = json_document.read(content, limit_bytes=LIMIT_BYTES, what="a pointer")
    texts = {name: _text(name, found.get(name)) for name in _TEXTS}
    if not _SHA256.fullmatch(texts["sha256"]):
        raise errors.FormatError("names no digest", observed=texts["sha256"][:80])
    size = found.get("size")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= _LARGEST:
        raise errors.FormatError("names no size", observed=repr(size)[:80])
    instead_of = _text("instead_of", found["instead_of"]) if "instead_of" in found else ""
    return Pointer(**texts, size=size, instead_of=instead_of)


def _text(name: str, value: object) -> str:
    return json_document.text(name, value, most=_TEXT_CHARACTERS)
