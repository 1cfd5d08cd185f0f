"""The tree of a code requirement: Apple's operations, their arguments and match suffixes.

Rule and source: Apple's published `requirement.h`. `requirement` reads and writes the binary
form, `requirement_text` the source form, `requirement_evaluation` judges code by a tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Literal

from release_tool import errors

LEAF = 0
ROOT = -1

FLAG_MASK = 0xFF000000
GENERIC_FALSE = 0x80000000
GENERIC_SKIP = 0x40000000

# Real requirements have under 20 operations; a chain of alternatives nests once for each. The
# caps keep a hostile one from exhausting Python's stack.
MAX_DEPTH = 100
MAX_OPERATIONS = 2000

# Times are seconds since 2001-01-01 (Core Foundation's absolute time).
EPOCH = datetime(2001, 1, 1, tzinfo=UTC)
LAST_SECOND = int((datetime(9999, 12, 31, tzinfo=UTC) - EPOCH).total_seconds())


class Operation(IntEnum):
    """Apple's opcodes."""

    FALSE = 0
    TRUE = 1
    IDENTIFIER = 2
    APPLE_ANCHOR = 3
    ANCHOR_HASH = 4
    INFO_VALUE = 5
    AND = 6
    OR = 7
    CDHASH = 8
    NOT = 9
    INFO_FIELD = 10
    CERTIFICATE_FIELD = 11
    TRUSTED_CERTIFICATE = 12
    TRUSTED_CERTIFICATES = 13
    CERTIFICATE_OID = 14
    APPLE_GENERIC_ANCHOR = 15
    ENTITLEMENT_FIELD = 16
    CERTIFICATE_POLICY = 17
    NAMED_ANCHOR = 18
    NAMED_CODE = 19
    PLATFORM = 20
    NOTARIZED = 21
    CERTIFICATE_DATE = 22
    LEGACY_DEVELOPER_ID = 23
    LIGHTWEIGHT = -1
    """No opcode: the whole requirement is of the other form, a DER dictionary of facts, which is
    kept and decides nothing here."""
    UNKNOWN_FALSE = GENERIC_FALSE
    """An opcode that we do not know, marked by its writer as safely false."""
    UNKNOWN_SKIP = GENERIC_SKIP
    """An opcode that we do not know, marked by its writer as safely ignored."""


class MatchKind(IntEnum):
    """Apple's match suffixes."""

    EXISTS = 0
    EQUAL = 1
    CONTAINS = 2
    BEGINS_WITH = 3
    ENDS_WITH = 4
    LESS_THAN = 5
    GREATER_THAN = 6
    LESS_EQUAL = 7
    GREATER_EQUAL = 8
    ON = 9
    BEFORE = 10
    AFTER = 11
    ON_OR_BEFORE = 12
    ON_OR_AFTER = 13
    ABSENT = 14


WITHOUT_VALUE = (MatchKind.EXISTS, MatchKind.ABSENT)
DATE_MATCHES = (
    MatchKind.ON,
    MatchKind.BEFORE,
    MatchKind.AFTER,
    MatchKind.ON_OR_BEFORE,
    MatchKind.ON_OR_AFTER,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How a field's value is compared."""

    kind: MatchKind = MatchKind.EXISTS
    value: bytes = b""
    seconds: int = 0
    """For the date comparisons: seconds since 2001."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """One operation with its arguments; which ones count is told by `LAYOUT`."""

    operation: Operation
    certificate: int = LEAF
    """0 leaf, 1 its issuer, -1 root."""
    key: bytes = b""
    """Field name, entitlement key, or the octets of an object identifier."""
    data: bytes = b""
    number: int = 0
    """Platform, or the whole opcode of an unknown operation."""
    match: Match | None = None
    operands: tuple[Expression, ...] = ()


Argument = Literal["certificate", "key", "data", "number", "match", "operand"]

LAYOUT: Mapping[Operation, tuple[Argument, ...]] = {
    Operation.FALSE: (),
    Operation.TRUE: (),
    Operation.IDENTIFIER: ("data",),
    Operation.APPLE_ANCHOR: (),
    Operation.ANCHOR_HASH: ("certificate", "data"),
    Operation.INFO_VALUE: ("key", "data"),
    Operation.AND: ("operand", "operand"),
    Operation.OR: ("operand", "operand"),
    Operation.CDHASH: ("data",),
    Operation.NOT: ("operand",),
    Operation.INFO_FIELD: ("key", "match"),
    Operation.CERTIFICATE_FIELD: ("certificate", "key", "match"),
    Operation.TRUSTED_CERTIFICATE: ("certificate",),
    Operation.TRUSTED_CERTIFICATES: (),
    Operation.CERTIFICATE_OID: ("certificate", "key", "match"),
    Operation.APPLE_GENERIC_ANCHOR: (),
    Operation.ENTITLEMENT_FIELD: ("key", "match"),
    Operation.CERTIFICATE_POLICY: ("certificate", "key", "match"),
    Operation.NAMED_ANCHOR: ("data",),
    Operation.NAMED_CODE: ("data",),
    Operation.PLATFORM: ("number",),
    Operation.NOTARIZED: (),
    Operation.CERTIFICATE_DATE: ("certificate", "key", "match"),
    Operation.LEGACY_DEVELOPER_ID: (),
    Operation.LIGHTWEIGHT: ("data",),
    Operation.UNKNOWN_FALSE: ("data",),
    Operation.UNKNOWN_SKIP: ("data", "operand"),
}


def oid_octets(text: str) -> bytes:
    """The content octets of an object identifier: how requirements name one."""
    try:
        first, second, *rest = (int(part) for part in text.split("."))
    except ValueError as problem:
        raise errors.FormatError("not an object identifier", observed=text[:80]) from problem
    if first not in (0, 1, 2) or second < 0 or (first < 2 and second > 39):
        raise errors.FormatError("not an object identifier", observed=text[:80])
    return b"".join(_base_128(arc) for arc in (first * 40 + second, *rest))


def _base_128(arc: int) -> bytes:
    if arc < 0:
        raise errors.FormatError("an object identifier has no negative parts")
    octets = [arc & 0x7F]
    while arc := arc >> 7:
        octets.append(0x80 | (arc & 0x7F))
    return bytes(reversed(octets))


def oid_text(octets: bytes) -> str:
    """The dotted form of an object identifier's content octets.

    Raises:
        FormatError: they are empty, end within a part, or are written longer than needed.
    """
    arcs: list[int] = []
    value, started = 0, False
    for octet in octets:
        if octet == 0x80 and not started:
            raise errors.FormatError("an object identifier is not written in its shortest form")
        value, started = value << 7 | octet & 0x7F, True
        if value >> 64:
            raise errors.FormatError("an object identifier's part is too large")
        if not octet & 0x80:
            arcs.append(value)
            value, started = 0, False
    if started or not arcs:
        raise errors.FormatError("an object identifier is cut short")
    first = min(arcs[0] // 40, 2)
    return ".".join(str(part) for part in (first, arcs[0] - 40 * first, *arcs[1:]))


def time_of(seconds: int) -> datetime:
    """The moment that a date comparison names."""
    return EPOCH + timedelta(seconds=seconds)
