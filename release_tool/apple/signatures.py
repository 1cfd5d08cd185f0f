"""Digests and public-key signatures by the names that Apple's formats use for them.

Keys are built from their numbers, so that verifying a profile loads none of `cryptography`'s
X.509 and serialization packages, which take longer to import than the whole verification runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from release_tool import errors
from release_tool.apple import der

if TYPE_CHECKING:
    from collections.abc import Mapping

RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
EC_PUBLIC_KEY = "1.2.840.10045.2.1"
SHA256_WITH_RSA = "1.2.840.113549.1.1.11"
ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""Apple's keys have 2048 or 4096 bits; the time of a verification grows with the square."""
MAX_RSA_EXPONENT_BITS = 33

DIGEST_OIDS: Mapping[str, str] = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
OIDS_OF_DIGESTS: Mapping[str, str] = {name: oid for oid, name in DIGEST_OIDS.items()}

_HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}

# Key type and, where the identifier names one, the digest.
_ALGORITHMS: Mapping[str, tuple[str, str]] = {
    RSA_ENCRYPTION: ("RSA", ""),
    "1.2.840.113549.1.1.5": ("RSA", "sha1"),
    SHA256_WITH_RSA: ("RSA", "sha256"),
    "1.2.840.113549.1.1.12": ("RSA", "sha384"),
    "1.2.840.113549.1.1.13": ("RSA", "sha512"),
    EC_PUBLIC_KEY: ("EC", ""),
    "1.2.840.10045.4.1": ("EC", "sha1"),
    ECDSA_WITH_SHA256: ("EC", "sha256"),
    "1.2.840.10045.4.3.3": ("EC", "sha384"),
    "1.2.840.10045.4.3.4": ("EC", "sha512"),
}

_CURVES: Mapping[str, type[ec.EllipticCurve]] = {
    "1.2.840.10045.3.1.7": ec.SECP256R1,
    "1.3.132.0.34": ec.SECP384R1,
    "1.3.132.0.35": ec.SECP521R1,
}

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def digest(name: str, *parts: bytes) -> bytes:
    """The digest of the parts, one after the other.

    Raises:
        FormatError: no such digest.
    """
    if name not in _HASHES:
        raise errors.FormatError(f"unknown digest {name!r}")
    state = hashes.Hash(_HASHES[name]())
    for part in parts:
        state.update(part)
    return state.finalize()


_NULL = b"\x05\x00"


def digest_name(algorithm_identifier: der.Node) -> str:
    """The digest that an AlgorithmIdentifier names.

    Raises:
        FormatError: it names none that we know.
    """
    oid = algorithm_oid(algorithm_identifier)
    if oid not in DIGEST_OIDS:
        raise errors.FormatError(f"unknown digest algorithm {oid}")
    return DIGEST_OIDS[oid]


def algorithm_oid(algorithm_identifier: der.Node) -> str:
    """The identifier of an AlgorithmIdentifier, whose parameters are absent or NULL."""
    parts = der.as_sequence(algorithm_identifier)
    if not parts or len(parts) > 2 or (len(parts) == 2 and parts[1].raw != _NULL):
        raise errors.FormatError("a malformed AlgorithmIdentifier")
    return der.as_oid(parts[0])


def named_digest(algorithm: str) -> str:
    """The digest that a signature algorithm names; empty where it names only the key type.

    Raises:
        FormatError: a signature algorithm that Apple does not use.
    """
    if algorithm not in _ALGORITHMS:
        raise errors.FormatError(f"unknown signature algorithm {algorithm}")
    return _ALGORITHMS[algorithm][1]


def algorithm_for(key_type: str, digest: str) -> str:
    """The identifier of a signature by an `RSA` or `EC` key over this digest."""
    return next(oid for oid, names in _ALGORITHMS.items() if names == (key_type, digest))


def key_type(public_key_info: bytes) -> str:
    """`RSA` or `EC`.

    Raises:
        FormatError: the key is neither.
    """
    return "RSA" if isinstance(load_public_key(public_key_info), rsa.RSAPublicKey) else "EC"


def load_public_key(public_key_info: bytes) -> PublicKey:
    """Build the key of a SubjectPublicKeyInfo.

    Raises:
        FormatError: neither RSA of 2048 to 8192 bits nor a point on one of NIST's curves.
    """
    parts = der.as_sequence(der.parse(public_key_info))
    if len(parts) != 2:
        raise errors.FormatError("a malformed public key")
    algorithm = der.as_sequence(parts[0])
    kind = der.as_oid(algorithm[0]) if algorithm else ""
    key_bits, _unused = der.as_bits(parts[1])
    if kind == RSA_ENCRYPTION:
        return _rsa_key(key_bits)
    if kind == EC_PUBLIC_KEY and len(algorithm) == 2:
        return _ec_key(der.as_oid(algorithm[1]), key_bits)
    raise errors.FormatError(f"unknown kind of public key {kind}")


def _rsa_key(key_bits: bytes) -> rsa.RSAPublicKey:
    numbers = der.as_sequence(der.parse(key_bits))
    if len(numbers) != 2:
        raise errors.FormatError("a malformed RSA key")
    modulus, exponent = map(der.as_integer, numbers)
    fitting = MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS and modulus > 0
    if not fitting or not 3 <= exponent < 1 << MAX_RSA_EXPONENT_BITS:
        raise errors.FormatError(f"an RSA key of {modulus.bit_length()} bits")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as problem:
        raise errors.FormatError(f"not an RSA key: {problem}") from problem


def _ec_key(curve: str, point: bytes) -> ec.EllipticCurvePublicKey:
    if curve not in _CURVES:
        raise errors.FormatError(f"unknown elliptic curve {curve}")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve](), point)
    except ValueError as problem:
        raise errors.FormatError(f"not a point of its curve: {problem}") from problem


def verify(
    public_key_info: bytes, *, algorithm: str, digest_name: str, signature: bytes, message: bytes
) -> None:
    """Verify RSA PKCS#1 v1.5 or ECDSA.

    Args:
        public_key_info: the signer's SubjectPublicKeyInfo.
        algorithm: the signature algorithm's identifier.
        digest_name: the digest; must be the one that the algorithm names, if it names one.
        signature: the signature octets.
        message: what was signed.

    Raises:
        FormatError: the key or the algorithm is none that Apple uses.
        VerificationError: the signature does not hold.
    """
    named = named_digest(algorithm)
    if digest_name not in _HASHES:
        raise errors.FormatError("a signature without a digest's name")
    if named not in ("", digest_name):
        raise errors.VerificationError(
            "the signature algorithm names another digest", expected=digest_name, observed=named
        )
    key = load_public_key(public_key_info)
    kind = "RSA" if isinstance(key, rsa.RSAPublicKey) else "EC"
    if kind != _ALGORITHMS[algorithm][0]:
        raise errors.VerificationError(f"the signature algorithm does not fit the {kind} key")
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), _HASHES[digest_name]())
        else:
            key.verify(signature, message, ec.ECDSA(_HASHES[digest_name]()))
    except InvalidSignature as problem:
        raise errors.VerificationError("the signature does not verify") from problem
