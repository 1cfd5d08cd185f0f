"""The notary's door: which tokens open it, asked over a socket with tokens that PyJWT made."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests import signed_release
from tests.rehearsal import notary_client
from tests.rehearsal.notary_client import ISSUER, KEY_ID, Notarization

Make = Callable[[Notarization], str]


@pytest.fixture(scope="module")
def notary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notarization]:
    folder = tmp_path_factory.mktemp("notary")
    with notary_client.running(folder, signed_release.look_alike()) as found:
        yield found


def now() -> int:
    return int(time.time())


def with_der_signature(notary: Notarization) -> str:
    """What a signer gives that forgets to take r and s out of their DER."""
    signed = notary.token().rpartition(".")[0]
    signature = notary.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def with_hmac(notary: Notarization) -> str:
    """Another algorithm, which a careless verifier would believe."""
    claims = {"iss": ISSUER, "iat": now(), "exp": now() + 60, "aud": "appstoreconnect-v1"}
    return jwt.encode(claims, "s" * 32, "HS256", {"kid": KEY_ID})


def with_changed_claims(notary: Notarization) -> str:
    head, _, signature = notary.token().split(".")
    _, claims, _ = notary.token(exp=now() + 599).split(".")
    return f"{head}.{claims}.{signature}"


GOOD: dict[str, Make] = {
    "usual": lambda notary: notary.token(),
    "twenty minutes": lambda notary: notary.token(iat=now(), exp=now() + 1200),
    "a clock ahead": lambda notary: notary.token(iat=now() + 30, exp=now() + 600),
    "whole API as scope": lambda notary: notary.token(scope=["/notary/v2"]),
    "this request as scope": lambda notary: notary.token(scope=["GET /notary/v2/submissions"]),
}
BAD: dict[str, Make] = {
    "nothing": lambda _: "",
    "no token": lambda _: "abc",
    "a DER signature": with_der_signature,
    "another key": lambda notary: notary.token(key=ec.generate_private_key(ec.SECP256R1())),
    "another algorithm": with_hmac,
    "no signature": lambda notary: notary.token().rpartition(".")[0] + ".",
    "changed claims": with_changed_claims,
    "another kid": lambda notary: notary.token(headers={"kid": "OTHERKEY00"}),
    "another typ": lambda notary: notary.token(headers={"typ": "JOSE"}),
    "another issuer": lambda notary: notary.token(iss="nobody"),
    "another audience": lambda notary: notary.token(aud="appstoreconnect-v2"),
    "no audience": lambda notary: notary.token(aud=None),
    "no exp": lambda notary: notary.token(exp=None),
    "no iat": lambda notary: notary.token(iat=None),
    "a text as iat": lambda notary: notary.token(iat="now"),
    "more than twenty minutes": lambda notary: notary.token(iat=now(), exp=now() + 1201),
    "expired": lambda notary: notary.token(iat=now() - 600, exp=now() - 1),
    "of the future": lambda notary: notary.token(iat=now() + 300, exp=now() + 900),
    "another scope": lambda notary: notary.token(scope=["POST /notary/v2/submissions"]),
    "an empty scope": lambda notary: notary.token(scope=[]),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_token_opens(notary: Notarization, name: str) -> None:
    """Apple's bounds are reached, and both spellings of a scope are known."""
    assert notary.ask("GET", token=GOOD[name](notary)).status == 200


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_does_not(notary: Notarization, name: str) -> None:
    """Whatever is wrong, the answer is the same 401 and does not say what."""
    answer = notary.ask("GET", token=BAD[name](notary))
    assert (answer.status, answer.code) == (401, "NOT_AUTHORIZED")
    error = answer.json["errors"][0]
    assert set(error) == {"id", "status", "code", "title", "detail"}
    assert error["status"] == "401"


def test_a_token_may_serve_twice(notary: Notarization) -> None:
    """It is bound to a time and not to one request."""
    token = notary.token()
    assert [notary.ask("GET", token=token).status for _ in range(2)] == [200, 200]
