"""A folder on disk as the tree that formats look at. Links are never followed."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from release_tool import errors
from release_tool.apple.tree import TreeEntry
from release_tool.files import atomic, extended_attributes, hashing

READ_LIMIT_BYTES = 512 * 1024 * 1024
"""The largest file that is read whole: no executable of a release is larger."""
_ENTRIES_LIMIT = 100_000
"""A release has some dozen files; a walk that finds this many is in the wrong folder."""
# Files that one thread digests before it asks for more: enough to make the asking cheap.
_BATCH = 16
APPLE_DOUBLE_PREFIX = "._"
"""Where macOS keeps attributes on volumes and in archives that have none (AppleDouble)."""


@dataclass(frozen=True, slots=True)
class DiskTree:
    """A folder, read only; implements `apple.tree.BundleTree`."""

    root: Path
    beside: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    """Signatures in extended attributes that an archive told and the disk does not hold."""

    def entries(self) -> Sequence[TreeEntry]:
        """Every entry, sorted by path.

        Raises:
            VerificationError: something that is neither file, folder nor link.
            HostError: a folder cannot be read.
        """
        with atomic.naming(self.root, "read"):
            return sorted(_walk(self.root), key=lambda entry: entry.path)

    def read(self, path: str) -> bytes:
        """The content of a regular file.

        Raises:
            VerificationError: there is no regular file, or it is too large to hold.
        """
        with self.open(path) as source:
            content = source.read(READ_LIMIT_BYTES + 1)
        if len(content) > READ_LIMIT_BYTES:
            raise errors.VerificationError(
                "is too large", subject=path, expected=f"at most {READ_LIMIT_BYTES} bytes"
            )
        return content

    def head(self, path: str, count: int) -> bytes:
        """The first `count` bytes of a regular file, fewer where it is shorter."""
        with self.open(path) as source:
            return source.read(count)

    def view(self, path: str) -> memoryview:
        """The content of a regular file, mapped: it costs no memory of this process.

        Raises:
            VerificationError: there is no regular file.
        """
        with self.open(path) as source:
            if os.fstat(source.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ))

    def detached(self, path: str) -> Mapping[str, bytes]:
        """The parts of a signature in the file's extended attributes, by name.

        Raises:
            VerificationError: there is no regular file, or a part is too large.
            HostError: the system refuses.
        """
        with self.open(path) as source:
            found = extended_attributes.of_signature(source.fileno(), self.root / path)
        return found or self.beside.get(path, {})

    def digest(self, path: str, algorithm: str) -> bytes:
        """The digest of a regular file, without holding all of it."""
        with self.open(path) as source:
            return hashing.digests_of(source, (algorithm,))[algorithm]

    def digests(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, bytes]]:
        """Digests of many files, each read once, on all cores: hashing frees the interpreter."""
        paths = list(wanted)
        batches = [paths[at : at + _BATCH] for at in range(0, len(paths), _BATCH)]
        executor = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        try:
            found: dict[str, Mapping[str, bytes]] = {}
            for part in executor.map(lambda batch: self._digest_batch(batch, wanted), batches):
                found.update(part)
            return found
        finally:
            executor.shutdown(cancel_futures=True)

    def _digest_batch(
        self, batch: Sequence[str], wanted: Mapping[str, Sequence[str]]
    ) -> dict[str, Mapping[str, bytes]]:
        found: dict[str, Mapping[str, bytes]] = {}
        for path in batch:
            with self.open(path) as source:
                found[path] = hashing.digests_of(source, wanted[path])
        return found

    @contextmanager
    def open(self, path: str) -> Iterator[BufferedReader]:
        """Open a regular file below the root; no link on the way is followed.

        Raises:
            VerificationError: there is no regular file of this path.
            HostError: the system refuses.
        """
        try:
            descriptor = _open_below(self.root, path)
        except (FileNotFoundError, NotADirectoryError) as problem:
            raise errors.VerificationError("is missing", subject=path) from problem
        except OSError as problem:
            if (self.root / path).is_symlink():
                raise _not_regular(path) from problem
            with atomic.naming(self.root / path, "read"):
                raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _not_regular(path)
        with atomic.naming(self.root / path, "read"), os.fdopen(descriptor, "rb") as source:
            yield source

    def attributes(self) -> Mapping[str, Sequence[str]]:
        """Extended attributes by path, of entries that have any."""
        found = {
            entry.path: extended_attributes.names(self.root / entry.path)
            for entry in self.entries()
        }
        return {path: names for path, names in found.items() if names}


def _walk(root: Path) -> list[TreeEntry]:
    found: list[TreeEntry] = []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(root / prefix) as listing:
            entries = [_entry(item, f"{prefix}{item.name}") for item in listing]
        found += entries
        waiting += [f"{entry.path}/" for entry in entries if entry.kind == "directory"]
        if len(found) > _ENTRIES_LIMIT:
            raise errors.VerificationError(
                "holds too many files", subject=str(root), expected=f"at most {_ENTRIES_LIMIT}"
            )
    return found


def _entry(item: os.DirEntry[str], path: str) -> TreeEntry:
    status = item.stat(follow_symlinks=False)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode):
        return TreeEntry(path=path, kind="file", mode=mode, size=status.st_size)
    if stat.S_ISDIR(status.st_mode):
        return TreeEntry(path=path, kind="directory", mode=mode)
    if stat.S_ISLNK(status.st_mode):
        target = str(Path(item.path).readlink())
        return TreeEntry(path=path, kind="symlink", mode=mode, size=len(target), target=target)
    raise errors.VerificationError("is neither a file, a folder nor a link", subject=path)


def _open_below(root: Path, path: str) -> int:
    """Open component by component, so that a folder swapped for a link leads nowhere."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        *parents, name = path.split("/")
        if ".." in parents or name == "..":
            raise FileNotFoundError(path)
        for parent in parents:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            inner = os.open(parent, flags, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Without O_NONBLOCK a named pipe would wait for a writer for ever.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)


def _not_regular(path: str) -> errors.VerificationError:
    return errors.VerificationError("is not a regular file", subject=path)
