"""Streams that fail: any encoding, a full disk, a reader that left, a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from release_tool.rehearsal import profiles
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.profiles import Wish

TEAM = "SLDQ2GJ6TL"
TOOL = (sys.executable, "-m", "release_tool")
FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A look-alike profile that Apple's roots refuse."""
    path = tmp_path_factory.mktemp("profile") / "ü….provisionprofile"
    made = profiles.make(Authority.create(TEAM), Wish(team_id=TEAM, bundle_id="io.example.app"))
    path.write_bytes(made)
    return path


def run(
    *words: str, encoding: str = "utf-8", out: int | IO[bytes] = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    environ = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [*TOOL, *words],
        env=environ,
        stdout=out,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("more", [(), ("--min-days", "3")])
def test_every_encoding_can_be_written(profile: Path, encoding: str, more: tuple[str, ...]) -> None:
    """What an encoding lacks is escaped, and JSON stays JSON, on the short way and the long one."""
    plain = run("verify-profile", str(profile), *more, encoding=encoding)
    assert (plain.returncode, plain.stderr) == (6, b"")
    assert ("…" if encoding == "utf-8" else r"\u2026") in plain.stdout.decode(encoding)
    found = run("verify-profile", str(profile), *more, "--json", encoding=encoding)
    assert json.loads(found.stdout.decode(encoding))["ok"] is False
    lost = run("verify-profile", f"{profile}x", "--json", encoding=encoding)
    assert json.loads(lost.stdout.decode(encoding))["subject"] == f"{profile}x"


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [("plan", "--schema"), ("--help",), ("--version",)])
def test_a_full_disk_is_told_in_one_line(words: tuple[str, ...]) -> None:
    """Output that is lost is a lack of the host: exit 3."""
    with FULL.open("wb") as full:
        done = run(*words, out=full)
    assert done.returncode == 3
    assert done.stderr == b"release-tool: cannot write the output: No space left on device\n"


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_refusal_stays_one_on_a_full_disk(profile: Path) -> None:
    """What must not ship is never told as something milder."""
    with FULL.open("wb") as full:
        done = run("verify-profile", str(profile), out=full)
    assert done.returncode == 6
    assert b"cannot write the output" in done.stderr


@pytest.mark.parametrize("more", [(), ("--min-days", "3")])
def test_a_closed_pipe_changes_no_exit_code(profile: Path, more: tuple[str, ...]) -> None:
    """A reader that left is no failure, and a refusal is still one."""
    for words, code in ((("verify-profile", str(profile), *more), 6), (("plan", "--schema"), 0)):
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = run(*words, out=writing)
        finally:
            os.close(writing)
        assert (done.returncode, done.stderr) == (code, b"")


def test_closed_streams_are_no_bug() -> None:
    """A caller that closed both streams gets the exit code alone."""
    words = ["sh", "-c", '"$@" >&- 2>&-', "sh", *TOOL]
    assert subprocess.run([*words, "--help"], check=False, timeout=60).returncode == 0
    assert subprocess.run([*words, "nonsense"], check=False, timeout=60).returncode == 2


def test_a_termination_is_an_interrupt(tmp_path: Path) -> None:
    """A cancelled job ends as Ctrl-C does: exit 130, and one JSON document."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    words = [*TOOL, "verify-profile", str(pipe), "--min-days", "3", "--json"]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # Opening lasts until the command reads, and that lasts until the signal.
    with pipe.open("wb"):
        child.send_signal(signal.SIGTERM)
        out, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert b"release-tool: interrupted" in said
    assert json.loads(out)["error"] == "Interrupted"
