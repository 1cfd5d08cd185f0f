"""A secret is covered however it is spelled, and nothing else is."""

from __future__ import annotations

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.services import covering

SECRET = 'canary-key"\\%+/é0123456789'
AWKWARD = "Ab&cd<ef>gh/ij+kl=m'n\"o\\p%41q é\U0001f511 0123456789"


@pytest.mark.parametrize("form", covering.spellings(SECRET))
def test_each_spelling_is_covered(form: str) -> None:
    """In text and in bytes, and what stands around it stays."""
    assert covering.text(f"refused <{form}> again", [SECRET]) == "refused <...> again"
    assert covering.body(f"refused <{form}>".encode(), [SECRET]) == b"refused <...>"


def _go(text: str) -> str:
    """As Go's encoder writes JSON, which pages may hold."""
    told = json.dumps(text, ensure_ascii=False)[1:-1]
    return told.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _php(text: str) -> str:
    return json.dumps(text)[1:-1].replace("/", "\\/")


def _go_page(text: str) -> str:
    """As Go's templates write text: in numbers, the plus sign too."""
    return re.sub(r"[&<>'\"+]", lambda found: f"&#{ord(found[0])};", text)


def _mustache(text: str) -> str:
    return re.sub(r"[&<>'\"/=`]", lambda found: f"&#x{ord(found[0]):X};", text)


ENCODERS: dict[str, Callable[[str], str]] = {
    "Go": _go,
    "PHP": _php,
    "Go's pages": _go_page,
    "Mustache": _mustache,
    "XML in numbers": lambda text: "".join(f"&#{ord(mark)};" for mark in text),
    "XML in long numbers": lambda text: "".join(f"&#x{ord(mark):06X};" for mark in text),
    "names": lambda text: (
        text.replace("&", "&amp;").replace("+", "&plus;").replace("=", "&equals;")
    ),
    "JavaScript": lambda text: "".join(f"\\u{{{ord(mark):x}}}" for mark in text),
    "JSON, every character": lambda text: "".join(
        f"\\u{unit:04X}" for unit in memoryview(text.encode("utf-16")[2:]).cast("H")
    ),
    "bytes of Python": lambda text: repr(text.encode())[2:-1],
    "octal": lambda text: "".join(f"\\{octet:03o}" for octet in text.encode()),
    "address, every character": lambda text: "".join(f"%{octet:02x}" for octet in text.encode()),
    "Go inside JSON": lambda text: json.dumps(_go(text)),
    "PHP inside PHP": lambda text: _php(_php(text)),
    "Go inside a page": lambda text: html.escape(_go(text)),
    "page inside Go": lambda text: _go(html.escape(text)),
    "page inside a page": lambda text: _go_page(_go_page(text)),
    "address inside an address": lambda text: urllib.parse.quote(urllib.parse.quote(text)),
    "base64 inside a page": lambda text: _go_page(base64.b64encode(b"a" + text.encode()).decode()),
    "base64 inside PHP": lambda text: _php(base64.b64encode(b"ab" + text.encode()).decode()),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("secret", [AWKWARD, SECRET, "////++++////++++", "\\\\<\\\\\\u003c\\"])
def test_what_an_encoder_chooses_to_escape_is_covered(encoder: str, secret: str) -> None:
    """Whichever characters it leaves alone; of the text around it nothing is lost."""
    told = ENCODERS[encoder](secret)
    whole = f"x: {told} :x"
    for covered in (
        covering.text(whole, [secret]),
        covering.body(whole.encode(), [secret]).decode(),
    ):
        assert covering.COVER in covered
        assert len(covered) <= len(whole) - len(told) + 12
        assert covered.startswith("x: ")
        assert covered.endswith(" :x")
        assert covering.stands_in(whole, secret)
        assert not covering.stands_in(covered, secret)


_SPELLED: tuple[Callable[[str], str], ...] = (
    str,
    lambda mark: f"\\u{ord(mark):04x}",
    lambda mark: f"\\U{ord(mark):08X}",
    lambda mark: f"\\x{ord(mark):02X}" if ord(mark) < 128 else mark,
    lambda mark: f"&#{ord(mark):05d};",
    lambda mark: f"&#X{ord(mark):x};",
    lambda mark: urllib.parse.quote(mark, safe=""),
)
# What reads as the beginning or the inside of an escape has an order in which it is read.
_MARKS = st.characters(min_codepoint=0x20, max_codepoint=0xFFFF, exclude_categories=["C"])


@given(st.data(), st.text(_MARKS.filter(lambda mark: mark not in "\\&%;#"), min_size=6))
def test_each_character_may_be_escaped_in_its_own_way(data: st.DataObject, secret: str) -> None:
    """No encoder is known beforehand: any mixture is one spelling, and is covered whole."""
    told = "".join(data.draw(st.sampled_from(_SPELLED))(mark) for mark in secret)
    assert covering.text(f"({told})", [secret]) == "(...)"
    assert covering.body(f"({told})".encode(), [secret]) == b"(...)"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"])
def test_a_document_is_covered_in_every_encoding_that_readers_take(encoding: str) -> None:
    """What a reader of JSON makes of it holds no secret."""
    told = json.dumps({"error": f"no: {AWKWARD}"}, ensure_ascii=False).encode(encoding)
    assert json.loads(told)["error"] == f"no: {AWKWARD}"
    assert json.loads(covering.body(told, [AWKWARD]))["error"] == "no: ..."


@pytest.mark.parametrize("row", [b"\\", b"&amp;", b"%25", b"&#0", b"\\u0"])
def test_a_row_of_signs_is_no_work_without_end(row: bytes) -> None:
    """Whoever answers so keeps nobody busy: what follows is found, and nothing is lost."""
    whole = row * 20_000
    assert covering.body(whole + b" canary-key", ["canary-key"]) == whole + b" ..."
    assert covering.body(whole, [AWKWARD]) == whole


@given(st.text(min_size=covering.SHORTEST, max_size=30), st.binary(max_size=9), st.binary())
def test_base64_is_covered_wherever_the_secret_begins(
    secret: str, before: bytes, behind: bytes
) -> None:
    """Of what was encoded, no run of characters is left that tells the secret alone."""
    whole = before + secret.encode("utf-8", "surrogatepass") + behind
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        covered = covering.text(encode(whole).decode(), [secret])
        assert covering.COVER in covered


@given(st.text(max_size=60) | st.text(alphabet="\\&%#;xu0123456789abcdef", max_size=60))
def test_other_text_stays(text: str) -> None:
    """A text without the secret comes back as it was, and a short secret garbles none."""
    assert covering.text(text, ["canary-never-said-0123456789"]) == text
    assert covering.body(text.encode("utf-8", "surrogatepass"), ["canary-never-said"]) == (
        text.encode("utf-8", "surrogatepass")
    )
    assert covering.text(text, ["", "a", "key"]) == text


def test_the_longest_spelling_goes_first() -> None:
    """One that holds another is covered whole."""
    found = [len(form) for form in covering.spellings(SECRET)]
    assert found == sorted(found, reverse=True)


def test_a_long_secret_is_covered_in_the_spellings_of_encoders() -> None:
    """Of a file in base64 the signs are what encoders escape."""
    secret = base64.b64encode(bytes(range(256)) * 12).decode()
    for encoder in (_go_page, _mustache, _php, _go):
        assert covering.text(f"({encoder(secret)})", [secret]) == "(...)"
