"""Judge what lies beside the bytes of a file: its mode and its extended attributes.

No signature covers either. Our archives give 0755 to folders and executables and 0644 to data; an
unpacker's umask may only take rights of others away. Rule and source: codesign's strict validation
refuses resource forks and Finder information.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.apple.tree import TreeEntry

_SPECIAL = 0o7000
_WRITE_OF_OTHERS = 0o022
_READ_OF_OTHERS, _RUN_OF_OTHERS, _RUN = 0o044, 0o011, 0o111
_OWNER_ALL, _OWNER_DATA, _OWNER_RUN = 0o700, 0o600, 0o100

REFUSED = frozenset({"com.apple.FinderInfo", "com.apple.ResourceFork"})
HARMLESS = frozenset({"com.apple.quarantine", "com.apple.provenance"})
"""macOS puts these on what was downloaded or written; they say nothing about the content."""
_LINUX_NAMESPACE = "user."


def executables(facts: BundleFacts) -> frozenset[str]:
    """The paths, relative to the app, of code that the system starts as a program."""
    return frozenset(
        path
        for path, report in facts.code.items()
        if any(item.is_executable for item in report.slices)
    )


def runnable(
    entries: Sequence[TreeEntry], programs: Collection[str], *, path: str
) -> Iterator[Check]:
    """Refuse programs that nobody may start, whoever made them.

    Args:
        entries: of the app.
        programs: as `executables` tells them.
        path: how checks name the app.
    """
    for entry in entries:
        if entry.path in programs and not entry.mode & _OWNER_RUN:
            yield checks.failed(
                "executable",
                subject=f"{path}/{entry.path}".removeprefix("/"),
                expected="a file that may be executed",
                observed=f"mode {entry.mode:04o}",
            )


def modes(entries: Sequence[TreeEntry], programs: Collection[str], *, path: str) -> Iterator[Check]:
    """Compare the modes of our own work with those that our writer gives.

    Args:
        entries: of an unpacked release or an app.
        programs: the paths among them that are executables.
        path: how checks name what holds them; empty for themselves.
    """
    judged = [entry for entry in entries if entry.kind != "symlink"]
    wrong = [entry for entry in judged if not _as_written(entry, programs)]
    for entry in wrong:
        runs = entry.kind == "directory" or entry.path in programs
        yield checks.failed(
            "mode",
            subject=f"{path}/{entry.path}".removeprefix("/"),
            expected="0755" if runs else "0644",
            observed=f"{entry.mode:04o}",
        )
    if not wrong:
        told = "0755 for folders and executables, 0644 for data"
        yield checks.passed("modes", f"{len(judged)} entries: {told}", subject=path)


def _as_written(entry: TreeEntry, programs: Collection[str]) -> bool:
    mode = entry.mode
    if mode & (_SPECIAL | _WRITE_OF_OTHERS):
        return False
    if entry.kind == "directory" or entry.path in programs:
        same_people = (mode & _READ_OF_OTHERS) >> 2 == mode & _RUN_OF_OTHERS
        return mode & _OWNER_ALL == _OWNER_ALL and same_people
    return mode & _OWNER_DATA == _OWNER_DATA and not mode & _RUN


def extended(attributes: Mapping[str, Sequence[str]], *, path: str) -> Iterator[Check]:
    """Judge extended attributes: what codesign refuses fails, the others are protected by nothing.

    Args:
        attributes: their names by path; Linux's name space in front is left out.
        path: how checks name what holds them.
    """
    for own, names in attributes.items():
        subject = "/".join(part for part in (path, own) if part)
        for name in (item.removeprefix(_LINUX_NAMESPACE) for item in names):
            if name in REFUSED:
                yield checks.failed(
                    "extended attribute",
                    subject=subject,
                    expected="none that codesign refuses",
                    observed=name,
                    hint="remove it with: xattr -c",
                )
            elif name not in HARMLESS:
                yield checks.unprotected("extended attribute", name, subject=subject)
