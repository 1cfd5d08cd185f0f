"""The data beside the code is found in a checkout and in an installed wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from release_tool import data
from tests.conftest import ROOT


def test_a_checkout_finds_its_own_folders() -> None:
    """In a checkout the folders lie at its top."""
    assert data.release_file() == ROOT / "release.yaml"
    assert data.templates_folder() == ROOT / "templates"
    assert data.entitlements_folder() == ROOT / "entitlements"


def test_a_wheel_brings_everything(tmp_path: Path) -> None:
    """Built, unpacked elsewhere and run from there, the tool resolves a plan of its own data."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    shipped = installed / "release_tool" / "_data"
    for folder in ("templates", "entitlements"):
        sources = {path.name for path in (ROOT / folder).iterdir()}
        assert sources
        assert {path.name for path in (shipped / folder).iterdir()} == sources
    done = subprocess.run(
        [sys.executable, "-m", "release_tool", "plan", "--env", "rehearsal", "--json"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
    )
    where = json.loads(done.stdout)["origins"]["product.team_id"]["where"]
    assert "installed/release_tool/_data/release.yaml:" in where
