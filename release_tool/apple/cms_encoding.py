"""Write CMS SignedData in DER, or in the dialect of Apple's codesign; reached through `cms`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from release_tool.apple import der, signatures, x509
from release_tool.apple.cms_values import SignedData, Signer

DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"

AttributeOrder = Literal["given", "sorted"]


def attribute(oid: str, *values: bytes) -> bytes:
    """An Attribute whose values keep the order given."""
    return der.sequence(der.oid(oid), der.set_as_given(*values))


def algorithm_identifier(oid: str, *, with_null: bool) -> bytes:
    """An AlgorithmIdentifier, with NULL for parameters or with none."""
    return der.sequence(der.oid(oid), *((der.null(),) if with_null else ()))


def build(
    *,
    content: bytes | None,
    content_type: str = DATA,
    detached: bool,
    digest: str,
    signer_certificate: bytes,
    certificates: Sequence[bytes],
    sign: Callable[[bytes], bytes],
    attributes: Sequence[bytes] = (),
    attribute_order: AttributeOrder = "sorted",
    unsigned: Sequence[bytes] = (),
    indefinite: bool = False,
    signature_algorithm: str = "",
) -> bytes:
    """Write SignedData with one signer.

    Args:
        content: what is signed.
        content_type: identifier of the content's type; other than `DATA` makes version 3.
        detached: whether the content stays outside.
        digest: digest of content and attributes: `sha256`, or `sha1` where Apple uses it.
        signer_certificate: the signer's certificate in DER, which names the signer.
        certificates: all certificates to carry, the signer's included, in the order to write.
        sign: gets the octets to sign (the attributes as a SET), returns the signature octets.
        attributes: encoded Attributes; content type and message digest are added where absent.
        attribute_order: sorted as DER wants it, or as given.
        unsigned: encoded Attributes that are not signed.
        indefinite: Apple codesign's dialect: ContentInfo, its [0], SignedData and the
            certificates' [0] with indefinite lengths.
        signature_algorithm: identifier; by default as Apple names it: RSA with SHA-1 without the
            digest's name (profiles, tokens), everything else with (code, inner profiles).
    """
    signed_content = content or b""
    wanted = _all_attributes(attributes, content_type, signatures.digest(digest, signed_content))
    if attribute_order == "sorted":
        wanted = sorted(wanted)
    signed = der.encode(der.SET, *wanted)
    digest_identifier = algorithm_identifier(signatures.OIDS_OF_DIGESTS[digest], with_null=True)
    signer = _build_signer(
        signer_certificate,
        digest,
        digest_identifier,
        signed,
        sign(signed),
        unsigned,
        signature_algorithm,
    )
    wrap = der.indefinite if indefinite else der.encode
    inside = () if detached else (der.context(0, der.octets(signed_content)),)
    body = wrap(
        der.SEQUENCE,
        der.integer(1 if content_type == DATA else 3),
        der.set_of(digest_identifier),
        der.sequence(der.oid(content_type), *inside),
        wrap(0xA0, *certificates),
        der.set_of(signer),
    )
    return wrap(der.SEQUENCE, der.oid(SIGNED_DATA), wrap(0xA0, body))


def encode(signed: SignedData) -> bytes:
    """Write signed data from its parts; what `cms.parse` returned comes out as it was.

    Each part can be replaced: certificates, unsigned attributes, the forms of the lengths. The
    signature then holds as long as what it is over stays.
    """
    forms = signed.forms
    holder: tuple[bytes, ...] = ()
    if forms.certificates is not None:
        holder = (der.encode_in_form(0xA0, forms.certificates, *signed.certificates),)
    body = der.encode_in_form(
        der.SEQUENCE,
        forms.signed_data,
        der.integer(signed.version),
        der.encode_in_form(der.SET, forms.digests, *signed.digest_identifiers),
        signed.encapsulated,
        *holder,
        *((signed.revocation,) if signed.revocation is not None else ()),
        der.encode_in_form(der.SET, forms.signers, *map(_encode_signer, signed.signers)),
    )
    explicit = der.encode_in_form(0xA0, forms.explicit, body)
    return der.encode_in_form(der.SEQUENCE, forms.content_info, der.oid(SIGNED_DATA), explicit)


def _encode_signer(signer: Signer) -> bytes:
    optional = (signer.signed_attributes_raw, signer.unsigned_raw)
    signed, unsigned = ((part,) if part is not None else () for part in optional)
    return der.encode_in_form(
        der.SEQUENCE,
        signer.form,
        der.integer(signer.version),
        signer.signer_id,
        signer.digest_identifier,
        *signed,
        signer.signature_identifier,
        der.octets(signer.signature),
        *unsigned,
    )


def _all_attributes(given: Sequence[bytes], content_type: str, digest: bytes) -> list[bytes]:
    present = {der.as_oid(der.as_sequence(der.parse(item))[0]) for item in given}
    standard = (
        (CONTENT_TYPE, attribute(CONTENT_TYPE, der.oid(content_type))),
        (MESSAGE_DIGEST, attribute(MESSAGE_DIGEST, der.octets(digest))),
    )
    return [item for oid, item in standard if oid not in present] + list(given)


def _build_signer(
    certificate_der: bytes,
    digest: str,
    digest_identifier: bytes,
    signed: bytes,
    signature: bytes,
    unsigned: Sequence[bytes],
    algorithm: str,
) -> bytes:
    certificate = x509.load(certificate_der)
    return der.sequence(
        der.integer(1),
        der.sequence(certificate.issuer, der.integer(certificate.serial)),
        digest_identifier,
        b"\xa0" + signed[1:],
        _signature_identifier(certificate, digest, algorithm),
        der.octets(signature),
        *((der.context(1, *sorted(unsigned)),) if unsigned else ()),
    )


def _signature_identifier(certificate: x509.Certificate, digest: str, algorithm: str) -> bytes:
    is_rsa = signatures.key_type(certificate.public_key_info) == "RSA"
    if is_rsa and digest == "sha1":
        default = signatures.RSA_ENCRYPTION
    else:
        default = signatures.algorithm_for("RSA" if is_rsa else "EC", digest)
    chosen = algorithm or default
    return algorithm_identifier(chosen, with_null=is_rsa)
