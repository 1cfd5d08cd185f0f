"""What `status` says of records."""

from __future__ import annotations

from pathlib import Path

from release_tool.ledger import Ledger, Record
from release_tool.report import overview


def test_a_record_of_an_older_shape_is_named_as_such(tmp_path: Path) -> None:
    """A workspace that an earlier version left: it is shown, and nothing is made of its value."""
    ledger = Ledger(tmp_path / "ledger")
    with ledger.lock():
        ledger.append(
            Record(
                number=0,
                previous="",
                kind="record",
                stage="sign",
                at="2026-11-24T03:00:00+00:00",
                host={},
                tool="release-tool 0.0.9",
                value={"root": "signed", "app": "Darkbloom.app", "since": "removed"},
            )
        )
    found = overview.read(tmp_path)
    (sign,) = [row for row in found.rows if row.stage == "sign"]
    assert (sign.outcome, sign.text) == (
        "done",
        "recorded by another version of this tool (release-tool 0.0.9)",
    )
    assert found.expiries == ()
