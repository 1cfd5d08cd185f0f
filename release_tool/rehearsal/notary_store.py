"""What the look-alike notary holds: submissions, their uploads and verdicts, and tickets.

SQLite beside the uploaded files, so that a killed environment comes back with every id, part,
verdict and ticket, and with the journal of what was asked of it.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

DATABASE = "notary.sqlite"
BEARER_LEAK = "bearer leak"
"""What the journal calls a bearer token that reached another address than the notary's."""
CREDENTIALS_LIVE = timedelta(hours=12)
"""As long as Apple's documentation lets an upload be resumed."""
_BUSY_SECONDS = 10
_SCHEMA = """
CREATE TABLE IF NOT EXISTS submissions (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
  sha256 TEXT NOT NULL, created_at TEXT NOT NULL, bucket TEXT NOT NULL UNIQUE,
  object_key TEXT NOT NULL, access_key_id TEXT NOT NULL UNIQUE, secret_access_key TEXT NOT NULL,
  session_token TEXT NOT NULL, expires_at TEXT NOT NULL, uploaded_at TEXT, uploaded_sha256 TEXT,
  judged_at TEXT, verdict TEXT, ticket BLOB
);
CREATE TABLE IF NOT EXISTS multipart_uploads (id TEXT PRIMARY KEY, submission TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS parts (
  upload TEXT NOT NULL, number INTEGER NOT NULL, etag TEXT NOT NULL, size INTEGER NOT NULL,
  uploaded_at TEXT NOT NULL, PRIMARY KEY (upload, number)
);
CREATE TABLE IF NOT EXISTS records (
  name TEXT PRIMARY KEY, submission TEXT NOT NULL, available_at TEXT NOT NULL,
  missed INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS journal (
  number INTEGER PRIMARY KEY AUTOINCREMENT, operation TEXT NOT NULL, subject TEXT NOT NULL,
  sha256 TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS journal_stays BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS journal_lasts BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One line of a verdict, as the log words it."""

    message: str
    path: str
    architecture: str | None = None
    severity: str = "error"
    doc_url: str | None = None

    def as_json(self) -> dict[str, object]:
        """The shape of `issues` in a log."""
        return {
            "severity": self.severity,
            "code": None,
            "path": self.path,
            "message": self.message,
            "docUrl": self.doc_url,
            "architecture": self.architecture,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One cdhash that a ticket covers."""

    path: str
    """Inside the archive, which stands first: `name.zip/Some.app/Contents/MacOS/some`."""
    arch: str
    cdhash: str
    """40 hex digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the notary thinks of an upload."""

    status: str
    """`Accepted`, `Invalid` or `Rejected`."""
    summary: str
    code: int
    issues: tuple[Issue, ...] = ()
    contents: tuple[Code, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One submission."""

    id: str
    name: str
    sha256: str
    """As it was declared."""
    created_at: datetime
    bucket: str
    object_key: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime
    uploaded_at: datetime | None
    uploaded_sha256: str | None
    judged_at: datetime | None
    verdict: Verdict | None
    ticket: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a multipart upload."""

    number: int
    etag: str
    """Hex of the MD5, without quotes."""
    size: int
    uploaded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Where a ticket can be looked up."""

    submission: str
    available_at: datetime
    missed: int
    """How often it was asked for already and not found."""


class NotaryStore:
    """The notary's folder.

    Args:
        folder: made where absent.
    """

    def __init__(self, folder: Path) -> None:
        self._uploads = folder / "uploads"
        self._parts = folder / "parts"
        self.scratch = folder / "scratch"
        shutil.rmtree(self.scratch, ignore_errors=True)
        for place in (self._uploads, self._parts, self.scratch):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = sqlite3.connect(
            folder / DATABASE, timeout=_BUSY_SECONDS, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        self._lock = threading.RLock()
        with self._transaction() as connection:
            connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def note(self, operation: str, subject: str = "", sha256: str = "") -> None:
        """Write a line of the journal."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO journal (operation, subject, sha256) VALUES (?, ?, ?)",
                (operation, subject, sha256),
            )

    def submit(self, name: str, sha256: str, now: datetime) -> Submission:
        """Make a submission with a place for its upload and keys to it, and note it."""
        identity = str(uuid.uuid4())
        row = {
            "id": identity,
            "name": name,
            "sha256": sha256,
            "created_at": now.isoformat(),
            "bucket": f"notary-submissions-{secrets.token_hex(4)}",
            # A colon and a slash: a client must quote the key, and sign what it quoted.
            "object_key": f"prod/AROA{secrets.token_hex(8).upper()}:{identity}",
            "access_key_id": f"ASIA{secrets.token_hex(8).upper()}",
            "secret_access_key": secrets.token_urlsafe(30),
            "session_token": secrets.token_urlsafe(300) + "==",
            "expires_at": (now + CREDENTIALS_LIVE).isoformat(),
        }
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        with self._transaction() as connection:
            connection.execute(
                f"INSERT INTO submissions ({names}) VALUES ({marks})",  # noqa: S608 our own column names
                tuple(row.values()),
            )
            self.note("submit", identity, sha256)
            made = connection.execute("SELECT * FROM submissions WHERE id = ?", (identity,))
            return _submission(made.fetchone())

    def get(self, identity: str) -> Submission | None:
        """The submission of this id."""
        return self._one("id", identity)

    def of_access_key(self, access_key_id: str) -> Submission | None:
        """The submission whose upload this key is for."""
        return self._one("access_key_id", access_key_id)

    def newest(self, count: int) -> list[Submission]:
        """The last submissions, newest first."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT * FROM submissions ORDER BY number DESC LIMIT ?", (count,)
            ).fetchall()
        return [_submission(row) for row in rows]

    def waiting(self) -> list[str]:
        """Ids of what was uploaded and not judged yet."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT id FROM submissions WHERE uploaded_at IS NOT NULL AND judged_at IS NULL"
                " ORDER BY number"
            ).fetchall()
        return [row["id"] for row in rows]

    def place(self, identity: str) -> Path:
        """Where the upload of a submission lies."""
        return self._uploads / identity

    def uploaded(
        self, identity: str, content: Path, sha256: str, operation: str, now: datetime
    ) -> None:
        """Move a whole upload in; the first one is what is judged."""
        with self._transaction() as connection:
            first = connection.execute(
                "UPDATE submissions SET uploaded_at = ?, uploaded_sha256 = ?"
                " WHERE id = ? AND uploaded_at IS NULL",
                (now.isoformat(), sha256, identity),
            )
            if first.rowcount:
                content.replace(self.place(identity))
            self.note(operation, identity, sha256)

    def judged(self, identity: str, verdict: Verdict, ticket: bytes | None, now: datetime) -> None:
        """Keep a verdict."""
        told = json.dumps(
            {
                "status": verdict.status,
                "summary": verdict.summary,
                "code": verdict.code,
                "issues": [_fields(item) for item in verdict.issues],
                "contents": [_fields(item) for item in verdict.contents],
            }
        )
        with self._transaction() as connection:
            connection.execute(
                "UPDATE submissions SET judged_at = ?, verdict = ?, ticket = ?"
                " WHERE id = ? AND judged_at IS NULL",
                (now.isoformat(), told, ticket, identity),
            )

    def begin_upload(self, submission: str) -> str:
        """Begin a multipart upload; its id."""
        identity = secrets.token_urlsafe(48)
        (self._parts / identity).mkdir(mode=0o700)
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO multipart_uploads VALUES (?, ?)", (identity, submission)
            )
            self.note("CreateMultipartUpload", submission)
        return identity

    def has_upload(self, identity: str, submission: str) -> bool:
        """Whether this multipart upload of a submission is under way."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT 1 FROM multipart_uploads WHERE id = ? AND submission = ?",
                (identity, submission),
            ).fetchone()
        return row is not None

    def keep_part(self, upload: str, part: Part, content: Path, submission: str) -> None:
        """Keep a part; a later one of the same number replaces it."""
        content.replace(self.part_place(upload, part.number))
        row = (upload, part.number, part.etag, part.size, part.uploaded_at.isoformat())
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?)", row)
            self.note("UploadPart", submission, str(part.number))

    def part_place(self, upload: str, number: int) -> Path:
        """Where a part lies."""
        return self._parts / upload / str(number)

    def parts(self, upload: str) -> list[Part]:
        """The parts of an upload, by number."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT * FROM parts WHERE upload = ? ORDER BY number", (upload,)
            ).fetchall()
        return [
            Part(
                number=row["number"],
                etag=row["etag"],
                size=row["size"],
                uploaded_at=datetime.fromisoformat(row["uploaded_at"]),
            )
            for row in rows
        ]

    def forget_upload(self, upload: str) -> None:
        """Drop a multipart upload with its parts."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM parts WHERE upload = ?", (upload,))
            connection.execute("DELETE FROM multipart_uploads WHERE id = ?", (upload,))
        shutil.rmtree(self._parts / upload, ignore_errors=True)

    def offer(self, names: Iterable[str], submission: str, available_at: datetime) -> None:
        """Let a ticket be looked up under these names from then on; a newer one replaces it."""
        rows = [(name, submission, available_at.isoformat(), 0) for name in names]
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", rows)

    def record(self, name: str) -> Record | None:
        """What is known under a name."""
        with self._transaction() as connection:
            row = connection.execute("SELECT * FROM records WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        return Record(
            submission=row["submission"],
            available_at=datetime.fromisoformat(row["available_at"]),
            missed=row["missed"],
        )

    def missed(self, submission: str) -> None:
        """Note that somebody asked for the ticket of a submission too early."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE records SET missed = missed + 1 WHERE submission = ?", (submission,)
            )

    def _one(self, column: str, value: str) -> Submission | None:
        with self._transaction() as connection:
            row = connection.execute(
                f"SELECT * FROM submissions WHERE {column} = ?",  # noqa: S608 our own column names
                (value,),
            ).fetchone()
        return _submission(row) if row else None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection:
            yield self._connection


def _submission(row: sqlite3.Row) -> Submission:
    def moment(name: str) -> datetime | None:
        return datetime.fromisoformat(row[name]) if row[name] else None

    return Submission(
        id=row["id"],
        name=row["name"],
        sha256=row["sha256"],
        created_at=datetime.fromisoformat(row["created_at"]),
        bucket=row["bucket"],
        object_key=row["object_key"],
        access_key_id=row["access_key_id"],
        secret_access_key=row["secret_access_key"],
        session_token=row["session_token"],
        expires_at=datetime.fromisoformat(row["expires_at"]),
        uploaded_at=moment("uploaded_at"),
        uploaded_sha256=row["uploaded_sha256"],
        judged_at=moment("judged_at"),
        verdict=_verdict(json.loads(row["verdict"])) if row["verdict"] else None,
        ticket=row["ticket"],
    )


def _verdict(told: Mapping[str, Any]) -> Verdict:
    return Verdict(
        status=told["status"],
        summary=told["summary"],
        code=told["code"],
        issues=tuple(Issue(**item) for item in told["issues"]),
        contents=tuple(Code(**item) for item in told["contents"]),
    )


def _fields(item: Issue | Code) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__slots__}
