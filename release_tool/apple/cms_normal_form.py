"""What a signature would look like if its writer had left itself no freedom.

A CMS signature covers its signed attributes and nothing else: versions, algorithm identifiers,
framing, the order and number of certificates and everything unsigned can change without breaking
it. So for code of our own the whole blob is written again from what the signature does cover and
compared byte for byte. Rule and source: the forms measured on code that Apple's codesign signed
and on Apple's timestamp tokens. This is the judge's own writer, on purpose not the signer's.
"""

from __future__ import annotations

from collections.abc import Sequence

from release_tool import errors
from release_tool.apple import certificates, cms, der, signatures


def code_signature(signed: cms.SignedData, chain: Sequence[certificates.Certificate]) -> bytes:
    """The CMS of a code signature in codesign's form.

    ContentInfo, its [0], SignedData and encapContentInfo have indefinite lengths, all else is
    DER; the certificates are the chain's and only they, leaf last; the one unsigned attribute is
    the timestamp token.

    Raises:
        FormatError: there is no single signer with signed attributes.
    """
    signer = _one_signer(signed)
    digest = _digest_identifier("sha256")
    holders = [*(item.der for item in chain[1:]), chain[0].der]
    unsigned = [
        der.context(1, cms.attribute(cms.TIMESTAMP_TOKEN, *(value.raw for value in values)))
        for oid, values in signer.unsigned.items()
        if oid == cms.TIMESTAMP_TOKEN
    ]
    body = der.indefinite(
        der.SEQUENCE,
        der.integer(1),
        der.set_as_given(digest),
        der.indefinite(der.SEQUENCE, der.oid(cms.DATA)),
        der.encode(0xA0, *holders),
        der.set_as_given(_signer_info(signer, chain[0], "sha256", unsigned)),
    )
    return der.indefinite(der.SEQUENCE, der.oid(cms.SIGNED_DATA), der.indefinite(0xA0, body))


def timestamp_token(token: cms.SignedData, chain: Sequence[certificates.Certificate]) -> bytes:
    """A timestamp token in DER, with its chain's certificates only, in the order they stand.

    Raises:
        FormatError: there is no single signer with signed attributes.
    """
    signer = _one_signer(token)
    digest = _digest_identifier(signer.digest_algorithm)
    wanted = {item.der for item in chain}
    holders = [item for item in dict.fromkeys(token.certificates) if item in wanted]
    body = der.sequence(
        der.integer(3),
        der.set_as_given(digest),
        der.sequence(der.oid(token.content_type), der.context(0, der.octets(token.content or b""))),
        der.encode(0xA0, *holders),
        der.set_as_given(_signer_info(signer, chain[0], signer.digest_algorithm, [])),
    )
    return der.sequence(der.oid(cms.SIGNED_DATA), der.context(0, body))


def _one_signer(signed: cms.SignedData) -> cms.Signer:
    if len(signed.signers) != 1 or signed.signers[0].signed_attributes_raw is None:
        raise errors.FormatError("CMS signed data has not one signer with signed attributes")
    return signed.signers[0]


def _signer_info(
    signer: cms.Signer,
    leaf: certificates.Certificate,
    digest: str,
    unsigned: Sequence[bytes],
) -> bytes:
    return der.sequence(
        der.integer(1),
        der.sequence(leaf.issuer, der.integer(leaf.serial)),
        _digest_identifier(digest),
        signer.signed_attributes_raw or b"",
        _signature_identifier(leaf, digest),
        der.octets(signer.signature),
        *unsigned,
    )


def _digest_identifier(name: str) -> bytes:
    return cms.algorithm_identifier(signatures.OIDS_OF_DIGESTS[name], with_null=True)


def _signature_identifier(leaf: certificates.Certificate, digest: str) -> bytes:
    """RSA over SHA-1 is named without its digest, as Apple's tokens do; all else with it."""
    key = signatures.key_type(leaf.public_key_info)
    if key == "RSA" and digest == "sha1":
        return cms.algorithm_identifier(signatures.RSA_ENCRYPTION, with_null=True)
    oid = signatures.algorithm_for(key, digest)
    return cms.algorithm_identifier(oid, with_null=key == "RSA")
