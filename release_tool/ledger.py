"""The ledger: records, append-only, hash-chained, atomically written, behind one lock.

One file a record, `NNNN-<stage>.json`, in `<workspace>/ledger`. Each names the SHA-256 of the
file before it; the head is the SHA-256 of the last. The chain catches damage and mix-ups, not a
liar: whoever needs more compares the head with one that travelled another way.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import JsonValue, ValidationError

from release_tool import errors
from release_tool.frozen_model import FrozenModel

GENESIS = "0" * 64
_NAME = re.compile(r"([0-9]{4,})-([a-z]+)\.json")
_HOLDER = re.compile(r"process ([0-9]{1,10}), since [0-9: -]{19} UTC")
_LOCK_BYTES = 200
_LOCK_REFUSED = "cannot write the ledger's lock"
# The largest real record lists every file of a bundle; this is a hundred times that.
_RECORD_BYTES = 16 * 1024**2


class Merged(FrozenModel):
    """Where a record stood first, that came from another chain of the same release."""

    record: str
    """SHA-256 of its file there."""
    number: int
    previous: str
    head: str
    """Of the chain that it came in, as it was expected."""
    tool: str
    """What merged it; the record's own says what made it."""


class Record(FrozenModel):
    """One entry of the chain."""

    number: int
    previous: str
    """SHA-256 of the record before this one; zeros for the first."""
    kind: Literal["record", "intent", "failure"]
    """`record`: the stage's output stands. `intent`: a request is about to be sent.
    `failure`: the stage ended badly; it never counts as done."""
    stage: str
    at: str
    """ISO 8601, UTC."""
    host: Mapping[str, str]
    tool: str
    inputs: Mapping[str, str] = {}
    """Digests of what went in, by name."""
    plan_digest: str = ""
    """Digest of exactly the part of the plan that the stage reads."""
    plan_part: Mapping[str, JsonValue] = {}
    outputs: Mapping[str, str] = {}
    """Files of the workspace, path to SHA-256."""
    value: JsonValue = None
    """What the stage returned; for an intent, the facts of the request."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    merged: Merged | None = None
    """For a record that another host chained elsewhere; all else of it is as it was there."""


class Ledger:
    """The records of one release.

    Opening verifies the whole chain.

    Raises:
        VerificationError: a record is damaged, missing or out of its place.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._records, self._head = _read_chain(folder)

    @property
    def records(self) -> tuple[Record, ...]:
        """All records, oldest first."""
        return tuple(self._records)

    @property
    def head(self) -> str:
        """SHA-256 of the newest record's file; zeros for an empty ledger."""
        return self._head

    def append(self, record: Record) -> Record:
        """Chain `record` to the head and write it durably; returns it as written."""
        chained = record.model_copy(
            update={"number": len(self._records) + 1, "previous": self._head}
        )
        content = _encode(chained)
        _make(self.folder)
        final = self.folder / file_name(chained)
        _write_new(final, content)
        self._records.append(chained)
        self._head = hashlib.sha256(content).hexdigest()
        return chained

    def reload(self) -> None:
        """Read the chain again: somebody wrote records into the folder.

        Raises:
            VerificationError: a record is damaged, missing or out of its place.
        """
        self._records, self._head = _read_chain(self.folder)

    def newest(self, stage: str, kind: str = "record") -> Record | None:
        """The newest entry of a stage and kind, or None."""
        for record in reversed(self._records):
            if record.stage == stage and record.kind == kind:
                return record
        return None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the release's one lock; the operating system drops it with the process.

        Raises:
            TransientError: another process holds it.
            HostError: its folder cannot be made or written.
        """
        with hold(self.folder):
            _drop_unfinished(self.folder)
            # What another process appended before we held the lock must be seen.
            self.reload()
            yield


def file_name(record: Record) -> str:
    """What the file of a record is called."""
    return f"{record.number:04d}-{record.stage}.json"


def number_of(name: str) -> int | None:
    """The number in the name of a record's file; None for any other name."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise _refused("cannot make the ledger's folder", folder, problem) from problem


def _open_lock(path: Path) -> int:
    _make(path.parent)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as problem:
        raise _refused(_LOCK_REFUSED, path, problem) from problem


def _refused(message: str, path: Path, problem: OSError) -> errors.HostError:
    is_full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
    return errors.HostError(
        message,
        subject=str(path),
        observed=problem.strerror or str(problem),
        hint="make room on this volume, then run again"
        if is_full
        else "name another folder with --dist, or let this user write here",
    )


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a folder's lock for this process.

    Raises:
        TransientError: another process holds it.
        HostError: the folder cannot be made or written, or its volume is full.
    """
    path = folder / ".lock"
    lock = _open_lock(path)
    try:
        _take(path, lock)
        yield
    finally:
        # A network's file system tells here what it could not keep of a text that nobody needs now.
        with contextlib.suppress(OSError):
            os.close(lock)


def _take(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder = (
            f"process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n".encode()
        )
        # Over the text of the last holder, so that a full disk has the room for this one.
        os.pwrite(lock, holder, 0)
        os.ftruncate(lock, len(holder))
    except BlockingIOError:
        told = os.pread(lock, _LOCK_BYTES, 0)
        raise _held_by(path, told.decode(errors="replace")) from None
    except OSError as problem:
        raise _refused(_LOCK_REFUSED, path, problem) from problem


def _held_by(path: Path, told: str) -> errors.TransientError:
    holder = _HOLDER.match(told)
    hint = "wait for it to end, then run again"
    if holder:
        # A process of Ctrl-Z keeps the lock, and a signal to end it would only wait there, too.
        hint += f"; one that was stopped goes on after `kill -CONT {holder[1]}`"
    return errors.TransientError(
        "another run holds this release",
        subject=str(path),
        observed=holder[0] if holder else "",
        hint=hint,
    )


def _encode(record: Record) -> bytes:
    whole = record.model_dump(mode="json")
    if record.merged is None:
        # As every record was written before there were others.
        del whole["merged"]
    return (json.dumps(whole, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def _write_new(final: Path, content: bytes) -> None:
    """Write durably under a new name; an existing file is never replaced."""
    scratch = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.link(scratch, final)
    except OSError as problem:
        raise errors.HostError(
            "cannot write the ledger",
            subject=str(final),
            observed=problem.strerror or str(problem),
            hint="make room on this volume, or let this user write there, then run again",
        ) from problem
    finally:
        scratch.unlink(missing_ok=True)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _drop_unfinished(folder: Path) -> None:
    """Remove what a kill amid `_write_new` left behind; its record was never in the chain."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.json.*"):
            path.unlink()


def _read_chain(folder: Path) -> tuple[list[Record], str]:
    records: list[Record] = []
    head = GENESIS
    for path in _entries(folder):
        content = _read_bounded(path)
        record = _decode(path, content)
        if record.number != len(records) + 1 or record.previous != head:
            raise errors.VerificationError(
                "the ledger's chain is broken here",
                subject=str(path),
                expected=f"record {len(records) + 1} after {head[:12]}",
                observed=f"record {record.number} after {record.previous[:12]}",
                hint="restore the folder from the job or machine that wrote it last",
            )
        if path.name != file_name(record):
            raise errors.VerificationError(
                "this record stands under another record's name",
                subject=str(path),
                expected=file_name(record),
            )
        records.append(record)
        head = hashlib.sha256(content).hexdigest()
    return records, head


def _entries(folder: Path) -> list[Path]:
    try:
        if not folder.is_dir():
            return []
        found = [path for path in folder.iterdir() if number_of(path.name) is not None]
    except OSError as problem:
        raise _refused("cannot read the ledger", folder, problem) from problem
    return sorted(found, key=lambda path: number_of(path.name) or 0)


def _read_bounded(path: Path) -> bytes:
    try:
        with path.open("rb") as source:
            content = source.read(_RECORD_BYTES + 1)
    except OSError as problem:
        raise _refused("cannot read the ledger", path, problem) from problem
    if len(content) > _RECORD_BYTES:
        raise errors.VerificationError("this is too large for a record", subject=str(path))
    return content


def _decode(path: Path, content: bytes) -> Record:
    try:
        return Record.model_validate_json(content)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise errors.VerificationError(
            "this record cannot be read",
            subject=str(path),
            observed=f"{where}: {first['msg']}" if where else str(first["msg"]),
            hint="restore the folder from the job or machine that wrote it last",
        ) from problem
