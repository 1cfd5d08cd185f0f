"""Compare a resource seal with the folder that it seals, both ways.

Every tree here is the bundle's `Contents` folder, as the seal's own paths are. Rule and source:
Apple's published validator.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from release_tool import errors
from release_tool.apple import checks, code_resources, property_list, resource_rules
from release_tool.apple.checks import Check
from release_tool.apple.code_resources import NestedCode
from release_tool.apple.tree import BundleTree, TreeEntry

_LOWEST_LINK_TARGETS = ("/System/", "/Library/")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealReport:
    """What a seal says, and how the folder compares."""

    checks: tuple[Check, ...]
    nested: Mapping[str, NestedCode]
    """Nested code by path, still to be judged by its own signature."""
    sealed: int
    """Entries of the seal."""
    data_in_code_places: tuple[str, ...]
    """Regular files under `MacOS` and the like that are sealed as data, by their digest."""


def verify(
    seal: bytes, tree: BundleTree, *, main_executable: str, strict: bool = False
) -> SealReport:
    """Compare a seal with the folder, both ways.

    Every sealed entry must be there and match, unless it is optional; everything there that the
    rules do not omit must be sealed. Nested code is returned for its own signature to be judged.

    Args:
        seal: the bytes of `_CodeSignature/CodeResources`.
        tree: the `Contents` folder.
        main_executable: its path relative to that folder.
        strict: judge as our own writer's work: Apple's default rules and exactly our bytes, so
            that what no rule covers is refused instead of listed.

    Raises:
        FormatError: the seal is not a property list of the known shape.
    """
    document = property_list.parse(seal)
    files2 = _table(document, "files2")
    rules2 = _table(document, "rules2")
    entries = {entry.path: entry for entry in tree.entries()}
    found = {
        item.entry.path: item
        for item in code_resources.scan(tuple(entries.values()), rules2, main_executable)
    }
    nested: dict[str, NestedCode] = {}
    outcomes: list[Check] = []
    data: list[str] = []
    for path, value in files2.items():
        sealed = _sealed(path, value)
        if isinstance(sealed.get("requirement"), str):
            nested[path] = _nested_code(path, sealed)
        outcomes += _compare(path, sealed, entries.get(path), tree)
        if path in found and found[path].rule.nested and "hash2" in sealed:
            data.append(path)
    outcomes += [_added(path) for path in found if path not in files2]
    outcomes += _summary(outcomes, len(files2))
    outcomes += [_data_note(path) for path in data]
    outcomes += _uncovered(list(entries.values()), found, files2, main_executable, strict=strict)
    outcomes += [_rules_check(rules2, strict=strict)]
    if strict:
        outcomes.append(_rebuilt(seal, tree, nested, main_executable))
    return SealReport(
        checks=tuple(outcomes),
        nested=nested,
        sealed=len(files2),
        data_in_code_places=tuple(data),
    )


def _table(document: Mapping[str, object], name: str) -> dict[str, object]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise errors.FormatError(
            f"the seal has no {name}", hint="a seal of the first version proves nothing today"
        )
    return value


def _sealed(path: str, value: object) -> Mapping[str, object]:
    if isinstance(value, bytes):
        return {"hash": value}
    if not isinstance(value, dict):
        raise errors.FormatError("an entry of the seal has an unknown shape", subject=path)
    return value


def _nested_code(path: str, sealed: Mapping[str, object]) -> NestedCode:
    cdhash, requirement = sealed.get("cdhash"), sealed.get("requirement")
    if not isinstance(requirement, str) or not isinstance(cdhash, bytes | None):
        raise errors.FormatError("nested code of the seal has an unknown shape", subject=path)
    return NestedCode(cdhash=cdhash or b"", requirement_text=requirement)


def _compare(
    path: str, sealed: Mapping[str, object], entry: TreeEntry | None, tree: BundleTree
) -> list[Check]:
    """The failed checks of one sealed entry; none where it matches."""
    if entry is None:
        if sealed.get("optional") is True:
            return []
        return [checks.failed("sealed file", subject=path, expected="present", observed="missing")]
    if "symlink" in sealed:
        return _compare_link(sealed, entry)
    if isinstance(sealed.get("requirement"), str):
        return []
    if entry.kind != "file":
        return [_mismatch(path, "a regular file", f"a {entry.kind}")]
    for key, algorithm in (("hash2", "sha256"), ("hash", "sha1")):
        wanted = sealed.get(key)
        if isinstance(wanted, bytes):
            found = tree.digest(path, algorithm)
            same = hmac.compare_digest(wanted, found)
            return [] if same else [_mismatch(path, wanted.hex(), found.hex())]
    return [_mismatch(path, "a digest, a link or nested code in the seal", "none of them")]


def _compare_link(sealed: Mapping[str, object], entry: TreeEntry) -> list[Check]:
    wanted = str(sealed["symlink"])
    if entry.kind != "symlink" or entry.target != wanted:
        observed = f"a link to {entry.target}" if entry.kind == "symlink" else f"a {entry.kind}"
        return [_mismatch(entry.path, f"a link to {wanted}", observed)]
    if code_resources.stays_inside(entry) or wanted.startswith(_LOWEST_LINK_TARGETS):
        return []
    return [_mismatch(entry.path, "a link that stays in the bundle", f"a link to {wanted}")]


def _mismatch(path: str, expected: str, observed: str) -> Check:
    return checks.failed("sealed file", subject=path, expected=expected, observed=observed)


def _added(path: str) -> Check:
    return checks.failed(
        "sealed file", subject=path, expected="nothing there", observed="a file that is not sealed"
    )


def _summary(outcomes: Sequence[Check], count: int) -> list[Check]:
    if not checks.all_hold(outcomes):
        return []
    return [checks.passed("resource seal", f"{count} entries, compared both ways")]


def _data_note(path: str) -> Check:
    return checks.passed("sealed as data", "no code, covered by its SHA-256", subject=path)


def _uncovered(
    entries: Sequence[TreeEntry],
    found: Mapping[str, code_resources.Found],
    files2: Mapping[str, object],
    main_executable: str,
    *,
    strict: bool,
) -> list[Check]:
    """Files that the rules leave out: nothing protects them.

    `Info.plist` is covered by the executable's first special slot, the ticket by its own
    signature, and nested bundles by their own seals.
    """
    bundles = tuple(path + "/" for path, item in found.items() if item.entry.kind == "directory")
    covered = {
        code_resources.PATH,
        code_resources.TICKET,
        "Info.plist",
        main_executable,
        *found,
        *files2,
    }
    left = [
        entry.path
        for entry in entries
        if entry.kind != "directory"
        and entry.path not in covered
        and not (bundles and entry.path.startswith(bundles))
    ]
    if strict:
        return [_added(path) for path in left]
    return [checks.unprotected("outside the seal", "no rule seals it", subject=p) for p in left]


def _rules_check(rules2: Mapping[str, object], *, strict: bool) -> Check:
    if resource_rules.is_default(rules2):
        return checks.passed("resource rules", "Apple's default")
    if strict:
        return checks.failed("resource rules", expected="Apple's default", observed="others")
    return checks.unprotected("resource rules", "not Apple's default; judged by the seal's own")


def _rebuilt(
    seal: bytes, tree: BundleTree, nested: Mapping[str, NestedCode], main_executable: str
) -> Check:
    try:
        ours = code_resources.build(tree, nested, main_executable=main_executable)
    except errors.VerificationError as problem:
        return checks.failed(
            "seal as written",
            subject=code_resources.PATH,
            expected="what we write",
            observed=str(problem),
        )
    if ours == seal:
        return checks.passed(
            "seal as written", "byte for byte what we write", subject=code_resources.PATH
        )
    return checks.failed(
        "seal as written",
        subject=code_resources.PATH,
        expected="what we write",
        observed="other bytes",
    )
