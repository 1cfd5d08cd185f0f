"""The port through which formats look at a folder: they never touch a disk themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from release_tool import errors

Kind = Literal["file", "directory", "symlink"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntry:
    """One entry below a tree's root; the root itself has none."""

    path: str
    """Relative POSIX path, without a leading `./` and without a trailing slash."""
    kind: Kind
    mode: int = 0o644
    """Permission bits only."""
    size: int = 0
    target: str = ""
    """What a symbolic link says, as it stands."""


class BundleTree(Protocol):
    """A folder, read only. Paths are those of its entries."""

    def entries(self) -> Sequence[TreeEntry]:
        """Every entry, sorted by path; symbolic links are never followed."""

    def read(self, path: str) -> bytes:
        """The content of a regular file; `VerificationError` where there is none."""

    def head(self, path: str, count: int) -> bytes:
        """The first `count` bytes of a regular file, fewer where it is shorter."""

    def view(self, path: str) -> memoryview:
        """The content of a regular file, without holding it: on disk it is mapped.

        Files that are rewritten in place while a view lives show their new bytes, and cutting
        one short ends the process: look at folders that nobody else writes to.
        """

    def detached(self, path: str) -> Mapping[str, bytes]:
        """The parts of a signature that lie beside a file, in its extended attributes.

        Returns:
            Content by name, without codesign's prefix: `CodeDirectory`, `CodeSignature`. Empty
            where there are none, or where what holds the file has no attributes.
        """

    def digest(self, path: str, algorithm: str) -> bytes:
        """The digest of a regular file, without holding all of it."""

    def digests(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, bytes]]:
        """Digests of many files, each file read once.

        Args:
            wanted: names of algorithms by path.

        Returns:
            Digest by algorithm, by path.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTree:
    """A tree held in memory: for tests and for files that were never on a disk."""

    files: Mapping[str, bytes]
    links: Mapping[str, str]
    modes: Mapping[str, int]
    beside: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Detached signatures by path."""

    def entries(self) -> Sequence[TreeEntry]:
        found = [
            TreeEntry(path=path, kind="file", mode=self.modes.get(path, 0o644), size=len(content))
            for path, content in self.files.items()
        ]
        found += [
            TreeEntry(path=path, kind="symlink", mode=0o755, size=len(target), target=target)
            for path, target in self.links.items()
        ]
        folders = {parent for entry in found for parent in _parents(entry.path)}
        found += [TreeEntry(path=path, kind="directory", mode=0o755) for path in folders]
        return sorted(found, key=lambda entry: entry.path)

    def read(self, path: str) -> bytes:
        content = self.files.get(path)
        if content is None:
            raise errors.VerificationError("is missing", subject=path)
        return content

    def head(self, path: str, count: int) -> bytes:
        return self.read(path)[:count]

    def view(self, path: str) -> memoryview:
        return memoryview(self.read(path))

    def detached(self, path: str) -> Mapping[str, bytes]:
        return self.beside.get(path, {})

    def digest(self, path: str, algorithm: str) -> bytes:
        return hashlib.new(algorithm, self.read(path)).digest()

    def digests(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, bytes]]:
        return {
            path: {name: self.digest(path, name) for name in names}
            for path, names in wanted.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtree:
    """A folder of another tree, seen as a tree of its own."""

    tree: BundleTree
    prefix: str
    """Path of the folder, without a trailing slash; empty for the whole tree."""

    def entries(self) -> Sequence[TreeEntry]:
        if not self.prefix:
            return self.tree.entries()
        start = self.prefix + "/"
        return [
            TreeEntry(
                path=entry.path.removeprefix(start),
                kind=entry.kind,
                mode=entry.mode,
                size=entry.size,
                target=entry.target,
            )
            for entry in self.tree.entries()
            if entry.path.startswith(start)
        ]

    def read(self, path: str) -> bytes:
        return self.tree.read(self._whole(path))

    def head(self, path: str, count: int) -> bytes:
        return self.tree.head(self._whole(path), count)

    def view(self, path: str) -> memoryview:
        return self.tree.view(self._whole(path))

    def detached(self, path: str) -> Mapping[str, bytes]:
        return self.tree.detached(self._whole(path))

    def digest(self, path: str, algorithm: str) -> bytes:
        return self.tree.digest(self._whole(path), algorithm)

    def digests(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, bytes]]:
        found = self.tree.digests({self._whole(path): names for path, names in wanted.items()})
        return {path: found[self._whole(path)] for path in wanted}

    def _whole(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path


@dataclass(frozen=True, slots=True)
class Remembered:
    """A tree that lists and digests each file once: one judgement asks for the same again."""

    tree: BundleTree
    _listing: list[Sequence[TreeEntry]] = field(default_factory=list, repr=False)
    _digests: dict[tuple[str, str], bytes] = field(default_factory=dict, repr=False)

    def entries(self) -> Sequence[TreeEntry]:
        if not self._listing:
            self._listing.append(self.tree.entries())
        return self._listing[0]

    def read(self, path: str) -> bytes:
        return self.tree.read(path)

    def head(self, path: str, count: int) -> bytes:
        return self.tree.head(path, count)

    def view(self, path: str) -> memoryview:
        return self.tree.view(path)

    def detached(self, path: str) -> Mapping[str, bytes]:
        return self.tree.detached(path)

    def digest(self, path: str, algorithm: str) -> bytes:
        return self.digests({path: (algorithm,)})[path][algorithm]

    def digests(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, bytes]]:
        unknown = {
            path: [name for name in names if (path, name) not in self._digests]
            for path, names in wanted.items()
        }
        found = self.tree.digests({path: names for path, names in unknown.items() if names})
        for path, values in found.items():
            self._digests.update(((path, name), value) for name, value in values.items())
        return {
            path: {name: self._digests[path, name] for name in names}
            for path, names in wanted.items()
        }


def in_memory(
    files: Mapping[str, bytes],
    *,
    links: Mapping[str, str] | None = None,
    modes: Mapping[str, int] | None = None,
) -> MemoryTree:
    """Make a tree of contents by path."""
    return MemoryTree(files=dict(files), links=dict(links or {}), modes=dict(modes or {}))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
