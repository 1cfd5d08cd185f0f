"""Stands in for `/usr/sbin/spctl`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fake_mac.play import Stage


def answer(stage: Stage, argv: list[str]) -> None:
    """One start."""
    stage.record(argv)
    if argv[:4] != ["--assess", "--type", "execute", "--verbose=4"] or len(argv) != 5:
        stage.usage(argv)
    stage.fault("spctl")
    app = argv[4]
    if not (Path(app) / "Contents/CodeResources").exists():
        stage.leave(3, f"{app}: rejected\nsource=Unnotarized Developer ID")
    sys.stderr.write(
        f"{app}: accepted\nsource=Notarized Developer ID\n"
        "origin=Developer ID Application: Example (SLDQ2GJ6TL)\n"
    )
