"""RFC 3161: ask for a timestamp, read the answer, judge a token as Apple issues it.

Apple's tokens are signed with SHA-1 to this day, carry their certificates unsorted, and their
signers live six weeks; so a token is judged at its own time, and SHA-1 is allowed here by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from release_tool import errors
from release_tool.apple import certificates, cms, der, signatures

TST_INFO = "1.2.840.113549.1.9.16.1.4"
_SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12"
_SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"

MAX_RESPONSE_BYTES = 64 * 1024
"""Apple's answers take 4.3 KB."""

# Every token of Apple's seen is signed over SHA-1 digests; those of 2019 also imprint with it.
_SIGNER_DIGESTS = frozenset(("sha1", "sha256", "sha384", "sha512"))

_STATUS = MappingProxyType(
    {
        0: "granted",
        1: "granted with modifications",
        2: "rejected",
        3: "waiting",
        4: "a revocation is imminent",
        5: "a revocation was made",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampProof:
    """What a valid token proves: these octets existed at this time."""

    gen_time: datetime
    policy: str
    serial: int
    imprint_algorithm: str
    nonce: int | None
    chain: tuple[certificates.Certificate, ...]
    """Of the token's signer, leaf first."""
    pool: tuple[certificates.Certificate, ...]
    """All certificates in the token; nothing protects the surplus ones."""


def encode_request(digest: bytes, nonce: int, algorithm: str = "sha256") -> bytes:
    """Write a TimeStampReq that asks for the certificates too.

    Args:
        digest: of the octets to stamp: a signature's, for code.
        nonce: comes back in the token, so that an old answer cannot pass.
        algorithm: the digest's name.
    """
    imprint = der.sequence(
        cms.algorithm_identifier(signatures.OIDS_OF_DIGESTS[algorithm], with_null=True),
        der.octets(digest),
    )
    return der.sequence(der.integer(1), imprint, der.integer(nonce), der.boolean(True))  # noqa: FBT003


def parse_response(data: bytes) -> bytes:
    """Take the token out of a TimeStampResp.

    Returns:
        The token's DER as it stood.

    Raises:
        FormatError: not a timestamp response.
        RemoteRefusedError: the authority granted nothing.
    """
    if len(data) > MAX_RESPONSE_BYTES:
        raise errors.FormatError(f"{len(data)} bytes are no timestamp response")
    parts = der.as_sequence(der.parse(data))
    if not parts or len(parts) > 2:
        raise errors.FormatError("not a timestamp response")
    status = der.as_sequence(parts[0])
    code = der.as_integer(status[0]) if status else -1
    if code not in _STATUS:
        raise errors.FormatError(f"a timestamp response of unknown status {code}")
    if code not in (0, 1):
        raise errors.RemoteRefusedError(
            "the timestamp authority granted nothing",
            expected=_STATUS[0],
            observed=" · ".join((_STATUS[code], *_status_texts(status))),
        )
    if len(parts) != 2:
        raise errors.FormatError("a granted timestamp response holds no token")
    return parts[1].raw


def _status_texts(status: Sequence[der.Node]) -> list[str]:
    if len(status) < 2 or not status[1].is_universal(der.SEQUENCE):
        return []
    return [certificates.printable(der.as_text(text)) for text in status[1].children[:4]]


def verify(
    token: bytes,
    *,
    signed_octets: bytes,
    trust: certificates.Trust,
    pool: Sequence[certificates.Certificate] = (),
    nonce: int | None = None,
) -> TimestampProof:
    """Verify a token over the octets that were stamped.

    Args:
        token: the token's CMS.
        signed_octets: what was stamped; for code the signature octets of its SignerInfo.
        trust: where the signer's chain must end, at the token's own time.
        pool: further certificates that may stand between.
        nonce: what the request carried; None where nobody asked just now.

    Raises:
        VerificationError: the token is not a valid one for these octets.
    """
    signed_data = cms.parse(token)
    if signed_data.content_type != TST_INFO:
        raise errors.FormatError("not a timestamp token")
    proof = cms.verify(signed_data, content=None, allowed_digests=_SIGNER_DIGESTS)
    info = _read_info(proof.content)
    _verify_imprint(info, signed_octets)
    if nonce is not None and info.nonce != nonce:
        raise errors.VerificationError("the timestamp token answers another request: other nonce")
    _verify_signing_certificate(proof)
    return TimestampProof(
        gen_time=info.gen_time,
        policy=info.policy,
        serial=info.serial,
        imprint_algorithm=info.imprint_algorithm,
        nonce=info.nonce,
        chain=_chain(proof, info.gen_time, trust, pool),
        pool=proof.pool,
    )


def _chain(
    proof: cms.SignerProof,
    at: datetime,
    trust: certificates.Trust,
    pool: Sequence[certificates.Certificate],
) -> tuple[certificates.Certificate, ...]:
    leaf = proof.certificate
    if not certificates.is_limited_to(leaf, certificates.TIME_STAMPING):
        raise errors.VerificationError(
            "the timestamp's signer is not limited to time stamping",
            subject=certificates.display_name(leaf),
        )
    return certificates.build_chain(
        leaf,
        (*proof.pool, *pool),
        trust=trust,
        at=at,
        required_issuer_marker=certificates.TIMESTAMP_CA,
        required_purpose=certificates.TIME_STAMPING,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Info:
    policy: str
    imprint_algorithm: str
    imprint: bytes
    serial: int
    gen_time: datetime
    nonce: int | None


def _read_info(data: bytes) -> _Info:
    fields = der.as_sequence(der.parse(data))
    if len(fields) < 5 or der.as_integer(fields[0]) != 1:
        raise errors.FormatError("a timestamp token of another version")
    imprint = der.as_sequence(fields[2])
    if len(imprint) != 2 or not fields[4].is_universal(der.GENERALIZED_TIME):
        raise errors.FormatError("a malformed timestamp token")
    nonce = next((node for node in fields[5:] if node.is_universal(der.INTEGER)), None)
    return _Info(
        policy=der.as_oid(fields[1]),
        imprint_algorithm=signatures.digest_name(imprint[0]),
        imprint=der.as_octets(imprint[1]),
        serial=der.as_integer(fields[3]),
        gen_time=der.as_time(fields[4]),
        nonce=der.as_integer(nonce) if nonce else None,
    )


def _verify_imprint(info: _Info, signed_octets: bytes) -> None:
    observed = signatures.digest(info.imprint_algorithm, signed_octets)
    if info.imprint != observed:
        raise errors.VerificationError(
            "the timestamp token is for other octets",
            expected=info.imprint.hex(),
            observed=observed.hex(),
        )


def _verify_signing_certificate(proof: cms.SignerProof) -> None:
    """RFC 3161 has the signer's certificate hashed into the signed attributes."""
    digest, value = "sha1", cms.single(proof.signer.attributes, _SIGNING_CERTIFICATE)
    if value is None:
        digest, value = "sha256", cms.single(proof.signer.attributes, _SIGNING_CERTIFICATE_V2)
    if value is None:
        raise errors.VerificationError("the timestamp token does not bind its signer")
    fields = _first_certificate_id(value)
    if fields[0].is_universal(der.SEQUENCE):
        digest, fields = signatures.digest_name(fields[0]), fields[1:]
    expected = der.as_octets(fields[0]) if fields else b""
    if expected != signatures.digest(digest, proof.certificate.der):
        raise errors.VerificationError("the timestamp token was signed by another certificate")


def _first_certificate_id(value: der.Node) -> tuple[der.Node, ...]:
    """SigningCertificate(V2) names the signer first: certs SEQUENCE OF ESSCertID(v2)."""
    holder = der.as_sequence(value)
    identifiers = der.as_sequence(holder[0]) if holder else ()
    fields = der.as_sequence(identifiers[0]) if identifiers else ()
    if not fields:
        raise errors.FormatError("a timestamp token's signer identifier is malformed")
    return fields
