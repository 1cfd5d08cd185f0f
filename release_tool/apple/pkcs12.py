"""What a PKCS#12 file says of itself outside its encryption: its algorithms and its MAC.

A library that cannot decrypt answers alike whether the password is wrong or the algorithm unknown
to its build. The outer layer (RFC 7292) tells the two apart without decrypting.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from release_tool import errors
from release_tool.apple import armor, der

_DATA = "1.2.840.113549.1.7.1"
_ENCRYPTED_DATA = "1.2.840.113549.1.7.6"
_PLAIN_KEY = "1.2.840.113549.1.12.10.1.1"
_SHROUDED_KEY = "1.2.840.113549.1.12.10.1.2"
_PBES2 = "1.2.840.113549.1.5.13"
_PBKDF2 = "1.2.840.113549.1.5.12"
_PBMAC1 = "1.2.840.113549.1.5.14"


class _Digest(NamedTuple):
    name: str
    block: int
    """Octets that the derivation of RFC 7292 fills."""


_DIGESTS = {
    "1.2.840.113549.2.5": _Digest("md5", 64),
    "1.3.14.3.2.26": _Digest("sha1", 64),
    "2.16.840.1.101.3.4.2.4": _Digest("sha224", 64),
    "2.16.840.1.101.3.4.2.1": _Digest("sha256", 64),
    "2.16.840.1.101.3.4.2.2": _Digest("sha384", 128),
    "2.16.840.1.101.3.4.2.3": _Digest("sha512", 128),
}
_HMACS = {
    "1.2.840.113549.2.7": "sha1",
    "1.2.840.113549.2.8": "sha224",
    "1.2.840.113549.2.9": "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
}


class Cipher(NamedTuple):
    """How something is encrypted."""

    name: str
    common: bool
    """Whether every build of the library reads it."""
    rounds: int = 0
    """How often the key's derivation hashes."""


_CIPHERS = {
    "1.2.840.113549.1.5.3": Cipher("DES with MD5", common=False),
    "1.2.840.113549.1.5.10": Cipher("DES with SHA-1", common=False),
    "1.2.840.113549.1.12.1.1": Cipher("RC4-128 with SHA-1", common=False),
    "1.2.840.113549.1.12.1.2": Cipher("RC4-40 with SHA-1", common=False),
    "1.2.840.113549.1.12.1.3": Cipher("Triple DES with SHA-1", common=True),
    "1.2.840.113549.1.12.1.4": Cipher("two-key Triple DES with SHA-1", common=True),
    "1.2.840.113549.1.12.1.5": Cipher("RC2-128 with SHA-1", common=False),
    "1.2.840.113549.1.12.1.6": Cipher("RC2-40 with SHA-1", common=False),
    "1.3.14.3.2.7": Cipher("DES (PBES2)", common=False),
    "1.2.840.113549.3.2": Cipher("RC2 (PBES2)", common=False),
    "1.2.840.113549.3.7": Cipher("Triple DES (PBES2)", common=True),
    "2.16.840.1.101.3.4.1.2": Cipher("AES-128 (PBES2)", common=True),
    "2.16.840.1.101.3.4.1.22": Cipher("AES-192 (PBES2)", common=True),
    "2.16.840.1.101.3.4.1.42": Cipher("AES-256 (PBES2)", common=True),
}
MAX_ROUNDS = 2_000_000
"""Of all parts together. Apple's Keychain uses 1 to 2048, OpenSSL 2048, careful users 600,000 for
each of MAC, certificates and key; this many take about a second."""
# The longest digest has 64 octets; a longer key only costs time.
_MAX_MAC_KEY = 64
_MAC_PURPOSE = b"\x03"


class Mac(NamedTuple):
    """The MAC over a file's content: what a right password must make."""

    value: bytes
    salt: bytes
    rounds: int
    digest: _Digest
    """Of the HMAC."""
    derived_by: str = ""
    """The digest of PBKDF2 (RFC 9579); empty for RFC 7292's own derivation."""
    key_size: int = 0
    """Octets of the key that PBKDF2 derives."""

    def made_by(self, password: str, content: bytes) -> bool:
        """Whether one of the password's spellings makes this value."""
        return any(
            hmac.compare_digest(hmac.digest(key, content, self.digest.name), self.value)
            for key in self._keys(password)
        )

    def _keys(self, password: str) -> Iterator[bytes]:
        if self.derived_by:
            for octets in spellings(password):
                yield hashlib.pbkdf2_hmac(
                    self.derived_by, octets or b"", self.salt, self.rounds, self.key_size
                )
        else:
            for octets in _wide_spellings(password):
                yield _derive(self.digest, octets, self.salt, self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """The outer layer of a file."""

    algorithms: tuple[str, ...]
    """What its parts are encrypted with, by name, each once."""
    content: bytes
    """The octets that the MAC covers."""
    is_common: bool
    """Whether every build of the library reads all of them."""
    rounds: int
    """What all parts ask for together; the caller bounds it before anything is derived."""
    keys: int
    """How many private keys lie outside the encrypted parts, shrouded ones included."""
    mac: Mac | None
    """None where there is none that we can compute."""


def read(data: bytes) -> Outer:
    """Read the outer layer.

    Raises:
        FormatError: not PKCS#12.
    """
    try:
        return _outer(der.as_sequence(der.parse(data)))
    except (IndexError, ValueError) as problem:
        # Too few elements where some are taken by place.
        raise errors.FormatError("not PKCS#12: it lacks an element") from problem


def _outer(parts: tuple[der.Node, ...]) -> Outer:
    if len(parts) not in (2, 3) or der.as_integer(parts[0]) != 3:
        raise errors.FormatError("not PKCS#12")
    content = der.as_octets(_content(parts[1], _DATA))
    ciphers = list(_ciphers(content))
    mac = _mac(parts[2]) if len(parts) == 3 else None
    return Outer(
        algorithms=tuple(dict.fromkeys(one.name for one in ciphers)),
        is_common=all(one.common for one in ciphers),
        # A negative number must not make up for a large one.
        rounds=(mac.rounds if mac else 0) + sum(max(one.rounds, 0) for one in ciphers),
        keys=_keys(content),
        content=content,
        mac=mac,
    )


def in_der(data: bytes) -> bytes:
    """The same file with DER around its content: definite lengths, no default written out.

    Only what the MAC does not cover is put differently; libraries that read DER alone then read
    what exporters write in BER.

    Raises:
        FormatError: not BER.
    """
    parts = [_definite(part) for part in der.as_sequence(der.parse(data))]
    if len(parts) == 3:
        mac = [part.raw for part in der.as_sequence(der.parse(parts[2]))]
        # RFC 7292: one round is the default, and DER leaves a default out.
        parts[2] = der.sequence(*(mac[:-1] if mac[-1] == der.integer(1) else mac))
    return der.sequence(*parts)


def _definite(node: der.Node) -> bytes:
    if not node.constructed:
        return node.raw
    if node.is_universal(der.OCTET_STRING):
        return der.octets(der.as_octets(node))
    tag = der.encode_tag(node.tag_class, node.tag, constructed=True)
    return der.encode(tag, *map(_definite, node.children))


def password_holds(outer: Outer, password: str) -> bool | None:
    """Whether the password makes the file's MAC; None where that cannot be computed."""
    return None if outer.mac is None else outer.mac.made_by(password, outer.content)


def spellings(password: str | None) -> list[bytes | None]:
    """The octets that a password may stand for, likeliest first.

    No password is an empty one or none at all. Beyond ASCII, writers of today take UTF-8, and
    OpenSSL before 1.1 read UTF-8 as if it were Latin-1.
    """
    if not password:
        return [b"", None]
    # A setting may hold bytes that are no text; then no password fits, but nothing breaks.
    octets = password.encode("utf-8", "surrogateescape")
    return list(dict.fromkeys((octets, octets.decode("latin-1").encode())))


def _wide_spellings(password: str) -> list[bytes]:
    """The same for RFC 7292: UTF-16 with a zero behind it."""
    if not password:
        return [b"\0\0", b""]
    octets = password.encode("utf-8", "surrogateescape")
    found = [octets.decode("latin-1")]
    with contextlib.suppress(UnicodeDecodeError):
        found.insert(0, octets.decode())
    return [text.encode("utf-16-be") + b"\0\0" for text in dict.fromkeys(found)]


def key_cipher(pem: bytes) -> Cipher:
    """How a PKCS#8 key in PEM says that it is encrypted.

    Raises:
        FormatError: not an encrypted PKCS#8 key.
    """
    node = der.parse(armor.unwrap(pem, "a private key"))
    try:
        return _cipher(der.as_sequence(node)[0])
    except IndexError as problem:
        raise errors.FormatError("not an encrypted private key") from problem


def _content(info: der.Node, wanted: str) -> der.Node:
    parts = der.as_sequence(info)
    if len(parts) != 2 or der.as_oid(parts[0]) != wanted or len(parts[1].children) != 1:
        raise errors.FormatError("not PKCS#12 that a password protects")
    return parts[1].children[0]


def _ciphers(content: bytes) -> Iterator[Cipher]:
    """The cipher of each encrypted part."""
    for info in der.as_sequence(der.parse(content)):
        if der.as_oid(der.as_sequence(info)[0]) == _ENCRYPTED_DATA:
            encrypted = der.as_sequence(_content(info, _ENCRYPTED_DATA))[1]
            yield _cipher(der.as_sequence(encrypted)[1])
    for kind, value in _plain_bags(content):
        if kind == _SHROUDED_KEY:
            yield _cipher(der.as_sequence(value.children[0])[0])


def _keys(content: bytes) -> int:
    return sum(kind in (_PLAIN_KEY, _SHROUDED_KEY) for kind, _ in _plain_bags(content))


def _plain_bags(content: bytes) -> Iterator[tuple[str, der.Node]]:
    """Kind and value of each bag that lies outside the encrypted parts."""
    for info in der.as_sequence(der.parse(content)):
        if der.as_oid(der.as_sequence(info)[0]) == _DATA:
            bags = der.parse(der.as_octets(_content(info, _DATA)))
            for bag in der.as_sequence(bags):
                parts = der.as_sequence(bag)
                yield der.as_oid(parts[0]), parts[1]


def _cipher(identifier: der.Node) -> Cipher:
    """The algorithm; for PBES2 the cipher inside it."""
    name, parameters = _parameters(identifier)
    if name != _PBES2:
        found = _CIPHERS.get(name, Cipher(name, common=False))
        return found._replace(rounds=der.as_integer(parameters[1]))
    function, derived = _parameters(parameters[0])
    scheme = der.as_oid(der.as_sequence(parameters[1])[0])
    found = _CIPHERS.get(scheme, Cipher(scheme, common=False))
    if function == _PBKDF2:
        return found._replace(rounds=der.as_integer(derived[1]))
    return Cipher(f"{found.name} by {function}", common=False)


def _mac(node: der.Node) -> Mac | None:
    parts = der.as_sequence(node)
    if len(parts) not in (2, 3):
        raise errors.FormatError("not PKCS#12: its MAC is malformed")
    info = der.as_sequence(parts[0])
    rounds = der.as_integer(parts[2]) if len(parts) == 3 else 1
    if len(info) != 2:
        return None
    algorithm, value = der.as_sequence(info[0]), der.as_octets(info[1])
    name = der.as_oid(algorithm[0])
    if name == _PBMAC1:
        return _pbmac1(der.as_sequence(algorithm[1]), value)
    if name not in _DIGESTS or rounds < 1:
        return None
    return Mac(value, der.as_octets(parts[1]), rounds, _DIGESTS[name])


def _pbmac1(parameters: tuple[der.Node, ...], value: bytes) -> Mac | None:
    """RFC 9579; only what it demands, PBKDF2 with a stated key length and an HMAC, is computed."""
    function, derived = _parameters(parameters[0])
    scheme = der.as_oid(der.as_sequence(parameters[1])[0])
    if function != _PBKDF2 or scheme not in _HMACS or len(derived) < 3:
        return None
    salt, rounds, key_size = (
        der.as_octets(derived[0]),
        der.as_integer(derived[1]),
        der.as_integer(derived[2]),
    )
    # Without a name it is HMAC with SHA-1 (RFC 8018).
    prf = der.as_oid(der.as_sequence(derived[3])[0]) if len(derived) > 3 else "1.2.840.113549.2.7"
    if prf not in _HMACS or rounds < 1 or not 1 <= key_size <= _MAX_MAC_KEY:
        return None
    return Mac(value, salt, rounds, _Digest(_HMACS[scheme], 0), _HMACS[prf], key_size)


def _parameters(identifier: der.Node) -> tuple[str, tuple[der.Node, ...]]:
    name, parameters = der.as_sequence(identifier)[:2]
    return der.as_oid(name), der.as_sequence(parameters)


def _derive(digest: _Digest, password: bytes, salt: bytes, rounds: int) -> bytes:
    """RFC 7292, B.2, for a key no longer than one digest."""
    block = digest.block
    filled = _MAC_PURPOSE * block + _filled(salt, block) + _filled(password, block)
    value = hashlib.new(digest.name, filled).digest()
    for _ in range(rounds - 1):
        value = hashlib.new(digest.name, value).digest()
    return value


def _filled(text: bytes, block: int) -> bytes:
    """The text repeated to whole blocks."""
    size = -(-len(text) // block) * block
    return (text * (size // len(text) + 1))[:size] if text else b""
