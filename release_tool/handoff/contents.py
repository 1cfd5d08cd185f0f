"""What a handoff holds: a manifest, the records, and the artifacts that standing records name.

The manifest catches mix-ups before anything is read. What is trusted are the records, by the
ledger's head that travelled another way, and the digests in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue, TypeAdapter, ValidationError

from release_tool import errors, smoke_records
from release_tool.files import members
from release_tool.files.archive_reader import Limits
from release_tool.frozen_model import FrozenModel
from release_tool.ledger import GENESIS, Ledger, Record
from release_tool.plan import SHA256
from release_tool.standing import chained
from release_tool.values import SealedFile

MANIFEST = "handoff.json"
LEDGER = "ledger"
MANIFEST_BYTES = 64 * 1024
"""It has a few lines."""
RECORDS_LIMIT = 10_000
"""A release has ten stages; a thousand attempts at each are enough."""
RECORDS_BYTES = 256 * 1024**2
"""Of all records together: a run that has been repeated a thousand times does not come near."""
LIMITS = Limits(
    # Three trees of a release at their largest, its archive, and the records.
    compressed_bytes=16 * 1024**3,
    expanded_bytes=16 * 1024**3,
    # The archive that ships is one member here.
    member_bytes=2 * 1024**3,
    members=3 * 16_384 + RECORDS_LIMIT + 1000,
)


class Manifest(FrozenModel):
    """Of which release a handoff is."""

    format: Literal[1] = 1
    environment: str
    version: str
    source_commit: str
    head: SHA256
    """Of the ledger that it carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file or link of the workspace, as a record names it."""

    path: str
    sha256: str
    """Of the content; of the target text for a link."""
    mode: int = 0o644
    link: bool = False
    stage: str


def artifacts(records: Sequence[Record]) -> dict[str, Artifact]:
    """Everything that the standing ones among these records name, by path.

    Raises:
        VerificationError: a record names a path that is no artifact's, or two name one path.
    """
    found: dict[str, Artifact] = {}
    standing = {record.number: record for record in chained(records).values()}
    standing |= {record.number: record for record in smoke_records.counting(records)}
    for record in standing.values():
        for artifact in of_record(record):
            _require_fit(artifact)
            there = found.setdefault(artifact.path, artifact)
            if there.sha256 != artifact.sha256:
                raise errors.VerificationError(
                    f"{there.stage} and {artifact.stage} both say what this is",
                    subject=members.shown(artifact.path),
                    expected=there.sha256,
                    observed=artifact.sha256,
                )
    return found


def digests(ledger: Ledger) -> list[str]:
    """SHA-256 of each record's file, oldest first."""
    found = [record.previous for record in ledger.records[1:]]
    return [*found, ledger.head] if ledger.records else found


def heads(ledger: Ledger) -> list[str]:
    """Every head that the ledger has had, from the empty ledger's on."""
    return [GENESIS, *digests(ledger)]


def of_record(record: Record) -> Iterator[Artifact]:
    """What one record names."""
    listed = _listed(record)
    for path, digest in record.outputs.items():
        file = listed.get(path)
        if file is None:
            yield Artifact(path=path, sha256=digest, stage=record.stage)
        else:
            yield Artifact(
                path=path,
                sha256=digest,
                mode=file.mode & 0o777,
                link=file.link,
                stage=record.stage,
            )


_FILES: TypeAdapter[tuple[SealedFile, ...]] = TypeAdapter(tuple[SealedFile, ...])


def _listed(record: Record) -> Mapping[str, SealedFile]:
    """The files of a tree among the outputs, with their modes and links."""
    value: JsonValue = record.value
    if not isinstance(value, dict) or "root" not in value:
        return {}
    try:
        files = _FILES.validate_python(value.get("files"), strict=False)
    except ValidationError as problem:
        raise errors.VerificationError(
            "this record lists no files", subject=f"{record.number:04d}-{record.stage}.json"
        ) from problem
    return {f"{value['root']}/{file.path}": file for file in files}


def _require_fit(artifact: Artifact) -> None:
    """Nothing hidden, nothing of the ledger: uploads and their credentials lie in such folders."""
    path = artifact.path
    members.checked_path(path, path_bytes=LIMITS.path_bytes, component_bytes=LIMITS.component_bytes)
    top = path.split("/")[0]
    if top.startswith(".") or top.casefold() in (LEDGER, MANIFEST):
        raise errors.VerificationError(
            f"{artifact.stage} names what is no artifact", subject=members.shown(path)
        )
