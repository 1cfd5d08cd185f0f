"""`run` as people and jobs call it: what it refuses before any work, and how it goes on."""

from __future__ import annotations

import fcntl
import io
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from click.testing import CliRunner

from release_tool import config, data, errors, ledger
from release_tool.cli import carry, embedded, main
from release_tool.cli.session import Session
from release_tool.plan import ReleasePlan
from release_tool.rehearsal import counts, environment, faults, places, samples, tiny_model
from release_tool.services import covering
from release_tool.stages import assemble


def invoke(*argv: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main.invoke(list(argv), Session(dict(environ or {}), out=out, err=err))
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a small Metal library, a tiny model, binaries and a dist."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "lib.metallib").write_bytes(samples.metallib())
    tiny_model.make(folder / "model")
    samples.materialize(folder / "binaries", "0.5.0")
    yield folder
    embedded.stop(folder / "dist", "rehearsal")


def rehearsal(parts: Path, *more: str) -> tuple[int, str, str]:
    return invoke(
        *("run", "--env", "rehearsal", "--dist", str(parts / "dist")),
        *("--metallib", str(parts / "lib.metallib"), "--model", str(parts / "model"), *more),
    )


def dev(parts: Path, *more: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    return invoke(
        *("run", "--env", "dev", "--version", "0.5.0", "--dist", str(parts / "dist")),
        *("--binaries", str(parts / "binaries"), *more),
        environ=environ,
    )


def test_a_real_environment_does_not_begin_what_it_cannot_finish(parts: Path) -> None:
    """Without a key for the notary: exit 4 with the steps to make one, before anything is done."""
    todays = {"APPLE_ID": "somebody@example.com", "APPLE_APP_PASSWORD": "abcd-efgh-ijkl-mnop"}
    on_a_mac = platform.system() == "Darwin"
    for environ in ({}, {} if on_a_mac else todays):
        code, _, err = dev(parts, "--until", "archive", environ=environ)
        assert code == 4
        assert "APPLE_API_KEY_P8 is not set: wanted for notarize" in err
        assert "Team Keys, role Developer" in err
        assert "abcd-efgh" not in err
    assert not list((parts / "dist" / "dev").glob("*/ledger/*.json"))


def test_missing_settings_are_named_at_once(parts: Path) -> None:
    """Only what the coming stages need, all of it, and exit 4."""
    code, _, err = dev(parts, "--until", "sign")
    assert code == 4
    assert "3 settings are missing" in err
    assert "R2_BUCKET" not in err


def test_a_wrong_profile_is_found_before_anything_is_done(parts: Path) -> None:
    """A look-alike's profile in dev is no Apple profile: the preflight says so."""
    assert rehearsal(parts, "--until", "profile")[0] == 0
    profile = embedded.state_folder(parts / "dist", "rehearsal") / "profile.provisionprofile"
    code, _, err = dev(parts, "--until", "profile", "--profile", str(profile))
    assert code == 6
    assert "preflight" in err
    assert "signature" in err
    assert not list((parts / "dist" / "dev").glob("*/ledger/*.json"))


def test_until_and_only_exclude_each_other(parts: Path) -> None:
    """Two ends at once are a usage error."""
    code, _, err = rehearsal(parts, "--until", "sign", "--only", "sign")
    assert code == 2
    assert "exclude each other" in err


def test_an_unknown_stage_is_named(parts: Path) -> None:
    """A mistyped stage names those that there are."""
    code, _, err = rehearsal(parts, "--until", "sing")
    assert code == 2
    assert "sign" in err


def test_a_run_stops_and_goes_on(parts: Path) -> None:
    """Up to a stage, then that stage's successor alone, then all kept, in one JSON document."""
    assert rehearsal(parts, "--until", "staple")[0] == 0
    code, out, _ = rehearsal(parts, "--only", "archive")
    assert code == 0
    assert "archive" in out
    code, out, _ = rehearsal(parts, "--until", "archive", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["verdict"] == "done up to archive"
    assert document["values"]["archive"]["members"]
    assert [row["outcome"] for row in document["stages"]][:3] == ["done"] * 3


def test_no_record_keeps_a_secret_of_the_release(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where a client has not covered it, and as an encoder spelled it that nobody knows."""
    assert rehearsal(parts, "--version", "0.5.18", "--until", "profile")[0] == 0
    state = parts / "dist" / "rehearsal" / "environment"
    key = places.secret(state, places.RELEASE_KEY).read_text().strip()
    spelled = "".join(f"&#{ord(mark)};" for mark in key)

    def echo(*_: object, **__: object) -> None:
        raise errors.RemoteRefusedError(f"refused {key} {spelled}", hint="mend it")

    monkeypatch.setattr(assemble, "run", echo)
    code, out, err = rehearsal(parts, "--version", "0.5.18", "--until", "assemble")
    assert code == 7
    kept = (state.parent / "0.5.18" / "ledger" / "0002-assemble.json").read_text()
    for text in (out, err, kept):
        assert "... ..." in text
        assert not covering.stands_in(text, key)


def test_a_run_that_does_not_wait_is_resumed(parts: Path) -> None:
    """`--no-wait` hands in and is exit 8, `status` says so, and the next run submits nothing."""
    state = embedded.state_folder(parts / "dist", "rehearsal")
    version = ("--version", "0.5.8", "--until", "staple")
    code, out, err = rehearsal(parts, *version, "--no-wait")
    assert code == 8
    assert "pending: the notary is still at work" in out
    assert "it goes on without us; run again to resume" in err
    assert "exit 8" in err
    made = len(counts.read(state).submissions)
    _, out, _ = invoke("status", str(parts / "dist" / "rehearsal" / "0.5.8"))
    assert "notarize is pending" in out
    code, out, err = rehearsal(parts, *version)
    assert code == 0, err
    assert "was handed in before, not again" in out
    assert "covers every slice" in out
    assert len(counts.read(state).submissions) == made


def test_what_keeps_the_team_from_notarizing_is_found_before_anything_is_done(
    parts: Path,
) -> None:
    """The preflight asks for the history: a missing agreement is exit 7, and nothing is signed."""
    assert rehearsal(parts, "--until", "profile")[0] == 0
    living = environment.attach(embedded.state_folder(parts / "dist", "rehearsal"))
    assert living is not None
    living.set_faults({faults.NOTARY_AGREEMENT: 1})
    code, _, err = rehearsal(parts, "--version", "0.5.7", "--until", "notarize")
    assert code == 7
    assert "preflight" in err
    assert "Account Holder" in err
    assert not list((parts / "dist" / "rehearsal" / "0.5.7").glob("ledger/*.json"))


def test_an_environment_may_leave_notarization_open(parts: Path, tmp_path: Path) -> None:
    """By a line in the release file and no other way; the archive then holds the signed app."""
    text = data.release_file().read_text(encoding="utf-8")
    changed = text.replace("notarization: required", "notarization: open", 1)
    assert changed != text
    (tmp_path / "release.yaml").write_text(changed, encoding="utf-8")
    config = ("--config", str(tmp_path / "release.yaml"))
    code, out, err = rehearsal(parts, "--version", "0.5.6", "--until", "archive", *config)
    assert code == 0, err
    assert "leaves notarization open" in out
    workspace = parts / "dist" / "rehearsal" / "0.5.6"
    assert (workspace / "signed").is_dir()
    assert not (workspace / "stapled").exists()


def test_a_stage_alone_needs_what_comes_before(parts: Path) -> None:
    """Publishing alone without evidence is refused: the smoke run cannot be skipped."""
    assert rehearsal(parts, "--until", "archive")[0] == 0
    code, _, err = rehearsal(parts, "--only", "publish")
    assert code == 2
    assert "smoke: not done yet" in err


def test_changed_binaries_do_not_sign_again(parts: Path, tmp_path: Path) -> None:
    """Other binaries under a signed version are refused, and the remedy is named."""
    assert rehearsal(parts, "--until", "sign")[0] == 0
    samples.materialize(tmp_path / "other", "0.5.0", "ab" * 20)
    code, _, err = rehearsal(parts, "--until", "sign", "--binaries", str(tmp_path / "other"))
    assert code == 2
    assert "binaries has changed since" in err
    assert "--resign" in err


def test_failed_tests_are_told_wherever_they_are_taken(parts: Path, tmp_path: Path) -> None:
    """An environment that takes them says so in its notes, its rows, its table and its records."""
    samples.materialize(tmp_path / "failed", "0.5.7")
    manifest = tmp_path / "failed" / "build.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"test_outcome": "failed"}))
    given = ("--version", "0.5.7", "--until", "archive", "--binaries", str(tmp_path / "failed"))
    code, out, _ = rehearsal(parts, *given)
    assert code == 0
    assert "the build's test outcome is failed" in out
    assert "  tests      failed, in the source of these binaries" in out
    code, out, _ = rehearsal(parts, *given, "--json")
    document = json.loads(out)
    (row,) = [row for row in document["stages"] if row["stage"] == "assemble"]
    assert row["text"].endswith("tests failed")
    assert "warning: the build's test outcome is failed" in row["notes"]
    assert document["values"]["archive"]["test_outcome"] == "failed"


def test_a_job_writes_its_summary_and_groups(parts: Path, tmp_path: Path) -> None:
    """Under GitHub Actions the stages are groups and the step summary holds the table."""
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    code, out, _ = invoke(
        *("run", "--env", "rehearsal", "--version", "0.5.9", "--dist", str(parts / "dist")),
        *("--metallib", str(parts / "lib.metallib"), "--model", str(parts / "model")),
        *("--until", "assemble"),
        environ=environ,
    )
    assert code == 0
    assert "::group::assemble" in out
    page = (tmp_path / "summary.md").read_text()
    left = parts / "dist" / "rehearsal" / "0.5.9"
    assert "assemble" in (left / "report.html").read_text()
    assert "assemble" in (left / "report.md").read_text()
    # A run's page shows the summaries of all jobs: each says of what it is.
    assert page.startswith("## Darkbloom 0.5.9 · rehearsal: done up to assemble\n")
    assert "| assemble | done |" in page


def test_a_missing_model_is_told_before_anything_runs(parts: Path) -> None:
    """The smoke run comes late; what it lacks is said at the start."""
    code, _, err = rehearsal(parts, "--version", "0.6.0", "--model", "/nonexistent")
    assert code != 0
    assert "preflight" in err
    assert "/nonexistent" in err
    assert not list((parts / "dist" / "rehearsal" / "0.6.0").glob("ledger/*.json"))


def test_a_rehearsal_that_somebody_is_at_is_not_forgotten(parts: Path) -> None:
    """Beginning anew waits for nobody and removes nothing while a run holds the release."""
    assert rehearsal(parts, "--until", "sign")[0] == 0
    folder = parts / "dist" / "rehearsal" / "0.5.0" / "ledger"
    with ledger.hold(folder):
        code, _, err = invoke("rehearse", "--fresh", "--dist", str(parts / "dist"))
    assert code == 5
    assert "another run holds this release" in err
    assert list(folder.glob("*-sign.json"))


@pytest.mark.timeout(240)
def test_the_second_of_two_runs_is_told_who_holds_the_release(parts: Path) -> None:
    """At once, with the process and since when; nothing is changed, and the first ends well."""
    first, workspace, command = _stopped_while_it_holds(parts)
    before = _content(workspace)
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert _content(workspace) == before
    first.send_signal(signal.SIGCONT)
    said, _ = first.communicate(timeout=100)
    assert second.returncode == errors.TransientError.exit_code
    assert "another run holds this release" in second.stderr
    assert f"observed  process {first.pid}, since 2" in second.stderr
    assert "wait for it to end, then run again" in second.stderr
    assert f"`kill -CONT {first.pid}`" in second.stderr
    assert first.returncode == 0, said
    assert len(list((workspace / "ledger").glob("*-assemble.json"))) == 1


def _stopped_while_it_holds(parts: Path) -> tuple[subprocess.Popen[str], Path, list[str]]:
    """A run stopped while it holds its release, the release's folder, and its command.

    On a busy machine a run may be over before this process is heard again; then the next version
    is tried.
    """
    for version in (f"0.5.{patch}" for patch in range(8, 18)):
        command = [sys.executable, "-m", "release_tool", "run", "--env", "rehearsal"]
        command += ["--version", version, "--until", "assemble", "--dist", str(parts / "dist")]
        command += ["--metallib", str(parts / "lib.metallib"), "--model", str(parts / "model")]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        workspace = parts / "dist" / "rehearsal" / version
        if _stop_once_it_holds(run, workspace / "ledger" / ".lock"):
            return run, workspace, command
        said, _ = run.communicate(timeout=100)
        assert run.returncode == 0, said
    pytest.fail("no run was seen holding its release")


def _stop_once_it_holds(process: subprocess.Popen[str], lock: Path) -> bool:
    """Stop it; again and again, since a run lets go between its preflight and its stages."""
    while not _is_held(lock):
        process.send_signal(signal.SIGCONT)
        time.sleep(0.005)
        process.send_signal(signal.SIGSTOP)
        # Not reaped here: who is over is left to its Popen.
        found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None
        if found.si_code != os.CLD_STOPPED:
            return False
    return True


def _is_held(lock: Path) -> bool:
    # Who holds it has said so: its name is written a moment after the lock is taken.
    if not lock.is_file() or not lock.read_text().strip():
        return False
    with lock.open("r") as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_failed_job_has_a_summary_too(parts: Path, tmp_path: Path) -> None:
    """The step summary is written after a failure, for whoever looks at the job's page."""
    assert rehearsal(parts, "--until", "sign")[0] == 0
    page = tmp_path / "summary.md"
    code, _, _ = invoke(
        *("run", "--env", "rehearsal", "--dist", str(parts / "dist"), "--only", "publish"),
        *("--metallib", str(parts / "lib.metallib"), "--model", str(parts / "model")),
        environ={"GITHUB_STEP_SUMMARY": str(page)},
    )
    assert code == 2
    assert "| sign | done |" in page.read_text()


@pytest.mark.parametrize("place", ["/dev/full", "."])
def test_a_summary_that_cannot_be_written_changes_no_outcome(parts: Path, place: str) -> None:
    """On a full disk, or where no file can be: a warning, and success and failure stay so."""
    if not Path(place).exists():
        pytest.skip("no full device on this host")
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": place}
    command = ["run", "--env", "rehearsal", "--dist", str(parts / "dist")]
    command += ["--metallib", str(parts / "lib.metallib"), "--model", str(parts / "model")]
    code, out, err = invoke(*command, "--until", "sign", environ=environ)
    assert code == 0, err
    assert "Done in" in out
    reason = "No space left on device" if place == "/dev/full" else "Is a directory"
    said = f"the summary of the job was not written: {place}: {reason}"
    assert f"release-tool: warning: {said}\n" in err
    assert f"::warning title=release-tool::{said}\n" in err
    code, _, err = invoke(*command, "--only", "publish", environ=environ)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert "exit 2 · ledger head" in err


def _of_a_real_environment(plan: ReleasePlan) -> config.Resolved:
    environment = plan.environment.model_copy(update={"embedded": False})
    found = SimpleNamespace(plan=plan.model_copy(update={"environment": environment}))
    return cast("config.Resolved", found)


@pytest.mark.parametrize(("typed", "registers"), [("{version}", True), ("yes", False)])
def test_a_person_confirms_the_registration_by_its_version(
    plan: ReleasePlan, typed: str, *, registers: bool
) -> None:
    """Nothing becomes latest by a key that slipped: the version is typed, or nothing is sent."""
    ask = carry._confirmation(carry.Options(), _of_a_real_environment(plan))
    with CliRunner().isolation(input=typed.format(version=plan.version) + "\n"):
        if registers:
            ask()
        else:
            with pytest.raises(errors.UsageError, match="not registered"):
                ask()


def test_a_job_says_beforehand_that_it_may_register(plan: ReleasePlan) -> None:
    """Without a terminal and without `--yes` a run that would register is not begun: exit 2."""
    resolved = _of_a_real_environment(plan)
    session = Session({}, out=io.StringIO(), err=io.StringIO())
    with pytest.raises(errors.UsageError, match="nobody is here to confirm"):
        carry._require_somebody(session, carry.Options(), resolved)
    carry._require_somebody(session, carry.Options(yes=True), resolved)


def test_only_codesign_takes_an_identity_of_a_keychain(plan: ReleasePlan) -> None:
    """The portable signer cannot reach into a keychain; a file beside it would be ambiguous."""
    resolved = SimpleNamespace(plan=plan)
    options = carry.Options(keychain=True)
    with pytest.raises(errors.UsageError, match="only codesign"):
        carry._require_keychain_route(options, resolved)  # type: ignore[arg-type]
    environment = plan.environment.model_copy(update={"signer": "codesign"})
    resolved = SimpleNamespace(plan=plan.model_copy(update={"environment": environment}))
    carry._require_keychain_route(options, resolved)  # type: ignore[arg-type]
    both = carry.Options(keychain=True, identity=Path("a.p12"))
    with pytest.raises(errors.UsageError, match="exclude"):
        carry._require_keychain_route(both, resolved)  # type: ignore[arg-type]
