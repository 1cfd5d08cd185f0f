"""Tamperings of a notarization ticket. All its numbers are little-endian."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from release_tool.apple import certificates, der, ticket

_HEADER = 16
_FIELD = ticket.SIGNATURE_FIELD


class TicketTampering(NamedTuple):
    """One change of a ticket."""

    name: str
    change: Callable[[bytes], bytes]
    caught_by: str = "ticket"


def table() -> Iterator[TicketTampering]:
    """Every tampering with a ticket's bytes."""
    yield from _header()
    yield from _chain()
    yield from _payload()
    yield from _signature()


def _chain_end(data: bytes) -> int:
    return _HEADER + int(struct.unpack_from("<I", data, 8)[0])


def _flip(data: bytes, at: int, mask: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def _header() -> Iterator[TicketTampering]:
    yield TicketTampering("its magic", lambda data: _flip(data, 0))
    yield TicketTampering("its version", lambda data: _flip(data, 4, 3))
    yield TicketTampering("the chain's length", lambda data: _flip(data, 8))
    yield TicketTampering("the payload's length", lambda data: _flip(data, 12))
    yield TicketTampering("emptied", lambda _: b"")
    yield TicketTampering("its header alone", lambda data: data[:_HEADER])
    yield TicketTampering("cut by a byte", lambda data: data[:-1])
    yield TicketTampering("a byte behind it", lambda data: data + b"\0")
    yield TicketTampering("a byte in front", lambda data: b"\0" + data)


def _certificate(change: Callable[[bytes], bytes], index: int = 0) -> Callable[[bytes], bytes]:
    def whole(data: bytes) -> bytes:
        old = ticket.parse(data).chain[index]
        return data.replace(old, change(old))

    return whole


def _inside(raw: bytes, needle: bytes, at: int = -1) -> bytes:
    return _flip(raw, raw.index(needle) + at % len(needle))


def _chain() -> Iterator[TicketTampering]:
    marker, issuer_marker = certificates.TICKET_SIGNER, certificates.SYSTEM_INTEGRATION_CA_4
    yield TicketTampering(
        "the signer's key",
        _certificate(lambda raw: _inside(raw, certificates.load(raw).public_key_info)),
    )
    yield TicketTampering(
        "the signer's name",
        _certificate(lambda raw: _inside(raw, certificates.load(raw).subject)),
    )
    yield TicketTampering(
        "the signer's marker", _certificate(lambda raw: _inside(raw, der.oid(marker)))
    )
    yield TicketTampering(
        "the signer's signature", _certificate(lambda raw: _flip(raw, len(raw) - 1))
    )
    yield TicketTampering(
        "the issuer's key",
        _certificate(lambda raw: _inside(raw, certificates.load(raw).public_key_info), 1),
    )
    yield TicketTampering(
        "the issuer's marker", _certificate(lambda raw: _inside(raw, der.oid(issuer_marker)), 1)
    )
    yield TicketTampering(
        "the issuer's signature", _certificate(lambda raw: _flip(raw, len(raw) - 1), 1)
    )
    yield TicketTampering("without the issuer", lambda data: _with_chain(data, lambda c: c[:1]))
    yield TicketTampering("without the signer", lambda data: _with_chain(data, lambda c: c[1:]))
    yield TicketTampering("the chain reversed", lambda data: _with_chain(data, lambda c: c[::-1]))
    yield TicketTampering(
        "a certificate twice", lambda data: _with_chain(data, lambda c: (*c, c[1]))
    )
    yield TicketTampering("no certificate", lambda data: _with_chain(data, lambda _: ()))


def _with_chain(data: bytes, change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> bytes:
    found = ticket.parse(data)
    return ticket.encode(found._replace(chain=change(found.chain)))


def _payload() -> Iterator[TicketTampering]:
    def at(name: str, offset: int, mask: int = 1) -> TicketTampering:
        return TicketTampering(name, lambda data: _flip(data, _chain_end(data) + offset, mask))

    yield at("the list's magic", 0)
    yield at("the list's version", 4)
    yield at("the length of a cdhash", 6)
    yield at("the count of cdhashes", 8)
    yield at("its flags", 12)
    yield at("its time, by a second", 16)
    yield at("its time, by years", 19, 2)
    yield at("the first entry's hash type", 24, 3)
    yield at("the first cdhash", 25)
    yield at("the first cdhash's last byte", 44)
    yield TicketTampering("an entry left out", lambda data: _with_entries(data, lambda e: e[1:]))
    yield TicketTampering(
        "an entry added",
        lambda data: _with_entries(data, lambda e: (*e, ticket.TicketEntry(2, bytes(20)))),
    )
    yield TicketTampering("entries reversed", lambda data: _with_entries(data, lambda e: e[::-1]))
    yield TicketTampering("no entries", lambda data: _with_entries(data, lambda _: ()))


def _with_entries(
    data: bytes,
    change: Callable[[tuple[ticket.TicketEntry, ...]], tuple[ticket.TicketEntry, ...]],
) -> bytes:
    found = ticket.parse(data)
    return ticket.encode(found._replace(entries=change(found.entries)))


def _signature() -> Iterator[TicketTampering]:
    yield TicketTampering("the signature's tag", lambda data: _flip(data, len(data) - _FIELD))
    yield TicketTampering(
        "the signature's length", lambda data: _flip(data, len(data) - _FIELD + 1)
    )
    yield TicketTampering("the signature's r", lambda data: _flip(data, len(data) - _FIELD + 10))
    yield TicketTampering("the signature's s", lambda data: _flip(data, len(data) - 10))
    yield TicketTampering("the signature of zeros", lambda data: data[:-_FIELD] + bytes(_FIELD))
    yield TicketTampering("r and s of nought", _nought)
    yield TicketTampering("r and s exchanged", _exchanged)


def _nought(data: bytes) -> bytes:
    empty = der.sequence(der.integer(0), der.integer(0))
    return data[:-_FIELD] + empty.ljust(_FIELD, b"\0")


def _exchanged(data: bytes) -> bytes:
    first, second = der.as_sequence(der.parse(ticket.parse(data).signature))
    return data[:-_FIELD] + der.sequence(second.raw, first.raw).ljust(_FIELD, b"\0")
