"""Code requirements in their binary form, and the ones that we designate.

A requirement is `0xfade0c00`, length, form 1, then one expression in prefix notation with
big-endian 32-bit opcodes; data is a length and bytes padded to four. Form 2 holds a lightweight
requirement in DER, kept as it stands. Rule and source: Apple's
published `requirement.h`; measured on the requirements of real Developer ID code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

from release_tool import errors
from release_tool.apple import (
    requirement_evaluation,
    requirement_parser,
    requirement_text,
)
from release_tool.apple.requirement_expression import (
    DATE_MATCHES,
    FLAG_MASK,
    GENERIC_FALSE,
    GENERIC_SKIP,
    LAST_SECOND,
    LAYOUT,
    MAX_DEPTH,
    MAX_OPERATIONS,
    WITHOUT_VALUE,
    Argument,
    Expression,
    Match,
    MatchKind,
    Operation,
    oid_octets,
)

Context = requirement_evaluation.Context
decide = requirement_evaluation.decide
evaluate = requirement_evaluation.evaluate
parse_text = requirement_parser.parse
parse_set_text = requirement_parser.parse_set
to_text = requirement_text.to_text
set_to_text = requirement_text.set_to_text

MAGIC = 0xFADE0C00
SET_MAGIC = 0xFADE0C01
HOST, GUEST, DESIGNATED, LIBRARY, PLUG_IN = 1, 2, 3, 4, 5

DEVELOPER_ID_LEAF = "1.2.840.113635.100.6.1.13"
DEVELOPER_ID_AUTHORITY = "1.2.840.113635.100.6.2.6"

# A set holds at most one requirement of each of Apple's five types.
MAX_SET_COUNT = 16

_EXPRESSION_FORM, _LIGHTWEIGHT_FORM = 1, 2


def parse(blob: bytes) -> Expression:
    """Read one requirement blob.

    Raises:
        FormatError: it is truncated, too deep, has bytes to spare or an opcode that cannot be
            read past.
    """
    if len(blob) < 12:
        raise errors.FormatError("the requirement is too short", observed=f"{len(blob)} bytes")
    magic, length, form = struct.unpack_from(">III", blob)
    if magic != MAGIC or length != len(blob):
        raise errors.FormatError("not a requirement blob of its own length")
    if form == _LIGHTWEIGHT_FORM:
        return Expression(operation=Operation.LIGHTWEIGHT, data=blob[12:])
    if form != _EXPRESSION_FORM:
        raise errors.FormatError("the requirement is of an unknown form", observed=str(form))
    reader = _Reader(blob[12:])
    expression = reader.expression(0)
    if reader.position != len(reader.data):
        raise errors.FormatError("bytes follow the requirement's expression")
    return expression


def encode(expression: Expression) -> bytes:
    """Write one requirement blob."""
    if expression.operation is Operation.LIGHTWEIGHT:
        body = struct.pack(">I", _LIGHTWEIGHT_FORM) + expression.data
    else:
        body = struct.pack(">I", _EXPRESSION_FORM) + _encode_expression(expression)
    return struct.pack(">II", MAGIC, len(body) + 8) + body


def parse_set(blob: bytes) -> dict[int, Expression]:
    """Read a requirement set: requirements by type in its order, 3 being the designated one.

    Raises:
        FormatError: it is not a set, or a requirement in it cannot be read.
    """
    if len(blob) < 12:
        raise errors.FormatError("the requirement set is too short", observed=f"{len(blob)} bytes")
    magic, length, count = struct.unpack_from(">III", blob)
    if magic != SET_MAGIC or length != len(blob):
        raise errors.FormatError("not a requirement set of its own length")
    if count > MAX_SET_COUNT or 12 + 8 * count > length:
        raise errors.FormatError("the requirement set has too many members", observed=str(count))
    found: dict[int, Expression] = {}
    for index in range(count):
        kind, offset = struct.unpack_from(">II", blob, 12 + 8 * index)
        if kind in found:
            raise errors.FormatError("the requirement set names a type twice", observed=str(kind))
        found[kind] = parse(_member(blob, offset, 12 + 8 * count))
    return found


def _member(blob: bytes, offset: int, first: int) -> bytes:
    if offset < first or offset + 8 > len(blob):
        raise errors.FormatError("a requirement lies outside its set", observed=str(offset))
    (length,) = struct.unpack_from(">I", blob, offset + 4)
    if offset + length > len(blob):
        raise errors.FormatError("a requirement reaches beyond its set", observed=str(length))
    return blob[offset : offset + length]


def encode_set(requirements: Mapping[int, Expression]) -> bytes:
    """Write a requirement set in the order given; empty for ad-hoc code."""
    offset = 12 + 8 * len(requirements)
    index, bodies = b"", b""
    for kind, expression in requirements.items():
        body = encode(expression)
        index += struct.pack(">II", kind, offset + len(bodies))
        bodies += body
    size = offset + len(bodies)
    return struct.pack(">III", SET_MAGIC, size, len(requirements)) + index + bodies


def developer_id(identifier: str, team_id: str) -> Expression:
    """The requirement that Apple's codesign designates for Developer ID code.

    Identifier, an Apple root, the Developer ID marker on the issuer and on the leaf, and the
    team in the leaf's organizational unit; nested to the right as codesign writes it (read from
    real code of 2026).
    """
    exists = Match()
    team = Match(kind=MatchKind.EQUAL, value=team_id.encode())
    parts = [
        Expression(operation=Operation.IDENTIFIER, data=identifier.encode()),
        Expression(operation=Operation.APPLE_GENERIC_ANCHOR),
        Expression(
            operation=Operation.CERTIFICATE_OID,
            certificate=1,
            key=oid_octets(DEVELOPER_ID_AUTHORITY),
            match=exists,
        ),
        Expression(
            operation=Operation.CERTIFICATE_OID, key=oid_octets(DEVELOPER_ID_LEAF), match=exists
        ),
        Expression(operation=Operation.CERTIFICATE_FIELD, key=b"subject.OU", match=team),
    ]
    whole = parts.pop()
    while parts:
        whole = Expression(operation=Operation.AND, operands=(parts.pop(), whole))
    return whole


def designated_developer_id(identifier: str, team_id: str) -> bytes:
    """The requirement set of Developer ID code: one designated requirement."""
    return encode_set({DESIGNATED: developer_id(identifier, team_id)})


def designated_adhoc(*cdhashes: bytes) -> Expression:
    """The requirement that ad-hoc code implies: exactly these code directories.

    Ad-hoc code carries an empty set, for a directory cannot hold its own digest.
    """
    if not cdhashes:
        return Expression(operation=Operation.FALSE)
    terms = [Expression(operation=Operation.CDHASH, data=cdhash) for cdhash in cdhashes]
    whole = terms[0]
    for term in terms[1:]:
        whole = Expression(operation=Operation.OR, operands=(whole, term))
    return whole


def designated(requirements: Mapping[int, Expression], cdhashes: Sequence[bytes]) -> Expression:
    """The explicit designated requirement, or the one that ad-hoc code implies."""
    explicit = requirements.get(DESIGNATED)
    return explicit if explicit is not None else designated_adhoc(*cdhashes)


class _Reader:
    """A cursor over the prefix notation."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self._operations = 0

    def expression(self, depth: int) -> Expression:
        self._operations += 1
        if depth > MAX_DEPTH or self._operations > MAX_OPERATIONS:
            raise errors.FormatError("the requirement is nested too deeply")
        opcode = self._word()
        operation = _operation(opcode)
        values: dict[Argument, object] = {}
        operands: list[Expression] = []
        for argument in LAYOUT[operation]:
            if argument == "operand":
                operands.append(self.expression(depth + 1))
            else:
                values[argument] = self._argument(argument)
        if opcode & FLAG_MASK:
            values["number"] = opcode
        return Expression(operation=operation, operands=tuple(operands), **values)  # type: ignore[arg-type]

    def _argument(self, argument: Argument) -> object:
        readers: Mapping[Argument, Callable[[], object]] = {
            "certificate": self._signed,
            "number": self._signed,
            "match": self._match,
        }
        return readers.get(argument, self._octets)()

    def _match(self) -> Match:
        number = self._word()
        try:
            kind = MatchKind(number)
        except ValueError as problem:
            raise errors.FormatError("unknown match operation", observed=str(number)) from problem
        if kind in WITHOUT_VALUE:
            return Match(kind=kind)
        if kind not in DATE_MATCHES:
            return Match(kind=kind, value=self._octets())
        (seconds,) = struct.unpack(">q", self._take(8))
        if not 0 <= seconds <= LAST_SECOND:
            raise errors.FormatError("a requirement names a time out of range")
        return Match(kind=kind, seconds=seconds)

    def _octets(self) -> bytes:
        length = self._word()
        octets = self._take(length)
        if any(self._take(-length % 4)):
            raise errors.FormatError("the padding of a requirement's data is not zero")
        return octets

    def _signed(self) -> int:
        number: int = struct.unpack(">i", self._take(4))[0]
        return number

    def _word(self) -> int:
        number: int = struct.unpack(">I", self._take(4))[0]
        return number

    def _take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise errors.FormatError("the requirement is cut short")
        taken = self.data[self.position : end]
        self.position = end
        return taken


def _operation(opcode: int) -> Operation:
    """Tell an opcode; refuse one that is unknown and does not say how to get past it."""
    if opcode & FLAG_MASK == 0:
        try:
            return Operation(opcode)
        except ValueError as problem:
            raise errors.FormatError("unknown opcode", observed=str(opcode)) from problem
    flags, number = opcode & FLAG_MASK, opcode & ~FLAG_MASK
    if flags not in (GENERIC_FALSE, GENERIC_SKIP) or number <= max(_KNOWN):
        # A known opcode with a flag has two readings, so it has none.
        raise errors.FormatError("unknown opcode", observed=f"{opcode:#x}")
    return Operation(flags)


_KNOWN = [operation.value for operation in Operation if not operation.value & FLAG_MASK]


def _encode_expression(expression: Expression) -> bytes:
    operation = expression.operation
    opcode = expression.number if operation.value & FLAG_MASK else operation.value
    operands = list(expression.operands)
    encoded = struct.pack(">I", opcode)
    for argument in LAYOUT[operation]:
        if argument == "operand":
            encoded += _encode_expression(operands.pop(0))
        else:
            encoded += _encode_argument(expression, argument)
    return encoded


def _encode_argument(expression: Expression, argument: Argument) -> bytes:
    if argument == "certificate":
        return struct.pack(">i", expression.certificate)
    if argument == "number":
        return struct.pack(">i", expression.number)
    if argument == "match":
        return _encode_match(expression.match or Match())
    return _padded(expression.key if argument == "key" else expression.data)


def _encode_match(match: Match) -> bytes:
    kind = struct.pack(">I", match.kind.value)
    if match.kind in WITHOUT_VALUE:
        return kind
    if match.kind in DATE_MATCHES:
        return kind + struct.pack(">q", match.seconds)
    return kind + _padded(match.value)


def _padded(octets: bytes) -> bytes:
    return struct.pack(">I", len(octets)) + octets + bytes(-len(octets) % 4)
