"""AppleDouble as Apple's published sources lay it out; no real one is among our items."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import apple_double
from tests.fake_mac import attributes

VALUES = {"com.apple.cs.CodeDirectory": b"directory", "com.apple.quarantine": b""}
WHOLE = attributes.apple_double(VALUES)
_NAMES = st.text("abc.\u00e9", min_size=1, max_size=20)


@given(st.dictionaries(_NAMES, st.binary(max_size=40), max_size=6))
def test_attributes_are_read_by_name(values: dict[str, bytes]) -> None:
    """Any names and values, in order; Finder info and the resource fork are none."""
    assert list(apple_double.parse(attributes.apple_double(values)).items()) == list(values.items())


def test_finder_info_alone_has_no_attributes() -> None:
    """The table is optional."""
    assert apple_double.parse(WHOLE[:84]) == {}


@pytest.mark.parametrize(
    ("place", "octets", "said"),
    [
        (0, b"\xff", "not AppleDouble"),
        (5, b"\x01", "not AppleDouble"),
        (24, b"\xff", "not AppleDouble"),
        (118, b"\xff", "too many"),
        (120, b"\xff", "leaves it"),
        (124, b"\x7f", "leaves it"),
        (130, b"\xff", "leaves it"),
        (131, b"\xff", "no text"),
    ],
)
def test_damage_is_a_format_error(place: int, octets: bytes, said: str) -> None:
    """Magic, version, entries, count, place and size of a value, size and text of a name."""
    changed = WHOLE[:place] + octets + WHOLE[place + len(octets) :]
    with pytest.raises(errors.FormatError, match=said):
        apple_double.parse(changed)


def test_one_attribute_twice_is_a_format_error() -> None:
    """Two readers could take two signatures."""
    twice = attributes.apple_double({"a": b"1", "b": b"2"}).replace(b"b\0", b"a\0", 1)
    with pytest.raises(errors.FormatError, match="twice"):
        apple_double.parse(twice)


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=30))
def test_cut_or_changed_it_is_read_or_refused(end: int, noise: bytes) -> None:
    """Nothing but a value or the format's error."""
    for data in (WHOLE[:end], WHOLE[:end] + noise, WHOLE[:end] + noise + WHOLE[end + len(noise) :]):
        with contextlib.suppress(errors.FormatError):
            apple_double.parse(data)
