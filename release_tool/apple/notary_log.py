"""The notary's log: its verdict in detail, and what ties it to our bytes.

The shape is Apple's `logFormatVersion` 1, read tolerantly: unknown keys are left aside, and an
absent list is an empty one. Only what decides is required: the status.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from release_tool import errors
from release_tool.apple import checks
from release_tool.apple.checks import Check

MAX_BYTES = 16 * 1024 * 1024
"""A log lists each issue and each code object, some hundred bytes each; 30,000 of them fit."""
_MAX_ENTRIES = 50_000
_TEXT = 2000
_SHOWN = 20
TEAM_NOT_CONFIGURED = 7000
"""`statusCode` of a team that Apple has not enabled for notarization."""
_WORST_FIRST = {"error": 0, "warning": 1, "info": 2}


class Issue(NamedTuple):
    """One complaint of the notary."""

    severity: str
    """`error` and `warning` were seen; other words are kept."""
    path: str
    """Inside the archive: `Darkbloom-0.5.0.zip/Darkbloom.app/Contents/MacOS/darkbloom`."""
    architecture: str
    message: str
    code: str
    doc_url: str

    def line(self) -> str:
        """`error: Darkbloom.app/…/darkbloom (arm64): no secure timestamp; see https://…`."""
        where = f"{self.path} ({self.architecture})" if self.architecture else self.path
        link = f"; see {self.doc_url}" if self.doc_url else ""
        return f"{self.severity or 'issue'}: {where or 'the archive'}: {self.message}{link}"


class TicketContent(NamedTuple):
    """One code directory that the ticket will list."""

    path: str
    cdhash: str
    """40 hex digits in lower case."""
    arch: str
    digest_algorithm: str


class NotaryLog(NamedTuple):
    """What a log says."""

    job_id: str
    status: str
    status_code: int | None
    summary: str
    archive: str
    sha256: str
    """Of what was uploaded, lower case; empty where the log does not tell."""
    contents: tuple[TicketContent, ...]
    issues: tuple[Issue, ...]
    """Errors first, then warnings, each in Apple's order."""


def parse(data: bytes) -> NotaryLog:
    """Read a log.

    Raises:
        FormatError: it is no log.
    """
    if len(data) > MAX_BYTES:
        raise errors.FormatError(f"a notary log of {len(data)} bytes, more than {MAX_BYTES}")
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise errors.FormatError("the notary's log is no JSON") from problem
    if not isinstance(whole, dict) or not isinstance(whole.get("status"), str):
        raise errors.FormatError("the notary's log tells no status")
    code = whole.get("statusCode")
    issues = [_issue(row) for row in _rows(whole, "issues")]
    return NotaryLog(
        job_id=_text(whole, "jobId"),
        status=_text(whole, "status"),
        status_code=code if isinstance(code, int) and not isinstance(code, bool) else None,
        summary=_text(whole, "statusSummary"),
        archive=_text(whole, "archiveFilename"),
        sha256=_text(whole, "sha256").lower(),
        contents=tuple(_content(row) for row in _rows(whole, "ticketContents")),
        issues=tuple(sorted(issues, key=lambda issue: _WORST_FIRST.get(issue.severity, 0))),
    )


def judge(
    log: NotaryLog, *, submission_id: str, sha256: str, cdhashes: Collection[str]
) -> list[Check]:
    """Whether an accepting log speaks of exactly our bytes.

    Args:
        log: what `parse` returned.
        submission_id: of the submission that was asked about.
        sha256: of the archive that was uploaded.
        cdhashes: of every slice of every code object in it, 40 hex digits each.
    """
    found = [
        checks.compare("status in the log", expected="Accepted", observed=log.status),
        checks.compare("sha256 in the log", expected=sha256, observed=log.sha256 or "none"),
    ]
    if log.job_id:
        found.append(
            checks.compare(
                "submission in the log", expected=submission_id.lower(), observed=log.job_id.lower()
            )
        )
    missing = [cdhash for cdhash in cdhashes if cdhash not in listed(log)]
    if missing or not cdhashes:
        found.append(
            checks.failed(
                "cdhashes in the log",
                expected=f"each of {len(cdhashes)} signed slices",
                observed=f"{len(missing)} missing: {_some(missing)}",
            )
        )
    else:
        found.append(checks.passed("cdhashes in the log", f"{len(cdhashes)} of {len(cdhashes)}"))
    return found


def listed(log: NotaryLog) -> frozenset[str]:
    """Every cdhash that the ticket will list."""
    return frozenset(content.cdhash for content in log.contents)


def lines(issues: Iterable[Issue], *, at_most: int = 100) -> list[str]:
    """The issues for people, worst first, and how many more there are."""
    whole = [issue.line() for issue in issues]
    more = len(whole) - at_most
    return [*whole[:at_most], f"and {more} more"] if more > 0 else whole


def _rows(whole: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    rows = whole.get(name)
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise errors.FormatError(f"the notary's log has {name} that are no list of entries")
    if len(rows) > _MAX_ENTRIES:
        raise errors.FormatError(f"the notary's log has {len(rows)} {name}")
    return rows


def _issue(row: Mapping[str, object]) -> Issue:
    return Issue(
        severity=_text(row, "severity").lower(),
        path=_text(row, "path"),
        architecture=_text(row, "architecture"),
        message=_text(row, "message"),
        code=_text(row, "code"),
        doc_url=_text(row, "docUrl"),
    )


def _content(row: Mapping[str, object]) -> TicketContent:
    return TicketContent(
        path=_text(row, "path"),
        cdhash=_text(row, "cdhash").lower(),
        arch=_text(row, "arch"),
        digest_algorithm=_text(row, "digestAlgorithm"),
    )


def _text(row: Mapping[str, object], name: str) -> str:
    """A text on one line, bounded; a number as text, and nothing for anything else."""
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:d}" if abs(value) < 10**18 else ""
    if not isinstance(value, str):
        return ""
    return "".join(mark if mark.isprintable() else " " for mark in value[:_TEXT])


def _some(cdhashes: list[str]) -> str:
    more = len(cdhashes) - _SHOWN
    return ", ".join(cdhashes[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
