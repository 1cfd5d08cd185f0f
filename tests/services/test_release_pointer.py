"""The pointer: what is written is read back, and what is something else is refused."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.services import release_pointer
from release_tool.services.release_pointer import Pointer

POINTER = Pointer(
    version="0.5.0",
    platform="macos-arm64",
    key="releases/v0.5.0/a.tar.gz",
    url="https://r2.example/releases/v0.5.0/a.tar.gz",
    sha256="9" * 64,
    size=7,
)


def test_what_is_written_is_one_line_that_is_read_back() -> None:
    """Installers in the field read JSON with sed, so it stays on one line."""
    content = release_pointer.encode(POINTER)
    assert content.count(b"\n") == 1
    assert release_pointer.parse(content) == POINTER


def test_a_pointer_that_was_moved_back_says_from_what() -> None:
    """Only then, so that older readers see the document that they know."""
    back = replace(POINTER, instead_of="0.5.1")
    assert release_pointer.parse(release_pointer.encode(back)) == back
    assert b"instead_of" not in release_pointer.encode(POINTER)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": ""}, {"version": 5}, {"version": "a\nb"}, {"key": None}, {"url": "x" * 3000},
        {"sha256": "9" * 63}, {"sha256": "A" * 64}, {"size": 0}, {"size": True}, {"size": "7"},
        {"instead_of": 5}, {"size": 1e3}, {"size": 10**40},
    ],
)  # fmt: skip
def test_each_field_is_judged(changes: dict[str, object]) -> None:
    """A pointer that says less than it should says nothing."""
    whole = json.loads(release_pointer.encode(POINTER)) | changes
    with pytest.raises(errors.FormatError):
        release_pointer.parse(json.dumps(whole).encode())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_end_in_a_pointer_or_a_format_error(content: bytes) -> None:
    """Whatever stands at the key."""
    with contextlib.suppress(errors.FormatError):
        release_pointer.parse(content)
