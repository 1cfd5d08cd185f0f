"""Where a version's objects stand in the bucket, and below its public address."""

from __future__ import annotations


def folder(prefix: str, version: str) -> str:
    """What all keys of a version begin with."""
    return f"{prefix}/v{version}"


def beside(prefix: str, version: str, name: str) -> str:
    """The version's own key for a document, and for the archive of a coordinator of May."""
    return f"{folder(prefix, version)}/{name}"


def by_digest(prefix: str, version: str, sha256: str, name: str) -> str:
    """The archive's key for a coordinator of October: it cannot hold other bytes."""
    return f"{folder(prefix, version)}/artifacts/{sha256}/{name}"


def registration(prefix: str, version: str) -> str:
    """Where runs agree on who registers a version; it changes, as nothing in its folder does."""
    return f"{prefix}/registrations/v{version}.json"
