"""Who signed: each kind of signer is told by its chain, and named for what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from release_tool.apple import (
    certificates,
    cms,
    code_directory,
    code_signature,
    macho,
    release,
    signing,
    superblob,
    verification,
)
from release_tool.apple.checks import Check
from release_tool.apple.facts import CodeReport
from release_tool.apple.signing import Intent
from release_tool.apple.tree import in_memory
from release_tool.apple.verification import Judge
from tests import macho_samples, nested_app, signed_release
from tests.tamperings.code import Code

NOW = datetime.now(UTC).replace(microsecond=0)
LATER = NOW + timedelta(days=6 * 365)
"""When the look-alike's leaf has expired."""
CRITICAL = True
AUTHORITY = "Apple Code Signing Certification Authority"
IDENTIFIER = "com.example.tool"


class Signer(NamedTuple):
    """A chain of three with the leaf's key."""

    trust: certificates.Trust
    chain: tuple[bytes, ...]
    key: rsa.RSAPrivateKey


def _name(text: str, organization: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, text),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        ]
    )


def _issue(
    name: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey, by: rsa.RSAPrivateKey, marker: str
) -> bytes:
    is_leaf = name != issuer and name.rfc4514_string().startswith("O=Leaf")
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=365))
        .add_extension(x509.BasicConstraints(not is_leaf, None), CRITICAL)
    )
    if is_leaf:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        builder = builder.add_extension(usage, CRITICAL)
    if marker:
        oid = x509.ObjectIdentifier(f"1.2.840.113635.100.{marker}")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\x05\0"), not CRITICAL)
    return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@lru_cache(maxsize=8)
def signer(authority: str, organization: str, leaf_marker: str, issuer_marker: str) -> Signer:
    root_key, issuer_key, key = (rsa.generate_private_key(65537, 2048) for _ in range(3))
    names = [
        _name("Root", "Root"),
        _name(authority, organization),
        _name("Software Signing", "Leaf"),
    ]
    root = _issue(names[0], names[0], root_key, root_key, "")
    issuer = _issue(names[1], names[0], issuer_key, root_key, issuer_marker)
    leaf = _issue(names[2], names[1], key, issuer_key, leaf_marker)
    trust = certificates.Trust(name="look-alike", roots=(certificates.load(root),))
    return Signer(trust, (leaf, issuer, root), key)


def signed_by(who: Signer, *, team_id: str | None) -> bytes:
    """The sample with a directory of this team and a CMS by this signer, no timestamp."""
    begun = signing.sign(
        macho_samples.thin(), Intent(identifier=IDENTIFIER), signed_release.signing_authority()
    ).data
    code = Code(begun, "arm64", b"")
    parsed = code_directory.parse(code.directory)
    directory = code_directory.encode(replace(parsed, team_id=team_id, layout=None, raw=b""))
    content = cms.build(
        content=directory,
        detached=True,
        digest="sha256",
        signer_certificate=who.chain[0],
        certificates=who.chain,
        sign=lambda octets: who.key.sign(octets, padding.PKCS1v15(), hashes.SHA256()),
        attributes=code_signature.signed_attributes([directory], NOW),
    )
    return code.with_blobs(
        [
            (superblob.SLOT_CODE_DIRECTORY, directory),
            (superblob.SLOT_REQUIREMENTS, code.blob.get(superblob.SLOT_REQUIREMENTS) or b""),
            (superblob.SLOT_CMS, superblob.wrap(superblob.MAGIC_WRAPPER, content)),
        ]
    )


def judged(
    data: bytes, trust: certificates.Trust, *, strict: bool = False, now: datetime = NOW
) -> CodeReport:
    return verification.verify(data, judge=Judge(trust=trust, now=now, strict=strict))


def outcomes(found: tuple[Check, ...], name: str) -> list[str]:
    return [check.outcome for check in found if check.name == name]


def refused(report: CodeReport) -> set[str]:
    return {check.name for check in report.checks if check.outcome == "failed"}


@pytest.mark.parametrize(
    ("markers", "team_id", "name"),
    [
        (("6.1.9", "6.2.1"), "SLDQ2GJ6TL", "Mac App Store"),
        (("", ""), None, "Apple platform code"),
    ],
)
def test_code_of_apples_own_and_of_the_store_is_named(
    markers: tuple[str, str], team_id: str | None, name: str
) -> None:
    """Neither is Developer ID: foreign code of both kinds has its chain, our own may not."""
    authority = AUTHORITY if team_id is None else "Look-alike WWDR"
    who = signer(authority, "Apple Inc.", *markers)
    report = judged(signed_by(who, team_id=team_id), who.trust)
    assert [item.signer_kind for item in report.slices] == [name]
    assert outcomes(report.checks, "certificate chain") == ["passed"]
    # The sample's requirement is the one for Developer ID.
    assert refused(report) == {"designated requirement"}
    strict = judged(signed_by(who, team_id=team_id), who.trust, strict=True)
    assert "certificate chain" in refused(strict)


@pytest.mark.parametrize(
    ("authority", "organization", "team_id"),
    [(AUTHORITY, "Example", None), ("Example Authority", "Apple Inc.", None)],
)
def test_names_alone_make_no_platform_code(
    authority: str, organization: str, team_id: str | None
) -> None:
    """What is not under Apple's own authority is no platform code, whatever its leaf is called."""
    who = signer(authority, organization, "", "")
    assert "certificate chain" in refused(judged(signed_by(who, team_id=team_id), who.trust))


def test_platform_code_names_no_team() -> None:
    """A team beside Apple's own chain is a contradiction."""
    who = signer(AUTHORITY, "Apple Inc.", "", "")
    report = judged(signed_by(who, team_id="SLDQ2GJ6TL"), who.trust)
    assert "team of the certificate" in refused(report)


def _adhoc(data: bytes) -> bytes:
    return signing.sign(data, Intent(identifier=IDENTIFIER), None).data


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: _adhoc(macho_samples.thin()), "ad-hoc"),
        (macho_samples.thin, "ad-hoc by a linker"),
    ],
)
def test_ad_hoc_code_is_named(make: Callable[[], bytes], kind: str) -> None:
    """Ad-hoc code holds, and who made it is told from a linker's."""
    report = judged(make(), signed_release.trust())
    assert refused(report) == set()
    (signature,) = [check for check in report.checks if check.name == "signature"]
    assert signature.outcome == "unprotected"
    assert signature.observed.startswith(f"{kind}: anyone")
    assert [item.signer_kind for item in report.slices] == [kind]


def _signed(*, timestamped: bool) -> bytes:
    authority = signed_release.signing_authority()
    if not timestamped:
        authority = replace(authority, timestamp=None)
    return signing.sign(macho_samples.thin(), Intent(identifier=IDENTIFIER), authority).data


def test_an_expired_certificate_is_held_by_a_timestamp() -> None:
    """Years after its end, the leaf's signature holds where a timestamp is from before."""
    report = judged(_signed(timestamped=True), signed_release.trust(), now=LATER)
    assert refused(report) == set()
    (check,) = [check for check in report.checks if check.name == "expired certificate"]
    assert check.outcome == "passed"
    assert "the timestamp of" in check.observed
    assert outcomes(judged(_signed(timestamped=True), signed_release.trust()).checks,
                    "expired certificate") == []  # fmt: skip


def test_an_expired_certificate_without_a_timestamp_is_refused() -> None:
    """The same without one is refused, and says so; before its end it is told when it ends."""
    data = _signed(timestamped=False)
    report = judged(data, signed_release.trust(), now=LATER)
    assert {"expired certificate", "certificate chain"} <= refused(report)
    valid = judged(data, signed_release.trust())
    assert refused(valid) == set()
    (check,) = [check for check in valid.checks if check.name == "timestamp"]
    assert check.outcome == "unprotected"
    assert "ends with its certificate" in check.observed


def _two(first: bytes, second: bytes) -> bytes:
    """A universal file of two signed ones' slices."""
    intel = next(item for item in macho.parse(first) if item.arch == "x86_64")
    arm = next(item for item in macho.parse(second) if item.arch == "arm64")
    old = macho.parse(second)
    assert [item.arch for item in old] == ["x86_64", "arm64"]
    assert intel.size <= old[0].size
    body = bytes(intel.data).ljust(old[0].size, b"\0")
    whole = second[: old[0].offset] + body + second[old[0].offset + old[0].size :]
    # The slice's size in the universal header, 12 bytes into its entry.
    size = len(bytes(intel.data)).to_bytes(4, "big")
    assert arm.offset > old[0].offset
    return whole[:20] + size + whole[24:]


def test_slices_of_different_signers_are_refused() -> None:
    """One slice ad-hoc and one signed: a Mac would look at the one that it runs only."""
    universal = macho_samples.universal()
    signed = signing.sign(
        universal, Intent(identifier=IDENTIFIER), signed_release.signing_authority()
    ).data
    report = judged(_two(_adhoc(universal), signed), signed_release.trust())
    assert refused(report) == {"slices"}
    (check,) = [check for check in report.checks if check.name == "slices"]
    assert "x86_64 com.example.tool by ad-hoc" in check.observed


def test_slices_of_one_signer_may_differ_in_their_identifiers() -> None:
    """As real ones do; the check names each."""
    universal = macho_samples.universal()
    authority = signed_release.signing_authority()
    one, two = (
        signing.sign(universal, Intent(identifier=name), authority).data for name in ("a.b", "c.d")
    )
    report = judged(_two(one, two), signed_release.trust())
    assert refused(report) == set()
    (check,) = [check for check in report.checks if check.name == "slices"]
    assert "x86_64 a.b" in check.observed
    assert "arm64 c.d" in check.observed


# A stapled release of our own


def test_a_stapled_release_of_ours_holds() -> None:
    """Judged as our own work, a valid ticket that lists all of our code belongs in its place."""
    made = signed_release.made()
    app = {
        path.removeprefix(f"{signed_release.APP}/"): content
        for path, content in made.files.items()
        if path.startswith(f"{signed_release.APP}/")
    }
    ticket = nested_app.ticket_for(in_memory(app))
    place = f"{signed_release.APP}/{nested_app.TICKET}"
    report = release.verify(made.tree({place: ticket}), judge=made.judge())
    assert [check for check in report.checks if check.outcome == "failed"] == []
    assert outcomes(report.checks, "ticket cdhashes") == ["passed"]
    other = nested_app.made().files[nested_app.TICKET]
    for wrong in (other, ticket[:-1], b"s8ch"):
        found = release.verify(made.tree({place: wrong}), judge=made.judge()).checks
        names = {check.name for check in found if check.outcome == "failed"}
        assert names & {"ticket", "ticket cdhashes"}


def test_our_ticket_must_list_nested_code_too() -> None:
    """A ticket that leaves out the enclave tool is not the one for what we ship."""
    made = signed_release.made()
    main = judged(made.files[f"{signed_release.APP}/{signed_release.MAIN}"], made.trust)
    ticket = nested_app.ticket_over([bytes.fromhex(main.slices[0].cdhash)])
    tree = made.tree({f"{signed_release.APP}/{nested_app.TICKET}": ticket})
    ours = release.verify(tree, judge=made.judge()).checks
    assert outcomes(ours, "ticket cdhashes") == ["failed"]
    foreign = release.verify(tree, judge=made.judge(strict=False)).checks
    assert outcomes(foreign, "ticket cdhashes") == ["passed"]
    assert outcomes(foreign, "notarization of nested code") == ["not_checked"]
