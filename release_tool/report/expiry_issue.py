"""The one issue that says what must be renewed for the next release to be signed.

Names come from certificates and profiles: they neither leave their cell nor mention anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from release_tool.apple.checks import Check
from release_tool.apple.policy.expiry import Row
from release_tool.report.cells import cell

MARKER = "<!-- release-tool: expiries -->"
"""By this the issue is found again."""
# GitHub takes 65,536 characters; what is left out is counted.
_CHARACTERS = 60_000
_CELL_CHARACTERS = 1_000
CLOSED = "Everything lasts and answers again: nothing has to be renewed for the next release."


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What a look at everything found.

    Args:
        within: what ends within so many days is told.
        rows: everything that ends.
        failed: what is not as it must be, apart from ends.
    """

    within: int
    rows: Sequence[Row]
    failed: Sequence[Check]

    @property
    def soon(self) -> Sequence[Row]:
        return [row for row in self.rows if row.days_left < self.within]

    @property
    def is_well(self) -> bool:
        return not self.soon and not self.failed


def title(watched: Watched) -> str:
    """What is worst, in one line."""
    if watched.failed:
        count = len(watched.failed)
        return f"The next release cannot be signed: {count} finding{'s' if count > 1 else ''}"
    first = min(watched.soon, key=lambda row: row.ends)
    when = "has ended" if first.days_left < 0 else f"ends in {first.days_left} days"
    return f"Renew for the next release: the {first.what} {when}"


def body(watched: Watched) -> str:
    """The marker, what must be done, and what ends when."""
    lines = [MARKER, "", *_failed(watched.failed), *_table(watched)]
    kept: list[str] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if size > _CHARACTERS:
            kept.append(f"\n{len(lines) - len(kept)} lines are left out.")
            break
        kept.append(line)
    closing = "This issue follows what the weekly watch finds, and is closed once all is well."
    return "\n".join([*kept, "", closing, ""])


def _failed(failed: Sequence[Check]) -> list[str]:
    if not failed:
        return []
    rows = [
        f"| {_cell(check.name)} | {_cell(check.observed)} | {_cell(check.hint)} |"
        for check in failed
    ]
    return ["| what fails | found | what to do |", "|---|---|---|", *rows, ""]


def _table(watched: Watched) -> list[str]:
    rows = [
        f"| {row.ends:%Y-%m-%d} | {row.days_left} | {_cell(f'{row.what} {row.name}')} |"
        f" {_cell(row.todo) if row.days_left < watched.within else ''} |"
        for row in sorted(watched.rows, key=lambda row: row.ends)
    ]
    return ["| ends | days left | what | what to do |", "|---|---:|---|---|", *rows] if rows else []


def _cell(text: str) -> str:
    """A cell in which no name is somebody's: GitHub mails whom a text mentions."""
    return cell(text[:_CELL_CHARACTERS]).replace("@", "(at)")
