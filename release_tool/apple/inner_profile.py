"""`DER-Encoded-Profile`: the profile again, in DER, signed with ECDSA, inside the property list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from release_tool import errors
from release_tool.apple import (
    certificates,
    cms,
    der,
    der_dictionary,
    entitlements,
    signatures,
)

KEY = "DER-Encoded-Profile"
DISTRIBUTION = "ProfileDistributionType"
_DEVELOPER_CERTIFICATES = "DeveloperCertificates"
_ENTITLEMENTS = "Entitlements"

MAX_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 256
"""A real one has 16."""

# Keys that a policy of ours or of macOS turns on: they stand in both profiles or in neither.
# The other keys, where they stand in both, must be equal too.
_BOUND = frozenset(
    {
        "ApplicationIdentifierPrefix",
        "CreationDate",
        _DEVELOPER_CERTIFICATES,
        _ENTITLEMENTS,
        "ExpirationDate",
        "Name",
        "Platform",
        "ProvisionedDevices",
        "ProvisionsAllDevices",
        "TeamIdentifier",
        "UUID",
    }
)


def read(
    data: bytes, *, trust: certificates.Trust
) -> tuple[dict[str, object], tuple[certificates.Certificate, ...]]:
    """Verify the inner profile's signature and chain, and read what it says.

    Args:
        data: the inner CMS.
        trust: Apple's roots (the chain then ends in Apple Root CA - G3), or look-alike ones.

    Returns:
        Its values, with SHA-256 digests for the certificates, and the signer's chain.

    Raises:
        VerificationError: not signed with ECDSA by who signs inner profiles.
    """
    if len(data) > MAX_BYTES:
        raise errors.FormatError(f"an inner profile of {len(data)} bytes")
    proof = cms.verify(cms.parse(data), content=None, allowed_digests=frozenset(("sha256",)))
    if signatures.key_type(proof.certificate.public_key_info) != "EC":
        raise errors.VerificationError("the inner profile is not signed with ECDSA")
    if proof.signer.signing_time is None:
        raise errors.VerificationError("the inner profile's signature names no time")
    chain = certificates.build_chain(
        proof.certificate,
        proof.pool,
        trust=trust,
        at=proof.signer.signing_time,
        required_leaf_marker=certificates.INNER_PROFILE_SIGNER,
        required_issuer_marker=certificates.SYSTEM_INTEGRATION_CA_4,
        required_root=certificates.APPLE_ROOT_CA_G3 if trust.is_apple else None,
    )
    return decode(proof.content), chain


def decode(data: bytes) -> dict[str, object]:
    """Read the payload: a SET of pairs of key and value.

    Raises:
        FormatError: something else, or a key twice.
    """
    pairs = der.as_set(der.parse(data))
    if len(pairs) > MAX_ENTRIES:
        raise errors.FormatError(f"an inner profile of {len(pairs)} entries")
    found: dict[str, object] = {}
    for pair in pairs:
        parts = der.as_sequence(pair)
        if len(parts) != 2:
            raise errors.FormatError("an inner profile's entry is not a pair")
        key = der.as_text(parts[0])
        if key in found:
            raise errors.FormatError("the inner profile names a key twice", observed=key[:80])
        decode_value = entitlements.decode_der if key == _ENTITLEMENTS else _value_of_bytes
        found[key] = decode_value(parts[1].raw)
    return found


def encode(values: Mapping[str, object]) -> bytes:
    """Write the payload, keys in the order given; what `decode` returned comes out as it was.

    Raises:
        FormatError: a value has a type that no inner profile holds.
    """
    return der.set_as_given(
        *(der.sequence(der.utf8(key), _encoded(key, value)) for key, value in values.items())
    )


def _encoded(key: str, value: object) -> bytes:
    if key == _ENTITLEMENTS and isinstance(value, dict):
        return der_dictionary.encode(der_dictionary.Document(value))
    if isinstance(value, list | tuple):
        return der.sequence(*(_encoded("", item) for item in value))
    writer = _WRITERS.get(type(value))
    if writer is None:
        raise errors.FormatError(f"an inner profile cannot hold {type(value).__name__}")
    return writer(value)


_WRITERS: Mapping[type, Callable[[Any], bytes]] = {
    bool: der.boolean,
    int: der.integer,
    bytes: der.octets,
    str: der.utf8,
    datetime: der.utc_time,
}


def _value_of_bytes(data: bytes) -> object:
    return _value(der.parse(data))


def _value(node: der.Node) -> object:
    if node.tag_class == der.UNIVERSAL and node.tag in _READERS:
        return _READERS[node.tag](node)
    return der.as_text(node)


_READERS: Mapping[int, Callable[[der.Node], object]] = {
    der.BOOLEAN: der.as_boolean,
    der.INTEGER: der.as_integer,
    der.OCTET_STRING: der.as_octets,
    der.UTC_TIME: der.as_time,
    der.GENERALIZED_TIME: der.as_time,
    der.SEQUENCE & 0x1F: lambda node: [_value(item) for item in node.children],
}


def differences(outer: Mapping[str, object], inner: Mapping[str, object]) -> list[str]:
    """The keys in which the two profiles say different things.

    Args:
        outer: the property list's values.
        inner: what `read` returned.
    """
    found = [key for key in sorted(_BOUND) if (key in outer) != (key in inner)]
    found.extend(
        key
        for key in sorted(outer.keys() & inner.keys() - {KEY})
        if _plain(_as_inner(key, outer[key])) != _plain(inner[key])
    )
    if DISTRIBUTION in inner and not _fits(inner[DISTRIBUTION], outer):
        found.append(DISTRIBUTION)
    return found


def _as_inner(key: str, value: object) -> object:
    if key != _DEVELOPER_CERTIFICATES or not isinstance(value, list):
        return value
    return [
        signatures.digest("sha256", item) if isinstance(item, bytes) else item for item in value
    ]


def _fits(distribution: object, outer: Mapping[str, object]) -> bool:
    """Whether the inner type is that of the outer's kind; only two types' names are known."""
    platforms = outer.get("Platform")
    on_macos = isinstance(platforms, list) and "OSX" in platforms
    everywhere = outer.get("ProvisionsAllDevices") is True
    if everywhere and on_macos:
        return distribution == "DIRECT"
    if not everywhere and "ProvisionedDevices" not in outer:
        return distribution == "STORE"
    return distribution not in ("DIRECT", "STORE")


def _plain(value: object) -> object:
    """A form that compares types too, and lists as the sets that they are."""
    if isinstance(value, Mapping):
        return ("dict", sorted((key, repr(_plain(item))) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return ("list", sorted(repr(_plain(item)) for item in value))
    if isinstance(value, datetime):
        return ("time", value.timestamp())
    return (type(value).__name__, value)
