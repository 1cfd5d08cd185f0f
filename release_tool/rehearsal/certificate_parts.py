"""The certificates of the look-alike authority: who issues whom, with which of Apple's marks.

Extensions, their criticality and the key types are those of Apple's own certificates, as found in
real profiles, tokens and code. Names say that they are look-alikes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Kind = Literal["rsa", "p256", "p384"]

APPLE = "1.2.840.113635.100"
_DER_NULL = b"\x05\x00"
_YEAR = timedelta(days=365)
_CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING
_TIME_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
_ORGANIZATION = "Look-alike of Apple Inc."
_AUTHORITY_UNIT = "Look-alike Certification Authority"

ROOT: Final = "root"
ROOT_G3: Final = "root-g3"
DEVELOPER_ID_CA: Final = "developer-id-ca"
DEVELOPER_ID: Final = "developer-id"
DEVELOPER_RELATIONS_CA: Final = "developer-relations-ca"
PROFILE_SIGNER: Final = "profile-signer"
SYSTEM_INTEGRATION_CA: Final = "system-integration-ca"
INNER_PROFILE_SIGNER: Final = "inner-profile-signer"
TIMESTAMP_CA: Final = "timestamp-ca"
TIMESTAMP_SIGNER: Final = "timestamp-signer"
TICKET_SIGNER: Final = "ticket-signer"
SHORT_LIVED: Final = (TIMESTAMP_SIGNER, TICKET_SIGNER)
"""Signers that a state folder outlives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a certificate of the authority is."""

    issuer: str
    common_name: str
    key: Kind
    lives: timedelta
    markers: tuple[tuple[str, bool], ...] = ()
    """Apple's object identifiers below `APPLE`, each with whether it is critical."""
    is_authority: bool = False
    usage: x509.ObjectIdentifier | None = None
    """The critical extended key usage."""


ROLES: Final[Mapping[str, Role]] = {
    ROOT: Role(
        issuer=ROOT,
        common_name="Look-alike Root CA",
        key="rsa",
        lives=25 * _YEAR,
        is_authority=True,
    ),
    ROOT_G3: Role(
        issuer=ROOT_G3,
        common_name="Look-alike Root CA - G3",
        key="p384",
        lives=25 * _YEAR,
        is_authority=True,
    ),
    DEVELOPER_ID_CA: Role(
        issuer=ROOT,
        common_name="Look-alike Developer ID Certification Authority",
        key="rsa",
        lives=10 * _YEAR,
        markers=(("6.2.6", False),),
        is_authority=True,
    ),
    DEVELOPER_ID: Role(
        issuer=DEVELOPER_ID_CA,
        common_name="Developer ID Application: {organization} ({team_id})",
        key="rsa",
        lives=5 * _YEAR,
        markers=(("6.1.13", True),),
        usage=_CODE_SIGNING,
    ),
    DEVELOPER_RELATIONS_CA: Role(
        issuer=ROOT,
        common_name="Look-alike Worldwide Developer Relations Certification Authority",
        key="rsa",
        lives=10 * _YEAR,
        markers=(("6.2.1", False),),
        is_authority=True,
    ),
    PROFILE_SIGNER: Role(
        issuer=DEVELOPER_RELATIONS_CA,
        common_name="Mac OS X Provisioning Profile Signing",
        key="rsa",
        lives=4 * _YEAR,
        markers=(("4.11", False),),
    ),
    SYSTEM_INTEGRATION_CA: Role(
        issuer=ROOT_G3,
        common_name="Look-alike System Integration CA 4",
        key="p256",
        lives=15 * _YEAR,
        markers=(("6.2.17", False),),
        is_authority=True,
    ),
    INNER_PROFILE_SIGNER: Role(
        issuer=SYSTEM_INTEGRATION_CA,
        common_name="WWDR Provisioning Profile Signing",
        key="p256",
        lives=4 * _YEAR,
        markers=(("12.19", False),),
    ),
    TIMESTAMP_CA: Role(
        issuer=ROOT,
        common_name="Look-alike Timestamp Certification Authority",
        key="rsa",
        lives=15 * _YEAR,
        markers=(("6.2.9", False),),
        is_authority=True,
    ),
    TIMESTAMP_SIGNER: Role(
        issuer=TIMESTAMP_CA,
        common_name="Look-alike Timestamp Signer",
        key="rsa",
        # Apple's live 41 to 42 days, so chains must be judged at the token's time.
        lives=timedelta(days=41),
        usage=_TIME_STAMPING,
    ),
    TICKET_SIGNER: Role(
        issuer=SYSTEM_INTEGRATION_CA,
        common_name="Software Ticket Signing",
        key="p256",
        # Apple's live 385 to 395 days, less than many a stapled app is in use.
        lives=timedelta(days=395),
        markers=(("6.1.30", False),),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """For whom the Developer ID certificate is issued."""

    team_id: str
    organization: str


def make(owner: Owner, begins: datetime) -> dict[str, Party]:
    """Make every certificate anew.

    Args:
        owner: of the leaf.
        begins: when all of them begin to be valid.
    """
    with ThreadPoolExecutor(2) as workers:
        keys = dict(
            zip(ROLES, workers.map(lambda role: _generate(role.key), ROLES.values()), strict=True)
        )
    parties: dict[str, Party] = {}
    for name in ROLES:
        parties[name] = issue(name, keys[name], owner, begins, parties)
    return parties


def renew(name: str, owner: Owner, begins: datetime, parties: Mapping[str, Party]) -> Party:
    """Issue one certificate again, with a new key."""
    return issue(name, _generate(ROLES[name].key), owner, begins, parties)


def issue(
    name: str, key: Key, owner: Owner, begins: datetime, parties: Mapping[str, Party]
) -> Party:
    """Issue the certificate of a role.

    Args:
        name: the role.
        key: its key.
        owner: of the leaf.
        begins: when it begins to be valid.
        parties: holds the issuer already, unless it issues itself.
    """
    role = ROLES[name]
    issuer = parties.get(role.issuer)
    subject = _subject(name, role, owner)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number() >> 96)
        .not_valid_before(begins)
        .not_valid_after(begins + role.lives)
    )
    signing_key = issuer.key if issuer else key
    for extension, critical in _extensions(role, key, signing_key):
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(signing_key, _signature_hash(signing_key))
    return Party(certificate=certificate, key=key)


def leaf_name(owner: Owner) -> str:
    """The common name of the Developer ID leaf."""
    return _common_name(ROLES[DEVELOPER_ID], owner)


def _common_name(role: Role, owner: Owner) -> str:
    return role.common_name.format(organization=owner.organization, team_id=owner.team_id)


def _subject(name: str, role: Role, owner: Owner) -> x509.Name:
    pairs = [(NameOID.COMMON_NAME, _common_name(role, owner))]
    organization = _ORGANIZATION
    if name == DEVELOPER_ID:
        pairs.insert(0, (NameOID.USER_ID, owner.team_id))
        pairs.append((NameOID.ORGANIZATIONAL_UNIT_NAME, owner.team_id))
        organization = owner.organization
    elif role.is_authority:
        pairs.append((NameOID.ORGANIZATIONAL_UNIT_NAME, _AUTHORITY_UNIT))
    pairs += [(NameOID.ORGANIZATION_NAME, organization), (NameOID.COUNTRY_NAME, "US")]
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in pairs])


def _extensions(role: Role, key: Key, issuer: Key) -> list[tuple[x509.ExtensionType, bool]]:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    found: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=role.is_authority, path_length=None), True),
        (authority, False),
    ]
    if role.usage is not None:
        found.append((x509.ExtendedKeyUsage([role.usage]), True))
    found.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
    found.append((_key_usage(is_authority=role.is_authority), True))
    for suffix, critical in role.markers:
        oid = x509.ObjectIdentifier(f"{APPLE}.{suffix}")
        found.append((x509.UnrecognizedExtension(oid, _DER_NULL), critical))
    return found


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _generate(kind: Kind) -> Key:
    makers: dict[Kind, Callable[[], Key]] = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    }
    return makers[kind]()


def _signature_hash(key: Key) -> hashes.SHA256 | hashes.SHA384:
    is_p384 = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size == 384
    return hashes.SHA384() if is_p384 else hashes.SHA256()
