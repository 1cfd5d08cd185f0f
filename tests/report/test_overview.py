"""What `status` says of records."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import JsonValue

from release_tool.ledger import Ledger, Record
from release_tool.report import overview


def _ledger(folder: Path, **facts: JsonValue) -> None:
    plain = {"number": 0, "previous": "", "host": {}, "at": "2026-11-24T03:00:00+00:00"}
    ledger = Ledger(folder / "ledger")
    with ledger.lock():
        ledger.append(Record.model_validate({**plain, "tool": "release-tool 0.0.9", **facts}))


@pytest.mark.parametrize(
    ("action", "facts", "text"),
    [
        ("submitted", {"submission_id": "0b5c"}, "submission 0b5c, no verdict recorded"),
        ("submit", {"name": "D.zip"}, "sent, no answer recorded"),
    ],
)
def test_a_killed_run_shows_what_it_had_sent(
    tmp_path: Path, action: str, facts: dict[str, JsonValue], text: str
) -> None:
    """The submission's id, once there is one: who asks Apple by hand needs it."""
    _ledger(tmp_path, kind="intent", stage="notarize", value={"action": action, "facts": facts})
    (row,) = [row for row in overview.read(tmp_path).rows if row.stage == "notarize"]
    assert (row.outcome, row.text) == ("sent", text)


def test_a_record_of_an_older_shape_is_named_as_such(tmp_path: Path) -> None:
    """A workspace that an earlier version left: it is shown, and nothing is made of its value."""
    value: JsonValue = {"root": "signed", "app": "Darkbloom.app", "since": "removed"}
    _ledger(tmp_path, kind="record", stage="sign", value=value)
    found = overview.read(tmp_path)
    (sign,) = [row for row in found.rows if row.stage == "sign"]
    assert (sign.outcome, sign.text) == (
        "done",
        "recorded by another version of this tool (release-tool 0.0.9)",
    )
    assert found.expiries == ()
