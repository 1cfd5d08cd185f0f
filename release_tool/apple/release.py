"""Judge an unpacked release: the app from the seal down, and the flat copies against it.

A flat release holds no app: there each executable under `bin/` stands for itself (see `flat`).

A release folder holds one app and `bin/` with regular copies of some of the app's executables.
A flat copy is bound to the app by its signature (it hashes the app's Info.plist and seal), so it
proves nothing alone: here it must equal the app's own file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from release_tool.apple import (
    bundle,
    checks,
    file_attributes,
    flat,
    metal_functions,
    metal_library,
    resource_bundles,
)
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts, BundleReport
from release_tool.apple.policy import verdict
from release_tool.apple.tree import BundleTree, Remembered, Subtree, TreeEntry
from release_tool.apple.verification import Judge

FLAT = "bin"
_EXECUTABLES = "Contents/MacOS"
_APP_SUFFIX = ".app"
_LAYOUT = "one app and its flat copies under bin/"
_BUNDLE_TOPS = frozenset({"Contents", "Info.plist", "Versions"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseReport:
    """The judgement of an unpacked release."""

    checks: tuple[Check, ...]
    facts: BundleFacts | None
    """Of the app, or of `bin/` of a flat release; None where it could not be read at all."""
    flat_copies: Mapping[str, str]
    """SHA-256 of each file under `bin/`, by name."""
    has_app: bool = True


def app_name(entries: Sequence[TreeEntry]) -> str | None:
    """The one app of a release folder; None where the folder is not laid out as a release."""
    tops = {entry.path.split("/", 1)[0] for entry in entries}
    apps = [top for top in tops if top.endswith(_APP_SUFFIX)]
    return apps[0] if len(apps) == 1 and FLAT in tops else None


def is_flat(entries: Sequence[TreeEntry]) -> bool:
    """Whether a folder holds `bin/` and nothing else."""
    return {entry.path.split("/", 1)[0] for entry in entries} == {FLAT}


def is_part(entries: Sequence[TreeEntry]) -> bool:
    """Whether a folder holds an app or `bin/` and is no bundle itself: a release with gaps."""
    tops = {entry.path for entry in entries if entry.kind == "directory" and "/" not in entry.path}
    bundle_tops = {entry.path.split("/", 1)[0] for entry in entries} & _BUNDLE_TOPS
    return not bundle_tops and any(top == FLAT or top.endswith(_APP_SUFFIX) for top in tops)


def verify(
    tree: BundleTree,
    *,
    judge: Judge,
    flat_copies: Sequence[str] | None = None,
    with_app: bool | None = None,
) -> ReleaseReport:
    """Judge a release folder.

    Args:
        tree: the folder that holds the app and `bin/`, or `bin/` alone.
        judge: trust, time, and whether to judge as our own writer's work.
        flat_copies: the names that `bin/` must hold; None where any will do.
        with_app: whether it must hold an app, or must hold none; None for what it is.
    """
    tree = Remembered(tree)
    entries = tree.entries()
    if is_flat(entries) if with_app is None else not with_app:
        return verify_flat(tree, judge=judge, wanted=flat_copies)
    name = app_name(entries)
    if name is None:
        failure = checks.failed("layout", expected=_LAYOUT, observed=_lacking(entries))
        return ReleaseReport(checks=(failure,), facts=None, flat_copies={})
    report = verify_app(Subtree(tree=tree, prefix=name), judge=judge, path=name)
    found = [*report.checks, *_strangers(entries, name)]
    copies, copy_checks = _flat(tree, entries, name)
    found += copy_checks
    found.append(_complete(copies, flat_copies, report.facts))
    if judge.strict and report.facts is not None:
        found += file_attributes.modes(entries, _programs(report.facts, name), path="")
    return ReleaseReport(checks=tuple(found), facts=report.facts, flat_copies=copies)


def verify_flat(
    tree: BundleTree, *, judge: Judge, wanted: Sequence[str] | None = None
) -> ReleaseReport:
    """Judge a release that holds `bin/` and no app.

    Args:
        tree: the folder that holds `bin/`.
        judge: trust, time, and whether to judge as our own writer's work.
        wanted: the names that `bin/` must hold, the main executable's first; None for any.
    """
    tree = Remembered(tree)
    entries = tree.entries()
    if not is_flat(entries):
        failure = checks.failed("layout", expected=f"{FLAT}/ alone", observed=_tops(entries))
        return ReleaseReport(checks=(failure,), facts=None, flat_copies={}, has_app=False)
    main = wanted[0] if wanted else ""
    report = flat.verify(Subtree(tree=tree, prefix=FLAT), judge=judge, path=FLAT, main=main)
    copies = {
        entry.path.removeprefix(f"{FLAT}/"): tree.digest(entry.path, "sha256").hex()
        for entry in entries
        if entry.kind == "file"
    }
    found = [*report.checks, _complete(copies, wanted, report.facts)]
    if judge.strict and report.facts is not None:
        programs = {f"{FLAT}/{name}" for name in file_attributes.executables(report.facts)}
        found += file_attributes.modes(entries, programs, path="")
    return ReleaseReport(checks=tuple(found), facts=report.facts, flat_copies=copies, has_app=False)


def verify_app(tree: BundleTree, *, judge: Judge, path: str) -> BundleReport:
    """Judge an app, its embedded profile, and what macOS would say when it starts.

    Args:
        tree: the app's root.
        judge: trust, time, and whether to judge as our own writer's work.
        path: how checks name the app.
    """
    tree = Remembered(tree)
    report = bundle.verify(tree, judge=judge, path=path)
    if report.facts is None:
        return report
    found = [*report.checks, *verdict.of_app(tree, report.facts, judge=judge, own=judge.strict)]
    programs = file_attributes.executables(report.facts)
    found += file_attributes.runnable(tree.entries(), programs, path=path)
    if judge.strict:
        found += flat.unstamped(report.facts)
        found += _needs(tree, report.facts, path)
    return replace(report, checks=tuple(found))


def _needs(tree: BundleTree, facts: BundleFacts, path: str) -> Iterator[Check]:
    """What the program opens is there, and the Metal libraries beside it are whole."""
    # What is missing has failed with the seal.
    files = {entry.path for entry in tree.entries() if entry.kind == "file"}
    if facts.main_executable in files:
        yield from resource_bundles.judge(tree, facts.main_executable, path=path)
    for place in sorted(files.intersection(facts.data_in_code_places)):
        if metal_library.is_metal_library(tree.head(place, len(metal_library.MAGIC))):
            yield from metal_functions.judge(
                tree.view(place), required=(), subject=f"{path}/{place}".removeprefix("/")
            )


def _programs(facts: BundleFacts, name: str) -> frozenset[str]:
    """The executables of a release, in the app and under `bin/`."""
    inside = file_attributes.executables(facts)
    folder = f"{_EXECUTABLES}/"
    flat = {f"{FLAT}/{path.removeprefix(folder)}" for path in inside if path.startswith(folder)}
    return frozenset({*(f"{name}/{path}" for path in inside), *flat})


def _lacking(entries: Sequence[TreeEntry]) -> str:
    """What a folder lacks to be a release, and what it has instead."""
    tops = sorted({entry.path.split("/", 1)[0] for entry in entries})
    apps = [top for top in tops if top.endswith(_APP_SUFFIX)]
    gaps = [] if apps else ["no app"]
    if len(apps) > 1:
        gaps.append(f"{len(apps)} apps")
    if FLAT not in tops:
        gaps.append(f"no {FLAT}/")
    return f"{' and '.join(gaps)}, only {_tops(entries)}"


def _tops(entries: Sequence[TreeEntry]) -> str:
    tops = sorted({entry.path.split("/", 1)[0] for entry in entries})
    return ", ".join(tops[:10]) or "an empty folder"


def _strangers(entries: Sequence[TreeEntry], name: str) -> Iterator[Check]:
    """Nothing else lies in a release: what no signature covers has no place in it."""
    for top in sorted({entry.path.split("/", 1)[0] for entry in entries} - {name, FLAT}):
        yield checks.failed(
            "layout", subject=top, expected=f"{name} and {FLAT} only", observed="something else"
        )


def _flat(
    tree: BundleTree, entries: Sequence[TreeEntry], name: str
) -> tuple[dict[str, str], list[Check]]:
    by_path = {entry.path: entry for entry in entries}
    copies: dict[str, str] = {}
    found: list[Check] = []
    for entry in entries:
        if not entry.path.startswith(f"{FLAT}/"):
            continue
        own = entry.path.removeprefix(f"{FLAT}/")
        original = by_path.get(f"{name}/{_EXECUTABLES}/{own}")
        if entry.kind != "file" or original is None or original.kind != "file":
            found.append(_no_copy(entry, f"{name}/{_EXECUTABLES}/{own}"))
            continue
        copies[own] = tree.digest(entry.path, "sha256").hex()
        found.append(_compare_copy(tree, entry, original, copies[own]))
    return copies, found


def _complete(
    copies: Mapping[str, str], wanted: Sequence[str] | None, facts: BundleFacts | None
) -> Check:
    """The copies that were asked for; else at least the main executable's, which users start."""
    main = facts.main_executable.rpartition("/")[2] if facts else ""
    if wanted is None and main in copies:
        return checks.passed("flat copies", ", ".join(sorted(copies)), subject=FLAT)
    return checks.compare(
        "flat copies",
        expected=", ".join(sorted(wanted or (main,))),
        observed=", ".join(sorted(copies)) or "none",
        subject=FLAT,
    )


def _no_copy(entry: TreeEntry, original: str) -> Check:
    return checks.failed(
        "flat copy",
        subject=entry.path,
        expected=f"a regular file equal to {original}",
        observed=f"a {entry.kind}" if entry.kind != "file" else "a file that the app lacks",
    )


def _compare_copy(tree: BundleTree, entry: TreeEntry, original: TreeEntry, digest: str) -> Check:
    wanted = tree.digest(original.path, "sha256").hex()
    same_mode = entry.mode & 0o111 == original.mode & 0o111
    return checks.compare(
        "flat copy",
        expected=f"{original.path} {wanted}",
        observed=f"{original.path} {digest}" if same_mode else f"another mode, {digest}",
        subject=entry.path,
    )
