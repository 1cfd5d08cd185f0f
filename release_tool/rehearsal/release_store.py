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
from functools import cmp_to_key
from itertools import zip_longest
from pathlib import Path

from release_tool.rehearsal import version_order
from release_tool.rehearsal.registration import MAY, Contract, Registration

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


class ImmutableError(Exception):
    """What was published or approved once would change."""


class ReleaseStore:
    """The rows of one coordinator.

    Args:
        path: the database file; made where it is absent.
        contract: whose order of versions `latest` follows.
    """

    def __init__(self, path: Path, contract: Contract = MAY) -> None:
        self._order = compare_versions if contract == MAY else version_order.compare
        self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._lock = threading.Lock()
        with self.transaction() as connection:
            connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def accept(self, release: Registration, *, immutable: bool = False) -> dict[str, object]:
        """Insert or replace a release, activate it, and note the registration.

        Args:
            release: what is registered.
            immutable: whether a version that stands may only be registered as it stands.

        Returns:
            The row as it now stands.

        Raises:
            ImmutableError: it stands with other facts.
        """
        values = tuple(release.as_dict().values())
        now = _now()
        with self.transaction() as connection:
            if immutable:
                _refuse_change(connection, release)
            connection.execute(_UPSERT, (*values, now))
            connection.execute(_JOURNAL, (*values, now))
            row = connection.execute(
                "SELECT * FROM releases WHERE version = ? AND platform = ?",
                (release.version, release.platform),
            ).fetchone()
        return _row(row)

    def latest(self, platform: str) -> dict[str, object] | None:
        """The active release of the highest version, then the newest; None without any."""
        with self.transaction() as connection:
            rows = connection.execute(
                "SELECT * FROM releases WHERE platform = ? AND active = 1", (platform,)
            ).fetchall()
        found = [_row(row) for row in rows]
        return max(found, key=cmp_to_key(self._later), default=None)

    def _later(self, left: dict[str, object], right: dict[str, object]) -> int:
        order = self._order(str(left["version"]), str(right["version"]))
        one, other = str(left["created_at"]), str(right["created_at"])
        return order or (one > other) - (one < other)

    def everything(self) -> list[dict[str, object]]:
        """Every row, active or not, in the order of insertion."""
        with self.transaction() as connection:
            return [_row(row) for row in connection.execute("SELECT * FROM releases")]

    def deactivate(self, version: str, platform: str) -> bool:
        """Make a release inactive; False where there is none."""
        with self.transaction() as connection:
            done = connection.execute(
                "UPDATE releases SET active = 0 WHERE version = ? AND platform = ?",
                (version, platform),
            )
            return done.rowcount == 1

    def deactivate_others(self, version: str, platform: str) -> None:
        """Leave one release of a platform active, as coordinators did before they kept all."""
        with self.transaction() as connection:
            connection.execute(
                "UPDATE releases SET active = 0 WHERE version != ? AND platform = ?",
                (version, platform),
            )

    def find(self, version: str, platform: str) -> dict[str, object] | None:
        """One row, active or not."""
        with self.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM releases WHERE version = ? AND platform = ?", (version, platform)
            ).fetchone()
        return _row(row) if row else None

    def registrations(self) -> list[dict[str, object]]:
        """The journal: each accepted registration, oldest first."""
        with self.transaction() as connection:
            rows = connection.execute("SELECT * FROM registrations ORDER BY number")
            return [dict(row) for row in rows]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The database for one thread, committed at the end or rolled back."""
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


def _numbers(version: str) -> list[int]:
    found = [_LEADING_DIGITS.match(part) for part in version.split(".")]
    return [int(match[0][:_MOST_DIGITS] or "0") for match in found if match]


def _refuse_change(connection: sqlite3.Connection, release: Registration) -> None:
    row = connection.execute(
        "SELECT * FROM releases WHERE version = ? AND platform = ?",
        (release.version, release.platform),
    ).fetchone()
    ours = release.as_dict()
    if row and any(row[name] != value for name, value in ours.items() if name != "changelog"):
        raise ImmutableError


def _row(row: sqlite3.Row) -> dict[str, object]:
    return dict(row) | {"active": bool(row["active"])}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
