"""What a PKCS#12 file says of itself outside its encryption: its algorithms and its MAC.

A library that cannot decrypt answers alike whether the password is wrong or the algorithm unknown
to its build. The outer layer (RFC 7292) tells the two apart without decrypting.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass

from release_tool import errors
from release_tool.apple import der

_DATA = "1.2.840.113549.1.7.1"
_ENCRYPTED_DATA = "1.2.840.113549.1.7.6"
_SHROUDED_KEY = "1.2.840.113549.1.12.10.1.2"
_PBES2 = "1.2.840.113549.1.5.13"
_DIGESTS = {
    "1.3.14.3.2.26": ("sha1", 64),
    "2.16.840.1.101.3.4.2.1": ("sha256", 64),
    "2.16.840.1.101.3.4.2.2": ("sha384", 128),
    "2.16.840.1.101.3.4.2.3": ("sha512", 128),
}
_NAMES = {
    "1.2.840.113549.1.12.1.1": "RC4-128 with SHA-1",
    "1.2.840.113549.1.12.1.2": "RC4-40 with SHA-1",
    "1.2.840.113549.1.12.1.3": "Triple DES with SHA-1",
    "1.2.840.113549.1.12.1.5": "RC2-128 with SHA-1",
    "1.2.840.113549.1.12.1.6": "RC2-40 with SHA-1",
    "2.16.840.1.101.3.4.1.2": "AES-128 (PBES2)",
    "2.16.840.1.101.3.4.1.22": "AES-192 (PBES2)",
    "2.16.840.1.101.3.4.1.42": "AES-256 (PBES2)",
    "1.2.840.113549.3.7": "Triple DES (PBES2)",
    "1.2.840.113549.1.5.14": "PBMAC1",
}
# Apple's Keychain uses 1 to 2048 rounds, OpenSSL 2048, careful users 100,000 and more.
_MAX_ROUNDS = 2_000_000
_MAC_PURPOSE = b"\x03"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """The outer layer of a file."""

    algorithms: tuple[str, ...]
    """What its parts are encrypted with, by name, each once."""
    content: bytes
    """The octets that the MAC covers."""
    mac: tuple[str, bytes, bytes, int] | None
    """Digest identifier, value, salt and rounds; None where there is none that we can compute."""


def read(data: bytes) -> Outer:
    """Read the outer layer.

    Raises:
        FormatError: not PKCS#12.
    """
    try:
        return _outer(der.as_sequence(der.parse(data)))
    except IndexError as problem:
        raise errors.FormatError("not PKCS#12: it lacks an element") from problem


def _outer(parts: tuple[der.Node, ...]) -> Outer:
    if len(parts) not in (2, 3) or der.as_integer(parts[0]) != 3:
        raise errors.FormatError("not PKCS#12")
    content = der.as_octets(_content(parts[1], _DATA))
    found = dict.fromkeys(_algorithms(content))
    return Outer(
        algorithms=tuple(_NAMES.get(name, name) for name in found),
        content=content,
        mac=_mac(parts[2]) if len(parts) == 3 else None,
    )


def password_holds(outer: Outer, password: str) -> bool | None:
    """Whether the password makes the file's MAC; None where that cannot be computed."""
    if outer.mac is None or outer.mac[0] not in _DIGESTS:
        return None
    algorithm, value, salt, rounds = outer.mac
    name, _ = _DIGESTS[algorithm]
    try:
        spelled = password.encode("utf-16-be") + b"\0\0"
    except UnicodeEncodeError:
        return False
    candidates = (spelled, b"") if not password else (spelled,)
    return any(
        hmac.compare_digest(
            hmac.digest(_derive(algorithm, candidate, salt, rounds), outer.content, name), value
        )
        for candidate in candidates
    )


def _content(info: der.Node, wanted: str) -> der.Node:
    parts = der.as_sequence(info)
    if len(parts) != 2 or der.as_oid(parts[0]) != wanted or len(parts[1].children) != 1:
        raise errors.FormatError("not PKCS#12 that a password protects")
    return parts[1].children[0]


def _algorithms(content: bytes) -> Iterator[str]:
    for info in der.as_sequence(der.parse(content)):
        kind = der.as_oid(der.as_sequence(info)[0])
        if kind == _ENCRYPTED_DATA:
            encrypted = der.as_sequence(_content(info, kind))[1]
            yield _algorithm(der.as_sequence(encrypted)[1])
        elif kind == _DATA:
            bags = der.parse(der.as_octets(_content(info, kind)))
            yield from map(_shrouding, filter(_is_shrouded, der.as_sequence(bags)))


def _is_shrouded(bag: der.Node) -> bool:
    parts = der.as_sequence(bag)
    return len(parts) >= 2 and der.as_oid(parts[0]) == _SHROUDED_KEY


def _shrouding(bag: der.Node) -> str:
    return _algorithm(der.as_sequence(der.as_sequence(bag)[1].children[0])[0])


def _algorithm(identifier: der.Node) -> str:
    """The algorithm's identifier; for PBES2 that of the cipher inside it."""
    parts = der.as_sequence(identifier)
    name = der.as_oid(parts[0])
    if name != _PBES2 or len(parts) != 2:
        return name
    return der.as_oid(der.as_sequence(der.as_sequence(parts[1])[1])[0])


def _mac(node: der.Node) -> tuple[str, bytes, bytes, int] | None:
    parts = der.as_sequence(node)
    if len(parts) not in (2, 3):
        raise errors.FormatError("not PKCS#12: its MAC is malformed")
    info = der.as_sequence(parts[0])
    rounds = der.as_integer(parts[2]) if len(parts) == 3 else 1
    if len(info) != 2 or not 1 <= rounds <= _MAX_ROUNDS:
        return None
    algorithm = der.as_oid(der.as_sequence(info[0])[0])
    return algorithm, der.as_octets(info[1]), der.as_octets(parts[1]), rounds


def _derive(algorithm: str, password: bytes, salt: bytes, rounds: int) -> bytes:
    """RFC 7292, B.2, for a key no longer than one digest."""
    name, block = _DIGESTS[algorithm]
    filled = _MAC_PURPOSE * block + _filled(salt, block) + _filled(password, block)
    value = hashlib.new(name, filled).digest()
    for _ in range(rounds - 1):
        value = hashlib.new(name, value).digest()
    return value


def _filled(text: bytes, block: int) -> bytes:
    """The text repeated to whole blocks."""
    size = -(-len(text) // block) * block
    return (text * (size // len(text) + 1))[:size] if text else b""
