"""Real signed code: independent readers find what we find, and accept and refuse the same."""

from __future__ import annotations

import os
import plistlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import real_items

from release_tool import errors
from release_tool.apple import (
    certificates,
    cms,
    macho,
    signing,
    superblob,
    ticket,
    timestamp_token,
    unsigned_content,
)
from tests import real_code
from tests.oracles import openssl, readers

pytestmark = pytest.mark.online

DIGESTS = frozenset(("sha256",))
APP_CODE = (real_code.MAIN, real_code.TOOL, real_code.INNER_MAIN)
ROOTS = list(certificates.apple_trust().roots)
OLDER = {
    "node of 2021": real_code.node_of_2021,
    "node of 2024": real_code.node_of_2024,
    "libjavajpeg": real_code.signed_in_a_sixtieth_second,
}
SLICES = 12
"""Signed by Developer IDs: three universal files of one app, a universal tool, a thin one, and
three older thin ones."""
SIXTIETH = "second must be in 0..59"
"""codesign wrote the signing time `231018080560Z` into one of them; no clock of Python's has it."""


@dataclass(frozen=True)
class Signed:
    """One slice's signature."""

    name: str
    signed_data: bytes
    directory: bytes
    octets: bytes
    token: bytes


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    app = real_code.app()
    return {
        **{path: app.read(path) for path in APP_CODE},
        "ruff": real_code.ruff(),
        "sentry-cli": real_code.sentry(),
        **{name: read() for name, read in OLDER.items()},
        "node": real_items.fetch(real_items.NODE, dict(os.environ)).read_bytes(),
        "ticket": app.read("Contents/CodeResources"),
    }


@pytest.fixture(scope="module")
def signed(files: dict[str, bytes]) -> list[Signed]:
    found = []
    for name in (*APP_CODE, "ruff", "sentry-cli", *OLDER):
        for code in macho.parse(files[name]):
            assert code.signature_bytes is not None
            blob = superblob.parse(code.signature_bytes)
            directory = blob.get(superblob.SLOT_CODE_DIRECTORY)
            wrapped = blob.get(superblob.SLOT_CMS)
            assert directory is not None
            assert wrapped is not None
            data = superblob.unwrap(wrapped, superblob.MAGIC_WRAPPER)
            (signer,) = cms.parse(data).signers
            token = signer.unsigned[cms.TIMESTAMP_TOKEN][0].raw
            name_of_slice = f"{name} ({code.arch})"
            found.append(Signed(name_of_slice, data, directory, signer.signature, token))
    assert len(found) == SLICES
    return found


def _ours(signed_data: bytes, content: bytes) -> bool:
    try:
        proof = cms.verify(cms.parse(signed_data), content=content, allowed_digests=DIGESTS)
    except errors.VerificationError:
        return False
    return proof.content == content


def test_openssl_verifies_the_signatures_but_for_apples_extensions(
    signed: list[Signed], tmp_path: Path
) -> None:
    """Both accept every code directory as signed, and neither one with a changed bit.

    OpenSSL stops at Apple's critical extension unless it is told to go on.
    """
    for item in signed:
        changed = bytes([*item.directory[:-1], item.directory[-1] ^ 1])
        for content, holds in ((item.directory, True), (changed, False)):
            assert _ours(item.signed_data, content) is holds, item.name
            verdict, _ = openssl.verify_cms(
                tmp_path, item.signed_data, roots=ROOTS, content=content, ignore_critical=True
            )
            assert verdict is holds, item.name
        verdict, told = openssl.verify_cms(
            tmp_path, item.signed_data, roots=ROOTS, content=item.directory
        )
        assert not verdict
        assert openssl.CRITICAL in told


def test_openssl_verifies_the_timestamps(signed: list[Signed], tmp_path: Path) -> None:
    """At the token's own time both accept every token as it stands, over these octets alone."""
    trust = certificates.apple_trust()
    for item in signed:
        proof = timestamp_token.verify(item.token, signed_octets=item.octets, trust=trust)
        at = proof.gen_time
        assert openssl.verify_token(tmp_path, item.token, item.octets, roots=ROOTS, at=at)
        other = item.octets[::-1]
        assert not openssl.verify_token(tmp_path, item.token, other, roots=ROOTS, at=at)
        with pytest.raises(errors.VerificationError):
            timestamp_token.verify(item.token, signed_octets=other, trust=trust)


def test_rfc3161_client_verifies_the_timestamps_once_sorted(signed: list[Signed]) -> None:
    """As they stand it refuses all; with the certificates in DER's order it agrees on each."""
    import rfc3161_client

    trust = certificates.apple_trust()
    for item in signed:
        with pytest.raises(ValueError, match=readers.UNSORTED):
            rfc3161_client.decode_timestamp_response(readers.response(item.token))
        ordered = readers.sorted_certificates(item.token)
        found = readers.rfc3161_verifies(ordered, item.octets, ROOTS)
        ours = timestamp_token.verify(ordered, signed_octets=item.octets, trust=trust)
        assert found.tst_info.gen_time == ours.gen_time
        with pytest.raises(rfc3161_client.VerificationError):
            readers.rfc3161_verifies(ordered, item.octets[::-1], ROOTS)


def test_asn1crypto_reads_the_same(signed: list[Signed]) -> None:
    """Signatures and tokens: attributes in order, certificates, algorithms, times.

    All but one signing time, in a sixtieth second: we read the next minute.
    """
    trust = certificates.apple_trust()
    for item in signed:
        if item.name.startswith("libjavajpeg"):
            with pytest.raises(ValueError, match=SIXTIETH):
                readers.asn1crypto_agrees(item.signed_data)
        else:
            readers.asn1crypto_agrees(item.signed_data)
        readers.asn1crypto_agrees(item.token)
        ours = timestamp_token.verify(item.token, signed_octets=item.octets, trust=trust)
        assert readers.time_by_asn1crypto(item.token) == ours.gen_time


def test_asn1crypto_reads_the_entitlements(files: dict[str, bytes]) -> None:
    """What stands in DER is what plistlib reads in the XML; both dialects."""
    seen = []
    for name in ("sentry-cli", "node of 2024"):
        for code in macho.parse(files[name]):
            assert code.signature_bytes is not None
            blob = superblob.parse(code.signature_bytes)
            encoded = blob.get(superblob.SLOT_ENTITLEMENTS_DER)
            xml = blob.get(superblob.SLOT_ENTITLEMENTS)
            assert encoded is not None
            assert xml is not None
            claims = readers.entitlements_by_asn1crypto(encoded[8:])
            assert claims == plistlib.loads(xml[8:])
            seen.append((encoded[8], bool(claims)))
    assert seen == [(0x70, False), (0x70, False), (0x31, True)]


def test_openssl_builds_the_chains(signed: list[Signed], tmp_path: Path) -> None:
    """From each signing certificate to Apple's root at the time of the timestamp."""
    trust = certificates.apple_trust()
    for item in signed:
        stamp = timestamp_token.verify(item.token, signed_octets=item.octets, trust=trust)
        proof = cms.verify(
            cms.parse(item.signed_data), content=item.directory, allowed_digests=DIGESTS
        )
        chain = certificates.build_chain(
            proof.certificate,
            proof.pool,
            trust=trust,
            at=stamp.gen_time,
            required_leaf_marker=certificates.DEVELOPER_ID_APPLICATION,
            required_issuer_marker=certificates.DEVELOPER_ID_CA,
        )
        holds, told = openssl.verify_chain(
            tmp_path, chain, roots=ROOTS, at=stamp.gen_time, ignore_critical=True
        )
        assert holds, told
        assert not openssl.verify_chain(tmp_path, chain, roots=ROOTS, at=stamp.gen_time)[0]


def test_lief_reads_the_same_code(files: dict[str, bytes]) -> None:
    """Every slice, the linker-signed one included."""
    counts = [readers.lief_agrees(data) for name, data in files.items() if name != "ticket"]
    assert sum(counts) == SLICES + 1


def test_openssl_verifies_the_apps_ticket(files: dict[str, bytes], tmp_path: Path) -> None:
    """The stapled ticket's signature and chain, at the ticket's own time."""
    found = ticket.parse(files["ticket"])
    leaf = ticket.verify(found, trust=certificates.apple_trust())
    message = ticket.signed_part(found)
    assert openssl.verify_signature(tmp_path, leaf, message, found.signature)
    chain = [certificates.load(item) for item in found.chain]
    assert openssl.verify_chain(tmp_path, chain, roots=ROOTS, at=found.issued)[0]


def test_signing_again_changes_nothing_outside_the_signatures(files: dict[str, bytes]) -> None:
    """What Apple's tools and others signed, signed ad-hoc by us: one content, one digest."""
    intent = signing.Intent(identifier="io.example")
    for name, data in files.items():
        if name == "ticket":
            continue
        again = signing.sign(data, intent, None).data
        assert again != data
        assert unsigned_content.compare(data, again) is None, name
        assert unsigned_content.digest(data) == unsigned_content.digest(again)
