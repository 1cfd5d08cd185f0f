"""Addresses that a release may use, and the coordinator's equality of addresses."""

from __future__ import annotations

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.services import addresses


@pytest.mark.parametrize(
    "text",
    [
        "https://cdn.example",
        "https://cdn.example:8443/prefix/deep",
        "http://127.0.0.1:8080",
        "http://localhost:1/x",
        "http://[::1]:9000",
    ],
)
def test_a_safe_base_is_taken(text: str) -> None:
    """Https anywhere and http on loopback are addresses; a trailing slash goes."""
    assert addresses.base(text + "/", name="R2_PUBLIC_URL") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cdn.example",
        "ftp://cdn.example",
        "http://cdn.example",
        "http://127.0.0.1.example",
        "https://user:secret@cdn.example",
        "https://cdn.example?x=1",
        "https://cdn.example#here",
        "https://cdn.example/a/../b",
        "https://cdn.example//a",
        "https://cdn.example/a b",
        "https://cdn.example/\nHost: x",
        "https://cdn.example:port",
        "https://[::1",
        "https://" + "a" * 3000,
    ],
)
def test_any_other_base_is_refused(text: str) -> None:
    """What could carry a secret in the clear or elsewhere is a usage error, without the secret."""
    with pytest.raises(errors.UsageError) as caught:
        addresses.base(text, name="R2_PUBLIC_URL")
    assert "secret" not in "\n".join(caught.value.lines())
    assert "R2_PUBLIC_URL" in caught.value.message


@given(st.text(max_size=40))
def test_a_base_is_judged_without_a_crash(text: str) -> None:
    """Any text is either an address or one clear error."""
    try:
        taken = addresses.base(text, name="X")
    except errors.UsageError:
        return
    assert addresses.same(taken, taken)


def test_a_build_suffix_keeps_its_plus() -> None:
    """The coordinator compares escaped paths, in which Go leaves `+` as it is."""
    joined = addresses.join("https://cdn.example/p", "releases/v0.5.0+b1/a b.tar.gz")
    assert joined == "https://cdn.example/p/releases/v0.5.0+b1/a%20b.tar.gz"


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_a_key_survives_its_address(key: str) -> None:
    """Whatever the key, the address holds it and adds neither query nor fragment."""
    parts = urllib.parse.urlsplit(addresses.join("https://cdn.example", key))
    assert urllib.parse.unquote(parts.path) == "/" + key
    assert (parts.netloc, parts.query, parts.fragment) == ("cdn.example", "", "")


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("https://CDN.example/a", "HTTPS://cdn.EXAMPLE/a", True),
        ("https://cdn.example/a", "https://cdn.example/A", False),
        ("https://cdn.example/a", "https://cdn.example:443/a", False),
        ("https://cdn.example/v0.5.0+b", "https://cdn.example/v0.5.0%2Bb", False),
        ("https://cdn.example/a", "https://cdn.example/a?", False),
        ("https://cdn.example/a", "https://u@cdn.example/a", False),
        ("https://cdn.example/a", "http://cdn.example/a", False),
    ],
)
def test_addresses_are_equal_by_the_coordinators_rule(one: str, other: str, equal: bool) -> None:
    """Scheme and host without case, the escaped path exactly, nothing beside them."""
    assert addresses.same(one, other) is equal
