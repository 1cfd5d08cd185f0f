"""Tokens for the notary: ES256 with raw signatures, minutes of life, and keys that are none."""

from __future__ import annotations

import base64
import json
import traceback

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from release_tool import errors
from release_tool.services.notary_token import APIKey

KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = "57246542-96fe-1a63-e053-0824d011072a"
NOW = 1_790_000_000.0


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes = b"") -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


def api_key(p8: bytes | None = None, key_id: str = "2X9R4HXF34", issuer: str = ISSUER) -> APIKey:
    return APIKey(
        private_key=lambda: pem(KEY) if p8 is None else p8,
        key_id=lambda: key_id,
        issuer_id=lambda: issuer,
        clock=lambda: NOW,
    )


def _part(token: str, at: int) -> bytes:
    part = token.split(".")[at]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_token_is_what_apple_describes() -> None:
    """Header and claims by name; ten minutes are never reached; the scope is the notary's."""
    token = api_key().token()
    assert json.loads(_part(token, 0)) == {"alg": "ES256", "kid": "2X9R4HXF34", "typ": "JWT"}
    claims = json.loads(_part(token, 1))
    assert claims["iss"] == ISSUER
    assert claims["aud"] == "appstoreconnect-v1"
    assert claims["scope"] == ["/notary/v2"]
    assert claims["iat"] <= NOW < claims["exp"]
    assert claims["exp"] - claims["iat"] <= 600
    assert set(claims) == {"iss", "iat", "exp", "aud", "scope"}


def test_the_signature_is_raw_and_verifies() -> None:
    """64 bytes r and s as RFC 7518 says, not DER; cryptography verifies them by itself."""
    token = api_key().token()
    signature = _part(token, 2)
    assert len(signature) == 64
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    signed = token.rpartition(".")[0].encode()
    KEY.public_key().verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    jwt.decode(
        token,
        KEY.public_key(),
        algorithms=["ES256"],
        audience="appstoreconnect-v1",
        options={"verify_exp": False, "verify_iat": False},
    )


def test_each_token_is_another() -> None:
    """Nothing is kept: a second token carries a fresh signature."""
    maker = api_key()
    assert maker.token() != maker.token()


@pytest.mark.parametrize(
    ("key", "observed"),
    [
        (api_key(p8=b"hunter2"), "cannot be read"),
        (api_key(p8=b""), "cannot be read"),
        (api_key(p8=pem(KEY, b"hunter2")), "password"),
        (api_key(p8=pem(ec.generate_private_key(ec.SECP384R1()))), "another kind"),
        (api_key(p8=pem(rsa.generate_private_key(65537, 2048))), "another kind"),
        (api_key(key_id="hunter2 hunter2"), "15 other characters"),
        (api_key(issuer="hunter2"), "7 other characters"),
        (api_key(issuer=""), "0 other characters"),
    ],
)
def test_a_key_that_is_none_is_exit_4_without_its_content(key: APIKey, observed: str) -> None:
    """The part at fault is named and its value is nowhere, in a traceback neither."""
    with pytest.raises(errors.CredentialError) as caught:
        key.token()
    assert observed in caught.value.observed
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in repr(key)
