"""Pinned authorities and the rules of chains, each broken alone."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import certificates

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
YEAR = timedelta(days=365)
MARKER = x509.UnrecognizedExtension(
    x509.ObjectIdentifier(certificates.DEVELOPER_ID_APPLICATION), b"\x05\x00"
)
CA_MARKER = x509.UnrecognizedExtension(
    x509.ObjectIdentifier(certificates.DEVELOPER_ID_CA), b"\x05\x00"
)
CRITICAL = True


@lru_cache
def _key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _usage(*, sign: bool, issue: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        key_cert_sign=issue,
        crl_sign=issue,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


AUTHORITY: tuple[tuple[x509.ExtensionType, bool], ...] = (
    (x509.BasicConstraints(ca=True, path_length=None), CRITICAL),
    (_usage(sign=False, issue=True), CRITICAL),
)
LEAF: tuple[tuple[x509.ExtensionType, bool], ...] = (
    (x509.BasicConstraints(ca=False, path_length=None), CRITICAL),
    (_usage(sign=True, issue=False), CRITICAL),
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), CRITICAL),
    (MARKER, CRITICAL),
)


def make(
    name: str,
    issuer: str,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...],
    *,
    begins: datetime = NOW - YEAR,
    ends: datetime = NOW + YEAR,
    signed_by: str = "",
) -> certificates.Certificate:
    """A certificate by names; keys go with names."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(_key(name).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    built = builder.sign(_key(signed_by or issuer), hashes.SHA256())
    return certificates.load(built.public_bytes(serialization.Encoding.DER))


def _name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "SLDQ2GJ6TL"),
        ]
    )


ROOT = make("root", "root", AUTHORITY)
MIDDLE = make("middle", "root", (*AUTHORITY, (CA_MARKER, False)))
GOOD = make("leaf", "middle", LEAF)
TRUST = certificates.Trust(name="test", roots=(ROOT,))


def _chain(
    leaf: certificates.Certificate,
    pool: tuple[certificates.Certificate, ...] = (MIDDLE,),
    at: datetime = NOW,
    trust: certificates.Trust = TRUST,
) -> tuple[certificates.Certificate, ...]:
    return certificates.build_chain(
        leaf,
        pool,
        trust=trust,
        at=at,
        required_leaf_marker=certificates.DEVELOPER_ID_APPLICATION,
        required_issuer_marker=certificates.DEVELOPER_ID_CA,
        required_purpose=certificates.CODE_SIGNING,
    )


def _refused(leaf: certificates.Certificate, *reasons: str, **options: object) -> None:
    with pytest.raises(errors.VerificationError) as caught:
        _chain(leaf, **options)  # type: ignore[arg-type]
    text = "\n".join(caught.value.lines())
    for reason in reasons:
        assert reason in text


def test_a_good_chain_is_found_in_any_order_with_surplus() -> None:
    """The chain is found among surplus certificates in any order, and needs no root in the pool."""
    surplus = make("stranger", "stranger", AUTHORITY)
    assert _chain(GOOD, (surplus, GOOD, ROOT, MIDDLE)) == (GOOD, MIDDLE, ROOT)
    assert _chain(GOOD) == (GOOD, MIDDLE, ROOT)


def test_a_look_alike_of_the_intermediate_does_no_harm() -> None:
    """A certificate of the intermediate's name with another key is tried and passed over."""
    fake = make("middle", "root", (*AUTHORITY, (CA_MARKER, False)), signed_by="evil")
    assert _chain(GOOD, (fake, MIDDLE)) == (GOOD, MIDDLE, ROOT)


def test_an_unknown_root_is_refused() -> None:
    """A root that nobody trusts ends the chain, even when it comes along."""
    other = certificates.Trust(name="other", roots=(make("other", "other", AUTHORITY),))
    _refused(GOOD, "signed itself and is not trusted", pool=(MIDDLE, ROOT), trust=other)
    _refused(GOOD, "no certificate for the issuer 'root'", pool=(MIDDLE,), trust=other)


def test_a_root_of_the_same_name_is_refused() -> None:
    """Trust goes by the certificate, not by its name."""
    twin = make("root", "root", AUTHORITY, begins=NOW - 2 * YEAR, signed_by="evil")
    leaf = make("leaf", "root", LEAF, signed_by="evil")
    _refused(leaf, "was not signed by root", pool=(twin,))


@pytest.mark.parametrize(
    ("at", "reason"),
    [(NOW + 2 * YEAR, "expired"), (NOW - 2 * YEAR, "valid from")],
)
def test_the_time_that_counts_is_the_given_one(at: datetime, reason: str) -> None:
    """The chain is judged at the moment asked for, not now."""
    _refused(GOOD, reason, at=at)


def test_one_expired_authority_is_enough() -> None:
    """The intermediate must have been valid too."""
    old = make("middle", "root", (*AUTHORITY, (CA_MARKER, False)), ends=NOW - timedelta(days=1))
    _refused(GOOD, "middle expired", pool=(old,))


def test_a_leaf_cannot_issue() -> None:
    """A certificate without the authority constraint issues nothing."""
    forged = make("forged", "leaf", LEAF)
    _refused(forged, "leaf is no certificate authority", pool=(GOOD, MIDDLE))


def test_an_authority_without_constraints_cannot_issue() -> None:
    """No basic constraints means no authority; key usage must allow it too."""
    for extensions in (
        ((CA_MARKER, False),),
        (AUTHORITY[0], (_usage(sign=True, issue=False), CRITICAL), (CA_MARKER, False)),
    ):
        middle = make("middle", "root", extensions)
        _refused(GOOD, "middle is no certificate authority", pool=(middle,))


def test_the_path_length_counts_authorities_below() -> None:
    """An authority that allows none below it cannot have one below it."""
    narrow = (x509.BasicConstraints(ca=True, path_length=0), CRITICAL)
    top = make("top", "root", (narrow, AUTHORITY[1]))
    middle = make("middle", "top", (*AUTHORITY, (CA_MARKER, False)))
    _refused(GOOD, "top allows 0 authorities below it", pool=(middle, top))
    just = make("middle", "root", (narrow, AUTHORITY[1], (CA_MARKER, False)))
    assert _chain(GOOD, (just,))[1] == just


def test_unknown_critical_extensions_refuse() -> None:
    """Name constraints and strangers are not understood, hence refused; Apple's marker is."""
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    _refused(make("leaf", "middle", (*LEAF, (strange, CRITICAL))), "not understood: 1.2.3.4")
    assert _chain(make("leaf", "middle", (*LEAF, (strange, False))))
    limits = x509.NameConstraints([x509.DNSName("example.org")], None)
    middle = make("middle", "root", (*AUTHORITY, (CA_MARKER, False), (limits, CRITICAL)))
    _refused(GOOD, "not understood: 2.5.29.30", pool=(middle,))


def test_markers_and_purposes_are_required() -> None:
    """Without its marker, its purpose or its issuer's marker a leaf is not what it claims."""
    _refused(make("leaf", "middle", LEAF[:3]), "lacks the marker")
    _refused(make("leaf", "middle", (*LEAF[:2], LEAF[3])), "lacks the extended key usage")
    _refused(GOOD, "lacks the marker", pool=(make("middle", "root", AUTHORITY),))
    encrypt = (LEAF[0], (_usage(sign=False, issue=False), CRITICAL), *LEAF[2:])
    _refused(make("leaf", "middle", encrypt), "may not sign")


def test_a_named_root_is_required() -> None:
    """Where a format names one root, another trusted root does not serve."""
    with pytest.raises(errors.VerificationError, match="no chain"):
        certificates.build_chain(
            GOOD, (MIDDLE,), trust=TRUST, at=NOW, required_root=certificates.APPLE_ROOT_CA_G3
        )


def test_many_certificates_of_one_name_end_in_bounded_time() -> None:
    """A pool of look-alikes costs a bounded number of signature checks."""
    fakes = tuple(
        make("middle", "middle", (*AUTHORITY, (CA_MARKER, False)), signed_by="evil")
        for _ in range(60)
    )
    _refused(GOOD, "no chain", pool=fakes)
    with pytest.raises(errors.FormatError, match="more than"):
        _chain(GOOD, fakes * 2)


def test_sha1_is_allowed_for_pinned_authorities_only() -> None:
    """Apple's two SHA-1 authorities stand; anybody else's SHA-1 certificate does not."""
    trust = certificates.apple_trust()
    for authority in certificates.intermediates():
        if authority.signature_algorithm != "1.2.840.113549.1.1.5":
            continue
        chain = certificates.build_chain(authority, (), trust=trust, at=authority.not_before)
        assert certificates.fingerprint(chain[-1]) == certificates.APPLE_ROOT_CA


def test_somebody_elses_sha1_certificate_is_refused(tmp_path: Path) -> None:
    """A SHA-1 certificate that OpenSSL makes is refused although its signature holds."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")

    def _run(*arguments: str) -> None:
        subprocess.run(
            [program, *arguments], cwd=tmp_path, check=True, capture_output=True, timeout=60
        )

    _run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
         "-subj", "/CN=sha1 root", "-days", "30")  # fmt: skip
    _run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-out", "r.csr",
         "-subj", "/CN=sha1 leaf")  # fmt: skip
    _run("x509", "-req", "-sha1", "-in", "r.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
         "-out", "leaf.der", "-outform", "DER", "-days", "30")  # fmt: skip
    _run("x509", "-in", "ca.pem", "-out", "ca.der", "-outform", "DER")
    leaf = certificates.load((tmp_path / "leaf.der").read_bytes())
    root = certificates.load((tmp_path / "ca.der").read_bytes())
    trust = certificates.Trust(name="sha1", roots=(root,))
    with pytest.raises(errors.VerificationError) as caught:
        certificates.build_chain(leaf, (), trust=trust, at=leaf.not_before)
    assert "signed with SHA-1" in "\n".join(caught.value.lines())


def test_the_shipped_authorities_are_those_of_the_table() -> None:
    """Each shipped certificate has its pinned fingerprint and chains to its root, as found."""
    roots = certificates.apple_trust().roots
    assert [certificates.fingerprint(root) for root in roots] == [
        certificates.APPLE_ROOT_CA,
        certificates.APPLE_ROOT_CA_G3,
    ]
    shipped = {certificates.fingerprint(item): item for item in certificates.intermediates()}
    markers = {
        certificates.DEVELOPER_ID_CA: ("7afc9d01a62f", "f16cd3c54c7f"),
        certificates.DEVELOPER_RELATIONS_CA: ("53fd008278e5", "ce057691d730"),
        certificates.TIMESTAMP_CA: ("66285e2e374d",),
        certificates.SYSTEM_INTEGRATION_CA_4: ("7da79ba48b1c",),
    }
    for marker, prefixes in markers.items():
        found = {sha256[:12] for sha256, item in shipped.items() if item.extension(marker)}
        assert found == set(prefixes)


def test_a_swapped_shipped_certificate_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not the pinned certificate is refused on load."""
    swapped = MIDDLE.der
    monkeypatch.setattr("pkgutil.get_data", lambda *_names: swapped)
    certificates.apple_trust.cache_clear()
    try:
        with pytest.raises(errors.VerificationError, match="not the one that is pinned"):
            certificates.apple_trust()
    finally:
        certificates.apple_trust.cache_clear()


def test_fields_agree_with_cryptography() -> None:
    """Our reading of Apple's certificates is that of an independent parser."""
    for ours in (*certificates.apple_trust().roots, *certificates.intermediates(), GOOD):
        theirs = x509.load_der_x509_certificate(ours.der)
        assert ours.serial == theirs.serial_number
        assert ours.not_before == theirs.not_valid_before_utc
        assert ours.not_after == theirs.not_valid_after_utc
        assert ours.subject == theirs.subject.public_bytes()
        assert ours.signed_part == theirs.tbs_certificate_bytes
        assert certificates.fingerprint(ours) == theirs.fingerprint(hashes.SHA256()).hex()
        assert [(item.oid, item.critical) for item in ours.extensions] == [
            (item.oid.dotted_string, item.critical) for item in theirs.extensions
        ]
        names = theirs.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert certificates.common_name(ours) == names[0].value
        limits = theirs.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert certificates.authority_limits(ours) == (limits.ca, limits.path_length)


def test_two_units_are_no_unit() -> None:
    """A team that could be read in two ways is none."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in ("AAA", "BBB")]
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + YEAR)
        .sign(key, hashes.SHA256())
    )
    loaded = certificates.load(built.public_bytes(serialization.Encoding.DER))
    assert certificates.organizational_unit(loaded) is None
    assert certificates.organizational_unit(GOOD) == "SLDQ2GJ6TL"


@given(st.data())
def test_a_damaged_certificate_never_chains(draw: st.DataObject) -> None:
    """Any changed bit of a certificate's bytes is refused: the leaf's or the intermediate's."""
    victim = draw.draw(st.sampled_from((GOOD, MIDDLE)))
    changed = bytearray(victim.der)
    changed[draw.draw(st.integers(0, len(changed) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    with contextlib.suppress(errors.VerificationError):
        loaded = certificates.load(bytes(changed))
        chain = _chain(loaded) if victim is GOOD else _chain(GOOD, (loaded,))
        assert _outside_the_signature(victim.der, bytes(changed)), chain


def _outside_the_signature(before: bytes, after: bytes) -> bool:
    """The outermost header may be written otherwise; ECDSA's two numbers may not."""
    index = next(i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
    return index < 4
