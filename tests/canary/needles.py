"""The secrets that are known, and the search for them."""

from __future__ import annotations

import base64
import binascii
import io
import itertools
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from release_tool.rehearsal import places
from release_tool.services import covering, escapes

SHORTEST = 8
"""A shorter value would be found where it means nothing."""
_MIXED = re.compile(r"(?=.*[0-9])(?=.*[^\W\d_]).*|.{12,}", re.DOTALL)
"""A short one without letters and digits is a word of a test, or a number."""
PUBLIC = "PROVISIONING_PROFILE_BASE64"
"""Kept like a secret; what it decodes to ships in the app, and so do certificates in it."""
_LONG = 256
_SLICE = 48
# Of every part that is twice as long as a slice, one is whole.
_STRIDE = 2 * _SLICE
_BASE64_LINE = re.compile(r"[A-Za-z0-9+/=]{40,}")
_SIGNS = re.compile(rb"[\\&%]")
# In every spelling; what stands behind it, in the plain ones alone.
_THOROUGH_BYTES = 1024 * 1024
_UNPACKED_BYTES = 8 * 1024 * 1024
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class _Forms:
    """One secret as it may stand somewhere."""

    plain: tuple[bytes, ...]
    """As it is used: searched for in everything."""
    others: tuple[bytes, ...]
    """Spelled in another way: searched for in what is no larger than a text."""


class Needles:
    """Secrets by name; each is searched for in all its spellings."""

    def __init__(self) -> None:
        self._forms: dict[tuple[str, str], _Forms] = {}
        self._current: set[tuple[str, str]] = set()
        self._kept: set[tuple[str, str]] = set()
        self.names: set[str] = set()
        """The names of all secrets that were ever noted."""

    def add(self, name: str, value: str, *, keep: bool = False) -> None:
        """Note a secret; what is as short as a word is not searched for.

        Args:
            name: for the report; the value itself is never told.
            value: the secret.
            keep: whether it counts for all tests, and not only for those of this module.
        """
        pair = (name, value)
        if len(value.strip()) < SHORTEST or not _MIXED.fullmatch(value.strip()):
            return
        if pair not in self._forms:
            self._forms[pair] = _forms(name, value)
        self.names.add(name)
        self._current.add(pair)
        if keep:
            self._kept.add(pair)

    def forget(self) -> None:
        """Another module begins: its tests have secrets of their own."""
        self._current = set(self._kept)

    def found_in(self, content: bytes) -> Iterator[str]:
        """The names of the secrets that stand in a text, or in a file, packed by gzip or not."""
        wholes = [content, *_unpacked(content)]
        texts = [text for whole in wholes for text in _texts(whole[:_THOROUGH_BYTES])]
        for pair in sorted(self._current):
            forms = self._forms[pair]
            if _any_in(forms.plain, wholes) or _any_in((*forms.plain, *forms.others), texts):
                yield pair[0]


def of_environment(state: Path) -> Needles:
    """Those of an embedded environment, by its state folder."""
    found = Needles()
    for name in places.SECRETS:
        found.add(name, places.secret(state, name).read_text(encoding="utf-8"))
    identity = places.identity(state)
    if identity.is_file():
        found.add(identity.name, base64.b64encode(identity.read_bytes()).decode())
    return found


def _any_in(forms: tuple[bytes, ...], texts: list[bytes]) -> bool:
    return any(form in text for text in texts for form in forms)


def _texts(content: bytes) -> Iterator[bytes]:
    """What stands there, and what readers of escapes make of it."""
    yield content
    if b"\0" not in content and _SIGNS.search(content):
        shown = content.decode("utf-8", "surrogateescape")
        for reading in itertools.islice(escapes.readings(shown), 1, None):
            yield reading.text.encode("utf-8", "surrogatepass")


def _unpacked(content: bytes) -> Iterator[bytes]:
    """What is in a file of gzip, as far as it matters: records come first in a handoff."""
    if not content.startswith(_GZIP):
        return
    source, unpacked = content, io.BytesIO()
    while source and (left := _UNPACKED_BYTES - unpacked.tell()) > 0:
        member = zlib.decompressobj(31)
        try:
            unpacked.write(member.decompress(source, left))
        except zlib.error:
            break
        source = member.unused_data
    yield unpacked.getvalue()


def _forms(name: str, value: str) -> _Forms:
    pieces = [piece.strip() for piece in _pieces(name, value)]
    plain = {piece.encode("utf-8", "surrogatepass") for piece in pieces}
    others = {form.encode("utf-8", "surrogatepass") for one in pieces for form in _spelled(one)}
    for octets in _octets(name, value):
        plain.add(octets)
        others |= {octets.hex().encode(), octets.hex().upper().encode()}
        others |= {form.encode() for form in covering.in_base64(octets)}
    return _Forms(tuple(sorted(plain)), tuple(sorted(others - plain)))


def _spelled(piece: str) -> tuple[str, ...]:
    # Of a file's base64 there are many pieces, and nobody spells it in another way but escaped.
    return (
        (piece,)
        if _BASE64_LINE.fullmatch(piece) and len(piece) == _SLICE
        else (covering.spellings(piece))
    )


def _pieces(name: str, value: str) -> list[str]:
    """Of a file in PEM or base64, lines that no other file has; else the value itself."""
    if "-----BEGIN " in value:
        return [line for line in value.splitlines() if _BASE64_LINE.fullmatch(line)]
    if len(value) <= _LONG:
        return [value]
    whole = "".join(value.split())
    # Certificates stand in the middle of such files, and elsewhere too.
    last = whole[-_SLICE - 4 : -4]
    if name == PUBLIC:
        return [last]
    inner = _decoded(whole)
    if b"-----BEGIN " in inner:
        return [*_pieces(name, inner.decode("ascii", "replace")), last]
    # The first bytes are lengths and names of algorithms, as any such file has them.
    starts = range(_STRIDE, len(whole) - _SLICE, _STRIDE)
    return [*(whole[start : start + _SLICE] for start in starts), last]


def _octets(name: str, value: str) -> Iterator[bytes]:
    """What a key or a file is once it was read."""
    if name == PUBLIC:
        return
    inner = value.encode() if "-----BEGIN " in value else _decoded(value)
    if b"-----BEGIN " in inner:
        yield from _scalar(inner)
    elif len(value) > _LONG and len(inner) > _STRIDE:
        for start in (*range(_STRIDE, len(inner) - _SLICE, _LONG), len(inner) - _SLICE):
            yield inner[start : start + _SLICE]


def _scalar(pem: bytes) -> Iterator[bytes]:
    """The number that a private key is."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        return
    if isinstance(key, ec.EllipticCurvePrivateKey):
        yield key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8)
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        yield key.private_bytes_raw()


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""
