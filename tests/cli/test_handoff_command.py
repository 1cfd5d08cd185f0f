"""`handoff` as jobs call it: a release goes from machine to machine, each with its own settings."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from release_tool.cli import embedded, main
from release_tool.cli.session import Session
from release_tool.handoff import unpacking
from release_tool.ledger import Ledger
from release_tool.rehearsal import counts, environment, places, samples, tiny_model
from release_tool.rehearsal.environment import Environment
from release_tool.settings import Settings
from release_tool.stages import install_kills
from tests import git_trees

ADDRESSES = {
    *("R2_ENDPOINT", "R2_PUBLIC_URL", "R2_BUCKET", "COORDINATOR_URL"),
    *("TIMESTAMP_URL", "NOTARY_URL", "NOTARY_UPLOAD_URL", "TICKET_URL"),
}
STORE = {"R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"}
JOBS = {
    "sign": {
        *("APPLE_CERTIFICATE_P12", "APPLE_CERTIFICATE_PASSWORD", "PROVISIONING_PROFILE_BASE64")
    },
    "notarize": {"APPLE_API_KEY_P8", "APPLE_API_KEY_ID", "APPLE_API_ISSUER_ID"},
    "smoke": set[str](),
    "register": {*STORE, "RELEASE_KEY", "PROVENANCE_KEY"},
    "promote": {*STORE, "PROVENANCE_KEY"},
}
VERSION = "0.5.0"


class Machines:
    """Folders that share nothing but the look-alikes' addresses and what is handed over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = embedded.state_folder(folder / "first", "rehearsal")
        # A plan names the commit of the working folder: this checkout may get another meanwhile.
        self.checkout = git_trees.checkout(folder / "checkout")
        (folder / "lib.metallib").write_bytes(samples.metallib())
        tiny_model.make(folder / "model")
        environment.start(
            self.state,
            team_id="SLDQ2GJ6TL",
            bundle_id="io.darkbloom.provider",
            cache_seconds=0.1,
            processing_seconds=0.1,
            ticket_seconds=0.1,
        )

    def dist(self, job: str) -> Path:
        """The folder of one job's machine."""
        dist = self.folder / job / "dist"
        link = dist / "rehearsal" / "environment"
        if not link.exists():
            link.parent.mkdir(parents=True)
            link.symlink_to(self.state)
        return dist

    def call(
        self, job: str, *argv: str, environ: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        words = [*argv, "--env", "rehearsal", "--version", VERSION, "--dist", str(self.dist(job))]
        with contextlib.chdir(self.checkout):
            code = main.invoke(words, Session(dict(environ or {}), out=out, err=err))
        return code, out.getvalue(), err.getvalue()

    def run(self, job: str, *argv: str) -> None:
        model = ("--model", str(self.folder / "model"))
        code, _, err = self.call(job, "run", *argv, *model)
        assert code == 0, err

    def workspace(self, job: str) -> Path:
        return self.dist(job) / "rehearsal" / VERSION

    def hand_over(self, giver: str, taker: str) -> None:
        """As the workflow does: the archive as an artifact, the head as an output of the job."""
        output = self.folder / giver / "output"
        archive = self.folder / giver / "handoff.tar.gz"
        environ = {"GITHUB_OUTPUT": str(output)}
        code, _, err = self.call(
            giver, "handoff", "pack", str(archive), "--github-output", environ=environ
        )
        assert code == 0, err
        name, _, head = output.read_text().strip().partition("=")
        assert name == "head"
        model = ("--model", str(self.folder / "model"))
        code, out, err = self.call(
            taker, "handoff", "unpack", str(archive), "--expect", head, *model
        )
        assert code == 0, err
        assert "created from" in out


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    made = Machines(tmp_path_factory.mktemp("machines"))
    yield made
    living = environment.attach(made.state)
    if living is not None:
        living.stop()


def give(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job gets its own secrets and every address, as release.yml gives them."""
    whole = embedded._settings

    def own(living: Environment) -> Settings:
        found = whole(living).values
        wanted = ADDRESSES | JOBS[job]
        return Settings(values={name: found[name] for name in wanted})

    monkeypatch.setattr(embedded, "_settings", own)


def test_each_job_runs_on_a_machine_of_its_own(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five machines, five sets of secrets, one chain of records, one registered release."""
    steps = (
        ("sign", ("--until", "sign", "--metallib", str(machines.folder / "lib.metallib"))),
        ("notarize", ("--until", "archive")),
        ("smoke", ("--only", "smoke")),
        ("register", ("--until", "register", "--yes")),
        ("promote", ("--until", "promote", "--yes")),
    )
    # The installer has tests of its own.
    monkeypatch.setattr(install_kills, "KILLS", 1)
    before = ""
    for job, argv in steps:
        with monkeypatch.context() as patched:
            give(job, patched)
            if before:
                machines.hand_over(before, job)
            machines.run(job, *argv)
        before = job
    found = counts.read(machines.state)
    assert [row.version for row in found.registrations] == [VERSION]
    archive = found.objects[f"releases/v{VERSION}/darkbloom-bundle-macos-arm64.tar.gz"]
    assert found.registrations[0].bundle_hash == archive
    records = Ledger(machines.workspace("promote") / "ledger").records
    assert [one.stage for one in records if one.kind == "record"] == [
        *("profile", "assemble", "sign", "notarize", "staple"),
        *("archive", "smoke", "publish", "register", "promote"),
    ]
    assert not list(machines.folder.glob("*/dist/rehearsal/*/.notary"))


@pytest.fixture
def signed(machines: Machines) -> Machines:
    """A machine that has signed."""
    machines.run("sign", "--until", "sign", "--metallib", str(machines.folder / "lib.metallib"))
    return machines


def test_what_it_says(signed: Machines, tmp_path: Path) -> None:
    """The transcript of both sides: what of which release, how much, and the head, whole."""
    archive = tmp_path / "handoff.tar.gz"
    head = Ledger(signed.workspace("sign") / "ledger").head
    code, out, _ = signed.call("sign", "handoff", "pack", str(archive))
    assert code == 0
    first, second = out.splitlines()
    assert first.startswith(
        f"{archive}: Darkbloom {VERSION} · rehearsal, 3 records, 12 artifacts, "
    )
    assert second == f"  head {head}"
    assert signed.call("sign", "handoff", "head") == (0, f"{head}\n", "")
    code, out, err = signed.call("told", "handoff", "unpack", str(archive), "--expect", head)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{signed.workspace('told')}: created from {archive}, 3 records, 12 artifacts,"
        " each as recorded",
        f"  head {head}",
    ]


def test_one_document_for_programs(signed: Machines, tmp_path: Path) -> None:
    """`--json` on both sides and of the head, with whole digests."""
    archive = tmp_path / "handoff.tar.gz"
    packed = json.loads(signed.call("sign", "handoff", "pack", str(archive), "--json")[1])
    assert packed["ok"]
    assert packed["size"] == archive.stat().st_size
    assert json.loads(signed.call("sign", "handoff", "head", "--json")[1])["head"] == packed["head"]
    again = ("handoff", "unpack", str(archive), "--expect", packed["head"], "--json")
    for outcome in ("created", "kept"):
        code, out, err = signed.call("json", *again)
        assert code == 0, err
        document = json.loads(out)
        assert document["outcome"] == outcome
        assert document["source_commit"] == packed["source_commit"]
        assert document["head"] == packed["head"]
        assert (document["records"], document["left_out"]) == (3, 0)


def test_a_run_finishes_what_a_killed_unpack_had_decided(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it judges any record: nothing is signed again, and nothing of it is left to do."""
    metallib = ("--metallib", str(machines.folder / "lib.metallib"))
    heads = []
    for stage in ("profile", "sign"):
        machines.run("early", "--until", stage, *metallib)
        argv = ("handoff", "pack", str(tmp_path / stage), "--json")
        heads.append(json.loads(machines.call("early", *argv)[1])["head"])
    unpack = ("handoff", "unpack", str(tmp_path / "profile"), "--expect", heads[0])
    assert machines.call("late", *unpack)[0] == 0
    with monkeypatch.context() as patched:
        patched.setattr(unpacking, "settle", lambda _: False)
        unpack = ("handoff", "unpack", str(tmp_path / "sign"), "--expect", heads[1])
        assert machines.call("late", *unpack)[0] == 0
    workspace = machines.workspace("late")
    assert (workspace / ".handoff").is_dir()
    assert len(Ledger(workspace / "ledger").records) == 1
    machines.run("late", "--until", "sign", *metallib)
    assert Ledger(workspace / "ledger").head == heads[1]
    assert not (workspace / ".handoff").exists()


def test_the_last_attempt_is_taken_where_one_broke_off(signed: Machines, tmp_path: Path) -> None:
    """By its number and not by its name; without any, and where no folder is, it is FILE."""
    archive, attempts = tmp_path / "handoff.tar.gz", tmp_path / "attempts"
    head = Ledger(signed.workspace("sign") / "ledger").head
    assert signed.call("sign", "handoff", "pack", str(archive))[0] == 0
    unpack = ("handoff", "unpack", str(archive), "--expect", head, "--attempts", str(attempts))
    assert f"from {archive}" in signed.call("attempts", *unpack)[1]
    attempts.mkdir()
    assert f"from {archive}" in signed.call("attempts", *unpack)[1]
    for name in ("attempt-9.tar.gz", "attempt-10.tar.gz", "attempt-x.tar.gz", "other"):
        (attempts / name).write_bytes(archive.read_bytes())
    (attempts / "attempt-11.tar.gz").mkdir()
    code, out, err = signed.call("attempts", *unpack)
    assert code == 0, err
    assert f"from {attempts / 'attempt-10.tar.gz'}" in out


def test_another_head_is_exit_6(signed: Machines, tmp_path: Path) -> None:
    """Both heads, one next step, and no workspace; an empty output of a job is exit 2."""
    archive = tmp_path / "handoff.tar.gz"
    assert signed.call("sign", "handoff", "pack", str(archive))[0] == 0
    unpack = ("handoff", "unpack", str(archive), "--expect")
    code, _, err = signed.call("other", *unpack, "ab" * 32)
    assert code == 6
    assert "another ledger than was expected" in err
    assert "expected  abababababab" in err
    for head in ("", "latest"):
        code, _, err = signed.call("other", *unpack, head)
        assert code == 2
        assert "check that it is declared there" in err
    assert not signed.workspace("other").exists()


def test_a_job_without_outputs_is_told_before_any_work(signed: Machines, tmp_path: Path) -> None:
    """`--github-output` outside of a job: exit 2, nothing is packed."""
    archive = tmp_path / "handoff.tar.gz"
    for argv in (("pack", str(archive)), ("head",)):
        code, _, err = signed.call("sign", "handoff", *argv, "--github-output")
        assert code == 2
        assert "GITHUB_OUTPUT is not set" in err
    assert not archive.exists()


def test_nothing_recorded_is_nothing_to_hand_over(machines: Machines, tmp_path: Path) -> None:
    """Exit 2 and how to begin."""
    for argv in (("pack", str(tmp_path / "x")), ("head",)):
        code, _, err = machines.call("idle", "handoff", *argv)
        assert code == 2
        assert "begin the release: release-tool run" in err


def test_what_is_no_archive_is_named(machines: Machines, tmp_path: Path) -> None:
    """Exit 6 with the file, and where to get it again."""
    file = tmp_path / "not-a-handoff.tar.gz"
    file.write_text("a page of a proxy")
    code, _, err = machines.call("idle", "handoff", "unpack", str(file), "--expect", "0" * 64)
    assert code == 6
    assert str(file) in err
    assert "get it again from the job that packed it" in err


def test_a_file_that_is_no_handoff_is_told_before_anything_else_is_asked(
    tmp_path: Path,
) -> None:
    """Nobody wants to name an environment and a version for a README."""
    file = tmp_path / "README.md"
    file.write_text("# a page")
    out, err = io.StringIO(), io.StringIO()
    argv = ["handoff", "earlier", str(file)]
    assert main.invoke(argv, Session({}, out=out, err=err)) == 6
    assert f"{file}: is not an intact gzip file" in err.getvalue()
    assert "--env" not in err.getvalue()


def test_no_secret_travels(signed: Machines, tmp_path: Path) -> None:
    """No key, password or token of the environment is in the archive."""
    archive = tmp_path / "handoff.tar.gz"
    assert signed.call("sign", "handoff", "pack", str(archive))[0] == 0
    whole = gzip.decompress(archive.read_bytes())
    for name in places.SECRETS:
        secret = places.secret(signed.state, name).read_bytes().strip()
        assert secret
        assert secret not in whole, name


def test_help_shows_how() -> None:
    """Each command has an example that can be copied."""
    for argv, example in (
        ((), "release-tool handoff pack --env dev --version 0.5.0"),
        (("pack",), "release-tool handoff pack --github-output"),
        (("unpack",), 'release-tool handoff unpack dist/handoff.tar.gz --expect "$HEAD"'),
        (("head",), "head=$(release-tool handoff head --env dev --version 0.5.0)"),
    ):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert main.invoke(["handoff", *argv, "--help"], Session({}, out=out)) == 0
        assert example in out.getvalue()
