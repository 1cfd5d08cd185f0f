"""What the look-alikes themselves counted: the evidence of tests that kill a run.

Read from the journals on disk, so it holds whether the environment lives or not.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from release_tool import errors
from release_tool.rehearsal import places


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
class Counts:
    """Both journals, oldest first, and the bucket as it stands."""

    registrations: tuple[Registered, ...]
    writes: tuple[Written, ...]
    objects: dict[str, str]
    """SHA-256 by key."""


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
        with closing(_opened(places.objects(state) / "objects.sqlite")) as index:
            rows = index.execute("SELECT operation, key, sha256 FROM writes ORDER BY number")
            writes = tuple(Written(operation=row[0], key=row[1], sha256=row[2]) for row in rows)
            objects = dict(index.execute("SELECT key, sha256 FROM objects").fetchall())
    except sqlite3.Error as problem:
        raise errors.HostError(
            "the embedded environment left no journals here", subject=str(state)
        ) from problem
    return Counts(registrations=registrations, writes=writes, objects=objects)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
