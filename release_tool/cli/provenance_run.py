"""When, where and by what an archive was made, out of the ledger."""

from __future__ import annotations

from datetime import datetime, timedelta

from release_tool.ledger import Ledger, Record
from release_tool.provenance.statement import Run

_LAST = "archive"
_HOST = ("system", "release", "machine")
_MADE_BY = ("profile", "assemble", "sign", "notarize", "staple", _LAST)


def of(ledger: Ledger) -> Run:
    """The run that made the archive whose record is the newest.

    Smoke runs and publications are left out: they may be repeated without another archive.
    """
    records = [record for name in _MADE_BY if (record := ledger.newest(name)) is not None]
    last = next(record for record in records if record.stage == _LAST)
    return Run(
        invocation=_digest(ledger, last),
        started=min(map(_started, records)).isoformat(timespec="seconds"),
        finished=last.at,
        tool=last.tool,
        system=" ".join(last.host.get(name, "") for name in _HOST).strip(),
    )


def _started(record: Record) -> datetime:
    """A record is written when its stage is done."""
    return datetime.fromisoformat(record.at) - timedelta(seconds=record.seconds)


def _digest(ledger: Ledger, record: Record) -> str:
    """SHA-256 of a record's file, as the record behind it names it."""
    behind = (one.previous for one in ledger.records if one.number == record.number + 1)
    return next(behind, ledger.head)
