"""The look-alike authority, judged by openssl, by asn1crypto beside real profiles, and by ours."""

from __future__ import annotations

import plistlib
import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asn1crypto.cms
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from release_tool import errors
from release_tool.apple import certificates, provisioning_profile
from release_tool.rehearsal import certificate_parts, profiles
from release_tool.rehearsal.authority import Authority

TEAM = "SLDQ2GJ6TL"
BUNDLE = "io.darkbloom.provider"
OPENSSL = shutil.which("openssl")


def wish(**changes: Any) -> profiles.Wish:  # noqa: ANN401 any field
    return profiles.Wish(**({"team_id": TEAM, "bundle_id": BUNDLE} | changes))


def trust(authority: Authority) -> certificates.Trust:
    pems = x509.load_pem_x509_certificates(authority.trust_pem())
    roots = [certificates.load(pem.public_bytes(serialization.Encoding.DER)) for pem in pems]
    return certificates.Trust(name="look-alike", roots=tuple(roots))


def signed_data(data: bytes) -> Any:  # noqa: ANN401 asn1crypto has no types
    return asn1crypto.cms.ContentInfo.load(data)["content"]


def outline(data: bytes) -> dict[str, object]:
    """The shape of a CMS without its values: what a look-alike has to share with Apple's."""
    found = signed_data(data)
    signer = found["signer_infos"][0]
    leaf, *above = sorted(
        (item.chosen for item in found["certificates"]), key=lambda item: bool(item.ca)
    )
    return {
        "version": found["version"].native,
        "digests": [item["algorithm"].native for item in found["digest_algorithms"]],
        "content type": found["encap_content_info"]["content_type"].native,
        "certificates": len(above) + 1,
        "signature": signer["signature_algorithm"]["algorithm"].native,
        "signer digest": signer["digest_algorithm"]["algorithm"].native,
        "signer version": signer["version"].native,
        "named by": signer["sid"].name,
        "attributes": {item["type"].dotted for item in signer["signed_attrs"]},
        "unsigned": signer["unsigned_attrs"].native,
        "leaf": _extensions(leaf),
        "key": leaf.public_key.algorithm,
        "authorities": sorted(_extensions(item) for item in above),
    }


# Addresses of revocation lists and policy texts: a look-alike has none.
_WITHOUT = ("1.3.6.1.5.5.7.1.1", "2.5.29.31", "2.5.29.32")


def _extensions(certificate: Any) -> list[tuple[str, bool]]:  # noqa: ANN401
    found = certificate["tbs_certificate"]["extensions"]
    pairs = [(item["extn_id"].dotted, item["critical"].native) for item in found]
    # Apple's roots name themselves as their issuer or leave it out; both are found.
    is_root = certificate.issuer == certificate.subject
    left = (*_WITHOUT, "2.5.29.35") if is_root else _WITHOUT
    return sorted(pair for pair in pairs if pair[0] not in left)


def test_a_profile_has_the_shape_of_a_real_one(authority: Authority, real_data: Path) -> None:
    """Both CMS layers, the keys and the attributes are those of Apple's profile of 2026."""
    real = (real_data / "profiles" / "developer-id-2026.provisionprofile").read_bytes()
    ours = profiles.make(authority, wish())
    assert outline(ours) == outline(real)
    plists = [
        plistlib.loads(signed_data(data)["encap_content_info"]["content"].native)
        for data in (ours, real)
    ]
    assert list(plists[0]) == list(plists[1])
    assert {key: type(value) for key, value in plists[0].items()} == {
        key: type(value) for key, value in plists[1].items()
    }
    assert set(plists[0]["Entitlements"]) == set(plists[1]["Entitlements"])
    inner = [plist["DER-Encoded-Profile"] for plist in plists]
    assert outline(inner[0]) == outline(inner[1])
    payloads = [signed_data(data)["encap_content_info"]["content"].native for data in inner]
    assert _pairs(payloads[0]) == _pairs(payloads[1])


def _pairs(payload: bytes) -> list[tuple[str, int]]:
    """Keys and the tags of their values, in their order."""
    found = asn1crypto.core.SetOf.load(payload, spec=asn1crypto.core.Any)
    pairs = [
        asn1crypto.core.SequenceOf.load(item.dump(), spec=asn1crypto.core.Any) for item in found
    ]
    return sorted((str(pair[0].native), pair[1].dump()[0]) for pair in pairs)


@pytest.mark.skipif(OPENSSL is None, reason="needs openssl")
@pytest.mark.parametrize("inner", [False, True])
def test_openssl_verifies_both_layers(authority: Authority, tmp_path: Path, inner: bool) -> None:
    """An independent verifier takes both layers to our roots, and neither without them."""
    data = profiles.make(authority, wish())
    if inner:
        content = signed_data(data)["encap_content_info"]["content"].native
        data = plistlib.loads(content)["DER-Encoded-Profile"]
    (tmp_path / "profile").write_bytes(data)
    (tmp_path / "trust.pem").write_bytes(authority.trust_pem())
    (tmp_path / "other.pem").write_bytes(Authority.create(TEAM).trust_pem())
    command = ["openssl", "cms", "-verify", "-inform", "DER", "-purpose", "any", "-out", "content"]
    command += ["-in", "profile", "-CAfile"]
    done = subprocess.run([*command, "trust.pem"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "content").read_bytes() == (
        signed_data(data)["encap_content_info"]["content"].native
    )
    done = subprocess.run([*command, "other.pem"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode != 0


def test_our_reader_takes_a_profile_for_authentic(authority: Authority) -> None:
    """`verify-profile` reads it, under our roots only."""
    data = profiles.make(authority, wish())
    found = provisioning_profile.read(data, trust=trust(authority))
    assert found.authentic
    assert (found.kind, found.team_ids, found.platforms) == ("developer-id", (TEAM,), ("OSX",))
    assert found.app_ids == (f"{TEAM}.{BUNDLE}",)
    assert found.access_groups == (f"{TEAM}.*",)
    leaf = authority.developer_id.public_bytes(serialization.Encoding.DER)
    assert [item.der for item in found.certificates] == [leaf]
    assert not provisioning_profile.read(data, trust=certificates.apple_trust()).authentic


@pytest.mark.parametrize(
    "changes",
    [
        {"inner_changes": {"Name": "other"}},
        {"inner_changes": {"TeamIdentifier": ["OTHERTEAM1"]}},
        {"inner_changes": {"ExpirationDate": datetime(2040, 1, 1, tzinfo=UTC)}},
        {"inner_changes": {"Entitlements": {"get-task-allow": True}}},
        {"inner_changes": {"DeveloperCertificates": [b"other"]}},
        {"signer": certificate_parts.DEVELOPER_ID},
        {"signer": certificate_parts.TIMESTAMP_SIGNER},
        {"inner_signer": certificate_parts.PROFILE_SIGNER},
    ],
    ids=str,
)
def test_a_bad_wish_makes_a_profile_that_is_not_authentic(
    authority: Authority, changes: dict[str, object]
) -> None:
    """An inner form that disagrees and a signer of another role are seen."""
    data = profiles.make(authority, wish(**changes))
    assert not provisioning_profile.read(data, trust=trust(authority)).authentic


def test_the_knobs_turn_what_they_say(authority: Authority) -> None:
    """Kind, platform, grants, wildcard, life and missing parts come out as wished."""

    def read(**changes: object) -> provisioning_profile.Profile:
        data = profiles.make(authority, wish(**changes))
        found = provisioning_profile.read(data, trust=trust(authority))
        assert found.authentic, found.authenticity
        return found

    assert read(kind="development").kind == "development"
    assert read(kind="app-store").kind == "app-store"
    assert read(platform="iOS", inner=False).platforms == ("iOS",)
    assert read(bundle_id="*").app_ids == (f"{TEAM}.*",)
    assert read(team_id="OTHERTEAM1").team_ids == ("OTHERTEAM1",)
    assert read(granted={"keychain-access-groups": None}).access_groups == ()
    assert read(inner=False).authentic
    assert read(without=("ExpirationDate",)).expires is None
    assert read(certificates=()).certificates == ()
    created = datetime.now(UTC) - timedelta(hours=20)
    assert read(created=created, life_days=0).expires == created.replace(microsecond=0)


def test_certificates_bear_apples_marks(authority: Authority) -> None:
    """Markers, their criticality, key types and lives are those of Apple's certificates."""
    leaf = authority.developer_id
    marker = leaf.extensions.get_extension_for_oid(
        x509.ObjectIdentifier("1.2.840.113635.100.6.1.13")
    )
    assert marker.critical
    organizational_unit = leaf.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert [item.value for item in organizational_unit] == [TEAM]
    for name, role in certificate_parts.ROLES.items():
        certificate = authority.certificate(name)
        key = certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey if role.key == "rsa" else ec.EllipticCurvePublicKey)
        certificate.verify_directly_issued_by(authority.certificate(role.issuer))
    stamp = authority.certificate(certificate_parts.TIMESTAMP_SIGNER)
    assert stamp.not_valid_after_utc - stamp.not_valid_before_utc == timedelta(days=41)


def test_an_authority_comes_back_from_disk(authority: Authority, tmp_path: Path) -> None:
    """Saved and loaded it is the same; its files are the owner's; another team's is refused."""
    folder = tmp_path / "authority"
    authority.save(folder)
    loaded = Authority.load(folder, TEAM)
    for name in certificate_parts.ROLES:
        assert loaded.certificate(name) == authority.certificate(name)
        assert stat.S_IMODE((folder / f"{name}.pem").stat().st_mode) == 0o600
    with pytest.raises(errors.FormatError):
        Authority.load(folder, "OTHERTEAM1")
    (folder / "root.pem").write_text("damaged")
    with pytest.raises(errors.FormatError):
        Authority.load(folder, TEAM)


def test_a_worn_out_timestamp_signer_is_replaced(tmp_path: Path) -> None:
    """After six weeks the rest of a state folder is still good."""
    old = Authority.create(TEAM, begins=datetime.now(UTC) - timedelta(days=60))
    old.save(tmp_path)
    loaded = Authority.load(tmp_path, TEAM)
    name = certificate_parts.TIMESTAMP_SIGNER
    assert loaded.certificate(name).not_valid_after_utc > datetime.now(UTC) + timedelta(days=30)
    loaded.certificate(name).verify_directly_issued_by(
        old.certificate(certificate_parts.TIMESTAMP_CA)
    )
    assert loaded.developer_id == old.developer_id


def test_an_authority_of_before_tickets_is_completed(authority: Authority, tmp_path: Path) -> None:
    """A folder without a ticket signer gets one under its own authority, and keeps it."""
    authority.save(tmp_path)
    path = tmp_path / "ticket-signer.pem"
    path.unlink()
    name = certificate_parts.TICKET_SIGNER
    first = Authority.load(tmp_path, TEAM)
    above = authority.certificate(certificate_parts.SYSTEM_INTEGRATION_CA)
    first.certificate(name).verify_directly_issued_by(above)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Authority.load(tmp_path, TEAM).certificate(name) == first.certificate(name)
    assert first.developer_id == authority.developer_id


@pytest.mark.parametrize("with_chain", [False, True])
def test_the_identity_opens_with_its_password_only(authority: Authority, with_chain: bool) -> None:
    """PKCS#12 with the leaf, and with its intermediate where that is wished."""
    data = authority.identity_p12("secret", with_chain=with_chain)
    key, leaf, more = pkcs12.load_key_and_certificates(data, b"secret")
    assert isinstance(key, rsa.RSAPrivateKey)
    assert leaf == authority.developer_id
    expected = [authority.certificate(certificate_parts.DEVELOPER_ID_CA)] if with_chain else []
    assert more == expected
    with pytest.raises(ValueError, match="password"):
        pkcs12.load_key_and_certificates(data, b"other")


def test_keys_are_in_no_repr(authority: Authority) -> None:
    """What may end in a log says nothing of a key."""
    party = authority._parties[certificate_parts.DEVELOPER_ID]
    assert "key" not in repr(party).lower()
