"""`release-tool rehearse` that cannot begin: nothing of it goes on running."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from release_tool.cli import embedded, main
from release_tool.cli.session import Session


def rehearse(dist: Path, *words: str) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    command = ["rehearse", "--version", "0.5.0", "--dist", str(dist), *words]
    return main.invoke(command, Session({}, out=out, err=err)), err.getvalue()


def test_the_id_of_a_model_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """It asks no hub: exit 2, by what it takes."""
    code, said = rehearse(tmp_path, "--model", "mlx-community/Qwen3-0.6B-8bit")
    assert code == 2
    assert "a rehearsal takes the folder of a model" in said
    assert not embedded.is_running(tmp_path, "rehearsal")


@pytest.mark.parametrize("keep", [False, True])
def test_look_alikes_of_a_run_that_recorded_nothing_end_with_it(keep: bool, tmp_path: Path) -> None:
    """Refused by the preflight, behind their start; who wants to look at them keeps them."""
    (tmp_path / "model").mkdir()
    words = ["--model", str(tmp_path / "model"), *(["--keep"] if keep else [])]
    try:
        code, said = rehearse(tmp_path / "dist", *words)
        assert code == 2, said
        assert embedded.is_running(tmp_path / "dist", "rehearsal") == keep
    finally:
        embedded.stop(tmp_path / "dist", "rehearsal")
