"""What may be called a member of an archive: names that mean the same on every volume."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Literal

from release_tool import errors

Kind = Literal["file", "directory", "symlink"]

DEPTH_LIMIT = 64
"""Folders within folders; no bundle comes near, and a walk over parents stays cheap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of an archive."""

    path: str
    """Relative POSIX path, without the leading `./` and without a trailing slash."""
    kind: Kind
    mode: int
    """Permission bits, as they stand."""
    size: int = 0
    date: int = 0
    target: str = ""
    """What a symbolic link says."""
    sha256: str = ""
    """Of the content of a file, of the target text of a link; empty until it was read."""
    attributes: tuple[str, ...] = ()
    """Extended attributes that ride along in the metadata; nobody here restores them."""
    signature: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    """The parts of a code signature among them, by name without codesign's prefix."""


def checked_path(path: str, *, path_bytes: int, component_bytes: int) -> str:
    """Give back a path whose every component is an ordinary name.

    Args:
        path: relative, without a leading `./`.
        path_bytes: how long it may be in UTF-8.
        component_bytes: how long each of its components may be.

    Raises:
        FormatError: it is empty, absolute, climbs, is too long or holds control characters.
    """
    encoded = _utf8(path)
    parts = path.split("/")
    if not path or path.startswith("/"):
        raise _bad(path, "is empty or absolute")
    if any(part in ("", ".", "..") for part in parts):
        raise _bad(path, "has an empty, `.` or `..` component")
    if any(unicodedata.category(letter) == "Cc" for letter in path):
        raise _bad(path, "holds control characters")
    if len(encoded) > path_bytes or len(parts) > DEPTH_LIMIT:
        raise _bad(path, "is too long or too deep")
    if any(len(part.encode()) > component_bytes for part in parts):
        raise _bad(path, f"has a component over {component_bytes} bytes")
    return path


def checked_target(path: str, target: str, *, path_bytes: int) -> str:
    """Give back the target of a link at `path`, when it stays inside the tree.

    `..` may stand only in front: behind another component it could climb out of a folder that is
    itself reached through a link.

    Raises:
        FormatError: the target is empty, absolute, too long or leaves the tree.
    """
    parts = target.split("/")
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    if not target or target.startswith("/") or len(_utf8(target)) > path_bytes:
        raise _bad(path, "links to an empty, absolute or endless target")
    if climbs > path.count("/") or ".." in parts[climbs:]:
        raise _bad(path, f"links out of the tree, to {shown(target)}")
    if any(unicodedata.category(letter) == "Cc" for letter in target):
        raise _bad(path, "links to a target with control characters")
    return target


class Names:
    """The names taken so far, judged as the least discerning volume would.

    macOS volumes ignore case and Unicode composition, so two names that differ only there are one
    file on the user's disk. The installer refuses them after NFC and case folding, as we do.
    """

    def __init__(self) -> None:
        self._taken: dict[str, tuple[str, bool]] = {}

    def take(self, path: str, *, directory: bool) -> None:
        """Claim a path; the folders above it come with it.

        Raises:
            FormatError: the name is taken, or a file stands where a folder must be.
        """
        key = _folded(path)
        if key in self._taken:
            there, implied = self._taken[key]
            if not (implied and directory and there == path):
                raise _bad(path, f"stands twice, as {shown(there)}")
        self._taken[key] = (path, False)
        if not directory:
            # A file can hold nothing: its key is barred for use as a folder.
            self._taken[key + "/"] = (path, False)
        self._parents(path)

    def _parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        while parent:
            key = _folded(parent)
            if key + "/" in self._taken:
                raise _bad(path, f"lies under {shown(parent)}, which is no folder")
            there, _ = self._taken.setdefault(key, (parent, True))
            if there != parent:
                raise _bad(path, f"lies under {shown(parent)}, which is {shown(there)} elsewhere")
            parent = parent.rpartition("/")[0]


def shown(text: str) -> str:
    """A hostile name for a terminal: escaped and cut."""
    plain = text.encode("unicode_escape", "backslashreplace").decode("ascii")
    return plain if len(plain) <= 120 else f"{plain[:117]}..."


def _folded(path: str) -> str:
    folded = unicodedata.normalize("NFC", path).casefold()
    return unicodedata.normalize("NFC", folded)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as problem:
        raise _bad(text, "is not UTF-8") from problem


def _bad(path: str, why: str) -> errors.FormatError:
    return errors.FormatError(f"member name {why}", subject=shown(path))
