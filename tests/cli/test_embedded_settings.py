"""What the embedded environment gives to a run."""

from __future__ import annotations

from typing import cast

import pytest

from release_tool.cli import embedded
from release_tool.plan import ReleasePlan
from release_tool.rehearsal.environment import Environment
from release_tool.settings import Settings
from tests.stages.release_parts import changed


@pytest.mark.parametrize(("watch", "given"), [("required", True), ("unchecked", False)])
def test_an_administrators_key_is_given_where_the_plan_wants_one(
    plan: ReleasePlan, monkeypatch: pytest.MonkeyPatch, watch: str, given: bool
) -> None:
    """A rehearsal without one goes the way of a job that has none."""
    whole = Settings(values={"ADMIN_KEY": "a", "RELEASE_KEY": "b"})
    monkeypatch.setattr(embedded, "_settings", lambda _: whole)
    asked = changed(plan, environment={"fleet_watch": watch})
    found = embedded._given(cast("Environment", None), asked).values
    assert ("ADMIN_KEY" in found) is given
    assert found["RELEASE_KEY"] == "b"
