"""Ed25519 keys that sign what a release says of itself (RFC 8032, RFC 8410).

A public key is written as `release.yaml` pins it: base64 of its SubjectPublicKeyInfo, which always
has 44 bytes. Its id is the SHA-256 of those.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from release_tool import errors

_SPKI_HEADER = bytes.fromhex("302a300506032b6570032100")
_RAW_BYTES = 32
_SIGNATURE_BYTES = 64
# A key in PEM has some 120 bytes; a file of a key may have a comment before it.
_PEM_CHARACTERS = 16 * 1024
_PEM_PUBLIC = re.compile(
    r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]{1,200})-----END PUBLIC KEY-----"
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who signed, as far as a key can say it."""

    raw: bytes
    """The 32 bytes of the point."""

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return _SPKI_HEADER + self.raw

    @property
    def keyid(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo, 64 hex digits."""
        return hashlib.sha256(self.spki).hexdigest()

    @property
    def line(self) -> str:
        """As `release.yaml` pins it."""
        return base64.b64encode(self.spki).decode()

    @property
    def pem(self) -> str:
        """As openssl reads it."""
        return f"-----BEGIN PUBLIC KEY-----\n{self.line}\n-----END PUBLIC KEY-----\n"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made the signature over exactly this message."""
        if len(signature) != _SIGNATURE_BYTES:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A private key that can sign and not be shown."""

    __slots__ = ("__key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.__key = key
        raw = key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        self.public = PublicKey(raw)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature; the same for the same message."""
        return self.__key.sign(message)

    def __repr__(self) -> str:
        return f"<signing key {self.public.keyid[:12]}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled or copied")


def make() -> str:
    """A new private key, PKCS#8 in PEM."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


def load(pem: bytes) -> SigningKey:
    """Read a private key, PKCS#8 in PEM.

    Raises:
        FormatError: it is none, is encrypted, or is of another algorithm. The text says no more:
            what a library says of it may quote it.
    """
    if len(pem) > _PEM_CHARACTERS:
        raise errors.FormatError("is longer than any key", observed=f"{len(pem)} bytes")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The chain of exceptions could carry the key.
        raise errors.FormatError("is no private key in PEM (PKCS#8, not encrypted)") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise errors.FormatError("is no Ed25519 key", observed=type(key).__name__)
    return SigningKey(key)


def parse(text: str) -> PublicKey:
    """Read a public key: the line of `release.yaml`, or PEM.

    Raises:
        FormatError: it is neither, or is of another algorithm.
    """
    if len(text) > _PEM_CHARACTERS:
        raise errors.FormatError("is longer than any key", observed=f"{len(text)} characters")
    found = _PEM_PUBLIC.search(text)
    line = "".join((found[1] if found else text).split())
    try:
        spki = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise errors.FormatError("is no public key", observed=repr(line[:40])) from problem
    if len(spki) != len(_SPKI_HEADER) + _RAW_BYTES or not spki.startswith(_SPKI_HEADER):
        raise errors.FormatError("is no Ed25519 public key", observed=repr(line[:40]))
    return PublicKey(spki[len(_SPKI_HEADER) :])
