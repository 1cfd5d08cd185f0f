"""What CMS SignedData says, part for part; reached through `cms`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from release_tool.apple import der


class Signer(NamedTuple):
    """One SignerInfo."""

    issuer_raw: bytes | None
    """The issuer's Name as it stood; None where the key identifier names the certificate."""
    serial: int | None
    subject_key_id: bytes | None
    digest_algorithm: str
    signed_attributes_raw: bytes | None
    """As it stood, first byte 0xA0; None without signed attributes."""
    attributes: Mapping[str, tuple[der.Node, ...]]
    """The values of each signed attribute."""
    unsigned: Mapping[str, tuple[der.Node, ...]]
    """The values of each unsigned attribute: nothing protects them."""
    signature: bytes
    signature_algorithm: str
    signing_time: datetime | None
    """What the signer claims."""
    version: int = 1
    signer_id: bytes = b""
    """What names the certificate, as it stood."""
    digest_identifier: bytes = b""
    """The digest's AlgorithmIdentifier as it stood; Apple writes it with NULL and without."""
    signature_identifier: bytes = b""
    unsigned_raw: bytes | None = None
    """As it stood, first byte 0xA1."""
    form: int = der.MINIMAL
    """How the SignerInfo's length is written."""

    @property
    def signs_content_itself(self) -> bool:
        """Whether it has no signed attributes, so that the signature is over the content."""
        return self.signed_attributes_raw is None


class Forms(NamedTuple):
    """How the lengths of the containers are written, `der.MINIMAL` or otherwise.

    Apple's codesign writes four of them indefinite; nothing signs them.
    """

    content_info: int = der.MINIMAL
    explicit: int = der.MINIMAL
    """Of ContentInfo's [0]."""
    signed_data: int = der.MINIMAL
    digests: int = der.MINIMAL
    certificates: int | None = None
    """None where there is no such field."""
    signers: int = der.MINIMAL


class SignedData(NamedTuple):
    """A parsed SignedData."""

    version: int
    digest_algorithms: tuple[str, ...]
    content_type: str
    content: bytes | None
    """None where the signed bytes are elsewhere."""
    certificates: tuple[bytes, ...]
    """In the order in which they stand; nothing protects which they are."""
    signers: tuple[Signer, ...]
    raw: bytes
    digest_identifiers: tuple[bytes, ...] = ()
    encapsulated: bytes = b""
    """EncapsulatedContentInfo as it stood: its content may come in pieces."""
    revocation: bytes | None = None
    """The revocation lists' [1] as it stood; Apple's tools look at none."""
    forms: Forms = Forms()
