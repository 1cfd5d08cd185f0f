"""A signing identity: a certificate, the chain above it, and what signs for it.

What signs is a port: a private key read from a file, or a token or a key service that never hands
its key out. Nothing here prints a key or a password: neither errors nor reprs hold one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import pkcs12 as library_pkcs12

from release_tool import errors
from release_tool.apple import certificates, identity_files, signatures
from release_tool.apple.certificates import Certificate
from release_tool.apple.identity_files import PrivateKey

_SHA256 = Prehashed(hashes.SHA256())
# macOS imports this combination on every version; it refuses AES on older ones. It protects
# nothing here: the file lives for one import, under a password made for it.
_KEYCHAIN_CIPHER = library_pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC
_KEYCHAIN_ROUNDS = 2048


class Signer(Protocol):
    """What signs a digest: a key here, or one that never leaves a device."""

    def sign(self, digest: bytes) -> bytes:
        """The signature octets over a SHA-256 digest: RSA PKCS#1 v1.5, or ECDSA in DER."""


class KeySigner:
    """Signs with a private key in memory."""

    __slots__ = ("__key",)

    def __init__(self, key: PrivateKey) -> None:
        self.__key = key

    def sign(self, digest: bytes) -> bytes:
        """As `Signer` says."""
        if isinstance(self.__key, rsa.RSAPrivateKey):
            return self.__key.sign(digest, padding.PKCS1v15(), _SHA256)
        return self.__key.sign(digest, ec.ECDSA(_SHA256))

    def __repr__(self) -> str:
        return "<private key>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A certificate with what signs for it."""

    leaf: Certificate = field(repr=False)
    chain: tuple[Certificate, ...] = field(repr=False)
    """The issuers above the leaf, the root last, as far as they are known."""
    signer: Signer = field(repr=False)

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
        """Sign a SHA-256 digest, and see that the leaf's key verifies what came back.

        Raises:
            CredentialError: the signer does not hold the key of this certificate.
        """
        signature = self.signer.sign(digest)
        if not _verifies(self.leaf, signature, digest):
            raise errors.CredentialError(
                "the signer does not sign for its certificate",
                subject=self.name,
                expected="a signature that the certificate's public key verifies",
                observed=f"{len(signature)} bytes that it does not",
                hint="name the certificate that belongs to the key",
            )
        return signature

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
        CredentialError: wrong password, an algorithm that cannot be read, no key, several keys,
            no certificate for the key, a key of another kind.
        FormatError: neither PKCS#12 nor PEM.
    """
    return _load(data, password, known)[0]


def held_elsewhere(data: bytes, signer: Signer, *, known: Sequence[Certificate] = ()) -> Identity:
    """An identity whose key is a token's or a key service's.

    Args:
        data: the leaf as PEM, further certificates beside it.
        signer: what signs; the leaf is the certificate that verifies what it signs.
        known: further authorities that may stand above.

    Raises:
        CredentialError: none of the certificates is the signer's.
        FormatError: not PEM.
    """
    found = identity_files.pem_certificates(data)
    probe = hashlib.sha256(b"which certificate is this key's").digest()
    signature = signer.sign(probe)
    for leaf in found:
        if _verifies(leaf, signature, probe):
            return Identity(leaf=leaf, chain=tuple(_chain(leaf, [*found, *known])), signer=signer)
    raise errors.CredentialError(
        "no certificate belongs to the key that signs",
        observed=f"{len(found)} certificates of other keys",
        hint="name the certificate that was issued for this key",
    )


def for_keychain(
    data: bytes,
    password: str | None,
    *,
    new_password: str,
    known: Sequence[Certificate] = (),
) -> tuple[Identity, bytes]:
    """The identity, and the same as PKCS#12 that `security import` reads on every macOS.

    Key, leaf and chain are written again with Triple DES and SHA-1 under another password: macOS
    refuses files with AES, with an empty password or with an unusual spelling of it.

    Args:
        data: as for `load`.
        password: of the data.
        new_password: of the PKCS#12 file; random, and not kept.
        known: as for `load`.

    Raises:
        CredentialError, FormatError: as `load` says.
    """
    identity, key = _load(data, password, known)
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_KEYCHAIN_ROUNDS)
        .key_cert_algorithm(_KEYCHAIN_CIPHER)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - what macOS has always read
        .build(new_password.encode())
    )
    made = library_pkcs12.serialize_key_and_certificates(
        identity.name.encode(),
        key,
        identity_files.as_library(identity.leaf),
        [identity_files.as_library(above) for above in identity.chain] or None,
        encryption,
    )
    return identity, made


def _load(
    data: bytes, password: str | None, known: Sequence[Certificate]
) -> tuple[Identity, PrivateKey]:
    key, found = identity_files.read(data, password)
    leaf = _leaf_of(key, found)
    chain = tuple(_chain(leaf, [*found, *known]))
    return Identity(leaf=leaf, chain=chain, signer=KeySigner(key)), key


def _verifies(leaf: Certificate, signature: bytes, digest: bytes) -> bool:
    key = signatures.load_public_key(leaf.public_key_info)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, padding.PKCS1v15(), _SHA256)
        else:
            key.verify(signature, digest, ec.ECDSA(_SHA256))
    except InvalidSignature:
        return False
    return True


def _leaf_of(key: PrivateKey, found: Sequence[Certificate]) -> Certificate:
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
