"""What the look-alikes themselves counted: the evidence of tests that kill a run.

Read from the journals on disk, so it holds whether the environment lives or not.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from release_tool import errors
from release_tool.rehearsal import notary_store, places


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One accepted registration."""

    version: str
    platform: str
    bundle_hash: str
    binary_hash: str
    metallib_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One accepted write to the bucket."""

    operation: str
    """`PutObject`, `CopyObject`, `CompleteMultipartUpload` or `DeleteObject`."""
    key: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One thing that was asked of the notary, its S3, its logs or the ticket server."""

    operation: str
    """`submit`, `history`, `status`, `log`, `download log`, `unauthorized`, `bearer leak`;
    `PutObject`, `CreateMultipartUpload`, `UploadPart`, `CompleteMultipartUpload`,
    `AbortMultipartUpload`; `ticket`, `ticket miss`."""
    subject: str
    """The submission's id, or the record's name."""
    sha256: str
    """Declared at `submit`, received at an upload; the number of an `UploadPart`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The journals, oldest first, and the bucket as it stands."""

    registrations: tuple[Registered, ...]
    writes: tuple[Written, ...]
    objects: dict[str, str]
    """SHA-256 by key."""
    notary: tuple[Asked, ...] = ()
    active: dict[str, bool] = field(default_factory=dict)
    """By version, whether the coordinator serves and accepts it."""

    def asked(self, operation: str) -> tuple[Asked, ...]:
        """What was asked of the notary under one name."""
        return tuple(item for item in self.notary if item.operation == operation)

    @property
    def submissions(self) -> tuple[Asked, ...]:
        """Submissions that were made."""
        return self.asked("submit")

    @property
    def uploads(self) -> tuple[Asked, ...]:
        """Uploads to the notary that became whole."""
        return self.asked("PutObject") + self.asked("CompleteMultipartUpload")


def read(state: Path) -> Counts:
    """Read the journals of an environment.

    Args:
        state: its state folder.

    Raises:
        HostError: there is no environment's state.
    """
    releases = "version, platform, bundle_hash, binary_hash, metallib_hash"
    try:
        with closing(_opened(places.releases(state))) as store:
            registered = store.execute(f"SELECT {releases} FROM registrations ORDER BY number")  # noqa: S608 our own column names
            registrations = tuple(
                Registered(
                    version=row[0],
                    platform=row[1],
                    bundle_hash=row[2],
                    binary_hash=row[3],
                    metallib_hash=row[4],
                )
                for row in registered
            )
            active = {
                row[0]: bool(row[1])
                for row in store.execute("SELECT version, active FROM releases")
            }
        with closing(_opened(places.objects(state) / "objects.sqlite")) as index:
            rows = index.execute("SELECT operation, key, sha256 FROM writes ORDER BY number")
            writes = tuple(Written(operation=row[0], key=row[1], sha256=row[2]) for row in rows)
            objects = dict(index.execute("SELECT key, sha256 FROM objects").fetchall())
        asked = notary(state)
    except sqlite3.Error as problem:
        raise errors.HostError(
            "the embedded environment left no journals here", subject=str(state)
        ) from problem
    return Counts(
        registrations=registrations,
        writes=writes,
        objects=objects,
        notary=asked,
        active=active,
    )


def notary(state: Path) -> tuple[Asked, ...]:
    """Read the notary's journal alone; empty where there was none yet."""
    path = places.notary(state) / notary_store.DATABASE
    if not path.exists():
        return ()
    with closing(_opened(path)) as journal:
        rows = journal.execute("SELECT operation, subject, sha256 FROM journal ORDER BY number")
        return tuple(Asked(operation=row[0], subject=row[1], sha256=row[2]) for row in rows)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
