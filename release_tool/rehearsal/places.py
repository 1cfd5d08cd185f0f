"""Where the embedded environment keeps what, below its state folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ACCESS_KEY_ID: Final = "access-key-id"
SECRET_ACCESS_KEY: Final = "secret-access-key"  # noqa: S105 the name of a file
RELEASE_KEY: Final = "release-key"
ADMIN_KEY: Final = "admin-key"
CONTROL_TOKEN: Final = "control-token"  # noqa: S105 the name of a file
IDENTITY_PASSWORD: Final = "identity-password"  # noqa: S105 the name of a file
NOTARY_KEY: Final = "notary-key.p8"
"""The App Store Connect API key: EC P-256, PKCS#8 in PEM."""
NOTARY_KEY_ID: Final = "notary-key-id"
NOTARY_ISSUER_ID: Final = "notary-issuer-id"
GITHUB_TOKEN: Final = "github-token"  # noqa: S105 the name of a file
GITHUB_READER: Final = "github-reader"
"""A token of GitHub's that may read, and write nothing."""
PROVENANCE_KEY: Final = "provenance-key.pem"
"""Signs provenance and the log of releases: Ed25519, PKCS#8 in PEM."""

IDLE_SECONDS: Final = 3600.0
"""After how long without a request it ends itself: nobody asks while a smoke run is under way."""

CONTROL_HEADER: Final = "X-Control-Token"
"""Carries the control token."""

SECRETS: Final = (
    ACCESS_KEY_ID,
    SECRET_ACCESS_KEY,
    RELEASE_KEY,
    ADMIN_KEY,
    CONTROL_TOKEN,
    IDENTITY_PASSWORD,
    NOTARY_KEY,
    NOTARY_KEY_ID,
    NOTARY_ISSUER_ID,
    GITHUB_TOKEN,
    GITHUB_READER,
    PROVENANCE_KEY,
)
"""Files of their own, readable by the owner only."""


def description(state: Path) -> Path:
    """Written when everything answers, gone when it ends."""
    return state / "environment.json"


def lock(state: Path) -> Path:
    """Held by the serving process for as long as it lives."""
    return state / "serve.lock"


def log(state: Path) -> Path:
    """What the serving process says, which is nothing unless it fails."""
    return state / "serve.log"


def ports(state: Path) -> Path:
    """The ports of last time: addresses are part of a release's plan, so they stay."""
    return state / "ports.json"


def authority(state: Path) -> Path:
    """Keys and certificates of the look-alike authority."""
    return state / "authority"


def trust(state: Path) -> Path:
    """The roots, as PEM: the RSA one and the EC one."""
    return state / "trust.pem"


def provenance(state: Path) -> Path:
    """The public key of provenance and log, as PEM."""
    return state / "provenance.pem"


def profile(state: Path) -> Path:
    """The provisioning profile."""
    return state / "profile.provisionprofile"


def identity(state: Path) -> Path:
    """The signing identity as PKCS#12."""
    return state / "secrets" / "identity.p12"


def secret(state: Path, name: str) -> Path:
    """The file of one secret."""
    return state / "secrets" / name


def releases(state: Path) -> Path:
    """The coordinator's database."""
    return state / "coordinator.sqlite"


def objects(state: Path) -> Path:
    """The bucket."""
    return state / "objects"


def notary(state: Path) -> Path:
    """The notary's submissions, their uploads, logs and tickets."""
    return state / "notary"


def github(state: Path) -> Path:
    """The releases of the look-alike's repository, their assets and its tags."""
    return state / "github"


def scratch(state: Path) -> Path:
    """Temporary files of the serving process; emptied when it begins."""
    return state / "scratch"
