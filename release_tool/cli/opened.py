"""Open what a command line names as a tree: an archive, a release, an app, one Mach-O file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from release_tool import errors
from release_tool.apple import macho, release
from release_tool.apple.tree import BundleTree, Subtree, in_memory
from release_tool.files import archive_reader
from release_tool.files.tree import DiskTree

Kind = Literal["release archive", "unpacked release", "app", "Mach-O"]

_COMPARED = "name two of a kind: executables, apps, unpacked releases or release archives"
_GZIP = b"\x1f\x8b"
_HEAD = 8
CODE = "code"
"""How the one file of a Mach-O's tree is called: two that are compared bear other names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A tree, and what it is of."""

    name: str
    kind: Kind
    tree: BundleTree
    app: str
    """The app's folder in a release; empty for anything else."""

    @property
    def is_release(self) -> bool:
        return self.kind in ("release archive", "unpacked release")

    def only_app(self) -> Opened:
        """The app of a release, seen alone.

        Raises:
            FormatError: it holds no app.
        """
        if not self.app:
            raise errors.FormatError("holds no app", subject=self.name)
        tree = Subtree(tree=self.tree, prefix=self.app)
        return Opened(name=f"{self.name}/{self.app}", kind="app", tree=tree, app="")


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a path; an archive is unpacked into scratch for as long as it is open.

    Raises:
        FormatError: none of the kinds that can be compared, or a damaged archive.
        UsageError: it cannot be read.
    """
    if path.is_dir():
        yield _folder(path.resolve().name, path, archive=False)
        return
    head = _read(path, _HEAD)
    if head.startswith(_GZIP):
        with tempfile.TemporaryDirectory(prefix="release-tool-") as scratch:
            archive_reader.unpack(path, Path(scratch), links=True)
            yield _folder(path.name, Path(scratch), archive=True)
        return
    if not macho.is_macho(head):
        raise errors.FormatError(
            "is neither a Mach-O, an app nor a release",
            subject=str(path),
            observed=f"a file that begins with {head.hex(' ')}" if head else "an empty file",
            hint=_COMPARED,
        )
    tree = in_memory({CODE: _read(path)})
    yield Opened(name=path.name, kind="Mach-O", tree=tree, app="")


def _folder(name: str, path: Path, *, archive: bool) -> Opened:
    tree = DiskTree(path)
    entries = tree.entries()
    app = release.app_name(entries) or ""
    if archive or app or release.is_part(entries):
        kind: Kind = "release archive" if archive else "unpacked release"
        return Opened(name=name, kind=kind, tree=tree, app=app)
    if not any(entry.path.endswith("Info.plist") for entry in entries):
        raise errors.FormatError(
            "is neither an app nor an unpacked release",
            subject=str(path),
            expected="Contents/Info.plist, or an app and bin/",
            hint=_COMPARED,
        )
    return Opened(name=name, kind="app", tree=tree, app="")


def _read(path: Path, limit: int = -1) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(limit)
    except OSError as problem:
        raise errors.UsageError(
            f"cannot be read: {problem.strerror}", subject=str(path)
        ) from problem
