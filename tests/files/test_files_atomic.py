"""Writing whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.files import atomic, hashing

_ENDLESS_WRITER = """
import sys
from pathlib import Path
from release_tool.files import atomic
with atomic.new_file(Path(sys.argv[1])) as target:
    while True:
        target.write(b"new" * 4096)
        print("writing", flush=True)
"""


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _write_half(path: Path) -> None:
    with atomic.new_file(path) as target:
        target.write(b"half")
        raise ValueError


def test_content_and_mode_arrive_together(tmp_path: Path) -> None:
    """A new file has its content and mode, and no scratch stays beside it."""
    path = tmp_path / "file"
    atomic.write_atomically(path, b"content", mode=0o755)
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode & 0o777 == 0o755
    assert _names(tmp_path) == ["file"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    """After an error in the middle the old content stands and no scratch is left."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ValueError):
        _write_half(path)
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["file"]


def test_kill_leaves_the_old_file(tmp_path: Path) -> None:
    """`kill -9` in the middle of a write leaves the old content under the name."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    command = [sys.executable, "-c", _ENDLESS_WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named_with_its_path() -> None:
    """The system's ENOSPC becomes a host error that names the path and the remedy."""
    path = Path("/dev/full")
    with pytest.raises(errors.HostError) as caught, atomic.naming(path, "write"):
        path.write_bytes(b"x" * 100_000)
    assert caught.value.subject == str(path)
    assert "No space left" in caught.value.observed
    assert "make room" in caught.value.hint


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the last flush to the disk fails for want of room, the old file stands."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.HostError, match="cannot write"):
        atomic.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["file"]


def test_a_missing_folder_is_a_host_error(tmp_path: Path) -> None:
    """A folder that is not there gives our error, with the path."""
    with pytest.raises(errors.HostError) as caught:
        atomic.write_atomically(tmp_path / "none" / "file", b"")
    assert str(tmp_path / "none" / "file") in str(caught.value)


def test_a_folder_replaces_a_full_folder(tmp_path: Path) -> None:
    """A finished folder takes the name of one that holds files, and nothing else stays."""
    final = tmp_path / "final"
    scratch = tmp_path / "scratch"
    for folder, content in ((final, "old"), (scratch, "new")):
        folder.mkdir()
        (folder / content).write_text(content)
    atomic.replace_directory(scratch, final)
    assert _names(final) == ["new"]
    assert _names(tmp_path) == ["final"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    """Where the new folder cannot take the name, the old one has it back."""
    final = tmp_path / "final"
    final.mkdir()
    (final / "old").write_text("old")
    with pytest.raises(errors.HostError, match="cannot replace"):
        atomic.replace_directory(tmp_path / "none", final)
    assert _names(final) == ["old"]


@settings(max_examples=10)
@given(content=st.binary(max_size=4096), algorithm=st.sampled_from(["sha256", "sha1", "sha384"]))
def test_digests_agree_with_the_system(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, algorithm: str
) -> None:
    """Digests of files are those that coreutils or shasum prints."""
    path = tmp_path_factory.mktemp("hash") / "file"
    path.write_bytes(content)
    bits = algorithm.removeprefix("sha")
    printed = subprocess.run(
        ["shasum", "-a", bits, str(path)], check=True, capture_output=True, text=True
    )
    assert hashing.digest_of(path, algorithm).hex() == printed.stdout.split()[0]
    if algorithm == "sha256":
        assert hashing.sha256_of(path) == printed.stdout.split()[0]
