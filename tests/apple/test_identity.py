"""Signing identities from PKCS#12 and PEM; wrong passwords told from unreadable files."""

from __future__ import annotations

import contextlib
import hashlib
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12 as library
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import certificates, identity, pkcs12
from tests import signing_identity
from tests.signing_identity import NOW, TEAM

PASSWORD = "correct horse"
AUTHORITY = signing_identity.authority()
P12 = AUTHORITY.p12(PASSWORD.encode())


def test_pkcs12_gives_key_leaf_and_chain() -> None:
    """The chain goes from the leaf's issuer to the root, and the key signs for the leaf."""
    found = identity.load(P12, PASSWORD)
    assert found.leaf.der == AUTHORITY.leaf.der
    assert [item.der for item in found.chain] == [AUTHORITY.developer_id.der, AUTHORITY.root.der]
    assert found.team_id == TEAM
    digest = hashlib.sha256(b"message").digest()
    public = AUTHORITY.leaf.key.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(found.sign(digest), b"message", padding.PKCS1v15(), hashes.SHA256())


def test_pem_in_any_order_gives_the_same() -> None:
    """The leaf is the certificate of the key, wherever it stands."""
    blocks = AUTHORITY.root.pem + AUTHORITY.pem() + AUTHORITY.developer_id.pem
    assert identity.load(blocks).leaf == identity.load(P12, PASSWORD).leaf


def test_an_elliptic_key_signs() -> None:
    """ECDSA over the digest."""
    found = AUTHORITY.identity(elliptic=True)
    public = AUTHORITY.elliptic_leaf.key.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    signature = found.sign(hashlib.sha256(b"message").digest())
    public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


def test_no_secret_shows() -> None:
    """Neither repr nor error holds the password or the key."""
    found = identity.load(P12, PASSWORD)
    private = AUTHORITY.leaf.key.private_numbers()
    assert isinstance(private, rsa.RSAPrivateNumbers)
    assert str(private.d) not in repr(found)
    assert "_key" not in repr(found)
    assert str(private.d) not in repr(found.signer)
    with pytest.raises(errors.CredentialError) as caught:
        identity.load(P12, "secret-and-wrong")
    assert "secret-and-wrong" not in repr(caught.value) + "".join(caught.value.lines())
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("password", ["wrong", "", None, "correct horsf", "\udcff"])
def test_a_wrong_password_is_named(password: str | None) -> None:
    """The MAC tells that the password is wrong, not the algorithm."""
    with pytest.raises(errors.CredentialError, match="password"):
        identity.load(P12, password)


def test_the_mac_holds_for_the_right_password_only() -> None:
    """Our own derivation agrees with the library that wrote the file."""
    outer = pkcs12.read(P12)
    assert pkcs12.password_holds(outer, PASSWORD) is True
    assert pkcs12.password_holds(outer, "wrong") is False
    assert any("AES" in name for name in outer.algorithms)
    unprotected = pkcs12.read(AUTHORITY.p12(b""))
    assert unprotected.algorithms == ()


def test_a_file_without_password_opens() -> None:
    """Both spellings of no password."""
    for password in ("", None):
        assert identity.load(AUTHORITY.p12(b""), password).team_id == TEAM


def test_a_missing_chain_is_left_open() -> None:
    """A lone leaf of a look-alike has no known issuer; Apple's would be found here."""
    assert identity.load(AUTHORITY.p12(b"", whole_chain=False)).chain == ()


def test_apples_chain_is_added() -> None:
    """The intermediate alone leads to the root that is shipped with it."""
    (developer_id,) = (
        item
        for item in certificates.intermediates()
        if certificates.common_name(item) == "Developer ID Certification Authority"
        and "G2" not in (certificates.organizational_unit(item) or "")
    )
    above = list(identity._chain(developer_id, []))
    assert [certificates.common_name(item) for item in above] == ["Apple Root CA"]


def test_an_unreadable_algorithm_is_told_from_a_wrong_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the library gives up although the MAC holds, the algorithm is at fault."""

    def give_up(*_: object) -> None:
        raise ValueError("Invalid password or PKCS12 data")

    monkeypatch.setattr(library, "load_pkcs12", give_up)
    with pytest.raises(errors.CredentialError, match="its password is right") as caught:
        identity.load(P12, PASSWORD)
    assert "AES" in caught.value.observed
    with pytest.raises(errors.CredentialError, match="is wrong"):
        identity.load(P12, "other")


def test_encrypted_pem_needs_its_password() -> None:
    """Without a password, with a wrong one, and with the right one."""
    block = AUTHORITY.leaf.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSWORD.encode()),
    )
    for password in (None, "wrong"):
        with pytest.raises(errors.CredentialError, match="password"):
            identity.load(block + AUTHORITY.leaf.pem, password)
    assert identity.load(block + AUTHORITY.leaf.pem, PASSWORD).team_id == TEAM


def test_what_cannot_sign_is_refused() -> None:
    """No key, a key of another certificate, a key of another kind."""
    with pytest.raises(errors.CredentialError, match="no private key"):
        identity.load(AUTHORITY.leaf.pem)
    other = AUTHORITY.pem().replace(AUTHORITY.leaf.pem, b"")
    with pytest.raises(errors.CredentialError, match="no certificate for its key"):
        identity.load(other)
    odd = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(errors.CredentialError, match="neither RSA nor EC"):
        identity.load(odd + AUTHORITY.leaf.pem)


def test_an_expired_certificate_is_refused() -> None:
    """The time is the caller's."""
    found = AUTHORITY.identity()
    found.require_valid(NOW)
    with pytest.raises(errors.CredentialError, match="not valid now"):
        found.require_valid(NOW + timedelta(days=400))


@given(st.integers(0, len(P12) - 1))
@settings(max_examples=40)
def test_a_truncated_file_is_a_clear_error(end: int) -> None:
    """Cut anywhere it is refused as neither PKCS#12 nor PEM."""
    with pytest.raises(errors.FormatError):
        identity.load(P12[:end], PASSWORD)


@given(st.integers(0, len(P12) - 1), st.binary(min_size=1, max_size=6))
@settings(max_examples=60)
def test_noise_never_escapes(start: int, noise: bytes) -> None:
    """Changed anywhere, it opens or is refused with one of our errors."""
    data = bytearray(P12)
    data[start : start + len(noise)] = noise
    with contextlib.suppress(errors.FormatError, errors.CredentialError):
        identity.load(bytes(data), PASSWORD)
