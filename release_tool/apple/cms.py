"""CMS SignedData as Apple writes it: read as it stands, verified over the raw attributes, built.

Apple's signatures are BER with indefinite lengths, their certificates and attributes are not in
DER's order, and profiles and timestamp tokens still use SHA-1. So nothing is re-encoded: the
signed attributes are verified over the bytes that came, with only the first tag byte changed from
[0] to SET. RFC 5652 is the standard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from release_tool import errors
from release_tool.apple import certificates, der, signatures
from release_tool.apple.cms_encoding import (
    CONTENT_TYPE,
    DATA,
    MESSAGE_DIGEST,
    SIGNED_DATA,
    AttributeOrder,
    algorithm_identifier,
    attribute,
    build,
    encode,
)
from release_tool.apple.cms_values import Forms, SignedData, Signer

__all__ = [
    "APPLE_CDHASHES",
    "APPLE_CDHASHES_PLIST",
    "CONTENT_TYPE",
    "DATA",
    "MESSAGE_DIGEST",
    "SIGNED_DATA",
    "SIGNING_TIME",
    "TIMESTAMP_TOKEN",
    "AttributeOrder",
    "Forms",
    "SignedData",
    "Signer",
    "SignerProof",
    "algorithm_identifier",
    "attribute",
    "build",
    "encode",
    "parse",
    "single",
    "verify",
]

SIGNING_TIME = "1.2.840.113549.1.9.5"
TIMESTAMP_TOKEN = "1.2.840.113549.1.9.16.2.14"  # noqa: S105 - an identifier
APPLE_CDHASHES_PLIST = "1.2.840.113635.100.9.1"
APPLE_CDHASHES = "1.2.840.113635.100.9.2"

MAX_CERTIFICATES = 64
"""Real signatures carry at most five."""


class SignerProof(NamedTuple):
    """Who signed, once the signature held. The chain is still to be judged."""

    certificate: certificates.Certificate
    signer: Signer
    content: bytes
    pool: tuple[certificates.Certificate, ...]
    """All certificates that came along."""


def parse(data: bytes) -> SignedData:
    """Read a ContentInfo that holds SignedData, in BER or DER.

    Only what `encode` would write again byte for byte is read.

    Raises:
        FormatError: the bytes are something else.
    """
    outer = der.parse(data)
    parts = der.as_sequence(outer)
    if not parts or der.as_oid(parts[0]) != SIGNED_DATA or len(parts) != 2:
        raise errors.FormatError("not CMS signed data")
    body = _only(parts[1], 0)
    fields = list(der.as_sequence(body))
    if len(fields) < 4:
        raise errors.FormatError("CMS signed data lacks fields")
    version, digests, encapsulated, *optional, signers = fields
    holder, revocation = _optional(optional)
    content_type, content = _encapsulated(encapsulated)
    found = SignedData(
        version=der.as_integer(version),
        digest_algorithms=tuple(map(signatures.digest_name, der.as_set(digests))),
        content_type=content_type,
        content=content,
        certificates=_certificates(holder) if holder else (),
        signers=tuple(map(_signer, der.as_set(signers))),
        raw=outer.raw,
        digest_identifiers=tuple(node.raw for node in digests.children),
        encapsulated=encapsulated.raw,
        revocation=revocation.raw if revocation else None,
        forms=Forms(
            content_info=der.length_form(outer),
            explicit=der.length_form(parts[1]),
            signed_data=der.length_form(body),
            digests=der.length_form(digests),
            certificates=der.length_form(holder) if holder else None,
            signers=der.length_form(signers),
        ),
    )
    if encode(found) != outer.raw:
        raise errors.FormatError("CMS signed data is written in a way that nobody uses")
    return found


def _optional(nodes: list[der.Node]) -> tuple[der.Node | None, der.Node | None]:
    """The certificates' [0] and the revocation lists' [1], each at most once."""
    holder = nodes.pop(0) if nodes and nodes[0].is_context(0) else None
    revocation = nodes.pop(0) if nodes and nodes[0].is_context(1) else None
    if nodes:
        raise errors.FormatError("CMS signed data holds an unknown field")
    return holder, revocation


def _only(node: der.Node, number: int) -> der.Node:
    """The one element inside an explicit tag."""
    if not node.is_context(number):
        raise errors.FormatError(f"the tag [{number}] was expected in CMS signed data")
    inside = node.children
    if len(inside) != 1:
        raise errors.FormatError(f"the tag [{number}] of CMS signed data holds no single element")
    return inside[0]


def _encapsulated(node: der.Node) -> tuple[str, bytes | None]:
    parts = der.as_sequence(node)
    if len(parts) not in (1, 2):
        raise errors.FormatError("the content of CMS signed data is malformed")
    content = der.as_octets(_only(parts[1], 0)) if len(parts) == 2 else None
    return der.as_oid(parts[0]), content


def _certificates(node: der.Node) -> tuple[bytes, ...]:
    found = node.children
    if len(found) > MAX_CERTIFICATES:
        raise errors.FormatError(f"{len(found)} certificates in CMS, more than {MAX_CERTIFICATES}")
    if not all(item.is_universal(der.SEQUENCE) for item in found):
        raise errors.FormatError("CMS signed data holds something else among its certificates")
    return tuple(item.raw for item in found)


def _signer(node: der.Node) -> Signer:
    fields = list(der.as_sequence(node))
    if len(fields) < 5:
        raise errors.FormatError("a CMS signer lacks fields")
    issuer, serial, key_id = _signer_id(fields[1])
    signed = fields.pop(3) if fields[3].is_context(0) else None
    unsigned = fields.pop(5) if len(fields) == 6 and fields[5].is_context(1) else None
    if len(fields) != 5:
        raise errors.FormatError("a CMS signer has unknown fields")
    attributes = _attributes(signed, repeatable=False)
    return Signer(
        issuer_raw=issuer,
        serial=serial,
        subject_key_id=key_id,
        digest_algorithm=signatures.digest_name(fields[2]),
        signed_attributes_raw=signed.raw if signed else None,
        attributes=attributes,
        unsigned=_attributes(unsigned, repeatable=True),
        signature=der.as_octets(fields[4]),
        signature_algorithm=signatures.algorithm_oid(fields[3]),
        signing_time=_signing_time(attributes),
        version=der.as_integer(fields[0]),
        signer_id=fields[1].raw,
        digest_identifier=fields[2].raw,
        signature_identifier=fields[3].raw,
        unsigned_raw=unsigned.raw if unsigned else None,
        form=der.length_form(node),
    )


def _signer_id(node: der.Node) -> tuple[bytes | None, int | None, bytes | None]:
    if node.is_context(0):
        return None, None, der.string_content(node)
    parts = der.as_sequence(node)
    if len(parts) != 2:
        raise errors.FormatError("a CMS signer names no certificate")
    der.as_sequence(parts[0])
    return parts[0].raw, der.as_integer(parts[1]), None


def _attributes(node: der.Node | None, *, repeatable: bool) -> dict[str, tuple[der.Node, ...]]:
    found: dict[str, tuple[der.Node, ...]] = {}
    for item in node.children if node else ():
        parts = der.as_sequence(item)
        if len(parts) != 2:
            raise errors.FormatError("a CMS attribute is malformed")
        oid, values = der.as_oid(parts[0]), der.as_set(parts[1])
        if oid in found and not repeatable:
            raise errors.FormatError(f"a CMS signer has the signed attribute {oid} twice")
        found[oid] = found.get(oid, ()) + values
    return found


def single(attributes: Mapping[str, tuple[der.Node, ...]], oid: str) -> der.Node | None:
    """The one value of an attribute, or None where there is no such attribute.

    Raises:
        FormatError: it has no value or several.
    """
    values = attributes.get(oid)
    if values is None:
        return None
    if len(values) != 1:
        raise errors.FormatError(f"the CMS attribute {oid} has {len(values)} values")
    return values[0]


def _signing_time(attributes: Mapping[str, tuple[der.Node, ...]]) -> datetime | None:
    value = single(attributes, SIGNING_TIME)
    return der.as_time(value) if value else None


# Verifying


def verify(
    signed_data: SignedData,
    *,
    content: bytes | None,
    allowed_digests: frozenset[str],
    attributes_required: bool = True,
) -> SignerProof:
    """Verify the one signature of signed data.

    Args:
        signed_data: what `parse` returned.
        content: the signed bytes where they are detached; None where they are inside.
        allowed_digests: `sha1` only where the format's rules name it.
        attributes_required: whether a signature over the content itself is refused. RFC 5652
            allows one for plain data only; Apple's verifier takes it for code.

    Returns:
        The signer's certificate; whether anybody trusts it is `build_chain`'s question.

    Raises:
        VerificationError: the content or the attributes are not what was signed.
    """
    if len(signed_data.signers) != 1:
        raise errors.VerificationError(
            "CMS signed data has not one signer", observed=str(len(signed_data.signers))
        )
    signer = signed_data.signers[0]
    signed = _signed_content(signed_data, content)
    if signer.digest_algorithm not in allowed_digests:
        raise errors.VerificationError(
            "the CMS signature uses a digest that is not allowed here",
            expected=" or ".join(sorted(allowed_digests)),
            observed=signer.digest_algorithm,
        )
    if signer.signed_attributes_raw is not None:
        _verify_attributes(signed_data, signer, signed)
        message = b"\x31" + signer.signed_attributes_raw[1:]
    else:
        _judge_bare(signed_data, signed, refused=attributes_required)
        message = signed
    pool = tuple(map(certificates.load, signed_data.certificates))
    certificate = _signer_certificate(signer, pool)
    signatures.verify(
        certificate.public_key_info,
        algorithm=signer.signature_algorithm,
        digest_name=signer.digest_algorithm,
        signature=signer.signature,
        message=message,
    )
    return SignerProof(certificate=certificate, signer=signer, content=signed, pool=pool)


def _judge_bare(signed_data: SignedData, content: bytes, *, refused: bool) -> None:
    """A signature without signed attributes, which is over the content itself."""
    if refused:
        raise errors.VerificationError("the CMS signature has no signed attributes")
    if signed_data.content_type != DATA:
        raise errors.VerificationError(
            "the CMS signature has no signed attributes, which its content type needs",
            observed=signed_data.content_type,
        )
    # A SET is what signatures with attributes are over: one of those, its attributes passed off
    # as content, would hold here.
    if content[:1] == b"\x31":
        raise errors.VerificationError("the CMS signature may be another content's attributes")


def _signed_content(signed_data: SignedData, content: bytes | None) -> bytes:
    if signed_data.content is None:
        if content is None:
            raise errors.VerificationError("the CMS signature carries no content")
        return content
    if content not in (None, signed_data.content):
        raise errors.VerificationError("the CMS signature carries other content")
    return signed_data.content


def _verify_attributes(signed_data: SignedData, signer: Signer, content: bytes) -> None:
    if signer.signed_attributes_raw is None or signer.signed_attributes_raw[0] != 0xA0:
        raise errors.VerificationError("the CMS signature's signed attributes are malformed")
    content_type = single(signer.attributes, CONTENT_TYPE)
    if content_type is None or der.as_oid(content_type) != signed_data.content_type:
        raise errors.VerificationError("the CMS signature is over another content type")
    message_digest = single(signer.attributes, MESSAGE_DIGEST)
    expected = der.as_octets(message_digest) if message_digest else b""
    observed = signatures.digest(signer.digest_algorithm, content)
    if expected != observed:
        raise errors.VerificationError(
            "the signed content was changed: its digest is not the signed one",
            expected=expected.hex(),
            observed=observed.hex(),
        )


def _signer_certificate(
    signer: Signer, pool: Sequence[certificates.Certificate]
) -> certificates.Certificate:
    matches = [item for item in dict.fromkeys(pool) if _names(signer, item)]
    if len(matches) != 1:
        raise errors.VerificationError(
            "the CMS signature does not carry its signer's certificate"
            if not matches
            else "several certificates claim to be the CMS signer's"
        )
    return matches[0]


def _names(signer: Signer, certificate: certificates.Certificate) -> bool:
    if signer.issuer_raw is not None:
        return certificate.issuer == signer.issuer_raw and certificate.serial == signer.serial
    extension = certificate.extension("2.5.29.14")
    return (
        extension is not None and der.as_octets(der.parse(extension.value)) == signer.subject_key_id
    )
