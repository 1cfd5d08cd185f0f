"""Reads a tar.gz that may be hostile: bounded, strict, and never by its names alone.

The limits are those of the installer and the coordinator (2 GiB compressed, 4 GiB expanded,
512 MiB a member, 16384 members). tarfile is not used: it goes on after a wrong checksum, reads
metadata of any size and understands sparse files.
"""

from __future__ import annotations

import binascii
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from release_tool import errors
from release_tool.apple.detached_signature import PREFIX
from release_tool.files import atomic, members, tar_header
from release_tool.files.inflated import CHUNK_BYTES, Inflated
from release_tool.files.members import Kind, Member, shown
from release_tool.files.tar_header import BLOCK_BYTES, Header
from release_tool.files.tree import APPLE_DOUBLE_PREFIX
from release_tool.progress import Reporter, Silent, task


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much an archive may ask of us."""

    compressed_bytes: int = 2 * 1024**3
    expanded_bytes: int = 4 * 1024**3
    member_bytes: int = 512 * 1024**2
    members: int = 16_384
    path_bytes: int = 4096
    component_bytes: int = 255
    metadata_bytes: int = 1024**2
    """Of the extended headers of one member; they are the only thing that is held whole."""
    all_metadata_bytes: int = 16 * 1024**2
    """Of all extended headers: reading their records is what costs time."""


LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What an archive held, with every digest that one pass gives."""

    sha256: str
    size: int
    tar_sha256: str
    members: tuple[Member, ...]
    sidecars: tuple[str, ...] = ()
    """Members in AppleDouble that were left out: attributes of the files beside them."""

    @property
    def beside(self) -> Mapping[str, Mapping[str, bytes]]:
        """Signatures in extended attributes, by path: what a tree on disk may have lost."""
        return {one.path: dict(one.signature) for one in self.members if one.signature}


_KINDS: Mapping[bytes, Kind] = {
    tar_header.FILE: "file",
    b"\0": "file",
    tar_header.DIRECTORY: "directory",
    tar_header.LINK: "symlink",
}
_REFUSED = {
    b"1": "a hard link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"7": "a reserved file",
    b"S": "a sparse file",
}
_TRAILER_BYTES = 1024**2
"""Writers fill up their last record with zeros: 10 KiB as a rule, a tape's with some hundred. More
is nothing but work for whoever reads it."""
_RAW, _ENCODED = tar_header.RAW_ATTRIBUTE, "LIBARCHIVE.xattr."
_ATTRIBUTES = (_RAW, _ENCODED)


class ArchiveReader:
    """One pass over an archive: take each member, then its content if it is wanted.

    Args:
        source: the compressed bytes.
        limits: how much it may ask.
        links: whether symbolic links that stay inside are taken; otherwise each is refused.
        reporter: sees `job` advance over the compressed bytes.
        job: the name of the work.
    """

    def __init__(
        self,
        source: BinaryIO,
        *,
        limits: Limits = LIMITS,
        links: bool = False,
        reporter: Reporter | None = None,
        job: str = "read",
    ) -> None:
        told = reporter or Silent()
        self._stream = Inflated(
            source,
            compressed_limit=limits.compressed_bytes,
            expanded_limit=limits.expanded_bytes,
            consumed=lambda count: told.advance(job, count),
        )
        self._limits = limits
        self._links = links
        self._names = members.Names()
        self._left = 0
        self._padding = 0
        self._count = 0
        self._metadata_bytes = 0

    def members(self) -> Iterator[Member]:
        """Every member in order; what is unread of a content is skipped.

        Raises:
            FormatError: the archive is damaged, hostile or over a limit.
        """
        while (member := self._next()) is not None:
            yield member
            for _ in self.content():
                pass
            self._zeros(self._padding)
        self._end()

    def content(self) -> Iterator[bytes]:
        """The content of the member that was taken last, in pieces."""
        while self._left:
            piece = self._stream.read(min(self._left, CHUNK_BYTES))
            self._left -= len(piece)
            yield piece

    @property
    def sha256(self) -> str:
        """Of the archive, once all members were taken."""
        return self._stream.compressed.hexdigest()

    @property
    def tar_sha256(self) -> str:
        """Of the tar stream, once all members were taken."""
        return self._stream.expanded.hexdigest()

    @property
    def size(self) -> int:
        """Of the archive, once all members were taken."""
        return self._stream.compressed_bytes

    def _next(self) -> Member | None:
        records: dict[str, bytes] = {}
        while (header := self._header()) is not None:
            if header.type in _EXTENSIONS:
                records |= self._extension(header, records)
                continue
            self._count += 1
            if self._count > self._limits.members:
                raise errors.FormatError("holds more members than a release may")
            member = self._member(header, records)
            if member is not None:
                return member
            records = {}
        if records:
            raise errors.FormatError("ends in an extended header without its member")
        return None

    def _header(self) -> Header | None:
        block = self._stream.read(BLOCK_BYTES)
        return tar_header.decode(block) if any(block) else None

    def _extension(self, header: Header, records: Mapping[str, bytes]) -> dict[str, bytes]:
        held = header.size + sum(map(len, records.values()))
        # An empty one counts as a block, or a stream of them would never reach the limit.
        self._metadata_bytes += header.size + BLOCK_BYTES
        if (
            held > self._limits.metadata_bytes
            or self._metadata_bytes > self._limits.all_metadata_bytes
        ):
            raise errors.FormatError("holds extended headers over the limit")
        data = b"".join(self._pieces(header.size))
        self._zeros(tar_header.padding(header.size))
        if header.type in (tar_header.GNU_NAME, tar_header.GNU_TARGET):
            key = "path" if header.type == tar_header.GNU_NAME else "linkpath"
            found = {key: data.rstrip(b"\0")}
        else:
            found = tar_header.decode_records(data)
        if any(key.startswith("GNU.sparse.") for key in found):
            raise errors.FormatError("holds a sparse file")
        if header.type == tar_header.PAX_GLOBAL:
            if _MEANT_FOR_ONE & found.keys():
                raise errors.FormatError("names all members at once in a global header")
            return {}
        if records.keys() & found.keys():
            raise errors.FormatError("names a member twice in its extended headers")
        return found

    def _member(self, header: Header, records: Mapping[str, bytes]) -> Member | None:
        """The member, or None for the root itself."""
        name = _text(records.get("path", header.name))
        kind = _kind(header, name)
        path = name.removeprefix("./")
        if kind == "directory":
            path = path.rstrip("/") if path != "/" else path
            if path in ("", "."):
                return None
        limits = self._limits
        members.checked_path(
            path, path_bytes=limits.path_bytes, component_bytes=limits.component_bytes
        )
        self._names.take(path, directory=kind == "directory")
        size = _size(header, records)
        self._claim(path, kind, size)
        return Member(
            path=path,
            kind=kind,
            mode=_mode(header, path, kind),
            size=size,
            date=header.date,
            target=self._target(path, kind, records.get("linkpath", header.target)),
            attributes=_attributes(records),
            signature=_signature(records),
        )

    def _claim(self, path: str, kind: Kind, size: int) -> None:
        if kind != "file" and size:
            raise errors.FormatError("has a content but is no file", subject=shown(path))
        if size > self._limits.member_bytes:
            raise errors.FormatError(
                "is larger than a member may be",
                subject=shown(path),
                expected=f"at most {self._limits.member_bytes} bytes",
                observed=f"{size} bytes",
            )
        self._left = size
        self._padding = tar_header.padding(size)

    def _target(self, path: str, kind: Kind, raw: bytes) -> str:
        if kind != "symlink":
            return ""
        if not self._links:
            raise errors.FormatError("is a link", subject=shown(path))
        target = _text(raw)
        return members.checked_target(path, target, path_bytes=self._limits.path_bytes)

    def _pieces(self, count: int) -> Iterator[bytes]:
        while count:
            piece = self._stream.read(min(count, CHUNK_BYTES))
            count -= len(piece)
            yield piece

    def _zeros(self, count: int) -> None:
        for piece in self._pieces(count):
            if any(piece):
                raise errors.FormatError("holds data in the padding of a member")

    def _end(self) -> None:
        """After the first zero block: a second one, and then zeros up to a whole record."""
        if any(self._stream.read(BLOCK_BYTES)):
            raise errors.FormatError("goes on after the end of its tar stream")
        left = _TRAILER_BYTES
        while piece := self._stream.rest():
            left -= len(piece)
            if left < 0:
                raise errors.FormatError(
                    "goes on after the end of its tar stream",
                    expected=f"at most {_TRAILER_BYTES} zeros",
                )
            if any(piece):
                raise errors.FormatError("holds data after the end of its tar stream")


_EXTENSIONS = frozenset(
    {tar_header.PAX, tar_header.PAX_GLOBAL, tar_header.GNU_NAME, tar_header.GNU_TARGET}
)
_MEANT_FOR_ONE = frozenset({"path", "linkpath", "size"})


def unpack(
    archive: Path,
    folder: Path,
    *,
    limits: Limits = LIMITS,
    links: bool = False,
    sidecars: bool = True,
    reporter: Reporter | None = None,
) -> Unpacked:
    """Unpack an archive into an existing, empty folder.

    Every file is created anew and never through a link; links come last. Owners, times and
    extended attributes are left out. After an error the folder holds a part: it is scratch.

    Args:
        archive: the tar.gz.
        folder: an empty folder.
        limits: how much it may ask.
        links: whether symbolic links that stay inside are made; otherwise each is refused.
        sidecars: whether `._name` beside `name` is a file as any other; macOS's tar takes it for
            extended attributes, so for a stranger's archive it is none.
        reporter: sees the task `unpack` over the compressed bytes.

    Raises:
        FormatError: the archive is damaged, hostile or over a limit.
        UsageError: the folder is not empty.
        HostError: the system refuses.
    """
    with atomic.naming(archive, "read"), archive.open("rb") as source:
        total = os.fstat(source.fileno()).st_size
        with task(reporter or Silent(), "unpack", total):
            return unpack_from(
                source, folder, limits=limits, links=links, sidecars=sidecars, reporter=reporter
            )


def unpack_from(
    source: BinaryIO,
    folder: Path,
    *,
    limits: Limits = LIMITS,
    links: bool = False,
    sidecars: bool = True,
    reporter: Reporter | None = None,
) -> Unpacked:
    """Unpack an archive while it comes in; as `unpack`, but for the task, which is the caller's.

    Args:
        source: the compressed bytes, read once and in order.
        folder: an empty folder.
        limits: how much it may ask.
        links: whether symbolic links that stay inside are made; otherwise each is refused.
        sidecars: whether `._name` beside `name` is a file as any other.
        reporter: sees `unpack` advance over the compressed bytes.
    """
    with atomic.naming(folder, "unpack into"):
        if any(folder.iterdir()):
            raise errors.UsageError("is not empty", subject=str(folder))
    reader = ArchiveReader(source, limits=limits, links=links, reporter=reporter, job="unpack")
    found = [_unpack_one(reader, member, folder) for member in reader.members()]
    every = [member.path for member in found]
    if not sidecars:
        found = _without_sidecars(found, folder)
    kept = {member.path for member in found}
    for member in found:
        if member.kind == "symlink":
            with atomic.naming(folder / member.path, "make"):
                (folder / member.path).symlink_to(member.target)
    return Unpacked(
        sha256=reader.sha256,
        size=reader.size,
        tar_sha256=reader.tar_sha256,
        members=tuple(found),
        sidecars=tuple(path for path in every if path not in kept),
    )


def _without_sidecars(found: list[Member], folder: Path) -> list[Member]:
    """Take away files that stand for extended attributes of a file beside them."""
    paths = {member.path for member in found}
    kept = []
    for member in found:
        parent, slash, name = member.path.rpartition("/")
        beside = f"{parent}{slash}{name.removeprefix(APPLE_DOUBLE_PREFIX)}"
        if member.kind == "file" and beside != member.path and beside in paths:
            with atomic.naming(folder / member.path, "remove"):
                (folder / member.path).unlink()
        else:
            kept.append(member)
    return kept


def _unpack_one(reader: ArchiveReader, member: Member, folder: Path) -> Member:
    path = folder / member.path
    digest = hashlib.sha256(member.target.encode())
    with atomic.naming(path, "unpack"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.kind == "directory":
            path.mkdir(exist_ok=True)
            # Not as the umask has it: modes are judged, and those of the archive are meant.
            path.chmod(member.mode | 0o700)
        if member.kind == "file":
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(path, flags, 0o600), "wb") as target:
                for piece in reader.content():
                    digest.update(piece)
                    target.write(piece)
                # Its owner can always read it again, whatever the archive says.
                os.fchmod(target.fileno(), member.mode | 0o600)
    return replace(member, sha256="" if member.kind == "directory" else digest.hexdigest())


def _kind(header: Header, name: str) -> Kind:
    kind = _KINDS.get(header.type)
    if kind is None:
        what = _REFUSED.get(header.type, f"of an unknown type {header.type!r}")
        raise errors.FormatError(f"is {what}", subject=shown(name))
    # Before ustar a trailing slash made a folder; nobody writes that any more.
    if kind != "directory" and name.endswith("/"):
        raise errors.FormatError("is called a folder and is none", subject=shown(name))
    return kind


def _size(header: Header, records: Mapping[str, bytes]) -> int:
    stated = records.get("size")
    if stated is None:
        return header.size
    if not stated.isdigit() or len(stated) > 19:
        raise errors.FormatError("a pax size is not a number")
    return int(stated)


def _mode(header: Header, path: str, kind: Kind) -> int:
    if kind == "file" and header.mode & 0o7000:
        raise errors.FormatError("has a set-id or sticky bit", subject=shown(path))
    return header.mode & 0o777


def _attributes(records: Mapping[str, bytes]) -> tuple[str, ...]:
    return tuple(
        sorted(
            key.removeprefix(prefix)
            for key in records
            for prefix in _ATTRIBUTES
            if key.startswith(prefix)
        )
    )


def _signature(records: Mapping[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    """Parts of a code signature, as macOS's tar writes them: once raw, or once more in base64."""
    found: dict[str, bytes] = {}
    for key, value in records.items():
        if key.startswith(_ENCODED + PREFIX):
            try:
                found.setdefault(key.removeprefix(_ENCODED + PREFIX), _decoded(value))
            except binascii.Error as problem:
                raise errors.FormatError("an extended attribute is not base64") from problem
    for key, value in records.items():
        if key.startswith(_RAW + PREFIX):
            found[key.removeprefix(_RAW + PREFIX)] = value
    return tuple(sorted(found.items()))


def _decoded(text: bytes) -> bytes:
    """Libarchive leaves the padding out."""
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        name = shown(raw.decode("utf-8", "replace"))
        raise errors.FormatError("member name is not UTF-8", subject=name) from None
