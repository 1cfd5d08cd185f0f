"""Judge an app: its own signature, its seal both ways, and all code inside it.

Rule and source: Apple's published static validation. Nested code is judged by its own signature,
by the requirement that the seal names, and by the sealed cdhash, where any slice's will do (real
seals name the signing host's).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from release_tool import errors
from release_tool.apple import (
    bundle_layout,
    checks,
    code_resources,
    property_list,
    requirement,
    seal_verification,
    stapled,
    superblob,
    ticket,
    verification,
)
from release_tool.apple.bundle_layout import Layout
from release_tool.apple.checks import Check
from release_tool.apple.code_resources import NestedCode
from release_tool.apple.facts import BundleFacts, BundleReport, CodeFacts, CodeReport
from release_tool.apple.seal_verification import SealReport
from release_tool.apple.ticket import Ticket
from release_tool.apple.tree import BundleTree, Subtree, TreeEntry
from release_tool.apple.verification import BundleFiles, Judge

PROFILE = "embedded.provisionprofile"

# Real apps nest three levels: an app, a framework, a helper in it.
MAX_NESTING = 8


def verify(
    tree: BundleTree, *, judge: Judge, path: str = "", nesting: int = 0, place: str = ""
) -> BundleReport:
    """Judge a bundle with everything in it.

    Args:
        tree: the bundle's root, the folder that holds `Contents`.
        judge: trust, time, and whether to judge as our own writer's work.
        path: how checks name the bundle; files are named below it.
        nesting: how deep this bundle lies in others.
        place: where it lies in the outermost of them.
    """
    try:
        opened = _open(tree, path, nesting, place)
    except errors.VerificationError as problem:
        return BundleReport(checks=(_refused("bundle", problem, path),), facts=None)
    return _judge(opened, judge, nesting)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bundle:
    """A bundle whose parts were found."""

    tree: BundleTree
    path: str
    place: str
    """Where it lies in the outermost bundle; empty for that one."""
    layout: Layout
    entries: Mapping[str, TreeEntry]
    info: Mapping[str, object]
    info_bytes: bytes
    main: str
    """The main executable, relative to the bundle's root."""

    def named(self, path: str) -> str:
        """How checks name a file of the bundle."""
        return f"{self.path}/{path}" if self.path else path

    def placed(self, path: str) -> str:
        """Where a file of the bundle lies in the outermost one."""
        return "/".join(part for part in (self.place, path) if part)

    def maybe(self, path: str) -> bytes | None:
        """A file's content, or None where there is no regular file."""
        entry = self.entries.get(path)
        return self.tree.read(path) if entry is not None and entry.kind == "file" else None

    def code(self, path: str) -> memoryview | None:
        """A file's content, looked at and not held; None where there is no regular file."""
        entry = self.entries.get(path)
        return self.tree.view(path) if entry is not None and entry.kind == "file" else None

    def text(self, key: str) -> str:
        value = self.info.get(key)
        return value if isinstance(value, str) else ""


def _open(tree: BundleTree, path: str, nesting: int, place: str) -> _Bundle:
    if nesting > MAX_NESTING:
        raise errors.VerificationError("bundles are nested too deeply")
    entries = {entry.path: entry for entry in tree.entries()}
    layout = bundle_layout.find(entries)
    info_bytes = tree.read(layout.info)
    try:
        info = property_list.parse_any(info_bytes)
    except errors.FormatError as problem:
        problem.subject = layout.info
        raise
    name = info.get("CFBundleExecutable")
    if not isinstance(name, str) or not name or "/" in name or name in (".", ".."):
        raise errors.VerificationError(
            "names no main executable", subject=layout.info, expected="CFBundleExecutable"
        )
    inner = f"{layout.executables}/{name}" if layout.executables else name
    return _Bundle(
        tree=tree,
        path=path,
        place=place,
        layout=layout,
        entries=entries,
        info=info,
        info_bytes=info_bytes,
        main=layout.at(inner),
    )


def _refused(name: str, problem: errors.VerificationError, subject: str) -> Check:
    where = "/".join(part for part in (subject, problem.subject) if part)
    observed = f"{problem.message} {problem.observed}".strip()
    return checks.failed(name, subject=where, expected=problem.expected, observed=observed)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What was found so far inside a bundle."""

    checks: list[Check] = field(default_factory=list)
    code: dict[str, CodeReport] = field(default_factory=dict)
    bundles: dict[str, BundleFacts] = field(default_factory=dict)

    def take(self, path: str, report: BundleReport) -> CodeReport | None:
        """Add a bundle that lies at a path; returns its main executable."""
        self.checks.extend(report.checks)
        if report.facts is None:
            return None
        self.bundles[path] = report.facts
        self.code.update((f"{path}/{name}", item) for name, item in report.facts.code.items())
        return report.facts.code.get(report.facts.main_executable)


def _judge(bundle: _Bundle, judge: Judge, nesting: int) -> BundleReport:
    seal_path = bundle.layout.at(code_resources.PATH)
    seal_bytes = bundle.maybe(seal_path)
    parts = _Parts(checks=list(_root(bundle, judge)))
    main = _main(bundle, seal_bytes, judge)
    parts.checks.extend(main.checks)
    parts.code[bundle.main] = main
    seal = None
    if seal_bytes is None:
        parts.checks.append(
            checks.failed(
                "resource seal", subject=bundle.named(seal_path), expected="one", observed="none"
            )
        )
    else:
        seal, seal_checks = _seal(bundle, seal_bytes, judge)
        parts.checks.extend(seal_checks)
    for inner, sealed in seal.nested.items() if seal is not None else ():
        _nested(bundle, inner, sealed, parts, judge, nesting)
    _other_versions(bundle, parts, judge, nesting)
    stapled_ticket, ticket_checks = _ticket(bundle, parts.code, judge)
    parts.checks.extend(ticket_checks)
    facts = _facts(bundle, parts, seal, stapled_ticket)
    return BundleReport(checks=tuple(parts.checks), facts=facts)


def _main(bundle: _Bundle, seal: bytes | None, judge: Judge) -> CodeReport:
    subject = bundle.named(bundle.main)
    content = bundle.code(bundle.main)
    if content is None:
        missing = checks.failed(
            "main executable",
            subject=bundle.named(bundle.layout.info),
            expected=f"{subject}, a regular file",
            observed="there is none",
        )
        return CodeReport(checks=(missing,), slices=())
    files = BundleFiles(
        info_plist=bundle.info_bytes,
        code_resources=seal,
        paths={
            superblob.SLOT_INFO_PLIST: bundle.named(bundle.layout.info),
            superblob.SLOT_CODE_RESOURCES: bundle.named(bundle.layout.at(code_resources.PATH)),
        },
    )
    return verification.verify(content, judge=judge, path=subject, bundle=files)


def _root(bundle: _Bundle, judge: Judge) -> Iterator[Check]:
    """No stranger lies in the root, where no seal reaches; no folder is empty in our own."""
    for path, wanted in bundle_layout.strangers(bundle.layout, bundle.entries):
        yield checks.failed(
            "bundle root", subject=bundle.named(path), expected=wanted, observed=path
        )
    for path in bundle_layout.loose(bundle.layout, bundle.entries):
        subject = bundle.named(path)
        if judge.strict:
            yield checks.failed("bundle root", subject=subject, expected="none", observed=path)
        else:
            yield checks.unprotected("outside the seal", "no rule seals it", subject=subject)
    if not judge.strict:
        return
    parents = {path.rpartition("/")[0] for path in bundle.entries}
    for path, entry in bundle.entries.items():
        if entry.kind == "directory" and path not in parents:
            yield checks.failed(
                "empty folder", subject=bundle.named(path), expected="none", observed="one"
            )


def _other_versions(bundle: _Bundle, parts: _Parts, judge: Judge, nesting: int) -> None:
    """Every version of a framework holds by itself: the seal is the current version's only."""
    for path in bundle_layout.other_versions(bundle.layout, bundle.entries):
        subtree = Subtree(tree=bundle.tree, prefix=path)
        report = verify(
            subtree,
            judge=judge,
            path=bundle.named(path),
            nesting=nesting + 1,
            place=bundle.placed(path),
        )
        parts.take(path, report)


def _seal(bundle: _Bundle, seal: bytes, judge: Judge) -> tuple[SealReport | None, list[Check]]:
    contents = bundle.layout.contents
    inner = Subtree(tree=bundle.tree, prefix=contents)
    main = bundle.main.removeprefix(f"{contents}/") if contents else bundle.main
    try:
        report = seal_verification.verify(
            seal,
            inner,
            main_executable=main,
            strict=judge.strict,
            contents=bundle.placed(contents),
        )
    except errors.VerificationError as problem:
        subject = bundle.named(bundle.layout.at(code_resources.PATH))
        return None, [_refused("resource seal", problem, subject)]
    named = [_placed(check, bundle, bundle.layout.at(check.subject)) for check in report.checks]
    return report, named


def _placed(check: Check, bundle: _Bundle, path: str) -> Check:
    """A check of the seal with the path of its file; the seal's own where it names none."""
    own = bundle.layout.at(code_resources.PATH)
    return check._replace(subject=bundle.named(path if check.subject else own))


def _nested(
    bundle: _Bundle, inner: str, sealed: NestedCode, parts: _Parts, judge: Judge, nesting: int
) -> None:
    path = bundle.layout.at(inner)
    entry = bundle.entries.get(path)
    if entry is None:
        return
    subject = bundle.named(path)
    if entry.kind == "directory":
        subtree = Subtree(tree=bundle.tree, prefix=path)
        report = verify(
            subtree, judge=judge, path=subject, nesting=nesting + 1, place=bundle.placed(path)
        )
        main = parts.take(path, report)
        parts.checks.extend(_versions(report, sealed, subject))
    else:
        main = parts.code[path] = _nested_file(bundle, path, judge)
        parts.checks.extend(main.checks)
    parts.checks.extend(_as_sealed(main.slices if main else (), sealed, subject))


def _versions(report: BundleReport, sealed: NestedCode, subject: str) -> Iterator[Check]:
    """Other versions of a framework are this code too: dyld loads them by their path."""
    found = report.facts.bundles if report.facts is not None else {}
    for path, other in found.items():
        if bundle_layout.is_version(path):
            main = other.code.get(other.main_executable)
            slices = main.slices if main else ()
            yield _satisfies(slices, sealed.requirement_text, f"{subject}/{path}")


def _nested_file(bundle: _Bundle, path: str, judge: Judge) -> CodeReport:
    content = bundle.code(path)
    if content is None:
        observed = checks.failed(
            "nested code", subject=bundle.named(path), expected="a file", observed="a link"
        )
        return CodeReport(checks=(observed,), slices=())
    if not code_resources.is_code(bytes(content[:4])):
        parts = bundle.tree.detached(path)
        if parts and not judge.strict:
            return verification.verify_detached(
                content, parts, judge=judge, path=bundle.named(path)
            )
        detached = checks.failed(
            "nested code",
            subject=bundle.named(path),
            expected="a signature inside the file",
            observed="no Mach-O; its signature lies in extended attributes, if anywhere",
            hint="extended attributes do not survive archives: seal it as data",
        )
        return CodeReport(checks=(detached,), slices=())
    return verification.verify(content, judge=judge, path=bundle.named(path))


def _as_sealed(slices: tuple[CodeFacts, ...], sealed: NestedCode, subject: str) -> Iterator[Check]:
    """Nested code is the code that the seal names: by cdhash and by requirement."""
    wanted = sealed.cdhash.hex()
    match = next((item for item in slices if wanted in item.cdhashes), None)
    if match is not None:
        observed = f"{wanted} ({match.arch})"
        yield checks.passed("nested cdhash", observed, subject=subject)
    else:
        listed = ", ".join(item.cdhash for item in slices) or "none"
        yield checks.failed("nested cdhash", subject=subject, expected=wanted, observed=listed)
    yield _satisfies(slices, sealed.requirement_text, subject)


def _satisfies(slices: tuple[CodeFacts, ...], text: str, subject: str) -> Check:
    name = "nested requirement"
    try:
        expression = requirement.parse_text(text)
        verdicts = [requirement.decide(expression, item.context) for item in slices]
    except errors.FormatError as problem:
        return _refused(name, problem, subject)
    if not verdicts or False in verdicts:
        observed = "the code does not satisfy it"
        return checks.failed(name, subject=subject, expected=text, observed=observed)
    if None in verdicts:
        return checks.not_checked(name, "only a Mac can decide it", subject=subject)
    return checks.passed(name, text, subject=subject)


def _ticket(
    bundle: _Bundle, code: Mapping[str, CodeReport], judge: Judge
) -> tuple[Ticket | None, list[Check]]:
    """A stapled ticket is Apple's, and lists this code; the seal leaves its place out."""
    path = bundle.layout.at(code_resources.TICKET)
    subject = bundle.named(path)
    entry = bundle.entries.get(path)
    if entry is None:
        return None, []
    if entry.kind != "file":
        stranger = checks.failed(
            "ticket", subject=subject, expected="a file", observed=f"a {entry.kind}"
        )
        return None, [stranger]
    content = bundle.tree.head(path, ticket.MAX_BYTES + 1)
    found, outcomes = stapled.read(content, trust=judge.trust, subject=subject)
    if found is not None:
        outcomes += stapled.covers(found, code, bundle.main, strict=judge.strict, subject=subject)
    return found, outcomes


def _facts(
    bundle: _Bundle, parts: _Parts, seal: SealReport | None, stapled_ticket: Ticket | None
) -> BundleFacts:
    places = seal.data_in_code_places if seal else ()
    return BundleFacts(
        path=bundle.path,
        bundle_id=bundle.text("CFBundleIdentifier"),
        version=bundle.text("CFBundleShortVersionString"),
        minimum_macos=bundle.text("LSMinimumSystemVersion"),
        main_executable=bundle.main,
        code=parts.code,
        sealed=seal.sealed if seal else 0,
        data_in_code_places=tuple(bundle.layout.at(path) for path in places),
        profile=bundle.maybe(bundle.layout.at(PROFILE)),
        seal=seal,
        contents=bundle.layout.contents,
        bundles=parts.bundles,
        ticket=stapled_ticket,
    )
