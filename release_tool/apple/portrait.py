"""What a release is compared by: its files, its code, its plists, its profiles, its tickets.

Nothing is judged here: code whose signature does not hold is described as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from release_tool import errors
from release_tool.apple import (
    bundle,
    certificates,
    code_resources,
    entitlements,
    facts,
    macho,
    property_list,
    provisioning_profile,
    requirement,
    ticket,
    verification,
)
from release_tool.apple.facts import CodeFacts
from release_tool.apple.tree import BundleTree, TreeEntry
from release_tool.apple.verification import Judge

_HEAD: Final = 8
_INFO_PLIST: Final = "Info.plist"
_MAX_PLIST_BYTES: Final = 4 * 1024 * 1024


class Traits(NamedTuple):
    """What is told of one thing: single values, and sets of named ones, by group."""

    values: Mapping[str, str]
    sets: Mapping[str, Mapping[str, str]]
    """Group, then name, then value; the value is empty where the name says it all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePortrait:
    """One slice of one Mach-O."""

    arch: str
    traits: Traits
    designated: str
    """The designated requirement in source form; empty for unsigned code."""
    context: requirement.Context | None
    """The code as a requirement sees it; None for unsigned code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Portrait:
    """One release, app or file."""

    entries: Mapping[str, TreeEntry]
    digests: Mapping[str, str]
    """SHA-256 of each regular file."""
    code: Mapping[str, tuple[CodePortrait, ...]]
    info: Mapping[str, Mapping[str, object]]
    """Every `Info.plist` that can be read."""
    profiles: Mapping[str, Traits]
    tickets: Mapping[str, Traits]

    @property
    def size(self) -> int:
        """Bytes of all regular files."""
        return sum(entry.size for entry in self.entries.values() if entry.kind == "file")


def draw(tree: BundleTree, *, judge: Judge) -> Portrait:
    """Describe everything in a folder.

    Args:
        tree: a release, an app, or one file.
        judge: whom a certificate chain may lead to, and when.

    Raises:
        VerificationError: a file is missing or too large to be read.
    """
    entries = {entry.path: entry for entry in tree.entries()}
    files = [path for path, entry in entries.items() if entry.kind == "file"]
    digests = tree.digests(dict.fromkeys(files, ("sha256",)))
    code = {path: _code(tree, path, judge) for path in files if _is_code(tree, path)}
    return Portrait(
        entries=entries,
        digests={path: found["sha256"].hex() for path, found in digests.items()},
        code={path: slices for path, slices in code.items() if slices},
        info=dict(_info_plists(tree, entries)),
        profiles=dict(_profiles(tree, files, judge)),
        tickets=dict(_tickets(tree, files)),
    )


def _is_code(tree: BundleTree, path: str) -> bool:
    return macho.is_macho(tree.head(path, _HEAD))


def _code(tree: BundleTree, path: str, judge: Judge) -> tuple[CodePortrait, ...]:
    """Every slice; none where the file is Mach-O by its first bytes only."""
    content = tree.view(path)
    try:
        slices = macho.parse(content)
    except errors.FormatError:
        return ()
    signed = {item.arch: item for item in verification.verify(content, judge=judge).slices}
    return tuple(_slice(code, signed.get(code.arch)) for code in slices)


def _slice(code: macho.Slice, signed: CodeFacts | None) -> CodePortrait:
    values = {"minimum macOS": code.minos or "none", "SDK": code.sdk or "none"}
    sets = {"linked library": dict.fromkeys(code.linked_libraries, "")}
    if signed is None:
        return CodePortrait(
            arch=code.arch,
            traits=Traits({**values, "signed by": "nobody: unsigned"}, sets),
            designated="",
            context=None,
        )
    claims = signed.entitlements or {}
    sets["entitlement"] = {key: describe(value) for key, value in claims.items()}
    return CodePortrait(
        arch=code.arch,
        traits=Traits({**values, **_signature(signed)}, sets),
        designated=signed.requirement_text,
        context=signed.context,
    )


def _signature(signed: CodeFacts) -> dict[str, str]:
    try:
        names = " < ".join(map(certificates.display_name, signed.certificates))
    except errors.FormatError as problem:
        names = f"somebody unreadable: {problem.message}"
    return {
        "identifier": signed.identifier,
        "team": signed.team_id or "none",
        "flags": ", ".join(signed.flag_names) or "none",
        "signed by": names or "nobody: ad-hoc",
        "certificate": signed.certificate_sha256 or "none",
        "timestamp": "one" if signed.signed_at else "none",
        "cdhash": signed.cdhash,
    }


def _info_plists(
    tree: BundleTree, entries: Mapping[str, TreeEntry]
) -> Iterator[tuple[str, Mapping[str, object]]]:
    for path, entry in entries.items():
        named = path.rpartition("/")[2] == _INFO_PLIST
        if not named or entry.kind != "file" or entry.size > _MAX_PLIST_BYTES:
            continue
        try:
            yield path, property_list.parse_any(tree.read(path))
        except errors.FormatError:
            continue


def _profiles(tree: BundleTree, files: list[str], judge: Judge) -> Iterator[tuple[str, Traits]]:
    for path in files:
        if path.rpartition("/")[2] != bundle.PROFILE:
            continue
        try:
            traits = _profile(provisioning_profile.read(tree.read(path), trust=judge.trust))
        except errors.VerificationError as problem:
            traits = Traits({"profile": f"unreadable: {problem.message}"}, {})
        yield path, traits


def _profile(profile: provisioning_profile.Profile) -> Traits:
    values = {
        "name": profile.name,
        "UUID": profile.uuid,
        "team": ", ".join(profile.team_ids),
        "kind": provisioning_profile.KIND_NAMES[profile.kind],
        "expires": f"{profile.expires:%Y-%m-%d}" if profile.expires else "never",
    }
    allowed = {
        certificates.fingerprint(item): certificates.display_name(item)
        for item in profile.certificates
    }
    granted = {key: describe(value) for key, value in profile.entitlements.items()}
    return Traits(values, {"grant": granted, "certificate": allowed})


def _tickets(tree: BundleTree, files: list[str]) -> Iterator[tuple[str, Traits]]:
    for path in files:
        place, _, name = path.rpartition("/")
        if name != code_resources.TICKET or place.rpartition("/")[2] != "Contents":
            continue
        try:
            found = ticket.parse(tree.read(path))
        except errors.FormatError as problem:
            yield path, Traits({"ticket": f"unreadable: {problem.message}"}, {})
            continue
        issued = f"{found.issued:%Y-%m-%d %H:%M:%S} UTC"
        yield path, Traits({"issued": issued, "entries": str(len(found.entries))}, {})


def describe(value: object) -> str:
    """A property list's value in one line."""
    return entitlements.describe(facts.plain(value))
