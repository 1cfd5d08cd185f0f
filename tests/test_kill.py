"""A run that is killed anywhere and run again ends in exactly one release with one set of bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from release_tool.ledger import Ledger
from release_tool.rehearsal import counts, environment, places, samples, tiny_model
from release_tool.rehearsal.github_store import GitHubStore
from release_tool.values import Notarization

ARCHIVE = "darkbloom-bundle-macos-arm64.tar.gz"
ALIASES = ("darkbloom-bundle-macos-arm64.tar.gz", "eigeninference-bundle-macos-arm64.tar.gz")


@dataclass
class Rehearsals:
    """Rehearsals of several versions in one living environment."""

    folder: Path
    metallib: Path
    model: Path

    @property
    def dist(self) -> Path:
        return self.folder / "dist"

    @property
    def state(self) -> Path:
        return self.dist / "rehearsal" / "environment"

    def start(self, version: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "release_tool", "rehearse", "--keep"]
        command += ["--version", version, "--dist", str(self.dist)]
        command += ["--metallib", str(self.metallib), "--model", str(self.model)]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache")},
        )

    def finish(self, version: str) -> str:
        child = self.start(version)
        out, _ = child.communicate(timeout=110)
        assert child.returncode == 0, out
        return out


@pytest.fixture(scope="module")
def rehearsals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsals]:
    folder = tmp_path_factory.mktemp("kill")
    metallib = folder / "sample.metallib"
    metallib.write_bytes(samples.metallib(2_000_000))
    made = Rehearsals(folder=folder, metallib=metallib, model=tiny_model.make(folder / "model"))
    environment.start(
        made.state,
        team_id="SLDQ2GJ6TL",
        bundle_id="io.darkbloom.provider",
        processing_seconds=0.3,
        ticket_seconds=0.3,
    )
    yield made
    living = environment.attach(made.state)
    if living is not None:
        living.stop()


def judge(found: counts.Counts, version: str, seed: str) -> None:
    """One registered release, one set of bytes, by the servers' own counts."""
    registered = [row for row in found.registrations if row.version == version]
    assert len(registered) == 1, f"{seed}: {len(registered)} registrations"
    key = f"releases/v{version}/{ARCHIVE}"
    written = [write for write in found.writes if write.key == key]
    assert len(written) == 1, f"{seed}: {len(written)} writes of {key}"
    assert registered[0].bundle_hash == written[0].sha256 == found.objects[key], seed
    for alias in ALIASES:
        assert found.objects[f"releases/latest/{alias}"] == written[0].sha256, seed


def judge_github(state: Path, version: str, seed: str) -> None:
    """One release of the tag is public, once, with every asset whole, and no draft is left."""
    store = GitHubStore(places.github(state))
    (release,) = [one for one in store.releases if one.tag == f"v{version}"]
    assert not release.draft, seed
    assert [asset.state for asset in release.assets] == ["uploaded"] * 5, seed
    assert store.asked("publish").count(release.tag) == 1, seed
    assert not store.asked("bearer leak"), seed
    assert not store.asked("tag made"), seed


def judge_notary(found: counts.Counts, version: str, dist: Path, seed: str) -> None:
    """One submission was uploaded, whatever was begun, and it is the one on record."""
    records = Ledger(dist / "rehearsal" / version / "ledger").records
    (notarized,) = [one for one in records if (one.stage, one.kind) == ("notarize", "record")]
    value = Notarization.model_validate(notarized.value)
    uploads = [one for one in found.uploads if one.sha256 == value.archive_sha256]
    assert {one.subject for one in uploads} == {value.submission_id}, seed
    made = [one for one in found.submissions if one.sha256 == value.archive_sha256]
    # Killed before the answer is kept, a submission stays without an upload.
    assert len(made) in (1, 2), seed
    assert not found.asked("bearer leak"), seed
    assert not (dist / "rehearsal" / version / ".notary").exists(), seed


@pytest.fixture(scope="module")
def printed(rehearsals: Rehearsals) -> str:
    """What a whole run prints that nobody disturbs."""
    return rehearsals.finish("0.1.0")


def test_an_undisturbed_run_is_one_release(rehearsals: Rehearsals, printed: str) -> None:
    """What the judges of killed runs want is what a run does that nobody kills."""
    assert "Released" in printed
    judge(counts.read(rehearsals.state), "0.1.0", "undisturbed")
    judge_notary(counts.read(rehearsals.state), "0.1.0", rehearsals.dist, "undisturbed")
    judge_github(rehearsals.state, "0.1.0", "undisturbed")


def test_a_finished_run_does_nothing_again(rehearsals: Rehearsals, printed: str) -> None:
    """Running a finished release again touches neither store nor coordinator."""
    assert "Released" in printed
    before = counts.read(rehearsals.state)
    assert "kept" in rehearsals.finish("0.1.0")
    assert counts.read(rehearsals.state) == before


def test_no_secret_is_anywhere_in_the_outputs(rehearsals: Rehearsals, printed: str) -> None:
    """No key, password or token stands in what was printed, recorded, packed or published."""
    secrets = {
        name: places.secret(rehearsals.state, name).read_bytes().strip() for name in places.SECRETS
    }
    outputs = [
        path
        for path in (rehearsals.dist / "rehearsal").rglob("*")
        if path.is_file() and rehearsals.state not in path.parents
    ]
    assert len(outputs) > 20
    for name, secret in secrets.items():
        assert secret
        assert secret.decode() not in printed, name
        for path in outputs:
            assert secret not in path.read_bytes(), f"{name} stands in {path}"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_runs_end_in_one_release(
    rehearsals: Rehearsals, request: pytest.FixtureRequest
) -> None:
    """`kill -9` at random moments, then a rerun: one registration and one upload each time."""
    began = time.monotonic()
    rehearsals.finish("0.2.1")
    whole = time.monotonic() - began
    moments = random.Random(20261124)  # noqa: S311 - moments, not secrets
    for number in range(1, request.config.getoption("--kills") + 1):
        version, moment = f"0.1.{number}", moments.uniform(0.2, whole)
        child = rehearsals.start(version)
        time.sleep(moment)
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=60)
        rehearsals.finish(version)
        seed = f"{version} killed after {moment:.2f} s"
        judge(counts.read(rehearsals.state), version, seed)
        judge_notary(counts.read(rehearsals.state), version, rehearsals.dist, seed)
        judge_github(rehearsals.state, version, seed)
