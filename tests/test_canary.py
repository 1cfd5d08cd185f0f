"""The watch over secrets sees a leak in each channel, and lets everything else pass."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.canary import planted_leaks

ROOT = Path(__file__).resolve().parent.parent
_CONFTEST = """
from tests.canary.plugin import Watch

def pytest_configure(config):
    config.pluginmanager.register(Watch(), "canary")
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a session of leaking tests printed."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copy(planted_leaks.__file__, folder / "test_planted.py")
    (folder / "conftest.py").write_text(_CONFTEST)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pytest; sys.exit(pytest.main())"
    command = [sys.executable, "-I", "-c", code, "-rA", "-q", "-p", "no:cacheprovider"]
    command += ["--import-mode=importlib", f"--rootdir={folder}", "--show-capture=no", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return done.stdout


_TESTS = re.findall(r"^def (test_\w+)", Path(planted_leaks.__file__).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in _TESTS if "leak" in name])
def test_a_leak_fails_its_test(planted: str, name: str) -> None:
    """Each channel is watched: the planted leak is found behind the test that made it."""
    assert re.search(rf"^ERROR .*::{name}\b", planted, re.MULTILINE), planted


@pytest.mark.parametrize("name", [name for name in _TESTS if "clean" in name])
def test_what_is_no_leak_passes(planted: str, name: str) -> None:
    """A secret that is used and not shown, and files that a test itself makes, are no leak."""
    assert re.search(rf"^PASSED .*::{name}\b", planted, re.MULTILINE), planted
    assert not re.search(rf"^ERROR .*::{name}\b", planted, re.MULTILINE), planted


def test_no_file_is_written_below_a_folder_that_was_opened() -> None:
    """The watch sees no such write; what the tool opens so, it only reads."""
    found = {
        f"{path.name}: {ast.unparse(call.args[1])}"
        for path in (ROOT / "release_tool").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(call, ast.Call) and any(one.arg == "dir_fd" for one in call.keywords)
    }
    assert found == {
        "tree.py: flags",
        "tree.py: os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK",
    }


def test_the_watch_tells_no_value(planted: str) -> None:
    """Its report names the secret and the place."""
    assert "RELEASE_KEY stands in standard output" in planted
    assert "planted-canary" not in planted
