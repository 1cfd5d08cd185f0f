"""Provisioning profiles: real ones as their table says, look-alikes broken one by one."""

from __future__ import annotations

import base64
import contextlib
import json
import plistlib
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import certificates, inner_profile, provisioning_profile
from release_tool.rehearsal import certificate_parts, profiles
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.profiles import Wish

TEAM = "SLDQ2GJ6TL"
NOW = datetime.now(UTC)
WISH = Wish(team_id=TEAM, bundle_id="io.darkbloom.provider")


@lru_cache
def authority() -> Authority:
    return Authority.create(TEAM)


def trust_of(made: Authority) -> certificates.Trust:
    roots = (made.certificate(name) for name in (certificate_parts.ROOT, certificate_parts.ROOT_G3))
    return certificates.Trust(
        name="look-alike",
        roots=tuple(
            certificates.load(root.public_bytes(serialization.Encoding.DER)) for root in roots
        ),
    )


def read(data: bytes) -> provisioning_profile.Profile:
    return provisioning_profile.read(data, trust=trust_of(authority()))


def signed(content: bytes) -> bytes:
    """Any content, signed as a profile is."""
    return authority().sign_profile(
        content, certificate_parts.PROFILE_SIGNER, digest="sha1", at=NOW
    )


def plist(values: Mapping[str, object]) -> bytes:
    return plistlib.dumps({"UUID": "u", "TeamIdentifier": [TEAM], **values})


def problems(profile: provisioning_profile.Profile) -> dict[str, str]:
    return {
        check.name: check.observed for check in profile.authenticity if check.outcome == "failed"
    }


# Real ones

AUTHENTIC = {
    "developer-id-2026.provisionprofile": "developer-id",
    "developer-id-2020-icloud.provisionprofile": "developer-id",
    "developer-id-2019-endpoint-security.provisionprofile": "developer-id",
    "mac-app-store-2026.provisionprofile": "app-store",
    "mac-app-store-2023-expired.provisionprofile": "app-store",
    "mac-app-store-2017-expired.provisionprofile": "app-store",
    "ios-app-store-2019-expired.mobileprovision": "app-store",
}


def _real(real_data: Path, name: str) -> bytes:
    return (real_data / "profiles" / name).read_bytes()


@pytest.mark.parametrize(("name", "kind"), AUTHENTIC.items())
def test_real_profiles_are_authentic(real_data: Path, name: str, kind: str) -> None:
    """Each of Apple's profiles verifies to Apple's roots and is of the kind that its table says."""
    found = provisioning_profile.read(_real(real_data, name), trust=certificates.apple_trust())
    assert problems(found) == {}
    assert found.authentic
    assert found.kind == kind


@pytest.mark.parametrize("name", [*AUTHENTIC, "forged-self-signed.mobileprovision"])
def test_real_profiles_say_what_independent_readers_found(real_data: Path, name: str) -> None:
    """Every fact equals what asn1crypto and plistlib found in the same bytes."""
    expected = json.loads((real_data / "expected.json").read_text())["profiles"][name]
    found = provisioning_profile.read(_real(real_data, name), trust=certificates.apple_trust())
    assert found.sha256 == expected["sha256"]
    assert (found.name, found.uuid) == (expected["name"], expected["uuid"])
    assert list(found.team_ids) == expected["team_ids"]
    assert list(found.platforms) == expected["platforms"]
    assert _text(found.created) == expected["created"]
    assert _text(found.expires) == expected["expires"]
    assert list(map(certificates.fingerprint, found.certificates)) == expected["certificates"]
    assert found.entitlements == expected["entitlements"]
    assert (found.kind == "developer-id") == expected["provisions_all_devices"]
    has_inner = any(check.name == "inner profile" for check in found.authenticity)
    assert has_inner == expected["has_der_encoded_profile"]


def _text(moment: datetime | None) -> str:
    assert moment is not None
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def test_the_forged_profile_is_not_authentic(real_data: Path) -> None:
    """Its signature verifies, but its signer is not Apple's."""
    data = _real(real_data, "forged-self-signed.mobileprovision")
    found = provisioning_profile.read(data, trust=certificates.apple_trust())
    assert not found.authentic
    assert "signed itself and is not trusted" in problems(found)["signature"]


def test_text_is_no_profile(real_data: Path) -> None:
    """What is no CMS is refused in one line."""
    with pytest.raises(errors.FormatError, match="not a provisioning profile"):
        provisioning_profile.read(
            _real(real_data, "not-cms-at-all.provisionprofile"), trust=certificates.apple_trust()
        )


def test_apples_profiles_are_strangers_to_other_roots(real_data: Path) -> None:
    """Given roots replace Apple's: a real profile is then refused, inside and outside."""
    found = read(_real(real_data, "developer-id-2026.provisionprofile"))
    assert problems(found).keys() == {"signature", "inner profile"}


def test_every_sampled_bit_of_a_real_profile_counts(real_data: Path) -> None:
    """A flipped bit is refused, or stands where it cannot change what the profile says."""
    original = _real(real_data, "developer-id-2026.provisionprofile")
    trust = certificates.apple_trust()
    before = _facts(provisioning_profile.read(original, trust=trust))
    sample = random.Random(2).sample(range(len(original) * 8), 600)  # noqa: S311
    accepted = []
    for bit in sample:
        changed = bytearray(original)
        changed[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(errors.VerificationError):
            found = provisioning_profile.read(bytes(changed), trust=trust)
            if found.authentic:
                assert _facts(found) == before
                accepted.append(bit // 8)
    # Only version numbers, the list of digests and certificates that no chain uses are free.
    assert len(accepted) < len(sample) // 5, accepted


def _facts(found: provisioning_profile.Profile) -> tuple[object, ...]:
    return (
        *(found.name, found.uuid, found.team_ids, found.kind, found.platforms, found.expires),
        *(repr(found.entitlements), found.certificates, found.created, found.prefixes),
    )


def test_truncated_real_profiles_are_refused(real_data: Path) -> None:
    """No prefix of a real profile is a profile."""
    original = _real(real_data, "developer-id-2026.provisionprofile")
    for length in (*range(12), *range(20, len(original), 197), len(original) - 1):
        with pytest.raises(errors.FormatError):
            provisioning_profile.read(original[:length], trust=certificates.apple_trust())


@pytest.mark.parametrize("wrapping", ["pem", "base64", "base64-lines", "bom"])
def test_wrappings_change_nothing(real_data: Path, wrapping: str) -> None:
    """PEM, base64 in one line or many, and a byte order mark hold the same profile."""
    data = _real(real_data, "developer-id-2026.provisionprofile")
    lines = base64.encodebytes(data)
    wrapped = {
        "pem": b"-----BEGIN PKCS7-----\n" + lines + b"-----END PKCS7-----\n",
        "base64": base64.b64encode(data),
        "base64-lines": lines.replace(b"\n", b"\r\n"),
        "bom": b"\xef\xbb\xbf" + lines,
    }[wrapping]
    found = provisioning_profile.read(wrapped, trust=certificates.apple_trust())
    assert found.authentic
    assert found.uuid == "a3d653fa-db62-412f-b178-6f99919d9654"


# Look-alikes, each broken in one place


def test_a_look_alike_is_authentic_to_its_own_roots_only() -> None:
    """The embedded authority's profile holds under its roots and not under Apple's."""
    data = profiles.make(authority(), WISH)
    assert read(data).authentic
    found = provisioning_profile.read(data, trust=certificates.apple_trust())
    assert problems(found).keys() == {"signature", "inner profile"}


@pytest.mark.parametrize(
    ("wish", "check", "reason"),
    [
        (
            {"signer": certificate_parts.DEVELOPER_ID},
            "signature",
            "lacks the marker 1.2.840.113635.100.4.11",
        ),
        (
            {"inner_signer": certificate_parts.PROFILE_SIGNER},
            "inner profile",
            "not signed with ECDSA",
        ),
        ({"inner_changes": {"TeamIdentifier": ["AAAAAAAAAA"]}}, "inner profile", "TeamIdentifier"),
        ({"inner_changes": {"ExpirationDate": NOW}}, "inner profile", "ExpirationDate"),
        ({"inner_changes": {"Entitlements": {}}}, "inner profile", "Entitlements"),
        ({"inner_changes": {"DeveloperCertificates": []}}, "inner profile", "Certificates"),
        ({"inner_changes": {"UUID": None}}, "inner profile", "UUID"),
        ({"inner_changes": {"ProvisionsAllDevices": None}}, "inner profile", "AllDevices"),
        ({"inner_changes": {"ProvisionsAllDevices": 1}}, "inner profile", "AllDevices"),
        ({"inner_changes": {"ProfileDistributionType": "STORE"}}, "inner profile", "Distribution"),
        ({"inner_changes": {"Platform": ["iOS"]}}, "inner profile", "Platform"),
        ({"inner_changes": {"Version": 2}}, "inner profile", "Version"),
    ],
)
def test_one_fault_of_authenticity_is_named(
    wish: Mapping[str, object], check: str, reason: str
) -> None:
    """A wrong signer or one value in which inner and outer differ is named by its check alone."""
    changed = {"team_id": TEAM, "bundle_id": WISH.bundle_id, **wish}
    found = read(profiles.make(authority(), Wish(**changed)))  # type: ignore[arg-type]
    assert problems(found).keys() == {check}
    assert reason in problems(found)[check]


def test_validity_is_judged_at_the_signing_time() -> None:
    """A profile signed while its signer was valid stays authentic; one signed before does not."""
    old = Authority.create(TEAM, begins=NOW - timedelta(days=4 * 365))
    trust = trust_of(old)
    for age, holds in ((3 * 365, True), (5 * 365, False)):
        wish = Wish(team_id=TEAM, bundle_id=WISH.bundle_id, created=NOW - timedelta(days=age))
        found = provisioning_profile.read(profiles.make(old, wish), trust=trust)
        assert found.authentic is holds, problems(found)


def test_an_inner_profile_that_is_no_cms_fails_its_check() -> None:
    """Rubbish inside is the inner profile's failure, not a traceback."""
    for rubbish in (b"", b"\x30\x80", b"hello"):
        found = read(signed(plist({inner_profile.KEY: rubbish})))
        assert problems(found).keys() == {"inner profile"}
    found = read(signed(plist({inner_profile.KEY: "text"})))
    assert "is not data" in problems(found)["inner profile"]


def test_kinds_go_by_their_keys() -> None:
    """All devices, some devices, none; and both at once is a contradiction."""
    table: list[tuple[dict[str, object], str]] = [
        ({"ProvisionsAllDevices": True, "Platform": ["OSX"]}, "developer-id"),
        ({"ProvisionsAllDevices": True, "Platform": ["iOS"]}, "enterprise"),
        ({"ProvisionsAllDevices": False, "Platform": ["OSX"]}, "app-store"),
        ({"ProvisionedDevices": [], "Platform": ["OSX"]}, "development"),
        ({"ProvisionedDevices": ["x"], "ProvisionsAllDevices": True}, "contradictory"),
    ]
    for values, kind in table:
        assert read(signed(plist(values))).kind == kind


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"Name": 1}, "Name is not a string"),
        ({"TeamIdentifier": "text"}, "TeamIdentifier is not an array"),
        ({"Entitlements": []}, "Entitlements is not a dictionary"),
        ({"ExpirationDate": "2026-01-01"}, "ExpirationDate is not a date"),
        ({"ProvisionsAllDevices": "true"}, "ProvisionsAllDevices is not a boolean"),
        ({"DeveloperCertificates": ["text"]}, "DeveloperCertificates is not an array of data"),
        ({"DeveloperCertificates": [b"rubbish"]}, "DeveloperCertificates holds .*: .*truncated"),
        ({"Entitlements": {"keychain-access-groups": "SLDQ2GJ6TL.*"}}, "groups is not an array"),
        ({"Entitlements": {"keychain-access-groups": [1]}}, "groups is not an array of strings"),
        ({"DeveloperCertificates": [b""] * 600}, "600 certificates"),
    ],
)
def test_wrong_types_are_refused_in_one_line(values: Mapping[str, object], reason: str) -> None:
    """A value of the wrong type is a format error that names its key."""
    with pytest.raises(errors.FormatError, match=reason):
        read(signed(plist(values)))


_HEAD = b'<?xml version="1.0"?>\n'
_BOMB = b"".join(
    b'<!ENTITY a%d "%s">' % (level, b"&a%d;" % (level - 1) * 10 if level else b"x" * 100)
    for level in range(12)
)


@pytest.mark.parametrize(
    "content",
    [
        _HEAD + b"<!DOCTYPE plist [" + _BOMB + b"]><plist><string>&a11;</string></plist>",
        _HEAD + b'<!DOCTYPE plist [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
        b"<plist><dict><key>UUID</key><string>&a;</string></dict></plist>",
        _HEAD + b"<plist><dict><key>UUID</key><string>a</string>"
        b"<key>UUID</key><string>b</string></dict></plist>",
        _HEAD + b"<plist>" + b"<array>" * 5000 + b"</array>" * 5000 + b"</plist>",
        _HEAD
        + b"<plist><dict><key>UUID</key><string>"
        + b"x" * 5_000_000
        + b"</string></dict></plist>",
        b"bplist00" + b"\x00" * 40,
        b"<plist><dict></plist>",
        b"<plist><dict/></plist>",
        b"",
    ],
)
def test_hostile_property_lists_are_refused(content: bytes) -> None:
    """Bombs, outside entities, double keys, depth, size and other shapes: one format error each."""
    with pytest.raises(errors.FormatError) as caught:
        read(signed(content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  \n",
        b"\x30\x80",
        b"\x30" * 5000,
        b"\x30\x80" * 100_000,
        b"-----BEGIN PKCS7-----\nMIIB",
        b"-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----\n" * 2,
        b"aGVsbG8=",
        b"M" * 9_000_000,
        b"\xff\xfe",
    ],
)
def test_other_bytes_are_no_profile(data: bytes) -> None:
    """Whatever is handed in, the answer is one line that it is no provisioning profile."""
    with pytest.raises(errors.FormatError, match="not a provisioning profile") as caught:
        read(data)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_random_bytes_only_raise_our_error(data: bytes) -> None:
    """No bytes get past the reader's own error."""
    with contextlib.suppress(errors.FormatError):
        read(b"\x30" + data)


@given(st.binary(max_size=120))
def test_random_inner_payloads_only_raise_our_error(data: bytes) -> None:
    """The inner decoder fails in its own words only."""
    with contextlib.suppress(errors.FormatError):
        inner_profile.decode(b"\x31" + bytes((min(len(data), 127),)) + data)
