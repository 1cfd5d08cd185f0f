"""Stands in for Apple's ditto."""

from __future__ import annotations

from tests.fake_mac.play import Stage


def answer(stage: Stage, argv: list[str]) -> None:
    """Not yet played."""
    stage.usage(argv)
