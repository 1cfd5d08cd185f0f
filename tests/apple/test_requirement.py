"""Code requirements: binary, source form and verdicts."""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import certificates, der, requirement
from release_tool.apple.requirement_expression import (
    MAX_DEPTH,
    Expression,
    Match,
    MatchKind,
    Operation,
    oid_octets,
    oid_text,
)

# The blob that codesign wrote for a real Developer ID app, and its text from the app's seal.
REAL_TEXT = (
    'identifier "com.nuclearcyborg.permanentagentrecord.host" and anchor apple generic'
    " and certificate 1[field.1.2.840.113635.100.6.2.6] /* exists */"
    " and certificate leaf[field.1.2.840.113635.100.6.1.13] /* exists */"
    " and certificate leaf[subject.OU] = P8MA38JTXY"
)
CDHASH = bytes(range(20))
OTHER = bytes(20)

words = st.one_of(
    st.text("abcXYZ059.- \"\\'()/*=<>~é\t\n", min_size=1, max_size=12).map(str.encode),
    st.binary(min_size=1, max_size=12),
)
plain_keys = st.text("abcdefgXYZ.", min_size=1, max_size=12).map(str.encode)
object_identifiers = st.lists(st.integers(0, 2**40), min_size=1, max_size=6).map(
    lambda arcs: oid_octets(".".join(map(str, (1, 2, *arcs))))
)
slots = st.integers(-3, 3)
matches = st.one_of(
    st.sampled_from([Match(), Match(kind=MatchKind.ABSENT)]),
    st.builds(
        Match,
        kind=st.sampled_from([MatchKind(number) for number in range(1, 9)]),
        value=words,
    ),
    st.builds(
        Match,
        kind=st.sampled_from([MatchKind(number) for number in range(9, 14)]),
        seconds=st.integers(0, 10**10),
    ),
)


def _of(*operations: Operation, **arguments: st.SearchStrategy[Any]) -> Leaves:
    """Trees of one operation each, with these arguments."""
    return {
        operation: st.builds(Expression, operation=st.just(operation), **arguments)
        for operation in operations
    }


Leaves = dict[Operation, st.SearchStrategy[Expression]]
LEAVES: Leaves = {
    **_of(
        Operation.TRUE,
        Operation.FALSE,
        Operation.APPLE_ANCHOR,
        Operation.APPLE_GENERIC_ANCHOR,
        Operation.TRUSTED_CERTIFICATES,
        Operation.NOTARIZED,
        Operation.LEGACY_DEVELOPER_ID,
    ),
    **_of(Operation.IDENTIFIER, data=words),
    **_of(Operation.CDHASH, data=st.binary(max_size=20)),
    **_of(Operation.ANCHOR_HASH, certificate=slots, data=st.binary(max_size=20)),
    **_of(Operation.INFO_FIELD, Operation.ENTITLEMENT_FIELD, key=words, match=matches),
    **_of(Operation.CERTIFICATE_FIELD, certificate=slots, key=plain_keys, match=matches),
    **_of(
        Operation.CERTIFICATE_OID,
        Operation.CERTIFICATE_POLICY,
        Operation.CERTIFICATE_DATE,
        certificate=slots,
        key=object_identifiers,
        match=matches,
    ),
    **_of(Operation.PLATFORM, number=st.integers(0, 99)),
    **_of(Operation.TRUSTED_CERTIFICATE, certificate=slots),
    **_of(
        Operation.NAMED_ANCHOR,
        Operation.NAMED_CODE,
        data=st.text("abcXYZ", min_size=5, max_size=12).map(str.encode),
    ),
    **_of(Operation.INFO_VALUE, key=plain_keys, data=words),
}
simple = st.one_of(*LEAVES.values())
expressions = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(
            lambda left, right, operation: Expression(operation=operation, operands=(left, right)),
            inner,
            inner,
            st.sampled_from([Operation.AND, Operation.OR]),
        ),
        inner.map(lambda part: Expression(operation=Operation.NOT, operands=(part,))),
    ),
    max_leaves=12,
)


@given(expressions)
def test_the_binary_form_round_trips(expression: Expression) -> None:
    """Whatever tree is written comes back as the same tree, and as the same octets."""
    blob = requirement.encode(expression)
    assert requirement.parse(blob) == expression
    assert requirement.encode(requirement.parse(blob)) == blob


@given(expressions)
def test_the_source_form_keeps_its_meaning(expression: Expression) -> None:
    """Reading a printed requirement and printing it again gives the same text and verdict."""
    text = requirement.to_text(expression)
    again = requirement.parse_text(text)
    assert requirement.to_text(again) == text
    context = requirement.Context(identifier="a", cdhashes=frozenset({CDHASH}))
    assert requirement.decide(again, context) == requirement.decide(expression, context)


@given(st.binary(max_size=120))
def test_hostile_blobs_end_in_a_format_error(data: bytes) -> None:
    """Random bytes behind a valid header are read or refused, never anything else."""
    blob = (
        requirement.MAGIC.to_bytes(4, "big")
        + (len(data) + 12).to_bytes(4, "big")
        + b"\0\0\0\1"
        + data
    )
    for candidate in (data, blob):
        try:
            found = requirement.parse(candidate)
        except errors.FormatError:
            continue
        assert requirement.encode(found) == candidate


@given(st.text('aH"01 ()!=<>~*[].x/andorcertificate leaf', max_size=60))
def test_hostile_texts_end_in_a_format_error(text: str) -> None:
    """Random source is read or refused, and what is read prints to a fixed point."""
    try:
        found = requirement.parse_text(text)
    except errors.FormatError:
        return
    printed = requirement.to_text(found)
    assert requirement.to_text(requirement.parse_text(printed)) == printed


def test_developer_id_prints_as_codesign_does() -> None:
    """The designated requirement that we write prints as the real app's seal has it."""
    built = requirement.developer_id("com.nuclearcyborg.permanentagentrecord.host", "P8MA38JTXY")
    assert requirement.to_text(built) == REAL_TEXT
    assert requirement.to_text(requirement.parse_text(REAL_TEXT)) == REAL_TEXT


def test_a_team_that_begins_with_a_digit_is_quoted() -> None:
    """Apple's printer quotes a word that begins with a digit (seen in `ruff` and `sentry-cli`)."""
    built = requirement.developer_id("sh.astral.ruff", "2DC432GLL2")
    assert requirement.to_text(built).endswith('certificate leaf[subject.OU] = "2DC432GLL2"')


def test_a_set_round_trips_and_refuses_overlap() -> None:
    """A requirement set keeps its members, and one that points outside itself is refused."""
    blob = requirement.designated_developer_id("io.darkbloom.provider", "SLDQ2GJ6TL")
    parsed = requirement.parse_set(blob)
    assert list(parsed) == [requirement.DESIGNATED]
    assert requirement.encode_set(parsed) == blob
    assert requirement.parse_set(requirement.encode_set({})) == {}
    with pytest.raises(errors.FormatError):
        requirement.parse_set(blob[:16] + b"\0\0\0\4" + blob[20:])
    with pytest.raises(errors.FormatError):
        requirement.parse_set(blob[:-4])


def test_ad_hoc_code_is_its_own_code_directories() -> None:
    """Ad-hoc code designates the digests of its directories, any of them."""
    expression = requirement.designated_adhoc(CDHASH, OTHER)
    assert requirement.to_text(expression) == (
        f'cdhash H"{CDHASH.hex()}" or cdhash H"{OTHER.hex()}"'
    )
    context = requirement.Context(identifier="x", cdhashes=frozenset({OTHER}))
    assert requirement.evaluate(expression, context)
    assert not requirement.evaluate(requirement.designated_adhoc(CDHASH), context)
    assert requirement.designated({}, [CDHASH]) == requirement.designated_adhoc(CDHASH)


def test_missing_knowledge_never_becomes_consent() -> None:
    """A condition that only a Mac can decide satisfies nothing, and neither does its negation."""
    context = requirement.Context(identifier="x")
    for text in ("notarized", "! notarized", "notarized and always", "anchor trusted"):
        assert not requirement.evaluate(requirement.parse_text(text), context)
    assert requirement.evaluate(requirement.parse_text("notarized or always"), context)
    assert requirement.decide(requirement.parse_text("notarized and never"), context) is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('entitlement["com.apple.x"] exists', True),
        ("entitlement[off] exists", False),
        ("entitlement[off] absent", False),
        ("entitlement[none] absent", True),
        ("entitlement[groups] = two", True),
        ("entitlement[groups] = three", False),
        ("info[version] >= 1.9", True),
        ("info[version] < 1.9", False),
        ('info[version] = "1."*', True),
        ('info[version] = *"10"', True),
        ('info[version] ~ ".1"', True),
        ("info[none] = x", False),
        ("identifier a and ! identifier b", True),
        ("identifier b or identifier a", True),
        ("(identifier b or identifier a) and never", False),
        ("identifier b or identifier a and never", False),
        ("certificate leaf[subject.OU] exists", False),
        ("certificate leaf[subject.OU] absent", False),
        ("anchor apple generic", False),
        ("platform = 0", True),
    ],
)
def test_verdicts(text: str, expected: bool) -> None:
    """Each kind of condition is judged as Apple's interpreter does; `and` binds before `or`."""
    context = requirement.Context(
        identifier="a",
        info={"version": "1.10"},
        entitlements={"com.apple.x": True, "off": False, "groups": ["one", "two"]},
    )
    assert requirement.evaluate(requirement.parse_text(text), context) is expected


def test_unknown_opcodes_are_kept_when_they_can_be_passed() -> None:
    """An unknown opcode that states its size is kept and undecided; any other is refused."""
    unknown = 0x80000000 | 77
    blob = requirement.encode(
        Expression(operation=Operation.UNKNOWN_FALSE, number=unknown, data=b"abc")
    )
    parsed = requirement.parse(blob)
    assert requirement.encode(parsed) == blob
    negated = Expression(operation=Operation.NOT, operands=(parsed,))
    context = requirement.Context(identifier="x")
    assert not requirement.evaluate(parsed, context)
    assert not requirement.evaluate(negated, context)
    for opcode in (77, 0x80000002, 0xC0000077, 0x20000077):
        bad = blob[:12] + opcode.to_bytes(4, "big") + blob[16:]
        with pytest.raises(errors.FormatError):
            requirement.parse(bad)


def test_depth_is_capped() -> None:
    """A requirement nested beyond the cap is refused in both forms, without a stack overflow."""
    expression = Expression(operation=Operation.TRUE)
    for _ in range(MAX_DEPTH + 1):
        expression = Expression(operation=Operation.NOT, operands=(expression,))
    with pytest.raises(errors.FormatError):
        requirement.parse(requirement.encode(expression))
    for text in ("! " * 5000 + "always", "(" * 5000, "always and " * 5000 + "always"):
        with pytest.raises(errors.FormatError):
            requirement.parse_text(text)


@given(object_identifiers)
def test_object_identifiers_round_trip(octets: bytes) -> None:
    """An identifier's octets and its dotted form are one."""
    assert oid_octets(oid_text(octets)) == octets


@pytest.mark.parametrize("octets", [b"", b"\x80\x01", b"\x2a\x86", b"\xff" * 11 + b"\x00"])
def test_malformed_object_identifiers_are_refused(octets: bytes) -> None:
    """Empty, padded, unfinished and oversized identifiers are refused."""
    with pytest.raises(errors.FormatError):
        oid_text(octets)


def test_the_properties_reach_every_operation() -> None:
    """Each of Apple's opcodes is among the trees that are written, read, printed and judged."""
    joined = {Operation.AND, Operation.OR, Operation.NOT}
    others = {Operation.LIGHTWEIGHT, Operation.UNKNOWN_FALSE, Operation.UNKNOWN_SKIP}
    assert LEAVES.keys() | joined == set(Operation) - others


@pytest.mark.parametrize("operation", sorted(LEAVES))
def test_every_operation_round_trips_alone(operation: Operation) -> None:
    """In binary, and but for the old form of `info[…] = …` through its text."""

    @given(LEAVES[operation])
    @settings(max_examples=15)
    def check(expression: Expression) -> None:
        blob = requirement.encode(expression)
        assert requirement.encode(requirement.parse(blob)) == blob
        if operation is not Operation.INFO_VALUE:
            again = requirement.parse_text(requirement.to_text(expression))
            assert requirement.encode(again) == blob

    check()


def _contains(expression: Expression, operation: Operation) -> bool:
    return expression.operation is operation or any(
        _contains(part, operation) for part in expression.operands
    )


def _folded(expression: Expression, *, left: bool) -> Expression:
    """The same tree with its chains nested to one side."""
    operation = expression.operation
    parts = [_folded(part, left=left) for part in _links(expression, operation)]
    if operation not in (Operation.AND, Operation.OR):
        return replace(expression, operands=tuple(parts))
    if not left:
        parts.reverse()
    whole = parts[0]
    for part in parts[1:]:
        pair = (whole, part) if left else (part, whole)
        whole = Expression(operation=operation, operands=pair)
    return whole


def _links(expression: Expression, operation: Operation) -> list[Expression]:
    found = []
    for part in expression.operands:
        chained = operation in (Operation.AND, Operation.OR) and part.operation is operation
        found += _links(part, operation) if chained else [part]
    return found


@given(expressions.filter(lambda tree: not _contains(tree, Operation.INFO_VALUE)))
def test_text_gives_the_octets_back(expression: Expression) -> None:
    """A tree whose chains nest to one side is printed and compiled to the very same octets.

    The one operation that the text cannot tell from another is the old form of `info[…] = …`.
    """
    nestings: tuple[Literal["left", "right"], ...] = ("left", "right")
    for nesting in nestings:
        tree = _folded(expression, left=nesting == "left")
        again = requirement.parse_text(requirement.to_text(tree), nesting=nesting)
        assert requirement.encode(again) == requirement.encode(tree)


def test_the_default_requirement_compiles_to_its_octets() -> None:
    """What codesign designates by default nests to the right; its text compiles to the same."""
    built = requirement.developer_id("com.nuclearcyborg.permanentagentrecord.host", "P8MA38JTXY")
    right = requirement.parse_text(REAL_TEXT, nesting="right")
    assert requirement.encode(right) == requirement.encode(built)
    assert requirement.encode(requirement.parse_text(REAL_TEXT)) != requirement.encode(built)


def test_sets_have_a_source_form() -> None:
    """A line for each type, known by name or by number, in the order of the set."""
    text = f"library => anchor apple generic\ndesignated => {REAL_TEXT}\n9 => always\n"
    parsed = requirement.parse_set_text(text)
    assert list(parsed) == [requirement.LIBRARY, requirement.DESIGNATED, 9]
    assert requirement.set_to_text(parsed) == text
    blob = requirement.encode_set(parsed)
    assert requirement.parse_set(blob) == parsed
    assert requirement.encode_set(requirement.parse_set(blob)) == blob
    assert requirement.parse_set_text("") == {}
    for bad in ("designated => ", "=> always", "3 => always 3 => never", "-1 => always", "x => y"):
        with pytest.raises(errors.FormatError):
            requirement.parse_set_text(bad)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("identifier == a", "identifier a"),
        ('cdhash = H"00"', 'cdhash H"00"'),
        ("platform 3", "platform = 3"),
        ('anchor H"0102"', 'certificate root = H"0102"'),
        ('certificate leaf == H"0102"', 'certificate leaf = H"0102"'),
        ('cert 1 H"0102"', 'certificate 1 = H"0102"'),
        ("info[a] == b", "info[a] = b"),
        ("info[a] => 3", 'info[a] >= "3"'),
        ("certificate anchor trusted", "certificate root trusted"),
    ],
)
def test_spellings_of_the_language(text: str, plain: str) -> None:
    """Signs of equality may be doubled or left out, as the language has it."""
    assert requirement.to_text(requirement.parse_text(text)) == plain


# Verdicts over certificates


def _leaf(*extensions: tuple[str, bytes]) -> certificates.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "leaf"),
            x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@example.org"),
        ]
    )
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.RFC822Name("b@example.org")]), critical=False
        )
    )
    for oid, value in extensions:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(extension, critical=False)
    made = builder.sign(key, hashes.SHA256())
    return certificates.load(made.public_bytes(serialization.Encoding.DER))


DATE = "1.2.840.113635.100.6.1.33"


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        (der.utf8("20140901000000Z"), "< <2019-06-01 00:00:00Z>", True),
        (der.utf8("20140901000000Z"), "> <2019-06-01 00:00:00Z>", False),
        (der.utf8("20140901000000Z"), "= <2014-09-01 00:00:00Z>", True),
        (der.utf8("20140901000000Z"), "<= <2014-09-01 00:00:00Z>", True),
        (der.utf8("20140901000000Z"), ">= <2014-09-01 00:00:01Z>", False),
        (der.generalized_time(datetime(2014, 9, 1, tzinfo=UTC)), "< <2019-06-01 00:00:00Z>", True),
        (der.utf8("20140901000000Z"), "exists", True),
        (der.utf8("20140901000000Z"), "absent", False),
        (der.utf8("no time"), "< <2019-06-01 00:00:00Z>", None),
        (b"\xff", "exists", None),
        (None, "absent", True),
        (None, "< <2019-06-01 00:00:00Z>", False),
    ],
)
def test_dates_in_certificates(value: bytes | None, text: str, expected: bool | None) -> None:
    """The date in a Developer ID leaf is a text; what is no time decides nothing."""
    leaf = _leaf() if value is None else _leaf((DATE, value))
    context = requirement.Context(identifier="a", certificates=(leaf,))
    expression = requirement.parse_text(f"certificate leaf[timestamp.{DATE}] {text}")
    assert requirement.decide(expression, context) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('certificate leaf[email] = "a@example.org"', True),
        ('certificate leaf[email] = *"b@example.org"', True),
        ('certificate leaf[email] = "c@example.org"', False),
        ("certificate leaf[email] exists", True),
        ("certificate 1[email] exists", False),
        ("certificate leaf[subject.CN] = leaf", True),
    ],
)
def test_addresses_in_certificates(text: str, expected: bool) -> None:
    """Any of a certificate's addresses may match."""
    context = requirement.Context(identifier="a", certificates=(_leaf(),))
    assert requirement.decide(requirement.parse_text(text), context) is expected


@pytest.mark.parametrize("known", [True, None])
def test_notarization_is_decided_by_who_knows(known: bool | None) -> None:
    """A ticket that lists the code decides `notarized`; without one nothing is known."""
    context = requirement.Context(identifier="a", notarized=known)
    assert requirement.decide(requirement.parse_text("notarized"), context) is known


def test_a_lightweight_requirement_is_kept_and_decides_nothing() -> None:
    """The other form of a requirement comes out as it was, and is no consent in either sense."""
    blob = struct.pack(">III", requirement.MAGIC, 16, 2) + b"DER!"
    parsed = requirement.parse(blob)
    assert requirement.encode(parsed) == blob
    whole = requirement.encode_set({requirement.DESIGNATED: parsed})
    assert requirement.encode_set(requirement.parse_set(whole)) == whole
    context = requirement.Context(identifier="x")
    assert requirement.decide(parsed, context) is None
    assert requirement.to_text(parsed) == "false /* lightweight code requirement */"
    with pytest.raises(errors.FormatError, match="unknown form"):
        requirement.parse(blob[:8] + struct.pack(">I", 3) + blob[12:])
