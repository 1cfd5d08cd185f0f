"""Judge the CMS of a code signature: who signed these code directories, and when.

In order: the signature over the raw attributes, Apple's two attributes against every code
directory, the timestamp over the signature, the chain at that time with Apple's markers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from release_tool import errors
from release_tool.apple import (
    certificates,
    checks,
    cms,
    cms_normal_form,
    code_directory,
    der,
    property_list,
    signatures,
    signer_kinds,
    timestamp_token,
)
from release_tool.apple.checks import Check
from release_tool.apple.signer_kinds import SignerKind
from release_tool.apple.timestamp_token import TimestampProof

# The digest over the attributes; SHA-1 is allowed inside tokens and for code directories only.
_DIGESTS = frozenset(("sha256", "sha384", "sha512"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a CMS proved."""

    checks: tuple[Check, ...]
    certificates: tuple[certificates.Certificate, ...] = ()
    """The chain, leaf first; the leaf alone where none holds."""
    trusted: bool = False
    kind: SignerKind | None = None
    """What the signer's certificate claims to be; borne out where `trusted`."""
    signing_time: datetime | None = None
    stamp: TimestampProof | None = None
    """None without a valid timestamp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """By whom and when to judge."""

    trust: certificates.Trust
    now: datetime
    """For signatures without a timestamp, whose chain must hold today."""
    strict: bool
    """Whether what no signature covers must be exactly what our writer writes."""

    @property
    def pool(self) -> tuple[certificates.Certificate, ...]:
        """Known authorities, for signatures that carry only their leaf."""
        return certificates.intermediates() if self.trust.is_apple else ()


def verify(
    content: bytes, directories: Sequence[bytes], *, judge: Judge, subject: str
) -> Signature:
    """Judge one CMS.

    Args:
        content: the content of the CMS slot.
        directories: the code directory, then its alternates, each as it stands.
        judge: trust, time and strictness.
        subject: what the checks are about.
    """
    try:
        signed = cms.parse(content)
        proof = cms.verify(
            signed,
            content=directories[0],
            allowed_digests=_DIGESTS,
            attributes_required=judge.strict,
        )
        _require_readable(proof.certificate)
    except errors.VerificationError as problem:
        return Signature(checks=(_failed("signature", problem, subject),))
    covers = "covers the code directory"
    if proof.signer.signs_content_itself:
        covers += " itself, without signed attributes"
    found = [checks.passed("signature", covers, subject=subject)]
    found += _guarded(
        "cdhashes in the signature", subject, lambda: _directories(proof, directories, subject)
    )
    stamp, stamp_check = _timestamp(proof, judge, subject)
    found.append(stamp_check)
    kind = signer_kinds.DEVELOPER_ID if judge.strict else signer_kinds.of(proof.certificate)
    chain, chain_check = _chain(proof, judge, stamp, kind, subject)
    found.append(chain_check)
    found += _validity(proof.certificate, stamp, judge, subject)
    if chain:
        found += _guarded(
            "signature as written",
            subject,
            lambda: _freedom(content, signed, chain, stamp, judge=judge, subject=subject),
        )
    return Signature(
        checks=tuple(found),
        certificates=chain or (proof.certificate,),
        trusted=bool(chain),
        kind=kind,
        signing_time=proof.signer.signing_time,
        stamp=stamp,
    )


def _require_readable(certificate: certificates.Certificate) -> None:
    """Names are read when they are shown; a leaf whose names are malformed must fail before."""
    certificates.display_name(certificate)
    certificates.organizational_unit(certificate)


def _failed(name: str, problem: errors.VerificationError, subject: str) -> Check:
    observed = [str(problem), problem.observed and f"observed {problem.observed}"]
    return checks.failed(
        name,
        subject=subject,
        expected=problem.expected,
        observed=": ".join([*filter(None, observed), *problem.details]),
        hint=problem.hint,
    )


def _directories(proof: cms.SignerProof, directories: Sequence[bytes], subject: str) -> list[Check]:
    """Apple's 9.2 and 9.1 name every code directory; without them only the first is signed."""
    attributes = proof.signer.attributes
    present = [oid for oid in (cms.APPLE_CDHASHES, cms.APPLE_CDHASHES_PLIST) if oid in attributes]
    name = "cdhashes in the signature"
    if not present:
        if len(directories) == 1:
            return [checks.passed(name, "one directory, signed itself", subject=subject)]
        return [checks.failed(name, subject=subject, expected="every directory", observed="none")]
    wanted = [code_directory.cdhash(raw).hex() for raw in directories]
    found = []
    if cms.APPLE_CDHASHES_PLIST in attributes:
        named = _plist_cdhashes(attributes[cms.APPLE_CDHASHES_PLIST])
        found.append(_same(name, wanted, named, subject))
    if cms.APPLE_CDHASHES in attributes:
        digests = [_named_digest(value) for value in attributes[cms.APPLE_CDHASHES]]
        full = [
            (code_directory.parse(raw).algorithm, code_directory.full_digest(raw).hex())
            for raw in directories
        ]
        found.append(_same(name, sorted(map(" ".join, full)), sorted(digests), subject))
    if len(present) == 1 and len(directories) > 1 and checks.all_hold(found):
        return [checks.passed(name, "one of Apple's two attributes", subject=subject)]
    return _merged(found)


def _merged(found: list[Check]) -> list[Check]:
    failures = [check for check in found if check.outcome == "failed"]
    return failures or found[:1]


def _same(name: str, wanted: Sequence[str], named: Sequence[str], subject: str) -> Check:
    return checks.compare(
        name, expected=", ".join(wanted), observed=", ".join(named), subject=subject
    )


def _plist_cdhashes(values: tuple[der.Node, ...]) -> list[str]:
    if len(values) != 1:
        raise errors.FormatError("the attribute 9.1 has not one value")
    listed = property_list.parse(der.as_octets(values[0])).get("cdhashes")
    if not isinstance(listed, list) or not all(isinstance(item, bytes) for item in listed):
        raise errors.FormatError("the attribute 9.1 lists no cdhashes")
    return [item.hex() for item in listed]


def _named_digest(value: der.Node) -> str:
    parts = der.as_sequence(value)
    if len(parts) != 2:
        raise errors.FormatError("the attribute 9.2 is malformed")
    name = signatures.DIGEST_OIDS.get(der.as_oid(parts[0]), "unknown")
    return f"{name} {der.as_octets(parts[1]).hex()}"


def _timestamp(
    proof: cms.SignerProof, judge: Judge, subject: str
) -> tuple[TimestampProof | None, Check]:
    try:
        token = cms.single(proof.signer.unsigned, cms.TIMESTAMP_TOKEN)
        if token is None:
            ends = f"{proof.certificate.not_after:%Y-%m-%d}"
            observed = f"none: the signature ends with its certificate, {ends}"
            return None, checks.unprotected("timestamp", observed, subject=subject)
        stamp = timestamp_token.verify(
            token.raw, signed_octets=proof.signer.signature, trust=judge.trust, pool=judge.pool
        )
        signer = certificates.display_name(stamp.chain[0])
    except errors.VerificationError as problem:
        return None, _failed("timestamp", problem, subject)
    moment = f"{stamp.gen_time:%Y-%m-%d %H:%M:%S} UTC by {signer}"
    return stamp, checks.passed("timestamp", moment, subject=subject)


def _chain(
    proof: cms.SignerProof,
    judge: Judge,
    stamp: TimestampProof | None,
    kind: SignerKind,
    subject: str,
) -> tuple[tuple[certificates.Certificate, ...], Check]:
    at = stamp.gen_time if stamp else judge.now
    try:
        chain = certificates.build_chain(
            proof.certificate,
            (*proof.pool, *judge.pool),
            trust=judge.trust,
            at=at,
            required_leaf_marker=kind.leaf_marker,
            required_issuer_marker=kind.issuer_marker,
            required_purpose=certificates.CODE_SIGNING,
        )
        signer_kinds.require_platform(kind, chain)
        names = " < ".join(map(certificates.display_name, chain))
    except errors.VerificationError as problem:
        return (), _failed("certificate chain", problem, subject)
    observed = f"{kind.name}, {judge.trust.name}: {names}, at {at:%Y-%m-%d}"
    return chain, checks.passed("certificate chain", observed, subject=subject)


def _validity(
    leaf: certificates.Certificate, stamp: TimestampProof | None, judge: Judge, subject: str
) -> list[Check]:
    """Tell an expired signer: a timestamp from before keeps its signatures valid for ever."""
    if judge.now <= leaf.not_after:
        return []
    name, ended = "expired certificate", f"{leaf.not_after:%Y-%m-%d}"
    if stamp is None:
        return [
            checks.failed(
                name,
                subject=subject,
                expected="a timestamp from before it expired",
                observed=f"expired {ended}, and there is no timestamp",
                hint="sign it again with a timestamp",
            )
        ]
    observed = f"expired {ended}; the timestamp of {stamp.gen_time:%Y-%m-%d} is from before"
    return [checks.passed(name, observed, subject=subject)]


def _freedom(
    content: bytes,
    signed: cms.SignedData,
    chain: tuple[certificates.Certificate, ...],
    stamp: TimestampProof | None,
    *,
    judge: Judge,
    subject: str,
) -> list[Check]:
    """What the signature leaves open: refused in our own code, listed in others'."""
    if not judge.strict:
        return _open_parts(signed, chain, subject) + _open_token(signed, stamp, subject)
    same = cms_normal_form.code_signature(signed, chain) == content
    if same and stamp is not None:
        token = signed.signers[0].unsigned[cms.TIMESTAMP_TOKEN][0].raw
        same = cms_normal_form.timestamp_token(cms.parse(token), stamp.chain) == token
    if same:
        return [checks.passed("signature as written", "no byte left open", subject=subject)]
    return [
        checks.failed(
            "signature as written",
            subject=subject,
            expected="what our writer writes around what is signed",
            observed="other bytes in parts that no signature covers",
        )
    ]


def _open_parts(
    signed: cms.SignedData,
    chain: tuple[certificates.Certificate, ...],
    subject: str,
    *,
    where: str = "",
) -> list[Check]:
    """The fields of a CMS that no signature covers, where they say more than they must."""
    signer = signed.signers[0]
    known = {item.der for item in chain}
    surplus = [item for item in signed.certificates if item not in known]
    told: dict[str, str] = {}
    if surplus or len(set(signed.certificates)) != len(signed.certificates):
        told["surplus certificates"] = (
            f"{len(signed.certificates)} certificates, {len(chain)} in the chain"
        )
    if signed.digest_algorithms != (signer.digest_algorithm,):
        listed = ", ".join(signed.digest_algorithms) or "none"
        told["listed digests"] = f"{listed}; the signer uses {signer.digest_algorithm}"
    if (signed.version, signer.version) != _versions(signed, signer):
        told["CMS versions"] = f"{signed.version}, the signer's {signer.version}"
    others = [oid for oid in signer.unsigned if oid != cms.TIMESTAMP_TOKEN or where]
    if others:
        told["unsigned attributes"] = ", ".join(others)
    return [
        checks.unprotected(f"{name}{where}", observed, subject=subject)
        for name, observed in told.items()
    ]


def _versions(signed: cms.SignedData, signer: cms.Signer) -> tuple[int, int]:
    """What RFC 5652 has the versions be (5.1, 5.3)."""
    own = 1 if signer.subject_key_id is None else 3
    plain = own == 1 and signed.content_type == cms.DATA
    return (1 if plain else 3), own


def _open_token(signed: cms.SignedData, stamp: TimestampProof | None, subject: str) -> list[Check]:
    """The timestamp token is a signature of its own, with the same open parts."""
    if stamp is None:
        return []
    token = cms.parse(signed.signers[0].unsigned[cms.TIMESTAMP_TOKEN][0].raw)
    return _open_parts(token, stamp.chain, subject, where=" in the timestamp")


def _guarded(name: str, subject: str, judge: Callable[[], list[Check]]) -> list[Check]:
    """Turn an error of the format into a failed check of this name."""
    try:
        return judge()
    except errors.VerificationError as problem:
        return [_failed(name, problem, subject)]
