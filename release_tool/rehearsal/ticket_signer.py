"""Write notarization tickets, byte for byte in Apple's layout.

Independent of the reader that the tool has: written with `struct` on the measured format. A
header `s8ch`, the chain of certificates, a payload `g8tk` of cdhashes, and 72 bytes that hold an
ECDSA signature over all that stands before.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives import serialization

from release_tool.rehearsal import certificate_parts
from release_tool.rehearsal.authority import Authority

HASH_TYPE = 2
"""Tickets list cdhashes of SHA-256 directories only."""
SIGNATURE_BYTES = 72
_HEADER = struct.Struct("<4sIII")
_PAYLOAD = struct.Struct("<4sHHIIQ")
_ENTRY = struct.Struct("<B20s")
_CDHASH_BYTES = 20
# Seen in real tickets; nobody knows their meaning.
_FLAGS = (0, 2)
_EXTRA_ENTRIES = 3
_SEQUENCE = 0x30


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All that a ticket says."""

    chain: tuple[bytes, ...]
    """DER, leaf first, without the root."""
    issued: int
    """Unix time."""
    flags: int
    entries: tuple[tuple[int, bytes], ...]
    """Hash type and cdhash, in the order of the ticket."""


def encode(parts: Parts, sign: Callable[[bytes], bytes]) -> bytes:
    """Write a ticket.

    Args:
        parts: what it says.
        sign: makes a DER signature of at most 72 bytes over the octets.
    """
    chain = _sequence(b"".join(parts.chain))
    payload = _PAYLOAD.pack(
        b"g8tk", 2, _CDHASH_BYTES, len(parts.entries), parts.flags, parts.issued
    ) + b"".join(_ENTRY.pack(kind, cdhash) for kind, cdhash in parts.entries)
    octets = _HEADER.pack(b"s8ch", 1, len(chain), len(payload)) + chain + payload
    return octets + sign(octets).ljust(SIGNATURE_BYTES, b"\0")


class TicketSigner:
    """Signs tickets with the look-alike of Apple's ticket signer.

    Args:
        authority: holds its key and chain.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def issue(self, cdhashes: Sequence[bytes], at: datetime) -> bytes:
        """A ticket over these cdhashes and, as in real ones, some more, in no order."""
        extra = [secrets.token_bytes(_CDHASH_BYTES) for _ in range(_EXTRA_ENTRIES)]
        entries = list(dict.fromkeys([*cdhashes, *extra]))
        secrets.SystemRandom().shuffle(entries)
        if entries == sorted(entries):
            entries.reverse()
        roles = (certificate_parts.TICKET_SIGNER, certificate_parts.SYSTEM_INTEGRATION_CA)
        parts = Parts(
            chain=tuple(
                self._authority.certificate(role).public_bytes(serialization.Encoding.DER)
                for role in roles
            ),
            issued=int(at.timestamp()),
            flags=secrets.choice(_FLAGS),
            entries=tuple((HASH_TYPE, cdhash) for cdhash in entries),
        )
        return encode(parts, self._sign)

    def _sign(self, octets: bytes) -> bytes:
        return self._authority.sign(octets, certificate_parts.TICKET_SIGNER, digest="sha256")


def _sequence(content: bytes) -> bytes:
    """A DER SEQUENCE around content."""
    size = len(content)
    if size < 0x80:
        return bytes([_SEQUENCE, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([_SEQUENCE, 0x80 | len(octets)]) + octets + content
