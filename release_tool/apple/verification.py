"""Judge one Mach-O file by its signature, from the bytes alone.

Per slice: bounds, every page, every special slot (`page_verification`), the CMS, its chain and
timestamp (`signature_verification`), entitlements and the designated requirement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from release_tool import errors
from release_tool.apple import (
    certificates,
    checks,
    code_directory,
    detached_signature,
    entitlements,
    launch_constraints,
    macho,
    page_verification,
    property_list,
    requirement,
    signature_verification,
    signer_kinds,
    superblob,
)
from release_tool.apple.checks import Check
from release_tool.apple.code_directory import CodeDirectory
from release_tool.apple.detached_signature import SignedData
from release_tool.apple.facts import CodeFacts, CodeReport, Header
from release_tool.apple.requirement_expression import Expression
from release_tool.apple.signature_verification import Signature

BundleFiles = page_verification.BundleFiles
Judge = signature_verification.Judge

# The version of code directories that brought the team.
_FIRST_WITH_TEAM = 0x20200
_STRICT = "codesign's strict validation refuses it, and so does Gatekeeper"


def verify(
    data: bytes | memoryview,
    *,
    judge: Judge,
    path: str = "",
    bundle: page_verification.BundleFiles | None = None,
) -> CodeReport:
    """Judge every slice of a Mach-O file.

    Args:
        data: the whole file.
        judge: trust, time, and whether to judge as our own writer's work.
        path: how the checks name it.
        bundle: the files that a bundle's main executable hashes; None outside of one.
    """
    try:
        slices = macho.parse(data)
    except errors.FormatError as problem:
        return CodeReport(checks=(_refused("format", problem, path),), slices=())
    found: list[Check] = []
    facts: list[CodeFacts] = []
    for code in slices:
        subject = f"{path} ({code.arch})" if len(slices) > 1 else path
        try:
            outcomes, fact = _judge(_open(code, path, subject, judge, bundle))
        except errors.VerificationError as problem:
            found.append(_refused("signature", problem, subject))
            continue
        found += outcomes
        facts.append(fact)
    found += _alike(facts, path)
    found += _gaps(data, slices, path, strict=judge.strict)
    return CodeReport(checks=tuple(found), slices=tuple(facts))


def verify_detached(
    data: memoryview, parts: Mapping[str, bytes], *, judge: Judge, path: str = ""
) -> CodeReport:
    """Judge a file by the signature in its extended attributes.

    Args:
        data: the whole file.
        parts: of the signature, by name.
        judge: trust, time, and whether to judge as our own writer's work.
        path: how the checks name it.
    """
    try:
        code = detached_signature.assemble(data, parts)
        found, fact = _judge(_open(code, path, path, judge, None))
    except errors.VerificationError as problem:
        return CodeReport(checks=(_refused("signature", problem, path),), slices=())
    return CodeReport(checks=tuple(found), slices=(fact,))


def _open(
    code: macho.Slice | SignedData,
    path: str,
    subject: str,
    judge: Judge,
    bundle: page_verification.BundleFiles | None,
) -> page_verification.Case:
    room = code.signature_bytes
    if room is None:
        raise errors.VerificationError(
            "is not signed", expected="an embedded signature", observed="none"
        )
    blob = superblob.parse(room)
    directories = tuple(map(code_directory.parse, blob.code_directories))
    if not directories or blob.get(superblob.SLOT_CODE_DIRECTORY) is None:
        raise errors.FormatError("the signature has no code directory")
    return page_verification.Case(
        path=path,
        subject=subject,
        code=code,
        judge=judge,
        bundle=bundle,
        blob=blob,
        directories=directories,
    )


def _judge(case: page_verification.Case) -> tuple[list[Check], CodeFacts]:
    found = page_verification.verify(case)
    signature = _signature(case)
    found += signature.checks
    claims, claim_checks = _entitlements(case)
    found += claim_checks
    found += _constraints(case)
    info, info_checks = _info(case)
    found += info_checks
    facts = _facts(case, signature, claims, info)
    text, requirement_check = _requirement(case, facts)
    found.append(requirement_check)
    found += _team(case, signature)
    return found, replace(facts, requirement_text=text)


def _refused(name: str, problem: errors.VerificationError, subject: str) -> Check:
    observed = f"{problem.message} {problem.observed}".strip()
    return checks.failed(name, subject=subject, expected=problem.expected, observed=observed)


def _signature(case: page_verification.Case) -> Signature:
    blob = case.blob.get(superblob.SLOT_CMS)
    try:
        content = superblob.unwrap(blob, superblob.MAGIC_WRAPPER) if blob is not None else b""
    except errors.FormatError as problem:
        return Signature(checks=(_refused("signature", problem, case.subject),))
    if case.primary.flags & code_directory.ADHOC:
        return Signature(checks=(_adhoc(case, content),))
    if not content:
        observed = "no signature over the code directory"
        failure = checks.failed(
            "signature", subject=case.subject, expected="a CMS", observed=observed
        )
        return Signature(checks=(failure,))
    directories = [item.raw for item in case.directories]
    return signature_verification.verify(
        content, directories, judge=case.judge, subject=case.subject
    )


def _adhoc(case: page_verification.Case, content: bytes) -> Check:
    if content:
        return checks.failed(
            "signature", subject=case.subject, expected="nothing: ad-hoc", observed="a CMS"
        )
    linker = bool(case.primary.flags & code_directory.LINKER_SIGNED)
    observed = f"{_adhoc_kind(linker=linker)}: anyone could have made it"
    if case.primary.platform:
        observed += f" (it calls itself platform code {case.primary.platform})"
    return checks.unprotected("signature", observed, subject=case.subject)


def _adhoc_kind(*, linker: bool) -> str:
    return "ad-hoc by a linker" if linker else "ad-hoc"


def _entitlements(case: page_verification.Case) -> tuple[dict[str, object] | None, list[Check]]:
    """The claims, which both encodings must state alike."""
    xml, der = (
        case.blob.get(superblob.SLOT_ENTITLEMENTS),
        case.blob.get(superblob.SLOT_ENTITLEMENTS_DER),
    )
    try:
        claims = _parsed(xml, superblob.MAGIC_ENTITLEMENTS, entitlements.parse_xml)
        binary = _parsed(der, superblob.MAGIC_ENTITLEMENTS_DER, entitlements.decode_der)
    except errors.FormatError as problem:
        return None, [_refused("entitlements", problem, case.subject)]
    if claims is None and binary is None:
        return None, []
    if claims is not None and binary is not None and claims != binary:
        return claims, [
            checks.failed(
                "entitlements",
                subject=case.subject,
                expected="the same in XML and DER",
                observed="they differ",
            )
        ]
    if case.judge.strict and der != entitlements.der_blob(claims or {}):
        return claims, [
            checks.failed(
                "entitlements", subject=case.subject, expected="our DER form", observed="another"
            )
        ]
    found = claims if claims is not None else binary
    observed = f"{len(found or {})} keys"
    return found, [checks.passed("entitlements", observed, subject=case.subject)]


def _constraints(case: page_verification.Case) -> Iterator[Check]:
    """Launch constraints are hashed like any blob; whether a launch meets them a Mac decides."""
    for slot, name in launch_constraints.SLOT_NAMES.items():
        blob = case.blob.get(slot)
        if blob is None:
            continue
        try:
            facts = launch_constraints.parse(blob).requirements
        except errors.FormatError as problem:
            yield checks.not_checked(name, problem.message, subject=case.subject)
            continue
        yield checks.passed(name, f"on {', '.join(facts)}", subject=case.subject)


def _parsed(
    blob: bytes | None, magic: int, read: Callable[[bytes], dict[str, object]]
) -> dict[str, object] | None:
    return None if blob is None else read(superblob.unwrap(blob, magic))


def _info(case: page_verification.Case) -> tuple[dict[str, object], list[Check]]:
    if case.info_plist is None:
        return {}, []
    try:
        return property_list.parse_any(case.info_plist), []
    except errors.FormatError as problem:
        return {}, [_refused("Info.plist", problem, case.subject)]


def _facts(
    case: page_verification.Case,
    signature: Signature,
    claims: dict[str, object] | None,
    info: dict[str, object],
) -> CodeFacts:
    directory = case.primary
    return CodeFacts(
        path=case.path,
        arch=case.code.arch,
        identifier=directory.identifier,
        team_id=directory.team_id,
        cdhash=code_directory.cdhash(directory.raw).hex(),
        cdhashes=tuple(code_directory.cdhash(item.raw).hex() for item in case.directories),
        full_digest=code_directory.full_digest(directory.raw).hex(),
        flags=directory.flags,
        version=directory.version,
        page_size=directory.page_size,
        code_limit=directory.code_limit,
        sealed_slots=tuple(sorted(directory.special)),
        entitlements=claims,
        requirement_text="",
        signer_kind=_signer_kind(directory, signature),
        signed_at=signature.stamp.gen_time if signature.stamp else None,
        timestamp_certificates=signature.stamp.chain if signature.stamp else (),
        signing_time=signature.signing_time,
        certificates=signature.certificates,
        trusted=signature.trusted,
        minos=case.code.minos,
        sdk=case.code.sdk,
        is_executable=case.code.is_executable,
        linked_libraries=case.code.linked_libraries,
        directories=case.directories,
        info=info,
        signature=case.blob,
        reserved=len(case.code.signature_bytes or b""),
        header=_header(case.code),
    )


def _header(code: macho.Slice | SignedData) -> Header:
    if not isinstance(code, macho.Slice):
        return Header()
    return Header(
        file_type=code.file_type_name,
        uuid=str(UUID(bytes=code.uuid)).upper() if code.uuid else "",
        platforms=tuple(
            (item.platform_name, item.minos, item.sdk or "") for item in code.platforms
        ),
        rpaths=code.rpaths,
    )


def _requirement(case: page_verification.Case, facts: CodeFacts) -> tuple[str, Check]:
    """Whether the code satisfies the requirement that it designates for itself."""
    name = "designated requirement"
    blob = case.blob.get(superblob.SLOT_REQUIREMENTS)
    try:
        requirements = requirement.parse_set(blob) if blob is not None else {}
        chosen = _designated(requirements, facts)
        text = requirement.to_text(chosen)
        verdict = requirement.decide(chosen, facts.context)
    except errors.FormatError as problem:
        return "", _refused(name, problem, case.subject)
    if verdict is None:
        hint = "only a Mac can decide it: codesign --verify -R"
        return text, checks.not_checked(name, hint, subject=case.subject)
    if verdict and _binds_nobody(chosen, facts):
        return text, _anyones(case, text)
    if verdict:
        return text, checks.passed(name, text, subject=case.subject)
    observed = "the code does not satisfy it"
    return text, checks.failed(name, subject=case.subject, expected=text, observed=observed)


def _binds_nobody(expression: Expression, facts: CodeFacts) -> bool:
    """Whether code that nobody signed would satisfy it too, under the same identifier."""
    anyone = replace(facts.context, cdhashes=frozenset(), certificates=(), apple_root=False)
    return requirement.evaluate(expression, anyone)


def _anyones(case: page_verification.Case, text: str) -> Check:
    """What trusts such code (keychain items, privacy consents, updates) trusts everybody's."""
    name = "designated requirement"
    if case.judge.strict:
        expected = "one that names the signer or the code"
        return checks.failed(name, subject=case.subject, expected=expected, observed=text)
    observed = f"{text}: code that nobody signed satisfies it too"
    return checks.unprotected(name, observed, subject=case.subject)


def _designated(requirements: dict[int, Expression], facts: CodeFacts) -> Expression:
    """The stated requirement, or the one that macOS would assume."""
    cdhashes = [bytes.fromhex(item) for item in facts.cdhashes]
    if requirement.DESIGNATED in requirements or facts.is_adhoc:
        return requirement.designated(requirements, cdhashes)
    if facts.signer_kind == signer_kinds.PLATFORM.name:
        return requirement.parse_text(f'identifier "{facts.identifier}" and anchor apple')
    return requirement.developer_id(facts.identifier, facts.team_id or "")


def _signer_kind(directory: CodeDirectory, signature: Signature) -> str:
    if directory.flags & code_directory.ADHOC:
        return _adhoc_kind(linker=bool(directory.flags & code_directory.LINKER_SIGNED))
    return signature.kind.name if signature.kind is not None and signature.trusted else ""


def _team(case: page_verification.Case, signature: Signature) -> Iterator[Check]:
    """The code directory and the certificate name the same team."""
    name = "team of the certificate"
    if not signature.certificates or signature.kind is None:
        return
    directory = case.primary
    if directory.version < _FIRST_WITH_TEAM and not case.judge.strict:
        hint = f"a code directory of version {directory.version:#x} has no place for a team"
        yield checks.not_checked(name, hint, subject=case.subject)
        return
    unit = certificates.organizational_unit(signature.certificates[0])
    if signature.kind.names_team:
        yield checks.compare(
            name,
            expected=directory.team_id or "none",
            observed=unit or "none",
            subject=case.subject,
        )
    elif signature.kind is signer_kinds.PLATFORM:
        yield checks.compare(
            name, expected="none", observed=directory.team_id or "none", subject=case.subject
        )


def _alike(facts: Sequence[CodeFacts], path: str) -> Iterator[Check]:
    """All slices are one signer's: a Mac looks only at the slice that it runs."""
    if len(facts) < 2:
        return
    signers = {(item.signer_kind, item.team_id) for item in facts}
    told = ", ".join(
        f"{item.arch} {item.identifier} by {item.team_id or item.signer_kind or 'nobody known'}"
        for item in facts
    )
    if len(signers) > 1:
        yield checks.failed(
            "slices",
            subject=path,
            expected="one signer of all slices",
            observed=told,
            hint="a Mac looks only at the slice that it runs",
        )
    else:
        yield checks.passed("slices", f"one signer of all: {told}", subject=path)


def _gaps(
    data: bytes | memoryview, slices: Sequence[macho.Slice], path: str, *, strict: bool
) -> Iterator[Check]:
    """The universal header and the bytes between slices: no signature covers them.

    Rule and source: Apple's published strict validation refuses what lies hidden there.
    """
    if not macho.is_universal(data):
        return
    if strict:
        yield checks.failed(
            "architecture", subject=path, expected="one, as we ship", observed="a universal file"
        )
        return
    observed = "the universal header and the gaps between slices, all zero"
    if not _hides_bytes(memoryview(data), slices):
        yield checks.unprotected("gaps", observed, subject=path)
        return
    yield checks.failed(
        "gaps",
        subject=path,
        expected="zeros between the slices, and nothing behind the last",
        observed="other bytes",
        hint=_STRICT,
    )


def _hides_bytes(view: memoryview, slices: Sequence[macho.Slice]) -> bool:
    wide = int.from_bytes(view[:4], "big") == macho.FAT_MAGIC_64
    position = 8 + len(slices) * (32 if wide else 20)
    for item in sorted(slices, key=lambda item: item.offset):
        if any(view[position : item.offset]):
            return True
        position = item.offset + item.size
    return position != len(view)
