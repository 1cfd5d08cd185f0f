"""Prove that signing an app changed its signatures and nothing else.

Each Mach-O must be the same outside its signature, each other file the same altogether; the files
that carry signatures are named as what was added or replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from release_tool import errors
from release_tool.apple import bundle, checks, code_resources, macho, unsigned_content
from release_tool.apple.checks import Check
from release_tool.apple.tree import BundleTree, TreeEntry

OUTSIDE: Final = "outside the signature"
_HEAD = 8
_SEAL = code_resources.PATH
_SEAL_FOLDER = code_resources.PATH.partition("/")[0]
_PARTS: Mapping[str, str] = {
    _SEAL_FOLDER: "folder of the resource seal",
    _SEAL: "resource seal",
    code_resources.TICKET: "notarization ticket",
    bundle.PROFILE: "provisioning profile",
}
"""What signing and notarizing put into a bundle's contents, by its path there."""
_INFO_PLISTS = ("Info.plist", "Resources/Info.plist")
"""One of them stands in the contents of every bundle, a framework's version included."""


def compare_code(
    unsigned: bytes | memoryview, signed: bytes | memoryview, *, subject: str
) -> Check:
    """Whether a Mach-O is the same outside its signature; the first differing byte if not."""
    try:
        found = unsigned_content.compare(unsigned, signed)
        if found is None:
            return checks.passed(OUTSIDE, unsigned_content.digest(signed), subject=subject)
    except errors.FormatError as problem:
        told = f"{problem.message} {problem.observed}".strip()
        return checks.failed(OUTSIDE, subject=subject, expected=problem.expected, observed=told)
    where = f"{found.place} at offset {found.offset:#x}"
    return checks.failed(
        OUTSIDE,
        subject=subject,
        expected=f"{found.expected} in {where}",
        observed=found.observed,
        hint="these are not the bytes that were signed: build and sign again",
    )


def compare(unsigned: BundleTree, signed: BundleTree, *, path: str = "") -> tuple[Check, ...]:
    """Compare an app, or a folder of them, before and after it was signed.

    Args:
        unsigned: the tree before; older signatures in it are ignored too.
        signed: the tree after.
        path: how checks name the root.
    """
    before = {entry.path: entry for entry in unsigned.entries()}
    after = {entry.path: entry for entry in signed.entries()}
    found: list[Check] = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        subject = f"{path}/{name}" if path else name
        if old is not None and new is not None and old.kind == new.kind:
            found += _same(unsigned, signed, old, new, _part(name, after), subject)
        else:
            found.append(_only_one(old, new, _part(name, after), subject))
    return tuple(found)


def _same(
    unsigned: BundleTree,
    signed: BundleTree,
    old: TreeEntry,
    new: TreeEntry,
    part: str | None,
    subject: str,
) -> Iterator[Check]:
    if old.mode != new.mode and old.kind != "symlink":
        expected, observed = f"{old.mode:04o}", f"{new.mode:04o}"
        yield checks.failed("mode", subject=subject, expected=expected, observed=observed)
    if old.kind == "symlink":
        yield checks.compare("link", expected=old.target, observed=new.target, subject=subject)
    elif old.kind == "file":
        yield _same_file(unsigned, signed, old.path, part, subject)


def _same_file(
    unsigned: BundleTree, signed: BundleTree, path: str, part: str | None, subject: str
) -> Check:
    if all(macho.is_macho(tree.head(path, _HEAD)) for tree in (unsigned, signed)):
        return compare_code(unsigned.view(path), signed.view(path), subject=subject)
    expected, observed = (tree.digest(path, "sha256").hex() for tree in (unsigned, signed))
    if expected == observed:
        return checks.passed("file", observed, subject=subject)
    if part is not None:
        return checks.passed("replaced by signing", part, subject=subject)
    return checks.failed("file", subject=subject, expected=expected, observed=observed)


def _only_one(
    old: TreeEntry | None, new: TreeEntry | None, part: str | None, subject: str
) -> Check:
    if part is not None and old is None:
        return checks.passed("added by signing", part, subject=subject)
    return checks.failed(
        "file",
        subject=subject,
        expected=f"a {old.kind}" if old else "nothing",
        observed=f"a {new.kind}" if new else "nothing",
    )


def _part(path: str, entries: Mapping[str, TreeEntry]) -> str | None:
    """What part of a signature a path is the place of; None for anything else."""
    for end, told in _PARTS.items():
        contents = path.removesuffix(end)
        at_bundle = any(f"{contents}{info}" in entries for info in _INFO_PLISTS)
        if (path == end or path.endswith(f"/{end}")) and at_bundle:
            return told
    return None
