"""What ends, as the records of a release tell it, with the days that are left today."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from release_tool import values
from release_tool.apple.policy import expiry
from release_tool.apple.policy.expiry import Row


def of(found: Iterable[values.Value], *, now: datetime | None = None) -> tuple[Row, ...]:
    """What the stages' values say, each thing once, the soonest first.

    Args:
        found: values of any stages.
        now: the current time, aware; by default the clock's.
    """
    at = now or datetime.now(UTC)
    kept = {
        (item.name, item.ends): item
        for value in found
        if isinstance(value, values.VerifiedProfile | values.SignedBundle)
        for item in value.expiries
    }
    rows = (
        Row(
            what=item.what,
            name=item.name,
            ends=datetime.fromisoformat(item.ends),
            days_left=expiry.days_left(datetime.fromisoformat(item.ends), at),
            todo=item.todo,
        )
        for item in kept.values()
    )
    return tuple(sorted(rows, key=lambda row: (row.ends, row.what)))
