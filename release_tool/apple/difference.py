"""Compare two releases: what people and programs would want to know before one replaces another.

A changed designated requirement is what hurts: macOS ties keychain items and permissions to the
requirement of the code that made them, so code that does not meet the old one is a stranger to
what its users stored. Entitlements that name where data lies do the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from release_tool import errors
from release_tool.apple import entitlements, requirement
from release_tool.apple.portrait import CodePortrait, Portrait, Traits, describe
from release_tool.apple.tree import TreeEntry

ABSENT: Final = ""
"""What stands for something that one side lacks."""

_PLACES: Mapping[str, str] = {
    entitlements.KEYCHAIN_ACCESS_GROUPS: "keychain items of a group that is gone stay unreadable",
    entitlements.APPLICATION_IDENTIFIER: "keychain items under the old identifier stay unreadable",
    "com.apple.security.application-groups": "containers of a group that is gone stay unreachable",
}
"""Entitlements that say where users' data lies, and what a lost value costs."""


_TIED = "users' keychain items, privacy permissions and firewall rules are tied to it"
_STRANGER = (
    f"the new code does not meet the old requirement: {_TIED} and will not know the new code"
)
_UNDECIDED = (
    f"whether the new code meets the old requirement cannot be told, the old code itself does not"
    f" meet it under the roots that are trusted here: {_TIED}"
)


class Difference(NamedTuple):
    """One thing that is not the same."""

    kind: str
    """What sort of thing: `requirement`, `entitlement`, `file`, `mode`, …"""
    subject: str
    """The object: a path, and an architecture where a file has several."""
    name: str
    """Which one, where the object has several: a key, a library; empty otherwise."""
    before: str
    """`ABSENT` where it was added."""
    after: str
    """`ABSENT` where it was removed."""
    locks_out: str = ""
    """What users lose; empty where they lose nothing."""

    def as_json(self) -> dict[str, object]:
        """All fields; what one side lacks is null."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "name": self.name,
            "before": self.before or None,
            "after": self.after or None,
            "locks_out": self.locks_out or None,
        }


def compare(before: Portrait, after: Portrait) -> tuple[Difference, ...]:
    """Everything that differs: first what locks users out, then code, plists, tickets, files."""
    found = [
        *_code(before, after),
        *_plists(before.info, after.info),
        *_parts("profile", before.profiles, after.profiles),
        *_parts("ticket", before.tickets, after.tickets),
        *_files(before, after),
    ]
    return tuple(sorted(found, key=lambda item: not item.locks_out))


# Code


def _code(before: Portrait, after: Portrait) -> Iterator[Difference]:
    """Code that is on both sides; a copy of what was compared already is left to the files."""
    seen: set[tuple[str, str]] = set()
    for path in sorted(before.code.keys() & after.code.keys()):
        pair = before.digests[path], after.digests[path]
        if pair not in seen:
            seen.add(pair)
            yield from _slices(path, before.code[path], after.code[path])


def _slices(
    path: str, before: Sequence[CodePortrait], after: Sequence[CodePortrait]
) -> Iterator[Difference]:
    old, new = ({item.arch: item for item in side} for side in (before, after))
    archs = [", ".join(side) for side in (old, new)]
    if archs[0] != archs[1]:
        yield Difference("architectures", path, "", archs[0], archs[1])
    several = len(old.keys() | new.keys()) > 1
    for arch in old.keys() & new.keys():
        subject = f"{path} ({arch})" if several else path
        yield from _requirement(subject, old[arch], new[arch])
        yield from _traits(subject, old[arch].traits, new[arch].traits)


def _requirement(subject: str, old: CodePortrait, new: CodePortrait) -> Iterator[Difference]:
    if old.designated == new.designated:
        return
    cost = ""
    if old.designated and not _meets(new, old.designated):
        cost = _STRANGER if _meets(old, old.designated) else _UNDECIDED
    yield Difference("requirement", subject, "", old.designated, new.designated, cost)


def _meets(code: CodePortrait, text: str) -> bool:
    """Whether the code surely satisfies a requirement."""
    if code.context is None:
        return False
    try:
        return requirement.decide(requirement.parse_text(text), code.context) is True
    except errors.FormatError:
        return False


def _traits(subject: str, old: Traits, new: Traits) -> Iterator[Difference]:
    for name in _both(old.values, new.values):
        was, now = old.values.get(name, ABSENT), new.values.get(name, ABSENT)
        if was != now:
            yield Difference(name, subject, "", was, now)
    for group in _both(old.sets, new.sets):
        yield from _set(group, subject, old.sets.get(group, {}), new.sets.get(group, {}))


def _set(
    group: str, subject: str, old: Mapping[str, str], new: Mapping[str, str]
) -> Iterator[Difference]:
    for name in _both(old, new):
        was = _shown(name, old)
        now = _shown(name, new)
        if was != now:
            yield Difference(group, subject, name, was, now, _lost(group, name, was, now))


def _shown(name: str, side: Mapping[str, str]) -> str:
    """The value; `yes` for a name that has none, nothing for one that is not there."""
    return side[name] or "yes" if name in side else ABSENT


def _lost(group: str, name: str, was: str, now: str) -> str:
    """What users lose with a value of an entitlement that says where their data lies."""
    if group != "entitlement" or name not in _PLACES:
        return ""
    gone = set(was.split(", ")) - set(now.split(", ")) - {ABSENT}
    return _PLACES[name] if gone else ""


# Plists, profiles, tickets


def _plists(
    before: Mapping[str, Mapping[str, object]], after: Mapping[str, Mapping[str, object]]
) -> Iterator[Difference]:
    for path in sorted(before.keys() & after.keys()):
        old, new = ({key: describe(value) for key, value in side[path].items()}
                    for side in (before, after))  # fmt: skip
        yield from _set("Info.plist", path, old, new)


def _parts(
    kind: str, before: Mapping[str, Traits], after: Mapping[str, Traits]
) -> Iterator[Difference]:
    for path in _both(before, after):
        old, new = before.get(path), after.get(path)
        if old is None or new is None:
            sides = [ABSENT if side is None else _summary(side) for side in (old, new)]
            yield Difference(kind, path, "", sides[0], sides[1])
            continue
        for item in _traits(path, old, new):
            yield item._replace(kind=kind, name=f"{item.kind} {item.name}".rstrip())


def _summary(traits: Traits) -> str:
    return ", ".join(f"{name} {value}" for name, value in traits.values.items())


# Files


def _files(before: Portrait, after: Portrait) -> Iterator[Difference]:
    for path in _both(before.entries, after.entries):
        old, new = before.entries.get(path), after.entries.get(path)
        if old is None or new is None or old.kind != new.kind:
            sides = [ABSENT if side is None else _entry(side) for side in (old, new)]
            yield Difference("file", path, "", sides[0], sides[1])
            continue
        if old.mode != new.mode and old.kind != "symlink":
            yield Difference("mode", path, "", f"{old.mode:04o}", f"{new.mode:04o}")
        if old.target != new.target:
            yield Difference("link", path, "", old.target, new.target)
        if before.digests.get(path) != after.digests.get(path):
            sides = [f"{_size(entry)} {side.digests[path]}"
                     for entry, side in ((old, before), (new, after))]  # fmt: skip
            yield Difference("file", path, "", sides[0], sides[1])


def _entry(entry: TreeEntry) -> str:
    if entry.kind == "symlink":
        return f"a link to {entry.target}"
    if entry.kind == "directory":
        return f"a folder, {entry.mode:04o}"
    return f"a file, {entry.mode:04o}, {_size(entry)}"


def _size(entry: TreeEntry) -> str:
    return f"{entry.size} bytes"


def _both(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return sorted(old.keys() | new.keys())
