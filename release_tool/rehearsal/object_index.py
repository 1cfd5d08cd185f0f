"""Objects on disk: content by digest, names in SQLite, and a journal of every write.

Moto keeps its objects in memory; this is what lets them survive its process, and what the public
address streams from.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_BUSY_SECONDS = 10
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
  modified TEXT NOT NULL, headers TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS writes (
  number INTEGER PRIMARY KEY AUTOINCREMENT, operation TEXT NOT NULL, key TEXT NOT NULL,
  sha256 TEXT NOT NULL, size INTEGER NOT NULL, written_at TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS writes_stay BEFORE UPDATE ON writes
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS writes_last BEFORE DELETE ON writes
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One object."""

    key: str
    sha256: str
    size: int
    etag: str
    """With its quotes."""
    modified: datetime
    headers: Mapping[str, str]
    """Content type, cache control and `x-amz-meta-…`, as they are served."""


class ObjectIndex:
    """The objects of one bucket.

    Args:
        folder: holds `content/`, `scratch/` and the database; made where absent.
    """

    def __init__(self, folder: Path) -> None:
        self._content = folder / "content"
        self.scratch = folder / "scratch"
        shutil.rmtree(self.scratch, ignore_errors=True)
        for place in (self._content, self.scratch):
            place.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(
            folder / "objects.sqlite", timeout=_BUSY_SECONDS, check_same_thread=False
        )
        self._lock = threading.Lock()
        with self._transaction() as connection:
            connection.executescript(_SCHEMA)
            named = {row[0] for row in connection.execute("SELECT sha256 FROM objects")}
        for content in self._content.iterdir():
            # Overwritten, or kept by a process that was killed before it wrote the name.
            if content.name not in named:
                content.unlink()

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def place(self, sha256: str) -> Path:
        """Where the content of this digest lies."""
        return self._content / sha256

    def keep(self, spooled: Path, sha256: str) -> None:
        """Move content in under its digest."""
        spooled.replace(self.place(sha256))

    def get(self, key: str) -> Stored | None:
        """The object at a key, or None."""
        with self._transaction() as connection:
            row = connection.execute("SELECT * FROM objects WHERE key = ?", (key,)).fetchone()
        return _stored(row) if row else None

    def everything(self) -> list[Stored]:
        """Every object, by key."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT * FROM objects ORDER BY key").fetchall()
        return [_stored(row) for row in rows]

    def put(self, operation: str, stored: Stored) -> None:
        """Name content that was kept, and note the write."""
        modified = stored.modified.isoformat()
        row = (stored.key, stored.sha256, stored.size, stored.etag, modified)
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)",
                (*row, json.dumps(dict(stored.headers))),
            )
            _note(connection, operation, stored.key, stored.sha256, stored.size)

    def delete(self, key: str) -> None:
        """Forget a key, and note that where there was one."""
        with self._transaction() as connection:
            done = connection.execute("DELETE FROM objects WHERE key = ?", (key,))
            if done.rowcount:
                _note(connection, "DeleteObject", key, "", 0)

    def writes(self) -> list[dict[str, object]]:
        """The journal: each write that was accepted, oldest first."""
        names = ("operation", "key", "sha256", "size", "written_at")
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT operation, key, sha256, size, written_at FROM writes ORDER BY number"
            )
            return [dict(zip(names, row, strict=True)) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection:
            yield self._connection


def _stored(row: tuple[str, str, int, str, str, str]) -> Stored:
    key, sha256, size, etag, modified, headers = row
    return Stored(
        key=key,
        sha256=sha256,
        size=size,
        etag=etag,
        modified=datetime.fromisoformat(modified),
        headers=json.loads(headers),
    )


def _note(connection: sqlite3.Connection, operation: str, key: str, sha256: str, size: int) -> None:
    connection.execute(
        "INSERT INTO writes (operation, key, sha256, size, written_at) VALUES (?, ?, ?, ?, ?)",
        (operation, key, sha256, size, datetime.now(UTC).isoformat()),
    )
