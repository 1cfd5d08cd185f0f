"""What a certificate says: the few fields that a chain and a report need, read from the bytes.

`cryptography` parses certificates well, but importing its X.509 package takes longer than a whole
profile verification. RFC 5280 is the standard; the names here are reached through `certificates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from release_tool import errors
from release_tool.apple import der, signatures

APPLE = "1.2.840.113635.100"
DEVELOPER_ID_APPLICATION = f"{APPLE}.6.1.13"
DEVELOPER_ID_CA = f"{APPLE}.6.2.6"
DEVELOPER_RELATIONS_CA = f"{APPLE}.6.2.1"
TIMESTAMP_CA = f"{APPLE}.6.2.9"
SYSTEM_INTEGRATION_CA_4 = f"{APPLE}.6.2.17"
TICKET_SIGNER = f"{APPLE}.6.1.30"
PROFILE_SIGNER = f"{APPLE}.4.11"
INNER_PROFILE_SIGNER = f"{APPLE}.12.19"
IPHONE_PROFILE_SIGNER = f"{APPLE}.6.2.2.1"

CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"

_BASIC_CONSTRAINTS = "2.5.29.19"
_KEY_USAGE = "2.5.29.15"
_EXTENDED_KEY_USAGE = "2.5.29.37"
_CERTIFICATE_POLICIES = "2.5.29.32"
_COMMON_NAME = "2.5.4.3"
_ORGANIZATIONAL_UNIT = "2.5.4.11"

# Critical extensions that the chain rules below look at, and Apple's markers, which only say
# what a certificate is for. Developer ID leafs mark 6.1.13 critical, distribution ones 6.1.4
# and 6.1.7. Name constraints and the rest are not understood here, so they refuse.
_UNDERSTOOD = frozenset(
    (_BASIC_CONSTRAINTS, _KEY_USAGE, _EXTENDED_KEY_USAGE, _CERTIFICATE_POLICIES)
) | frozenset(
    f"{APPLE}.{marker}"
    for marker in (
        *("6.1.1", "6.1.2", "6.1.3", "6.1.4", "6.1.5", "6.1.6", "6.1.7", "6.1.8", "6.1.9"),
        *("6.1.12", "6.1.13", "6.1.14", "6.1.18", "6.1.30", "6.1.33"),
        *("6.2.1", "6.2.2.1", "6.2.6", "6.2.9", "6.2.17", "4.11", "12.19"),
    )
)


class Extension(NamedTuple):
    """One extension. A tuple: a dataclass would add to what `verify-profile` waits for."""

    oid: str
    critical: bool
    value: bytes
    """The DER inside the extension's OCTET STRING."""


class Certificate(NamedTuple):
    """The fields of a certificate that a chain needs."""

    der: bytes
    """The whole certificate as it stood."""
    serial: int
    issuer: bytes
    """The issuer's Name as it stood."""
    subject: bytes
    not_before: datetime
    not_after: datetime
    public_key_info: bytes
    extensions: tuple[Extension, ...]
    signed_part: bytes
    signature_algorithm: str
    signature: bytes

    def extension(self, oid: str) -> Extension | None:
        """The extension of this identifier, or None."""
        return next((item for item in self.extensions if item.oid == oid), None)


@lru_cache(maxsize=256)
def load(data: bytes) -> Certificate:
    """Read one certificate.

    Raises:
        FormatError: not a DER certificate.
    """
    parts = der.as_sequence(der.parse(data))
    if len(parts) != 3:
        raise errors.FormatError("not a certificate")
    fields = list(der.as_sequence(parts[0]))
    if fields and fields[0].is_context(0):
        fields.pop(0)
    if len(fields) < 6 or fields[1].raw != parts[1].raw:
        raise errors.FormatError("not a certificate")
    serial, _algorithm, issuer, validity, subject, key = fields[:6]
    period = der.as_sequence(validity)
    signature, unused = der.as_bits(parts[2])
    if len(period) != 2 or unused:
        raise errors.FormatError("not a certificate")
    _require_names(issuer, subject)
    return Certificate(
        der=bytes(data),
        serial=der.as_integer(serial),
        issuer=issuer.raw,
        subject=subject.raw,
        not_before=der.as_time(period[0]),
        not_after=der.as_time(period[1]),
        public_key_info=key.raw,
        extensions=_extensions(fields[6:]),
        signed_part=parts[0].raw,
        signature_algorithm=signatures.algorithm_oid(parts[1]),
        signature=signature,
    )


def _require_names(*names: der.Node) -> None:
    for name in names:
        der.as_sequence(name)


def _extensions(fields: Sequence[der.Node]) -> tuple[Extension, ...]:
    holder = next((field for field in fields if field.is_context(3)), None)
    if holder is None:
        return ()
    if len(holder.children) != 1:
        raise errors.FormatError("a certificate's extensions are malformed")
    found = tuple(_extension(node) for node in der.as_sequence(holder.children[0]))
    if len({item.oid for item in found}) != len(found):
        raise errors.FormatError("a certificate has the same extension twice")
    return found


def _extension(node: der.Node) -> Extension:
    parts = der.as_sequence(node)
    if len(parts) not in (2, 3):
        raise errors.FormatError("a certificate's extension is malformed")
    critical = len(parts) == 3 and der.as_boolean(parts[1])
    return Extension(der.as_oid(parts[0]), critical, der.as_octets(parts[-1]))


# What a certificate says


def fingerprint(certificate: Certificate) -> str:
    """SHA-256 of the certificate's bytes, in lower-case hex."""
    return signatures.digest("sha256", certificate.der).hex()


def has_marker(certificate: Certificate, oid: str) -> bool:
    """Whether the certificate carries this extension, critical or not."""
    return certificate.extension(oid) is not None


def common_name(certificate: Certificate) -> str:
    """The subject's first common name; empty without one."""
    return next(iter(_subject_values(certificate.subject, _COMMON_NAME)), "")


def issuer_name(certificate: Certificate) -> str:
    """The issuer's first common name; empty without one."""
    return next(iter(_subject_values(certificate.issuer, _COMMON_NAME)), "")


def organizational_unit(certificate: Certificate) -> str | None:
    """The subject's one organizational unit: in a Developer ID leaf the team.

    None without one, and with several, since readers would differ in which one counts.
    """
    units = _subject_values(certificate.subject, _ORGANIZATIONAL_UNIT)
    return units[0] if len(units) == 1 else None


def display_name(certificate: Certificate) -> str:
    """The common name without what cannot be shown on a line, for messages."""
    return printable(common_name(certificate) or "(no name)")


def printable(text: str, limit: int = 120) -> str:
    """Foreign text for a message: control characters replaced, long text cut."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _subject_values(name: bytes, oid: str) -> list[str]:
    found = []
    for relative in der.as_sequence(der.parse(name)):
        for pair in der.as_set(relative):
            parts = der.as_sequence(pair)
            if len(parts) == 2 and der.as_oid(parts[0]) == oid:
                found.append(der.as_text(parts[1]))
    return found


def key_usage(certificate: Certificate) -> frozenset[int] | None:
    """The numbers of the key usage bits that are set; None without the extension."""
    extension = certificate.extension(_KEY_USAGE)
    if extension is None:
        return None
    octets, _unused = der.as_bits(der.parse(extension.value))
    return frozenset(
        index for index in range(min(len(octets) * 8, 9)) if octets[index // 8] << index % 8 & 0x80
    )


def extended_key_usage(certificate: Certificate) -> frozenset[str]:
    """The purposes that the certificate is limited to; empty without the extension."""
    extension = certificate.extension(_EXTENDED_KEY_USAGE)
    if extension is None:
        return frozenset()
    return frozenset(map(der.as_oid, der.as_sequence(der.parse(extension.value))))


def is_limited_to(certificate: Certificate, purpose: str) -> bool:
    """Whether a critical extended key usage names this purpose and no other (RFC 3161, 2.3)."""
    extension = certificate.extension(_EXTENDED_KEY_USAGE)
    return (
        extension is not None
        and extension.critical
        and extended_key_usage(certificate) == frozenset((purpose,))
    )


def authority_limits(certificate: Certificate) -> tuple[bool, int | None]:
    """Whether it may issue certificates, and how many authorities may stand below it."""
    extension = certificate.extension(_BASIC_CONSTRAINTS)
    if extension is None:
        return False, None
    parts = list(der.as_sequence(der.parse(extension.value)))
    is_authority = bool(parts) and parts[0].is_universal(der.BOOLEAN) and der.as_boolean(parts[0])
    if parts and parts[0].is_universal(der.BOOLEAN):
        parts.pop(0)
    return is_authority, der.as_integer(parts[0]) if parts else None


def unknown_critical(certificate: Certificate) -> list[str]:
    """The critical extensions that neither these rules nor Apple's markers cover."""
    return [
        item.oid for item in certificate.extensions if item.critical and item.oid not in _UNDERSTOOD
    ]


def serial_hex(certificate: Certificate) -> str:
    """The serial number in lower-case hex without leading zeros."""
    return f"{certificate.serial:x}"
