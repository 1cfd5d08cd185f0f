"""Reads workflow files as far as ours go; whatever this reader does not replay it refuses."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_WORKFLOW = frozenset({"name", "on", "permissions", "concurrency", "jobs", "env"})
_JOB = frozenset(
    (
        *("name", "needs", "if", "runs-on", "timeout-minutes", "environment", "outputs"),
        *("permissions", "env", "strategy", "steps"),
    )
)
_STRATEGY = frozenset({"fail-fast", "matrix"})
_STEP = frozenset({"id", "name", "if", "uses", "with", "env", "run", "shell", "continue-on-error"})
_ACTION = frozenset({"name", "description", "inputs", "outputs", "runs"})
_PINNED = re.compile(r"([a-z-]+/[a-z-]+)@[0-9a-f]{40}")


class WorkflowError(Exception):
    """A workflow that cannot be replayed, or that GitHub would not take."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a job or of a composite action."""

    id: str
    name: str
    condition: str
    uses: str
    """`owner/name` without its hash, `./path`, or empty for `run`."""
    given: Mapping[str, object]
    """Its `with`."""
    environ: Mapping[str, object]
    run: str
    shell: str
    goes_on: bool
    """Whether its failure is none of the job's: `continue-on-error`."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job, for each row of its matrix."""

    id: str
    needs: tuple[str, ...]
    condition: str
    runs_on: str
    environment: str
    outputs: Mapping[str, str]
    permissions: Mapping[str, str]
    environ: Mapping[str, object]
    rows: tuple[Mapping[str, object], ...]
    """Of its matrix; one empty row without."""
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """One workflow file."""

    path: Path
    name: str
    inputs: Mapping[str, Mapping[str, object]]
    """Of `workflow_dispatch`."""
    jobs: Mapping[str, Job]
    """In an order in which they can run."""

    def ancestors(self, job: str) -> set[str]:
        """Every job that must have ended before this one begins."""
        found = set(self.jobs[job].needs)
        for other in self.jobs[job].needs:
            found |= self.ancestors(other)
        return found


@dataclass(frozen=True, kw_only=True)
class Action:
    """A composite action of this repository."""

    folder: Path
    inputs: Mapping[str, str]
    """Their defaults."""
    outputs: Mapping[str, str]
    steps: tuple[Step, ...]


def read(path: Path) -> Workflow:
    """Read a workflow.

    Raises:
        WorkflowError: a part that is not replayed, a need that is no job, or a circle of needs.
    """
    told = _mapping(yaml.safe_load(path.read_text(encoding="utf-8")), path.name)
    # YAML 1.1 reads the key `on` as true.
    told = {("on" if key is True else key): value for key, value in told.items()}
    _known(told, _WORKFLOW, path.name)
    jobs = {name: _job(name, _mapping(found, name)) for name, found in told["jobs"].items()}
    dispatch = told["on"].get("workflow_dispatch") or {}
    return Workflow(
        path=path,
        name=told["name"],
        inputs=dispatch.get("inputs", {}),
        jobs=_in_order(jobs),
    )


def read_action(folder: Path) -> Action:
    """Read a composite action of a checkout.

    Raises:
        WorkflowError: there is none, or it is of another kind.
    """
    path = folder / "action.yml"
    if not path.is_file():
        message = f"there is no action in {folder}: was the repository checked out?"
        raise WorkflowError(message)
    told = _mapping(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    _known(told, _ACTION, str(path))
    runs = _mapping(told["runs"], "runs")
    if runs.get("using") != "composite":
        message = f"{path}: only composite actions are replayed"
        raise WorkflowError(message)
    steps = tuple(_step(step) for step in runs["steps"])
    for step in steps:
        if step.run and not step.shell:
            message = f"{path}: a step of an action must name its shell"
            raise WorkflowError(message)
    return Action(
        folder=folder,
        inputs={name: str(one.get("default", "")) for name, one in told.get("inputs", {}).items()},
        outputs={name: str(one["value"]) for name, one in told.get("outputs", {}).items()},
        steps=steps,
    )


def _job(name: str, told: Mapping[str, Any]) -> Job:
    _known(told, _JOB, name)
    needs = told.get("needs", [])
    strategy = told.get("strategy", {})
    _known(strategy, _STRATEGY, f"{name}.strategy")
    matrix = strategy.get("matrix", {})
    _known(matrix, {"include"}, f"{name}.strategy.matrix")
    environment = told.get("environment", "")
    return Job(
        id=name,
        needs=(needs,) if isinstance(needs, str) else tuple(needs),
        condition=str(told.get("if", "")),
        runs_on=str(told["runs-on"]),
        environment=str(environment),
        outputs=told.get("outputs", {}),
        permissions=told.get("permissions", {}),
        environ=told.get("env", {}),
        rows=tuple(matrix.get("include", ({},))),
        steps=tuple(_step(step) for step in told["steps"]),
    )


def _step(told: Mapping[str, Any]) -> Step:
    what = str(told.get("name") or told.get("id") or told.get("uses") or told.get("run"))
    _known(told, _STEP, what)
    if ("uses" in told) == ("run" in told):
        message = f"{what}: a step either uses or runs something"
        raise WorkflowError(message)
    uses = str(told.get("uses", ""))
    if uses and not uses.startswith("./"):
        pinned = _PINNED.fullmatch(uses)
        if pinned is None:
            message = f"{uses} is not pinned by a hash"
            raise WorkflowError(message)
        uses = pinned.group(1)
    return Step(
        id=str(told.get("id", "")),
        name=what.strip().splitlines()[0][:80],
        condition=str(told.get("if", "")),
        uses=uses,
        given=told.get("with", {}),
        environ=told.get("env", {}),
        run=str(told.get("run", "")),
        shell=str(told.get("shell", "")),
        goes_on=told.get("continue-on-error", False) is True,
    )


def _in_order(jobs: Mapping[str, Job]) -> dict[str, Job]:
    found: dict[str, Job] = {}
    while len(found) < len(jobs):
        ready = [
            job for name, job in jobs.items() if name not in found and set(job.needs) <= set(found)
        ]
        if not ready:
            left = ", ".join(name for name in jobs if name not in found)
            message = f"these jobs wait for each other, or for none that there is: {left}"
            raise WorkflowError(message)
        found |= {job.id: job for job in ready}
    return found


def _mapping(value: object, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        message = f"{what} has no keys"
        raise WorkflowError(message)
    return value


def _known(told: Mapping[str, object], keys: Collection[str], what: str) -> None:
    if strange := sorted(set(told) - set(keys)):
        message = f"{what}: {', '.join(map(str, strange))} cannot be replayed"
        raise WorkflowError(message)
