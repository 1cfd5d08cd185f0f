"""What the embedded environment hands out, made once for a state folder: trust, identity, keys."""

from __future__ import annotations

import secrets
import string
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from release_tool.files import atomic
from release_tool.rehearsal import places, profiles
from release_tool.rehearsal.authority import Authority

_PRIVATE = 0o600
_SECRET_BYTES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """For what the profile and the identity are made."""

    team_id: str
    bundle_id: str
    organization: str = "Look-alike"


def prepare(state: Path, subject: Subject) -> Authority:
    """Make what is missing in a state folder and load what is there.

    A folder half made by a killed process is completed; what stands is never replaced, since a
    rehearsal may already be signed with it.

    Raises:
        FormatError: the folder holds another team's authority.
    """
    (state / "secrets").mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in places.SECRETS:
        path = places.secret(state, name)
        if not path.exists():
            _write(path, _MAKERS.get(name, _token)().encode(), private=True)
    authority = _authority(state, subject)
    if not places.trust(state).exists():
        _write(places.trust(state), authority.trust_pem())
    if not places.provenance(state).exists():
        _write(places.provenance(state), _public(read_secret(state, places.PROVENANCE_KEY)))
    if not places.identity(state).exists():
        password = read_secret(state, places.IDENTITY_PASSWORD)
        p12 = authority.identity_p12(password, with_chain=True)
        _write(places.identity(state), p12, private=True)
    if not places.profile(state).exists():
        wish = profiles.Wish(team_id=subject.team_id, bundle_id=subject.bundle_id)
        _write(places.profile(state), profiles.make(authority, wish))
    return authority


def read_secret(state: Path, name: str) -> str:
    """One of `places.SECRETS`."""
    return places.secret(state, name).read_text(encoding="ascii")


def _token() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


def _api_key() -> str:
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _public(pem: str) -> bytes:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _api_key_id() -> str:
    return "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(10))


_MAKERS: Mapping[str, Callable[[], str]] = {
    places.NOTARY_KEY: _api_key,
    places.NOTARY_KEY_ID: _api_key_id,
    places.PROVENANCE_KEY: lambda: _pem(ed25519.Ed25519PrivateKey.generate()),
    places.NOTARY_ISSUER_ID: lambda: str(uuid.uuid4()),
}


def _authority(state: Path, subject: Subject) -> Authority:
    folder = places.authority(state)
    complete = folder / "complete"
    if complete.exists():
        return Authority.load(folder, subject.team_id, organization=subject.organization)
    made = Authority.create(subject.team_id, organization=subject.organization)
    made.save(folder)
    _write(complete, b"")
    return made


def _write(path: Path, data: bytes, *, private: bool = False) -> None:
    atomic.write_atomically(path, data, mode=_PRIVATE if private else 0o644)
