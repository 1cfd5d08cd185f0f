"""Real profiles and tickets, and what we make ourselves, in the eyes of independent readers."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import lief
import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import (
    certificates,
    cms,
    der,
    der_dictionary,
    entitlements,
    inner_profile,
    macho,
    property_list,
    signing,
    superblob,
    ticket,
    timestamp_token,
)
from tests import macho_samples, signed_release, signing_identity
from tests.oracles import openssl, readers

ROOTS = list(certificates.apple_trust().roots)
BOTH = frozenset(("sha1", "sha256"))
PROFILES = 8
"""Of the nine files one is no CMS."""


@pytest.fixture(scope="module")
def profiles(real_data: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted((real_data / "profiles").iterdir()):
        data = path.read_bytes()
        try:
            cms.parse(data)
        except errors.FormatError:
            continue
        found[path.name] = data
    assert len(found) == PROFILES
    return found


def test_openssl_verifies_the_profiles(profiles: dict[str, bytes], tmp_path: Path) -> None:
    """Seven are Apple's and one is nobody's, by both; a changed byte of the content is seen.

    No critical extension of Apple's stands in profile signers, so OpenSSL needs no leave.
    """
    for name, data in profiles.items():
        holds, _ = openssl.verify_cms(tmp_path, data, roots=ROOTS)
        assert holds is not name.startswith("forged"), name
        proof = cms.verify(cms.parse(data), content=None, allowed_digests=BOTH)
        if holds:
            assert (tmp_path / "content.out").read_bytes() == proof.content
        at = data.index(proof.content[:64]) + 40
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert not openssl.verify_cms(tmp_path, changed, roots=ROOTS)[0]
        with pytest.raises(errors.VerificationError):
            cms.verify(cms.parse(changed), content=None, allowed_digests=BOTH)


def test_openssl_verifies_the_inner_profiles(profiles: dict[str, bytes], tmp_path: Path) -> None:
    """ECDSA under the other root: both accept each that a profile carries."""
    count = 0
    for data in profiles.values():
        values = property_list.parse(cms.parse(data).content or b"")
        inner = values.get("DER-Encoded-Profile")
        if not isinstance(inner, bytes):
            continue
        count += 1
        inner_profile.read(inner, trust=certificates.apple_trust())
        holds, told = openssl.verify_cms(tmp_path, inner, roots=ROOTS)
        assert holds, told
        readers.asn1crypto_agrees(inner)
    assert count == 3


def test_asn1crypto_reads_the_profiles(profiles: dict[str, bytes]) -> None:
    """Attributes in order, certificates, algorithms, times; of the forged one too."""
    for data in profiles.values():
        readers.asn1crypto_agrees(data)


def test_asn1crypto_reads_what_inner_profiles_grant(profiles: dict[str, bytes]) -> None:
    """Apple's own DER: the entitlements that stand in the outer property list, no more."""
    count = 0
    for data in profiles.values():
        values = property_list.parse(cms.parse(data).content or b"")
        inner = values.get("DER-Encoded-Profile")
        if not isinstance(inner, bytes):
            continue
        count += 1
        pairs = map(der.as_sequence, der.as_set(der.parse(cms.parse(inner).content or b"")))
        granted = next(value.raw for key, value in pairs if der.as_text(key) == "Entitlements")
        assert readers.entitlements_by_asn1crypto(granted) == values["Entitlements"]
    assert count == 3


_KEYS = st.text("abc.-\u00e9", min_size=1, max_size=9)
_VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_asn1crypto_reads_the_entitlements_that_we_write(claims: dict[str, object]) -> None:
    """Any claims, in the form of today and in that of 2020."""
    assert readers.entitlements_by_asn1crypto(entitlements.encode_der(claims)) == claims
    old = der_dictionary.encode(der_dictionary.Document(claims, "2020"))
    assert readers.entitlements_by_asn1crypto(old) == claims


def test_openssl_verifies_the_tickets(real_data: Path, tmp_path: Path) -> None:
    """Signature and chain of both real tickets at their own time; asn1crypto reads the chain."""
    paths = sorted((real_data / "tickets").iterdir())
    assert len(paths) == 2
    for path in paths:
        found = ticket.parse(path.read_bytes())
        leaf = ticket.verify(found, trust=certificates.apple_trust())
        message = ticket.signed_part(found)
        assert openssl.verify_signature(tmp_path, leaf, message, found.signature)
        other = message[:-1] + bytes([message[-1] ^ 1])
        assert not openssl.verify_signature(tmp_path, leaf, other, found.signature)
        chain = [certificates.load(item) for item in found.chain]
        holds, told = openssl.verify_chain(tmp_path, chain, roots=ROOTS, at=found.issued)
        assert holds, told
        assert not openssl.verify_chain(
            tmp_path, chain, roots=ROOTS, at=datetime(2015, 1, 1, tzinfo=UTC)
        )[0]
        for item in found.chain:
            readers.asn1crypto_reads_certificate(item)


def test_independent_readers_read_apples_certificates() -> None:
    """Every root and intermediate that is pinned here."""
    found = [*ROOTS, *certificates.intermediates()]
    assert len(found) >= 9
    for item in found:
        readers.asn1crypto_reads_certificate(item.der)


def test_what_we_sign_is_read_and_verified_by_all(tmp_path: Path) -> None:
    """Our signature with its token, in OpenSSL, rfc3161-client, asn1crypto and LIEF."""
    authority = signed_release.signing_authority()
    roots = list(signed_release.trust().roots)
    made = signing.sign(macho_samples.thin(), signing.Intent(identifier="io.example"), authority)
    assert readers.lief_agrees(made.data) == 1
    (code,) = macho.parse(made.data)
    assert code.signature_bytes is not None
    blob = superblob.parse(code.signature_bytes)
    wrapped = superblob.unwrap(blob.get(superblob.SLOT_CMS) or b"", superblob.MAGIC_WRAPPER)
    directory = blob.get(superblob.SLOT_CODE_DIRECTORY)
    holds, told = openssl.verify_cms(
        tmp_path, wrapped, roots=roots, content=directory, ignore_critical=True
    )
    assert holds, told
    readers.asn1crypto_agrees(wrapped)
    (signer,) = cms.parse(wrapped).signers
    token = signer.unsigned[cms.TIMESTAMP_TOKEN][0].raw
    ours = timestamp_token.verify(
        token, signed_octets=signer.signature, trust=signed_release.trust()
    )
    assert openssl.verify_token(tmp_path, token, signer.signature, roots=roots, at=ours.gen_time)
    assert readers.time_by_asn1crypto(token) == ours.gen_time
    found = readers.rfc3161_verifies(readers.sorted_certificates(token), signer.signature, roots)
    assert found.tst_info.gen_time == ours.gen_time


@pytest.mark.parametrize(
    "data",
    [
        macho_samples.thin(),
        macho_samples.thin(macho_samples.INTEL),
        macho_samples.unsigned(),
        macho_samples.universal(),
    ],
    ids=["arm64", "x86_64", "unsigned", "universal"],
)
def test_lief_reads_our_samples(data: bytes) -> None:
    """Thin and universal, signed and not."""
    assert readers.lief_agrees(data) > 0


def test_lief_does_not_read_64_bit_universal_headers() -> None:
    """It does not know the magic; the slices behind it are the ones that it reads elsewhere."""
    data = macho_samples.universal(wide=True)
    assert lief.MachO.parse(io.BytesIO(data)) is None
    assert len(macho.parse(data)) == 2


def test_openssl_reads_our_identities(tmp_path: Path) -> None:
    """The PKCS#12 that we read is the one that OpenSSL reads: same certificate, same key."""
    data = signing_identity.authority().p12(b"secret")
    (tmp_path / "p12").write_bytes(data)
    done = openssl.run(
        *("pkcs12", "-in", tmp_path / "p12", "-passin", "pass:secret", "-nodes", "-clcerts")
    )
    assert done.returncode == 0, done.stderr.decode()
    (tmp_path / "pem").write_bytes(done.stdout)
    leaf = openssl.run("x509", "-in", tmp_path / "pem", "-outform", "DER")
    assert leaf.stdout == signing_identity.authority().leaf.der
