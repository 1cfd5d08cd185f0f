"""Apple's dialect of CMS in code signatures, as codesign writes it.

The content is the code directory and stays outside. The containers ContentInfo, its [0],
SignedData and encapContentInfo have indefinite lengths, everything else is DER: so stand all
signatures of the open Developer ID app that Apple's tool signed. No signature covers those
lengths.
"""

from __future__ import annotations

import hashlib
import plistlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import rsa

from release_tool import errors
from release_tool.apple import cms, code_directory, der, signatures
from release_tool.apple.certificates import Certificate
from release_tool.apple.identity import Identity

Timestamp = Callable[[bytes], bytes]
"""Gets the signature octets, returns an RFC 3161 token over them."""


def build_cms(
    directories: Sequence[bytes],
    *,
    identity: Identity,
    signing_time: datetime,
    timestamp: Timestamp | None = None,
    lengths: Literal["indefinite", "definite"] = "indefinite",
    algorithm: str | None = None,
) -> bytes:
    """Sign code directories.

    Args:
        directories: the code directory, then its alternates; the first is what is signed.
        identity: key, leaf and chain.
        signing_time: what the signer claims; whole seconds are kept.
        timestamp: asks for a token over the signature octets; None leaves it out.
        lengths: of the outer containers: Apple's own tool leaves them open, others do not.
        algorithm: the identifier of the signature's algorithm, where it is not codesign's of
            today: older ones name the key alone.

    Returns:
        The content of the CMS slot.

    Raises:
        CredentialError: the identity's chain is not known up to its root.
    """
    if not identity.chain or identity.chain[-1].issuer != identity.chain[-1].subject:
        raise errors.CredentialError(
            "the chain above the signing certificate is not known",
            subject=identity.name,
            hint="export the identity with its intermediate and root certificates",
        )
    algorithm = algorithm or algorithm_of(identity.leaf)
    signature = _signature_of(directories, identity, signing_time, algorithm)
    unsigned = () if timestamp is None else (_attribute(cms.TIMESTAMP_TOKEN, timestamp(signature)),)
    made = _build(directories, identity, signing_time, algorithm, lambda _: signature, unsigned)
    return made if lengths == "definite" else _apples_encoding(made)


def signed_attributes(directories: Sequence[bytes], signing_time: datetime) -> tuple[bytes, ...]:
    """The attributes that codesign signs, in its order.

    The message digest is SHA-256 of the first code directory, whatever that hashes with. 9.2 has
    the whole digest of each directory under its algorithm, 9.1 the cut ones in a property list.
    """
    cdhashes = [code_directory.cdhash(directory) for directory in directories]
    plist = plistlib.dumps({"cdhashes": cdhashes})
    digests = [_named_digest(directory) for directory in directories]
    return (
        _attribute(cms.CONTENT_TYPE, der.oid(cms.DATA)),
        _attribute(cms.SIGNING_TIME, der.utc_time(signing_time)),
        _attribute(cms.MESSAGE_DIGEST, der.octets(hashlib.sha256(directories[0]).digest())),
        _attribute(cms.APPLE_CDHASHES, *digests),
        _attribute(cms.APPLE_CDHASHES_PLIST, der.octets(plist)),
    )


def _named_digest(directory: bytes) -> bytes:
    name = code_directory.parse(directory).algorithm
    algorithm = der.oid(signatures.OIDS_OF_DIGESTS[name])
    return der.sequence(algorithm, der.octets(code_directory.full_digest(directory)))


def _attribute(oid: str, *values: bytes) -> bytes:
    return der.sequence(der.oid(oid), der.set_as_given(*values))


def algorithm_of(leaf: Certificate) -> str:
    """The algorithm that codesign names for a certificate's key."""
    key = signatures.load_public_key(leaf.public_key_info)
    is_rsa = isinstance(key, rsa.RSAPublicKey)
    return signatures.SHA256_WITH_RSA if is_rsa else signatures.ECDSA_WITH_SHA256


def _signature_of(
    directories: Sequence[bytes], identity: Identity, signing_time: datetime, algorithm: str
) -> bytes:
    """The signature octets. They are made once: an EC signature never comes out alike twice."""
    made: list[bytes] = []

    def sign(octets: bytes) -> bytes:
        made.append(identity.sign(hashlib.sha256(octets).digest()))
        return made[0]

    _build(directories, identity, signing_time, algorithm, sign, ())
    return made[0]


def _build(
    directories: Sequence[bytes],
    identity: Identity,
    signing_time: datetime,
    algorithm: str,
    sign: Callable[[bytes], bytes],
    unsigned: Sequence[bytes],
) -> bytes:
    return cms.build(
        content=directories[0],
        content_type=cms.DATA,
        detached=True,
        digest="sha256",
        signer_certificate=identity.leaf.der,
        certificates=[*(issuer.der for issuer in identity.chain), identity.leaf.der],
        sign=sign,
        attributes=signed_attributes(directories, signing_time),
        attribute_order="given",
        unsigned=unsigned,
        signature_algorithm=algorithm,
    )


def _apples_encoding(definite: bytes) -> bytes:
    kind, holder = der.as_sequence(der.parse(definite))
    version, digests, encapsulated, *rest = der.as_sequence(holder.children[0])
    content = der.indefinite(der.SEQUENCE, *(node.raw for node in encapsulated.children))
    body = der.indefinite(
        der.SEQUENCE, version.raw, digests.raw, content, *(node.raw for node in rest)
    )
    return der.indefinite(der.SEQUENCE, kind.raw, der.indefinite(0xA0, body))
