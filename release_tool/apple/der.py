"""Read BER and DER as they stand: the layer under CMS, certificates and entitlements.

Apple signs bytes that are neither sorted nor definite: its code signatures are BER with
indefinite lengths, and its sets are not in DER's order. So reading keeps every raw span and
re-encodes nothing. X.690 is the standard. `der_encoding` writes; its names are here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from release_tool import errors
from release_tool.apple.der_encoding import (
    APPLICATION,
    BIT_STRING,
    BOOLEAN,
    CONTEXT,
    GENERALIZED_TIME,
    IA5_STRING,
    INDEFINITE,
    INTEGER,
    MINIMAL,
    NULL,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    PRINTABLE_STRING,
    SEQUENCE,
    SET,
    UNIVERSAL,
    UTC_TIME,
    UTF8_STRING,
    bits,
    boolean,
    context,
    encode,
    encode_in_form,
    encode_tag,
    generalized_time,
    ia5,
    indefinite,
    integer,
    null,
    octets,
    oid,
    printable,
    sequence,
    set_as_given,
    set_of,
    utc_time,
    utf8,
)

__all__ = [
    "APPLICATION",
    "BIT_STRING",
    "BOOLEAN",
    "CONTEXT",
    "GENERALIZED_TIME",
    "IA5_STRING",
    "INDEFINITE",
    "INTEGER",
    "MAX_BYTES",
    "MINIMAL",
    "NULL",
    "OBJECT_IDENTIFIER",
    "OCTET_STRING",
    "PRINTABLE_STRING",
    "SEQUENCE",
    "SET",
    "UNIVERSAL",
    "UTC_TIME",
    "UTF8_STRING",
    "Node",
    "as_bits",
    "as_boolean",
    "as_integer",
    "as_octets",
    "as_oid",
    "as_sequence",
    "as_set",
    "as_text",
    "as_time",
    "bits",
    "boolean",
    "context",
    "encode",
    "encode_as_read",
    "encode_in_form",
    "encode_tag",
    "generalized_time",
    "ia5",
    "indefinite",
    "integer",
    "length_form",
    "null",
    "octets",
    "oid",
    "parse",
    "printable",
    "sequence",
    "set_as_given",
    "set_of",
    "string_content",
    "utc_time",
    "utf8",
]

MAX_BYTES = 16 * 1024 * 1024
"""The largest signature seen is 20 KB and the largest profile some hundred KB."""
MAX_DEPTH = 32
"""A CMS with a token inside reaches 14; each level of ours costs a stack frame."""
MAX_CHILDREN = 65_536
"""Two bytes make an element and some hundred bytes of memory."""
MAX_TAG_NUMBER_BYTES = 4
MAX_LENGTH_BYTES = 4
MAX_OID_BYTES = 128
"""The longest identifier of Apple's takes 12."""
MAX_INTEGER_BYTES = 4096
"""Serial numbers take 20 and an RSA modulus 1024; larger ones only cost time."""

_TEXT_CODECS = {
    UTF8_STRING: "utf-8",
    0x12: "ascii",  # NumericString
    PRINTABLE_STRING: "ascii",
    0x14: "latin-1",  # TeletexString, as everybody reads it
    IA5_STRING: "ascii",
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}


class Node(NamedTuple):
    """One element as it stood in the input.

    Here and in what `verify-profile` loads, named tuples: each dataclass takes half a millisecond
    to make, and that command is measured by its start.
    """

    tag: int
    """The tag's number."""
    tag_class: int
    """0 universal, 1 application, 2 context, 3 private."""
    constructed: bool
    content: bytes
    """The content octets; of an indefinite length without its end marker."""
    raw: bytes
    """The whole element, header and any end marker included."""
    depth: int = 0

    @property
    def children(self) -> tuple[Node, ...]:
        """The elements inside, read anew at each call.

        Raises:
            FormatError: this element is primitive, or what it holds is malformed.
        """
        if not self.constructed:
            raise errors.FormatError(f"a constructed element was expected, tag {self.tag} is not")
        return tuple(_elements(self.content, self.depth + 1))

    def is_universal(self, tag_byte: int) -> bool:
        """Whether this is the universal element of a tag constant, constructed or not."""
        return self.tag_class == UNIVERSAL and self.tag == tag_byte & 0x1F

    def is_context(self, number: int) -> bool:
        """Whether this is the context-specific element [number]."""
        return self.tag_class == CONTEXT and self.tag == number


def parse(data: bytes, *, allow_trailing: bool = False) -> Node:
    """Read the one element that the data holds.

    Args:
        data: BER or DER.
        allow_trailing: whether bytes may follow the element; they are ignored.

    Raises:
        FormatError: truncated, unterminated, larger than the caps, or followed by more.
    """
    if len(data) > MAX_BYTES:
        raise errors.FormatError(f"{len(data)} bytes of DER are more than the {MAX_BYTES} we read")
    node, end = _element(bytes(data), 0, 0)
    if end != len(data) and not allow_trailing:
        raise errors.FormatError(f"{len(data) - end} bytes follow the outermost element")
    return node


def length_form(node: Node) -> int:
    """How the element's length is written: `MINIMAL`, `INDEFINITE`, or in so many octets."""
    position = 1
    if node.raw[0] & 0x1F == 0x1F:
        while node.raw[position] & 0x80:
            position += 1
        position += 1
    first = node.raw[position]
    if first == 0x80:
        return INDEFINITE
    size = first & 0x7F if first & 0x80 else 0
    minimal = 0 if len(node.content) < 0x80 else (len(node.content).bit_length() + 7) // 8
    return MINIMAL if size == minimal else size


def encode_as_read(node: Node) -> bytes:
    """Write an element again, the lengths computed anew in the forms that they had.

    Raises:
        FormatError: what it holds is malformed.
    """
    tag = encode_tag(node.tag_class, node.tag, constructed=node.constructed)
    parts = map(encode_as_read, node.children) if node.constructed else (node.content,)
    return encode_in_form(tag, length_form(node), *parts)


def _elements(data: bytes, depth: int) -> Iterator[Node]:
    position = count = 0
    while position < len(data):
        count += 1
        if count > MAX_CHILDREN:
            raise errors.FormatError(f"more than {MAX_CHILDREN} elements side by side")
        node, position = _element(data, position, depth)
        yield node


def _element(data: bytes, start: int, depth: int) -> tuple[Node, int]:
    if depth > MAX_DEPTH:
        raise errors.FormatError(f"elements are nested deeper than {MAX_DEPTH}")
    first, number, length, body = _header(data, start)
    if length is None:
        end = _end_of_contents(data, body, depth)
        after = end + 2
    else:
        end = after = body + length
    node = Node(number, first >> 6, bool(first & 0x20), data[body:end], data[start:after], depth)
    return node, after


def _header(data: bytes, start: int) -> tuple[int, int, int | None, int]:
    """First byte, tag number, length (None: indefinite) and where the content starts."""
    first = _byte(data, start)
    number, position = first & 0x1F, start + 1
    if number == 0x1F:
        number, position = _high_tag(data, position)
    elif first in (0x00, 0x20):
        raise errors.FormatError("an end marker stands where an element should")
    length = _byte(data, position)
    position += 1
    if length == 0x80:
        if not first & 0x20:
            raise errors.FormatError("a primitive element has an indefinite length")
        return first, number, None, position
    if length > 0x80:
        size = length & 0x7F
        if size > MAX_LENGTH_BYTES:
            raise errors.FormatError(f"a length of {size} bytes")
        length = int.from_bytes(data[position : position + size], "big")
        position += size
    if position + length > len(data):
        raise errors.FormatError("truncated: an element is longer than the data that holds it")
    return first, number, length, position


def _byte(data: bytes, position: int) -> int:
    if position >= len(data):
        raise errors.FormatError("truncated inside an element's header")
    return data[position]


def _high_tag(data: bytes, position: int) -> tuple[int, int]:
    number = 0
    for index in range(MAX_TAG_NUMBER_BYTES):
        byte = _byte(data, position + index)
        number = number << 7 | byte & 0x7F
        if number == 0:
            raise errors.FormatError("a tag number is padded")
        if not byte & 0x80:
            if number < 0x1F:
                raise errors.FormatError("a low tag number is written in the long form")
            return number, position + index + 1
    raise errors.FormatError("a tag number too large")


def _end_of_contents(data: bytes, position: int, depth: int) -> int:
    """Where the end marker of an indefinite length stands; only indefinite ones are entered."""
    open_lengths = 1
    count = 0
    while True:
        count += 1
        if count > MAX_CHILDREN:
            raise errors.FormatError(f"more than {MAX_CHILDREN} elements side by side")
        if data[position : position + 2] == b"\x00\x00":
            open_lengths -= 1
            if open_lengths == 0:
                return position
            position += 2
            continue
        if position >= len(data):
            raise errors.FormatError("unterminated: an indefinite length has no end marker")
        _first, _number, length, body = _header(data, position)
        if length is None:
            open_lengths += 1
            if depth + open_lengths > MAX_DEPTH:
                raise errors.FormatError(f"elements are nested deeper than {MAX_DEPTH}")
        position = body + (length or 0)


def _require(node: Node, tag_byte: int, name: str) -> None:
    if not node.is_universal(tag_byte):
        raise errors.FormatError(
            f"{name} was expected, found tag {node.tag} of class {node.tag_class}"
        )


def as_sequence(node: Node) -> tuple[Node, ...]:
    """The elements of a SEQUENCE."""
    _require(node, SEQUENCE, "a SEQUENCE")
    return node.children


def as_set(node: Node) -> tuple[Node, ...]:
    """The elements of a SET, in the order in which they stand."""
    _require(node, SET, "a SET")
    return node.children


def as_boolean(node: Node) -> bool:
    """A BOOLEAN; any non-zero octet is true, as in BER."""
    _require(node, BOOLEAN, "a BOOLEAN")
    if node.constructed or len(node.content) != 1:
        raise errors.FormatError("a BOOLEAN takes one octet")
    return node.content != b"\x00"


def as_integer(node: Node) -> int:
    """An INTEGER, signed."""
    _require(node, INTEGER, "an INTEGER")
    content = node.content
    if node.constructed or not content or len(content) > MAX_INTEGER_BYTES:
        raise errors.FormatError(f"an INTEGER of {len(content)} octets")
    if len(content) > 1 and content[0] in (0x00, 0xFF) and (content[0] ^ content[1]) < 0x80:
        raise errors.FormatError("an INTEGER is padded")
    return int.from_bytes(content, "big", signed=True)


def as_oid(node: Node) -> str:
    """An OBJECT IDENTIFIER in dotted form."""
    _require(node, OBJECT_IDENTIFIER, "an OBJECT IDENTIFIER")
    content = node.content
    if node.constructed or not content or len(content) > MAX_OID_BYTES or content[-1] & 0x80:
        raise errors.FormatError("a malformed OBJECT IDENTIFIER")
    arcs: list[int] = []
    arc, fresh = 0, True
    for byte in content:
        if fresh and byte == 0x80:
            raise errors.FormatError("an OBJECT IDENTIFIER is padded")
        arc = arc << 7 | byte & 0x7F
        fresh = not byte & 0x80
        if fresh:
            arcs.append(arc)
            arc = 0
    top = min(arcs[0] // 40, 2)
    return ".".join(map(str, (top, arcs[0] - 40 * top, *arcs[1:])))


def as_octets(node: Node, tag_byte: int = OCTET_STRING) -> bytes:
    """An OCTET STRING; the pieces of a constructed one are joined."""
    _require(node, tag_byte, "an OCTET STRING" if tag_byte == OCTET_STRING else "a string")
    return string_content(node)


def string_content(node: Node) -> bytes:
    """The octets of a string type, whatever its tag; the pieces of a constructed one joined."""
    if not node.constructed:
        return node.content
    return b"".join(as_octets(piece) for piece in node.children)


def as_bits(node: Node) -> tuple[bytes, int]:
    """The octets of a primitive BIT STRING and the count of unused bits in the last."""
    _require(node, BIT_STRING, "a BIT STRING")
    if node.constructed or not node.content or node.content[0] > 7:
        raise errors.FormatError("a malformed BIT STRING")
    if node.content[0] and len(node.content) == 1:
        raise errors.FormatError("an empty BIT STRING has unused bits")
    return node.content[1:], node.content[0]


def as_text(node: Node) -> str:
    """Any of the character string types."""
    codec = _TEXT_CODECS.get(node.tag) if node.tag_class == UNIVERSAL else None
    if codec is None:
        raise errors.FormatError(f"a character string was expected, found tag {node.tag}")
    try:
        return string_content(node).decode(codec)
    except UnicodeDecodeError as problem:
        raise errors.FormatError(f"a character string is not {codec}") from problem


def as_time(node: Node) -> datetime:
    """A UTCTime or GeneralizedTime with seconds and `Z`, as RFC 5652 and RFC 3161 demand."""
    text = string_content(node).decode("latin-1")
    if node.is_universal(UTC_TIME):
        # RFC 5280: 50 to 99 are the years of the last century.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif not node.is_universal(GENERALIZED_TIME):
        raise errors.FormatError(f"a time was expected, found tag {node.tag}")
    digits, fraction = text[:14], text[14:-1]
    well_formed = len(digits) == 14 and digits.isascii() and digits.isdigit() and text[-1] == "Z"
    if not well_formed or not _is_fraction(fraction):
        raise errors.FormatError(f"a malformed time: {text[:32]!r}")
    microseconds = int(fraction[1:7].ljust(6, "0")) if fraction else 0
    month, day, hour, minute, second = (int(digits[i : i + 2]) for i in range(4, 14, 2))
    # A sixtieth second is the next minute's first: codesign has written some (measured).
    excess = timedelta(seconds=1 if second == 60 else 0)
    second -= excess.seconds
    try:
        moment = datetime(
            int(digits[:4]), month, day, hour, minute, second, microseconds, tzinfo=UTC
        )
        return moment + excess
    except (ValueError, OverflowError) as problem:
        raise errors.FormatError(f"no such time: {text[:32]!r}") from problem


def _is_fraction(text: str) -> bool:
    if not text:
        return True
    digits = text[1:]
    return text[0] == "." and len(text) <= 16 and digits.isascii() and digits.isdigit()
