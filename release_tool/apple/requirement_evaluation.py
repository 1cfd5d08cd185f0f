"""Judge code by a requirement.

Some conditions cannot be decided away from a Mac (trust settings, notarization, Apple's named
fragments). They stay undecided through `and`, `or` and `not`, so that a negation never turns
missing knowledge into consent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from release_tool import errors
from release_tool.apple import certificates, der
from release_tool.apple.requirement_expression import (
    DATE_MATCHES,
    Expression,
    Match,
    MatchKind,
    Operation,
    oid_text,
    time_of,
)

Verdict = bool | None
"""None: it cannot be decided from what is known."""

_ABSENT = object()

_COMMON_NAME, _ORGANIZATION = "2.5.4.3", "2.5.4.10"
_SUBJECT_FIELDS = {
    b"subject.CN": _COMMON_NAME,
    b"subject.C": "2.5.4.6",
    b"subject.D": "2.5.4.13",
    b"subject.L": "2.5.4.7",
    b"subject.O": _ORGANIZATION,
    b"subject.OU": "2.5.4.11",
    b"subject.ST": "2.5.4.8",
    b"subject.STREET": "2.5.4.9",
    b"subject.UID": "0.9.2342.19200300.100.1.1",
}
_EMAIL_KEY = b"email"
_EMAIL_ADDRESS, _ALTERNATIVE_NAME = "1.2.840.113549.1.9.1", "2.5.29.17"
_RFC822_NAME = 1
_CERTIFICATE_POLICIES = "2.5.29.32"
_APPLE_AUTHORITY = "Apple Code Signing Certification Authority"
_APPLE = "Apple Inc."


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is known about the code that is judged."""

    identifier: str
    cdhashes: frozenset[bytes] = frozenset()
    certificates: tuple[certificates.Certificate, ...] = ()
    """Leaf first, root last; empty for ad-hoc code."""
    apple_root: bool = False
    """Whether the chain ends in a root that is trusted in Apple's place."""
    info: Mapping[str, object] = field(default_factory=dict)
    entitlements: Mapping[str, object] = field(default_factory=dict)
    platform: int = 0
    notarized: Verdict = None
    """Whether Apple notarized the code: True where a ticket that holds lists it. Away from a Mac
    nothing proves the contrary."""


def evaluate(expression: Expression, context: Context) -> bool:
    """Whether the code satisfies the requirement for certain."""
    return decide(expression, context) is True


def decide(expression: Expression, context: Context) -> Verdict:
    """Judge the code: True, False, or None where that cannot be known here."""
    operation = expression.operation
    if operation is Operation.AND:
        return _conjunction([decide(part, context) for part in expression.operands])
    if operation is Operation.OR:
        return _alternatives([decide(part, context) for part in expression.operands])
    if operation is Operation.NOT:
        verdict = decide(expression.operands[0], context)
        return None if verdict is None else not verdict
    if operation is Operation.UNKNOWN_SKIP:
        return decide(expression.operands[0], context)
    judge = _JUDGES.get(operation)
    return judge(expression, context) if judge is not None else None


def _conjunction(verdicts: list[Verdict]) -> Verdict:
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _alternatives(verdicts: list[Verdict]) -> Verdict:
    if True in verdicts:
        return True
    return None if None in verdicts else False


def _certificate(context: Context, index: int) -> certificates.Certificate | None:
    count = len(context.certificates)
    return context.certificates[index] if -count <= index < count else None


def _identifier(expression: Expression, context: Context) -> Verdict:
    return context.identifier.encode("utf-8", "surrogateescape") == expression.data


def _apple_anchor(_: Expression, context: Context) -> Verdict:
    authority = _certificate(context, -2)
    if not context.apple_root or authority is None:
        return False
    names = (
        _subject(authority, _COMMON_NAME),
        _subject(authority, _ORGANIZATION),
    )
    return names == (_APPLE_AUTHORITY, _APPLE)


def _anchor_hash(expression: Expression, context: Context) -> Verdict:
    certificate = _certificate(context, expression.certificate)
    if certificate is None:
        return False
    return hashlib.sha1(certificate.der).digest() == expression.data


def _info(expression: Expression, context: Context) -> Verdict:
    return _matches(_looked_up(context.info, expression.key), expression.match)


def _info_value(expression: Expression, context: Context) -> Verdict:
    match = Match(kind=MatchKind.EQUAL, value=expression.data)
    return _matches(_looked_up(context.info, expression.key), match)


def _entitlement(expression: Expression, context: Context) -> Verdict:
    return _matches(_looked_up(context.entitlements, expression.key), expression.match)


def _looked_up(values: Mapping[str, object], key: bytes) -> object:
    return values.get(key.decode("utf-8", "replace"), _ABSENT)


def _certificate_field(expression: Expression, context: Context) -> Verdict:
    certificate = _certificate(context, expression.certificate)
    if certificate is not None and expression.key == _EMAIL_KEY:
        return _matches(_emails(certificate) or _ABSENT, expression.match)
    attribute = _SUBJECT_FIELDS.get(expression.key)
    if certificate is None or attribute is None:
        return False
    found = _subject(certificate, attribute)
    # Apple's interpreter fails a subject field that is not there, whatever is asked of it.
    return False if found is None else _matches(found, expression.match)


def _certificate_oid(expression: Expression, context: Context) -> Verdict:
    certificate = _certificate(context, expression.certificate)
    if certificate is None:
        return False
    present = certificates.has_marker(certificate, oid_text(expression.key))
    return _matches(True if present else _ABSENT, expression.match)


def _certificate_date(expression: Expression, context: Context) -> Verdict:
    """A moment that an extension of the certificate names.

    Undecided where the extension holds something else, since readers would differ.
    """
    certificate = _certificate(context, expression.certificate)
    if certificate is None:
        return False
    extension = certificate.extension(oid_text(expression.key))
    if extension is None:
        return _matches(_ABSENT, expression.match)
    moment = _moment(extension.value)
    return None if moment is None else _matches(moment, expression.match)


def _moment(value: bytes) -> datetime | None:
    """A time, or a text that is written as one is: Apple's leafs hold the latter (measured)."""
    try:
        node = der.parse(value)
        if node.is_universal(der.UTF8_STRING):
            node = der.parse(der.encode(der.GENERALIZED_TIME, node.content))
        return der.as_time(node)
    except errors.FormatError:
        return None


def _emails(certificate: certificates.Certificate) -> list[str]:
    """The addresses in the subject and in the alternative names."""
    first = _subject(certificate, _EMAIL_ADDRESS)
    found = [] if first is None else [first]
    extension = certificate.extension(_ALTERNATIVE_NAME)
    if extension is not None:
        names = der.as_sequence(der.parse(extension.value))
        found += [
            der.string_content(name).decode("ascii", "replace")
            for name in names
            if name.is_context(_RFC822_NAME)
        ]
    return found


def _certificate_policy(expression: Expression, context: Context) -> Verdict:
    certificate = _certificate(context, expression.certificate)
    if certificate is None:
        return False
    wanted = oid_text(expression.key)
    return _matches(True if wanted in _policies(certificate) else _ABSENT, expression.match)


def _policies(certificate: certificates.Certificate) -> list[str]:
    extension = certificate.extension(_CERTIFICATE_POLICIES)
    if extension is None:
        return []
    policies = der.as_sequence(der.parse(extension.value))
    return [der.as_oid(der.as_sequence(policy)[0]) for policy in policies if policy.children]


def _subject(certificate: certificates.Certificate, attribute: str) -> str | None:
    """The first value of one attribute of the subject, as Apple's interpreter takes it."""
    for relative in der.as_sequence(der.parse(certificate.subject)):
        for pair in der.as_set(relative):
            parts = der.as_sequence(pair)
            if len(parts) == 2 and der.as_oid(parts[0]) == attribute:
                return der.as_text(parts[1])
    return None


def _matches(value: object, match: Match | None) -> bool:
    match = match or Match()
    if value is _ABSENT:
        return match.kind is MatchKind.ABSENT
    if isinstance(value, list | tuple) and any(_matches(item, match) for item in value):
        return True
    if match.kind is MatchKind.EXISTS:
        return value is not False
    if match.kind is MatchKind.ABSENT:
        return False
    if match.kind in DATE_MATCHES:
        return isinstance(value, datetime) and _compares(match.kind, value, time_of(match.seconds))
    wanted = match.value.decode("utf-8", "replace")
    return isinstance(value, str) and _TEXT_MATCHES[match.kind](value, wanted)


def _compares(kind: MatchKind, value: datetime, wanted: datetime) -> bool:
    if value.tzinfo is None:
        value = value.replace(tzinfo=wanted.tzinfo)
    return {
        MatchKind.ON: value == wanted,
        MatchKind.BEFORE: value < wanted,
        MatchKind.AFTER: value > wanted,
        MatchKind.ON_OR_BEFORE: value <= wanted,
        MatchKind.ON_OR_AFTER: value >= wanted,
    }[kind]


def _numerically(text: str) -> list[tuple[int, int, str]]:
    """A sort key that compares runs of digits by value, as Core Foundation does."""
    key: list[tuple[int, int, str]] = []
    run = ""
    for character in text + "\0":
        if character.isascii() and character.isdigit():
            run += character
            continue
        if run:
            key.append((0, _number(run), ""))
            run = ""
        key.append((1, 0, character))
    return key


def _number(digits: str) -> int:
    # Python refuses to convert very long runs; their length already orders them.
    return int(digits) if len(digits) <= 1000 else 10**1000 + len(digits)


_TEXT_MATCHES: Mapping[MatchKind, Callable[[str, str], bool]] = {
    MatchKind.EQUAL: lambda value, wanted: value == wanted,
    MatchKind.CONTAINS: lambda value, wanted: wanted in value,
    MatchKind.BEGINS_WITH: lambda value, wanted: value.startswith(wanted),
    MatchKind.ENDS_WITH: lambda value, wanted: value.endswith(wanted),
    MatchKind.LESS_THAN: lambda value, wanted: _numerically(value) < _numerically(wanted),
    MatchKind.GREATER_THAN: lambda value, wanted: _numerically(value) > _numerically(wanted),
    MatchKind.LESS_EQUAL: lambda value, wanted: _numerically(value) <= _numerically(wanted),
    MatchKind.GREATER_EQUAL: lambda value, wanted: _numerically(value) >= _numerically(wanted),
}

_JUDGES: Mapping[Operation, Callable[[Expression, Context], Verdict]] = {
    Operation.FALSE: lambda _expression, _context: False,
    Operation.TRUE: lambda _expression, _context: True,
    Operation.IDENTIFIER: _identifier,
    Operation.APPLE_ANCHOR: _apple_anchor,
    Operation.APPLE_GENERIC_ANCHOR: lambda _, context: context.apple_root,
    Operation.ANCHOR_HASH: _anchor_hash,
    Operation.INFO_VALUE: _info_value,
    Operation.INFO_FIELD: _info,
    Operation.ENTITLEMENT_FIELD: _entitlement,
    Operation.CDHASH: lambda expression, context: expression.data in context.cdhashes,
    Operation.CERTIFICATE_FIELD: _certificate_field,
    Operation.CERTIFICATE_OID: _certificate_oid,
    Operation.CERTIFICATE_POLICY: _certificate_policy,
    Operation.CERTIFICATE_DATE: _certificate_date,
    Operation.NOTARIZED: lambda _, context: context.notarized,
    Operation.PLATFORM: lambda expression, context: expression.number == context.platform,
}
