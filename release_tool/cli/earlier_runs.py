"""`release-tool handoff find`: which earlier run has the handoff of the release before.

Behind its promotion each release leaves its handoff as an artifact whose name says of which
release it is: `release-promoted-ENVIRONMENT-FLAVOUR-VERSION-ATTEMPT`. So nothing is downloaded to
find the right one, and a run that promoted nothing has none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from release_tool import config, errors, version
from release_tool.cli import github_commands
from release_tool.cli.run import FILE
from release_tool.cli.session import Session, pass_session
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.schema_number import SCHEMA
from release_tool.services import precedence, retries
from release_tool.services.github_runs import Runs, WorkflowRun

PREFIX = "release-promoted"
"""Begins the name of the artifact."""
_ENDING = re.compile(r"(.{1,128})-([0-9]{1,9})")
_PAGES = 4
"""Of thirty runs: months of releases, also where development has many more than production."""
_ASKED = 40
"""Runs whose artifacts are listed, one request each; a tag often says that it need not be."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where the release before is."""

    version: str
    run: WorkflowRun
    artifact: str


@click.command("find")
@click.option("--workflow", required=True, metavar="FILE", help="Of the runs: release.yml.")
@click.option("--env", "environment", help="Environment of release.yaml.")
@click.option("--version", "released", help="What is being released.")
@click.option("--flavour", help="Flavour of release.yaml.")
@click.option("--config", "config_file", type=FILE, help="Another release.yaml.")
@click.option(
    "--github-output", is_flag=True, help="Also write run=… and artifact=…, empty without any."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_session
def command(
    session: Session,
    workflow: str,
    environment: str | None,
    released: str | None,
    flavour: str | None,
    config_file: Path | None,
    *,
    github_output: bool,
    as_json: bool,
) -> None:
    """Find the run that promoted the release before this one, and its artifact's name.

    Looks through the newest runs of the workflow in the repository that GITHUB_REPOSITORY names,
    with GITHUB_TOKEN: of the same environment and flavour, the highest version below the one that
    is being released. Finding none is no failure: the first release has none before it.

    \b
    By hand:   release-tool handoff find --workflow release.yml --env prod --version 0.5.0
    In a job:  release-tool handoff find --workflow release.yml --github-output
    """
    if github_output:
        # Before any work, as the job would lose it.
        github_commands.outputs_file(session.environ)
    plan = config.resolve(
        config.Request(
            environ=session.environ,
            working_folder=Path.cwd(),
            config_file=config_file,
            environment=environment,
            version=released,
            flavour=flavour,
            stages=(),
            # Nothing is made of this tree.
            from_source=False,
        )
    ).plan
    found = find(_runs(session, plan), plan, workflow)
    where = outputs(found)
    if github_output:
        github_commands.hand_on(session.environ, where)
    told = _told(found, plan, workflow)
    _summarize(session, told)
    if as_json:
        facts = {"version": found.version if found else "", **where}
        print(json.dumps({"schema": SCHEMA, "ok": True, **facts}), file=session.out)
    else:
        print(f"the release before: {told}", file=session.out)


def find(runs: Runs, plan: ReleasePlan, workflow: str) -> Found | None:
    """The highest version below the plan's that some run promoted and whose handoff is there.

    Args:
        runs: of the repository.
        plan: of what is being released.
        workflow: the name of its file.

    Raises:
        CredentialError, TransientError, PendingError, RemoteRefusedError, VerificationError: of
            GitHub.
    """
    found: list[Found] = []
    listed = retries.call(lambda: [*runs.own(workflow, pages=_PAGES)], retries.DEFAULT, Silent())
    for run in [one for one in listed if _may_be(one, plan)][:_ASKED]:
        names = retries.call(lambda run=run: runs.artifacts(run), retries.DEFAULT, Silent())  # type: ignore[misc]
        found += _promoted(run, names, plan)
    best: Found | None = None
    for one in found:
        # Of equal ones the first, which is the newest.
        if best is None or precedence.is_newer(one.version, best.version):
            best = one
    return best


def outputs(found: Found | None) -> dict[str, str]:
    """What a job is told."""
    if found is None:
        return {"run": "", "artifact": ""}
    return {"run": str(found.run.id), "artifact": found.artifact}


def _promoted(run: WorkflowRun, names: tuple[str, ...], plan: ReleasePlan) -> Iterator[Found]:
    """The newest attempt first."""
    beginning = f"{PREFIX}-{plan.environment.name}-{plan.flavour.name}-"
    read = [
        (int(ending[2]), ending[1], name)
        for name in names
        if name.startswith(beginning)
        and (ending := _ENDING.fullmatch(name.removeprefix(beginning)))
    ]
    for _, released, name in sorted(read, reverse=True):
        if version.is_version(released) and precedence.is_newer(plan.version, released):
            yield Found(version=released, run=run, artifact=name)


def _may_be(run: WorkflowRun, plan: ReleasePlan) -> bool:
    """Whether a run may have promoted an earlier release of this environment and flavour."""
    tag = version.read_tag(run.ref) if run.event == "push" else None
    if tag is None:
        return True
    return (
        tag.prefix == plan.flavour.tag_prefix
        and plan.environment.tags in ("none", tag.kind)
        and precedence.is_newer(plan.version, tag.version)
    )


def _told(found: Found | None, plan: ReleasePlan, workflow: str) -> str:
    if found:
        return f"{found.version}, promoted by run {found.run.id}, as {found.artifact}"
    family = f"{plan.environment.name}, {plan.flavour.name}"
    return f"none of {family} among the newest runs of {workflow}; nothing is compared"


def _summarize(session: Session, told: str) -> None:
    path = session.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        github_commands.summarize(Path(path), f"**The release before:** {told}.\n")


def _runs(session: Session, plan: ReleasePlan) -> Runs:
    """The runs of the repository that the job is in."""
    repository = session.environ.get("GITHUB_REPOSITORY", "") or plan.environment.github_repository
    token = session.environ.get("GITHUB_TOKEN", "").strip()
    if not repository or not token:
        raise errors.CredentialError(
            "earlier runs cannot be looked for",
            expected="GITHUB_REPOSITORY and GITHUB_TOKEN",
            observed="no GITHUB_TOKEN" if repository else "no GITHUB_REPOSITORY",
            hint="a job has both: give the step `secrets.GITHUB_TOKEN`, with"
            " `permissions: actions: read`",
        )
    return Runs(
        api_url=plan.environment.github_api_url,
        uploads_url=plan.environment.github_uploads_url,
        repository=repository,
        token=lambda: token,
    )
