"""The Python that `make` takes: fitting, able to make environments, and not one of those itself."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from release_tool import data

SCRIPT = data.release_file().parent / "tools" / "find-python.sh"


def find(**environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT)],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_chosen_python_is_taken() -> None:
    """PYTHON names it; of a virtual environment the Python below is taken, which outlives it."""
    found = find(PYTHON=sys.executable)
    assert found.returncode == 0
    assert Path(found.stdout.strip()).resolve() == Path(sys.executable).resolve()


def test_an_active_environment_is_not_taken(tmp_path: Path) -> None:
    """An environment that is about to be made anew cannot make itself."""
    folder = tmp_path / "with space"
    venv.create(folder, with_pip=False)
    found = find(PYTHON=str(folder / "bin" / "python"))
    assert found.returncode == 0, found.stderr
    assert tmp_path not in Path(found.stdout.strip()).parents


def test_a_missing_choice_is_named() -> None:
    """What was chosen and is not there, is said, with what to do."""
    found = find(PYTHON="/nonexistent/python")
    assert found.returncode == 3
    assert "/nonexistent/python is not there" in found.stderr
