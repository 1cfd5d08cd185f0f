"""What the tests of handoffs share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process loses nothing that the system took; only a cut of power asks for a sync."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
