"""Runs the jobs of a workflow file one by one, each in a clean folder with its own secrets alone.

Nothing goes from job to job but what GitHub would carry: the outputs that a job declares, and
artifacts. A few actions from elsewhere are played by what they do; any other is refused.
"""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import workflow_expressions as expressions
import workflow_files as files
import workflow_process as process
from workflow_expressions import Context, Value
from workflow_files import Job, Step, Workflow, WorkflowError
from workflow_store import ArtifactError, Store

SUCCESS, FAILURE, SKIPPED, LOST = "success", "failure", "skipped", "lost"
_OF_IF = ("github", "inputs", "needs", "vars")
_OF_RUNNER = (*_OF_IF, "matrix", "strategy")
_OF_COMPOSITE = ("github", "matrix", "strategy", "runner", "job")


class World(Protocol):
    """What is around the jobs."""

    repository: Path
    sha: str

    def machine(self, label: str) -> Mapping[str, str]:
        """What a runner with this label says of itself in its environment."""

    def path(self) -> str:
        """The PATH of a runner."""

    def attest(self, subjects: list[Path]) -> None:
        """GitHub's attestation of some files."""

    def uploaded(self) -> None:
        """Some run has another artifact."""

    def store_of(self, run_id: str) -> Store:
        """The artifacts of another run.

        Raises:
            ArtifactError: there is no such run.
        """


@dataclass(frozen=True, kw_only=True)
class Kill:
    """Where the runner of a job is lost.

    Args:
        before: the number of the step that never begins; None where another is met.
        during: asked while a step runs that is given a secret, or calls `run`.
        uploading: the pattern of an artifact whose name is taken and whose bytes never come.
    """

    before: int | None = None
    during: Callable[[], bool] | None = None
    uploading: str = ""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One step that was done, or failed."""

    job: str
    name: str
    outcome: str
    log: str = ""
    holds: frozenset[str] = frozenset()
    """The secrets whose values its process had."""
    annotations: tuple[tuple[str, str], ...] = ()
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a job ended."""

    result: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    traces: tuple[Trace, ...] = ()

    @property
    def failed(self) -> Trace:
        """The step that failed."""
        return next(trace for trace in self.traces if trace.outcome == FAILURE)


@dataclass(kw_only=True)
class Run:
    """One run of a workflow.

    Args:
        workflow: its file.
        world: around it.
        folder: gets a folder for each attempt of each job.
        store: the artifacts.
        github: of the `github` context: event_name, ref, ref_name, ref_type, sha, run_id, …; the
            number of the attempt is this run's own.
        inputs: of who started it by hand.
        secrets: of the repository.
        environments: the secrets of each protected environment.
        variables: of the repository.
        tokens: GITHUB_TOKEN that may write contents or issues, that may read runs, that may
            read contents alone.
    """

    workflow: Workflow
    world: World
    folder: Path
    store: Store
    github: Mapping[str, str]
    inputs: Mapping[str, Value]
    secrets: Mapping[str, str]
    environments: Mapping[str, Mapping[str, str]]
    variables: Mapping[str, str]
    tokens: tuple[str, str, str]
    results: dict[str, Result] = field(default_factory=dict)
    finished: dict[tuple[str, int], Result] = field(default_factory=dict)
    attempt: int = 1
    """Counts as GitHub does: a job that is run again begins another attempt of the whole run."""
    _begun: set[str] = field(default_factory=set)
    """The jobs of this attempt."""
    _places: int = 0

    def branch(self, folder: Path) -> Run:
        """The same run from here on, with artifacts of its own."""
        store = Store(folder / "artifacts")
        if self.store.folder.exists():
            shutil.copytree(self.store.folder, store.folder)
        return replace(
            self,
            folder=folder,
            store=store,
            results=dict(self.results),
            finished={},
            _begun=set(self._begun),
        )

    def wants(self, name: str) -> bool:
        """Whether a job runs at all, after what became of those that it needs."""
        job = self.workflow.jobs[name]
        needed = [self.results[other].result for other in self.workflow.ancestors(name)]
        status = {
            # Of every job before it: one that was skipped far ahead skips it too.
            "success": all(one == SUCCESS for one in needed),
            "failure": FAILURE in needed,
            "cancelled": False,
        }
        return expressions.condition(job.condition, Context(self._values(job, _OF_IF), status))

    def run(
        self, name: str, *, kill: Kill | None = None, without: str = "", broken: str = ""
    ) -> Result:
        """One attempt of a job; of a matrix, the rows that did not succeed before.

        Args:
            name: of the job.
            kill: where its runner is lost, in every row.
            without: a secret that is not set.
            broken: a value of a row that fails before its first step.
        """
        job = self.workflow.jobs[name]
        if not self.wants(name):
            self.results[name] = Result(result=SKIPPED)
            return self.results[name]
        if name in self._begun:
            self.attempt += 1
            self._begun.clear()
        self._begun.add(name)
        rows = []
        for number, row in enumerate(job.rows):
            done = self.finished.get((name, number))
            if done is None and broken and broken in row.values():
                done = Result(result=FAILURE)
            done = done or self._row(job, row, kill, without)
            if done.result == SUCCESS:
                self.finished[name, number] = done
            rows.append(done)
        result = _joined(rows)
        if result.result != LOST:
            self.results[name] = result
        return result

    def _row(self, job: Job, row: Mapping[str, object], kill: Kill | None, without: str) -> Result:
        self._places += 1
        place = self.folder / f"{self._places:03}-{job.id}"
        runner = _Runner(run=self, job=job, row=row, place=place, kill=kill, without=without)
        return runner.result()

    def _values(self, job: Job, names: tuple[str, ...]) -> dict[str, Value]:
        """Some of the contexts that do not depend on a row."""
        needs: dict[str, Value] = {
            other: {
                "result": self.results[other].result,
                "outputs": dict(self.results[other].outputs),
            }
            for other in job.needs
        }
        known: dict[str, Value] = {
            "github": {**self.github, "run_attempt": str(self.attempt)},
            "inputs": dict(self.inputs),
            "needs": needs,
            "vars": dict(self.variables),
        }
        return {name: value for name, value in known.items() if name in names}


def _joined(rows: list[Result]) -> Result:
    """A matrix as its needs see it: the worst result, and outputs that no empty one replaces."""
    worst = next((one for one in (LOST, FAILURE) if any(row.result == one for row in rows)), "")
    outputs = {name: value for row in rows for name, value in row.outputs.items() if value}
    traces = tuple(trace for row in rows for trace in row.traces)
    return Result(result=worst or SUCCESS, outputs=outputs, traces=traces)


class _LostError(Exception):
    """The runner is gone: nothing of the job goes on, and nothing is told."""


@dataclass(kw_only=True)
class _Scope:
    """Where a list of steps runs: a job, or an action within it."""

    inputs: Mapping[str, Value]
    environ: Mapping[str, str]
    contexts: tuple[str, ...]
    folder: Path | None = None
    """Of the action."""
    steps: dict[str, Value] = field(default_factory=dict)
    failed: bool = False


class _Runner:
    """One attempt of one row of a job."""

    def __init__(
        self,
        *,
        run: Run,
        job: Job,
        row: Mapping[str, object],
        place: Path,
        kill: Kill | None,
        without: str,
    ) -> None:
        self._run = run
        self._job = job
        self._place = place
        self._kill = kill
        self._traces: list[Trace] = []
        self._number = 0
        plain = run._values(job, _OF_RUNNER)  # noqa: SLF001 - one subject in two classes
        plain["matrix"] = {}
        context = Context(plain, {})
        plain["matrix"] = {
            key: expressions.value_of(str(value), context) for key, value in row.items()
        }
        plain["strategy"] = {}
        self._plain = plain
        self._machine = run.world.machine(expressions.substitute(job.runs_on, Context(plain, {})))
        environment = expressions.substitute(job.environment, Context(plain, {}))
        if environment and environment not in run.environments:
            message = f"{job.id}: there is no environment {environment!r}"
            raise WorkflowError(message)
        # The secrets of an environment reach the jobs that are bound to it, and no other.
        held = {**run.secrets, **run.environments.get(environment, {})}
        held.pop(without, None)
        self._secrets = held | {"GITHUB_TOKEN": self._token()}
        self._workspace = place / "work"
        for name in ("work", "home", "tmp"):
            (place / name).mkdir(parents=True)

    def _token(self) -> str:
        """Three of them stand for all."""
        writes, reads, contents = self._run.tokens
        rights = [self._job.permissions.get(name) for name in ("contents", "issues")]
        if "write" in rights:
            return writes
        return reads if self._job.permissions.get("actions") == "read" else contents

    def result(self) -> Result:
        scope = _Scope(inputs=self._run.inputs, environ={}, contexts=tuple(self._known()))
        context = self._context(scope, (*_OF_RUNNER, "secrets"))
        scope.environ = {
            name: expressions.substitute(str(value), context)
            for name, value in self._job.environ.items()
        }
        try:
            self._steps(self._job.steps, scope)
            self._lose_before(len(self._job.steps))
        except _LostError:
            return Result(result=LOST, traces=tuple(self._traces))
        context = self._context(scope, scope.contexts)
        outputs = {
            name: self._told(expressions.substitute(text, context))
            for name, text in self._job.outputs.items()
        }
        result = FAILURE if scope.failed else SUCCESS
        return Result(result=result, outputs=outputs, traces=tuple(self._traces))

    def _lose_before(self, number: int) -> None:
        if self._kill and self._kill.before == number:
            raise _LostError

    def _lose_uploading(self, name: str) -> None:
        if self._kill and self._kill.uploading and fnmatch.fnmatch(name, self._kill.uploading):
            raise _LostError

    def _told(self, output: str) -> str:
        """GitHub keeps back an output that holds a secret."""
        return "" if any(value and value in output for value in self._secrets.values()) else output

    def _known(self) -> Iterator[str]:
        yield from ("github", "inputs", "needs", "vars", "matrix", "strategy", "secrets")
        yield from ("env", "job", "runner", "steps")

    def _context(self, scope: _Scope, names: tuple[str, ...]) -> Context:
        values: dict[str, Value] = {
            **self._plain,
            "inputs": scope.inputs,
            "secrets": dict(self._secrets),
            "env": dict(scope.environ),
            "job": {"status": FAILURE if scope.failed else SUCCESS},
            "runner": {"os": self._machine["RUNNER_OS"], "temp": str(self._place / "tmp")},
            "steps": scope.steps,
        }
        status = {"success": not scope.failed, "failure": scope.failed, "cancelled": False}
        return Context({name: values[name] for name in names}, status)

    def _steps(self, steps: tuple[Step, ...], scope: _Scope) -> None:
        for number, step in enumerate(steps):
            if scope.folder is None:
                self._lose_before(number)
            visible = tuple(name for name in scope.contexts if name != "secrets")
            outcome: str = SKIPPED
            outputs: Mapping[str, str] = {}
            if expressions.condition(step.condition, self._context(scope, visible)):
                outcome, outputs = self._step(step, scope)
            goes_on = outcome == FAILURE and step.goes_on
            if outcome == FAILURE and not goes_on:
                scope.failed = True
            if step.id:
                scope.steps[step.id] = {
                    "outcome": outcome,
                    "conclusion": SUCCESS if goes_on else outcome,
                    "outputs": dict(outputs),
                }

    def _step(self, step: Step, scope: _Scope) -> tuple[str, Mapping[str, str]]:
        context = self._context(scope, scope.contexts)
        own = {
            name: expressions.substitute(str(value), context)
            for name, value in step.environ.items()
        }
        environ = {**scope.environ, **own}
        context = self._context(
            _Scope(
                inputs=scope.inputs,
                environ=environ,
                contexts=scope.contexts,
                steps=scope.steps,
                failed=scope.failed,
            ),
            scope.contexts,
        )
        if step.run:
            return self._shell(step, scope, environ, expressions.substitute(step.run, context))
        given = {
            name: expressions.substitute(_yaml_text(value), context)
            for name, value in step.given.items()
        }
        if step.uses.startswith("./"):
            return self._composite(step, environ, given)
        try:
            said = self._elsewhere(step.uses, given)
        except ArtifactError as problem:
            self._note(step, FAILURE, str(problem))
            return FAILURE, {}
        self._note(step, SUCCESS, said)
        return SUCCESS, {}

    def _note(self, step: Step, outcome: str, log: str) -> None:
        self._traces.append(Trace(job=self._job.id, name=step.name, outcome=outcome, log=log))

    def _shell(
        self, step: Step, scope: _Scope, environ: Mapping[str, str], script: str
    ) -> tuple[str, Mapping[str, str]]:
        self._number += 1
        whole = {**self._standard(), **environ}
        if scope.folder is not None:
            whole["GITHUB_ACTION_PATH"] = str(scope.folder)
        holds = frozenset(
            name
            for name, value in self._secrets.items()
            if value and any(value in one for one in whole.values())
        )
        watched = self._kill.during if self._kill else None
        ended = process.run(
            script,
            shell=step.shell,
            workspace=self._workspace,
            environ=whole,
            files=self._place / "steps" / f"{self._number:02}",
            lost=watched,
        )
        outcome = SUCCESS if ended.code == 0 else FAILURE
        self._traces.append(
            Trace(
                job=self._job.id,
                name=environ.get("COMMAND", "") or step.name,
                outcome=LOST if ended.code == process.LOST else outcome,
                log=ended.log,
                holds=holds,
                annotations=ended.annotations,
                summary=ended.summary,
            )
        )
        if ended.code == process.LOST:
            raise _LostError
        return outcome, ended.outputs

    def _standard(self) -> dict[str, str]:
        """What a runner has in its environment, as far as anybody looks at it."""
        github = self._run.github
        told = {f"GITHUB_{name.upper()}": value for name, value in github.items()}
        return {
            **told,
            "GITHUB_RUN_ATTEMPT": str(self._run.attempt),
            **self._machine,
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_JOB": self._job.id,
            "GITHUB_WORKSPACE": str(self._workspace),
            "HOME": str(self._place / "home"),
            "LANG": "C.UTF-8",
            "PATH": self._run.world.path(),
            "RUNNER_TEMP": str(self._place / "tmp"),
            "TMPDIR": str(self._place / "tmp"),
        }

    def _composite(
        self, step: Step, environ: Mapping[str, str], given: Mapping[str, str]
    ) -> tuple[str, Mapping[str, str]]:
        folder = self._workspace / step.uses
        try:
            action = files.read_action(folder)
        except WorkflowError as problem:
            self._note(step, FAILURE, str(problem))
            return FAILURE, {}
        if strange := set(given) - set(action.inputs):
            message = f"{step.uses} has no input {', '.join(strange)}"
            raise WorkflowError(message)
        inner = _Scope(
            inputs={**action.inputs, **given},
            environ=environ,
            # Neither secrets nor needs are seen from within an action.
            contexts=(*_OF_COMPOSITE, "inputs", "steps", "env"),
            folder=folder,
        )
        self._steps(action.steps, inner)
        context = self._context(inner, inner.contexts)
        outputs = {
            name: expressions.substitute(text, context) for name, text in action.outputs.items()
        }
        return FAILURE if inner.failed else SUCCESS, outputs

    # Actions from elsewhere, by what they do.

    def _elsewhere(self, uses: str, given: Mapping[str, str]) -> str:
        played: Mapping[str, tuple[set[str], Callable[[Mapping[str, str]], str]]] = {
            "actions/checkout": ({"persist-credentials", "fetch-depth"}, self._checkout),
            "actions/setup-python": ({"python-version"}, lambda _: "Python is the one here"),
            "actions/upload-artifact": (
                {
                    *("name", "path", "if-no-files-found", "include-hidden-files", "overwrite"),
                    *("compression-level", "retention-days"),
                },
                self._upload,
            ),
            "actions/download-artifact": (
                {"name", "path", "pattern", "merge-multiple", "run-id", "github-token"},
                self._download,
            ),
            "actions/attest-build-provenance": ({"subject-path"}, self._attest),
        }
        if uses not in played:
            message = f"{uses} is not played here"
            raise WorkflowError(message)
        known, play = played[uses]
        if strange := set(given) - known:
            message = f"{uses}: {', '.join(sorted(strange))} is not played here"
            raise WorkflowError(message)
        return play(given)

    def _checkout(self, given: Mapping[str, str]) -> str:
        """Fetches into a fresh repository, so nothing says what the remote's HEAD is."""
        world = self._run.world
        depth = () if given.get("fetch-depth") == "0" else ("--depth", "1")
        everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        what = everything if not depth else (f"+{world.sha}:refs/remotes/origin/checked-out",)
        for words in (
            ("init", "--quiet"),
            ("remote", "add", "origin", world.repository.as_uri()),
            ("fetch", "--quiet", *depth, "--no-tags", "origin", *what),
            ("checkout", "--quiet", "--detach", world.sha),
        ):
            subprocess.run(["git", *words], cwd=self._workspace, check=True)
        return f"checked out {world.sha}"

    def _upload(self, given: Mapping[str, str]) -> str:
        count = self._run.store.upload(
            given.get("name", "artifact"),
            given["path"],
            self._workspace,
            overwrite=given.get("overwrite") == "true",
            hidden=given.get("include-hidden-files") == "true",
            between=lambda: self._lose_uploading(given.get("name", "artifact")),
        )
        self._run.world.uploaded()
        if count == 0 and given.get("if-no-files-found", "warn") == "error":
            message = f"No files were found with the provided path: {given['path']}"
            raise ArtifactError(message)
        return f"{count} files uploaded"

    def _download(self, given: Mapping[str, str]) -> str:
        target = self._workspace / given.get("path", ".")
        if "name" in given:
            self._store_of(given).download(given["name"], target)
            return given["name"]
        merge = given.get("merge-multiple") == "true"
        found = self._run.store.download_matching(given.get("pattern", "*"), target, merge=merge)
        return ", ".join(found) or "no artifact matches"

    def _store_of(self, given: Mapping[str, str]) -> Store:
        """Of this run, or of another one to whoever may read it."""
        if not given.get("run-id"):
            return self._run.store
        if given.get("github-token") != self._run.tokens[1]:
            message = "Resource not accessible by integration: the token lacks actions: read"
            raise ArtifactError(message)
        return self._run.world.store_of(given["run-id"])

    def _attest(self, given: Mapping[str, str]) -> str:
        for right in ("id-token", "attestations"):
            if self._job.permissions.get(right) != "write":
                message = f"{self._job.id} lacks the permission {right}: write"
                raise ArtifactError(message)
        subjects = sorted(self._workspace.glob(given["subject-path"]))
        if not subjects:
            message = f"Could not find subject at path {given['subject-path']}"
            raise ArtifactError(message)
        self._run.world.attest(subjects)
        return f"{len(subjects)} subjects attested"


def _yaml_text(value: object) -> str:
    """A scalar of YAML as an action gets it."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
