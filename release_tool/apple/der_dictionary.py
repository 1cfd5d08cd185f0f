"""Dictionaries in DER, as entitlements, launch constraints and inner profiles hold them.

Two dialects are measured on real code. The current one (since 2021) is
`[APPLICATION 16] { INTEGER 1, [16] { SEQUENCE { UTF8String key, value } … } }`, with true as `ff`,
arrays as SEQUENCE and dictionaries as `[16]`; the one of 2020 is a bare SET of pairs, with true as
`01` and dictionaries as SET.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from release_tool import errors
from release_tool.apple import der

Dialect = Literal["current", "2020"]

_DICTIONARY = der.encode_tag(der.CONTEXT, 16, constructed=True)
_ROOT = der.encode_tag(der.APPLICATION, 16, constructed=True)
_VERSION = 1
_MAX_DEPTH = 16
"""Real ones nest three deep; readers of the values recurse."""
_TRUE: Mapping[Dialect, int] = {"current": 0xFF, "2020": 0x01}


class Document(NamedTuple):
    """A dictionary as it was read or is to be written, its keys in the order given."""

    values: dict[str, object]
    dialect: Dialect = "current"
    true_octet: int | None = None
    """How true is written; None as the dialect has it."""


def encode(document: Document, *, allow_data: bool = False) -> bytes:
    """Write a dictionary; what `decode` returned comes out as it was.

    Args:
        document: keys are written in its order: sort them for what the system reads.
        allow_data: whether bytes may stand as OCTET STRING, as in launch constraints.

    Raises:
        FormatError: a value has a type that the form cannot say: data, date or real.
    """
    octet = document.true_octet
    writer = _Writer(
        document.dialect, _TRUE[document.dialect] if octet is None else octet, allow_data
    )
    body = writer.dictionary(document.values, "", 0)
    return body if document.dialect == "2020" else der.encode(_ROOT, der.integer(_VERSION), body)


class _Writer(NamedTuple):
    dialect: Dialect
    true_octet: int
    allow_data: bool

    def dictionary(self, values: Mapping[str, object], path: str, depth: int) -> bytes:
        pairs = [
            der.sequence(der.utf8(key), self.value(value, f"{path}{key}", depth + 1))
            for key, value in values.items()
        ]
        return der.encode(_DICTIONARY if self.dialect == "current" else der.SET, *pairs)

    def value(self, value: object, path: str, depth: int) -> bytes:
        if depth > _MAX_DEPTH:
            raise errors.FormatError("entitlements are nested too deeply", subject=path)
        if isinstance(value, bool):
            return der.encode(der.BOOLEAN, bytes((self.true_octet if value else 0,)))
        if isinstance(value, int):
            return der.integer(value)
        if isinstance(value, str):
            return der.utf8(value)
        if isinstance(value, bytes) and self.allow_data:
            return der.octets(value)
        if isinstance(value, Mapping):
            return self.dictionary(value, f"{path}.", depth)
        if isinstance(value, list | tuple):
            return der.sequence(*(self.value(item, path, depth + 1) for item in value))
        raise errors.FormatError(
            "an entitlement's type has no DER form", subject=path, observed=type(value).__name__
        )


def decode(data: bytes, *, allow_data: bool = False) -> Document:
    """Read a dictionary of either dialect. Only what `encode` would write again is read.

    Raises:
        FormatError: neither, a key twice, a value of an unknown type, or an encoding that is
            not DER.
    """
    node = der.parse(data)
    reader = _Reader(allow_data=allow_data)
    if node.is_universal(der.SET):
        found = Document(reader.dictionary(node), "2020", reader.true_octet)
    else:
        found = Document(reader.dictionary(_current(node)), "current", reader.true_octet)
    if encode(found, allow_data=allow_data) != data:
        raise errors.FormatError("a dictionary is not written in DER")
    return found


def _current(node: der.Node) -> der.Node:
    if (node.tag_class, node.tag) != (der.APPLICATION, 16) or len(node.children) != 2:
        raise errors.FormatError("not entitlements in DER")
    version, values = node.children
    if der.as_integer(version) != _VERSION or not values.is_context(16):
        raise errors.FormatError("DER entitlements of an unknown version")
    return values


class _Reader:
    def __init__(self, *, allow_data: bool) -> None:
        self.true_octet: int | None = None
        self._allow_data = allow_data

    def dictionary(self, node: der.Node) -> dict[str, object]:
        found: dict[str, object] = {}
        for pair in node.children:
            parts = der.as_sequence(pair)
            if len(parts) != 2:
                raise errors.FormatError("an entitlement is not a pair of key and value")
            key = der.as_text(parts[0])
            if key in found:
                raise errors.FormatError("DER entitlements name a key twice", observed=key[:80])
            found[key] = self._value(parts[1])
        return found

    def _value(self, node: der.Node) -> object:
        if node.is_context(16) or node.is_universal(der.SET):
            return self.dictionary(node)
        if node.is_universal(der.SEQUENCE):
            return [self._value(item) for item in node.children]
        if node.is_universal(der.BOOLEAN):
            return self._boolean(node)
        if node.is_universal(der.INTEGER):
            return der.as_integer(node)
        if self._allow_data and node.is_universal(der.OCTET_STRING):
            return der.as_octets(node)
        return der.as_text(node)

    def _boolean(self, node: der.Node) -> bool:
        value = der.as_boolean(node)
        if value:
            octet = node.content[0]
            if octet not in _TRUE.values() or self.true_octet not in (None, octet):
                raise errors.FormatError("an entitlement is true in an unknown way")
            self.true_octet = octet
        return value
