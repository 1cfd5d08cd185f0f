"""Inputs made from seeds, the same for the same number: bytes, fields, structure, text.

Each input takes one to four steps. Half of the steps know nothing; the other half knows what the
format is built of: TLV elements whose parents' lengths follow, tags of XML, words of a language.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

Structure = Literal["bytes", "der", "xml", "text", "json"]

MAX_BYTES = 256 * 1024
"""No input grows past this; every seed is smaller."""
_INTERESTING = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF)
_INTERESTING_WIDE = (*_INTERESTING, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
_XML_PIECES = (
    b"<dict>", b"</dict>", b"<array>", b"</array>", b"<key>a</key>", b"<key>", b"</key>",
    b"<string>&amp;</string>", b"<string/>", b"<true/>", b"<false/>", b"<data>AAAA</data>",
    b"<data>A</data>", b"<integer>99999999999999999999999999</integer>", b"<integer>0x7f</integer>",
    b"<integer>-</integer>", b"<real>1e999</real>", b"<real>nan</real>", b"<real>" + b"9" * 5000,
    b"<date>2026-02-30T00:00:00Z</date>", b"<date>9999-12-31T23:59:60Z</date>", b"&#0;",
    b"&#xD800;",
    b"<!DOCTYPE plist [<!ENTITY a 'b'>]>", b"<!ENTITY % p SYSTEM 'file:///etc/passwd'>", b"&a;",
    b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<?xml version='1.0' encoding='utf-16'?>", b"\xff\xfe",
    b"<plist version=\"1.0\">", b"</plist>", b"<weight>", b"<uid>", b"\0",
)  # fmt: skip
_WORDS = (
    b"and", b"or", b"!", b"(", b")", b"[", b"]", b"=", b"<", b">=", b"*", b"identifier", b"anchor",
    b"apple", b"generic", b"trusted", b"certificate", b"leaf", b"root", b"-1", b"999999999999",
    b"field.1.2.840.113635", b"subject.OU", b"info", b"entitlement", b"cdhash", b"H\"00", b"H\"",
    b"\"", b"\\", b"/*", b"*/", b"//", b"#", b"\n", b"exists", b"absent", b"timestamp", b"never",
    b"designated =>", b"host =>", b"=>", b"always", b"notarized", b"legacy", b"policy.1.2",
    b"platform = 1", b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----",
    b"\xc3\xa9", b"\0",
)  # fmt: skip
_JSON_PIECES = (
    b"null", b"true", b"{}", b"[]", b"{", b"}", b"[", b"]", b"\"", b":", b",", b"1e999", b"-0",
    b"NaN", b"Infinity", b"\"\\ud800\"", b"1" * 5000, b"\"data\"", b"\"attributes\"",
    b"\"status\"",
    b"\"id\"", b"\"sha256\"", b"\"issues\"", b"\"ticketContents\"", b"\"cdhash\"", b"\"path\"",
    b"0",
    b"\"records\"", b"\"fields\"", b"\xff", b"\0",
)  # fmt: skip


def mutated(
    number: int, *, seed: int, name: str, seeds: Sequence[bytes], structure: Structure
) -> bytes:
    """Input `number` of a reader.

    Args:
        number: which one.
        seed: of the whole run.
        name: the reader's: two readers with the same seeds get different inputs.
        seeds: inputs that are read without an error, or nearly.
        structure: what the format is built of.
    """
    rng = random.Random(f"{seed}:{name}:{number}")  # noqa: S311 - repeatable, not secret
    if rng.random() < 0.01:
        return rng.randbytes(rng.choice((0, 1, 4, 16, 300)))
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 2, 4))):
        steps = _STEPS if rng.random() < 0.5 else _STRUCTURED[structure]
        data = rng.choice(steps)(rng, data, seeds)[:MAX_BYTES]
    return data


Step = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def _place(rng: random.Random, data: bytes) -> int:
    """Anywhere; half of the time near the beginning, where headers are."""
    end = len(data) if rng.random() < 0.5 else min(len(data), 128)
    return rng.randrange(end + 1)


def _flip_bits(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    found = bytearray(data)
    for _bit in range(rng.randint(1, 8) if found else 0):
        found[min(_place(rng, data), len(data) - 1)] ^= 1 << rng.randrange(8)
    return bytes(found)


def _set_byte(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + bytes([rng.choice((0, 1, 0x30, 0x7F, 0x80, 0xFE, 0xFF))]) + data[at + 1 :]


def _set_field(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A number of two, four or eight bytes, of either order, often at an aligned place."""
    width = rng.choice((2, 4, 4, 8))
    at = _place(rng, data)
    if rng.random() < 0.8:
        at -= at % 4
    order: Literal["little", "big"] = rng.choice(("little", "big"))
    old = int.from_bytes(data[at : at + width], order)
    value = rng.choice((*_INTERESTING_WIDE, len(data), len(data) - at, old + 1, old - 1, old * 2))
    return data[:at] + (value % (1 << 8 * width)).to_bytes(width, order) + data[at + width :]


def _truncate(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: _place(rng, data)] if rng.random() < 0.8 else data[_place(rng, data) :]


def _extend(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data + rng.choice((b"\0", rng.randbytes(16), data[:64], bytes(4096)))


def _chunk(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[at : at + rng.choice((1, 4, 16, 64, 1024))]


def _duplicate(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at, piece = _place(rng, data), _chunk(rng, data)
    return data[:at] + piece * rng.choice((1, 2, 300)) + data[at:]


def _remove(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 4, 16, 64, 1024)) :]


def _splice(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """The head of one seed and the tail of another."""
    other = rng.choice(seeds)
    return data[: _place(rng, data)] + other[_place(rng, other) :]


def _move(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    piece, at = _chunk(rng, data), _place(rng, data)
    return data[:at] + piece + data[at + len(piece) :]


def _insert_random(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(rng.choice((1, 4, 20))) + data[at:]


_STEPS: Sequence[Step] = (
    _flip_bits, _flip_bits, _set_byte, _set_field, _set_field, _truncate, _extend, _duplicate,
    _remove, _splice, _move, _insert_random,
)  # fmt: skip


# TLV


class _Element(NamedTuple):
    """One element of DER, written again from its parts."""

    tag: bytes
    content: bytes | list[_Element]
    verbatim: bytes = b""
    """What is written instead."""

    def encoded(self) -> bytes:
        if self.verbatim:
            return self.verbatim
        content = self.content
        body = content if isinstance(content, bytes) else b"".join(e.encoded() for e in content)
        return self.tag + _length(len(body)) + body


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    body = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(body)]) + body


def _elements(data: bytes, depth: int) -> list[_Element] | None:
    """Everything in the data; None where it is no whole DER. Indefinite lengths become definite."""
    found: list[_Element] = []
    at = 0
    while at < len(data):
        read = _element(data, at, depth)
        if read is None:
            return None
        element, at = read
        if element.tag == b"\0":
            return found if at == len(data) else None
        found.append(element)
    return found


def _element(data: bytes, at: int, depth: int) -> tuple[_Element, int] | None:
    if at + 2 > len(data) or data[at] & 0x1F == 0x1F or depth > 24:
        return None
    tag, first = data[at : at + 1], data[at + 1]
    start = at + 2
    if first == 0x80:
        return _indefinite(data, tag, start, depth)
    if first > 0x80:
        start += first & 0x7F
        first = int.from_bytes(data[at + 2 : start], "big")
    end = start + first
    if end > len(data):
        return None
    body = data[start:end]
    inner = _elements(body, depth + 1) if tag[0] & 0x20 else None
    return _Element(tag, body if inner is None else inner), end


def _indefinite(data: bytes, tag: bytes, at: int, depth: int) -> tuple[_Element, int] | None:
    inner: list[_Element] = []
    while data[at : at + 2] != b"\0\0":
        read = _element(data, at, depth + 1)
        if read is None:
            return None
        element, at = read
        inner.append(element)
    return _Element(tag, inner), at + 2


def _paths(elements: list[_Element], prefix: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    found = []
    for number, element in enumerate(elements):
        found.append((*prefix, number))
        if isinstance(element.content, list):
            found += _paths(element.content, (*prefix, number))
    return found


def _tlv(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Change one element; the lengths above it follow."""
    elements = _elements(data, 0)
    if not elements:
        return _set_field(rng, data, seeds)
    siblings, number = elements, 0
    path = rng.choice(_paths(elements))
    for step in path[:-1]:
        content = siblings[step].content
        assert isinstance(content, list)
        siblings = content
    number = path[-1]
    siblings[number : number + 1] = _changed(rng, siblings[number], elements)
    return b"".join(element.encoded() for element in elements)


_TAGS = bytes.fromhex("010203040506 0a0c16171830 31")


def _changed(rng: random.Random, old: _Element, elements: list[_Element]) -> list[_Element]:
    kinds: tuple[Callable[[], list[_Element]], ...] = (
        list,
        lambda: [old, old],
        lambda: [old] * rng.choice((3, 300)),
        lambda: [_Element(bytes([rng.randrange(256) & ~0x1F | rng.randrange(31)]), old.content)],
        lambda: [_Element(old.tag, b"")],
        lambda: [_Element(old.tag, rng.randbytes(rng.choice((1, 4, 20, 5000))))],
        lambda: [_Element(old.tag, b"\xff" * rng.choice((1, 9, 128, 5000)))],
        lambda: [_nested(old, rng.choice((1, 5, 31, 33, 200)), rng.choice(b"\x30\x31\xa0\x24"))],
        lambda: [_Element(old.tag, _raw(rng, old))],
        lambda: [old, _any(rng, elements)],
        lambda: [_any(rng, elements)],
        lambda: [_unlengthed(old)],
        lambda: [_Element(bytes([rng.choice(_TAGS)]), old.content)],
    )
    return rng.choice(kinds)()


def _any(rng: random.Random, elements: list[_Element]) -> _Element:
    """Another element of the same input."""
    inside, *path = rng.choice(_paths(elements))
    found = elements[inside]
    for step in path:
        assert isinstance(found.content, list)
        found = found.content[step]
    # Written now: it may hold the place that it is put into.
    return found._replace(verbatim=found.encoded())


def _raw(rng: random.Random, old: _Element) -> bytes:
    return _flip_bits(rng, _body(old), ())


def _body(old: _Element) -> bytes:
    content = old.content
    return content if isinstance(content, bytes) else b"".join(e.encoded() for e in content)


def _nested(old: _Element, depth: int, tag: int) -> _Element:
    """The element inside so many others."""
    whole = old.encoded()
    for _ in range(depth):
        whole = bytes([tag]) + _length(len(whole)) + whole
    return old._replace(verbatim=whole)


def _unlengthed(old: _Element) -> _Element:
    """The element with an indefinite length."""
    whole = bytes([old.tag[0] | 0x20, 0x80]) + _body(old) + b"\0\0"
    return old._replace(verbatim=whole)


# Text


def _tokens(pieces: Sequence[bytes]) -> Step:
    def insert(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
        at, piece = rng.randrange(len(data) + 1), rng.choice(pieces)
        return data[:at] + piece * rng.choice((1, 1, 1, 2, 500)) + data[at:]

    return insert


def _swap(pattern: bytes) -> Step:
    """Put one part of the text in the place of another."""

    def swap(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
        found = [match.span() for match in re.finditer(pattern, data)]
        if not found:
            return data
        (start, end), (other, other_end) = rng.choice(found), rng.choice(found)
        piece = data[other : min(other_end, other + 1024)]
        return data[:start] + piece * rng.choice((0, 1, 2, 200)) + data[end:]

    return swap


_VALUES: Sequence[object] = (
    None, True, False, 0, -1, 2**63, 10**400, 1.5, "", "x", "a" * 5000, "\ud800", "\u202e\n",
    [], {}, [[]], [{}], {"": None}, ["x"], [1] * 3000,
)  # fmt: skip


def _json_value(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Put another value, one of the same document or an odd one, in the place of one value."""
    try:
        whole = {"": json.loads(data)}
    except (ValueError, RecursionError):
        return _tokens(_JSON_PIECES)(rng, data, seeds)
    places = list(_json_places(whole))
    holder, key = rng.choice(places)
    other, other_key = rng.choice(places)
    found = other[other_key] if rng.random() < 0.3 else rng.choice(_VALUES)
    holder[key] = json.loads(json.dumps(found))
    if isinstance(holder, dict) and rng.random() < 0.1 and holder is not whole:
        del holder[key]
    return json.dumps(whole[""]).encode()


def _json_places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - JSON is anything
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _json_places(value[key])


_STRUCTURED: dict[Structure, Sequence[Step]] = {
    "bytes": _STEPS,
    "der": (_tlv,),
    "xml": (_tokens(_XML_PIECES), _swap(rb"<[^<>]*>[^<>]*")),
    "text": (_tokens(_WORDS), _swap(rb"[A-Za-z0-9.]+|[^A-Za-z0-9.]")),
    "json": (
        _json_value,
        _json_value,
        _tokens(_JSON_PIECES),
        _swap(rb'"[^"]*"|[{}\[\]:,]|[0-9a-z.]+'),
    ),
}
