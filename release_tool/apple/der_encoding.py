"""Write DER, and the few BER forms that Apple writes: indefinite lengths and unsorted sets."""

from __future__ import annotations

from datetime import UTC, datetime

from release_tool import errors

UNIVERSAL, APPLICATION, CONTEXT = 0, 1, 2

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
IA5_STRING = 0x16
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31


def encode_tag(tag_class: int, number: int, *, constructed: bool) -> bytes:
    """The identifier octets of a tag, in the high form from 31 on."""
    first = tag_class << 6 | (0x20 if constructed else 0)
    if number < 0x1F:
        return bytes((first | number,))
    return bytes((first | 0x1F,)) + _base128(number)


def encode(tag: int | bytes, *parts: bytes) -> bytes:
    """One element of definite length; the tag as one byte or as `encode_tag` made it."""
    content = b"".join(parts)
    return _tag(tag) + _length(len(content)) + content


def indefinite(tag: int | bytes, *parts: bytes) -> bytes:
    """One constructed element of indefinite length, as Apple's codesign writes four of them."""
    return _tag(tag) + b"\x80" + b"".join(parts) + b"\x00\x00"


MINIMAL, INDEFINITE = 0, -1
"""Forms of a length; a positive one is of so many octets, more than are needed."""


def encode_in_form(tag: int | bytes, form: int, *parts: bytes) -> bytes:
    """One element whose length is written in the form that `der.length_form` told.

    Raises:
        FormatError: the content is too long for the form.
    """
    if form == MINIMAL:
        return encode(tag, *parts)
    if form == INDEFINITE:
        return indefinite(tag, *parts)
    content = b"".join(parts)
    if len(content) >> 8 * form:
        raise errors.FormatError(f"{len(content)} octets do not fit a length of {form}")
    return _tag(tag) + bytes((0x80 | form,)) + len(content).to_bytes(form, "big") + content


def _tag(tag: int | bytes) -> bytes:
    return bytes((tag,)) if isinstance(tag, int) else tag


def _length(length: int) -> bytes:
    if length < 0x80:
        return bytes((length,))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def _base128(number: int) -> bytes:
    octets = [number & 0x7F]
    while number := number >> 7:
        octets.append(number & 0x7F | 0x80)
    return bytes(reversed(octets))


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE."""
    return encode(SEQUENCE, *parts)


def set_of(*parts: bytes) -> bytes:
    """A SET OF in DER's order."""
    return encode(SET, *sorted(parts))


def set_as_given(*parts: bytes) -> bytes:
    """A SET in the order given, as Apple writes some."""
    return encode(SET, *parts)


def context(number: int, *parts: bytes, constructed: bool = True) -> bytes:
    """The context-specific element [number]."""
    return encode(encode_tag(CONTEXT, number, constructed=constructed), *parts)


def boolean(value: bool) -> bytes:  # noqa: FBT001 - the value is the argument
    """A BOOLEAN."""
    return encode(BOOLEAN, b"\xff" if value else b"\x00")


def integer(value: int) -> bytes:
    """An INTEGER."""
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return encode(INTEGER, value.to_bytes(size, "big", signed=True))


def null() -> bytes:
    """A NULL."""
    return encode(NULL)


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER.

    Raises:
        FormatError: the text is not an identifier in dotted form.
    """
    parts = dotted.split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise errors.FormatError(f"not an object identifier: {dotted!r}")
    first, second, *rest = map(int, parts)
    if first > 2 or (first < 2 and second > 39):
        raise errors.FormatError(f"not an object identifier: {dotted!r}")
    return encode(OBJECT_IDENTIFIER, *map(_base128, (40 * first + second, *rest)))


def octets(value: bytes) -> bytes:
    """An OCTET STRING."""
    return encode(OCTET_STRING, value)


def bits(value: bytes, unused: int = 0) -> bytes:
    """A BIT STRING."""
    return encode(BIT_STRING, bytes((unused,)), value)


def utf8(text: str) -> bytes:
    """A UTF8String."""
    return encode(UTF8_STRING, _encoded(text, "utf-8"))


def ia5(text: str) -> bytes:
    """An IA5String."""
    return encode(IA5_STRING, _encoded(text, "ascii"))


def printable(text: str) -> bytes:
    """A PrintableString."""
    return encode(PRINTABLE_STRING, _encoded(text, "ascii"))


def _encoded(text: str, codec: str) -> bytes:
    try:
        return text.encode(codec)
    except UnicodeEncodeError as problem:
        raise errors.FormatError(f"{text[:40]!r} cannot be written as {codec}") from problem


def utc_time(moment: datetime) -> bytes:
    """A UTCTime; the moment carries its time zone and lies in 1950 to 2049."""
    moment = moment.astimezone(UTC)
    if not 1950 <= moment.year < 2050:
        raise errors.FormatError(f"UTCTime cannot hold the year {moment.year}")
    return encode(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())


def generalized_time(moment: datetime) -> bytes:
    """A GeneralizedTime in whole seconds; the moment carries its time zone."""
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    digits = text.replace("-", "").replace("T", "").replace(":", "")
    return encode(GENERALIZED_TIME, f"{digits}Z".encode())
