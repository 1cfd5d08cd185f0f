"""Compare a resource seal with the folder that it seals, both ways.

Every tree here is the bundle's `Contents` folder, as the seal's own paths are. Rule and source:
Apple's published validator.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from release_tool import errors
from release_tool.apple import checks, code_resources, property_list, resource_rules
from release_tool.apple.checks import Check
from release_tool.apple.code_resources import NestedCode
from release_tool.apple.tree import BundleTree, TreeEntry

_SYSTEM_FOLDERS = ("/System/", "/Library/")
_ALGORITHMS = (("hash2", "sha256"), ("hash", "sha1"))
"""The digests of an entry, the strongest first: it decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealReport:
    """What a seal says, and how the folder compares."""

    checks: tuple[Check, ...]
    nested: Mapping[str, NestedCode]
    """Nested code by path, still to be judged by its own signature."""
    sealed: int
    """Entries of the seal."""
    entries: Mapping[str, Mapping[str, object]] = field(repr=False)
    """What the seal says, by path: digests, links, nested code."""
    omitted: tuple[str, ...]
    """Paths that no rule seals and nothing else covers."""
    data_in_code_places: tuple[str, ...]
    """Regular files under `MacOS` and the like that are sealed as data, by their digest."""


def verify(
    seal: bytes,
    tree: BundleTree,
    *,
    main_executable: str,
    strict: bool = False,
    contents: str = "Contents",
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
        contents: where that folder lies in the outermost bundle, which no link may leave.

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
    sealed = {path: _sealed(path, value) for path, value in files2.items()}
    nested = {path: _nested_code(path, value) for path, value in sealed.items() if _is_code(value)}
    digests = tree.digests(_wanted(sealed, entries))
    outcomes: list[Check] = []
    for path, value in sealed.items():
        outcomes += _compare(path, value, entries.get(path), digests)
    data = [
        path
        for path, value in sealed.items()
        if path in found and found[path].rule.nested and "hash2" in value
    ]
    outcomes += [_added(path) for path in found if path not in files2]
    omitted = _left(list(entries.values()), found, files2, main_executable)
    outcomes += _leaving({*files2, *omitted}, entries, contents, strict=strict)
    outcomes += _summary(outcomes, len(files2))
    outcomes += [_data_note(path) for path in data]
    outcomes += [_uncovered(entries[path], strict=strict) for path in omitted]
    outcomes += [_rules_check(rules2, strict=strict)]
    if strict:
        outcomes.append(_rebuilt(seal, tree, nested, main_executable))
    return SealReport(
        checks=tuple(outcomes),
        nested=nested,
        sealed=len(files2),
        entries=sealed,
        omitted=tuple(omitted),
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


def _is_code(sealed: Mapping[str, object]) -> bool:
    """Whether an entry is nested code, which its own signature judges."""
    return isinstance(sealed.get("requirement"), str)


def _wanted(
    sealed: Mapping[str, Mapping[str, object]], entries: Mapping[str, TreeEntry]
) -> dict[str, list[str]]:
    """The one digest that decides about each sealed file: all are read in one go."""
    wanted: dict[str, list[str]] = {}
    for path, value in sealed.items():
        entry = entries.get(path)
        if entry is not None and entry.kind == "file" and not _is_code(value):
            wanted[path] = [name for key, name in _ALGORITHMS if isinstance(value.get(key), bytes)][
                :1
            ]
    return {path: names for path, names in wanted.items() if names}


def _compare(
    path: str,
    sealed: Mapping[str, object],
    entry: TreeEntry | None,
    digests: Mapping[str, Mapping[str, bytes]],
) -> list[Check]:
    """The failed checks of one sealed entry; none where it matches."""
    if entry is None:
        if sealed.get("optional") is True:
            return []
        return [checks.failed("sealed file", subject=path, expected="present", observed="missing")]
    if "symlink" in sealed:
        return _compare_link(sealed, entry)
    if _is_code(sealed):
        return []
    if entry.kind != "file":
        return [_mismatch(path, "a regular file", f"a {entry.kind}")]
    for key, algorithm in _ALGORITHMS:
        wanted = sealed.get(key)
        if isinstance(wanted, bytes):
            found = digests[path][algorithm]
            same = hmac.compare_digest(wanted, found)
            return [] if same else [_mismatch(path, wanted.hex(), found.hex())]
    return [_mismatch(path, "a digest, a link or nested code in the seal", "none of them")]


def _compare_link(sealed: Mapping[str, object], entry: TreeEntry) -> list[Check]:
    wanted = str(sealed["symlink"])
    if entry.kind == "symlink" and entry.target == wanted:
        return []
    observed = f"a link to {entry.target}" if entry.kind == "symlink" else f"a {entry.kind}"
    return [_mismatch(entry.path, f"a link to {wanted}", observed)]


def _leaving(
    paths: Collection[str], entries: Mapping[str, TreeEntry], contents: str, *, strict: bool
) -> Iterator[Check]:
    """Links that lead out, sealed or not; those of nested bundles are judged with them."""
    links = {path: entry.target for path, entry in entries.items() if entry.kind == "symlink"}
    for path in sorted(links.keys() & set(paths)):
        target = links[path]
        if not strict and _leads_into_system(target):
            continue
        if code_resources.leaves(path, links, contents=contents):
            yield checks.failed(
                "sealed link",
                subject=path,
                expected="a link that stays in the bundle",
                observed=f"a link to {target}",
            )


def _leads_into_system(target: str) -> bool:
    """Whether Apple's verifier lets a link lead out: into what belongs to the system."""
    return target.startswith(_SYSTEM_FOLDERS) and ".." not in target.split("/")


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


def _left(
    entries: Sequence[TreeEntry],
    found: Mapping[str, code_resources.Found],
    files2: Mapping[str, object],
    main_executable: str,
) -> list[str]:
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
    return [
        entry.path
        for entry in entries
        if entry.kind != "directory"
        and entry.path not in covered
        and not (bundles and entry.path.startswith(bundles))
    ]


def _uncovered(entry: TreeEntry, *, strict: bool) -> Check:
    if strict:
        return _added(entry.path)
    link = f", a link to {entry.target}" if entry.kind == "symlink" else ""
    return checks.unprotected("outside the seal", f"no rule seals it{link}", subject=entry.path)


def _rules_check(rules2: Mapping[str, object], *, strict: bool) -> Check:
    name, default = "resource rules", "Apple's default"
    if resource_rules.is_default(rules2):
        return checks.passed(name, default)
    weak = resource_rules.weaknesses(rules2)
    if weak:
        return checks.failed(
            name,
            expected="rules that seal everything",
            observed="; ".join(weak),
            hint="codesign's strict validation refuses weak rules, and so does Gatekeeper",
        )
    if strict:
        return checks.failed(name, expected=default, observed="others")
    return checks.passed(name, "others than Apple's default, none of them weaker")


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
