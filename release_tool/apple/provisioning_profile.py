"""Provisioning profiles: what one says, and whether Apple said it.

The outer CMS holds a property list and is signed with RSA over SHA-1 even in 2026. Newer profiles
hold the same again as `DER-Encoded-Profile`, signed with ECDSA: the source of truth on modern
systems (Apple's TN3125). Both must hold and agree. Chains are judged at the time of signing: the
signer lives four years, a Developer ID profile eighteen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from release_tool import errors
from release_tool.apple import (
    armor,
    certificates,
    checks,
    cms,
    entitlements,
    inner_profile,
    property_list,
    signatures,
)

Kind = Literal["developer-id", "app-store", "development", "enterprise", "contradictory"]

KIND_NAMES: Mapping[Kind, str] = {
    "developer-id": "Developer ID",
    "app-store": "App Store",
    "development": "development",
    "enterprise": "enterprise",
    "contradictory": "of two kinds at once",
}
MACOS = "OSX"
"""How profiles call the platform macOS."""

MAX_PLIST_BYTES = 4 * 1024 * 1024
MAX_CERTIFICATES = 512
"""A development profile lists a whole team's; a hundred were never seen."""

# SHA-1 is what every real profile's outer signature uses; it is allowed here by name.
_OUTER_DIGESTS = frozenset(("sha1", "sha256", "sha384", "sha512"))
_WHAT = "a provisioning profile"


class Profile(NamedTuple):
    """What a profile says, with the checks of who said it."""

    sha256: str
    """Of the CMS as it stood."""
    name: str
    uuid: str
    team_ids: tuple[str, ...]
    prefixes: tuple[str, ...]
    kind: Kind
    platforms: tuple[str, ...]
    created: datetime | None
    expires: datetime | None
    entitlements: Mapping[str, object]
    """What it grants."""
    certificates: tuple[certificates.Certificate, ...]
    """The signing certificates that it allows."""
    authenticity: tuple[checks.Check, ...]
    signed: datetime | None = None
    """What the outer signature says of its time."""

    @property
    def authentic(self) -> bool:
        """Whether every signature held up to a trusted root, and both profiles agree."""
        return checks.all_hold(self.authenticity)

    @property
    def team_id(self) -> str:
        """The team; of several the first."""
        return self.team_ids[0] if self.team_ids else ""

    @property
    def app_ids(self) -> tuple[str, ...]:
        """What it grants as application identifier, under either spelling."""
        spellings = entitlements.APPLICATION_IDENTIFIER_SPELLINGS
        found = (self.entitlements.get(key) for key in spellings)
        return tuple(dict.fromkeys(value for value in found if isinstance(value, str)))

    @property
    def access_groups(self) -> tuple[str, ...]:
        """The keychain access groups that it grants."""
        granted = self.entitlements.get(entitlements.KEYCHAIN_ACCESS_GROUPS)
        values = granted if isinstance(granted, list) else []
        return tuple(value for value in values if isinstance(value, str))


def read(data: bytes, *, trust: certificates.Trust) -> Profile:
    """Read a profile and judge who signed it.

    A profile that Apple did not sign comes back with failed checks in `authenticity`.

    Args:
        data: DER, PEM or base64 text.
        trust: Apple's roots, or those that stand in for them.

    Raises:
        FormatError: not a provisioning profile.
    """
    document = armor.unwrap(data, _WHAT)
    try:
        signed_data = cms.parse(document)
    except errors.FormatError as problem:
        raise errors.FormatError(f"not {_WHAT}: {problem.message}") from problem
    if signed_data.content is None:
        raise errors.FormatError(f"not {_WHAT}: its CMS holds no content")
    values = property_list.parse(signed_data.content, limit=MAX_PLIST_BYTES)
    reader = _Reader(values)
    return Profile(
        sha256=signatures.digest("sha256", document).hex(),
        name=reader.text("Name"),
        uuid=reader.text("UUID"),
        team_ids=reader.texts("TeamIdentifier"),
        prefixes=reader.texts("ApplicationIdentifierPrefix"),
        kind=_kind(reader),
        platforms=reader.texts("Platform"),
        created=reader.time("CreationDate"),
        expires=reader.time("ExpirationDate"),
        entitlements=reader.grants("Entitlements"),
        certificates=reader.certificates("DeveloperCertificates"),
        authenticity=_authenticity(signed_data, values, trust),
        signed=next((signer.signing_time for signer in signed_data.signers), None),
    )


class _Reader:
    """Takes values out of the property list by the types that they must have."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        if not values.keys() & {"UUID", "Entitlements", "TeamIdentifier"}:
            raise errors.FormatError(f"not {_WHAT}: its property list is of something else")

    def text(self, key: str) -> str:
        value = self._values.get(key, "")
        if not isinstance(value, str):
            raise _wrong(key, "a string")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _wrong(key, "an array of strings")
        return tuple(value)

    def time(self, key: str) -> datetime | None:
        value = self._values.get(key)
        if value is not None and not isinstance(value, datetime):
            raise _wrong(key, "a date")
        return value

    def flag(self, key: str) -> bool:
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            raise _wrong(key, "a boolean")
        return value

    def has(self, key: str) -> bool:
        return key in self._values

    def grants(self, key: str) -> Mapping[str, object]:
        value = self._values.get(key, {})
        if not isinstance(value, dict):
            raise _wrong(key, "a dictionary")
        groups = value.get(entitlements.KEYCHAIN_ACCESS_GROUPS, [])
        if not isinstance(groups, list) or not all(isinstance(item, str) for item in groups):
            raise _wrong(entitlements.KEYCHAIN_ACCESS_GROUPS, "an array of strings")
        return value

    def certificates(self, key: str) -> tuple[certificates.Certificate, ...]:
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, bytes) for item in value):
            raise _wrong(key, "an array of data")
        if len(value) > MAX_CERTIFICATES:
            raise errors.FormatError(f"the profile lists {len(value)} certificates")
        try:
            return tuple(map(certificates.load, value))
        except errors.FormatError as problem:
            raise errors.FormatError(
                f"the profile's {key} holds what is no certificate: {problem.message}"
            ) from problem


def _wrong(key: str, expected: str) -> errors.FormatError:
    return errors.FormatError(f"the profile's {key} is not {expected}")


def _kind(reader: _Reader) -> Kind:
    everywhere, devices = reader.flag("ProvisionsAllDevices"), reader.has("ProvisionedDevices")
    if everywhere and devices:
        return "contradictory"
    if everywhere:
        return "developer-id" if MACOS in reader.texts("Platform") else "enterprise"
    return "development" if devices else "app-store"


# Who signed it


def _authenticity(
    signed_data: cms.SignedData, values: Mapping[str, object], trust: certificates.Trust
) -> tuple[checks.Check, ...]:
    found = [_judge_outer(signed_data, values, trust)]
    encoded = values.get(inner_profile.KEY)
    if encoded is not None:
        found.append(_judge_inner(encoded, values, trust))
    return tuple(found)


def _judge_outer(
    signed_data: cms.SignedData, values: Mapping[str, object], trust: certificates.Trust
) -> checks.Check:
    try:
        proof = cms.verify(signed_data, content=None, allowed_digests=_OUTER_DIGESTS)
        at = _signing_time(proof, values)
        chain = _outer_chain(proof, at, trust, values.get("Platform"))
    except errors.VerificationError as problem:
        return refused("signature", problem, f"a profile signed by {trust.name}")
    return checks.passed("signature", f"{trust.name}: {_chain_text(chain)}, at {at:%Y-%m-%d}")


def _signing_time(proof: cms.SignerProof, values: Mapping[str, object]) -> datetime:
    at = proof.signer.signing_time or values.get("CreationDate")
    if not isinstance(at, datetime):
        raise errors.VerificationError("the signature names no time")
    return at


def _outer_chain(
    proof: cms.SignerProof, at: datetime, trust: certificates.Trust, platforms: object
) -> tuple[certificates.Certificate, ...]:
    leaf = proof.certificate
    if not certificates.has_marker(leaf, certificates.IPHONE_PROFILE_SIGNER):
        return certificates.build_chain(
            leaf,
            proof.pool,
            trust=trust,
            at=at,
            required_leaf_marker=certificates.PROFILE_SIGNER,
            required_issuer_marker=certificates.DEVELOPER_RELATIONS_CA,
        )
    # Apple signs profiles of its other platforms under an older authority without markers.
    chain = certificates.build_chain(leaf, proof.pool, trust=trust, at=at)
    if certificates.fingerprint(chain[1]) != certificates.IPHONE_CA or _names_macos(platforms):
        raise errors.VerificationError(
            "the signer signs profiles of other platforms", subject=certificates.display_name(leaf)
        )
    return chain


def _names_macos(platforms: object) -> bool:
    return not isinstance(platforms, list) or MACOS in platforms


def _judge_inner(
    encoded: object, values: Mapping[str, object], trust: certificates.Trust
) -> checks.Check:
    name = "inner profile"
    try:
        if not isinstance(encoded, bytes):
            raise _wrong(inner_profile.KEY, "data")
        inner, chain = inner_profile.read(encoded, trust=trust)
        differences = inner_profile.differences(values, inner)
    except errors.VerificationError as problem:
        return refused(name, problem, f"a profile signed by {trust.name}")
    if differences:
        return checks.failed(
            name,
            expected="the same as the outer profile says",
            observed="differs in " + ", ".join(differences),
            hint="the profile was tampered with: download it anew from the developer portal",
        )
    root = certificates.display_name(chain[-1])
    return checks.passed(name, f"agrees with the outer (ECDSA, {root})")


def refused(name: str, problem: errors.VerificationError, expected: str) -> checks.Check:
    """A failed check that tells an error's whole story on one line."""
    parts = [str(problem), *problem.details]
    return checks.failed(
        name,
        expected=expected,
        observed="; ".join(part for part in parts if part),
        hint="download the profile anew from the developer portal",
    )


def _chain_text(chain: Sequence[certificates.Certificate]) -> str:
    return " < ".join(map(_short_name, chain))


def _short_name(certificate: certificates.Certificate) -> str:
    name = certificates.display_name(certificate)
    if name == "Apple Worldwide Developer Relations Certification Authority":
        unit = certificates.organizational_unit(certificate) or ""
        return f"WWDR {unit}" if len(unit) == 2 else "WWDR"
    return name
