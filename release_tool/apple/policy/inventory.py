"""What lies in an app as far as a gate looks at it: every entry, all code, every Metal library.

Code is found by its first bytes, wherever it lies and whatever seals it: the notary opens files
in `Resources`, too. Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from release_tool import errors
from release_tool.apple import (
    code_directory,
    code_resources,
    macho,
    metal_library,
    superblob,
)
from release_tool.apple.metal_library import MetalLibrary
from release_tool.apple.tree import BundleTree, TreeEntry

_CONTAINERS = (b"PK\x03\x04", b"xar!")
_DISK_IMAGE = ".dmg"
"""What it is stands at its end, not at its beginning."""


class CodePart(NamedTuple):
    """One slice of one Mach-O, before its signature is judged."""

    arch: str
    is_executable: bool
    minos: str | None
    sdk: str | None
    libraries: tuple[macho.Library, ...]
    search_paths: tuple[str, ...]
    """What `@rpath` stands for, in order."""
    flags: int | None
    """Of its code directory; None for code without a signature that can be read."""
    team_id: str | None
    """As the code directory claims it."""


class CodeFile(NamedTuple):
    """One Mach-O file."""

    path: str
    parts: tuple[CodePart, ...]
    problem: str = ""
    """Why it cannot be read; then it has no parts."""

    @property
    def is_executable(self) -> bool:
        return any(part.is_executable for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything below the root of an app."""

    entries: Mapping[str, TreeEntry]
    """By path."""
    code: Mapping[str, CodeFile]
    """Every Mach-O by its path."""
    metal: Mapping[str, MetalLibrary | errors.FormatError] = field(repr=False)
    """Every Metal library by its path, or why its header cannot be read."""
    links: Mapping[str, str] = field(repr=False)
    """Target of every symbolic link by its path."""
    containers: tuple[str, ...] = ()
    """Paths of zips, flat packages and disk images, which the notary opens, too."""

    look: Callable[[str], CodeFile | None] = field(repr=False, compare=False)
    """Looks at a file that was passed over; None where it is no code."""

    def code_at(self, path: str) -> CodeFile | None:
        """The Mach-O at a path, or None."""
        known = self.code.get(path)
        return known if known is not None or not self.is_file(path) else self.look(path)

    def is_file(self, path: str) -> bool:
        """Whether a regular file has this path."""
        entry = self.entries.get(path)
        return entry is not None and entry.kind == "file"

    @property
    def programs(self) -> frozenset[str]:
        """Paths of code that the system starts as a program."""
        return frozenset(path for path, file in self.code.items() if file.is_executable)


def take(tree: BundleTree, *, resources: bool = True) -> Inventory:
    """Look at everything in an app.

    Args:
        tree: the app's root.
        resources: whether to look at what lies in `Resources`, too: some thousand files, which
            only the notary opens one by one.

    Raises:
        VerificationError: the tree refuses to list or to be read.
    """
    entries = {entry.path: entry for entry in tree.entries()}
    code: dict[str, CodeFile] = {}
    metal: dict[str, MetalLibrary | errors.FormatError] = {}
    containers: list[str] = []
    for path, entry in entries.items():
        if entry.kind != "file" or (not resources and "/Resources/" in path):
            continue
        head = tree.head(path, metal_library.HEADER_SIZE)
        if code_resources.is_code(head):
            code[path] = read_code(path, tree.view(path))
        elif metal_library.is_metal_library(head):
            metal[path] = _metal(head, entry.size)
        elif head.startswith(_CONTAINERS) or path.endswith(_DISK_IMAGE):
            containers.append(path)
    links = {path: entry.target for path, entry in entries.items() if entry.kind == "symlink"}
    return Inventory(
        entries=entries,
        code=code,
        metal=metal,
        links=links,
        containers=tuple(containers),
        look=partial(_look, tree),
    )


def _look(tree: BundleTree, path: str) -> CodeFile | None:
    is_code = code_resources.is_code(tree.head(path, metal_library.HEADER_SIZE))
    return read_code(path, tree.view(path)) if is_code else None


def read_code(path: str, data: bytes | memoryview) -> CodeFile:
    """Look at one Mach-O file."""
    try:
        parts = tuple(map(_part, macho.parse(data)))
    except errors.FormatError as problem:
        return CodeFile(
            path=path, parts=(), problem=f"{problem.message} {problem.observed}".strip()
        )
    return CodeFile(path=path, parts=parts)


def _part(code: macho.Slice) -> CodePart:
    flags, team_id = _signed(code)
    return CodePart(
        arch=code.arch,
        is_executable=code.is_executable,
        minos=code.minos,
        sdk=code.sdk,
        libraries=code.libraries,
        search_paths=code.rpaths,
        flags=flags,
        team_id=team_id,
    )


def _signed(code: macho.Slice) -> tuple[int | None, str | None]:
    room = code.signature_bytes
    if room is None:
        return None, None
    try:
        directories: Sequence[bytes] = superblob.parse(room).code_directories
        found = [code_directory.parse(item) for item in directories]
    except errors.FormatError:
        return None, None
    return (found[-1].flags, found[-1].team_id) if found else (None, None)


def _metal(head: bytes, size: int) -> MetalLibrary | errors.FormatError:
    try:
        return metal_library.parse(head, size=size)
    except errors.FormatError as problem:
        return problem
