"""The wrappings in which CMS and certificates travel: DER, PEM, or base64 text.

CI secrets hold profiles as base64, portals hand out DER, and OpenSSL writes PEM.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from release_tool import errors

MAX_BYTES = 8 * 1024 * 1024
"""A profile with thousands of devices stays under one megabyte."""

_SEQUENCE = b"\x30"
_FENCE = b"-----"
_LABEL = re.compile(rb"BEGIN ([A-Z0-9 ]+)")


def unwrap(data: bytes, what: str) -> bytes:
    """The one DER document in DER, PEM or base64 text.

    Args:
        data: what was given.
        what: how a message calls it: `a provisioning profile`.

    Raises:
        FormatError: empty, too large, none of the three, or several PEM blocks.
    """
    found = unwrap_all(data, what)
    if len(found) != 1:
        raise errors.FormatError(f"not {what}: {len(found)} PEM blocks, one was expected")
    return found[0]


def unwrap_all(data: bytes, what: str, *, label: str = "") -> tuple[bytes, ...]:
    """Every DER document: the one of DER or base64 text, or each block of PEM.

    Args:
        data: what was given.
        what: how a message calls it.
        label: take only PEM blocks of this label, such as `CERTIFICATE`; empty takes all.

    Raises:
        FormatError: empty, too large, or none of the three.
    """
    if not data.strip():
        raise errors.FormatError(f"not {what}: it is empty")
    if len(data) > MAX_BYTES:
        raise errors.FormatError(f"not {what}: more than {MAX_BYTES // 1024 // 1024} MB")
    if data.startswith(_SEQUENCE):
        return (data,)
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    if b"-----BEGIN " in text:
        blocks = tuple(_base64(body, what) for body in _blocks(text, label.encode()))
        if not blocks:
            raise errors.FormatError(f"not {what}: no whole PEM block {label}".rstrip())
        return blocks
    return (_base64(text, what),)


def _blocks(text: bytes, label: bytes) -> Iterator[bytes]:
    """What stands between `BEGIN` and `END` of one label; each byte is looked at once."""
    parts = text.split(_FENCE)
    for begin, body, end in zip(parts, parts[1:], parts[2:], strict=False):
        match = _LABEL.fullmatch(begin)
        if match is None or end != b"END " + match[1] or not body[:1].isspace():
            continue
        if label in (b"", match[1]):
            yield body


def _base64(text: bytes, what: str) -> bytes:
    try:
        found = binascii.a2b_base64(b"".join(text.split()), strict_mode=True)
    except binascii.Error as problem:
        raise errors.FormatError(f"not {what}: neither DER, PEM nor base64 text") from problem
    if not found.startswith(_SEQUENCE):
        raise errors.FormatError(f"not {what}: its base64 text holds something else")
    return found
