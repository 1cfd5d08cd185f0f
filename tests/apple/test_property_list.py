"""Property lists from strangers."""

from __future__ import annotations

import plistlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import property_list

HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n<plist version="1.0">'

texts = st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs", "Cn")), max_size=12)
values = st.recursive(
    st.one_of(
        texts,
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.binary(max_size=40),
        st.floats(allow_nan=False),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(texts, values, max_size=5))
def test_what_is_written_is_read(value: dict[str, object]) -> None:
    """Our reader and Python's agree on everything that our writer makes."""
    written = property_list.write(value)
    assert property_list.parse(written) == plistlib.loads(written)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    """Random bytes end in a format error, alone and inside a list."""
    for candidate in (data, HEAD + data + b"</plist>", b"bplist00" + data):
        for read in (property_list.parse, property_list.parse_any):
            try:
                read(candidate)
            except errors.FormatError:
                continue


@pytest.mark.parametrize(
    "body",
    [
        b"<dict><key>a</key><true/><key>a</key><false/></dict>",
        b"<dict><key>a</key></dict>",
        b"<dict><true/></dict>",
        b"<dict><key>a</key><key>b</key><true/></dict>",
        b"<dict><key>a</key>stray<true/></dict>",
        b"<dict><key>a</key><integer>1x</integer></dict>",
        b"<dict><key>a</key><integer>" + b"9" * 5000 + b"</integer></dict>",
        b"<dict><key>a</key><data>!!</data></dict>",
        b"<dict><key>a</key><date>yesterday</date></dict>",
        b"<dict><key>a</key><unknown/></dict>",
        b"<dict><key>a</key><true>yes</true></dict>",
        b"<dict><key>a</key><string><true/></string></dict>",
        b"<array/>",
        b"<dict/><dict/>",
        b"<dict>" + b"<key>a</key><dict>" * 100 + b"</dict>" * 100 + b"</dict>",
    ],
)
def test_contradictions_and_bombs_are_refused(body: bytes) -> None:
    """A key twice, a missing value, stray text, wrong scalars and deep nesting are refused."""
    with pytest.raises(errors.FormatError):
        property_list.parse(HEAD + body + b"</plist>")


def test_entities_are_refused() -> None:
    """A list that declares entities is refused before anything grows."""
    bomb = (
        b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
        b'<plist version="1.0"><dict><key>x</key><string>&b;</string></dict></plist>'
    )
    with pytest.raises(errors.FormatError):
        property_list.parse(bomb)


def test_sizes_are_capped() -> None:
    """A list beyond its cap is refused unread."""
    with pytest.raises(errors.FormatError):
        property_list.parse(HEAD + b"<dict/></plist>", limit=10)


def test_dates_are_aware() -> None:
    """A date comes back in UTC."""
    body = b"<dict><key>a</key><date>2026-05-14T21:51:00Z</date></dict></plist>"
    moment = datetime(2026, 5, 14, 21, 51, tzinfo=UTC)
    assert property_list.parse(HEAD + body) == {"a": moment}


def test_binary_lists_are_read_where_asked() -> None:
    """An `Info.plist` of a stranger may be binary; a seal or entitlements may not."""
    data = plistlib.dumps({"CFBundleIdentifier": "x"}, fmt=plistlib.FMT_BINARY)
    assert property_list.parse_any(data) == {"CFBundleIdentifier": "x"}
    with pytest.raises(errors.FormatError):
        property_list.parse(data)


def test_white_space_may_stand_before_the_declaration() -> None:
    """Real entitlements of 2021 begin with two blanks; Apple's readers pass over them."""
    data = property_list.write({"a": True})
    assert property_list.parse(b" \t\r\n " + data) == {"a": True}
    with pytest.raises(errors.FormatError):
        property_list.parse(b"x" + data)
    with pytest.raises(errors.FormatError):
        property_list.parse(b"   ")
