"""What the look-alike notary thinks of an upload.

It applies Apple's published requirements with the readers of `release_tool.apple`, the same that
the tool itself has: what both get wrong, both get wrong alike. Issues are worded as Apple words
them. Zips inside zips are opened as Apple opens them; disk images and installer packages are
refused, and inside a zip they are not looked into.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from release_tool import errors
from release_tool.apple import apple_double, bundle, certificates, macho, verification
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts, CodeFacts
from release_tool.apple.tree import Subtree
from release_tool.files import zip_unpacker
from release_tool.files.tree import DiskTree
from release_tool.rehearsal import notary_zip
from release_tool.rehearsal.notary_store import Code, Issue, Verdict

ACCEPTED, INVALID, REJECTED = "Accepted", "Invalid", "Rejected"
UNSIGNED = "The binary is not signed."
NOT_DEVELOPER_ID = "The binary is not signed with a valid Developer ID certificate."
NO_TIMESTAMP = "The signature does not include a secure timestamp."
NOT_HARDENED = "The executable does not have the hardened runtime enabled."
BAD_SIGNATURE = "The signature of the binary is invalid."
DEBUGGABLE = "The executable requests the com.apple.security.get-task-allow entitlement."
OLD_SDK = "The binary uses an SDK older than the 10.9 SDK."
NO_CODE = "The archive has no signed executables or bundles. No tickets can be generated."
OTHER_BYTES = "The SHA-256 of the uploaded archive is not the one that was submitted."
UNREADABLE = "The archive could not be unpacked: {reason}."

_DOCUMENTATION = (
    "https://developer.apple.com/documentation/security/"
    "notarizing_macos_software_before_distribution/resolving_common_notarization_issues"
)
_TASK_ALLOW = "com.apple.security.get-task-allow"
_OLDEST_SDK = macho.packed_version("10.9")
# Thin of 32 and 64 bits in both byte orders, and universal.
_THIN = tuple(bytes.fromhex(magic) for magic in ("feedface", "feedfacf", "cefaedfe", "cffaedfe"))
_UNIVERSAL = tuple(bytes.fromhex(magic) for magic in ("cafebabe", "cafebabf"))
# A Java class has its version where a universal file has its count, and it is never below 45.
_MOST_SLICES = 44
_ZIP = b"PK\x03\x04"
# Each level may unpack to the whole limit again; real uploads have one archive in another.
_MOST_DEPTH = 3
_MOST_ARCHIVES = 20
_CHAIN = "certificate chain"
# Failures of these are told by messages of their own.
_OF_THE_SIGNER = frozenset({_CHAIN, "timestamp"})
# What no code of a stranger can satisfy, since the requirements name Apple's root.
_OF_STRANGERS = frozenset({"designated requirement", "nested requirement"})
_STAPLED = frozenset({"ticket", "ticket cdhashes"})
"""An app may come again with a ticket in it, whatever that says."""
_BUNDLE = re.compile(r"(?P<root>(?:[^/]+/)*?[^/]+)/Contents/Info\.plist")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What was uploaded, and what was said of it."""

    archive: Path
    name: str
    declared_sha256: str
    sha256: str


@dataclass(slots=True)
class _Found:
    """Issues and code of an archive."""

    issues: list[Issue]
    contents: list[Code]


class Judge:
    """The notary's rules.

    Args:
        trust: whose certificates count.
        scratch: where archives are unpacked.
    """

    def __init__(self, trust: certificates.Trust, scratch: Path) -> None:
        self._trust = trust
        self._scratch = scratch

    def judge(self, upload: Upload, *, now: datetime) -> Verdict:
        """Judge an upload; whatever it holds, there is a verdict.

        Args:
            upload: the archive.
            now: for signatures without a timestamp.
        """
        if upload.sha256 != upload.declared_sha256:
            return _invalid([Issue(message=OTHER_BYTES, path=upload.name)])
        case = verification.Judge(trust=self._trust, now=now, strict=False)
        found = self._open(upload.archive, upload.name, case, depth=0)
        if not found.contents and not found.issues:
            return _invalid([Issue(message=NO_CODE, path=upload.name)])
        if found.issues:
            return _invalid(found.issues)
        return Verdict(
            status=ACCEPTED,
            summary="Ready for distribution",
            code=0,
            contents=tuple(found.contents),
        )

    def _open(self, archive: Path, name: str, case: verification.Judge, *, depth: int) -> _Found:
        """Unpack an archive and judge all of it, the archives inside included."""
        if depth == _MOST_DEPTH:
            return _unreadable("archives are nested too deeply", name)
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        try:
            notary_zip.unpack(archive, folder)
            tree = DiskTree(folder, beside=_beside(DiskTree(folder)))
            found = _judge(tree, name, case)
            for path in _archives(tree):
                inner = self._open(folder / path, f"{name}/{path}", case, depth=depth + 1)
                found.issues += inner.issues
                found.contents += inner.contents
        except (notary_zip.ZipError, errors.ReleaseError) as problem:
            return _unreadable(str(problem), name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return found


def _unreadable(reason: str, name: str) -> _Found:
    return _Found([Issue(message=UNREADABLE.format(reason=reason.rstrip(".")), path=name)], [])


def rejected() -> Verdict:
    """The verdict on a team that is not set up."""
    return Verdict(
        status=REJECTED,
        summary=(
            "Team is not yet configured for notarization. Please contact Developer Programs "
            "Support at developer.apple.com."
        ),
        code=7000,
    )


def _invalid(issues: Sequence[Issue]) -> Verdict:
    return Verdict(
        status=INVALID,
        summary="Archive contains critical validation errors",
        code=4000,
        issues=tuple(issues),
    )


def _judge(tree: DiskTree, name: str, case: verification.Judge) -> _Found:
    found = _Found([], [])
    known: set[tuple[str, str]] = set()
    entries = tree.entries()
    for entry in entries:
        if entry.kind == "file" and _is_code(tree.head(entry.path, 8)):
            known |= _judge_file(tree, entry.path, name, case, found)
    for root in _bundles([entry.path for entry in entries]):
        _judge_bundle(tree, root, name, case, known, found)
    return found


def _beside(tree: DiskTree) -> dict[str, dict[str, bytes]]:
    """Signatures that ditto keeps in AppleDouble, for files that are no Mach-O."""
    found = {}
    for entry in tree.entries():
        path = zip_unpacker.file_beside(entry.path)
        if path and entry.kind == "file" and tree.head(entry.path, 4) == apple_double.MAGIC:
            found[path] = zip_unpacker.signature_in(tree.read(entry.path), path)
    return found


def _archives(tree: DiskTree) -> list[str]:
    """Zips by their magic, whatever they are called."""
    found = [
        entry.path
        for entry in tree.entries()
        if entry.kind == "file" and tree.head(entry.path, 4) == _ZIP
    ]
    if len(found) > _MOST_ARCHIVES:
        raise notary_zip.ZipError(f"{len(found)} archives inside, at most {_MOST_ARCHIVES}")
    return found


def _is_code(head: bytes) -> bool:
    if head[:4] in _THIN:
        return True
    return head[:4] in _UNIVERSAL and 0 < int.from_bytes(head[4:8]) <= _MOST_SLICES


def _bundles(paths: Sequence[str]) -> list[str]:
    """Roots of the outermost bundles; the inner ones are judged with them."""
    found: list[str] = []
    for path in sorted(paths, key=lambda path: path.count("/")):
        match = _BUNDLE.fullmatch(path)
        if match and not any(path.startswith(f"{root}/") for root in found):
            found.append(match["root"])
    return found


def _judge_file(
    tree: DiskTree, path: str, name: str, case: verification.Judge, found: _Found
) -> set[tuple[str, str]]:
    """Judge one Mach-O; what failed, by name and subject."""
    whole = f"{name}/{path}"
    data = tree.view(path)
    try:
        slices = macho.parse(data)
    except errors.FormatError:
        found.issues.append(_issue(BAD_SIGNATURE, whole, None))
        return set()
    report = verification.verify(data, judge=case, path=path)
    failed = _failures(report.checks)
    facts = {item.arch: item for item in report.slices}
    for code in slices:
        fact = facts.get(code.arch)
        subject = f"{path} ({code.arch})" if len(slices) > 1 else path
        broken = any(
            about in (path, subject) and reason not in _OF_THE_SIGNER for reason, about in failed
        )
        found.issues += [
            _issue(message, whole, code.arch) for message in _complaints(code, fact, broken=broken)
        ]
        if fact is not None:
            found.contents.append(Code(path=whole, arch=code.arch, cdhash=fact.cdhash))
    return failed


def _failures(found: Sequence[Check]) -> set[tuple[str, str]]:
    """Name and subject of what failed, without what follows from a signer who is a stranger."""
    failed = {(check.name, check.subject) for check in found if check.outcome == "failed"}
    strange = any(name == _CHAIN for name, _ in failed)
    skipped = _STAPLED | (_OF_STRANGERS if strange else frozenset())
    return {(name, subject) for name, subject in failed if name not in skipped}


def _complaints(code: macho.Slice, fact: CodeFacts | None, *, broken: bool) -> Iterator[str]:
    """All that Apple would not take in one slice."""
    if code.signature is None:
        yield UNSIGNED
    elif fact is None or broken:
        yield BAD_SIGNATURE
    if fact is not None:
        yield from _complaints_of_signature(fact)
    if code.sdk_packed < _OLDEST_SDK:
        yield OLD_SDK


def _complaints_of_signature(fact: CodeFacts) -> Iterator[str]:
    if not fact.trusted:
        yield NOT_DEVELOPER_ID
    if fact.signed_at is None:
        yield NO_TIMESTAMP
    if fact.is_executable and not fact.is_hardened:
        yield NOT_HARDENED
    if (fact.entitlements or {}).get(_TASK_ALLOW) is True:
        yield DEBUGGABLE


def _judge_bundle(
    tree: DiskTree,
    root: str,
    name: str,
    case: verification.Judge,
    known: set[tuple[str, str]],
    found: _Found,
) -> None:
    """Judge what a bundle adds to its files: the seal, and what its executables hash."""
    report = bundle.verify(Subtree(tree=tree, prefix=root), judge=case, path=root)
    failed = _failures(report.checks) - known
    facts = report.facts
    if facts is not None:
        found.contents[:0] = _bundle_contents(facts, f"{name}/{root}")
    if not failed:
        return
    main = facts.main_executable if facts else ""
    where = f"{name}/{root}/{main}" if main else f"{name}/{root}"
    arches = [item.arch for item in facts.code[main].slices] if facts and main else [None]
    for arch in arches:
        if not any(
            issue.path == where and issue.message == BAD_SIGNATURE for issue in found.issues
        ):
            found.issues.append(_issue(BAD_SIGNATURE, where, arch))


def _bundle_contents(facts: BundleFacts, path: str) -> list[Code]:
    """A bundle stands in the log under its own name too, with its executable's cdhashes."""
    slices = facts.code[facts.main_executable].slices
    return [Code(path=path, arch=item.arch, cdhash=item.cdhash) for item in slices]


def _issue(message: str, path: str, architecture: str | None) -> Issue:
    return Issue(message=message, path=path, architecture=architecture, doc_url=_DOCUMENTATION)
