"""`release-tool rollback`: withdraw a bad release, and give users an earlier one."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

import release_tool
from release_tool import config, credentials, errors, pipeline
from release_tool.cli import (
    asking,
    carry,
    completing,
    embedded,
    github_commands,
    report,
    rollback_steps,
    wiring,
)
from release_tool.cli.console import JSONObserver, RunConsole
from release_tool.cli.run import DIST, FILE
from release_tool.cli.session import Session, pass_session, shown_path
from release_tool.files.workspace import Workspace
from release_tool.ledger import Ledger
from release_tool.plan import ReleasePlan
from release_tool.report import affected, overview
from release_tool.services import tombstone
from release_tool.stages import rollback_survey
from release_tool.stages.rollback_survey import Survey
from release_tool.steps import Step
from release_tool.values import Value

FOLDER = "rollback"
"""Beside the releases of an environment: the records of every rollback there."""
# What `promote` needs of settings, a rollback needs as well.
_LIKE = ("promote",)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of the command."""

    target: str
    bad: tuple[str, ...]
    environment: str | None
    flavour: str | None
    config_file: Path | None
    reason: str
    by: str
    force: bool
    only: str | None
    yes: bool
    dist: Path
    github_output: bool
    as_json: bool


@click.command("rollback")
@click.option("--to", "target", required=True, metavar="VERSION", help="What users shall get.")
@click.option(
    "--deactivate",
    "bad",
    multiple=True,
    metavar="VERSION",
    help="Withdraw this version for ever; may be said again for another.",
)
@click.option(
    "--env",
    "environment",
    shell_complete=completing.environments,
    help="Environment of release.yaml.",
)
@click.option("--flavour", shell_complete=completing.flavours, help="Flavour of release.yaml.")
@click.option("--reason", default="", help="Why; stands in the tombstone, which is public.")
@click.option("--by", default="", help="Who, likewise.  [default: GITHUB_ACTOR or USER]")
@click.option("--force", is_flag=True, help="Deactivate even what connected providers run.")
@click.option(
    "--only",
    type=click.Choice([rollback_steps.LAST]),
    help="Only tell GitHub of the rollback that is recorded in --dist: for a job with its token.",
)
@click.option("--yes", is_flag=True, help="Do not ask: for jobs.")
@click.option("--config", "config_file", type=FILE, help="Another release.yaml.")
@click.option("--dist", type=DIST, default=Path("dist"), show_default=True)
@click.option(
    "--github-output",
    is_flag=True,
    help="Also write version=… and head=… for a job's outputs, and withdrawn=true, whatever came"
    " after, where tombstones stand.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document at the end.")
@pass_session
def command(session: Session, /, **options: Any) -> None:  # noqa: ANN401 - click's own keywords
    """Withdraw a bad release, and give users an earlier one.

    Shows first what is affected, and asks for the version. A tombstone beside the bad archive
    keeps it from ever being released again, the coordinator deactivates it, the earlier release
    is verified as users download it, and the pointer and the aliases go back to it. With
    GITHUB_TOKEN the log's new head goes to GitHub, where the bad release is marked. Broken off
    or refused in the middle, it is simply run again.

    \b
    By hand:   release-tool rollback --env dev --to 0.5.0 --deactivate 0.5.1 --reason "no start"
    In a job:  release-tool rollback --env prod --to 0.5.0 --deactivate 0.5.1 --yes
    In use:    release-tool rollback --env prod --to 0.5.0 --deactivate 0.5.1 --force
    On GitHub: release-tool rollback --env prod --to 0.5.0 --only github
    """
    wanted = Options(**{**options, "bad": tuple(dict.fromkeys(options["bad"]))})
    if wanted.github_output:
        # Before any work, as the job would lose it.
        github_commands.outputs_file(session.environ)
    session.resume_with = _command(wanted)
    _Rollback(session, wanted, *_resolve(session, wanted)).run()


def _resolve(session: Session, options: Options) -> tuple[config.Resolved, wiring.Inputs]:
    resolved = embedded.resolve(_request(session, options), options.dist)
    environment = resolved.plan.environment
    if not environment.embedded:
        return resolved, wiring.Inputs(environ=session.environ)
    trust = embedded.trust(options.dist, environment.name)
    return resolved, wiring.Inputs(environ=session.environ, trust=trust)


def _request(session: Session, options: Options) -> config.Request:
    return replace(
        asking.request(session, options),
        version=options.target,
        version_flag="--to",
        stages=(rollback_steps.LAST,) if options.only else _LIKE,
        from_source=False,
    )


class _Rollback:
    """One rollback, from the question to the last line."""

    def __init__(
        self, session: Session, options: Options, resolved: config.Resolved, inputs: wiring.Inputs
    ) -> None:
        self._session = session
        self._options = options
        self._resolved = resolved
        self._plan: ReleasePlan = resolved.plan
        root = (options.dist / self._plan.environment.name / FOLDER).resolve()
        self._workspace = Workspace(root)
        self._wired = wiring.Services(resolved=resolved, workspace=self._workspace, inputs=inputs)
        self._pages: list[str] = []

    def run(self) -> None:
        started = time.monotonic()
        if self._options.only:
            self._only_github(started)
            return
        self._require_settings()
        self._require_lines()
        self._require_somebody()
        survey = rollback_survey.look(
            self._plan,
            self._options.bad,
            store=self._wired.new_store(),
            coordinator=self._wired.coordinator,
        )
        if not self._options.as_json:
            for line in affected.shown(self._plan, survey):
                print(line, file=self._session.out)
        self._confirm()
        ledger = Ledger(self._workspace.root / "ledger")
        with ledger.lock():
            self._workspace.tidy()
            try:
                found = self._steps_done(ledger, survey)
            finally:
                carry.summarize(self._session, self._workspace, ledger, carry.about(self._plan))
                self._leave_reports(ledger, self._options.bad)
                self._hand_on_withdrawn(ledger)
        self._close(survey, found, ledger, time.monotonic() - started)

    def _leave_reports(self, ledger: Ledger, bad: Iterable[str]) -> None:
        """The page of this rollback; and those of the releases beside it, which say otherwise."""
        session, head = self._session, f"ledger head {ledger.head[:12]}"
        page = report.leave(session, self._workspace.root)
        session.state = f"{head} · report {page}" if page else head
        renewed = report.renew(session, self._workspace.root.parent, (self._plan.version, *bad))
        self._pages = [page, *renewed] if page else renewed

    def _hand_on_withdrawn(self, ledger: Ledger) -> None:
        """What must reach GitHub must do so even where a later step was refused."""
        if self._options.github_output and rollback_steps.is_withdrawn(ledger, self._plan.version):
            github_commands.hand_on(self._session.environ, {"withdrawn": "true"})

    def _only_github(self, started: float) -> None:
        """The last step, on another host than the others perhaps: it has their records."""
        if not self._plan.environment.github_release:
            # A workflow asks this of every environment.
            self._nothing_there()
            return
        if lacking := self._resolved.lacking():
            raise credentials.missing_error(lacking)
        ledger = Ledger(self._workspace.root / "ledger")
        with ledger.lock():
            self._workspace.tidy()
            recorded = rollback_steps.last_of(ledger, self._plan.version)
            step = rollback_steps.alone(self._wired, recorded)
            try:
                found = {**recorded, **self._pipeline([step], ledger).until(rollback_steps.LAST)}
            finally:
                carry.summarize(self._session, self._workspace, ledger)
                self._leave_reports(ledger, rollback_steps.withdrawn_by(recorded))
        self._close(None, found, ledger, time.monotonic() - started)

    def _nothing_there(self) -> None:
        name = self._plan.environment.name
        told = f"{name} has no releases on GitHub: the log's head stays in the rollback's records"
        print(told, file=self._session.err if self._options.as_json else self._session.out)

    def _require_settings(self) -> None:
        lacking = self._resolved.lacking()
        if credentials.ADMIN_KEY not in self._resolved.credentials.secrets:
            prefix = self._plan.environment.prefix
            lacking.append(
                credentials.Missing(
                    name=credentials.ADMIN_KEY,
                    wanted=(f"{prefix}{credentials.ADMIN_KEY}",),
                    stages=(FOLDER,),
                    advice="only an administrator of the coordinator deactivates a release",
                )
            )
        if lacking:
            raise credentials.missing_error(lacking)

    def _require_lines(self) -> None:
        """What goes into the tombstone stays there, and is read on terminals."""
        by = _who(self._options, self._session.environ)
        for name, text in (("--reason", self._options.reason), ("--by", by)):
            if not tombstone.is_line(text):
                raise errors.UsageError(
                    f"{name} is no short printable line", observed=repr(text)[:80]
                )

    def _require_somebody(self) -> None:
        if self._plan.environment.embedded or self._options.yes:
            return
        asked = sys.stdin.isatty() and self._session.on_terminal and not self._options.as_json
        if not asked:
            raise errors.UsageError(
                f"nobody is here to confirm the rollback to {self._plan.version}",
                hint="say --yes in a job",
            )

    def _confirm(self) -> None:
        if self._plan.environment.embedded or self._options.yes:
            return
        good, environment = self._plan.version, self._plan.environment.name
        typed = click.prompt(f"Roll {environment} back to {good}? Type the version", type=str)
        if typed != good:
            raise errors.UsageError(
                "not rolled back, nothing was changed", expected=good, observed=typed
            )

    def _steps_done(self, ledger: Ledger, survey: Survey) -> dict[str, Value]:
        steps = rollback_steps.Steps(
            wired=self._wired,
            survey=survey,
            by=_who(self._options, self._session.environ),
            reason=self._options.reason,
            force=self._options.force,
        )
        return self._pipeline(steps.all(), ledger).until(rollback_steps.LAST)

    def _pipeline(self, steps: list[Step], ledger: Ledger) -> pipeline.Run:
        return pipeline.Run(
            steps=steps,
            plan=self._plan,
            ledger=ledger,
            root=self._workspace.root,
            observer=JSONObserver() if self._options.as_json else RunConsole(self._session),
            host=carry.host(),
            tool=f"release-tool {release_tool.__version__}",
            cover=credentials.cover(self._resolved.credentials, self._session.environ),
        )

    def _close(
        self, survey: Survey | None, found: Mapping[str, Value], ledger: Ledger, seconds: float
    ) -> None:
        session, good = self._session, self._plan.version
        if self._options.github_output:
            github_commands.hand_on(session.environ, {"version": good, "head": ledger.head})
        if self._options.as_json:
            document = overview.read(self._workspace.root).as_json()
            document["survey"] = affected.as_json(survey) if survey else None
            document["values"] = {
                name: value.model_dump(mode="json") for name, value in found.items()
            }
            print(json.dumps({"ok": True, **document}, ensure_ascii=False), file=session.out)
            return
        for line in (*self._head(found), *(f"  report     {page}" for page in self._pages)):
            print(line, file=session.out)
        verb = "Told GitHub of the rollback" if survey is None else "Rolled back"
        print(
            f"{verb} to {good} in {seconds:.1f} s   ledger head {ledger.head[:12]}"
            f" in {shown_path(self._workspace.root)}",
            file=session.out,
        )

    def _head(self, found: Mapping[str, Value]) -> Iterator[str]:
        """Where the log's new head stands: whoever sets the bucket back is found out by it only."""
        head = rollback_steps.newest_head(found)
        if head is None:
            return
        where = shown_path(self._workspace.path(head.name))
        yield f"  log head   {head.lines} lines, kept in {where}"
        if rollback_steps.LAST in found:
            return
        if self._plan.environment.github_release:
            words = ["release-tool", "rollback", *self._plan.flags.split()]
            words += ["--to", self._plan.version, "--only", rollback_steps.LAST]
            yield "             not on GitHub yet, so who writes to the bucket could set it back:"
            yield f"             with GITHUB_TOKEN: {shlex.join(words)}"
        else:
            yield "             no release on GitHub here: keep this file out of the bucket's reach"


def _who(options: Options, environ: Mapping[str, str]) -> str:
    """Who says so: a job's actor, or the user's name on this machine."""
    return options.by or environ.get("GITHUB_ACTOR", "") or environ.get("USER", "") or "unknown"


def _command(options: Options) -> str:
    """The command that goes on after an interrupt; without the confirmation."""
    words = ["release-tool", "rollback", "--to", options.target]
    words += [word for one in options.bad for word in ("--deactivate", one)]
    words += ["--env", options.environment] if options.environment else []
    words += ["--flavour", options.flavour] if options.flavour else []
    words += ["--reason", options.reason] if options.reason else []
    words += ["--by", options.by] if options.by else []
    words += ["--config", str(options.config_file)] if options.config_file else []
    words += ["--force"] if options.force else []
    words += ["--only", options.only] if options.only else []
    words += ["--dist", str(options.dist)] if options.dist != Path("dist") else []
    return shlex.join(words)
