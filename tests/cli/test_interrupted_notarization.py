"""Ctrl-C while Apple is at work: the submission goes on, and the run that resumes finds it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from release_tool.ledger import Ledger
from release_tool.rehearsal import counts, environment, samples, tiny_model

_PATIENCE_SECONDS = 4.0


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Path]:
    """A folder with an environment whose notary takes some seconds."""
    (tmp_path / "lib.metallib").write_bytes(samples.metallib())
    tiny_model.make(tmp_path / "model")
    living = environment.start(
        tmp_path / "dist" / "rehearsal" / "environment",
        team_id="SLDQ2GJ6TL",
        bundle_id="io.darkbloom.provider",
        processing_seconds=_PATIENCE_SECONDS,
        ticket_seconds=0.1,
    )
    yield tmp_path
    living.stop()


def _start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "release_tool", "rehearse", "--keep", "--until", "staple"]
    command += ["--dist", str(folder / "dist"), "--metallib", str(folder / "lib.metallib")]
    return subprocess.Popen(
        [*command, "--model", str(folder / "model")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONUNBUFFERED": "1"},
    )


def test_an_interrupted_wait_leaves_the_submission_running(slow: Path) -> None:
    """Told while it waits; exit 130 with the command that resumes; one submission in all."""
    child = _start(slow)
    assert child.stdout is not None
    assert any("waiting (Ctrl-C leaves it running" in line for line in child.stdout)
    assert "submitted" in _actions(slow / "dist" / "rehearsal" / "0.5.0" / "ledger")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "resume with: release-tool rehearse" in err
    again = _start(slow)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert "was handed in before, not again" in out
    found = counts.read(slow / "dist" / "rehearsal" / "environment")
    assert len(found.submissions) == len(found.uploads) == 1


def _actions(folder: Path) -> list[str]:
    facts = [one.value for one in Ledger(folder).records if one.kind == "intent"]
    return [str(fact["action"]) for fact in facts if isinstance(fact, dict)]
