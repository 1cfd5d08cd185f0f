"""A secret is covered however it is spelled, and nothing else is."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.services import covering

SECRET = 'canary-key"\\%+/é0123456789'


@pytest.mark.parametrize("form", covering.spellings(SECRET))
def test_each_spelling_is_covered(form: str) -> None:
    """In text and in bytes, and what stands around it stays."""
    assert covering.text(f"refused <{form}> again", [SECRET]) == "refused <...> again"
    assert covering.body(f"refused <{form}>".encode(), [SECRET]) == b"refused <...>"


@given(st.text(min_size=covering.SHORTEST, max_size=30), st.binary(max_size=9), st.binary())
def test_base64_is_covered_wherever_the_secret_begins(
    secret: str, before: bytes, behind: bytes
) -> None:
    """Of what was encoded, no run of characters is left that tells the secret alone."""
    whole = before + secret.encode("utf-8", "surrogatepass") + behind
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        covered = covering.text(encode(whole).decode(), [secret])
        assert covering.COVER in covered


@given(st.text(max_size=60))
def test_other_text_stays(text: str) -> None:
    """A text without the secret comes back as it was, and a short secret garbles none."""
    assert covering.text(text, ["canary-never-said-0123456789"]) == text
    assert covering.text(text, ["", "a", "key"]) == text


def test_the_longest_spelling_goes_first() -> None:
    """One that holds another is covered whole."""
    found = [len(form) for form in covering.spellings(SECRET)]
    assert found == sorted(found, reverse=True)
