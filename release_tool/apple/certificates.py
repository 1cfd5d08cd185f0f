"""Apple's certificate authorities, and chains to them judged at a given time.

No general verifier serves: Developer ID leafs carry a critical extension of Apple's own, WWDR G1
is signed with SHA-1, and everything must be judged at the time of signing, not now.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from release_tool import errors
from release_tool.apple import signatures
from release_tool.apple.x509 import (
    CODE_SIGNING,
    DEVELOPER_ID_APPLICATION,
    DEVELOPER_ID_CA,
    DEVELOPER_RELATIONS_CA,
    INNER_PROFILE_SIGNER,
    IPHONE_PROFILE_SIGNER,
    PROFILE_SIGNER,
    SYSTEM_INTEGRATION_CA_4,
    TICKET_SIGNER,
    TIME_STAMPING,
    TIMESTAMP_CA,
    Certificate,
    Extension,
    authority_limits,
    common_name,
    display_name,
    extended_key_usage,
    fingerprint,
    has_marker,
    is_limited_to,
    issuer_name,
    key_usage,
    load,
    organizational_unit,
    printable,
    serial_hex,
    unknown_critical,
)

__all__ = [
    "APPLE_ROOT_CA",
    "APPLE_ROOT_CA_G3",
    "CODE_SIGNING",
    "DEVELOPER_ID_APPLICATION",
    "DEVELOPER_ID_CA",
    "DEVELOPER_RELATIONS_CA",
    "INNER_PROFILE_SIGNER",
    "IPHONE_CA",
    "IPHONE_PROFILE_SIGNER",
    "PROFILE_SIGNER",
    "SYSTEM_INTEGRATION_CA_4",
    "TICKET_SIGNER",
    "TIMESTAMP_CA",
    "TIME_STAMPING",
    "Certificate",
    "Extension",
    "Trust",
    "apple_trust",
    "authority_limits",
    "build_chain",
    "common_name",
    "display_name",
    "extended_key_usage",
    "fingerprint",
    "has_marker",
    "intermediates",
    "is_limited_to",
    "issuer_name",
    "key_usage",
    "load",
    "organizational_unit",
    "printable",
    "serial_hex",
    "unknown_critical",
]

MAX_CHAIN = 6
"""Apple's chains have three certificates."""
MAX_POOL = 64
"""Certificates offered for one chain; real signatures carry at most five."""
MAX_SIGNATURES = 64
"""Signature checks for one chain, so that look-alikes of one name cost no time."""

_DIGITAL_SIGNATURE, _CERTIFICATE_SIGN = 0, 5


class _Pin(NamedTuple):
    file: str
    sha256: str
    expires: str


APPLE_ROOT_CA = "b0b1730ecbc7ff4505142c49f1295e6eda6bcaed7e2c68c5be91b5a11001f024"
APPLE_ROOT_CA_G3 = "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179"
IPHONE_CA = "e4e2936d3c076ec4aea8ac37277524950ca005894b39bba2d347fa33155ae5fa"
_WWDR_CA = "ce057691d730f89ca25e916f7335f4c8a15713dcd273a658c024023f8eb809c2"

# Apple's authorities as found in what Apple signed; SHA-256 of the whole certificate.
_ROOTS = (
    _Pin("apple-root-ca.cer", APPLE_ROOT_CA, "2035-02-09"),
    _Pin("apple-root-ca-g3.cer", APPLE_ROOT_CA_G3, "2039-04-30"),
)
_INTERMEDIATES = (
    _Pin(
        "developer-id-ca.cer",
        "7afc9d01a62f03a2de9637936d4afe68090d2de18d03f29c88cfb0b1ba63587f",
        "2027-02-01",
    ),
    _Pin(
        "developer-id-ca-g2.cer",
        "f16cd3c54c7f83cea4bf1a3e6a0819c8aaa8e4a1528fd144715f350643d2df3a",
        "2031-09-17",
    ),
    _Pin("wwdr-ca.cer", _WWDR_CA, "2023-02-07"),
    _Pin(
        "wwdr-ca-g5.cer",
        "53fd008278e5a595fe1e908ae9c5e5675f26243264a5a6438c023e3ce2870760",
        "2030-12-10",
    ),
    _Pin(
        "timestamp-ca.cer",
        "66285e2e374d00a8ba3d8d3d04393a48bd16554b284bc88dabec85b479adcd6b",
        "2027-04-05",
    ),
    _Pin(
        "system-integration-ca-4.cer",
        "7da79ba48b1c160852433c15a684dfe4747b81d1720787c339609cab7c68326c",
        "2032-02-18",
    ),
    _Pin("iphone-ca.cer", IPHONE_CA, "2022-04-12"),
)

# SHA-1 in a certificate is allowed for these two authorities, and for the one kind of leaf that
# the second issued. Their fingerprints are SHA-256, so a collision cannot stand in for them.
_SHA1_AUTHORITIES = frozenset((_WWDR_CA, IPHONE_CA))
_SHA1_LEAF = "Apple iPhone OS Provisioning Profile Signing"


class Trust(NamedTuple):
    """The roots that a chain may end in: Apple's, or those that stand in for them, never both."""

    name: str
    """How messages call it."""
    roots: tuple[Certificate, ...]
    is_apple: bool = False
    """Whether rules that name one of Apple's roots by its fingerprint apply."""


@lru_cache(maxsize=1)
def apple_trust() -> Trust:
    """Apple's roots, each checked against its pinned fingerprint."""
    return Trust(name="Apple", roots=tuple(map(_shipped, _ROOTS)), is_apple=True)


@lru_cache(maxsize=1)
def intermediates() -> tuple[Certificate, ...]:
    """Apple's known issuing authorities, for signatures that carry only their leaf."""
    return tuple(map(_shipped, _INTERMEDIATES))


def _shipped(pin: _Pin) -> Certificate:
    data = pkgutil.get_data("release_tool.apple", f"roots/{pin.file}")
    certificate = load(data or b"")
    observed = fingerprint(certificate)
    expires = certificate.not_after.date().isoformat()
    if (observed, expires) != (pin.sha256, pin.expires):
        raise errors.VerificationError(
            "the shipped certificate is not the one that is pinned; install the tool anew",
            subject=pin.file,
            expected=pin.sha256,
            observed=observed,
        )
    return certificate


def build_chain(
    leaf: Certificate,
    pool: Sequence[Certificate],
    *,
    trust: Trust,
    at: datetime,
    required_leaf_marker: str | None = None,
    required_issuer_marker: str | None = None,
    required_purpose: str | None = None,
    required_root: str | None = None,
) -> tuple[Certificate, ...]:
    """Find the chain from the leaf to a trusted root, every certificate valid at a given time.

    Args:
        leaf: the signer's certificate.
        pool: what may stand between, in any order; surplus certificates do no harm. Apple's
            known authorities stand in for what a signature left out.
        trust: where the chain must end.
        at: the moment to judge: of signing, of a token, of a ticket.
        required_leaf_marker: an extension that the leaf must carry.
        required_issuer_marker: an extension that the leaf's issuer must carry.
        required_purpose: what the leaf's extended key usage must name.
        required_root: fingerprint of the one root that serves.

    Returns:
        The leaf first, the root last.

    Raises:
        VerificationError: no such chain; the details say why each try ended.
    """
    if len(pool) > MAX_POOL:
        raise errors.FormatError(f"{len(pool)} certificates, more than {MAX_POOL}")
    search = _Search(pool=pool, trust=trust, at=at)
    fits = search.judge_leaf(leaf, required_leaf_marker, required_purpose)
    for chain in search.chains((leaf,)):
        reason = _unfit(chain, required_issuer_marker, required_root)
        if not reason and fits:
            return chain
        search.refuse(reason)
    raise errors.VerificationError(
        f"no chain to a trusted root ({trust.name})",
        subject=display_name(leaf),
        details=tuple(dict.fromkeys(search.reasons)),
    )


def _unfit(chain: tuple[Certificate, ...], issuer_marker: str | None, root: str | None) -> str:
    if root and fingerprint(chain[-1]) != root:
        return f"{display_name(chain[-1])} is not the root for this"
    if issuer_marker and (len(chain) < 2 or not has_marker(chain[1], issuer_marker)):
        return f"the issuer {issuer_name(chain[0])!r} lacks the marker {issuer_marker}"
    return ""


class _Search:
    """One depth-first search, which remembers why each try ended."""

    def __init__(self, *, pool: Sequence[Certificate], trust: Trust, at: datetime) -> None:
        self.reasons: list[str] = []
        self._candidates = tuple(dict.fromkeys((*trust.roots, *pool)))
        self._roots = trust.roots
        self._apple = trust.is_apple
        self._at = at
        self._signatures = 0

    def refuse(self, reason: str) -> None:
        if reason:
            self.reasons.append(printable(reason, 300))

    def judge_leaf(self, leaf: Certificate, marker: str | None, purpose: str | None) -> bool:
        self._judge(leaf)
        usage = key_usage(leaf)
        if usage is not None and _DIGITAL_SIGNATURE not in usage:
            self.refuse(f"{display_name(leaf)} may not sign: key usage")
        if marker and not has_marker(leaf, marker):
            self.refuse(f"{display_name(leaf)} lacks the marker {marker}")
        if purpose and purpose not in extended_key_usage(leaf):
            self.refuse(f"{display_name(leaf)} lacks the extended key usage {purpose}")
        return not self.reasons

    def chains(self, chain: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        last = chain[-1]
        if last in self._roots:
            yield chain
            return
        if len(chain) == MAX_CHAIN:
            self.refuse(f"the chain is longer than {MAX_CHAIN} certificates")
            return
        issuers = [item for item in self._candidates if item.subject == last.issuer]
        if not issuers and self._apple:
            issuers = [item for item in intermediates() if item.subject == last.issuer]
        if not issuers:
            self.refuse(f"no certificate for the issuer {issuer_name(last)!r} is at hand")
        for issuer in issuers:
            if issuer not in chain and self._issued(issuer, last, len(chain) - 1):
                yield from self.chains((*chain, issuer))
            elif issuer in chain:
                self.refuse(f"{display_name(last)} signed itself and is not trusted")

    def _judge(self, certificate: Certificate) -> bool:
        before = len(self.reasons)
        name = display_name(certificate)
        if self._at < certificate.not_before:
            self.refuse(f"{name} is valid from {certificate.not_before:%Y-%m-%d %H:%M} only")
        if self._at > certificate.not_after:
            self.refuse(f"{name} expired {certificate.not_after:%Y-%m-%d %H:%M}")
        for oid in unknown_critical(certificate):
            self.refuse(f"{name} has a critical extension that is not understood: {oid}")
        return len(self.reasons) == before

    def _issued(self, issuer: Certificate, subject: Certificate, below: int) -> bool:
        name = display_name(issuer)
        is_authority, limit = authority_limits(issuer)
        usage = key_usage(issuer)
        if not is_authority or (usage is not None and _CERTIFICATE_SIGN not in usage):
            self.refuse(f"{name} is no certificate authority")
            return False
        if limit is not None and below > limit:
            self.refuse(f"{name} allows {limit} authorities below it, the chain has {below}")
            return False
        return self._judge(issuer) and self._signed(issuer, subject)

    def _signed(self, issuer: Certificate, subject: Certificate) -> bool:
        self._signatures += 1
        if self._signatures > MAX_SIGNATURES:
            self.refuse("too many certificates of the same names")
            return False
        try:
            digest = signatures.named_digest(subject.signature_algorithm)
            if digest == "sha1" and not _may_use_sha1(issuer, subject):
                self.refuse(f"{display_name(subject)} is signed with SHA-1")
                return False
            signatures.verify(
                issuer.public_key_info,
                algorithm=subject.signature_algorithm,
                digest_name=digest,
                signature=subject.signature,
                message=subject.signed_part,
            )
        except errors.VerificationError as problem:
            self.refuse(
                f"{display_name(subject)} was not signed by {display_name(issuer)}: "
                f"{problem.message}"
            )
            return False
        return True


def _may_use_sha1(issuer: Certificate, subject: Certificate) -> bool:
    if fingerprint(subject) in _SHA1_AUTHORITIES:
        return True
    return common_name(subject) == _SHA1_LEAF and fingerprint(issuer) == IPHONE_CA
