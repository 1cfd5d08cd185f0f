"""A throwaway authority for signing tests: Developer ID's shape, another root."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from release_tool.apple import certificates, cms, der, identity
from release_tool.apple.timestamp_token import TST_INFO

TEAM = "SLDQ2GJ6TL"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
_APPLE = "1.2.840.113635.100"
_NULL = b"\x05\x00"

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Authority:
    """Root, Developer ID authority, leaf, timestamp authority and signer."""

    root: Issued
    developer_id: Issued
    leaf: Issued
    elliptic_leaf: Issued
    timestamp_ca: Issued
    timestamp: Issued

    @property
    def trust(self) -> certificates.Trust:
        return certificates.Trust(roots=(certificates.load(self.root.der),), name="throwaway")

    def p12(self, password: bytes, *, whole_chain: bool = True) -> bytes:
        """The leaf with its key."""
        above = [self.developer_id.certificate, self.root.certificate] if whole_chain else None
        assert isinstance(self.leaf.key, rsa.RSAPrivateKey)
        return pkcs12.serialize_key_and_certificates(
            b"identity",
            self.leaf.key,
            self.leaf.certificate,
            above,
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption(),
        )

    def pem(self, *, elliptic: bool = False) -> bytes:
        """Key and whole chain as PEM."""
        leaf = self.elliptic_leaf if elliptic else self.leaf
        key = leaf.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return b"".join((key, leaf.pem, self.developer_id.pem, self.root.pem))

    def identity(self, *, elliptic: bool = False) -> identity.Identity:
        return identity.load(self.pem(elliptic=elliptic))

    def token(self, octets: bytes, *, nonce: int | None = None, at: datetime = NOW) -> bytes:
        """A timestamp token over the octets, SHA-1 in its signature as Apple's have."""
        imprint = der.sequence(
            der.sequence(der.oid("2.16.840.1.101.3.4.2.1"), der.null()),
            der.octets(_digest(octets)),
        )
        info = der.sequence(
            der.integer(1),
            der.oid("1.2.3.4.5.6"),
            imprint,
            der.integer(77),
            der.generalized_time(at),
            *(() if nonce is None else (der.integer(nonce),)),
        )
        return self.token_of(info)

    def token_of(self, info: bytes) -> bytes:
        key = self.timestamp.key
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        certificate_id = der.sequence(der.octets(_digest(self.timestamp.der, hashes.SHA1())))  # noqa: S303 - RFC 2634
        return cms.build(
            content=info,
            content_type=TST_INFO,
            detached=False,
            digest="sha256",
            signer_certificate=self.timestamp.der,
            certificates=[self.timestamp.der, self.timestamp_ca.der, self.root.der],
            sign=lambda octets: key.sign(octets, ec.ECDSA(hashes.SHA256())),
            attributes=[
                cms.attribute("1.2.840.113549.1.9.16.2.12", _signing_certificate(certificate_id))
            ],
        )


def _signing_certificate(certificate_id: bytes) -> bytes:
    return der.sequence(der.sequence(certificate_id))


def _digest(octets: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    state = hashes.Hash(algorithm or hashes.SHA256())
    state.update(octets)
    return state.finalize()


@lru_cache(maxsize=1)
def authority() -> Authority:
    """Made once for the test run."""
    root_key = _rsa()
    root = Issued(_certificate("Throwaway Root", root_key, None, ca=True), root_key)
    developer_key = _rsa()
    developer = Issued(
        _certificate("Throwaway Developer ID", developer_key, root, ca=True, marker="6.2.6"),
        developer_key,
    )
    leaves = [
        Issued(
            _certificate(
                f"Developer ID Application: Throwaway ({TEAM})",
                key,
                developer,
                marker="6.1.13",
                purpose=ExtendedKeyUsageOID.CODE_SIGNING,
            ),
            key,
        )
        for key in (_rsa(), ec.generate_private_key(ec.SECP256R1()))
    ]
    stamp_ca_key = ec.generate_private_key(ec.SECP256R1())
    stamp_ca = Issued(
        _certificate("Throwaway Timestamp CA", stamp_ca_key, root, ca=True, marker="6.2.9"),
        stamp_ca_key,
    )
    stamp_key = ec.generate_private_key(ec.SECP256R1())
    stamp = Issued(
        _certificate(
            "Throwaway Timestamp Signer",
            stamp_key,
            stamp_ca,
            purpose=ExtendedKeyUsageOID.TIME_STAMPING,
        ),
        stamp_key,
    )
    return Authority(root, developer, leaves[0], leaves[1], stamp_ca, stamp)


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, TEAM),
        ]
    )


def _certificate(
    common_name: str,
    key: Key,
    issuer: Issued | None,
    *,
    ca: bool = False,
    marker: str = "",
    purpose: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    name = _name(common_name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=365))
        .not_valid_after(NOW + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if marker:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(f"{_APPLE}.{marker}"), _NULL),
            critical=not ca,
        )
    if purpose:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
    return builder.sign(issuer.key if issuer else key, hashes.SHA256())
