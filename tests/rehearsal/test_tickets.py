"""Tickets of the look-alike: Apple's layout on real ones, openssl on ours, and their lookup."""

from __future__ import annotations

import http.client
import shutil
import struct
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import ticket as reader
from release_tool.rehearsal import certificate_parts, faults, ticket_signer
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.ticket_signer import Parts, TicketSigner
from tests import macho_samples, signed_release
from tests.rehearsal import notary_client, notary_samples
from tests.rehearsal.notary_client import Notarization

CDHASHES = [bytes([number]) * 20 for number in (7, 3, 9)]
# The authority is made while these run, and no certificate of it is older than a day.
AT = datetime.now(UTC).replace(microsecond=0)


class Split(NamedTuple):
    """A ticket taken apart by the measured table alone."""

    chain: bytes
    payload: bytes
    signature: bytes

    @property
    def entries(self) -> list[tuple[int, bytes]]:
        return [(kind, digest) for kind, digest in struct.iter_unpack("<B20s", self.payload[24:])]


def split(ticket: bytes) -> Split:
    magic, version, chain, payload = struct.unpack_from("<4sIII", ticket)
    assert (magic, version) == (b"s8ch", 1)
    rest = ticket[16:]
    found = Split(rest[:chain], rest[chain : chain + payload], rest[chain + payload :])
    assert len(found.signature) == 72
    assert struct.unpack_from("<4sHHI", found.payload) == (b"g8tk", 2, 20, len(found.entries))
    return found


def certificates(chain: bytes) -> list[x509.Certificate]:
    """The certificates of a SEQUENCE, cut at their own lengths."""
    assert chain[:2] == b"\x30\x82"
    assert int.from_bytes(chain[2:4]) == len(chain) - 4
    found, position = [], 4
    while position < len(chain):
        assert chain[position : position + 2] == b"\x30\x82"
        end = position + 4 + int.from_bytes(chain[position + 2 : position + 4])
        found.append(x509.load_der_x509_certificate(chain[position:end]))
        position = end
    return found


@pytest.mark.parametrize(
    "name", ["PermanentAgentRecord-2026.ticket", "opera-beta-installer-2019.ticket"]
)
def test_real_tickets_are_written_alike(real_data: Path, name: str) -> None:
    """From its parts our encoder arrives at the bytes of a real ticket, signature field and all.

    The signature is handed in; that it covers all bytes before it is checked with its own key.
    """
    whole = (real_data / "tickets" / name).read_bytes()
    parts = split(whole)
    flags, issued = struct.unpack_from("<IQ", parts.payload, 12)
    chain = certificates(parts.chain)
    signature = parts.signature[: 2 + parts.signature[1]]
    signed: list[bytes] = []

    def sign(octets: bytes) -> bytes:
        signed.append(octets)
        return signature

    said = Parts(
        chain=tuple(item.public_bytes(serialization.Encoding.DER) for item in chain),
        issued=issued,
        flags=flags,
        entries=tuple(parts.entries),
    )
    assert ticket_signer.encode(said, sign) == whole
    assert signed == [whole[:-72]]


def test_openssl_agrees_with_chain_and_signature(authority: Authority, tmp_path: Path) -> None:
    """An independent tool builds the chain to the EC root and verifies the octets' signature."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    whole = TicketSigner(authority).issue(CDHASHES, AT)
    parts = split(whole)
    chain = certificates(parts.chain)
    root = authority.certificate(certificate_parts.ROOT_G3)
    for file, certificate in zip(("leaf", "ca", "root"), [*chain, root], strict=True):
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        (tmp_path / f"{file}.pem").write_bytes(pem)
    (tmp_path / "key.pem").write_bytes(
        chain[0]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "octets").write_bytes(whole[:-72])
    (tmp_path / "signature").write_bytes(parts.signature[: 2 + parts.signature[1]])
    verify = ["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "ca.pem", "leaf.pem"]
    digest = ["dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "octets"]
    for arguments in (verify, digest):
        done = subprocess.run(
            [openssl, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_our_reader_takes_it_and_its_marks(authority: Authority) -> None:
    """The tool's own reader, written apart from the encoder, verifies it to the EC root."""
    whole = TicketSigner(authority).issue(CDHASHES, AT)
    found = reader.parse(whole)
    reader.verify(found, trust=signed_release.trust_of(authority))
    assert found.issued == AT
    assert not reader.missing(found, CDHASHES)
    leaf, above = certificates(split(whole).chain)
    for certificate, marker in ((leaf, "6.1.30"), (above, "6.2.17")):
        oid = x509.ObjectIdentifier(f"1.2.840.113635.100.{marker}")
        assert not certificate.extensions.get_extension_for_oid(oid).critical
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert 380 <= life.days <= 400


def test_it_is_as_awkward_as_a_real_one(authority: Authority) -> None:
    """Every cdhash is listed, extra ones too, and never in the order of a sorted list."""
    signer = TicketSigner(authority)
    for cdhashes in (CDHASHES, CDHASHES[:1], [*CDHASHES, *CDHASHES]):
        entries = split(signer.issue(cdhashes, AT)).entries
        assert {(2, cdhash) for cdhash in cdhashes} < set(entries)
        assert len(entries) == len(set(entries))
        assert entries != sorted(entries)
    flags = {split(signer.issue(CDHASHES, AT)).payload[12] for _ in range(40)}
    assert flags == {0, 2}


@settings(max_examples=30)
@given(
    entries=st.lists(st.tuples(st.integers(0, 255), st.binary(min_size=20, max_size=20))),
    issued=st.integers(0, 2**64 - 1),
    flags=st.integers(0, 2**32 - 1),
    chain=st.lists(st.binary(max_size=400), max_size=3),
    signature=st.binary(max_size=72),
)
def test_what_is_written_is_read(
    entries: list[tuple[int, bytes]],
    issued: int,
    flags: int,
    chain: list[bytes],
    signature: bytes,
) -> None:
    """Whatever the parts hold, the table finds them again."""
    parts = Parts(chain=tuple(chain), issued=issued, flags=flags, entries=tuple(entries))
    found = split(ticket_signer.encode(parts, lambda _: signature))
    assert found.entries == entries
    assert struct.unpack_from("<IQ", found.payload, 12) == (flags, issued)
    assert found.chain.endswith(b"".join(chain))
    assert found.signature == signature.ljust(72, b"\0")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notarization]:
    folder = tmp_path_factory.mktemp("notary")
    with notary_client.running(folder, signed_release.look_alike(), ticket=0.5) as found:
        yield found


@pytest.fixture
def notary(running: Notarization) -> Iterator[Notarization]:
    yield running
    running.broken.set(dict.fromkeys(faults.NAMES, 0))


def universal_cdhashes(notary: Notarization) -> list[str]:
    """Notarize a universal tool; the cdhash of each slice."""
    tool = notary_samples.signed(macho_samples.universal())
    identity = notary.upload(notary_client.zipped({"tool": tool}))
    assert notary.await_status(identity) == "Accepted"
    contents = notary.log(identity)["ticketContents"]
    assert [(item["path"], item["arch"]) for item in contents] == [
        ("Darkbloom.zip/tool", "x86_64"),
        ("Darkbloom.zip/tool", "arm64"),
    ]
    return [item["cdhash"] for item in contents]


def test_a_ticket_comes_late_and_covers_every_slice(notary: Notarization) -> None:
    """A miss is HTTP 200; each record is answered for itself, and either slice finds it."""
    cdhashes = universal_cdhashes(notary)
    names = [f"2/2/{cdhash}" for cdhash in cdhashes]
    answer = notary.lookup(*names, f"2/1/{cdhashes[0]}", "nonsense")
    assert answer.status == 200
    assert answer.json["records"] == [
        {"recordName": name, "reason": "Record not found", "serverErrorCode": "NOT_FOUND"}
        for name in (*names, f"2/1/{cdhashes[0]}", "nonsense")
    ]
    ticket = notary.ticket(cdhashes[0])
    assert notary.ticket(cdhashes[1]) == ticket
    listed = {digest.hex() for _, digest in split(ticket).entries}
    assert set(cdhashes) <= listed
    found, missed = notary.lookup(names[0], "2/2/" + "0" * 40).json["records"]
    assert found["recordType"] == "DeveloperIDTicket"
    assert found["fields"]["signedTicket"]["type"] == "BYTES"
    assert {"created", "modified", "recordChangeTag", "deleted", "pluginFields"} <= set(found)
    assert missed["serverErrorCode"] == "NOT_FOUND"


def test_the_first_question_never_finds_it(tmp_path: Path) -> None:
    """Even where the ticket was there at once: a client that does not ask again is found out."""
    authority = signed_release.look_alike()
    with notary_client.running(tmp_path, authority, processing=0, ticket=0) as notary:
        cdhash = universal_cdhashes(notary)[0]
        first, second = (notary.lookup(f"2/2/{cdhash}").json["records"][0] for _ in range(2))
    assert "fields" not in first
    assert "fields" in second


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"records": []}', b'{"records": [1]}'])
def test_a_malformed_lookup_is_refused(notary: Notarization, body: bytes) -> None:
    """With CloudKit's shape of an error."""
    answer = notary_client.fetch("POST", notary.addresses.ticket_url, body)
    assert (answer.status, answer.json["serverErrorCode"]) == (400, "BAD_REQUEST")


def test_faults_of_the_lookup(notary: Notarization) -> None:
    """Busy, throttled, HTML, cut, late; then the ticket is there."""
    cdhash = universal_cdhashes(notary)[0]
    good, name = notary.ticket(cdhash), f"2/2/{cdhash}"
    for fault, status in [
        (faults.TICKET_UNAVAILABLE, 503),
        (faults.TICKET_THROTTLED, 429),
        (faults.TICKET_HTML, 502),
        (faults.TICKET_LATE, 200),
    ]:
        notary.broken.set({fault: 1})
        answer = notary.lookup(name)
        assert answer.status == status
        assert b"signedTicket" not in answer.body
    notary.broken.set({faults.TICKET_RESET: 1})
    with pytest.raises((http.client.HTTPException, OSError)):
        notary.lookup(name)
    assert notary.ticket(cdhash) == good


def test_faults_of_the_ticket(notary: Notarization) -> None:
    """A bad signature, another app's ticket, one without a slice: the rest of each is good."""
    asked, other = universal_cdhashes(notary)
    good = notary.ticket(asked)
    trust = signed_release.trust()
    notary.broken.set({faults.TICKET_BAD_SIGNATURE: 1})
    bad = reader.parse(notary.ticket(asked))
    assert not reader.missing(bad, [bytes.fromhex(asked)])
    with pytest.raises(errors.VerificationError, match="signature"):
        reader.verify(bad, trust=trust)
    notary.broken.set({faults.TICKET_OTHER_APP: 1})
    foreign = reader.parse(notary.ticket(asked))
    reader.verify(foreign, trust=trust)
    hashes = [bytes.fromhex(asked), bytes.fromhex(other)]
    assert reader.missing(foreign, hashes) == tuple(hashes)
    notary.broken.set({faults.TICKET_LACKS_SLICE: 1})
    partial = reader.parse(notary.ticket(asked))
    reader.verify(partial, trust=trust)
    assert reader.missing(partial, hashes) == (bytes.fromhex(other),)
    assert notary.ticket(asked) == good
