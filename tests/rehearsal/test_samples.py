"""The sample executables: their shape, the version inside, and their source."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from pathlib import Path

import lief
import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import code_directory, macho, superblob
from release_tool.rehearsal import samples

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "3f2a91c" + "0" * 33


@pytest.mark.parametrize("name", samples.EXECUTABLES)
def test_a_sample_is_an_arm64_executable_for_macos_14_with_room_for_a_signature(name: str) -> None:
    """LIEF reads the architecture, the minimum system and the room behind the load commands."""
    binary = lief.MachO.parse(list(samples.template(name)))
    assert binary is not None
    (thin,) = list(binary)
    assert thin.header.cpu_type == lief.MachO.Header.CPU_TYPE.ARM64
    assert thin.build_version is not None
    assert thin.build_version.minos == [14, 0, 0]
    commands_end = 32 + thin.header.sizeof_cmds
    assert min(s.offset for s in thin.sections if s.offset) - commands_end >= 4096 - 256
    assert len(samples.template(name)) < 100_000


def test_the_foreign_sample_is_x86_64() -> None:
    """The sample for refusals is of the architecture that no release holds."""
    (part,) = macho.parse(samples.template(samples.FOREIGN))
    assert (part.arch, part.signature) == ("x86_64", None)


@pytest.mark.parametrize("name", samples.EXECUTABLES)
@given(
    version=st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(-dev\.[0-9]{1,3})?", fullmatch=True)
)
def test_a_version_is_written_once_and_every_page_hash_holds(name: str, version: str) -> None:
    """The version is one C string of the file, and the linker's signature covers the new bytes."""
    data = samples.executable(name, version, COMMIT)
    assert len(data) == len(samples.template(name))
    assert data.count(b"\0" + version.encode() + b"\0") == 1
    assert data.count(COMMIT.encode()) == 1
    (part,) = macho.parse(data)
    assert part.signature_bytes is not None
    (raw,) = superblob.parse(part.signature_bytes).code_directories
    directory = code_directory.parse(raw)
    expected = [
        hashlib.sha256(data[at : min(at + directory.page_size, directory.code_limit)]).digest()
        for at in range(0, directory.code_limit, directory.page_size)
    ]
    assert list(directory.code_hashes) == expected


def test_what_does_not_fit_is_refused() -> None:
    """A version or commit that its field cannot hold never reaches a file."""
    for version, commit in (("1" * 64, COMMIT), ("0.5.0\0", COMMIT), ("0.5.0", "HEAD")):
        with pytest.raises(errors.UsageError):
            samples.executable("darkbloom", version, commit)
    with pytest.raises(errors.UsageError):
        samples.template("../README.md")


def test_materialize_hands_over_what_a_build_does(tmp_path: Path) -> None:
    """The folder holds the executables and their manifest, and comes out the same twice."""
    manifest = json.loads(samples.materialize(tmp_path / "build", "0.5.0", COMMIT).read_text())
    first = {file.name: file.read_bytes() for file in (tmp_path / "build").iterdir()}
    assert manifest == {
        "source_commit": COMMIT,
        "version": "0.5.0",
        "test_outcome": "passed",
        "files": {n: hashlib.sha256(first[n]).hexdigest() for n in samples.EXECUTABLES},
    }
    assert (tmp_path / "build" / "darkbloom").stat().st_mode & 0o777 == 0o755
    samples.materialize(tmp_path / "build", "0.5.0", COMMIT)
    assert {file.name: file.read_bytes() for file in (tmp_path / "build").iterdir()} == first


def test_the_sample_metal_library_has_the_header() -> None:
    """Whoever asks for the magic gets it, at any size."""
    assert samples.metallib(100)[:4] == b"MTLB"
    assert len(samples.metallib(12_345)) == 12_345


@pytest.mark.macos
@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("darwin", "arm64"), reason="needs an Apple Silicon Mac"
)
@pytest.mark.parametrize("name", samples.EXECUTABLES)
def test_a_sample_runs_on_a_mac(name: str, tmp_path: Path) -> None:
    """The kernel accepts the renewed page hashes, and the program says its version."""
    samples.materialize(tmp_path, "0.5.0-dev.3", COMMIT)
    done = subprocess.run(
        [str(tmp_path / name), "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["0.5.0-dev.3"]


@pytest.mark.online
@pytest.mark.timeout(900)
def test_the_committed_bytes_are_what_the_generator_makes(tmp_path: Path) -> None:
    """Source and generator give the committed executables, byte for byte."""
    tool = ROOT / "tools" / "build_samples.py"
    subprocess.run([sys.executable, str(tool), str(tmp_path)], check=True)
    made = {file.name: file.read_bytes() for file in tmp_path.glob("*.bin")}
    committed = {f"{n}.bin": samples.template(n) for n in (*samples.EXECUTABLES, samples.FOREIGN)}
    assert made == committed
