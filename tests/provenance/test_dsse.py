"""Envelopes: read by two other implementations, and refused where anything of them differs."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib import dsse as other_dsse
from securesystemslib.exceptions import VerificationError as OtherVerificationError
from securesystemslib.signer import SSlibKey

from release_tool import errors
from release_tool.provenance import dsse, keys
from tests.provenance import samples

TYPE = "application/vnd.in-toto+json"
OURS, OTHER = samples.key(), samples.key("other")


def test_the_encoding_that_is_signed_is_the_specifications() -> None:
    """The example of the DSSE specification, byte for byte."""
    signed = dsse.pae("http://example.com/HelloWorld", b"hello world")
    assert signed == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@given(st.binary(max_size=100))
def test_a_payload_comes_back_from_whom_it_is_expected(payload: bytes) -> None:
    """And the same payload gives the same envelope, so a repeat finds its own bytes."""
    sealed = dsse.seal(TYPE, payload, OURS)
    trusted = (OTHER.public, OURS.public)
    opened = dsse.unseal(sealed, payload_type=TYPE, trusted=trusted)
    assert opened == dsse.Opened(payload=payload, key=OURS.public)
    assert dsse.seal(TYPE, payload, OURS) == sealed


def test_another_implementation_verifies_the_envelope() -> None:
    """securesystemslib, with our key and not with another."""
    envelope = other_dsse.Envelope.from_dict(json.loads(dsse.seal(TYPE, b"{}", OURS)))
    mine = SSlibKey.from_crypto(ed25519.Ed25519PublicKey.from_public_bytes(OURS.public.raw))
    mine.keyid = OURS.public.keyid
    assert envelope.verify([mine], 1)
    theirs = SSlibKey.from_crypto(ed25519.Ed25519PublicKey.from_public_bytes(OTHER.public.raw))
    theirs.keyid = OURS.public.keyid
    with pytest.raises(OtherVerificationError):
        envelope.verify([theirs], 1)


def test_openssl_verifies_what_is_signed(tmp_path: Path) -> None:
    """Type and payload behind their lengths, the raw signature, and the key as it is pinned."""
    envelope = dsse.parse(dsse.seal(TYPE, b'{"a":1}', OURS))
    (tmp_path / "signed").write_bytes(dsse.pae(envelope.payload_type, envelope.payload))
    (tmp_path / "sig").write_bytes(envelope.signatures[0].sig)
    (tmp_path / "pub").write_text(OURS.public.pem)
    assert _openssl(tmp_path) == 0
    (tmp_path / "signed").write_bytes(dsse.pae(envelope.payload_type, b'{"a":2}'))
    assert _openssl(tmp_path) != 0


def _openssl(folder: Path) -> int:
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "pub", "-rawin"]
    done = subprocess.run([*command, "-in", "signed", "-sigfile", "sig"], cwd=folder, check=False)
    return done.returncode


def test_a_signature_does_not_serve_for_another_type() -> None:
    """A head of the log is no statement, whoever signed it."""
    whole = json.loads(dsse.seal("application/a", b"{}", OURS))
    with pytest.raises(errors.FormatError, match="something else"):
        dsse.unseal(json.dumps(whole).encode(), payload_type=TYPE, trusted=[OURS.public])
    whole["payloadType"] = TYPE
    with pytest.raises(errors.VerificationError, match="changed after it was signed"):
        dsse.unseal(json.dumps(whole).encode(), payload_type=TYPE, trusted=[OURS.public])


def test_another_key_is_told_from_an_edit() -> None:
    """Who verifies learns which of the two it was, and by whom."""
    sealed = dsse.seal(TYPE, b"{}", OTHER)
    with pytest.raises(errors.VerificationError, match="not signed by a trusted key") as caught:
        dsse.unseal(sealed, payload_type=TYPE, trusted=[OURS.public])
    assert OTHER.public.keyid in caught.value.observed
    edited = json.loads(sealed) | {"payload": base64.b64encode(b'{"a":1}').decode()}
    with pytest.raises(errors.VerificationError, match="changed after"):
        dsse.unseal(json.dumps(edited).encode(), payload_type=TYPE, trusted=[OTHER.public])


def test_a_key_id_alone_convinces_nobody() -> None:
    """It is the signer's word; and without any trusted key nothing is trusted."""
    whole = json.loads(dsse.seal(TYPE, b"{}", OTHER))
    whole["signatures"][0]["keyid"] = OURS.public.keyid
    for trusted in ([OURS.public], []):
        with pytest.raises(errors.VerificationError):
            dsse.unseal(json.dumps(whole).encode(), payload_type=TYPE, trusted=trusted)


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": 5}, {"payload": "!"}, {"payload": "é"}, {"payloadType": ""},
        {"payloadType": None}, {"payloadType": "é"}, {"signatures": []}, {"signatures": {}},
        {"signatures": [{"sig": "AA=="}] * 9}, {"signatures": ["a"]},
        {"signatures": [{"keyid": 1, "sig": "AA=="}]}, {"signatures": [{"keyid": ""}]},
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_refused(changes: dict[str, object]) -> None:
    """Each part is judged before anything is verified."""
    whole = json.loads(dsse.seal(TYPE, b"{}", OURS)) | changes
    with pytest.raises(errors.FormatError):
        dsse.parse(json.dumps(whole).encode())


def test_two_readers_never_see_two_envelopes() -> None:
    """A key that stands twice is refused: JSON readers differ in which one they take."""
    doubled = dsse.seal(TYPE, b"{}", OURS).replace(b'{"payload"', b'{"payload":"e30=","payload"')
    with pytest.raises(errors.FormatError, match="twice"):
        dsse.parse(doubled)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_an_envelope_or_a_format_error(content: bytes) -> None:
    """Whatever is served."""
    with contextlib.suppress(errors.FormatError):
        dsse.parse(content)


# Keys.


def test_a_public_key_is_read_in_both_spellings() -> None:
    """The line of release.yaml, and what openssl writes; both give the id of its SPKI."""
    public = OURS.public
    assert keys.parse(public.line) == keys.parse(public.pem) == public
    loaded = serialization.load_pem_public_key(public.pem.encode())
    der = loaded.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert der == public.spki
    assert public.line.startswith("MCowBQYDK2VwAyEA")


def test_other_keys_are_refused_without_a_word_of_them() -> None:
    """Another algorithm, an encrypted key, text: the error quotes nothing of a private key."""
    other = ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    plain = other.private_bytes(pem, pkcs8, serialization.NoEncryption())
    locked = other.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"x"))
    for content in (plain, locked, b"", b"-----BEGIN PRIVATE KEY-----", b"x" * 20_000):
        with pytest.raises(errors.FormatError) as caught:
            keys.load(content)
        assert caught.value.__cause__ is None
        assert content[40:80].decode() not in str(caught.value.as_json()) or not content[40:80]
    public = other.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    for text in (public.decode(), "", "MCowBQYDK2VwAyEA", "é" * 60, "x" * 20_000):
        with pytest.raises(errors.FormatError):
            keys.parse(text)


def test_a_signing_key_is_never_shown() -> None:
    """Its id is all that a log or a traceback may hold."""
    assert repr(OURS) == f"<signing key {OURS.public.keyid[:12]}>"
    with pytest.raises(TypeError):
        OURS.__reduce_ex__(2)
