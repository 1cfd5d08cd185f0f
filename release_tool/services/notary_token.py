"""Tokens for App Store Connect's interfaces; the only importer of PyJWT.

Source: Apple's "Generating tokens for API requests": ES256, the key's id in the header, at most
twenty minutes of life. One token is minted for each request: a token that is kept ends in 401
amid a long wait, and one that lives for minutes is worth little to a thief.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from release_tool import errors

AUDIENCE = "appstoreconnect-v1"
SCOPE = ("/notary/v2",)
"""What the token may be used for; Apple's article on the notary's interface names it so."""
LIFETIME_SECONDS = 300
# Clocks differ: a token from the future is refused, one from a minute ago is not.
_BACKDATED_SECONDS = 60
_KEY_ID = re.compile(r"[A-Za-z0-9]{4,64}")
_ISSUER = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a token is made with."""

    issuer_id: str = field(repr=False)
    key_id: str = field(repr=False)
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class APIKey:
    """An App Store Connect key of a team. Each part is asked for when a token is minted."""

    private_key: Callable[[], bytes] = field(repr=False)
    """The .p8 file: PKCS#8 in PEM."""
    key_id: Callable[[], str] = field(repr=False)
    issuer_id: Callable[[], str] = field(repr=False)
    clock: Callable[[], float] = time.time

    def token(self) -> str:
        """Mint a token for one request.

        Raises:
            CredentialError: a part of the key cannot be what it is named.
        """
        parts = self.parts()
        now = int(self.clock())
        claims = {
            "iss": parts.issuer_id,
            "iat": now - _BACKDATED_SECONDS,
            "exp": now + LIFETIME_SECONDS,
            "aud": AUDIENCE,
            "scope": list(SCOPE),
        }
        return jwt.encode(
            claims, parts.private_key, algorithm="ES256", headers={"kid": parts.key_id}
        )

    def parts(self) -> Parts:
        """Read the key; nothing is signed.

        Raises:
            CredentialError: a part cannot be what it is named.
        """
        return Parts(
            issuer_id=_matching(_ISSUER, self.issuer_id(), "APPLE_API_ISSUER_ID", "a UUID"),
            key_id=_matching(_KEY_ID, self.key_id(), "APPLE_API_KEY_ID", "letters and digits"),
            private_key=_load(self.private_key()),
        )


def _matching(pattern: re.Pattern[str], value: str, name: str, expected: str) -> str:
    if pattern.fullmatch(value):
        return value
    # The value itself stays untold: somebody may have pasted the key into the wrong field.
    raise errors.CredentialError(
        f"{name} is not one",
        expected=expected,
        observed=f"{len(value)} other characters",
        hint=f"copy {name} again from App Store Connect, Users and Access, Integrations",
    )


def _load(data: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The chain of exceptions could carry the key.
        raise _unusable("PEM that cannot be read, or one with a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise _unusable(f"a key of another kind: {type(key).__name__.strip('_')}")
    return key


def _unusable(observed: str) -> errors.CredentialError:
    return errors.CredentialError(
        "APPLE_API_KEY_P8 is not an App Store Connect key",
        expected="a P-256 private key, as the .p8 file of Apple holds it",
        observed=observed,
        hint="set APPLE_API_KEY_P8 to the whole .p8 file or to its base64",
    )
