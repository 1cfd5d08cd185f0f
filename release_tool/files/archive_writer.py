"""The release archive: a tar.gz that follows from its content and one date, packed in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from release_tool import errors
from release_tool.apple.detached_signature import PREFIX
from release_tool.apple.tree import TreeEntry
from release_tool.files import atomic, members, tar_header
from release_tool.files.gzip_blocks import BLOCK_BYTES, GzipBlocks
from release_tool.files.members import Member
from release_tool.files.tree import DiskTree
from release_tool.progress import Reporter, Silent, task

PATH_BYTES = 4096
COMPONENT_BYTES = 255
"""What the installer takes (`test-release-archive-safety.sh`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """An archive and every digest that one pass gives."""

    sha256: str
    size: int
    tar_sha256: str
    tar_size: int
    members: tuple[Member, ...]


class Digest(Protocol):
    """What hashlib gives."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class ArchiveWriter:
    """Writes members in the order given; the same members and date give the same bytes.

    Args:
        sink: takes the compressed bytes.
        date: Unix time of every member.
        signatures: whether signatures in extended attributes come along.
    """

    def __init__(
        self, sink: Callable[[bytes], None], *, date: int, signatures: bool = False
    ) -> None:
        self._date = date
        self._signatures = signatures
        self._gzip = GzipBlocks(sink)
        self._tar_digest = hashlib.sha256()
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="tar digest")
        self._hashing = self._hasher.submit(self._tar_digest.update, b"")
        self.tar_size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._gzip.__exit__(kind, problem, trace)
        self._hasher.shutdown(wait=True)

    @property
    def tar_sha256(self) -> str:
        """Of the tar stream so far."""
        self._hashing.result()
        return self._tar_digest.hexdigest()

    def add(
        self, member: Member, content: Iterable[bytes] = (), *, repeated: bool = True
    ) -> Member:
        """Append a member.

        Args:
            member: what it is; of a file, `size` bytes of content must come.
            content: chunks of a file.
            repeated: whether the content may come again, so that its compressed blocks are kept;
                the bytes do not depend on it.

        Returns:
            The member as it stands in the archive, with its digest.

        Raises:
            VerificationError: the content is shorter or longer than `size`.
        """
        self._write(tar_header.encode(member, self._date, signatures=self._signatures))
        digest = hashlib.sha256(member.target.encode())
        if member.kind == "file":
            self._content(member, content, digest, repeated=repeated)
            self._write(bytes(tar_header.padding(member.size)))
        return replace(
            member,
            mode=tar_header.fixed_mode(member.kind, member.mode),
            date=self._date,
            sha256="" if member.kind == "directory" else digest.hexdigest(),
        )

    def close(self) -> None:
        """Write the end of the archive."""
        end = 2 * tar_header.BLOCK_BYTES
        self._write(bytes(end + -(self.tar_size + end) % tar_header.RECORD_BYTES))
        self._gzip.close()

    def _content(
        self, member: Member, content: Iterable[bytes], digest: Digest, *, repeated: bool
    ) -> None:
        """Write a file's content, a large one in blocks of its own."""
        large = member.size >= BLOCK_BYTES
        if large:
            self._gzip.cut()
        for block in _blocks(member, content):
            digest.update(block)
            if large and len(block) == BLOCK_BYTES:
                self._hash(block)
                self._gzip.write_block(block, digest.digest() if repeated else None)
            else:
                self._write(block)

    def _write(self, data: bytes) -> None:
        self._hash(data)
        self._gzip.write(data)

    def _hash(self, data: bytes) -> None:
        """Digest the tar stream beside everything else, one piece behind."""
        self.tar_size += len(data)
        self._hashing.result()
        self._hashing = self._hasher.submit(self._tar_digest.update, data)


def pack(
    root: Path,
    destination: Path,
    *,
    date: int,
    copies: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
) -> Packed:
    """Pack everything below a folder; the archive appears whole or not at all.

    Args:
        root: the folder; it gets no member of its own.
        destination: the archive to write.
        date: Unix time of every member.
        copies: further members that hold what a file of the folder holds: path to its path.
        reporter: sees the task `pack` over the bytes of the files.

    Raises:
        VerificationError: a name that installers refuse, a file that changes meanwhile,
            something that is neither file, folder nor link, a signature in extended attributes.
        HostError: the system refuses.
    """
    shown = reporter or Silent()
    tree = DiskTree(root)
    found = _planned(tree, copies or {})
    _judge_names(member for member, _ in found)
    _refuse_detached_signatures(tree)
    whole = hashlib.sha256()
    size = 0
    total = sum(member.size for member, _ in found)
    with task(shown, "pack", total), atomic.new_file(destination) as target:

        def sink(data: bytes) -> None:
            nonlocal size
            whole.update(data)
            size += len(data)
            target.write(data)

        with ArchiveWriter(sink, date=date) as writer:
            packed = tuple(_add(writer, tree, member, source, shown) for member, source in found)
            writer.close()
    return Packed(
        sha256=whole.hexdigest(),
        size=size,
        tar_sha256=writer.tar_sha256,
        tar_size=writer.tar_size,
        members=packed,
    )


def _planned(tree: DiskTree, copies: Mapping[str, str]) -> list[tuple[Member, str]]:
    """Every member with the file that its content comes from, sorted by path."""
    entries = {entry.path: entry for entry in tree.entries()}
    found = {path: (_member(entry), path) for path, entry in entries.items()}
    for path, source in copies.items():
        entry = entries.get(source)
        if entry is None or entry.kind != "file" or path in found:
            raise errors.VerificationError(
                f"cannot be a copy of {source}", subject=path, expected="a file, and a free name"
            )
        found[path] = (replace(_member(entry), path=path), source)
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found[parent] = (Member(path=parent, kind="directory", mode=0o755), "")
            parent = parent.rpartition("/")[0]
    return [found[path] for path in sorted(found)]


def _member(entry: TreeEntry) -> Member:
    size = entry.size if entry.kind == "file" else 0
    return Member(path=entry.path, kind=entry.kind, mode=entry.mode, size=size, target=entry.target)


def _judge_names(found: Iterable[Member]) -> None:
    names = members.Names()
    for member in found:
        members.checked_path(member.path, path_bytes=PATH_BYTES, component_bytes=COMPONENT_BYTES)
        if member.kind == "symlink":
            members.checked_target(member.path, member.target, path_bytes=PATH_BYTES)
        names.take(member.path, directory=member.kind == "directory")


def _refuse_detached_signatures(tree: DiskTree) -> None:
    """This archive carries contents and modes: a signature beside a file would be lost."""
    lost = [
        path
        for path, names in tree.attributes().items()
        if any(name.removeprefix("user.").startswith(PREFIX) for name in names)
    ]
    if lost:
        raise errors.VerificationError(
            "its signature lies in extended attributes, which this archive does not carry",
            subject=lost[0],
            expected="a signature inside the file, or data that the bundle's seal covers",
            observed=f"{PREFIX}* on {len(lost)} {'file' if len(lost) == 1 else 'files'}",
            hint="sign with the portable signer, which seals it as data; or let codesign sign and"
            " macOS's tar pack it (signer: codesign)",
        )


def _add(
    writer: ArchiveWriter, tree: DiskTree, member: Member, source: str, reporter: Reporter
) -> Member:
    if member.kind != "file":
        return writer.add(member)
    return writer.add(member, _chunks(tree, source, reporter))


def _chunks(tree: DiskTree, path: str, reporter: Reporter) -> Iterator[bytes]:
    with tree.open(path) as source:
        while chunk := source.read(BLOCK_BYTES):
            yield chunk
            reporter.advance("pack", len(chunk))


def _blocks(member: Member, content: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a content into whole blocks and a rest; it must have the stated size."""
    left = member.size
    buffer = bytearray()
    for chunk in content:
        left -= len(chunk)
        if left < 0:
            break
        if not buffer and len(chunk) == BLOCK_BYTES:
            yield chunk
            continue
        buffer += chunk
        while len(buffer) >= BLOCK_BYTES:
            yield bytes(buffer[:BLOCK_BYTES])
            del buffer[:BLOCK_BYTES]
    if left:
        raise errors.VerificationError(
            "changed while it was read", subject=member.path, expected=f"{member.size} bytes"
        )
    yield bytes(buffer)
