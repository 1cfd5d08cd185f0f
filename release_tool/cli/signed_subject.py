"""What `verify` and `inspect` are pointed at: told by its bytes, opened, and judged."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from release_tool import errors
from release_tool.apple import (
    armor,
    certificates,
    checks,
    code_resources,
    file_attributes,
    macho,
    profile_policy,
    provisioning_profile,
    release,
    stapled,
    ticket,
    verification,
)
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts, CodeFacts
from release_tool.apple.ticket import Ticket
from release_tool.apple.verification import Judge
from release_tool.files import archive_proof, archive_reader, extended_attributes, zip_unpacker
from release_tool.files.archive_reader import Unpacked
from release_tool.files.tree import READ_LIMIT_BYTES, DiskTree

Kind = Literal[
    "macho",
    "app",
    "framework",
    "plug-in",
    "xpc",
    "bundle",
    "ticket",
    "profile",
    "archive",
    "zip",
    "release",
]

KIND_NAMES: Mapping[Kind, str] = {
    "macho": "Mach-O",
    "app": "app",
    "framework": "framework",
    "plug-in": "plug-in",
    "xpc": "XPC service",
    "bundle": "bundle",
    "ticket": "notarization ticket",
    "profile": "provisioning profile",
    "archive": "release archive",
    "zip": "zip of an app",
    "release": "unpacked release",
}
_BUNDLE_KINDS: Mapping[str, Kind] = {
    ".app": "app",
    ".framework": "framework",
    ".bundle": "plug-in",
    ".plugin": "plug-in",
    ".appex": "plug-in",
    ".xpc": "xpc",
}
_GZIP = b"\x1f\x8b"
_PROFILE_STARTS = (b"\x30\x80", b"\x30\x81", b"\x30\x82", b"\x30\x83", b"-----BEGIN", b"MI")
"""DER of some length, PEM, and base64 of DER."""
_SHOWN_BYTES = 8
_REVOCATION = (
    "nobody was asked whether Apple has revoked a certificate or a notarization since: a Mac asks"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked about a subject."""

    trust: certificates.Trust
    team_id: str = ""
    ours: bool | None = None
    """Whether every byte must be what our writer writes; None: where it is laid out as ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A subject with everything that was found."""

    name: str
    kind: Kind
    ours: bool
    """Whether it was judged as our own work."""
    checks: tuple[Check, ...]
    code: tuple[CodeFacts, ...] = ()
    app: BundleFacts | None = None
    profile: provisioning_profile.Profile | None = field(default=None, repr=False)
    ticket: Ticket | None = field(default=None, repr=False)
    """Of a bare ticket file; an app's own is among its facts."""
    unpacked: Unpacked | None = field(default=None, repr=False)
    flat_copies: Mapping[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return checks.all_hold(self.checks)


def trusting(paths: tuple[Path, ...]) -> certificates.Trust:
    """Apple's roots, or the given ones in their place.

    Raises:
        UsageError: a file cannot be read.
        FormatError: it holds no certificate.
    """
    if not paths:
        return certificates.apple_trust()
    roots: list[certificates.Certificate] = []
    for path in paths:
        try:
            blocks = armor.unwrap_all(_read(path), "a certificate", label="CERTIFICATE")
            roots += map(certificates.load, blocks)
        except errors.FormatError as problem:
            problem.subject = problem.subject or str(path)
            raise
    return certificates.Trust(name="the given roots", roots=tuple(dict.fromkeys(roots)))


def judge(path: Path, question: Question) -> Judged:
    """Tell what a path is, and judge it.

    Raises:
        UsageError: there is nothing to read.
        FormatError: it is none of the kinds that are known here.
    """
    judged = _folder(path, question) if path.is_dir() else _file(path, question)
    revocation = checks.not_checked("revocation", _REVOCATION)
    if judged.kind == "ticket":
        return _with(judged, [revocation])
    if not question.team_id:
        hint = "name it with --team-id"
        return _with(judged, [checks.not_checked("team", hint), revocation])
    return _with(judged, [*_teams(judged, question.team_id), revocation])


def _with(judged: Judged, more: list[Check]) -> Judged:
    return replace(judged, checks=(*judged.checks, *more))


def _teams(judged: Judged, team_id: str) -> list[Check]:
    found = [
        checks.compare("team", expected=team_id, observed=item.team_id or "none", subject=item.path)
        for item in judged.code
    ]
    if judged.profile is not None:
        observed = ", ".join(judged.profile.team_ids) or "none"
        found.append(checks.compare("team", expected=team_id, observed=observed))
    return found or [checks.failed("team", expected=team_id, observed="no signed code")]


def _judge(question: Question, *, ours: bool) -> Judge:
    return Judge(trust=question.trust, now=datetime.now(UTC), strict=ours)


def _folder(
    path: Path, question: Question, *, beside: Mapping[str, Mapping[str, bytes]] | None = None
) -> Judged:
    tree = DiskTree(path, beside=beside or {})
    entries = tree.entries()
    if release.app_name(entries) is not None or release.is_part(entries):
        judged = _release(path.resolve().name, tree, question)
        return _with(judged, list(file_attributes.extended(tree.attributes(), path="")))
    report = release.verify_app(
        tree, judge=_judge(question, ours=question.ours is True), path=path.resolve().name
    )
    if report.facts is None and not any(item.path.endswith("Info.plist") for item in entries):
        raise errors.FormatError(
            "is neither a bundle nor an unpacked release",
            subject=str(path),
            expected="Contents/Info.plist, or an app and bin/",
        )
    return Judged(
        name=path.resolve().name,
        kind=_BUNDLE_KINDS.get(path.resolve().suffix, "bundle"),
        ours=question.ours is True,
        checks=(*report.checks, *_beside(tree, report.facts, path.resolve().name, question)),
        code=_code(report.facts),
        app=report.facts,
    )


def _beside(
    tree: DiskTree, app: BundleFacts | None, name: str, question: Question
) -> Iterator[Check]:
    """What lies beside the bytes of an app's files; of the app's own folder too."""
    if question.ours is True and app is not None:
        programs = file_attributes.executables(app)
        yield from file_attributes.modes(tree.entries(), programs, path=name)
    attributes = {"": extended_attributes.names(tree.root), **tree.attributes()}
    yield from file_attributes.extended(attributes, path=name)


def _code(found: BundleFacts | None) -> tuple[CodeFacts, ...]:
    reports = found.code.values() if found else ()
    return tuple(item for report in reports for item in report.slices)


def _release(name: str, tree: DiskTree, question: Question) -> Judged:
    ours = question.ours is not False
    report = release.verify(tree, judge=_judge(question, ours=ours))
    return Judged(
        name=name,
        kind="release",
        ours=ours,
        checks=report.checks,
        code=_code(report.facts),
        app=report.facts if report.has_app else None,
        flat_copies=report.flat_copies,
    )


def _file(path: Path, question: Question) -> Judged:
    head = _read(path, 8)
    if head.startswith(_GZIP):
        return _archive(path, question)
    if macho.is_macho(head) or code_resources.is_code(head):
        return _code_file(path, question)
    if head.startswith(ticket.MAGIC):
        return _ticket(path, question)
    if head.startswith(zip_unpacker.MAGIC):
        return _zip(path, question)
    return _profile(path, question)


def _read(path: Path, limit: int = READ_LIMIT_BYTES) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(limit)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise errors.UsageError(f"cannot be read: {reason}", subject=str(path)) from problem


def _code_file(path: Path, question: Question) -> Judged:
    ours = question.ours is True
    own = path.resolve()
    content = DiskTree(own.parent).view(own.name) if own.is_file() else _read(path)
    report = verification.verify(content, judge=_judge(question, ours=ours), path=path.name)
    beside = file_attributes.extended({"": extended_attributes.names(own)}, path=path.name)
    return Judged(
        name=path.name,
        kind="macho",
        ours=ours,
        checks=(*report.checks, *beside),
        code=report.slices,
    )


def _ticket(path: Path, question: Question) -> Judged:
    content = _read(path, ticket.MAX_BYTES + 1)
    found, outcomes = stapled.read(content, trust=question.trust, subject="")
    hint = "verify the app that it is stapled to"
    outcomes.append(checks.not_checked("ticket cdhashes", hint))
    return Judged(name=path.name, kind="ticket", ours=False, checks=tuple(outcomes), ticket=found)


def _profile(path: Path, question: Question) -> Judged:
    content = _read(path, armor.MAX_BYTES + 1)
    try:
        profile = provisioning_profile.read(content, trust=question.trust)
    except errors.FormatError as problem:
        # Only of what looks like a profile does its reader know what is wrong.
        alike = content.lstrip().startswith(_PROFILE_STARTS)
        raise errors.FormatError(
            "is neither a Mach-O, a bundle, a ticket, a profile nor an archive",
            subject=str(path),
            observed=problem.message if alike else _beginning(content),
            hint=(
                "name what was signed: an executable, an .app, a release archive,"
                " a .provisionprofile, or a ticket (Contents/CodeResources)"
            ),
        ) from problem
    wanted = profile_policy.Wanted(team_id=question.team_id, minimum_days=0)
    found = profile_policy.judge(profile, wanted, now=datetime.now(UTC))
    asked = [check for check in found if check.outcome != "not_checked" and check.name != "team"]
    asked.append(checks.not_checked("what it allows", "ask release-tool verify-profile"))
    return Judged(name=path.name, kind="profile", ours=False, checks=tuple(asked), profile=profile)


def _beginning(content: bytes) -> str:
    head = content[:_SHOWN_BYTES]
    if not head:
        return "an empty file"
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in head)
    return f"a file that begins with {head.hex(' ')} ({text})"


def _archive(path: Path, question: Question) -> Judged:
    with tempfile.TemporaryDirectory(prefix="release-tool-") as scratch:
        folder = Path(scratch)
        try:
            unpacked = archive_reader.unpack(path, folder, links=True, sidecars=False)
        except errors.FormatError as problem:
            failure = checks.failed(
                "archive",
                subject=problem.subject,
                expected=problem.expected or "a release archive",
                observed=f"{problem.message} {problem.observed}".strip(),
            )
            return Judged(name=path.name, kind="archive", ours=False, checks=(failure,))
        tree = DiskTree(folder, beside=unpacked.beside)
        inner = _unpacked(path.name, tree, question)
    around = _canonical(path, unpacked) if inner.ours else _open_archive(unpacked)
    return Judged(
        name=path.name,
        kind="archive",
        ours=inner.ours,
        checks=(around, *inner.checks, *_riding_along(unpacked)),
        code=inner.code,
        app=inner.app,
        unpacked=unpacked,
        flat_copies=inner.flat_copies,
    )


def _riding_along(unpacked: Unpacked) -> Iterator[Check]:
    """Extended attributes in an archive: a Mac's tar puts them onto the files."""
    attributes = {one.path: one.attributes for one in unpacked.members if one.attributes}
    yield from file_attributes.extended(attributes, path="")
    if unpacked.sidecars:
        yield _in_apple_double(len(unpacked.sidecars))


def _in_apple_double(count: int) -> Check:
    return checks.unprotected("attributes beside the files", f"{count} in AppleDouble")


def _unpacked(name: str, tree: DiskTree, question: Question) -> Judged:
    """A release, or, where nobody says that it is ours, the one bundle in its place."""
    tops = list(tree.root.iterdir())
    alone = len(tops) == 1 and tops[0].suffix in _BUNDLE_KINDS and tops[0].is_dir()
    if question.ours is False and alone:
        return _folder(tops[0], question)
    return _release(name, tree, question)


def _zip(path: Path, question: Question) -> Judged:
    """A zip of one bundle, as apps are sent to the notary and to users."""
    with tempfile.TemporaryDirectory(prefix="release-tool-") as scratch:
        folder = Path(scratch)
        unpacked = zip_unpacker.unpack(path, folder)
        tops = sorted(item.name for item in folder.iterdir())
        if len(tops) != 1 or not (folder / tops[0]).is_dir():
            raise errors.FormatError(
                "is no zip of one bundle",
                subject=str(path),
                expected="one bundle at the top",
                observed=", ".join(tops[:5]) or "nothing",
            )
        beside = {
            name.removeprefix(f"{tops[0]}/"): parts for name, parts in unpacked.beside.items()
        }
        inner = _folder(folder / tops[0], question, beside=beside)
    found = [_open_zip(unpacked), *inner.checks]
    doubles = [member.path for member in unpacked.members if zip_unpacker.is_beside(member)]
    if doubles:
        found.append(_in_apple_double(len(doubles)))
    return replace(inner, name=path.name, kind="zip", checks=tuple(found), unpacked=unpacked)


def _open_zip(unpacked: Unpacked) -> Check:
    observed = f"{unpacked.sha256}: names, modes and times of a zip are signed by nobody"
    return checks.unprotected("archive", observed)


def _canonical(path: Path, unpacked: Unpacked) -> Check:
    """Whether the archive is byte for byte what our writer makes of its content."""
    try:
        archive_proof.require_canonical(path)
    except errors.VerificationError as problem:
        return checks.failed(
            "archive",
            subject=problem.subject,
            expected="byte for byte what this tool writes for the content",
            observed=problem.message,
            hint="an archive that another tool made is judged with --foreign",
        )
    count = len(unpacked.members)
    observed = f"{unpacked.sha256}, {count} members, byte for byte what this tool writes"
    return checks.passed("archive", observed)


def _open_archive(unpacked: Unpacked) -> Check:
    observed = f"{unpacked.sha256}: gzip and tar headers, owners and times are signed by nobody"
    return checks.unprotected("archive", observed)
