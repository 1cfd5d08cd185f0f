"""What files hold signing identities: PKCS#12 and PEM, their passwords and their algorithms."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12 as library_pkcs12

from release_tool import errors
from release_tool.apple import certificates, pkcs12
from release_tool.apple.certificates import Certificate

_Loaded = TypeVar("_Loaded")
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

# A key with a long chain stays below 20 kB.
MAX_BYTES = 1024 * 1024
_EXPORT_AGAIN = "export it again, for example with `openssl pkcs12 -export`, which uses AES"
_NO_PASSWORD = "the signing identity needs a password"  # noqa: S105 - a message
_SET_PASSWORD = "set APPLE_CERTIFICATE_PASSWORD to the password of the export"  # noqa: S105 - a hint
_SPACE_AROUND = (
    "the value of APPLE_CERTIFICATE_PASSWORD begins or ends with white space, often a line break"
)
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_DEK = re.compile(rb"^DEK-Info: ?([A-Za-z0-9-]{1,40}),", re.MULTILINE)


class _Block(NamedTuple):
    label: bytes
    text: bytes


def read(data: bytes, password: str | None) -> tuple[PrivateKey, list[Certificate]]:
    """The one private key of a file, and its certificates in the order in which they stand.

    Raises:
        CredentialError: wrong password, an algorithm that cannot be read, no key, several keys, a
            key of another kind.
        FormatError: neither PKCS#12 nor PEM.
    """
    if len(data) > MAX_BYTES:
        raise errors.FormatError("too large for a signing identity", observed=f"{len(data)} bytes")
    key, found = _from_pem(data, password) if _BEGIN.search(data) else _from_p12(data, password)
    if key is None:
        raise errors.CredentialError(
            "the signing identity holds no private key",
            observed=f"{len(found)} certificates",
            hint="export the certificate together with its private key",
        )
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise errors.CredentialError(
            "the signing identity's key is neither RSA nor EC",
            observed=type(key).__name__,
            hint="Developer ID certificates are issued for RSA keys",
        )
    return key, found


def pem_certificates(data: bytes) -> list[Certificate]:
    """The certificates of a PEM file, in the order in which they stand.

    Raises:
        FormatError: too large, malformed, or without a certificate.
    """
    if len(data) > MAX_BYTES:
        raise errors.FormatError("too large for certificates", observed=f"{len(data)} bytes")
    found = [_pem_certificate(block) for block in _blocks(data) if block.label == b"CERTIFICATE"]
    if not found:
        raise errors.FormatError("no certificate in PEM")
    return found


def as_library(certificate: Certificate) -> x509.Certificate:
    """The library's own object, for what it writes."""
    return x509.load_der_x509_certificate(certificate.der)


def _from_p12(data: bytes, password: str | None) -> tuple[object, list[Certificate]]:
    try:
        outer = pkcs12.read(data)
    except errors.FormatError:
        raise errors.FormatError(
            "the signing identity is neither PKCS#12 nor PEM",
            hint="export it from Keychain Access as .p12, certificate and key together",
        ) from None
    _require_bounded(outer.rounds)
    if outer.keys > 1:
        raise errors.CredentialError(
            "the signing identity holds several private keys",
            expected="one",
            observed=f"{outer.keys}",
            hint="export the one Developer ID identity alone",
        )
    strict = pkcs12.in_der(data)
    for spelling in pkcs12.spellings(password):
        loaded = _attempt(partial(library_pkcs12.load_pkcs12, strict, spelling))
        if loaded is not None:
            held = [loaded.cert, *loaded.additional_certs]
            return loaded.key, [_ours(one.certificate) for one in held if one is not None]
    raise _unreadable(outer, password or "")


def _require_bounded(rounds: int) -> None:
    """Before anything derives a key: the library would hash as often as a file says."""
    if rounds > pkcs12.MAX_ROUNDS:
        raise errors.FormatError(
            "the signing identity asks for too many rounds of hashing",
            expected=f"at most {pkcs12.MAX_ROUNDS}",
            observed=f"{rounds}",
        )


def _unreadable(outer: pkcs12.Outer, password: str) -> errors.CredentialError:
    algorithms = ", ".join(outer.algorithms) or "no encryption"
    holds = pkcs12.password_holds(outer, password)
    # Without a MAC that tells, ciphers that every build reads leave the password alone to blame.
    if holds is False or (holds is None and outer.is_common):
        return errors.CredentialError(
            "the password of the signing identity is wrong" if password else _NO_PASSWORD,
            observed=f"PKCS#12, {algorithms}",
            hint=_wrong_password(password),
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


def _wrong_password(password: str | None) -> str:
    return _SPACE_AROUND if password and password != password.strip() else _SET_PASSWORD


def _from_pem(data: bytes, password: str | None) -> tuple[object, list[Certificate]]:
    keys: list[_Block] = []
    found: list[Certificate] = []
    for block in _blocks(data):
        if block.label == b"CERTIFICATE":
            found.append(_pem_certificate(block))
        elif block.label.endswith(b"PRIVATE KEY"):
            keys.append(block)
    if len(keys) > 1:
        raise errors.CredentialError(
            "the signing identity holds several private keys",
            expected="one",
            observed=f"{len(keys)}",
        )
    return (_pem_key(keys[0], password) if keys else None), found


def _blocks(data: bytes) -> Iterator[_Block]:
    """Every whole block; each byte is looked at a bounded number of times."""
    position = 0
    while begin := _BEGIN.search(data, position):
        end = b"-----END " + begin[1] + b"-----"
        stop = data.find(end, begin.end())
        if stop < 0:
            raise errors.FormatError(
                "a PEM block of the signing identity has no end", subject=begin[1].decode()
            )
        position = stop + len(end)
        yield _Block(begin[1], data[begin.start() : position])


def _pem_certificate(block: _Block) -> Certificate:
    loaded = _attempt(lambda: x509.load_pem_x509_certificate(block.text))
    if loaded is None:
        raise errors.FormatError("a certificate of the signing identity is not PEM")
    return _ours(loaded)


def _pem_key(block: _Block, password: str | None) -> object:
    cipher = _pem_cipher(block)
    if cipher:
        _require_bounded(cipher.rounds)
    if cipher and not password:
        raise errors.CredentialError(
            _NO_PASSWORD, observed=f"PEM, {cipher.name}", hint=_SET_PASSWORD
        )
    for spelling in pkcs12.spellings(password) if cipher else [None]:
        loaded = _attempt(partial(serialization.load_pem_private_key, block.text, spelling))
        if loaded is not None:
            return loaded
    if cipher and cipher.common:
        raise errors.CredentialError(
            "the password of the signing identity is wrong",
            observed=f"PEM, {cipher.name}",
            hint=_wrong_password(password),
        )
    if cipher:
        raise errors.CredentialError(
            "the key does not open: a wrong password, or an algorithm that this host cannot read",
            observed=f"PEM, {cipher.name}",
            hint="write it again with `openssl pkcs8 -topk8 -v2 aes-256-cbc`",
        )
    raise errors.CredentialError(
        "the key of the signing identity cannot be read",
        expected="an RSA or EC key in PKCS#1, SEC 1 or PKCS#8",
        hint="write it again with `openssl pkcs8 -topk8`",
    )


def _pem_cipher(block: _Block) -> pkcs12.Cipher | None:
    """How a key is encrypted: PKCS#8 says so in ASN.1, the older forms in a header line."""
    if block.label == b"ENCRYPTED PRIVATE KEY":
        return pkcs12.key_cipher(block.text)
    if b"ENCRYPTED" not in block.text:
        return None
    named = _DEK.search(block.text)
    name = named[1].decode() if named else "unnamed"
    return pkcs12.Cipher(name=name, common=name.startswith(("AES-", "DES-EDE3-")))


def _attempt(action: Callable[[], _Loaded]) -> _Loaded | None:
    """Run a library call; its errors may quote what they read, so they are dropped here.

    Its warnings too: content under a MAC can be BER, and nobody may put that differently.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return action()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None


def _ours(certificate: x509.Certificate) -> Certificate:
    return certificates.load(certificate.public_bytes(serialization.Encoding.DER))
