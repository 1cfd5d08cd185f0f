"""Small workflows, run as GitHub would: what a job gets, and what it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import workflow_files as files
from workflow_files import WorkflowError
from workflow_runner import FAILURE, LOST, SKIPPED, SUCCESS, Kill, Run
from workflow_store import ArtifactError, Store

PIN = "@" + "ab" * 20
HEAD = """
name: small
on: {workflow_dispatch: {inputs: {}}}
permissions: {}
jobs:
"""
CHECKOUT = f"{{uses: actions/checkout{PIN}}}"
UPLOAD = f"actions/upload-artifact{PIN}"
DOWNLOAD = f"actions/download-artifact{PIN}"


class Small:
    """A repository with one action, and runners of one kind."""

    def __init__(self, folder: Path) -> None:
        self.stores: dict[str, Store] = {}
        self.repository = folder / "repository"
        action = self.repository / "act"
        action.mkdir(parents=True)
        (action / "action.yml").write_text(
            "name: act\ndescription: d\ninputs: {word: {default: none}}\n"
            "outputs: {said: {value: '${{ steps.say.outputs.said }}'}}\n"
            "runs:\n  using: composite\n  steps:\n"
            "    - {id: say, shell: bash, env: {WORD: '${{ inputs.word }}'},"
            ' run: \'echo "said=$WORD $KEY" >> "$GITHUB_OUTPUT"\'}\n'
        )
        for words in (
            ("init", "--quiet", "-b", "master"),
            ("add", "-A"),
            ("-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "-m", "x"),
        ):
            subprocess.run(["git", *words], cwd=self.repository, check=True)
        told = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=self.repository,
            check=True,
            capture_output=True,
            text=True,
        )
        self.sha = told.stdout.strip()

    def machine(self, label: str) -> Mapping[str, str]:
        return {"RUNNER_OS": label}

    def path(self) -> str:
        return "/usr/bin:/bin"

    def attest(self, subjects: list[Path]) -> None: ...

    def uploaded(self) -> None: ...

    def store_of(self, run_id: str) -> Store:
        found = self.stores.get(run_id)
        if found is None:
            raise ArtifactError(f"there is no run {run_id}")
        return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return Small(tmp_path_factory.mktemp("small"))


def begin(folder: Path, jobs: str, world: Small, **secrets: str) -> Run:
    (folder / "small.yml").write_text(HEAD + jobs)
    return Run(
        workflow=files.read(folder / "small.yml"),
        world=world,
        folder=folder / "run",
        store=Store(folder / "artifacts"),
        github={"ref_name": "master"},
        inputs={},
        secrets={},
        environments={"prod": secrets},
        variables={},
        tokens=("writes", "reads", "reads-contents"),
    )


def job(name: str, steps: str, more: str = "") -> str:
    return f"  {name}:\n    runs-on: any\n{more}    steps: {steps}\n"


def test_outputs_that_hold_a_secret_stay_behind(tmp_path: Path, small: Small) -> None:
    """GitHub drops them with a warning that nobody reads; the next job finds nothing."""
    told = "[{id: a, env: {KEY: '${{ secrets.KEY }}'}, run: 'echo \"v=x$KEY\" >> $GITHUB_OUTPUT;"
    more = "    environment: prod\n    outputs: {v: '${{ steps.a.outputs.v }}'}\n"
    run = begin(
        tmp_path, job("one", f"{told} echo w=1 >> $GITHUB_OUTPUT'}}]", more), small, KEY="s"
    )
    assert run.run("one").outputs == {}


def test_secrets_of_an_environment_reach_the_jobs_that_are_bound_to_it(
    tmp_path: Path, small: Small
) -> None:
    """The same expression is empty in a job that names no environment."""
    step = "[{env: {KEY: '${{ secrets.KEY }}'}, run: 'test \"$KEY\" = value'}]"
    bound = job("bound", step, "    environment: prod\n")
    run = begin(tmp_path, bound + job("free", step), small, KEY="value")
    assert run.run("bound").result == SUCCESS
    assert run.run("bound").traces[0].holds == {"KEY"}
    assert run.run("free").result == FAILURE


def test_nothing_of_a_folder_goes_from_job_to_job(tmp_path: Path, small: Small) -> None:
    """Neither do modes and links in an artifact, nor hidden files."""
    made = "mkdir d && echo a > d/a && chmod 755 d/a && ln -s a d/b && echo h > d/.h && mkdir d/e"
    give = f"[{{run: '{made}'}}, {{uses: {UPLOAD}, with: {{name: n, path: d/}}}}]"
    look = "test ! -x got/a && test ! -L got/b && test -f got/b && test ! -e got/.h -a ! -e got/e"
    take = f"[{{uses: {DOWNLOAD}, with: {{name: n, path: got/}}}}, {{run: '{look} && ! ls d'}}]"
    run = begin(tmp_path, job("give", give) + job("take", take, "    needs: give\n"), small)
    assert run.run("give").result == SUCCESS
    result = run.run("take")
    assert result.result == SUCCESS, result.traces


def test_an_artifact_that_nobody_made_fails_the_job(tmp_path: Path, small: Small) -> None:
    """By its name; a pattern that matches nothing does not."""
    named = f"[{{uses: {DOWNLOAD}, with: {{name: n}}}}]"
    pattern = f"[{{uses: {DOWNLOAD}, with: {{pattern: 'n-*'}}}}]"
    run = begin(tmp_path, job("named", named) + job("pattern", pattern), small)
    assert "Artifact not found for name: n" in run.run("named").failed.log
    assert run.run("pattern").result == SUCCESS


def test_a_lost_runner_leaves_its_artifacts_and_tells_no_output(
    tmp_path: Path, small: Small
) -> None:
    """Run again, the upload meets its own artifact: without `overwrite` it fails."""
    upload = f"{{uses: {UPLOAD}, with: {{name: n, path: f}}}}"
    steps = f"[{{id: a, run: 'echo v=1 >> $GITHUB_OUTPUT; touch f'}}, {upload}]"
    more = "    outputs: {v: '${{ steps.a.outputs.v }}'}\n"
    run = begin(tmp_path, job("one", steps, more), small)
    lost = run.run("one", kill=Kill(before=2))
    assert (lost.result, lost.outputs, run.store.names()) == (LOST, {}, ["n"])
    assert "409" in run.run("one").failed.log


def test_a_runner_lost_in_an_upload_leaves_neither_bytes_nor_the_name(
    tmp_path: Path, small: Small
) -> None:
    """What is overwritten is deleted first; the unfinished one is not there, and cannot go away."""
    upload = f"{{uses: {UPLOAD}, with: {{name: n, path: f, overwrite: true}}}}"
    own = f"{{uses: {UPLOAD}, with: {{name: 'm-${{{{ github.run_attempt }}}}', path: f}}}}"
    run = begin(tmp_path, job("one", f"[{{run: 'touch f'}}, {own}, {upload}]"), small)
    assert run.run("one").result == SUCCESS
    run.finished.clear()
    assert run.run("one", kill=Kill(uploading="n")).result == LOST
    assert run.store.names() == ["m-1", "m-2"]
    run.finished.clear()
    assert "409" in run.run("one").failed.log
    assert run.store.names() == ["m-1", "m-2", "m-3"]


def test_a_job_that_runs_again_begins_another_attempt_of_its_run(
    tmp_path: Path, small: Small
) -> None:
    """Jobs that follow it count the same one; those that stand keep what they told."""
    tell = "[{id: a, run: 'echo v=$GITHUB_RUN_ATTEMPT >> $GITHUB_OUTPUT'}]"
    more = "    outputs: {v: '${{ steps.a.outputs.v }}-${{ github.run_attempt }}'}\n"
    jobs = job("one", tell, more) + job("two", tell, f"    needs: one\n{more}")
    run = begin(tmp_path, jobs, small)
    assert run.run("one").outputs == {"v": "1-1"}
    run.run("two", kill=Kill(before=0))
    assert run.run("two").outputs == {"v": "2-2"}
    assert run.results["one"].outputs == {"v": "1-1"}


def test_an_action_of_the_repository_needs_its_checkout(tmp_path: Path, small: Small) -> None:
    """It sees the environment of its step, its inputs, and no secret by name."""
    use = "{id: act, uses: ./act, with: {word: hello there}, env: {KEY: around}}"
    more = "    outputs: {said: '${{ steps.act.outputs.said }}'}\n"
    jobs = job("with", f"[{CHECKOUT}, {use}]", more) + job("without", f"[{use}]", more)
    run = begin(tmp_path, jobs, small)
    assert run.run("with").outputs == {"said": "hello there around"}
    assert "checked out?" in run.run("without").failed.log


def test_jobs_behind_a_failure_are_skipped(tmp_path: Path, small: Small) -> None:
    """Unless their condition says otherwise; one behind a skipped job is skipped as well.

    However far ahead that was, and whatever ran between them.
    """
    jobs = (
        job("bad", "[{run: 'false'}, {id: b, run: 'true'}]")
        + job("next", "[{run: 'true'}]", "    needs: bad\n")
        + job("last", "[{run: 'true'}]", "    needs: next\n    if: ${{ !failure() }}\n")
        + job("told", "[{run: 'true'}]", "    needs: bad\n    if: ${{ !cancelled() }}\n")
        + job("after", "[{run: 'true'}]", "    needs: last\n    if: ${{ !cancelled() }}\n")
        + job("behind", "[{run: 'true'}]", "    needs: after\n")
    )
    run = begin(tmp_path, jobs, small)
    assert [run.run(name).result for name in run.workflow.jobs] == [
        *(FAILURE, SKIPPED, SUCCESS, SKIPPED, SUCCESS, SKIPPED)
    ]
    assert list(run.workflow.jobs) == ["bad", "next", "told", "last", "after", "behind"]


def test_rows_of_a_matrix_tell_outputs_of_their_own(tmp_path: Path, small: Small) -> None:
    """An empty one takes nothing away, and a row that succeeded is not run again."""
    steps = "[{id: a, env: {L: '${{ matrix.l }}'}, run: 'echo v=$L >> $GITHUB_OUTPUT'}]"
    more = (
        "    strategy: {matrix: {include: [{l: x}, {l: y}]}}\n    outputs:\n"
        "      x: ${{ matrix.l == 'x' && steps.a.outputs.v || '' }}\n"
        "      y: ${{ matrix.l == 'y' && steps.a.outputs.v || '' }}\n"
    )
    run = begin(tmp_path, job("one", steps, more), small)
    broken = run.run("one", broken="y")
    assert (broken.result, broken.outputs) == (FAILURE, {"x": "x"})
    again = run.run("one")
    assert (again.result, again.outputs) == (SUCCESS, {"x": "x", "y": "y"})
    assert len(list((tmp_path / "run").iterdir())) == 2


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        (job("a", "[{run: x}]", "    container: c\n"), "container cannot be replayed"),
        (job("a", "[{run: x, uses: ./act}]"), "either uses or runs"),
        (job("a", "[{uses: actions/checkout@v5}]"), "not pinned"),
        (job("a", "[{run: x}]", "    needs: b\n"), "wait for each other"),
    ],
)
def test_what_cannot_be_replayed_is_refused(tmp_path: Path, jobs: str, told: str) -> None:
    """Never skipped: a replay that leaves something out proves less than it says."""
    (tmp_path / "w.yml").write_text(HEAD + jobs)
    with pytest.raises(WorkflowError, match=told):
        files.read(tmp_path / "w.yml")


def test_an_unknown_action_is_refused(tmp_path: Path, small: Small) -> None:
    """Also an input of a known one that is not played."""
    for number, uses in enumerate(
        (f"some/action{PIN}", f"actions/checkout{PIN}, with: {{ref: x}}")
    ):
        (tmp_path / str(number)).mkdir()
        run = begin(tmp_path / str(number), job("one", f"[{{uses: {uses}}}]"), small)
        with pytest.raises(WorkflowError, match="not played"):
            run.run("one")


def test_paths_of_an_artifact_begin_where_the_search_does(tmp_path: Path) -> None:
    """Below the folder that is named, or before the first star; a single file lies at the top.

    Of several artifacts each has a folder, unless they are merged or only one is found.
    """
    (tmp_path / "dist" / "dev" / "1").mkdir(parents=True)
    (tmp_path / "dist" / "dev" / "1" / "a.gz").touch()
    store = Store(tmp_path / "store")
    for name, path in (("star", "dist/*/*/a.gz"), ("file", "dist/dev/1/a.gz"), ("all", "dist/")):
        assert store.upload(name, path, tmp_path, overwrite=False, hidden=False) == 1
        store.download(name, tmp_path / "got" / name)
    found = {path.relative_to(tmp_path / "got").as_posix() for path in tmp_path.glob("got/**/a.gz")}
    assert found == {"star/dev/1/a.gz", "file/a.gz", "all/dev/1/a.gz"}
    store.download_matching("st*", tmp_path / "one")
    assert (tmp_path / "one" / "dev" / "1" / "a.gz").is_file()
    assert store.download_matching("*a*", tmp_path / "two") == ["all", "star"]
    assert (tmp_path / "two" / "star" / "dev" / "1" / "a.gz").is_file()
    store.download_matching("*", tmp_path / "three", merge=True)
    assert (tmp_path / "three" / "a.gz").is_file()
    with pytest.raises(ArtifactError, match="not valid"):
        store.upload("a/b", "dist/", tmp_path, overwrite=True, hidden=False)


def test_a_step_that_may_fail_fails_nothing(tmp_path: Path, small: Small) -> None:
    """What came of it is told by its outcome; behind it the job goes on."""
    asked = (
        "outcome: '${{ steps.a.outcome }}', conclusion: '${{ steps.a.conclusion }}',"
        " there: '${{ steps.b.outcome }}'"
    )
    steps = (
        "[{id: a, continue-on-error: true, run: exit 3},"
        " {id: b, if: \"${{ steps.a.outcome == 'success' }}\", run: exit 4}]"
    )
    run = begin(tmp_path, job("one", steps, f"    outputs: {{{asked}}}\n"), small)
    result = run.run("one")
    assert result.result == SUCCESS
    told = {"outcome": "failure", "conclusion": "success", "there": "skipped"}
    assert result.outputs == told


def test_another_run_is_read_by_who_may_read_it(tmp_path: Path, small: Small) -> None:
    """Its number and a token with `actions: read`; a job without that right is refused."""
    other = Store(tmp_path / "other")
    (tmp_path / "a").write_text("earlier")
    other.upload("n", "a", tmp_path, overwrite=False, hidden=False)
    small.stores["7"] = other
    token = "github-token: '${{ secrets.GITHUB_TOKEN }}'"
    fetch = f"[{{uses: {DOWNLOAD}, with: {{name: n, run-id: 7, {token}}}}}, {{run: test -f a}}]"
    may = job("may", fetch, "    permissions: {actions: read}\n")
    strange = job(
        "strange", fetch.replace("run-id: 7", "run-id: 8"), "    permissions: {actions: read}\n"
    )
    run = begin(tmp_path, may + job("not", fetch) + strange, small)
    assert run.run("may").result == SUCCESS
    assert "lacks actions: read" in run.run("not").failed.log
    assert "there is no run 8" in run.run("strange").failed.log
