"""Which version ranks above which, by SemVer and by coordinators of May."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.services import precedence


@pytest.mark.parametrize(
    ("one", "other", "newer"),
    [
        ("0.5.1", "0.5.0", True),
        ("0.5.0", "0.5.0", False),
        ("0.5.0", "0.5.0-dev.9", True),
        ("0.5.0-dev.10", "0.5.0-dev.9", True),
        ("0.5.0-dev.1", "0.5.0", False),
        ("0.5.0+b2", "0.5.0+b1", False),
        ("0.10.0", "0.9.0", True),
        ("not a version", "0.5.0", False),
        ("01.0.0", "0.5.0", False),
        ("", "0.5.0", False),
    ],
)
def test_newer_is_strict_semver(one: str, other: str, newer: bool) -> None:
    """Precedence, not text; a build suffix has none; what is no SemVer is never newer."""
    assert precedence.is_newer(one, other) is newer


@pytest.mark.parametrize(
    ("one", "other", "above"),
    [
        ("0.5.0-dev.1", "0.5.0", True),
        ("0.5.0-dev.1", "0.5.1", False),
        ("0.5.0-rc", "0.5.0", False),
        ("0.5.1", "0.5.0", False),
        ("0.4.9", "0.5.0", False),
        ("0.5.0", "0.5.0", False),
    ],
)
def test_the_ranking_of_may_is_recognised(one: str, other: str, above: bool) -> None:
    """Only where it contradicts SemVer."""
    assert precedence.may_ranks_above(one, other) is above


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_versions_are_ranked_without_a_crash(one: str, other: str) -> None:
    """A coordinator may serve any text as a version; never are two newer than each other."""
    assert not (precedence.is_newer(one, other) and precedence.is_newer(other, one))
    precedence.may_ranks_above(one, other)


@pytest.mark.parametrize(
    ("version", "following"),
    [("0.5.1", "0.5.2"), ("0.5.1-dev.9", "0.5.1-dev.10"), ("no version", "the next version")],
)
def test_the_next_version_is_named(version: str, following: str) -> None:
    """What an error advises where a version must not be used again."""
    assert precedence.next_version(version) == following
