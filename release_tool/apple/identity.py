"""A signing identity: a private key, its certificate, and the chain above it.

Read from PKCS#12 or PEM. Nothing here prints a key or a password: neither errors nor reprs hold
one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import pkcs12 as library_pkcs12

from release_tool import errors
from release_tool.apple import certificates, pkcs12, signatures
from release_tool.apple.certificates import Certificate

_Loaded = TypeVar("_Loaded")
_PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

# A key with a long chain stays below 20 kB.
MAX_BYTES = 1024 * 1024
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----.*?-----END \1-----", re.DOTALL)
_EXPORT_AGAIN = "export it again, for example with `openssl pkcs12 -export`, which uses AES"


class Signer(Protocol):
    """What signs a digest: a key here, or one that never leaves a device."""

    def sign(self, digest: bytes) -> bytes:
        """The signature octets over a SHA-256 digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A certificate with its private key."""

    leaf: Certificate = field(repr=False)
    chain: tuple[Certificate, ...] = field(repr=False)
    """The issuers above the leaf, the root last, as far as they are known."""
    _key: _PrivateKey = field(repr=False)

    @property
    def name(self) -> str:
        """The leaf's common name."""
        return certificates.display_name(self.leaf)

    @property
    def team_id(self) -> str | None:
        """The team that the leaf names."""
        return certificates.organizational_unit(self.leaf)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf, in hex."""
        return certificates.fingerprint(self.leaf)

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest: RSA PKCS#1 v1.5, as Developer ID does, or ECDSA."""
        algorithm = Prehashed(hashes.SHA256())
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(digest, padding.PKCS1v15(), algorithm)
        return self._key.sign(digest, ec.ECDSA(algorithm))

    def require_valid(self, at: datetime) -> None:
        """Refuse a certificate that is not valid at this time.

        Raises:
            CredentialError: not yet valid, or expired.
        """
        if not self.leaf.not_before <= at <= self.leaf.not_after:
            raise errors.CredentialError(
                "the signing certificate is not valid now",
                subject=self.name,
                expected=f"{self.leaf.not_before:%Y-%m-%d} to {self.leaf.not_after:%Y-%m-%d}",
                observed=f"{at:%Y-%m-%d %H:%M} UTC",
                hint="renew the Developer ID certificate and select it in the profile",
            )


def load(
    data: bytes, password: str | None = None, *, known: Sequence[Certificate] = ()
) -> Identity:
    """Read an identity from PKCS#12 or PEM.

    The chain that a file lacks (exports from Keychain Access often hold the leaf alone) comes
    from Apple's certificates that are shipped here.

    Args:
        data: the file: PKCS#12, or PEM with a private key and certificates in any order.
        password: of the file or of its key; None or empty for none.
        known: further authorities that may stand above, such as the roots of a look-alike.

    Raises:
        CredentialError: wrong password, an algorithm that cannot be read, no key, no certificate
            for the key, a key of another kind.
        FormatError: neither PKCS#12 nor PEM.
    """
    if len(data) > MAX_BYTES:
        raise errors.FormatError("too large for a signing identity", observed=f"{len(data)} bytes")
    key, found = _from_pem(data, password) if b"-----BEGIN " in data else _from_p12(data, password)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise errors.CredentialError(
            "the signing identity's key is neither RSA nor EC",
            observed="no private key" if key is None else type(key).__name__,
        )
    leaf = _leaf_of(key, found)
    return Identity(leaf=leaf, chain=tuple(_chain(leaf, [*found, *known])), _key=key)


def _leaf_of(key: _PrivateKey, found: Sequence[Certificate]) -> Certificate:
    ours = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for certificate in found:
        if certificate.public_key_info == ours:
            # Refuses keys too weak to be verified again.
            signatures.load_public_key(ours)
            return certificate
    raise errors.CredentialError(
        "the signing identity has no certificate for its key",
        observed=f"{len(found)} certificates of other keys",
        hint="export the certificate together with its private key",
    )


def _chain(leaf: Certificate, found: Sequence[Certificate]) -> Iterator[Certificate]:
    pool = [*found, *certificates.intermediates(), *certificates.apple_trust().roots]
    below = leaf
    for _ in range(certificates.MAX_CHAIN):
        issuer = None if below.issuer == below.subject else _issuer(below, pool)
        if issuer is None:
            return
        yield issuer
        below = issuer


def _issuer(below: Certificate, pool: Sequence[Certificate]) -> Certificate | None:
    for candidate in pool:
        if candidate.subject == below.issuer and _signed(below, candidate):
            return candidate
    return None


def _signed(below: Certificate, candidate: Certificate) -> bool:
    try:
        signatures.verify(
            candidate.public_key_info,
            algorithm=below.signature_algorithm,
            digest_name=signatures.named_digest(below.signature_algorithm),
            signature=below.signature,
            message=below.signed_part,
        )
    except errors.VerificationError:
        return False
    return True


def _from_p12(data: bytes, password: str | None) -> tuple[object, list[Certificate]]:
    try:
        outer = pkcs12.read(data)
    except errors.FormatError:
        raise errors.FormatError(
            "the signing identity is neither PKCS#12 nor PEM",
            hint="export it from Keychain Access as .p12, certificate and key together",
        ) from None
    spellings = [_octets(password)] if password else [b"", None]
    for spelling in spellings:
        loaded = _attempt(partial(library_pkcs12.load_pkcs12, data, spelling))
        if loaded is not None:
            held = [loaded.cert, *loaded.additional_certs]
            return loaded.key, [_ours(one.certificate) for one in held if one is not None]
    raise _unreadable(outer, password or "")


def _unreadable(outer: pkcs12.Outer, password: str) -> errors.CredentialError:
    algorithms = ", ".join(outer.algorithms) or "no encryption"
    holds = pkcs12.password_holds(outer, password)
    if holds is False:
        return errors.CredentialError(
            "the password of the signing identity is wrong" if password else _NO_PASSWORD,
            observed=f"PKCS#12, {algorithms}",
        )
    if holds:
        return errors.CredentialError(
            "this host cannot read how the signing identity is encrypted; its password is right",
            observed=algorithms,
            hint=_EXPORT_AGAIN,
        )
    return errors.CredentialError(
        "the signing identity does not open: a wrong password, or an algorithm that this host"
        " cannot read",
        observed=algorithms,
        hint=_EXPORT_AGAIN,
    )


_NO_PASSWORD = "the signing identity needs a password"  # noqa: S105 - a message


def _from_pem(data: bytes, password: str | None) -> tuple[object, list[Certificate]]:
    key: object = None
    found: list[Certificate] = []
    for block in _PEM_BLOCK.finditer(data):
        if block[1] == b"CERTIFICATE":
            found.append(_pem_certificate(block[0]))
        elif block[1].endswith(b"PRIVATE KEY") and key is None:
            key = _pem_key(block[0], password)
    return key, found


def _pem_certificate(block: bytes) -> Certificate:
    loaded = _attempt(lambda: x509.load_pem_x509_certificate(block))
    if loaded is None:
        raise errors.FormatError("a certificate of the signing identity is not PEM")
    return _ours(loaded)


def _pem_key(block: bytes, password: str | None) -> object:
    encrypted = b"ENCRYPTED" in block
    if encrypted and not password:
        raise errors.CredentialError(_NO_PASSWORD)
    spelling = _octets(password) if encrypted and password else None
    loaded = _attempt(lambda: serialization.load_pem_private_key(block, spelling))
    if loaded is None:
        raise errors.CredentialError(
            "the password of the signing identity is wrong, or its key cannot be read"
            if encrypted
            else "the key of the signing identity cannot be read"
        )
    return loaded


def _octets(password: str) -> bytes:
    """A setting may hold bytes that are no text; then no password fits, but nothing breaks."""
    return password.encode("utf-8", "surrogateescape")


def _attempt(action: Callable[[], _Loaded]) -> _Loaded | None:
    """Run a library call; its errors may quote what they read, so they are dropped here."""
    try:
        return action()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _ours(certificate: x509.Certificate) -> Certificate:
    return certificates.load(certificate.public_bytes(serialization.Encoding.DER))
