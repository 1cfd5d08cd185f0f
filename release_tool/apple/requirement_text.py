"""Code requirements in their source form, as Apple's codesign prints them.

Rule and source: the requirement language of Apple's Technical Note 2206, and the texts that
codesign wrote into real resource seals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from release_tool.apple.requirement_expression import (
    DATE_MATCHES,
    FLAG_MASK,
    LEAF,
    ROOT,
    Expression,
    Match,
    MatchKind,
    Operation,
    oid_text,
    time_of,
)

_PRIMARY, _AND, _OR = 0, 1, 2
OID_PREFIXES = {
    Operation.CERTIFICATE_OID: "field.",
    Operation.CERTIFICATE_POLICY: "policy.",
    Operation.CERTIFICATE_DATE: "timestamp.",
}
COMPARISONS = {
    MatchKind.CONTAINS: "~",
    MatchKind.LESS_THAN: "<",
    MatchKind.GREATER_THAN: ">",
    MatchKind.LESS_EQUAL: "<=",
    MatchKind.GREATER_EQUAL: ">=",
}
DATE_COMPARISONS = {
    MatchKind.ON: "=",
    MatchKind.BEFORE: "<",
    MatchKind.AFTER: ">",
    MatchKind.ON_OR_BEFORE: "<=",
    MatchKind.ON_OR_AFTER: ">=",
}
_FIXED = {
    Operation.FALSE: "never",
    Operation.TRUE: "always",
    Operation.APPLE_ANCHOR: "anchor apple",
    Operation.APPLE_GENERIC_ANCHOR: "anchor apple generic",
    Operation.TRUSTED_CERTIFICATES: "anchor trusted",
    Operation.NOTARIZED: "notarized",
    Operation.LEGACY_DEVELOPER_ID: "legacy",
}
TYPE_NAMES: Mapping[int, str] = {1: "host", 2: "guest", 3: "designated", 4: "library", 5: "plugin"}
TIME_FORMAT = "%Y-%m-%d %H:%M:%SZ"


def to_text(expression: Expression) -> str:
    """Print a requirement as codesign does: `identifier "x" and anchor apple generic and …`."""
    return _text(expression, _OR)


def set_to_text(requirements: Mapping[int, Expression]) -> str:
    """Print a set, a line for each type: `designated => identifier "x" and …`."""
    return "".join(
        f"{TYPE_NAMES.get(kind, str(kind))} => {to_text(expression)}\n"
        for kind, expression in requirements.items()
    )


def _text(expression: Expression, level: int) -> str:
    operation = expression.operation
    if operation in (Operation.AND, Operation.OR):
        own, word = (_AND, "and") if operation is Operation.AND else (_OR, "or")
        left, right = (_text(operand, own) for operand in expression.operands)
        joined = f"{left} {word} {right}"
        return f"({joined})" if level < own else joined
    if operation is Operation.NOT:
        return f"! {_text(expression.operands[0], _PRIMARY)}"
    if operation is Operation.LIGHTWEIGHT:
        return "false /* lightweight code requirement */"
    if operation is Operation.UNKNOWN_FALSE:
        return f"false /* opcode {expression.number & ~FLAG_MASK} */"
    if operation is Operation.UNKNOWN_SKIP:
        skipped = f"/* opcode {expression.number & ~FLAG_MASK} */"
        return f"{skipped} {_text(expression.operands[0], level)}"
    return _FIXED.get(operation) or _WRITERS[operation](expression)


def _anchor_hash(expression: Expression) -> str:
    return f"{_slot(expression.certificate)} = {_hash(expression.data)}"


def _info_value(expression: Expression) -> str:
    return f"info[{_word(expression.key, dotted=True)}] = {_word(expression.data)}"


def _keyed(name: str) -> Callable[[Expression], str]:
    def write(expression: Expression) -> str:
        return f"{name}[{_word(expression.key, dotted=True)}]{_match(expression.match)}"

    return write


def _certificate_field(expression: Expression) -> str:
    name = _word(expression.key, dotted=True)
    return f"{_slot(expression.certificate)}[{name}]{_match(expression.match)}"


def _certificate_oid(expression: Expression) -> str:
    name = OID_PREFIXES[expression.operation] + oid_text(expression.key)
    return f"{_slot(expression.certificate)}[{name}]{_match(expression.match)}"


_WRITERS: Mapping[Operation, Callable[[Expression], str]] = {
    Operation.IDENTIFIER: lambda expression: f"identifier {_word(expression.data)}",
    Operation.ANCHOR_HASH: _anchor_hash,
    Operation.INFO_VALUE: _info_value,
    Operation.CDHASH: lambda expression: f"cdhash {_hash(expression.data)}",
    Operation.INFO_FIELD: _keyed("info"),
    Operation.ENTITLEMENT_FIELD: _keyed("entitlement"),
    Operation.CERTIFICATE_FIELD: _certificate_field,
    Operation.CERTIFICATE_OID: _certificate_oid,
    Operation.CERTIFICATE_POLICY: _certificate_oid,
    Operation.CERTIFICATE_DATE: _certificate_oid,
    Operation.TRUSTED_CERTIFICATE: lambda expression: f"{_slot(expression.certificate)} trusted",
    Operation.NAMED_ANCHOR: lambda expression: f"anchor apple {_word(expression.data)}",
    Operation.NAMED_CODE: lambda expression: f"({_word(expression.data)})",
    Operation.PLATFORM: lambda expression: f"platform = {expression.number}",
}


def _slot(number: int) -> str:
    names = {LEAF: "leaf", ROOT: "root"}
    return f"certificate {names.get(number, str(number))}"


def _hash(octets: bytes) -> str:
    return f'H"{octets.hex()}"'


def _word(octets: bytes, *, dotted: bool = False) -> str:
    """A bare word where the language allows one, else quoted, else hexadecimal."""
    bare = rb"[A-Za-z.][A-Za-z0-9.]*" if dotted else rb"[A-Za-z][A-Za-z0-9]*"
    if re.fullmatch(bare, octets):
        return octets.decode("ascii")
    if all(0x20 <= octet < 0x7F or 0x09 <= octet <= 0x0D for octet in octets):
        quoted = octets.decode("ascii").replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"'
    return f"0x{octets.hex()}"


def _match(match: Match | None) -> str:
    if match is None or match.kind is MatchKind.EXISTS:
        return " /* exists */"
    if match.kind is MatchKind.ABSENT:
        return " absent"
    if match.kind in DATE_MATCHES:
        return f" {DATE_COMPARISONS[match.kind]} <{time_of(match.seconds).strftime(TIME_FORMAT)}>"
    value = _word(match.value)
    if match.kind is MatchKind.BEGINS_WITH:
        return f" = {value}*"
    if match.kind is MatchKind.ENDS_WITH:
        return f" = *{value}"
    return f" {COMPARISONS.get(match.kind, '=')} {value}"
