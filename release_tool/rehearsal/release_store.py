"""The coordinator's store: releases, and a journal of every accepted registration.

SQLite, with both written in one transaction, so that the count survives any kill and never
disagrees with the rows.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

from release_tool.rehearsal.registration import Registration

_BUSY_SECONDS = 10
# As many as fit into the 64-bit integer that Go scans.
_MOST_DIGITS = 18
_LEADING_DIGITS = re.compile(r"[0-9]*")
_COLUMNS = tuple(Registration().as_dict())
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS releases (
  {" TEXT NOT NULL, ".join(_COLUMNS)} TEXT NOT NULL,
  active INTEGER NOT NULL, created_at TEXT NOT NULL,
  PRIMARY KEY (version, platform)
);
CREATE TABLE IF NOT EXISTS registrations (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  {" TEXT NOT NULL, ".join(_COLUMNS)} TEXT NOT NULL,
  accepted_at TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS registrations_stay BEFORE UPDATE ON registrations
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS registrations_last BEFORE DELETE ON registrations
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""
_PLACES = ", ".join("?" * (len(_COLUMNS) + 1))
_JOURNAL = f"INSERT INTO registrations ({', '.join(_COLUMNS)}, accepted_at) VALUES ({_PLACES})"  # noqa: S608 our own column names
_UPSERT = (
    f"INSERT INTO releases ({', '.join(_COLUMNS)}, active, created_at) VALUES"  # noqa: S608
    f" ({', '.join('?' * len(_COLUMNS))}, 1, ?) ON CONFLICT (version, platform) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
    + ", active = 1"
)


class ReleaseStore:
    """The rows of one coordinator.

    Args:
        path: the database file; made where it is absent.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._lock = threading.Lock()
        with self._transaction() as connection:
            connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def accept(self, release: Registration) -> dict[str, object]:
        """Insert or replace a release, activate it, and note the registration.

        Returns:
            The row as it now stands.
        """
        values = tuple(release.as_dict().values())
        now = _now()
        with self._transaction() as connection:
            connection.execute(_UPSERT, (*values, now))
            connection.execute(_JOURNAL, (*values, now))
            row = connection.execute(
                "SELECT * FROM releases WHERE version = ? AND platform = ?",
                (release.version, release.platform),
            ).fetchone()
        return _row(row)

    def latest(self, platform: str) -> dict[str, object] | None:
        """The active release of the highest version, then the newest; None without any."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT * FROM releases WHERE platform = ? AND active = 1", (platform,)
            ).fetchall()
        found = [_row(row) for row in rows]
        return max(found, key=_Rank, default=None)

    def everything(self) -> list[dict[str, object]]:
        """Every row, active or not, in the order of insertion."""
        with self._transaction() as connection:
            return [_row(row) for row in connection.execute("SELECT * FROM releases")]

    def deactivate(self, version: str, platform: str) -> bool:
        """Make a release inactive; False where there is none."""
        with self._transaction() as connection:
            done = connection.execute(
                "UPDATE releases SET active = 0 WHERE version = ? AND platform = ?",
                (version, platform),
            )
            return done.rowcount == 1

    def registrations(self) -> list[dict[str, object]]:
        """The journal: each accepted registration, oldest first."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT * FROM registrations ORDER BY number")
            return [dict(row) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection:
            yield self._connection


def compare_versions(left: str, right: str) -> int:
    """Compare as the coordinator of May does: split on dots, scan a leading integer of each part.

    So `0.5.0-dev.1` (0, 5, 0, 1) ranks above `0.5.0`, unlike in SemVer.

    Returns:
        Negative, zero or positive.
    """
    for ours, theirs in zip_longest(_numbers(left), _numbers(right), fillvalue=0):
        if ours != theirs:
            return -1 if ours < theirs else 1
    return 0


class _Rank:
    """The order of `latest`."""

    def __init__(self, row: dict[str, object]) -> None:
        self._version = str(row["version"])
        self._created = str(row["created_at"])

    def __lt__(self, other: _Rank) -> bool:
        order = compare_versions(self._version, other._version)
        return order < 0 or (order == 0 and self._created < other._created)

    def __gt__(self, other: _Rank) -> bool:
        return other < self


def _numbers(version: str) -> list[int]:
    found = [_LEADING_DIGITS.match(part) for part in version.split(".")]
    return [int(match[0][:_MOST_DIGITS] or "0") for match in found if match]


def _row(row: sqlite3.Row) -> dict[str, object]:
    return dict(row) | {"active": bool(row["active"])}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
