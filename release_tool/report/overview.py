"""The ledger as a table: what is done, where, how long it took, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
from pydantic import JsonValue, ValidationError

from release_tool import data, errors, smoke_lanes, smoke_records, values
from release_tool.apple.policy import expiry
from release_tool.ledger import Ledger, Record
from release_tool.plan import SmokeLane
from release_tool.report import expiries
from release_tool.report.cells import cell
from release_tool.report.summary import summary
from release_tool.schema_number import SCHEMA
from release_tool.smoke_lanes import Lanes

STAGES: Mapping[str, type[values.Value]] = {
    "profile": values.VerifiedProfile,
    "assemble": values.AssembledBundle,
    "sign": values.SignedBundle,
    "notarize": values.Notarization,
    "staple": values.StapledBundle,
    "archive": values.ReleaseArchive,
    "smoke": values.SmokeEvidence,
    "publish": values.PublishedRelease,
    "register": values.RegisteredRelease,
    "promote": values.PromotedRelease,
    "github": values.GitHubRelease,
}
ROLLBACK: Mapping[str, type[values.Value]] = {
    "verify": values.RollbackTarget,
    "tombstone": values.Withdrawn,
    "deactivate": values.Deactivated,
    "point": values.RolledBack,
    "github": values.WithdrawnOnGitHub,
}
"""The steps of a rollback; the ledger of an environment's rollbacks holds them again and again."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One stage's newest word."""

    stage: str
    outcome: str
    """`done`, `failed`, `pending` (a service is still at work), `sent` (an intent without an
    answer) or `open`."""
    text: str
    at: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LaneRow:
    """One kind of host that the release must be smoked on."""

    lane: str
    wanted: str
    host: str = ""
    """Whose record fills it; empty where none does."""
    at: str = ""

    @property
    def text(self) -> str:
        return self.host or f"missing: a record of {self.wanted}"


@dataclass(frozen=True, kw_only=True)
class Overview:
    """A release as its ledger tells it."""

    folder: str
    """The workspace."""
    head: str
    rows: tuple[Row, ...]
    expiries: tuple[expiry.Row, ...] = ()
    """What the next release needs and when it ends, the soonest first."""
    lanes: tuple[LaneRow, ...] = ()
    """Where several hosts are wanted and a smoke run was recorded."""

    @property
    def verdict(self) -> str:
        """The state in one clause."""
        failed = [row.stage for row in self.rows if row.outcome == "failed"]
        if failed:
            return f"{failed[0]} failed"
        pending = [row.stage for row in self.rows if row.outcome == "pending"]
        if pending:
            return f"{pending[0]} is pending: run again to resume"
        done = [row.stage for row in self.rows if row.outcome == "done"]
        if "point" in done:
            return "rolled back"
        if {"register", "promote"} <= set(done):
            return "released"
        return f"done up to {done[-1]}" if done else "not begun"

    def as_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            "schema": SCHEMA,
            "folder": self.folder,
            "verdict": self.verdict,
            "head": self.head,
            "stages": [
                {
                    "stage": row.stage,
                    "outcome": row.outcome,
                    "text": row.text,
                    "at": row.at,
                    "seconds": row.seconds,
                    "notes": list(row.notes),
                }
                for row in self.rows
            ],
            "lanes": [
                {"lane": row.lane, "wanted": row.wanted, "host": row.host, "at": row.at}
                for row in self.lanes
            ],
            "expiries": [
                {
                    "what": row.what,
                    "name": row.name,
                    "ends": row.ends.isoformat(),
                    "days_left": row.days_left,
                    "todo": row.todo,
                }
                for row in self.expiries
            ],
        }

    def as_markdown(self, about: str = "") -> str:
        """For the step summary of a job.

        Args:
            about: the release in a few words: a page of jobs shows one summary below the other.
        """
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(data.templates_folder()),
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701 - markdown; cells are escaped by the filter below
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["cell"] = cell
        headline = f"{about}: {self.verdict}" if about else self.verdict
        return environment.get_template("summary.md.j2").render(overview=self, headline=headline)


def read(workspace: Path) -> Overview:
    """Read a workspace's ledger.

    Raises:
        VerificationError: the ledger is damaged.
    """
    ledger = Ledger(workspace / "ledger")
    stages, records = _told(ledger)
    rows = tuple(_row(stage, kind, records) for stage, kind in stages.items())
    found = [_value(stage, kind, records) for stage, kind in stages.items()]
    ends = expiries.of([value for value in found if value is not None])
    return Overview(
        folder=str(workspace), head=ledger.head, rows=rows, expiries=ends, lanes=_lanes(records)
    )


def _lanes(records: Sequence[Record]) -> tuple[LaneRow, ...]:
    newest = next(
        (one for one in reversed(records) if one.stage == smoke_lanes.STAGE and one.plan_part), None
    )
    asked = smoke_records.lanes_of(newest) if newest else None
    if asked is None or not asked.several:
        return ()
    counting = smoke_records.counting(records)
    return tuple(_lane(asked, lane, counting) for lane in asked.lanes)


def _lane(asked: Lanes, lane: SmokeLane, counting: Sequence[Record]) -> LaneRow:
    found = LaneRow(lane=lane.name, wanted=asked.wanted(lane))
    for record in reversed(counting):
        host = smoke_records.host_of(record.value)
        if host and asked.filled_by(lane, host):
            return replace(found, host=smoke_lanes.shown(host), at=record.at)
    return found


def _told(ledger: Ledger) -> tuple[Mapping[str, type[values.Value]], tuple[Record, ...]]:
    """The stages that a ledger is of, and its records: of rollbacks only those of the newest."""
    records = ledger.records
    begun = [at for at, record in enumerate(records) if record.stage == next(iter(ROLLBACK))]
    return (ROLLBACK, records[begun[-1] :]) if begun else (STAGES, records)


def _value(stage: str, kind: type[values.Value], records: Sequence[Record]) -> values.Value | None:
    """What a stage's newest record holds; None where it failed, or another version wrote it."""
    newest = next((record for record in reversed(records) if record.stage == stage), None)
    if newest is None or newest.kind in ("failure", "intent"):
        return None
    try:
        return kind.model_validate(newest.value)
    except ValidationError:
        return None


def _row(stage: str, kind: type[values.Value], records: Sequence[Record]) -> Row:
    newest = next((record for record in reversed(records) if record.stage == stage), None)
    if newest is None:
        return Row(stage=stage, outcome="open", text="")
    if newest.kind == "failure":
        outcome = "pending" if _is_pending(newest) else "failed"
        return Row(stage=stage, outcome=outcome, text=_failure(newest), at=newest.at)
    if newest.kind == "intent":
        return Row(stage=stage, outcome="sent", text=_sent(newest), at=newest.at)
    try:
        text = summary(kind.model_validate(newest.value))
    except ValidationError:
        text = f"recorded by another version of this tool ({newest.tool})"
    return Row(
        stage=stage,
        outcome="done",
        text=text,
        at=newest.at,
        seconds=newest.seconds,
        notes=newest.notes,
    )


def _is_pending(record: Record) -> bool:
    found = record.value
    return isinstance(found, dict) and found.get("error") == errors.PendingError.__name__


def _sent(record: Record) -> str:
    """An intent that nothing followed; a submission has its id, and only its verdict lacks."""
    facts = record.value.get("facts") if isinstance(record.value, dict) else None
    found = facts.get("submission_id") if isinstance(facts, dict) else None
    return f"submission {found}, no verdict recorded" if found else "sent, no answer recorded"


def _failure(record: Record) -> str:
    found = record.value
    if not isinstance(found, dict):
        return "failed"
    message, subject = str(found.get("message", "failed")), str(found.get("subject", ""))
    return f"{message}: {subject}" if subject and _is_pending(record) else message
