"""The stages in order: what became of each, where, when, and how long it took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from release_tool import errors
from release_tool.ledger import Record
from release_tool.report.page.told import Told, value_of
from release_tool.report.summary import counted, summary
from release_tool.report.visible import bounded

WORDS = {
    "done": "done",
    "failed": "failed",
    "pending": "pending",
    "sent": "no answer",
    "stale": "outdated",
    "open": "open",
    "left out": "left out",
}
_EARLIER = 5
_NOTES = 20
_HOST_CHARACTERS = 120
_WIDTH = 1000
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_LONGEST_SECONDS = 10**9
"""Thirty years: what is more, or negative, or no number, was not measured."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a stage ended badly."""

    message: str
    kind: str = ""
    """The error's class, and what to go by: `VerificationError`."""
    exit_code: int = 0
    subject: str = ""
    expected: str = ""
    observed: str = ""
    hint: str = ""
    details: tuple[str, ...] = ()
    left_out: int = 0
    """Details that are not listed."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An entry that a later one of the same stage replaced."""

    number: int
    at: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the chain."""

    name: str
    outcome: str
    """A key of `WORDS`."""
    text: str = ""
    number: int = 0
    """Of its newest record."""
    at: str = ""
    took: str = ""
    bar: int = 0
    """Its share of the longest stage's time, in thousandths."""
    host: str = ""
    tool: str = ""
    notes: tuple[str, ...] = ()
    problem: Problem | None = None
    earlier: tuple[Attempt, ...] = ()
    attempts: int = 0
    """How many entries came before the newest one; `earlier` lists the last of them."""

    @property
    def word(self) -> str:
        return WORDS[self.outcome]


def of(told: Told) -> tuple[Stage, ...]:
    """All stages; those that a release of this kind goes without are left out, and say so."""
    begun = [name for name in told.stages if told.newest(name)]
    last = list(told.stages).index(begun[-1]) if begun else -1
    longest = max((one.seconds for one in told.standing.values()), default=0.0)
    found = []
    for place, name in enumerate(told.stages):
        newest = told.newest(name)
        if newest is None:
            outcome = "left out" if place < last else "open"
            found.append(Stage(name=name, outcome=outcome))
        else:
            found.append(_stage(told, newest, longest))
    return tuple(found)


def moment(stamp: str) -> str:
    """An ISO 8601 time as people read it, in UTC; what is none stays as it is."""
    try:
        found = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    zone = " UTC" if not found.utcoffset() else f" {found:%z}"
    return f"{found:%Y-%m-%d %H:%M:%S}{zone}"


def minute(stamp: str) -> str:
    """The same to the minute, for sentences."""
    found = moment(stamp)
    return f"{found[:-7]} UTC" if found.endswith(" UTC") else found


def duration(seconds: float) -> str:
    """Seconds as people say them: `0.04 s`, `2 min 5 s`, `3 h 20 min`."""
    if not 0 <= seconds <= _LONGEST_SECONDS:
        return "no time that can be"
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min {int(seconds % _MINUTE)} s"
    if seconds < 2 * _DAY:
        return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // _MINUTE)} min"
    return f"{int(seconds // _DAY)} days"


def span(records: Sequence[Record]) -> str:
    """From the first record to the newest one, and how much of that was work."""
    if not records:
        return ""
    hosts = len({host_of(one) for one in records})
    work = duration(sum(one.seconds for one in records))
    told = f"{work} of work on {counted(hosts, 'kind of host', 'kinds of hosts')}"
    try:
        first, last = (datetime.fromisoformat(records[at].at) for at in (0, -1))
        return f"{duration((last - first).total_seconds())} from first to newest record, {told}"
    except (ValueError, TypeError):
        return told  # a time that is none, or has no zone: written by something else


def host_of(record: Record) -> str:
    """The machine of a record on one line."""
    host = record.host
    system = {"macos": "macOS", "linux": "Linux"}.get(host.get("system", ""), host.get("system"))
    python = f"Python {host['python']}" if host.get("python") else ""
    first = " ".join(word for word in (system, host.get("release"), host.get("machine")) if word)
    return bounded(", ".join(word for word in (first, python) if word), _HOST_CHARACTERS)


def problem_of(record: Record) -> Problem:
    """What a failure's record says."""
    found = record.value if isinstance(record.value, dict) else {}
    details = found.get("details")
    listed = [str(one) for one in details] if isinstance(details, list) else []
    code = found.get("exit_code")

    def text(name: str) -> str:
        value = found.get(name)
        return value if isinstance(value, str) else ""

    return Problem(
        message=text("message") or "failed",
        kind=text("error"),
        exit_code=code if isinstance(code, int) else 0,
        subject=text("subject"),
        expected=text("expected"),
        observed=text("observed"),
        hint=text("hint"),
        details=tuple(listed[:_NOTES]),
        left_out=max(len(listed) - _NOTES, 0),
    )


def _stage(told: Told, newest: Record, longest: float) -> Stage:
    before = [one for one in told.records if one.stage == newest.stage and one != newest]
    outcome, text, problem = _state(told, newest)
    return Stage(
        name=newest.stage,
        outcome=outcome,
        text=text,
        number=newest.number,
        at=moment(newest.at),
        took=duration(newest.seconds) if newest.kind != "intent" else "",
        bar=_share(newest.seconds, longest) if outcome == "done" else 0,
        host=host_of(newest),
        tool=newest.tool,
        notes=newest.notes[:_NOTES],
        problem=problem,
        earlier=tuple(_earlier(before)),
        attempts=len(before),
    )


def _share(seconds: float, longest: float) -> int:
    """At least a hair, so that what took no time is seen as well."""
    if not 0 < longest <= _LONGEST_SECONDS or not 0 <= seconds <= longest:
        return 0
    return max(4, round(seconds / longest * _WIDTH))


def _state(told: Told, newest: Record) -> tuple[str, str, Problem | None]:
    if newest.kind == "failure":
        problem = problem_of(newest)
        pending = problem.kind == errors.PendingError.__name__
        return ("pending" if pending else "failed"), problem.message, problem
    if newest.kind == "intent":
        return "sent", sent(newest), None
    text = _summary(told, newest)
    if told.standing.get(newest.stage) != newest:
        return "stale", f"{text} — what it was made from has a newer result", None
    return "done", text, None


def _summary(told: Told, record: Record) -> str:
    value = value_of(told.stages[record.stage], record)
    return summary(value) if value else f"recorded by another version of this tool ({record.tool})"


def sent(record: Record) -> str:
    """What an intent without an answer had asked for."""
    value = record.value if isinstance(record.value, dict) else {}
    facts = value.get("facts")
    found = facts.get("submission_id") if isinstance(facts, dict) else None
    if found:
        return f"submission {found}, no verdict recorded"
    action = value.get("action")
    return f"{action} was about to be sent, no answer recorded" if action else "no answer recorded"


def _earlier(before: Sequence[Record]) -> Iterator[Attempt]:
    for one in before[-_EARLIER:]:
        if one.kind == "failure":
            text = problem_of(one).message
        else:
            text = sent(one) if one.kind == "intent" else "a result that was replaced"
        yield Attempt(number=one.number, at=moment(one.at), text=text)
