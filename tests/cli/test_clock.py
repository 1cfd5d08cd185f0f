"""A clock that is an hour off: named with both sides and the minutes, before anything is done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from release_tool.rehearsal import environment, places, samples, tiny_model

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.timeout(120)
def test_a_clock_an_hour_off_is_named_and_set(tmp_path: Path) -> None:
    """Behind or ahead, each service that minds is listed; with the clock set, the run goes on."""
    state = tmp_path / "dist" / "rehearsal" / "environment"
    living = environment.start(state, team_id="SLDQ2GJ6TL", bundle_id="io.darkbloom.provider")
    try:
        for seconds, side in ((-3660, "61 min behind"), (3660, "61 min ahead of")):
            ended = _rehearse(tmp_path, seconds)
            assert ended.returncode == 3, ended.stdout + ended.stderr
            for whose in ("timestamp service", "notary", "object store"):
                assert f"this host's clock is {side} the {whose}'s" in ended.stderr
            assert "set this host's clock" in ended.stderr
            assert "R2_SECRET_ACCESS_KEY" not in ended.stderr
            assert "Traceback" not in ended.stderr
            for name in places.SECRETS:
                assert living.secret(name).strip() not in ended.stdout + ended.stderr
        ended = _rehearse(tmp_path, 0, "--until", "sign")
        assert ended.returncode == 0, ended.stdout + ended.stderr
    finally:
        living.stop()


def _rehearse(folder: Path, seconds: int, *further: str) -> subprocess.CompletedProcess[str]:
    metallib = folder / "sample.metallib"
    metallib.write_bytes(samples.metallib(50_000))
    model = folder / "model"
    if not model.exists():
        tiny_model.make(model)
    command = [sys.executable, "-m", "tests.shifted", str(seconds), "rehearse", "--keep"]
    command += ["--dist", str(folder / "dist"), "--version", "0.1.0"]
    command += ["--metallib", str(metallib), "--model", str(model), *further]
    environ = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
