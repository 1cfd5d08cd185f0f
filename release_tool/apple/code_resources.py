"""The resource seal `_CodeSignature/CodeResources`, as it is written.

Every tree here is the bundle's `Contents` folder (`tree.Subtree` of the app), as the seal's own
paths are. Rule and source: Apple's published resource builder and validator; real seals come out
byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from release_tool import errors
from release_tool.apple import property_list, resource_rules
from release_tool.apple.tree import BundleTree, TreeEntry

PATH = "_CodeSignature/CodeResources"
TICKET = "CodeResources"
# Never sealed: the seal's own folder, the stapled ticket, the store's receipt.
EXCLUDED = ("_CodeSignature", TICKET, "_MASReceipt")

_DIGEST, _LEGACY_DIGEST = "sha256", "sha1"
_SEAL_KEYS = MappingProxyType({_DIGEST: "hash2", _LEGACY_DIGEST: "hash"})
_FINDER_STATE = ".DS_Store"
# Names on the way of one link, other links' included: real ones take a dozen, a circle never ends.
_MAX_STEPS = 1000
_MACHO_MAGICS = frozenset(
    struct.pack(order + "I", magic)
    for order in (">", "<")
    for magic in (0xFEEDFACE, 0xFEEDFACF, 0xCAFEBABE, 0xCAFEBABF)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NestedCode:
    """Signed code inside a bundle, as its seal names it."""

    cdhash: bytes
    """20 bytes, of the arm64 slice where there are several."""
    requirement_text: str
    """Its designated requirement in source form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One entry of the folder with the rule that decides about it."""

    entry: TreeEntry
    rule: resource_rules.Rule


def is_code(head: bytes) -> bool:
    """Whether a file begins like a Mach-O, thin or universal."""
    return head[:4] in _MACHO_MAGICS


def build(
    tree: BundleTree,
    nested: Mapping[str, NestedCode],
    *,
    main_executable: str,
    resources: str = "Resources/",
    with_sha1: bool = False,
) -> bytes:
    """Make the seal of a `Contents` folder.

    A regular file in a code place that is not Mach-O (the Metal library beside the executable)
    is sealed by its digest as data, so that no extended attribute has to survive transport.

    Args:
        tree: the `Contents` folder, complete but for the seal and the main executable's
            signature.
        nested: signed code by path relative to it.
        main_executable: its path; it carries the seal's digest, so it cannot be in it.
        resources: where the bundle keeps resources; empty for a flat bundle.
        with_sha1: also seal by SHA-1 what is sealed, for macOS before 10.11.4.

    Raises:
        VerificationError: code that is not signed stands in a code place, or a link leaves the
            bundle.
    """
    entries = tree.entries()
    missing = set(nested) - {entry.path for entry in entries}
    if missing:
        raise errors.VerificationError("nested code is not in the bundle", subject=min(missing))
    rules, rules2 = resource_rules.tables(resources)
    sealed = list(scan(entries, rules2, main_executable))
    legacy = [
        found for found in scan(entries, rules, main_executable) if found.entry.kind == "file"
    ]
    algorithms = (_DIGEST, _LEGACY_DIGEST) if with_sha1 else (_DIGEST,)
    digests = tree.digests(_wanted(tree, sealed, legacy, nested, algorithms))
    files2 = {found.entry.path: _seal(found, nested, digests, algorithms) for found in sealed}
    files = {
        found.entry.path: _maybe_optional(digests[found.entry.path][_LEGACY_DIGEST], found.rule)
        for found in legacy
    }
    return property_list.write({"files": files, "files2": files2, "rules": rules, "rules2": rules2})


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """How many entries of each kind a seal will have."""

    code: int
    """Nested code, named by its own signature."""
    links: int
    resources: int
    data_in_code_places: tuple[str, ...]
    """Files where code belongs that are sealed as data."""

    @property
    def entries(self) -> int:
        """All of them."""
        return self.code + self.links + self.resources + len(self.data_in_code_places)


def count(tree: BundleTree, *, main_executable: str, resources: str = "Resources/") -> Census:
    """What a seal will hold; nothing is digested.

    Args:
        tree: the `Contents` folder.
        main_executable: its path relative to that folder.
        resources: where the bundle keeps resources; empty for a flat bundle.
    """
    _, rules2 = resource_rules.tables(resources)
    found = list(scan(tree.entries(), rules2, main_executable))
    links = [one for one in found if one.entry.kind == "symlink"]
    placed = [one for one in found if one.rule.nested and one.entry.kind != "symlink"]
    data = [
        one.entry.path
        for one in placed
        if one.entry.kind == "file" and not is_code(tree.head(one.entry.path, 4))
    ]
    return Census(
        code=len(placed) - len(data),
        links=len(links),
        resources=len(found) - len(links) - len(placed),
        data_in_code_places=tuple(data),
    )


def _wanted(
    tree: BundleTree,
    sealed: Sequence[Found],
    legacy: Sequence[Found],
    nested: Mapping[str, NestedCode],
    algorithms: Sequence[str],
) -> dict[str, Sequence[str]]:
    """Which digests of which files the seal needs: each file is read once for all of them."""
    wanted: dict[str, Sequence[str]] = {}
    for found in sealed:
        entry = found.entry
        if entry.kind == "symlink" or (found.rule.nested and entry.path in nested):
            continue
        if entry.kind == "directory" or (found.rule.nested and is_code(tree.head(entry.path, 4))):
            raise errors.VerificationError(
                "code in the bundle is not signed",
                subject=entry.path,
                hint="sign it before the bundle that holds it",
            )
        wanted[entry.path] = algorithms
    for found in legacy:
        others = wanted.get(found.entry.path, ())
        wanted[found.entry.path] = tuple({*others, _LEGACY_DIGEST})
    return wanted


def _seal(
    found: Found,
    nested: Mapping[str, NestedCode],
    digests: Mapping[str, Mapping[str, bytes]],
    algorithms: Sequence[str],
) -> Mapping[str, object]:
    entry = found.entry
    optional = {"optional": True} if found.rule.optional else {}
    if entry.kind == "symlink":
        _require_inner_link(entry)
        return {"symlink": entry.target, **optional}
    code = nested.get(entry.path) if found.rule.nested else None
    if code is not None:
        return {"cdhash": code.cdhash, "requirement": code.requirement_text, **optional}
    found_digests = digests[entry.path]
    return {**{_SEAL_KEYS[name]: found_digests[name] for name in algorithms}, **optional}


def _maybe_optional(digest: bytes, rule: resource_rules.Rule) -> object:
    return {"hash": digest, "optional": True} if rule.optional else digest


def _require_inner_link(entry: TreeEntry) -> None:
    if not stays_inside(entry):
        raise errors.VerificationError(
            "a symbolic link leaves the bundle", subject=entry.path, observed=entry.target
        )


def stays_inside(entry: TreeEntry) -> bool:
    """Whether a link's target, read as text, stays below `Contents`' parent folder."""
    if entry.target.startswith("/") or not entry.target:
        return False
    depth = entry.path.count("/") + 1
    for part in entry.target.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return False
    return True


def leaves(path: str, links: Mapping[str, str], *, contents: str) -> bool:
    """Whether a link leads out of the outermost bundle, followed as the system follows it.

    Args:
        path: of the link, relative to the sealed folder, as all paths here.
        links: target of every link by its path: a link may lead out through another one.
        contents: where the sealed folder lies in the outermost bundle, `Contents` in an app.
    """
    base = f"{contents}/" if contents else ""
    ahead, place = path.split("/")[::-1], [part for part in contents.split("/") if part]
    for _ in range(_MAX_STEPS):
        if not ahead:
            return False
        part = ahead.pop()
        if part == ".." and not place:
            return True
        if part == "..":
            place.pop()
        elif part not in ("", "."):
            target = _target("/".join([*place, part]), links, base)
            if target is None:
                place.append(part)
            elif not target or target.startswith("/"):
                return True
            else:
                ahead += target.split("/")[::-1]
    return True


def _target(place: str, links: Mapping[str, str], base: str) -> str | None:
    return links.get(place[len(base) :]) if place.startswith(base) else None


def scan(
    entries: Sequence[TreeEntry], table: Mapping[str, object], main_executable: str
) -> Iterator[Found]:
    """What a table of rules wants sealed, in path order; nested bundles count as one entry."""
    rules = resource_rules.compile_rules(table)
    skipped: tuple[str, ...] = ()
    for entry in sorted(entries, key=lambda entry: entry.path):
        name = entry.path.rsplit("/", 1)[-1]
        top = entry.path.split("/", 1)[0]
        if top in EXCLUDED or entry.path == main_executable or name == _FINDER_STATE:
            continue
        if skipped and entry.path.startswith(skipped):
            continue
        rule = resource_rules.choose(rules, entry.path)
        if entry.kind == "directory":
            if not (rule.nested and "." in name):
                continue
            skipped = (*skipped, entry.path + "/")
        if not rule.omit:
            yield Found(entry=entry, rule=rule)
