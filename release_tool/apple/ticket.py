"""Notarization tickets: what `stapler` puts into an app, read, verified offline and rebuilt.

A ticket is a chain of certificates, a signed list of cdhashes, and the signature. All its numbers
are little-endian, unlike a code signature's. No published text describes the format: what stands
here was measured on six real tickets from 2019 to 2026.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from release_tool import errors
from release_tool.apple import certificates, der, signatures

MAGIC = b"s8ch"
PAYLOAD_MAGIC = b"g8tk"
VERSION = 1
PAYLOAD_VERSION = 2

CDHASH_SIZE = 20
SIGNATURE_FIELD = 72
"""The longest signature of a P-256 key in DER; a shorter one is followed by zeros."""
MAX_BYTES = 1024 * 1024
"""Room for 49,000 cdhashes; the largest real ticket seen lists 59."""
MAX_CERTIFICATES = 8
"""Real tickets carry two: the signer's and its issuer's."""

HASH_SHA1 = 1
HASH_SHA256 = 2

_HEADER = struct.Struct("<4sIII")
_PAYLOAD = struct.Struct("<4sHHIIQ")
_ENTRY = struct.Struct(f"<B{CDHASH_SIZE}s")
_LAST_SECOND = 253_402_300_799  # the end of the year 9999: `datetime` holds no later moment


class TicketEntry(NamedTuple):
    """One code directory that Apple notarized."""

    hash_type: int
    """The code directory's own number of its hash; real tickets name only 2, SHA-256."""
    cdhash: bytes
    """The first 20 bytes of the code directory's digest."""


class Ticket(NamedTuple):
    """What a ticket says; whether Apple said it is `verify`'s answer."""

    version: int
    chain: tuple[bytes, ...]
    """Certificates in DER, the signer's first, the root left out."""
    issued: datetime
    """In UTC, whole seconds."""
    flags: int
    """0 and 2 were seen; what they mean is unknown."""
    entries: tuple[TicketEntry, ...]
    """In the order in which they stand. More than one app's own entries are normal."""
    signature: bytes
    """ECDSA in DER, without the zeros that fill its field."""
    raw: bytes


def parse(data: bytes) -> Ticket:
    """Read a ticket. Only what `encode` would write again byte for byte is read.

    Raises:
        FormatError: not a ticket, or of a version that was never seen.
    """
    if len(data) > MAX_BYTES:
        raise errors.FormatError(f"a ticket of {len(data)} bytes, more than {MAX_BYTES}")
    data = bytes(data)
    if len(data) < _HEADER.size or not data.startswith(MAGIC):
        raise errors.FormatError("not a notarization ticket")
    _magic, version, chain_size, payload_size = _HEADER.unpack_from(data)
    _require("version", VERSION, version)
    chain_end = _HEADER.size + chain_size
    payload_end = chain_end + payload_size
    _require("length", payload_end + SIGNATURE_FIELD, len(data))
    chain = _chain(data[_HEADER.size : chain_end])
    issued, flags, entries = _payload(data[chain_end:payload_end])
    signature = _signature(data[payload_end:])
    found = Ticket(version, chain, issued, flags, entries, signature, data)
    if encode(found) != data:
        raise errors.FormatError("a ticket's certificates are not in DER")
    return found


def _require(what: str, expected: int, observed: int) -> None:
    if observed != expected:
        raise errors.FormatError(
            f"a notarization ticket has an unknown {what}",
            expected=str(expected),
            observed=str(observed),
        )


def _chain(data: bytes) -> tuple[bytes, ...]:
    found = tuple(node.raw for node in der.as_sequence(der.parse(data)))
    if not 0 < len(found) <= MAX_CERTIFICATES:
        raise errors.FormatError(f"a ticket carries {len(found)} certificates")
    for item in found:
        certificates.load(item)
    return found


def _payload(data: bytes) -> tuple[datetime, int, tuple[TicketEntry, ...]]:
    if len(data) < _PAYLOAD.size or not data.startswith(PAYLOAD_MAGIC):
        raise errors.FormatError("a ticket holds no list of code directories")
    _magic, version, hash_size, count, flags, seconds = _PAYLOAD.unpack_from(data)
    _require("payload version", PAYLOAD_VERSION, version)
    _require("length of cdhashes", CDHASH_SIZE, hash_size)
    _require("payload length", _PAYLOAD.size + count * _ENTRY.size, len(data))
    if seconds > _LAST_SECOND:
        raise errors.FormatError("a ticket was issued after the year 9999")
    entries = tuple(map(TicketEntry._make, _ENTRY.iter_unpack(data[_PAYLOAD.size :])))
    return datetime.fromtimestamp(seconds, UTC), flags, entries


def _signature(field: bytes) -> bytes:
    node = der.parse(field, allow_trailing=True)
    numbers = der.as_sequence(node)
    if len(numbers) != 2 or any(field[len(node.raw) :]):
        raise errors.FormatError("a ticket's signature is malformed")
    if der.sequence(*(der.integer(der.as_integer(item)) for item in numbers)) != node.raw:
        raise errors.FormatError("a ticket's signature is not in DER")
    return node.raw


def encode(ticket: Ticket) -> bytes:
    """Write a ticket from its values; what `parse` returned comes out as it was.

    Raises:
        FormatError: a value does not fit its field.
    """
    if len(ticket.signature) > SIGNATURE_FIELD:
        raise errors.FormatError(f"a ticket's signature of {len(ticket.signature)} bytes")
    return signed_part(ticket) + ticket.signature.ljust(SIGNATURE_FIELD, b"\0")


def signed_part(ticket: Ticket) -> bytes:
    """The bytes that a ticket's signature is over: all before it, written from the values.

    Raises:
        FormatError: a value does not fit its field.
    """
    chain = der.sequence(*ticket.chain)
    try:
        entries = b"".join(_entry(entry) for entry in ticket.entries)
        payload = _PAYLOAD.pack(
            PAYLOAD_MAGIC,
            PAYLOAD_VERSION,
            CDHASH_SIZE,
            len(ticket.entries),
            ticket.flags,
            int(ticket.issued.timestamp()),
        )
        size = len(payload) + len(entries)
        return _HEADER.pack(MAGIC, ticket.version, len(chain), size) + chain + payload + entries
    except struct.error as problem:
        raise errors.FormatError(f"a value does not fit a ticket's field: {problem}") from problem


def _entry(entry: TicketEntry) -> bytes:
    if len(entry.cdhash) != CDHASH_SIZE:
        raise errors.FormatError(f"a cdhash of {len(entry.cdhash)} bytes in a ticket")
    return _ENTRY.pack(*entry)


def verify(ticket: Ticket, *, trust: certificates.Trust) -> certificates.Certificate:
    """Verify who issued a ticket, without the network.

    The signature is checked over the bytes that the ticket's values make, so that what was read
    is what was signed. The signer lives thirteen months, so its chain is judged at the time that
    the ticket names. Revocation is not checked.

    Args:
        ticket: what `parse` returned.
        trust: Apple's roots (the chain then ends in Apple Root CA - G3), or look-alike ones.

    Returns:
        The signer's certificate.

    Raises:
        VerificationError: the signature does not hold, or the signer is no ticket signer of
            Apple's.
    """
    leaf, *pool = map(certificates.load, ticket.chain)
    try:
        signatures.verify(
            leaf.public_key_info,
            algorithm=signatures.ECDSA_WITH_SHA256,
            digest_name="sha256",
            signature=ticket.signature,
            message=signed_part(ticket),
        )
    except errors.FormatError:
        raise
    except errors.VerificationError as problem:
        raise errors.VerificationError(
            f"the notarization ticket was changed: {problem.message}",
            expected=f"a signature by {certificates.display_name(leaf)}",
            hint="staple the app again: `xcrun stapler staple` or the staple stage",
        ) from problem
    certificates.build_chain(
        leaf,
        pool,
        trust=trust,
        at=ticket.issued,
        required_leaf_marker=certificates.TICKET_SIGNER,
        required_issuer_marker=certificates.SYSTEM_INTEGRATION_CA_4,
        required_root=certificates.APPLE_ROOT_CA_G3 if trust.is_apple else None,
    )
    return leaf


def missing(
    ticket: Ticket, cdhashes: Iterable[bytes], *, hash_type: int = HASH_SHA256
) -> tuple[bytes, ...]:
    """Those of the cdhashes that the ticket does not list, in the order given.

    Args:
        ticket: the ticket; entries of other hash types do not count.
        cdhashes: 20 bytes each, of every slice's code directory of that hash type.
        hash_type: the code directories' number of their hash, SHA-256 by default.
    """
    listed = {entry.cdhash for entry in ticket.entries if entry.hash_type == hash_type}
    return tuple(cdhash for cdhash in cdhashes if cdhash not in listed)
