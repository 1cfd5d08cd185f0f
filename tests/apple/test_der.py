"""Reading BER as it stands and writing DER."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from asn1crypto import core
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import der

_OIDS = st.builds(
    lambda first, second, rest: ".".join(map(str, (first, second, *rest))),
    st.integers(0, 1),
    st.integers(0, 39),
    st.lists(st.integers(0, 2**40), max_size=8),
)
_LEAVES = st.one_of(
    st.binary(max_size=40).map(der.octets),
    st.integers(-(2**70), 2**70).map(der.integer),
    st.booleans().map(der.boolean),
    st.text(max_size=20).filter(lambda text: text.isprintable()).map(der.utf8),
    _OIDS.map(der.oid),
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.builds(
        lambda wrap, parts: wrap(der.SEQUENCE, *parts),
        st.sampled_from((der.encode, der.indefinite)),
        st.lists(inner, max_size=4),
    ),
    max_leaves=20,
)


def _walk(node: der.Node) -> list[der.Node]:
    if not node.constructed:
        return [node]
    return [node, *(below for child in node.children for below in _walk(child))]


@given(_TREES)
def test_every_span_is_kept_as_it_stood(data: bytes) -> None:
    """Definite and indefinite trees come back byte for byte, children side by side in order."""
    node = der.parse(data)
    assert node.raw == data
    for inner in _walk(node):
        if inner.constructed:
            assert b"".join(child.raw for child in inner.children) == inner.content


@given(st.integers(-(2**200), 2**200))
def test_integers_agree_with_asn1crypto(value: int) -> None:
    """Our integers are those that an independent encoder writes, and read back the same."""
    encoded = der.integer(value)
    assert encoded == core.Integer(value).dump()
    assert der.as_integer(der.parse(encoded)) == value


@given(_OIDS)
def test_identifiers_agree_with_asn1crypto(dotted: str) -> None:
    """Our object identifiers are those that an independent encoder writes."""
    encoded = der.oid(dotted)
    assert encoded == core.ObjectIdentifier(dotted).dump()
    assert der.as_oid(der.parse(encoded)) == dotted


@given(st.binary(max_size=400), st.booleans())
def test_octets_and_bits_agree_with_asn1crypto(value: bytes, whole: bool) -> None:
    """Short and long lengths are written as an independent encoder writes them."""
    assert der.octets(value) == core.OctetString(value).dump()
    assert der.as_octets(der.parse(der.octets(value))) == value
    unused = 0 if whole or not value else 3
    assert der.as_bits(der.parse(der.bits(value, unused))) == (value, unused)


@given(st.datetimes(min_value=datetime(1950, 1, 1), max_value=datetime(2049, 12, 31)))  # noqa: DTZ001
def test_times_round_trip(moment: datetime) -> None:
    """Both kinds of time give back the second that went in."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert der.as_time(der.parse(der.utc_time(moment))) == moment
    assert der.as_time(der.parse(der.generalized_time(moment))) == moment
    assert der.utc_time(moment) == core.UTCTime(moment).dump()


@given(st.lists(st.binary(max_size=5).map(der.octets), max_size=6))
def test_sets_are_sorted_or_left_alone(parts: list[bytes]) -> None:
    """`set_of` sorts as DER does; `set_as_given` keeps the order."""
    assert [node.raw for node in der.as_set(der.parse(der.set_of(*parts)))] == sorted(parts)
    assert [node.raw for node in der.as_set(der.parse(der.set_as_given(*parts)))] == parts


@given(st.integers(0, 2**28 - 1), st.integers(0, 3), st.booleans())
def test_tags_round_trip(number: int, tag_class: int, constructed: bool) -> None:
    """Low and high tag numbers of every class are read as written."""
    if (number, tag_class) == (0, 0):
        return
    tag = der.encode_tag(tag_class, number, constructed=constructed)
    node = der.parse(der.encode(tag))
    assert (node.tag, node.tag_class, node.constructed) == (number, tag_class, constructed)


def test_a_constructed_string_is_joined() -> None:
    """The pieces of a BER string come together, whatever the nesting."""
    pieces = der.encode(0x24, der.octets(b"ab"), der.indefinite(0x24, der.octets(b"c")))
    assert der.as_octets(der.parse(pieces)) == b"abc"


def test_apples_entitlement_tags_are_single_bytes() -> None:
    """[APPLICATION 16] and [16] constructed are the 0x70 and 0xb0 of DER entitlements."""
    assert der.encode_tag(der.APPLICATION, 16, constructed=True) == b"\x70"
    assert der.encode_tag(der.CONTEXT, 16, constructed=True) == b"\xb0"


@given(st.binary(max_size=300))
def test_random_bytes_only_raise_our_error(data: bytes) -> None:
    """No bytes make the reader fail in another way than by its own error."""
    with contextlib.suppress(errors.FormatError):
        _read_everything(der.parse(data))


@given(_TREES, st.data())
def test_damaged_trees_only_raise_our_error(data: bytes, draw: st.DataObject) -> None:
    """A changed byte is read as something else or refused, never a traceback."""
    index = draw.draw(st.integers(0, len(data) - 1))
    changed = data[:index] + bytes((draw.draw(st.integers(0, 255)),)) + data[index + 1 :]
    with contextlib.suppress(errors.FormatError):
        _read_everything(der.parse(changed))


@given(_TREES, st.data())
def test_truncated_trees_are_refused(data: bytes, draw: st.DataObject) -> None:
    """Every proper prefix of an element is refused."""
    with pytest.raises(errors.FormatError):
        der.parse(data[: draw.draw(st.integers(0, len(data) - 1))])


def _read_everything(node: der.Node) -> None:
    for inner in _walk(node):
        for read in (der.as_oid, der.as_integer, der.as_text, der.as_time, der.as_bits):
            with contextlib.suppress(errors.FormatError):
                read(inner)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\x30", "truncated"),
        (b"\x30\x05\x02\x01", "truncated"),
        (b"\x30\x80\x02\x01\x01", "end marker"),
        (b"\x30\x80\x02\x01\x01\x00", "end marker"),
        (b"\x04\x80\x00\x00", "primitive"),
        (b"\x00\x00", "end marker"),
        (b"\x30\x85\x00\x00\x00\x00\x01\x00", "length of 5"),
        (b"\x30\x84\xff\xff\xff\xff\x00", "truncated"),
        (b"\x1f\xff\xff\xff\xff\xff\x00", "tag number"),
        (b"\x05\x00\x00", "follow"),
    ],
)
def test_malformed_headers_are_named(data: bytes, reason: str) -> None:
    """Each way in which a header can lie has its own words."""
    with pytest.raises(errors.FormatError, match=reason):
        der.parse(data)


@pytest.mark.parametrize("opening", [b"\x30\x80", b"\xa0\x80"])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    """A million open indefinite lengths end in one error, without recursion."""
    with pytest.raises(errors.FormatError, match="nested deeper"):
        der.parse(opening * 1_000_000)


def test_deep_definite_nesting_is_refused_where_it_is_entered() -> None:
    """Definite nesting costs nothing until somebody goes down, and then ends at the cap."""
    data = b"\x05\x00"
    for _ in range(500):
        data = der.sequence(data)
    with pytest.raises(errors.FormatError, match="nested deeper"):
        _walk(der.parse(data))


def test_too_many_elements_are_refused() -> None:
    """Two-byte elements cannot fill the memory."""
    data = der.sequence(b"\x05\x00" * (der.MAX_CHILDREN + 1))
    with pytest.raises(errors.FormatError, match="side by side"):
        _ = der.parse(data).children
    with pytest.raises(errors.FormatError, match="side by side"):
        der.parse(der.indefinite(der.SEQUENCE, b"\x05\x00" * (der.MAX_CHILDREN + 1)))


def test_huge_input_is_refused() -> None:
    """Input over the cap is not even looked at."""
    with pytest.raises(errors.FormatError, match="more than"):
        der.parse(bytes(der.MAX_BYTES + 1))


@pytest.mark.parametrize(
    "data",
    [
        b"\x02\x00",
        b"\x02\x02\x00\x01",
        b"\x02\x02\xff\xff",
        b"\x02\x83\x01\x00\x00" + b"\x01" * 65536,
        b"\x22\x03\x02\x01\x01",
    ],
)
def test_malformed_integers_are_refused(data: bytes) -> None:
    """Empty, padded, endless and constructed integers are no integers."""
    with pytest.raises(errors.FormatError):
        der.as_integer(der.parse(data))


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x01", b"\x2a\x80", b"\x2a" + b"\x81" * 200 + b"\x01"]
)
def test_malformed_identifiers_are_refused(content: bytes) -> None:
    """Empty, padded, unfinished and endless identifiers are none."""
    with pytest.raises(errors.FormatError):
        der.as_oid(der.parse(der.encode(der.OBJECT_IDENTIFIER, content)))


@pytest.mark.parametrize(
    "text",
    ["260230000000Z", "2602010000Z", "260201000000", "260201000000+0100", "26020100000\u0966Z"],
)
def test_malformed_times_are_refused(text: str) -> None:
    """No such day, no seconds, no zone, another zone, other digits."""
    with pytest.raises(errors.FormatError):
        der.as_time(der.parse(der.encode(der.UTC_TIME, text.encode())))


@pytest.mark.parametrize("dotted", ["", "1", "3.1", "1.40", "1.2.-3", "1.2.x", "1..2"])
def test_no_identifier_is_made_of_nonsense(dotted: str) -> None:
    """The encoder refuses what it could not read back."""
    with pytest.raises(errors.FormatError):
        der.oid(dotted)


def test_a_real_ticket_certificate_chain_is_read(real_data: Path) -> None:
    """The certificate sequence inside a real ticket holds two certificates."""
    data = (real_data / "tickets" / "PermanentAgentRecord-2026.ticket").read_bytes()
    length = int.from_bytes(data[8:12], "little")
    assert len(der.as_sequence(der.parse(data[16 : 16 + length]))) == 2


def _element(draw: st.DrawFn, depth: int) -> bytes:
    constructed = depth < 4 and draw(st.booleans())
    number = draw(st.integers(1, 30) | st.integers(31, 20_000))
    tag = der.encode_tag(draw(st.integers(0, 3)), number, constructed=constructed)
    if not constructed:
        form = draw(st.sampled_from([der.MINIMAL, 2, 4]))
        content = draw(st.binary(max_size=9) | st.just(b"x" * 200))
        return der.encode_in_form(tag, form, content)
    form = draw(st.sampled_from([der.MINIMAL, der.INDEFINITE, 3]))
    count = draw(st.integers(0, 3))
    return der.encode_in_form(tag, form, *(_element(draw, depth + 1) for _ in range(count)))


@given(st.composite(lambda draw: _element(draw, 0))())
def test_any_element_comes_out_as_it_was(data: bytes) -> None:
    """Tags of any size, definite, padded and indefinite lengths, nested: written as read."""
    assert der.encode_as_read(der.parse(data)) == data


def test_a_length_that_does_not_fit_its_form_is_refused() -> None:
    """One octet holds 255."""
    assert der.encode_in_form(der.OCTET_STRING, 1, b"a") == b"\x04\x81\x01a"
    with pytest.raises(errors.FormatError):
        der.encode_in_form(der.OCTET_STRING, 1, bytes(256))


@pytest.mark.parametrize("data", [b"\x1f\x05\x00", b"\x1f\x80\x21\x00", b"\xbf\x00\x00"])
def test_padded_tags_are_refused(data: bytes) -> None:
    """A tag has one form: the long one from 31 on, without leading zeros."""
    with pytest.raises(errors.FormatError):
        der.parse(data)


def test_a_sixtieth_second_is_the_next_minutes_first() -> None:
    """Apple's codesign has written one as a signing time; a sixty-first is no time."""
    told = der.parse(der.encode(der.UTC_TIME, b"231018080560Z"))
    assert der.as_time(told) == datetime(2023, 10, 18, 8, 6, tzinfo=UTC)
    for text in (b"20231018080561Z", b"99991231235960Z"):
        with pytest.raises(errors.FormatError, match="no such time"):
            der.as_time(der.parse(der.encode(der.GENERALIZED_TIME, text)))
