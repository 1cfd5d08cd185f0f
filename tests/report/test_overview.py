"""What `status` says of records."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import JsonValue

from release_tool import values
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


def test_a_fleet_that_nobody_watched_stands_in_the_summary(tmp_path: Path) -> None:
    """The page of the job says it behind the registration, in words that nobody overlooks."""
    value = values.RegisteredRelease(
        version="0.5.0",
        platform="macos-arm64",
        backend="mlx-swift",
        binary_hash="b" * 64,
        bundle_hash="a" * 64,
        metallib_hash="c" * 64,
        url="https://cdn.example/x",
        status="release_registered",
        checks=(values.CheckOutcome(name=values.FLEET_WATCH, outcome="not_checked"),),
    )
    _ledger(tmp_path, kind="record", stage="register", value=value.model_dump(mode="json"))
    assert "; nobody watched the fleet" in overview.read(tmp_path).as_markdown()
