"""A whole release of the flat flavour on look-alikes, and what the commands say of it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from release_tool.cli import embedded
from release_tool.rehearsal import environment, samples, tiny_model
from tests.cli.test_run import invoke

NAME = "darkbloom-bundle-macos-arm64.tar.gz"
ENCLAVE = "eigeninference-enclave"


@dataclass(frozen=True)
class Made:
    """What a run left behind."""

    folder: Path
    workspace: Path
    document: dict[str, Any]

    @property
    def archive(self) -> Path:
        return self.workspace / NAME

    @property
    def trust(self) -> str:
        return str(self.folder / "dist" / "rehearsal" / "environment" / "trust.pem")

    def run(self, *more: str, version: str = "0.4.9") -> tuple[int, str, str]:
        return invoke(
            *("run", "--env", "rehearsal", "--version", version),
            *("--dist", str(self.folder / "dist"), "--model", str(self.folder / "model")),
            *("--metallib", str(self.folder / "lib.metallib"), *more),
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """The bridge, carried from binaries to a release on GitHub."""
    folder = tmp_path_factory.mktemp("flavours")
    (folder / "lib.metallib").write_bytes(samples.metallib())
    tiny_model.make(folder / "model")
    environment.start(
        embedded.state_folder(folder / "dist", "rehearsal"),
        team_id="SLDQ2GJ6TL",
        bundle_id="io.darkbloom.provider",
        cache_seconds=0.1,
        processing_seconds=0.1,
        ticket_seconds=0.1,
    )
    workspace = folder / "dist" / "rehearsal" / "rust-bridge-0.4.9"
    begun = Made(folder, workspace, {})
    try:
        code, out, err = begun.run("--flavour", "rust-bridge", "--json")
        assert code == 0, err
        yield Made(folder, workspace, json.loads(out))
    finally:
        embedded.stop(folder / "dist", "rehearsal")


def test_the_bridge_goes_all_the_way(made: Made) -> None:
    """Signed, notarized, smoked, registered without a Metal library, latest, on GitHub."""
    assert made.document["verdict"] == "released"
    values = made.document["values"]
    assert set(values) == {
        *("assemble", "sign", "notarize", "archive"),
        *("smoke", "publish", "register", "promote", "github"),
    }
    registered = values["register"]
    assert (registered["backend"], registered["metallib_hash"]) == ("vllm-mlx", "")
    assert values["promote"]["outcome"] == "promoted"
    assert values["github"]["tag"] == "rust-bridge-v0.4.9"
    code = {one["path"]: one for one in values["sign"]["code"]}
    assert set(code) == {"bin/darkbloom", f"bin/{ENCLAVE}"}
    for path, one in code.items():
        assert one["identifier"] == path.removeprefix("bin/")
        assert one["flags"] == 0x10000, "the hardened runtime"
        assert one["signed_at"]
    assert set(values["notarize"]["cdhashes"]) == {one["cdhash"] for one in code.values()}
    assert values["archive"]["cdhash"] == code["bin/darkbloom"]["cdhash"]


def test_its_archive_holds_bin_alone(made: Made) -> None:
    """Regular files under the names that installers and the coordinator look for."""
    with tarfile.open(made.archive) as tar:
        members = {one.name.removeprefix("./"): one for one in tar if not one.isdir()}
    assert set(members) == {"bin/darkbloom", f"bin/{ENCLAVE}"}
    assert all(one.isreg() and one.mode == 0o755 for one in members.values())


def test_its_stages_without_work_are_open(made: Made) -> None:
    """No profile and no ticket, with the reason, and asking for them by name is refused."""
    outcomes = {row["stage"]: row["outcome"] for row in made.document["stages"]}
    assert [name for name, outcome in outcomes.items() if outcome != "done"] == [
        "profile",
        "staple",
    ]
    code, out, _ = made.run("--flavour", "rust-bridge")
    assert code == 0
    assert "open: a bare executable has no place for a ticket" in out
    assert out.count(", kept") == 9
    code, _, err = made.run("--flavour", "rust-bridge", "--only", "staple")
    assert code == 2
    assert "staple has nothing to do in this release" in err


def test_verify_and_inspect_know_a_flat_archive(made: Made) -> None:
    """By itself, byte for byte ours; a changed one is refused."""
    code, out, _ = invoke("verify", str(made.archive), "--trust", made.trust)
    assert code == 0, out
    assert "release archive, darkbloom, team SLDQ2GJ6TL" in out
    code, out, _ = invoke("inspect", str(made.archive), "--json")
    assert code == 0
    found = json.loads(out)
    assert "app" not in found
    assert {one["path"] for one in found["slices"]} == {"bin/darkbloom", f"bin/{ENCLAVE}"}
    folder = made.folder / "unpacked"
    with tarfile.open(made.archive) as tar:
        tar.extractall(folder, filter="data")
    assert invoke("verify", str(folder), "--trust", made.trust)[0] == 0
    (folder / "bin" / "more").write_text("more")
    code, out, _ = invoke("verify", str(folder), "--trust", made.trust)
    assert code == 6
    assert "bin/more" in out


def test_its_notes_say_the_flavour(made: Made) -> None:
    """Title and backend, and no word of what is not in it."""
    notes = (made.workspace / "release-notes.md").read_text()
    assert "| Flavour | <code>Rust bridge</code>" in notes
    assert "<code>backend vllm-mlx</code>" in notes
    assert "Metal library" not in notes
    assert "not notarized" not in notes


def test_the_command_in_its_notes_verifies_it(made: Made) -> None:
    """Word for word; without the flavour it is told by name, and as the other one it fails."""
    notes = (made.workspace / "release-notes.md").read_text()
    (line,) = re.findall(r"^release-tool (verify-release .*)$", notes, re.MULTILINE)
    assert "--flavour rust-bridge" in line
    head = str(made.workspace / "log.head.json")
    words = [head if word == "log.head.json" else word for word in shlex.split(line)]
    words += ["--dist", str(made.folder / "dist")]
    code, out, err = invoke(*words)
    assert code == 0, out + err
    assert out.startswith("Darkbloom Rust bridge 0.4.9 · rehearsal: holds")
    at = words.index("--flavour")
    code, out, err = invoke(*words[:at], *words[at + 2 :])
    assert (code, out) == (2, "")
    assert "0.4.9 is of flavour rust-bridge; nothing more was verified" in err
    assert "add --flavour rust-bridge" in err
    words[at + 1] = "swift"
    code, out, _ = invoke(*words, "--json")
    assert code == 6
    failed = {one["name"] for one in json.loads(out)["checks"] if one["outcome"] == "failed"}
    assert "provenance flavour" in failed


def test_status_and_doctor_know_it(made: Made) -> None:
    """Its folder is named as its tag is; its executables want no profile."""
    code, out, _ = invoke("status", "--dist", str(made.folder / "dist"))
    assert code == 0
    assert "rust-bridge-0.4.9: released" in out
    _, out, _ = invoke("doctor", "--env", "dev", "--flavour", "rust-bridge", "--json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert checks["provisioning profile"]["outcome"] == "not_checked"
    code, _, err = invoke("doctor", "--flavour", "rust-brigde")
    assert code == 2
    assert "there is no such flavour" in err


def test_a_handoff_of_it_is_no_other_flavours(made: Made, tmp_path: Path) -> None:
    """Packed and unpacked as what it is; the other flavour's plan refuses it."""
    dist = made.folder / "dist"
    file = tmp_path / "handoff.tar.gz"
    said = ("--env", "rehearsal", "--version", "0.4.9", "--dist", str(dist), "--json")
    code, out, err = invoke("handoff", "pack", str(file), *said, "--flavour", "rust-bridge")
    assert code == 0, err
    head = json.loads(out)["head"]
    moved = tmp_path / "moved"
    shutil.copytree(made.workspace, moved)
    try:
        shutil.rmtree(made.workspace)
        expected = ("--expect", head, *said)
        code, _, err = invoke("handoff", "unpack", str(file), *expected)
        assert code == 2
        assert "by another plan" in err
        assert not (dist / "rehearsal" / "0.4.9").exists()
        code, _, err = invoke(
            "handoff",
            "unpack",
            str(file),
            *expected,
            *("--flavour", "rust-bridge", "--model", str(made.folder / "model")),
        )
        assert code == 0, err
    finally:
        if not made.workspace.exists():
            shutil.copytree(moved, made.workspace)


def test_the_other_flavour_cannot_take_its_version(made: Made) -> None:
    """The preflight says so before anything is signed; the next version is free, and latest."""
    code, _, err = made.run("--until", "register")
    assert code == 7
    assert "0.4.9 is registered as another flavour; nothing was sent" in err
    assert "versions of all flavours are one series" in err
    assert not list((made.folder / "dist" / "rehearsal" / "0.4.9").glob("ledger/*-assemble.json"))
    living = environment.attach(embedded.state_folder(made.folder / "dist", "rehearsal"))
    assert living
    assert [one.version for one in living.counts().registrations] == ["0.4.9"]


def test_what_would_be_signed_is_told_without_an_app(made: Made) -> None:
    """The preview names the bare executables and no seal."""
    code, out, err = made.run("--flavour", "rust-bridge", "--dry-run", version="0.4.10")
    assert code == 0, err
    assert "Darkbloom Rust bridge 0.4.10 · rehearsal: 2 files would be signed" in out
    assert f"  {ENCLAVE}\n" in out
    assert "seal" not in out


@pytest.mark.slow
def test_a_swift_release_is_withdrawn_for_the_bridge_before_it(made: Made) -> None:
    """Its page on GitHub says so, although the rollback is asked for in the bridge's flavour."""
    code, _, err = made.run(version="0.5.0")
    assert code == 0, err
    words = ["rollback", "--env", "rehearsal", "--dist", str(made.folder / "dist")]
    words += ["--to", "0.4.9", "--deactivate", "0.5.0", "--reason", "no start"]
    code, _, err = invoke(*words)
    assert code == 2
    assert "name the flavour of that backend with --flavour" in err
    code, out, err = invoke(*words, "--flavour", "rust-bridge")
    assert code == 0, err
    assert "0.4.9 given again, 0.5.0 marked" in " ".join(out.split())
    living = environment.attach(embedded.state_folder(made.folder / "dist", "rehearsal"))
    assert living
    base = f"{living.github_api_url}/repos/look-alike/darkbloom/releases"
    anybody = {"User-Agent": "anybody"}
    bad = requests.get(f"{base}/tags/v0.5.0", headers=anybody, timeout=10).json()
    assert bad["name"].endswith(" (withdrawn)")
    assert "Withdrawn: not to be used" in bad["body"]
    latest = requests.get(f"{base}/latest", headers=anybody, timeout=10).json()
    assert latest["tag_name"] == "rust-bridge-v0.4.9"
