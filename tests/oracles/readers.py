"""What asn1crypto, rfc3161-client and LIEF read in the same bytes, beside what we read."""

from __future__ import annotations

import io
from collections.abc import Iterator

import lief
import rfc3161_client
from asn1crypto import cms as asn1
from asn1crypto import core, parser, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509

from release_tool.apple import certificates, cms, der, macho

UNSORTED = "InvalidSetOrdering"
"""rfc3161-client reads strict DER, where a SET OF is sorted. Apple's tokens carry their
certificates in another order, and no signature covers it."""


def asn1crypto_agrees(data: bytes) -> None:
    """Every field of signed data that both readers have names for, all certificates included."""
    ours = cms.parse(data)
    theirs = asn1.ContentInfo.load(data)["content"]
    content = theirs["encap_content_info"]
    assert content["content_type"].dotted == ours.content_type
    assert (content["content"].native is None) == (ours.content is None)
    assert [item.chosen.dump() for item in theirs["certificates"]] == list(ours.certificates)
    for signer, found in zip(theirs["signer_infos"], ours.signers, strict=True):
        assert signer["digest_algorithm"]["algorithm"].native == found.digest_algorithm
        assert signer["signature"].native == found.signature
        signed = [item["type"].dotted for item in signer["signed_attrs"]]
        assert signed == list(found.attributes)
        by_type = {item["type"].dotted: item["values"] for item in signer["signed_attrs"]}
        if found.signing_time is not None:
            assert by_type[cms.SIGNING_TIME][0].native == found.signing_time
    for certificate in ours.certificates:
        asn1crypto_reads_certificate(certificate)


def asn1crypto_reads_certificate(data: bytes) -> None:
    """Names, serial number, life, extensions with their criticality."""
    ours, theirs = certificates.load(data), asn1_x509.Certificate.load(data)
    body = theirs["tbs_certificate"]
    assert body["subject"].dump() == ours.subject
    assert body["issuer"].dump() == ours.issuer
    life = body["validity"]
    assert (life["not_before"].native, life["not_after"].native) == (
        ours.not_before,
        ours.not_after,
    )
    assert f"{theirs.serial_number:x}" == certificates.serial_hex(ours).lstrip("0").lower()
    for extension in body["extensions"]:
        mine = ours.extension(extension["extn_id"].dotted)
        assert mine is not None
        assert mine.critical == extension["critical"].native
        assert mine.value == extension["extn_value"].contents
    names = x509.load_der_x509_certificate(data).subject
    common = [item.value for item in names.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    assert common[:1] == [certificates.common_name(ours)]


def time_by_asn1crypto(token: bytes) -> object:
    """The token's time as asn1crypto reads it."""
    info = asn1.ContentInfo.load(token)["content"]["encap_content_info"]["content"].parsed
    assert isinstance(info, tsp.TSTInfo)
    return info["gen_time"].native


def entitlements_by_asn1crypto(data: bytes) -> object:
    """Entitlements in DER by its parser alone: Apple's tags stand around, or in 2020 a SET does."""
    ((kind, _, tag, _, content, _),) = _elements(data)
    if (kind, tag) != (1, 16):
        return _value(data)
    version, document = _elements(content)
    assert core.load(b"".join(version[3:5])).native == 1
    return _value(b"".join(document[3:5]))


def _value(data: bytes) -> object:
    ((kind, _, tag, _, content, _),) = _elements(data)
    if (kind, tag) in ((2, 16), (0, 17)):
        pairs = [_value(b"".join(pair[3:5])) for pair in _elements(content)]
        return {pair[0]: pair[1] for pair in pairs if isinstance(pair, list)}
    if (kind, tag) == (0, 16):
        return [_value(b"".join(item[3:5])) for item in _elements(content)]
    return core.load(data, strict=True).native


def _elements(data: bytes) -> Iterator[tuple[int, int, int, bytes, bytes, bytes]]:
    """Class, method, tag, header, content, trailer of each."""
    while data:
        found = parser.parse(data)
        yield found
        data = data[sum(map(len, found[3:])) :]


def response(token: bytes) -> bytes:
    """A granted response around a token, as rfc3161-client wants one."""
    return der.sequence(der.sequence(der.integer(0)), token)


def sorted_certificates(token: bytes) -> bytes:
    """The token with its certificates in DER's order and definite lengths; nothing signed moves."""
    kind, holder = der.as_sequence(der.parse(token))
    parts = []
    for part in der.as_sequence(holder.children[0]):
        if part.is_context(0):
            ordered = sorted(item.raw for item in part.children)
            parts.append(der.encode(0xA0, b"".join(ordered)))
        else:
            parts.append(part.raw)
    return der.sequence(kind.raw, der.encode(0xA0, der.sequence(*parts)))


def rfc3161_verifies(
    token: bytes, octets: bytes, roots: list[certificates.Certificate]
) -> rfc3161_client.TimeStampResponse:
    """Read and verify a token whose certificates are sorted; raises where it does not hold."""
    found = rfc3161_client.decode_timestamp_response(response(token))
    builder = rfc3161_client.VerifierBuilder()
    for root in roots:
        builder = builder.add_root_certificate(x509.load_der_x509_certificate(root.der))
    builder.build().verify_message(found, octets)
    return found


def lief_agrees(data: bytes) -> int:
    """Headers, segments, sections, versions, libraries and the signature's place of every slice.

    Returns:
        How many slices were compared.
    """
    theirs = lief.MachO.parse(io.BytesIO(data))
    ours = macho.parse(data)
    assert theirs is not None
    assert theirs.size == len(ours)
    for number, code in enumerate(ours):
        found = theirs.at(number)
        assert found is not None
        _lief_slice(found, code)
    return len(ours)


def _lief_slice(theirs: lief.MachO.Binary, code: macho.Slice) -> None:
    assert [item.name for item in theirs.segments] == [item.name for item in code.segments]
    for segment, mine in zip(theirs.segments, code.segments, strict=True):
        assert (segment.file_offset, segment.file_size) == (mine.offset, mine.size)
        assert sorted(item.name for item in segment.sections) == sorted(
            item.name for item in mine.sections
        )
    own = lief.MachO.LoadCommand.TYPE.ID_DYLIB
    linked = [item.name for item in theirs.libraries if item.command != own]
    assert linked == list(code.linked_libraries)
    version, place = theirs.build_version, theirs.code_signature
    if version is not None:
        assert ".".join(map(str, version.minos)) == code.minos
        assert ".".join(map(str, version.sdk)) == code.sdk
    found = None if place is None else (place.data_offset, place.data_size)
    assert found == code.signature
