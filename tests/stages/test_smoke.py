"""The smoke stage: what ships is unpacked, runs, answers, and is compared."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple import checks, metal_functions
from release_tool.apple.checks import Check
from release_tool.files import archive_writer, hashing
from release_tool.files.archive_reader import Unpacked
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.rehearsal import samples, tiny_model
from release_tool.services import gatekeeper, hub_cache, provider_start
from release_tool.services.provider_command import ProviderCommand
from release_tool.stages import (
    final_copy,
    install_kills,
    install_smoke,
    mac_verdicts,
    public_copy,
    smoke,
    smoke_asked,
    smoke_scratch,
    smoke_subject,
    speed,
)
from release_tool.stages.install_trial import Candidate
from release_tool.stages.smoke import Judge, Surroundings
from release_tool.values import Host, ReleaseArchive
from tests import signed_release, smoke_parts

pytest.importorskip("mlx_lm", reason="the extra `smoke` is not installed")

LINUX = Host(system="linux", release="6", machine="x86_64")
MAC = Host(system="macos", release="15.1", machine="arm64", chip="Apple M4", memory_bytes=1)
APP = "Darkbloom.app/Contents/MacOS"


class Heard(Silent):
    """Keeps the notes of a stage."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True)
class World:
    """An archive in its workspace, and the model."""

    workspace: Workspace
    archive: ReleaseArchive
    model: Path


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays behind can be told from what other processes of this host leave."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make(tmp_path_factory.mktemp("models") / "tiny")


def pack(executable: bytes, folder: Path, model: Path, *, enclave: bytes = b"#!/bin/sh\n") -> World:
    """An archive with the given executables, recorded as the archive stage would."""
    bundle = folder / "bundle"
    (bundle / APP).mkdir(parents=True)
    for name, content in (("darkbloom", executable), ("darkbloom-enclave", enclave)):
        (bundle / APP / name).write_bytes(content)
        (bundle / APP / name).chmod(0o755)
    workspace = Workspace(folder / "dist")
    workspace.root.mkdir()
    packed = archive_writer.pack(
        bundle, workspace.path("a.tar.gz"), date=1, copies={"bin/darkbloom": f"{APP}/darkbloom"}
    )
    archive = ReleaseArchive(
        path="a.tar.gz",
        sha256=packed.sha256,
        size=packed.size,
        tar_sha256=packed.tar_sha256,
        binary_sha256=hashlib.sha256(executable).hexdigest(),
        enclave_sha256="0" * 64,
        metallib_sha256="0" * 64,
        cdhash="0" * 40,
        code_directory_sha256="0" * 64,
        source_commit="unknown",
        test_outcome="failed",
        members=(),
    )
    return World(workspace, archive, model)


@pytest.fixture
def world(tmp_path: Path, model: Path) -> World:
    return pack(samples.executable("darkbloom", "0.5.0"), tmp_path, model)


@pytest.fixture
def plan(plan: ReleasePlan) -> ReleasePlan:
    asked = {
        "prompts": ("What is the capital of France?", "And of Italy?"),
        "max_tokens": 6,
        "long_tokens": 24,
        # Measured or not is what these tell: no time is asserted.
        "thresholds": ("ttft:max<=9999s", "ttft_ratio:max<=99999"),
    }
    return plan.model_copy(update={"smoke": plan.smoke.model_copy(update=asked)})


def of_prod(plan: ReleasePlan) -> ReleasePlan:
    changes = {"name": "prod", "provider": "bundle", "trust": "apple", "embedded": False}
    return plan.model_copy(update={"environment": plan.environment.model_copy(update=changes)})


def leftovers() -> list[Path]:
    return list(Path(tempfile.gettempdir()).iterdir())


def here(host: Host = LINUX, *, judge: Judge | None = None) -> Surroundings:
    """This machine, without the home of who runs the tests."""
    home = Path(tempfile.gettempdir()).parent / "user"
    return Surroundings(host=host, judge=judge, system_unpack=None, users_home=home)


def test_a_stand_in_proves_the_wiring(plan: ReleasePlan, world: World) -> None:
    """From the archive to evidence: answers agree, the sample's version is told, nothing stays."""
    heard = Heard()
    found = smoke.run(
        plan,
        world.archive,
        workspace=world.workspace,
        reporter=heard,
        stand_in=smoke_parts.stand_in(),
        model=world.model,
        needs=smoke_parts.nothing_needed,
        surroundings=here(),
    )
    assert (found.kind, found.version, found.version_ran) == ("stand-in", "0.5.0", False)
    assert found.archive_sha256 == world.archive.sha256
    assert found.test_outcome == "failed"
    assert found.executable_sha256 == world.archive.binary_sha256
    assert found.ran_sha256 != found.executable_sha256
    assert (found.model, found.model_sha256) == ("tiny", hub_cache.digest(world.model))
    assert (found.host, found.macos_verdicts) == (LINUX, {})
    assert [prompt.prompt for prompt in found.prompts] == list(plan.smoke.prompts)
    assert found.prompts[0].text != found.prompts[1].text
    for prompt, count in ((found.prompts[0], 6), (found.prompts[1], 6), (found.long, 24)):
        assert prompt.agrees
        assert len(prompt.text) == prompt.completion_tokens == count
        assert prompt.agreed_tokens == prompt.reference_tokens == count
        assert prompt.reason == "stop"  # May says so of what was cut, too
        assert prompt.first_token_seconds > 0
        assert prompt.decode_tokens_per_second > 0
        assert prompt.reference_decode_tokens_per_second > 0
    assert found.long.prompt == plan.smoke.long_prompt
    assert [one.at_once for one in found.rounds] == [len(one.answers) for one in found.rounds]
    assert [one.at_once for one in found.rounds] == list(plan.smoke.concurrency)
    assert all(answer.completion_tokens == 6 for one in found.rounds for answer in one.answers)
    assert [len(one.reference) for one in found.rounds] == list(plan.smoke.concurrency)
    assert [one.completion_tokens for one in found.rounds[-1].reference] == [6] * 4
    assert found.figures == speed.of(found.prompts, found.rounds)
    assert {one.at_once for one in found.figures} == {1, *plan.smoke.concurrency}
    assert [(one.name, one.outcome) for one in found.thresholds] == [
        (text, "passed") for text in plan.smoke.thresholds
    ]
    assert found.reference.startswith("mlx-lm ")
    assert (found.contract, found.agreement) == ("2026-05", "exact")
    # How an answer ended is nothing that a provider of May tells.
    told = [check for check in found.checks if not check.name.startswith("end of ")]
    assert {check.outcome for check in told} == {"passed"}
    passed = {(check.name, check.subject) for check in told} | {
        (check.name, None) for check in told
    }
    assert passed >= {tuple(one) for one in smoke_asked.of(plan)}
    assert "tokens/s" in heard.notes[0]
    assert heard.notes[1] == smoke.WIRING_ONLY
    for path, digest in found.outputs().items():
        assert hashing.sha256_of(world.workspace.path(path)) == digest
    lines = world.workspace.path(found.transcript).read_text().splitlines()
    kinds = [json.loads(line)["asked"] for line in lines]
    assert kinds[:2] == ["prompt, plain", "prompt, streamed"]
    assert kinds.count("4 at once") == 4
    assert "cancelled stream" in kinds
    log = world.workspace.path(found.log).read_text()
    assert "no Darkbloom code runs here" in log
    assert '"POST /v1/chat/completions HTTP/1.1" 413' in log
    assert leftovers() == []


def test_a_divergence_is_told_with_both_continuations(plan: ReleasePlan, world: World) -> None:
    """Exit 6: which token of which prompt, what the reference says from there, and what came."""
    with pytest.raises(errors.VerificationError, match="what users need") as caught:
        smoke.run(
            plan,
            world.archive,
            workspace=world.workspace,
            reporter=Silent(),
            stand_in=smoke_parts.stand_in("--fault", "diverge-late"),
            model=world.model,
            needs=smoke_parts.nothing_needed,
            surroundings=here(),
        )
    assert caught.value.exit_code == 6
    first = next(line for line in caught.value.details if line.startswith("text of What"))
    found = re.search(r'expected token 5 of 6 "(..)", observed "!(..)" after "(....)"', first)
    assert found, first
    assert found[1] == found[2]
    assert leftovers() == []


def run_stand_in(plan: ReleasePlan, world: World) -> None:
    smoke.run(
        plan,
        world.archive,
        workspace=world.workspace,
        reporter=Silent(),
        stand_in=smoke_parts.stand_in(),
        model=world.model,
        needs=smoke_parts.nothing_needed,
        surroundings=here(),
    )


def of_a_signed_release(folder: Path, model: Path, changes: Mapping[str, bytes]) -> World:
    """A whole release, signed by the look-alike, some files changed, packed and recorded."""
    made = signed_release.made()
    root = made.write(folder / "root")
    for path, content in changes.items():
        (root / path).write_bytes(content)
    packed = archive_writer.pack(root, folder / "a.tar.gz", date=1)
    digests = {member.path: member.sha256 for member in packed.members}
    recorded = pack(b"", folder, model).archive.model_copy(
        update={
            "sha256": packed.sha256,
            "binary_sha256": digests["bin/darkbloom"],
            "metallib_sha256": digests["bin/mlx.metallib"],
        }
    )
    return World(Workspace(folder), recorded, model)


def test_what_the_bundle_needs_is_named_in_the_evidence(
    plan: ReleasePlan, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each static check of the unpacked release stands in the record, all of them passed."""
    monkeypatch.setattr(install_kills, "KILLS", 1)
    heard = Heard()
    world = of_a_signed_release(tmp_path, model, {})
    found = smoke.run(
        plan,
        world.archive,
        workspace=world.workspace,
        reporter=heard,
        stand_in=smoke_parts.stand_in(),
        model=model,
        surroundings=here(),
        install=install_smoke.judge,
    )
    # A kill by the clock may come too late, and no release was published before this one.
    unsure = ("after the download", "over the release before")
    sure = [one for one in found.install if not any(word in one.name for word in unsure)]
    assert {check.outcome for check in (*found.needs, *sure)} == {"passed"}
    assert found.install[0].name == "installer, fresh"
    trials = len({one.name for one in found.install if one.outcome == "passed"})
    assert trials >= 14
    assert f"the installer passed {trials} trials" in heard.notes[-1]
    named = {check.name for check in found.needs}
    assert {"Metal functions", "Metal target", "linked library", "team of the code"} <= named
    assert {"flat copy", "resources", "minimum macOS of the code"} <= named


def test_the_signature_of_what_was_unpacked_is_recorded(
    plan: ReleasePlan, tmp_path: Path, model: Path
) -> None:
    """Its cdhash is read of the copy that runs; another one than was recorded is not run."""
    world = of_a_signed_release(tmp_path, model, {})
    made = signed_release.made()

    def read(
        plan: ReleasePlan, archive: ReleaseArchive, root: Path, unpacked: Unpacked
    ) -> public_copy.Judged:
        judged = public_copy.with_facts(made.trust, lambda: made.now)(plan, archive, root, unpacked)
        return public_copy.Judged((), judged.facts)

    (tmp_path / "scratch").mkdir()
    copy = final_copy.unpack(
        plan,
        world.archive,
        world.workspace.path(world.archive.path),
        tmp_path / "scratch",
        reporter=Silent(),
        read=read,
        system_unpack=None,
    )
    assert copy.facts
    assert copy.facts.main
    own = copy.facts.main.cdhash

    def find(cdhash: str) -> smoke_subject.Subject:
        archive = world.archive.model_copy(update={"cdhash": cdhash})
        return smoke_subject.find(
            plan, archive, copy, smoke_parts.stand_in(), world.model, tmp_path
        )

    assert find(own).cdhash == own
    with pytest.raises(errors.VerificationError, match="signature is not the one") as caught:
        find("0" * 40)
    assert (caught.value.expected, caught.value.observed) == ("0" * 40, own)


def test_a_bundle_that_lacks_what_it_needs_is_not_run(
    plan: ReleasePlan, tmp_path: Path, model: Path
) -> None:
    """A Metal library for a newer macOS in the archive: refused by name, nothing was started."""
    other = metal_functions.library({"gemv": b"x"}, minimum="26.2")
    changes = {f"{APP}/mlx.metallib": other, "bin/mlx.metallib": other}
    world = of_a_signed_release(tmp_path, model, changes)
    with pytest.raises(errors.VerificationError, match="lacks what it needs") as caught:
        smoke.run(
            plan,
            world.archive,
            workspace=world.workspace,
            reporter=Silent(),
            stand_in=ProviderCommand(argv=("/nowhere/at/all",), kind="stand-in"),
            model=model,
            surroundings=here(),
        )
    assert caught.value.exit_code == 6
    assert list(caught.value.details)[:-1] == [
        "Metal target of Darkbloom.app/Contents/MacOS/mlx.metallib: expected at most 14.0, "
        "observed 26.2"
    ]
    assert leftovers() == []


def test_an_installer_that_fails_its_trial_stops_the_release(
    plan: ReleasePlan, tmp_path: Path, model: Path
) -> None:
    """What users would run with this archive is named, with what it did."""
    world = of_a_signed_release(tmp_path, model, {})

    def fails(candidate: Candidate) -> list[Check]:
        assert candidate.file == world.workspace.path("a.tar.gz")
        assert (candidate.unpacked / APP / "darkbloom").is_file()
        return [checks.failed("installer, fresh", subject="bin/", expected="links", observed="no")]

    with pytest.raises(errors.VerificationError, match="the installer does not do") as caught:
        smoke.run(
            plan,
            world.archive,
            workspace=world.workspace,
            reporter=Silent(),
            stand_in=smoke_parts.stand_in(),
            model=model,
            surroundings=here(),
            install=fails,
        )
    assert "installer, fresh of bin/" in caught.value.details[0]


def test_another_version_is_refused(plan: ReleasePlan, tmp_path: Path, model: Path) -> None:
    """An executable of another version than the plan's does not get as far as answering."""
    world = pack(samples.executable("darkbloom", "0.4.9"), tmp_path, model)
    with pytest.raises(errors.VerificationError, match="another version") as caught:
        run_stand_in(plan, world)
    assert "expected 0.5.0, observed 0.4.9" in caught.value.details[0]


def test_another_archive_is_refused(plan: ReleasePlan, world: World) -> None:
    """An archive that is not the recorded one is not run."""
    other = world.archive.model_copy(update={"sha256": "1" * 64})
    with pytest.raises(errors.VerificationError, match="not the archive"):
        run_stand_in(plan, World(world.workspace, other, world.model))


def test_another_executable_is_refused(plan: ReleasePlan, world: World) -> None:
    """An app whose executable is not the flat copy's is not run."""
    other = world.archive.model_copy(update={"binary_sha256": "1" * 64})
    with pytest.raises(errors.VerificationError, match="not the one that was recorded"):
        run_stand_in(plan, World(world.workspace, other, world.model))


@pytest.mark.parametrize(
    "host", [LINUX, Host(system="macos", release="14.0", machine="x86_64")], ids=str
)
def test_prod_needs_apple_silicon(host: Host, plan: ReleasePlan, world: World) -> None:
    """Elsewhere the stage ends with exit 3 and the next step."""
    with pytest.raises(errors.HostError) as caught:
        smoke.run(
            of_prod(plan),
            world.archive,
            workspace=world.workspace,
            reporter=Silent(),
            model=world.model,
            needs=smoke_parts.nothing_needed,
            surroundings=here(host),
        )
    assert caught.value.exit_code == 3
    assert "Apple Silicon" in caught.value.hint


def test_prod_accepts_no_stand_in(plan: ReleasePlan, world: World) -> None:
    """A stand-in is refused where the bundle itself is wanted, and rehearsal wants one."""
    with pytest.raises(errors.UsageError, match="no stand-in"):
        run_stand_in(of_prod(plan), world)
    with pytest.raises(errors.UsageError, match="none is given"):
        smoke.run(
            plan, world.archive, workspace=world.workspace, reporter=Silent(), surroundings=here()
        )


def script_of_the_bundle(version: str) -> bytes:
    """A main executable that this host can run: it answers as a provider with a hub's cache."""
    code = f"""#!{sys.executable}
import json, os, shutil, sys
from pathlib import Path
sys.path.insert(0, {str(smoke_parts.CHECKOUT)!r})
from release_tool.rehearsal import standin
if sys.argv[1] == "--version":
    print("darkbloom {version}")
    sys.exit()
assert sys.argv[1:3] == ["start", "--local"]
name = sys.argv[sys.argv.index("--model") + 1]
assert name == "org/tiny", name
entry = Path.home() / ".cache/huggingface/hub/models--org--tiny"
commit = (entry / "refs" / "main").read_text()
# It takes folders alone, and a link to one is none.
(found,) = [one for one in os.scandir(entry / "snapshots") if one.is_dir(follow_symlinks=False)]
assert found.name == commit
loaded = shutil.copytree(found.path, Path.home() / "tiny")
words = sys.argv[1:-1] + [str(loaded)]
standin.version_of = lambda _: {version!r}
sys.exit(standin.main(words, os.environ))
"""
    return code.encode()


def test_the_bundles_own_executable_is_what_runs(
    plan: ReleasePlan, tmp_path: Path, model: Path
) -> None:
    """In prod the unpacked app's executable itself answers, with a model of the hub's cache."""
    world = pack(script_of_the_bundle("0.5.0"), tmp_path, model)
    hub_cache.show(model, model="org/tiny", digest=hub_cache.digest(model), home=tmp_path / "user")
    digest = hub_cache.digest(model)
    pinned = {"model": "org/tiny", "model_revision": digest[:40], "model_sha256": digest}
    asked = plan.smoke.model_copy(update=pinned)
    seen: list[tuple[Path, bool]] = []

    def judge(app: Path) -> Mapping[str, str]:
        seen.append((app, (app / "Contents" / "MacOS" / "darkbloom").is_file()))
        return {"codesign": "accepted"}

    found = smoke.run(
        of_prod(plan).model_copy(update={"smoke": asked}),
        world.archive,
        workspace=world.workspace,
        reporter=Silent(),
        needs=smoke_parts.nothing_needed,
        surroundings=here(MAC, judge=judge),
    )
    assert (found.kind, found.version_ran, found.version) == ("bundle", True, "0.5.0")
    assert found.ran == f"{APP}/darkbloom"
    assert found.ran_sha256 == found.executable_sha256 == world.archive.binary_sha256
    assert (found.model, found.macos_verdicts) == ("org/tiny", {"codesign": "accepted"})
    ((app, there),) = seen
    assert there
    assert world.workspace.root not in app.parents


@pytest.mark.parametrize(
    ("enclave", "told"),
    [
        (b"#!/bin/sh\nkill -KILL $$\n", "ended at --version.*killed by SIGKILL.*AMFI"),
        (b"#!/bin/sh\nsleep 600 >/dev/null 2>&1 &\n", "--version leaves processes behind.*sleep"),
        (b"#!/nothing\n", "cannot be started"),
        (b"#!/bin/sh\nsleep 600\n", "--version did not end within 1 s"),
    ],
)
def test_a_helper_that_does_not_start_stops_the_release(
    enclave: bytes,
    told: str,
    plan: ReleasePlan,
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every executable of a real release is started once; a helper's death is read as AMFI's."""
    world = pack(script_of_the_bundle("0.5.0"), tmp_path, model, enclave=enclave)
    monkeypatch.setattr(provider_start, "VERSION_SECONDS", 1.0 if b"600\n" in enclave else 60.0)
    with pytest.raises(errors.VerificationError) as caught:
        smoke.run(
            of_prod(plan),
            world.archive,
            workspace=world.workspace,
            reporter=Silent(),
            model=model,
            needs=smoke_parts.nothing_needed,
            surroundings=here(MAC, judge=lambda _: {}),
        )
    lines = " ".join(line.strip() for line in caught.value.lines())
    assert "darkbloom-enclave" in lines
    assert re.search(told, lines), lines
    assert leftovers() == []


def test_an_app_that_macos_refuses_is_not_run(plan: ReleasePlan, world: World) -> None:
    """Every tool's refusal is told at once; a look-alike's verdicts are only kept."""

    def refuse(path: Path) -> str:
        raise errors.VerificationError("no", subject=str(path), details=["rejected", "source=x"])

    asked = {"codesign": refuse, "spctl": refuse, "stapler": lambda _: "worked"}
    app = Path("Darkbloom.app")
    with pytest.raises(errors.VerificationError, match="macOS refuses") as caught:
        mac_verdicts.ask_all(app, asked, must_hold=True)
    assert [line.split()[0] for line in caught.value.details] == ["codesign", "spctl"]
    kept = mac_verdicts.ask_all(app, asked, must_hold=False)
    assert kept == {
        "codesign": "refused: rejected; source=x",
        "spctl": "refused: rejected; source=x",
        "stapler": "worked",
    }


def test_a_tool_without_a_verdict_stops_only_what_must_hold() -> None:
    """A Mac whose Gatekeeper is off says nothing: fatal for a release, kept for a look-alike."""

    def silent(path: Path) -> str:
        raise errors.HostError("Gatekeeper is switched off", subject=str(path))

    app = Path("Darkbloom.app")
    with pytest.raises(errors.HostError):
        mac_verdicts.ask_all(app, {"spctl": silent}, must_hold=True)
    kept = mac_verdicts.ask_all(app, {"spctl": silent}, must_hold=False)
    assert kept == {"spctl": "not told: Gatekeeper is switched off"}


@pytest.mark.skipif(sys.platform == "darwin", reason="this host can ask Gatekeeper")
def test_gatekeeper_is_asked_on_a_mac_only(tmp_path: Path) -> None:
    """Elsewhere the question is exit 3."""
    for ask in (gatekeeper.assess, gatekeeper.validate_ticket):
        with pytest.raises(errors.HostError):
            ask(tmp_path)


def test_the_working_folder_is_no_place_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python takes it where all others are full: an app that only runs beside its build would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        pytest.raises(errors.HostError, match="no such place has room") as caught,
        smoke_scratch.folder(),
    ):
        pytest.fail("it was taken")
    assert str(tmp_path) in caught.value.observed
    assert "TMPDIR" in caught.value.hint
    assert not list(tmp_path.glob("release-tool-*"))


def test_scratch_of_killed_runs_goes(plan: ReleasePlan, world: World) -> None:
    """What a killed run left is removed by the next one; what a living one uses stays."""
    parent = Path(tempfile.gettempdir())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    old = parent / f"release-tool-smoke-{ended.pid}-x"
    fresh = parent / f"release-tool-smoke-{os.getpid()}-x"
    for folder in (old, fresh):
        folder.mkdir()
        (folder / "file").touch()
    other = world.archive.model_copy(update={"sha256": "1" * 64})
    with pytest.raises(errors.VerificationError):
        run_stand_in(plan, World(world.workspace, other, world.model))
    assert leftovers() == [fresh]


def test_the_stage_reads_parts_of_the_plan(plan: ReleasePlan) -> None:
    """Each part that decides whether the record counts exists, and the prompts are among them."""
    other = plan.smoke.model_copy(update={"max_tokens": 7})
    changed = plan.model_copy(update={"smoke": other})
    assert plan.part_digest(smoke.READS) != changed.part_digest(smoke.READS)
