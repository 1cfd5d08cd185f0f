"""Check the bearer tokens of App Store Connect API keys, as strictly as the notary does.

Written on the standard (RFC 7519, RFC 7518 section 3.4) and Apple's rules for tokens, without the
library that a client makes them with.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

AUDIENCE = "appstoreconnect-v1"
LONGEST_LIFE = timedelta(minutes=20)
# What a client's clock may run ahead.
_SKEW = timedelta(seconds=60)
_TOKEN = re.compile(r"Bearer ([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
# Real ones have some 300 characters.
_MOST_CHARACTERS = 4096
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """The public half of the key, and how tokens name it."""

    key_id: str
    issuer_id: str
    public_key: ec.EllipticCurvePublicKey = field(repr=False)


class TokenError(Exception):
    """The token is refused; the text says why, for our journal and never for the client."""


def verify(header: str, key: ApiKey, *, now: datetime, method: str, path: str) -> None:
    """Refuse a request without a token of this key.

    Args:
        header: the value of `Authorization`.
        key: the one known key.
        now: the notary's time.
        method: of the request, for a token with a scope.
        path: of the request, without its query.

    Raises:
        TokenError: it is missing, malformed, expired, too long-lived, of another key, or its
            signature does not hold.
    """
    found = _TOKEN.fullmatch(header)
    if found is None or len(header) > _MOST_CHARACTERS:
        raise TokenError("no bearer token")
    head, claims = (_json(found[number]) for number in (1, 2))
    if head.get("alg") != "ES256" or head.get("typ") != "JWT" or head.get("kid") != key.key_id:
        raise TokenError("alg, typ or kid")
    _require_signature(f"{found[1]}.{found[2]}".encode(), _octets(found[3]), key)
    if claims.get("iss") != key.issuer_id or claims.get("aud") != AUDIENCE:
        raise TokenError("iss or aud")
    _require_current(claims, now)
    _require_scope(claims, method, path)


def _require_signature(octets: bytes, signature: bytes, key: ApiKey) -> None:
    """RFC 7518: r and s, 32 bytes each, and no DER around them."""
    if len(signature) != _SIGNATURE_BYTES:
        raise TokenError("the signature has not 64 bytes")
    r, s = (int.from_bytes(half) for half in (signature[:32], signature[32:]))
    try:
        key.public_key.verify(utils.encode_dss_signature(r, s), octets, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as problem:
        raise TokenError("the signature does not hold") from problem


def _require_current(claims: dict[str, Any], now: datetime) -> None:
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    life = expires - issued
    if not 0 < life <= LONGEST_LIFE.total_seconds():
        raise TokenError("lives longer than 20 minutes")
    moment = now.timestamp()
    if moment >= expires or moment < issued - _SKEW.total_seconds():
        raise TokenError("expired, or not valid yet")


def _require_scope(claims: dict[str, Any], method: str, path: str) -> None:
    """`scope` is optional; both spellings in the field are taken."""
    if "scope" not in claims:
        return
    scope = claims["scope"]
    if not isinstance(scope, list) or not any(_covers(item, method, path) for item in scope):
        raise TokenError("outside its scope")


def _covers(item: object, method: str, path: str) -> bool:
    if not isinstance(item, str):
        return False
    verb, _, place = item.rpartition(" ")
    place = place.partition("?")[0]
    return verb in ("", method) and (path == place or path.startswith(f"{place.rstrip('/')}/"))


def _time(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenError(f"{name} is no number")
    return value


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(_octets(text))
    except (ValueError, RecursionError) as problem:
        raise TokenError("no JSON") from problem
    if not isinstance(value, dict):
        raise TokenError("no JSON object")
    return value


def _octets(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as problem:
        raise TokenError("no base64url") from problem
