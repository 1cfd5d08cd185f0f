"""A disk that is full or cannot be written, for real: a small file system in a namespace.

Each level runs out somewhere else, in room or in names. The preflight that asks for a whole
gigabyte is told to be content, so that the stages themselves meet the end.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from release_tool.rehearsal import environment, samples, tiny_model
from tests import git_trees

ROOT = Path(__file__).resolve().parent.parent.parent
_NAMESPACE = ("unshare", "--user", "--mount", "--map-root-user")
_CONTENT = (
    "from release_tool.cli import probes; probes._FREE_BYTES = 0; "
    "from release_tool.cli.entry import main; main()"
)
_MORE = "remount,size=64m,nr_inodes=0"
LEVELS = (
    *(f"size={kilobytes}k" for kilobytes in (8, 40, 220, 330, 450, 600, 700, 820)),
    *(f"size=64m,nr_inodes={names}" for names in (2, 3, 5, 8, 12, 17, 22, 30, 40)),
)
_ALWAYS = ("size=330k",)


def _can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = [*_NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.skipif(not _can_mount(), reason="no user namespace with mounts on this host"),
    pytest.mark.timeout(200),
]


@dataclass
class Place:
    """Look-alikes that live outside of every small file system."""

    folder: Path
    checkout: Path
    """The working folder, whose commit a plan names: this one may get another meanwhile."""
    count: int = 0

    def new(self) -> tuple[str, Path]:
        """A version that was never released, and its empty workspace."""
        self.count += 1
        version = f"0.1.{self.count}"
        workspace = self.folder / "dist" / "rehearsal" / version
        workspace.mkdir(parents=True)
        return version, workspace

    def command(self, version: str, until: str = "archive") -> str:
        words = [sys.executable, "-c", _CONTENT, "rehearse", "--keep", "--until", until]
        words += ["--version", version, "--dist", str(self.folder / "dist")]
        words += ["--metallib", str(self.folder / "sample.metallib")]
        return shlex.join([*words, "--model", str(self.folder / "model")])

    def sh(self, *lines: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*_NAMESPACE, "sh", "-c", "\n".join(lines)],
            cwd=self.checkout,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "XDG_CACHE_HOME": str(self.folder / "cache"),
            },
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One living environment for all levels."""
    folder = tmp_path_factory.mktemp("full")
    (folder / "sample.metallib").write_bytes(samples.metallib(100_000))
    tiny_model.make(folder / "model")
    living = environment.start(
        folder / "dist" / "rehearsal" / "environment",
        team_id="SLDQ2GJ6TL",
        bundle_id="io.darkbloom.provider",
        processing_seconds=0.05,
        ticket_seconds=0.05,
    )
    yield Place(folder, git_trees.checkout(folder / "checkout"))
    living.stop()


@pytest.mark.parametrize(
    "level",
    [pytest.param(one, marks=[] if one in _ALWAYS else [pytest.mark.slow]) for one in LEVELS],
)
def test_a_full_disk_is_told_and_with_room_the_run_goes_on(place: Place, level: str) -> None:
    """Exit 3 with the path and the reason; nothing that was recorded is lost or signed again."""
    version, workspace = place.new()
    ended = place.sh(
        f"mount -t tmpfs -o {level} none {workspace} || exit 99",
        f"{place.command(version)}; test $? = 3 || exit 98",
        f"mount -o {_MORE} {workspace} || exit 97",
        f"{place.command(version)} || exit 96",
        f"ls -A {workspace} {workspace}/ledger",
        f"""echo signed $(grep -l '"kind": "record"' {workspace}/ledger/*-sign.json | wc -l)""",
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    assert "Traceback" not in told
    assert "No space left on device" in told
    assert "make room on this volume" in told
    assert "Errno" not in told
    assert "cannot read" not in told
    assert "signed 1\n" in told
    assert ".part" not in told
    assert ".scratch\n" not in told


@pytest.mark.slow
def test_a_disk_without_room_for_the_lock_is_told(place: Place) -> None:
    """As behind an unpacked handoff: exit 3 of every command that takes it, and none is a bug."""
    version, workspace = place.new()
    dist = place.folder / "dist"
    tool, here = f"{shlex.quote(sys.executable)} -m release_tool", f"--dist {dist}"
    pack = f"{tool} handoff pack --env rehearsal --version {version} {here} {workspace}/h.tar.gz"
    back = f"{tool} rollback --env rehearsal --to {version} --only github {here}"
    ended = place.sh(
        f"mount -t tmpfs -o size=64m none {workspace} || exit 99",
        f"{place.command(version, 'profile')} || exit 99",
        f"mkdir {dist}/rehearsal/rollback",
        f"mount -t tmpfs -o size=8k none {dist}/rehearsal/rollback || exit 99",
        f"rm {workspace}/ledger/.lock",
        f"for one in {workspace} {dist}/rehearsal/rollback",
        "do cat /dev/zero > $one/full 2> /dev/null; done",
        f"{place.command(version, 'profile')}; test $? = 3 || exit 98",
        f"{pack}; test $? = 3 || exit 97",
        f"{back}; test $? = 3 || exit 96",
        f"rm {workspace}/full",
        f"{place.command(version, 'profile')} || exit 95",
        f"{pack} || exit 94",
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    assert "Traceback" not in told
    assert told.count("ledger/.lock: cannot write the ledger's lock") == 3
    assert told.count("make room on this volume, then run again") == 3


@pytest.mark.slow
def test_a_workspace_that_cannot_be_written_is_told(place: Place) -> None:
    """Read-only is exit 3 with the folder; written to, the same command succeeds."""
    version, workspace = place.new()
    ended = place.sh(
        f"mount --bind {workspace} {workspace} || exit 99",
        f"mount -o remount,bind,ro {workspace} || exit 99",
        f"{place.command(version)}; test $? = 3 || exit 98",
        f"umount {workspace} || exit 97",
        f"{place.command(version)} || exit 96",
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    assert "Read-only file system" in told
    assert "let this user write here" in told
    assert "Traceback" not in told


# Full first, and then not even the working folder, which Python would take in its place.
_NO_TEMPORARY_FOLDER = """
unset TMPDIR TEMP TMP
mkdir -p /mnt && mount --bind {folder} /mnt || exit 99
mount -t tmpfs -o size=64k none /tmp || exit 99
mount --bind /tmp /var/tmp || exit 99
mkdir -p {folder} && mount --bind /mnt {folder} || exit 99
cat /dev/zero > /tmp/full 2> /dev/null
"""


@pytest.mark.slow
def test_a_smoke_run_without_room_for_temporary_files_is_told(place: Place) -> None:
    """Exit 3 and what to name, never a place in the build tree; with room the run goes on."""
    version, workspace = place.new()
    smoke, here = place.command(version, "smoke"), place.checkout
    ended = place.sh(
        f"{place.command(version)} || exit 99",
        _NO_TEMPORARY_FOLDER.format(folder=shlex.quote(str(place.folder))),
        f"{smoke}; test $? = 3 || exit 98",
        f"mount --bind {here} {here} && mount -o remount,bind,ro {here} || exit 99",
        f"cd {here}",
        f"{smoke}; test $? = 3 || exit 97",
        "rm /tmp/full; mount -o remount,size=64m /tmp || exit 99",
        f"{smoke} || exit 96",
        f"""echo signed $(grep -l '"kind": "record"' {workspace}/ledger/*-sign.json | wc -l)""",
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    assert "Traceback" not in told
    assert f"only the working folder does: {here}" in told
    assert "No usable temporary directory" in told
    assert told.count("name another volume in TMPDIR") == 2
    assert "signed 1\n" in told


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [200, 700, 760, 800, 850, 900, 1000])
def test_temporary_files_that_run_out_of_room_amid_the_smoke_run_are_told(
    place: Place, kilobytes: int
) -> None:
    """Wherever in it: exit 3 and what to name, no verdict on what could not write."""
    version, workspace = place.new()
    smoke = place.command(version, "smoke")
    ended = place.sh(
        f"{place.command(version)} || exit 99",
        "unset TMPDIR TEMP TMP",
        f"mkdir -p /mnt && mount --bind {shlex.quote(str(place.folder))} /mnt || exit 99",
        f"mount -t tmpfs -o size={kilobytes}k none /tmp || exit 99",
        f"mkdir -p {place.folder} && mount --bind /mnt {place.folder} || exit 99",
        f"{smoke}; test $? = 3 || exit 98",
        "mount -o remount,size=64m /tmp || exit 97",
        f"{smoke} || exit 96",
        f"""echo signed $(grep -l '"kind": "record"' {workspace}/ledger/*-sign.json | wc -l)""",
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    assert "Traceback" not in told
    assert "release-tool: /tmp/" in told
    assert "signed 1\n" in told


@pytest.mark.slow
def test_a_home_and_a_dist_that_cannot_be_written_are_told(place: Place) -> None:
    """Exit 3 with the folder before any work; a home is not needed once the model is named."""
    version, _ = place.new()
    home, dist = place.folder / "home", place.folder / "other"
    for folder in (home, dist):
        folder.mkdir()
    whole = place.command(version, "profile")
    model = shlex.join(["--model", str(place.folder / "model")])
    ended = place.sh(
        *(
            f"mount --bind {one} {one} && mount -o remount,bind,ro {one} || exit 99"
            for one in (home, dist)
        ),
        f"unset XDG_CACHE_HOME; export HOME={home}",
        f"{whole.replace(model, '')}; test $? = 3 || exit 98",
        f"{whole.replace(str(place.folder / 'dist'), str(dist))}; test $? = 3 || exit 97",
        f"{whole} || exit 96",
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    assert "Traceback" not in told
    assert f"release-tool: {home}/.cache/release-tool/" in told
    assert f"release-tool: {dist}/rehearsal/environment: cannot make the folder" in told
    assert told.count("Read-only file system") == 2
    assert "Done in" in told
    assert list(dist.iterdir()) == []
