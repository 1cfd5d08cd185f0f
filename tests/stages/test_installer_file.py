"""The rendered installer: its shell, its lock, its swap, killed before each of its commands."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.services import candidate_server
from release_tool.services.candidate_server import CandidateServer
from release_tool.stages import installer_file
from tests import signed_release
from tests.stages.release_parts import changed

APP = "Darkbloom.app"
# What the installer calls between which it may die; the rest only reads.
COMMANDS = ("curl", "ln", "mkdir", "mktemp", "mv", "rm", "tar")
PREVIOUS = b"of a previous version"
TASTE = (
    "SC2250",  # braces around each variable
    "SC2310",  # a function in a condition: its failure is what is asked
    "SC2312",  # a status that is masked: what comes out is checked instead
)
"""Optional checks of shellcheck that are not followed."""


@dataclass
class Machine:
    """A home, a folder of commands that come first, and a coordinator."""

    folder: Path
    server: CandidateServer
    script: str
    shell: tuple[str, ...] = ("/bin/bash",)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def root(self) -> Path:
        return self.home / ".darkbloom"

    def command(self, name: str, text: str) -> None:
        """Put a command before the system's of the same name."""
        path = self.folder / "commands" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def start(self) -> subprocess.Popen[str]:
        self.home.mkdir(exist_ok=True)
        (self.folder / "install.sh").write_text(self.script)
        return subprocess.Popen(
            [*self.shell, str(self.folder / "install.sh")],
            env={
                "HOME": str(self.home),
                "PATH": f"{self.folder / 'commands'}:/usr/bin:/bin",
                **self.environment,
            },
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self) -> tuple[int, str]:
        with self.start() as process:
            said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def previous(self) -> None:
        """Install an older version with a file of its own, and flat copies."""
        for path in (f"{APP}/Contents/MacOS/darkbloom", f"{APP}/old", "bin/darkbloom"):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(PREVIOUS)

    def app(self, place: str = APP) -> dict[str, bytes]:
        folder = self.root / place
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


NEW = {
    path.removeprefix(f"{APP}/"): content
    for path, content in signed_release.made().files.items()
    if path.startswith(f"{APP}/")
}
OLD = {"Contents/MacOS/darkbloom": PREVIOUS, "old": PREVIOUS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CandidateServer]:
    made = signed_release.made()
    archive = tmp_path_factory.mktemp("archive") / "bundle.tar.gz"
    archive.write_bytes(made.archive)
    row = {
        "version": "0.5.0",
        "binary_hash": digest(made.files["bin/darkbloom"]),
        "bundle_hash": digest(made.archive),
        "metallib_hash": digest(made.files["bin/mlx.metallib"]),
        "changelog": 'a "quoted" text with "url":"http://elsewhere.test/" in it',
    }
    with candidate_server.serving(archive, row) as serving:
        yield serving


@pytest.fixture
def machine(plan: ReleasePlan, tmp_path: Path, server: CandidateServer) -> Machine:
    server.manner = "whole"
    server.requests.clear()
    return Machine(tmp_path, server, filled(plan, server))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def filled(plan: ReleasePlan, server: CandidateServer) -> str:
    """The installer as the coordinator serves it."""
    return installer_file.render(plan).replace(installer_file.PLACEHOLDER, server.url)


def of_apple(plan: ReleasePlan) -> ReleasePlan:
    return changed(plan, environment={"trust": "apple"})


def require_installed(machine: Machine) -> None:
    assert machine.app() == NEW
    assert sorted(path.name for path in machine.root.iterdir()) == [APP, "bin"]
    links = {path.name: str(path.readlink()) for path in (machine.root / "bin").iterdir()}
    inside = f"../{APP}/Contents/MacOS"
    assert links == {
        "darkbloom": f"{inside}/darkbloom",
        "darkbloom-enclave": f"{inside}/darkbloom-enclave",
        "eigeninference-enclave": "darkbloom-enclave",
        "mlx.metallib": f"{inside}/mlx.metallib",
    }


@pytest.mark.parametrize("layout", ["app", "flat"])
@pytest.mark.parametrize("trust", ["apple", "look-alike"])
def test_shellcheck_finds_nothing(
    plan: ReleasePlan, tmp_path: Path, trust: str, layout: str
) -> None:
    """No note of any severity, the optional checks among them, but for those of taste."""
    found = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if found is None:
        # The extra `dev` brings it wherever there is a wheel: a job must not pass without.
        assert "CI" not in os.environ or platform.machine() != "x86_64", "shellcheck is missing"
        pytest.skip("shellcheck is not installed beside this Python")
    script = tmp_path / "install.sh"
    asked = changed(plan, environment={"trust": trust}, flavour={"layout": layout})
    script.write_text(installer_file.render(asked))
    finished = subprocess.run(
        [found, "--enable=all", f"--exclude={','.join(TASTE)}", str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (0, "")


@pytest.mark.parametrize(
    "shell", [("bash",), ("bash", "--posix"), ("dash",), ("busybox", "sh"), ("mksh",)]
)
def test_any_posix_shell_runs_it(machine: Machine, shell: tuple[str, ...]) -> None:
    """An empty home, a previous version, and itself: the same end under each shell at hand."""
    found = shutil.which(shell[0])
    if found is None:
        pytest.skip(f"this host has no {shell[0]}")
    machine.shell = (found, *shell[1:])
    code, said = machine.run()
    assert (code, said.splitlines()[0]) == (0, "Downloading Darkbloom 0.5.0")
    require_installed(machine)
    machine.previous()
    (machine.root / "provider.toml").write_text("the user's")
    assert machine.run()[0] == 0
    (machine.root / "provider.toml").unlink()
    require_installed(machine)


def test_the_placeholder_is_in_the_template_once_and_does_not_run(
    plan: ReleasePlan, machine: Machine
) -> None:
    """Unfilled it refuses, and COORD_URL may take its place."""
    unfilled = installer_file.render(plan)
    assert unfilled.count(installer_file.PLACEHOLDER) == 1
    machine.script = unfilled
    code, said = machine.run()
    assert (code, "no https address" in said) == (1, True)
    assert not machine.root.exists()
    machine.environment = {"COORD_URL": machine.server.url}
    assert machine.run()[0] == 0


def test_a_file_that_was_cut_on_its_way_does_nothing(machine: Machine) -> None:
    """Wherever a pipe into the shell breaks, before its last line nothing is changed."""
    whole = machine.script
    for share in (0.2, 0.5, 0.8, 0.99):
        machine.script = whole[: int(len(whole) * share)]
        machine.run()
        assert not machine.root.exists()


def test_the_digest_comes_before_unpacking(machine: Machine) -> None:
    """A changed download is refused before tar sees a byte of it, and nothing is changed."""
    machine.previous()
    machine.command("tar", f"touch {machine.folder}/unpacked")
    machine.server.manner = "changed"
    code, said = machine.run()
    assert code == 1
    assert "the download is not what was released" in said
    assert not (machine.folder / "unpacked").exists()
    assert machine.app() == OLD
    assert sorted(path.name for path in machine.root.iterdir()) == [APP, "bin"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("binary_hash", "0" * 64, "bin/darkbloom is not what was released"),
        ("metallib_hash", "0" * 64, "mlx.metallib is not what was released"),
        ("metallib_hash", "", "no digest where one must be"),
        ("bundle_hash", "x" * 64, "no digest where one must be"),
        ("version", "1.0; touch x", "no version"),
        ("url", "http://elsewhere.test/bundle", "no https address"),
    ],
)
def test_what_the_coordinator_says_is_not_believed(
    machine: Machine, key: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A digest of another file, a row that names none, another's words as an address or version."""
    machine.previous()
    monkeypatch.setitem(machine.server._row, key, value)
    code, said = machine.run()
    assert (code, message in said) == (1, True), said
    assert machine.app() == OLD


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_each_command_a_whole_version_stands_and_comes_back(
    plan: ReleasePlan, tmp_path: Path, server: CandidateServer, step: int
) -> None:
    """KILL before the first, second, … command: old or new whole, in place or aside, then fresh."""
    places = []
    for at in range(1, 60, step):
        machine = Machine(tmp_path / str(at), server, filled(plan, server))
        machine.folder.mkdir()
        machine.previous()
        for name in COMMANDS:
            machine.command(
                name,
                f'echo >>"{machine.folder}/count"\n'
                f'[ "$(wc -l <"{machine.folder}/count")" -ne {at} ] || kill -KILL 0\n'
                f'PATH=/usr/bin:/bin exec {name} "$@"',
            )
        code, _ = machine.run()
        if code == 0:
            break
        aside = ".install.previous/Darkbloom.app"
        stands = machine.app() or machine.app(aside)
        assert stands in (OLD, NEW), at
        places.append("aside" if not machine.app() else "old" if stands == OLD else "new")
        shutil.rmtree(machine.folder / "commands")
        assert machine.run()[0] == 0
        require_installed(machine)
    assert places == sorted(places, key=["old", "aside", "new"].index)
    assert len(places) > 20 // step
    # One rename lies between the old app's leaving and the new one's coming.
    assert places.count("aside") == 1 or step > 1


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_told_to_end_it_leaves_what_stood_there(machine: Machine, name: str) -> None:
    """A closed terminal amid the swap: the old app goes back to its place."""
    machine.previous()
    machine.command(
        "mv",
        f'case "$1" in */new/*) kill -{name} "$PPID"; exit 1 ;; esac\nexec /bin/mv "$@"',
    )
    code, _ = machine.run()
    assert code in (1, 129, 130, 143)
    assert machine.app() == OLD
    assert sorted(path.name for path in machine.root.iterdir()) == [APP, "bin"]


def test_two_at_once_are_told_and_a_dead_owner_is_not_waited_for(machine: Machine) -> None:
    """The second refuses while the first lives; a lock of a dead or another process is taken."""
    machine.server.hold("asked")
    with machine.start() as first:
        assert machine.server.wait(30)
        code, said = machine.run()
        assert (code, "another installation runs" in said) == (1, True), said
        machine.server.release()
        assert first.wait(60) == 0
    # Our own number with another's beginning: that process is not the owner any more.
    (machine.root / ".install.lock").symlink_to(f"{os.getpid()} Mon Jan  1 00:00:00 2001")
    assert machine.run()[0] == 0
    require_installed(machine)


def mac(machine: Machine, *, version: str = "15.1", signed: bool = True) -> None:
    """Stand-ins for what macOS tells: wiring only."""
    machine.command("uname", 'case "$1" in -s) echo Darwin ;; -m) echo arm64 ;; esac')
    machine.command("sw_vers", f"echo {version}")
    machine.command("codesign", f'echo "$*" >"{machine.folder}/asked"; exit {0 if signed else 1}')


def test_on_a_mac_the_signature_is_a_gate(
    plan: ReleasePlan, machine: Machine, server: CandidateServer
) -> None:
    """Apple's tool is asked about the staged app with our team, and its refusal changes nothing."""
    machine.script = filled(of_apple(plan), server)
    machine.previous()
    mac(machine, signed=False)
    code, said = machine.run()
    assert (code, "the signature of Darkbloom.app does not hold" in said) == (1, True)
    assert machine.app() == OLD
    asked = (machine.folder / "asked").read_text()
    assert "--verify --deep --strict" in asked
    assert 'certificate leaf[subject.OU] = "SLDQ2GJ6TL"' in asked
    mac(machine)
    assert machine.run()[0] == 0
    require_installed(machine)


@pytest.mark.parametrize(
    ("version", "good"),
    [("14.0", True), ("14", True), ("26.0.1", True), ("13.7.8", False), ("12", False)],
)
def test_an_older_macos_is_told_what_it_lacks(
    plan: ReleasePlan, machine: Machine, server: CandidateServer, version: str, *, good: bool
) -> None:
    """The advertised minimum is asked before anything is downloaded."""
    machine.script = filled(of_apple(plan), server)
    mac(machine, version=version)
    code, said = machine.run()
    assert (code == 0) == good
    if not good:
        assert f"needs macOS 14.0 or newer; this is macOS {version}" in said
        assert server.requests == []


def test_elsewhere_than_on_a_mac_it_refuses(
    plan: ReleasePlan, machine: Machine, server: CandidateServer
) -> None:
    """What is for macOS says so on another system."""
    machine.script = filled(of_apple(plan), server)
    machine.command("uname", "echo Linux")
    assert machine.run() == (1, "install: Darkbloom runs on macOS only\n")


def test_the_projects_own_file_is_read(plan: ReleasePlan, tmp_path: Path) -> None:
    """A path in release.yaml wins; one without the placeholder, or none at all, is refused."""
    own = tmp_path / "install.sh"
    named = changed(plan, smoke={"installer": str(own)})
    with pytest.raises(errors.UsageError, match="cannot be read"):
        installer_file.read(named)
    own.write_text("curl https://api.darkbloom.dev/")
    with pytest.raises(errors.VerificationError, match="written into the installer"):
        installer_file.read(named)
    own.write_text(f'url="{installer_file.PLACEHOLDER}"')
    assert installer_file.read(named) == own.read_bytes()
