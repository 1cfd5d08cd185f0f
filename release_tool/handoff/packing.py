"""Packs a handoff: one pass, constant memory, and the same bytes for the same ledger."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from release_tool import errors
from release_tool.files import atomic, extended_attributes
from release_tool.files.archive_writer import ArchiveWriter
from release_tool.files.hashing import CHUNK_BYTES
from release_tool.files.members import Member
from release_tool.files.tree import DiskTree
from release_tool.handoff import contents
from release_tool.handoff.contents import LEDGER, MANIFEST, Artifact, Manifest
from release_tool.handoff.settling import settle
from release_tool.ledger import Ledger, file_name
from release_tool.progress import Reporter, Silent, task

_DATE = 0
"""Of every member: a handoff follows from the ledger and from nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A handoff that was written."""

    manifest: Manifest
    sha256: str
    size: int
    records: int
    artifacts: int


def pack(
    root: Path,
    destination: Path,
    *,
    environment: str,
    version: str,
    source_commit: str,
    reporter: Reporter | None = None,
) -> Packed:
    """Pack a workspace's ledger and the artifacts that its standing records name.

    Args:
        root: the workspace.
        destination: the archive; it appears whole or not at all.
        environment: of the plan, as the other two.
        version: see there.
        source_commit: see there.
        reporter: sees the task `pack` over the bytes of the artifacts.

    Raises:
        UsageError: nothing was recorded yet.
        VerificationError: the ledger is damaged, or an artifact is not what its record says.
        TransientError: a run holds the release.
        HostError: the system refuses.
    """
    ledger = Ledger(root / LEDGER)
    if not ledger.records:
        raise errors.UsageError(
            "nothing was recorded here that could be handed over",
            subject=str(root),
            hint="begin the release: release-tool run",
        )
    with ledger.lock():
        if settle(root):
            ledger.reload()
        manifest = Manifest(
            environment=environment,
            version=version,
            source_commit=source_commit,
            head=ledger.head,
        )
        return _Packing(root, ledger, manifest, reporter or Silent()).write(destination)


class _Packing:
    """One archive in the making."""

    def __init__(self, root: Path, ledger: Ledger, manifest: Manifest, reporter: Reporter) -> None:
        self._root = root
        self._tree = DiskTree(root)
        self._ledger = ledger
        self._manifest = manifest
        self._reporter = reporter
        self._whole = hashlib.sha256()
        self._size = 0

    def write(self, destination: Path) -> Packed:
        artifacts = contents.artifacts(self._ledger.records)
        planned = {path: self._planned(artifacts[path]) for path in sorted(artifacts)}
        several = Counter(artifact.sha256 for artifact in artifacts.values())
        total = sum(member.size for member in planned.values())
        with (
            task(self._reporter, "pack", total),
            atomic.new_file(destination) as target,
            ArchiveWriter(self._sink(target), date=_DATE, signatures=True) as writer,
        ):
            self._add_manifest(writer)
            self._add_records(writer)
            for path, member in planned.items():
                repeated = several[artifacts[path].sha256] > 1
                self._add(writer, artifacts[path], member, repeated=repeated)
            writer.close()
        return Packed(
            manifest=self._manifest,
            sha256=self._whole.hexdigest(),
            size=self._size,
            records=len(self._ledger.records),
            artifacts=len(artifacts),
        )

    def _sink(self, target: BinaryIO) -> Callable[[bytes], None]:
        def sink(data: bytes) -> None:
            self._whole.update(data)
            self._size += len(data)
            target.write(data)

        return sink

    def _add_manifest(self, writer: ArchiveWriter) -> None:
        text = self._manifest.model_dump_json(indent=1).encode() + b"\n"
        writer.add(Member(path=MANIFEST, kind="file", mode=0o644, size=len(text)), [text])

    def _add_records(self, writer: ArchiveWriter) -> None:
        digests = contents.digests(self._ledger)
        for record, digest in zip(self._ledger.records, digests, strict=True):
            path = f"{LEDGER}/{file_name(record)}"
            with self._tree.open(path) as source:
                # The ledger has judged its size.
                content = source.read()
            member = Member(path=path, kind="file", mode=0o644, size=len(content))
            _require(path, digest, writer.add(member, [content]).sha256)

    def _planned(self, artifact: Artifact) -> Member:
        """The artifact as it lies on disk; its content is compared while it is packed."""
        path = self._root / artifact.path
        if not os.path.lexists(path):
            raise errors.VerificationError(
                "is gone, and a handoff holds all that its records name",
                subject=artifact.path,
                hint=f"put it back, or do it again: release-tool run --until {artifact.stage}",
            )
        if artifact.link:
            if not path.is_symlink():
                raise errors.VerificationError("is no link any more", subject=artifact.path)
            target = str(path.readlink())
            return Member(path=artifact.path, kind="symlink", mode=0o777, target=target)
        with self._tree.open(artifact.path) as source:
            size = os.fstat(source.fileno()).st_size
            signature = extended_attributes.of_signature(source.fileno(), path)
        return Member(
            path=artifact.path,
            kind="file",
            mode=artifact.mode,
            size=size,
            signature=tuple(sorted(signature.items())),
        )

    def _add(
        self, writer: ArchiveWriter, artifact: Artifact, member: Member, *, repeated: bool
    ) -> None:
        content = self._chunks(member) if member.kind == "file" else ()
        added = writer.add(member, content, repeated=repeated)
        _require(artifact.path, artifact.sha256, added.sha256)

    def _chunks(self, member: Member) -> Iterator[bytes]:
        with self._tree.open(member.path) as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
                self._reporter.advance("pack", len(chunk))


def _require(path: str, expected: str, observed: str) -> None:
    if observed != expected:
        raise errors.VerificationError(
            "is not what its record says",
            subject=path,
            expected=expected,
            observed=observed,
            hint="restore it, or hand over from the machine that made it",
        )
