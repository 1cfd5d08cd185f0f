"""Shows that every byte of an archive is what our writer writes for its content.

Hashes cover the content. What lies around it (gzip header, the compressor's choices, tar headers,
padding, trailer) is covered by packing the content again, in the same pass, and comparing.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from zlib_ng import zlib_ng

from release_tool import errors
from release_tool.files import atomic
from release_tool.files.archive_reader import LIMITS, ArchiveReader, Limits, Unpacked
from release_tool.files.archive_writer import ArchiveWriter
from release_tool.files.members import Member, shown
from release_tool.progress import Reporter, Silent, task

_HINT = (
    "do not ship it; if another release of this tool packed it, verify it with that one "
    f"(zlib-ng {zlib_ng.ZLIBNG_RUNTIME_VERSION} here)"
)


def require_canonical(
    archive: Path, *, limits: Limits = LIMITS, reporter: Reporter | None = None
) -> Unpacked:
    """Pack an archive again, in memory, and compare byte by byte.

    Args:
        archive: the tar.gz.
        limits: how much it may ask.
        reporter: sees the task `compare` over the compressed bytes.

    Returns:
        What it holds, with all digests.

    Raises:
        FormatError: it is damaged, hostile or over a limit.
        VerificationError: some byte is not what our writer writes for this content.
    """
    shown_to = reporter or Silent()
    with (
        atomic.naming(archive, "read"),
        archive.open("rb") as source,
        archive.open("rb") as other,
        task(shown_to, "compare", os.fstat(source.fileno()).st_size),
    ):
        reader = ArchiveReader(source, limits=limits, links=True, reporter=shown_to, job="compare")
        found = _repack(reader, _Comparison(other))
    return Unpacked(
        sha256=reader.sha256,
        size=reader.size,
        tar_sha256=reader.tar_sha256,
        members=tuple(found),
    )


def _repack(reader: ArchiveReader, comparison: _Comparison) -> list[Member]:
    order = _Order()
    found: list[Member] = []
    writer: ArchiveWriter | None = None
    try:
        for member in reader.members():
            if writer is None:
                writer = ArchiveWriter(comparison.take, date=member.date)
            order.take(member)
            written = writer.add(member, reader.content())
            if replace(written, sha256="") != member:
                raise _differs("the tar header", subject=shown(member.path))
            found.append(written)
        if writer is None:
            raise errors.VerificationError("the archive is empty")
        writer.close()
        comparison.finish()
    finally:
        if writer is not None:
            writer.__exit__(None, None, None)
    return found


class _Comparison:
    """A sink that wants to get exactly the bytes of a file."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._offset = 0

    def take(self, data: bytes) -> None:
        there = self._source.read(len(data))
        if there != data:
            raise _differs(f"byte {self._offset + _first_difference(there, data)}")
        self._offset += len(data)

    def finish(self) -> None:
        if self._source.read(1):
            raise _differs(f"byte {self._offset}")


class _Order:
    """Our writer sorts, and gives every folder a member before what it holds."""

    def __init__(self) -> None:
        self._last = ""
        self._folders = {""}

    def take(self, member: Member) -> None:
        if member.path <= self._last:
            raise _differs("the order", subject=shown(member.path))
        if member.path.rpartition("/")[0] not in self._folders:
            raise _differs("a missing folder", subject=shown(member.path))
        self._last = member.path
        if member.kind == "directory":
            self._folders.add(member.path)


def _first_difference(left: bytes, right: bytes) -> int:
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))


def _differs(what: str, *, subject: str = "") -> errors.VerificationError:
    return errors.VerificationError(
        f"{what} is not what this tool writes for the content", subject=subject, hint=_HINT
    )
