"""What ends, as records tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from release_tool import values
from release_tool.apple.policy import expiry
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.report import expiries, overview
from release_tool.stages import listing
from tests import look_alike
from tests.stages import release_parts

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def row(name: str, days: int) -> expiry.Row:
    return expiry.Row("profile", name, NOW + timedelta(days=days), days, f"renew {name}")


def profile(*rows: expiry.Row) -> values.VerifiedProfile:
    return values.VerifiedProfile(
        path="p",
        sha256="0",
        name="n",
        uuid="u",
        team_id="T",
        expires="",
        days_left=1,
        app_ids=(),
        access_groups=(),
        entitlements={},
        certificates=(),
        checks=(),
        expiries=listing.expiries(rows),
    )


def test_days_are_counted_when_somebody_asks() -> None:
    """A record of last month tells today how many days are left, each thing once."""
    found = [profile(row("b", 90), row("a", 40)), profile(row("a", 40))]
    told = expiries.of(found, now=NOW + timedelta(days=30))
    assert [(one.name, one.days_left, one.todo) for one in told] == [
        ("a", 10, "renew a"),
        ("b", 60, "renew b"),
    ]
    assert expiries.of(found, now=NOW + timedelta(days=41))[0].days_left == -1


def test_a_verified_profile_says_what_ends(plan: ReleasePlan, tmp_path: Path) -> None:
    """The profile stage records the end of the profile and of each certificate in it."""
    workspace = Workspace(tmp_path)
    value = release_parts.verified_profile(plan, workspace)
    leaf = look_alike.signer().leaf
    told = {(one.what, one.ends) for one in value.expiries}
    assert ("profile", value.expires) in told
    assert ("certificate in the profile", leaf.not_after.isoformat()) in told


def test_reports_show_what_ends() -> None:
    """The table of a job's page and the JSON hold every row; text leads with what is soon."""
    report = overview.Overview(
        folder="dist", head="0" * 64, rows=(), expiries=(row("first", 20), row("late", 200))
    )
    text = report.as_markdown()
    assert "| 2026-12-16 | 20 | profile first | renew first |" in text
    assert "| 2027-06-14 | 200 | profile late |  |" in text
    listed = report.as_json()["expiries"]
    assert isinstance(listed, list)
    assert len(listed) == 2
    assert [one.name for one in expiry.soon(report.expiries)] == ["first"]
