"""Provisioning profiles in Apple's dialect, good ones and every kind of bad one.

Keys, their order and both encodings are those of real profiles of 2026: an XML property list in a
CMS over SHA-1 and RSA, and inside it the same again as DER in a CMS over SHA-256 and ECDSA, under
another root.
"""

from __future__ import annotations

import plistlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography.hazmat.primitives import hashes, serialization

from release_tool.apple import der, entitlements
from release_tool.rehearsal import certificate_parts
from release_tool.rehearsal.authority import Authority

Kind = Literal["developer-id", "development", "app-store"]

# Apple's Developer ID profiles live 18 years.
LIFE_DAYS = 6570
_DISTRIBUTION: Mapping[Kind, str] = {
    "developer-id": "DIRECT",
    "development": "DEVELOPMENT",
    "app-store": "STORE",
}
_DEVICE = "00008103-000000000000001E"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a profile shall say. Every field beside the first two is there to go wrong."""

    team_id: str
    bundle_id: str
    """`*` for a wildcard profile."""
    kind: Kind = "developer-id"
    platform: str = "OSX"
    created: datetime | None = None
    """By default an hour ago."""
    life_days: int = LIFE_DAYS
    granted: Mapping[str, object] = field(default_factory=dict)
    """Further entitlements; None takes a standard one away."""
    certificates: tuple[bytes, ...] | None = None
    """In DER; by default the authority's Developer ID leaf."""
    inner: bool = True
    """Whether the modern form stands inside."""
    inner_changes: Mapping[str, object] = field(default_factory=dict)
    """Values in which the inner form disagrees; None takes a key away."""
    without: tuple[str, ...] = ()
    """Keys that are missing."""
    signer: str = certificate_parts.PROFILE_SIGNER
    """The role that signs the outer form."""
    inner_signer: str = certificate_parts.INNER_PROFILE_SIGNER


def make(authority: Authority, wish: Wish) -> bytes:
    """Make a profile: the outer CMS in DER."""
    created = (wish.created or datetime.now(UTC) - timedelta(hours=1)).replace(microsecond=0)
    values = _values(authority, wish, created)
    if wish.inner:
        payload = _inner_payload(wish, values)
        values["DER-Encoded-Profile"] = authority.sign_profile(
            payload, wish.inner_signer, digest="sha256", at=created
        )
    ordered = {name: values[name] for name in _ORDER if name in values}
    # plistlib writes dates without a zone, as UTC.
    naive = {
        name: value.replace(tzinfo=None) if isinstance(value, datetime) else value
        for name, value in ordered.items()
    }
    content = plistlib.dumps(naive, sort_keys=False)
    return authority.sign_profile(content, wish.signer, digest="sha1", at=created)


_ORDER = (
    "AppIDName",
    "ApplicationIdentifierPrefix",
    "CreationDate",
    "Platform",
    "IsXcodeManaged",
    "DeveloperCertificates",
    "DER-Encoded-Profile",
    "PPQCheck",
    "Entitlements",
    "ExpirationDate",
    "Name",
    "ProvisionsAllDevices",
    "ProvisionedDevices",
    "TeamIdentifier",
    "TeamName",
    "TimeToLive",
    "UUID",
    "Version",
)


def _values(authority: Authority, wish: Wish, created: datetime) -> dict[str, object]:
    leaf = authority.developer_id.public_bytes(serialization.Encoding.DER)
    values: dict[str, object] = {
        "AppIDName": "Look-alike",
        "ApplicationIdentifierPrefix": [wish.team_id],
        "CreationDate": created,
        "Platform": [wish.platform],
        "IsXcodeManaged": False,
        "DeveloperCertificates": list((leaf,) if wish.certificates is None else wish.certificates),
        "PPQCheck": False,
        "Entitlements": _entitlements(wish),
        "ExpirationDate": created + timedelta(days=wish.life_days),
        "Name": "Look-alike Direct",
        "TeamIdentifier": [wish.team_id],
        "TeamName": authority.owner.organization,
        "TimeToLive": wish.life_days,
        "UUID": str(uuid.uuid4()),
        "Version": 1,
    }
    if wish.kind == "developer-id":
        values["ProvisionsAllDevices"] = True
    elif wish.kind == "development":
        values["ProvisionedDevices"] = [_DEVICE]
    return {name: value for name, value in values.items() if name not in wish.without}


def _entitlements(wish: Wish) -> dict[str, object]:
    standard: dict[str, object] = {
        "com.apple.application-identifier": f"{wish.team_id}.{wish.bundle_id}",
        # Every real Developer ID profile grants all groups of its team, in this form.
        "keychain-access-groups": [f"{wish.team_id}.*"],
        "com.apple.developer.team-identifier": wish.team_id,
    }
    if wish.kind == "development":
        standard["get-task-allow"] = True
    merged = standard | dict(wish.granted)
    return {name: value for name, value in merged.items() if value is not None}


def _inner_payload(wish: Wish, outer: Mapping[str, object]) -> bytes:
    values = dict(outer) | {"ProfileDistributionType": _DISTRIBUTION[wish.kind]}
    values |= wish.inner_changes
    pairs = [
        der.sequence(der.utf8(name), _encoded(name, value))
        for name, value in values.items()
        if value is not None
    ]
    return der.set_of(*pairs)


def _encoded(name: str, value: object) -> bytes:
    if name == "Entitlements" and isinstance(value, dict):
        return entitlements.encode_der(value)
    if name == "DeveloperCertificates" and isinstance(value, list):
        return der.sequence(*(der.octets(_sha256(certificate)) for certificate in value))
    if isinstance(value, list):
        return der.sequence(*(_encoded("", item) for item in value))
    if isinstance(value, bool):
        return der.boolean(value)
    if isinstance(value, int):
        return der.integer(value)
    if isinstance(value, datetime):
        return der.utc_time(value)
    return der.utf8(str(value))


def _sha256(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()
