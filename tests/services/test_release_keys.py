"""The keys of a version: what the coordinator's own rules expect, which are written apart."""

from __future__ import annotations

from release_tool.services import addresses, coordinator_rules, release_keys
from release_tool.services.coordinator_rules import Release

BASE = "https://example.com/base"
NAME = "darkbloom-bundle-macos-arm64.tar.gz"
RELEASE = Release(
    version="0.5.0",
    platform="macos-arm64",
    backend="mlx-swift",
    binary_hash="1" * 64,
    bundle_hash="2" * 64,
    metallib_hash="3" * 64,
    url="",
    changelog="",
)


def test_may_expects_the_archive_at_the_versions_own_key() -> None:
    """Word for word."""
    key = release_keys.beside("releases", "0.5.0", NAME)
    assert key == f"releases/v0.5.0/{NAME}"
    assert addresses.join(BASE, key) == coordinator_rules.expected_url(
        BASE, RELEASE.version, RELEASE.platform
    )


def test_october_expects_the_archive_at_the_key_of_its_digest() -> None:
    """Word for word."""
    key = release_keys.by_digest("releases", "0.5.0", RELEASE.bundle_hash, NAME)
    assert key == f"releases/v0.5.0/artifacts/{'2' * 64}/{NAME}"
    assert addresses.join(BASE, key) == coordinator_rules.content_url(BASE, RELEASE)
