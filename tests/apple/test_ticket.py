"""Notarization tickets: two real ones, look-alikes broken one by one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import certificates, der, ticket

NAMES = ("PermanentAgentRecord-2026.ticket", "opera-beta-installer-2019.ticket")
ISSUED = datetime(2026, 8, 1, 12, tzinfo=UTC)
CRITICAL = True


# Real ones


def _real(real_data: Path, name: str) -> bytes:
    return (real_data / "tickets" / name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_real_tickets_say_what_independent_readers_found(real_data: Path, name: str) -> None:
    """Time, flags, entries and signer equal what other tools found in the same bytes."""
    expected = json.loads((real_data / "expected.json").read_text())["tickets"][name]
    found = ticket.parse(_real(real_data, name))
    leaf = ticket.verify(found, trust=certificates.apple_trust())
    assert {
        "sha256": hashlib.sha256(found.raw).hexdigest(),
        "issued": found.issued.isoformat(),
        "flags": found.flags,
        "entries": sorted(entry.cdhash.hex() for entry in found.entries),
        "leaf_sha256": certificates.fingerprint(leaf),
    } == expected
    assert {entry.hash_type for entry in found.entries} == {ticket.HASH_SHA256}


@pytest.mark.parametrize("name", NAMES)
def test_real_tickets_come_out_byte_for_byte(real_data: Path, name: str) -> None:
    """Parse then encode gives the same bytes."""
    data = _real(real_data, name)
    assert ticket.encode(ticket.parse(data)) == data


@pytest.mark.parametrize("name", NAMES)
def test_no_byte_of_a_real_ticket_can_change(real_data: Path, name: str) -> None:
    """Whichever byte is changed, the ticket is refused: nothing in it is unprotected."""
    data = _real(real_data, name)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x01
        assert _refused(bytes(changed), certificates.apple_trust()), position


def _refused(data: bytes, trust: certificates.Trust) -> bool:
    try:
        ticket.verify(ticket.parse(data), trust=trust)
    except errors.VerificationError:
        return True
    return False


def test_real_tickets_are_not_trusted_under_other_roots(real_data: Path) -> None:
    """A real ticket carries its issuer, which nobody trusts for being there."""
    found = ticket.parse(_real(real_data, NAMES[0]))
    with pytest.raises(errors.VerificationError, match="no chain to a trusted root"):
        ticket.verify(found, trust=world().trust)
    issuer = certificates.Trust(
        name="Apple", roots=(certificates.load(found.chain[1]),), is_apple=True
    )
    with pytest.raises(errors.VerificationError, match="no chain"):
        ticket.verify(found, trust=issuer)


def test_both_slices_of_a_real_app_are_listed(real_data: Path) -> None:
    """The ticket lists both slices' cdhashes of the app's main executable, as other tools did."""
    code = json.loads((real_data / "expected.json").read_text())["code"]
    main = code[
        "permanent-agent-record: PermanentAgentRecord.app/Contents/MacOS/PermanentAgentRecord"
    ]
    wanted = [bytes.fromhex(item["cdhash"]) for item in main["slices"]]
    found = ticket.parse(_real(real_data, NAMES[0]))
    assert ticket.missing(found, wanted) == ()
    assert ticket.missing(found, [*wanted, bytes(20)]) == (bytes(20),)
    assert ticket.missing(found, wanted, hash_type=ticket.HASH_SHA1) == tuple(wanted)


# Look-alikes


class World(NamedTuple):
    """A root, an issuer and a signer that stand in for Apple's."""

    trust: certificates.Trust
    chain: tuple[bytes, ...]
    key: ec.EllipticCurvePrivateKey


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    marker: str,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ISSUED - timedelta(days=30))
        .not_valid_after(ISSUED + timedelta(days=360))
        .add_extension(x509.BasicConstraints(subject != "signer", None), CRITICAL)
    )
    if marker:
        oid = x509.ObjectIdentifier(marker)
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, der.null()), not CRITICAL)
    made = builder.sign(issuer_key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


@lru_cache
def world(
    leaf_marker: str = certificates.TICKET_SIGNER,
    issuer_marker: str = certificates.SYSTEM_INTEGRATION_CA_4,
) -> World:
    root_key, issuer_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root = _certificate("root", "root", root_key, root_key, "")
    issuer = _certificate("issuer", "root", issuer_key, root_key, issuer_marker)
    leaf = _certificate("signer", "issuer", key, issuer_key, leaf_marker)
    trust = certificates.Trust(name="look-alike", roots=(certificates.load(root),))
    return World(trust, (leaf, issuer), key)


def signed(values: ticket.Ticket, key: ec.EllipticCurvePrivateKey) -> ticket.Ticket:
    signature = key.sign(ticket.signed_part(values), ec.ECDSA(hashes.SHA256()))
    made = values._replace(signature=signature)
    return made._replace(raw=ticket.encode(made))


def made(
    of: World, *, issued: datetime = ISSUED, entries: tuple[ticket.TicketEntry, ...] = ()
) -> ticket.Ticket:
    return signed(ticket.Ticket(1, of.chain, issued, 0, entries, b"", b""), of.key)


def test_a_look_alike_ticket_verifies_under_its_own_root_only() -> None:
    """The rules are the same for roots that stand in for Apple's, and Apple's refuse them."""
    found = made(world(), entries=(ticket.TicketEntry(2, b"c" * 20),))
    assert ticket.parse(found.raw) == found
    leaf = ticket.verify(found, trust=world().trust)
    assert certificates.display_name(leaf) == "signer"
    with pytest.raises(errors.VerificationError, match="no chain"):
        ticket.verify(found, trust=certificates.apple_trust())


@pytest.mark.parametrize(
    ("of", "missing"),
    [
        (lambda: world(leaf_marker=certificates.PROFILE_SIGNER), certificates.TICKET_SIGNER),
        (
            lambda: world(issuer_marker=certificates.DEVELOPER_ID_CA),
            certificates.SYSTEM_INTEGRATION_CA_4,
        ),
    ],
)
def test_another_kind_of_signer_is_refused(of: Callable[[], World], missing: str) -> None:
    """Leaf and issuer carry the markers of who signs tickets, or the ticket is refused."""
    with pytest.raises(errors.VerificationError) as caught:
        ticket.verify(made(of()), trust=of().trust)
    assert any(missing in line for line in caught.value.details)


@pytest.mark.parametrize("days", [-31, 361])
def test_the_chain_is_judged_at_the_tickets_own_time(days: int) -> None:
    """A signer that was not valid when the ticket was issued signs none."""
    with pytest.raises(errors.VerificationError, match="no chain"):
        ticket.verify(made(world(), issued=ISSUED + timedelta(days=days)), trust=world().trust)


def test_changed_values_do_not_verify() -> None:
    """The signature is over what the values say, so that raw bytes cannot say otherwise."""
    found = made(world(), entries=(ticket.TicketEntry(2, b"c" * 20),))
    for changed in (
        found._replace(flags=2),
        found._replace(issued=ISSUED + timedelta(seconds=1)),
        found._replace(entries=(ticket.TicketEntry(2, b"d" * 20),)),
        found._replace(entries=(ticket.TicketEntry(1, b"c" * 20),)),
        found._replace(entries=(*found.entries, ticket.TicketEntry(2, b"d" * 20))),
        found._replace(chain=found.chain[:1]),
    ):
        with pytest.raises(errors.VerificationError, match="ticket was changed"):
            ticket.verify(changed, trust=world().trust)


def test_a_signer_with_an_rsa_key_is_refused() -> None:
    """Tickets are signed with ECDSA."""
    key = rsa.generate_private_key(65537, 2048)
    issuer_key = ec.generate_private_key(ec.SECP256R1())
    leaf = _certificate("signer", "issuer", key, issuer_key, certificates.TICKET_SIGNER)
    with pytest.raises(errors.VerificationError, match="does not fit the RSA key"):
        ticket.verify(made(world())._replace(chain=(leaf,)), trust=world().trust)


entries = st.builds(ticket.TicketEntry, st.integers(0, 255), st.binary(min_size=20, max_size=20))


@given(
    st.lists(entries, max_size=20),
    st.integers(0, 2**32 - 1),
    st.datetimes(datetime(1970, 1, 2), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
)
def test_what_is_written_is_read_again(
    listed: list[ticket.TicketEntry], flags: int, issued: datetime
) -> None:
    """Every ticket that can be written is read to the same values and written the same."""
    issued = issued.replace(microsecond=0)
    wanted = signed(
        ticket.Ticket(1, world().chain, issued, flags, tuple(listed), b"", b""), world().key
    )
    assert ticket.parse(wanted.raw) == wanted


def _patched(offset: int, value: bytes) -> bytes:
    data = made(world(), entries=(ticket.TicketEntry(2, b"c" * 20),)).raw
    offset %= len(data)
    return data[:offset] + value + data[offset + len(value) :]


_AT_PAYLOAD = -72 - 24 - 21


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: b"", "not a notarization ticket"),
        (lambda: b"g8tk" + bytes(200), "not a notarization ticket"),
        (lambda: bytes(ticket.MAX_BYTES + 1), "more than"),
        (lambda: _patched(4, b"\x02"), "unknown version"),
        (lambda: _patched(8, b"\xff\xff\xff\xff"), "unknown length"),
        (lambda: made(world()).raw + b"\0", "unknown length"),
        (lambda: made(world()).raw[:-1], "unknown length"),
        (lambda: _patched(_AT_PAYLOAD, b"x"), "holds no list"),
        (lambda: _patched(_AT_PAYLOAD + 4, b"\x03"), "unknown payload version"),
        (lambda: _patched(_AT_PAYLOAD + 6, b"\x20"), "unknown length of cdhashes"),
        (lambda: _patched(_AT_PAYLOAD + 8, b"\x02"), "unknown payload length"),
        (lambda: _patched(_AT_PAYLOAD + 8, b"\xff\xff\xff\xff"), "unknown payload length"),
        (lambda: _patched(_AT_PAYLOAD + 16, b"\xff" * 8), "after the year 9999"),
        (lambda: _patched(-72, der.sequence(der.integer(1)) + bytes(67)), "malformed"),
        (lambda: _patched(-72, der.sequence(der.integer(1)) + b"x" * 67), "malformed"),
        (lambda: _patched(-72, bytes.fromhex("308106020101020101") + bytes(63)), "not in DER"),
        (lambda: ticket.encode(made(world())._replace(chain=())), "carries 0 certificates"),
        (
            lambda: ticket.encode(made(world())._replace(chain=world().chain * 5)),
            "carries 10 certificates",
        ),
        (lambda: ticket.encode(made(world())._replace(chain=(der.null(),))), "SEQUENCE"),
    ],
)
def test_malformed_tickets_are_refused(data: Callable[[], bytes], reason: str) -> None:
    """What is no ticket ends in the format's error, which says why."""
    with pytest.raises(errors.FormatError, match=reason):
        ticket.parse(data())


def test_values_that_fit_no_field_are_refused() -> None:
    """Writing refuses what the format cannot hold."""
    good = made(world())
    for bad in (
        good._replace(flags=1 << 32),
        good._replace(version=-1),
        good._replace(issued=datetime(1969, 1, 1, tzinfo=UTC)),
        good._replace(entries=(ticket.TicketEntry(256, bytes(20)),)),
        good._replace(entries=(ticket.TicketEntry(2, bytes(19)),)),
        good._replace(signature=bytes(73)),
    ):
        with pytest.raises(errors.FormatError):
            ticket.encode(bad)


@given(st.data())
def test_hostile_bytes_end_in_the_formats_error(data: st.DataObject) -> None:
    """Cut, spliced or made up: a value or the format's error, and never a verdict of trust."""
    good = made(world(), entries=(ticket.TicketEntry(2, b"c" * 20),)).raw
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, len(good)))
    hostile = good[:start] + data.draw(st.binary(max_size=40)) + good[end:]
    if hostile != good:
        assert _refused(hostile, world().trust)
