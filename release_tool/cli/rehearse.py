"""`release-tool rehearse`: a whole release on this machine, without an account."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from pathlib import Path

import click

from release_tool import errors, ledger
from release_tool.cli import carry, dry_run, embedded
from release_tool.cli.run import DIST, FILE
from release_tool.cli.session import Session, pass_session
from release_tool.report import overview

ENVIRONMENT = "rehearsal"


@click.command("rehearse")
@click.option("--version", help="Version to rehearse.  [default: the one of release.yaml]")
@click.option("--flavour", help="Flavour of release.yaml; a tag names it, too.")
@click.option("--metallib", type=FILE, help="Metal library instead of the pinned wheel's.")
@click.option("--model", help="Model folder instead of the pinned wheel's small model.")
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--fresh", is_flag=True, help="Forget an earlier rehearsal and begin anew.")
@click.option("--keep", is_flag=True, help="Leave the look-alikes running for more commands.")
@click.option(
    "--dry-run", "dry", is_flag=True, help="Tell what would be signed, and change nothing."
)
@click.option("--dist", type=DIST, default=Path("dist"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document at the end.")
@pass_session
def command(
    session: Session,
    *,
    version: str | None,
    flavour: str | None,
    metallib: Path | None,
    model: str | None,
    until: str | None,
    fresh: bool,
    keep: bool,
    dry: bool,
    dist: Path,
    as_json: bool,
) -> None:
    """Carry a whole release through look-alikes on this machine.

    An interrupted rehearsal goes on where it was; a finished one begins anew.

    \b
    All of it:           release-tool rehearse
    Another flavour:     release-tool rehearse --flavour rust-bridge
    Up to the signature: release-tool rehearse --until sign
    """
    options = carry.Options(
        environment=ENVIRONMENT,
        version=version,
        flavour=flavour,
        metallib=metallib,
        model=model,
        until=until,
        dist=dist,
        as_json=as_json,
    )
    if dry:
        dry_run.show(session, options)
        return
    if fresh or _is_finished(dist):
        _forget(dist)
    session.resume_with = _again(options, keep=keep)
    try:
        carry.carry(session, options)
    except errors.ReleaseError as problem:
        if isinstance(problem, errors.RepeatRefusedError):
            problem.hint = f"put back what changed, or begin anew: {session.resume_with} --fresh"
        # What was recorded goes on with these look-alikes; without records nothing does.
        if not keep and not any((dist / ENVIRONMENT).glob("*/ledger/*.json")):
            embedded.stop(dist, ENVIRONMENT)
        raise
    if not keep:
        embedded.stop(dist, ENVIRONMENT)


def _forget(dist: Path) -> None:
    """Remove an earlier rehearsal whole, unless somebody is still at it."""
    with contextlib.ExitStack() as held:
        for folder in (dist / ENVIRONMENT).glob("*/ledger"):
            held.enter_context(ledger.hold(folder))
        embedded.stop(dist, ENVIRONMENT)
        try:
            shutil.rmtree(dist / ENVIRONMENT)
        except FileNotFoundError:
            return
        except OSError as problem:
            raise errors.HostError(
                "an earlier rehearsal cannot be removed",
                subject=str(dist / ENVIRONMENT),
                observed=str(problem),
            ) from problem


def _again(options: carry.Options, *, keep: bool) -> str:
    words = ["release-tool", "rehearse"]
    for name in ("version", "flavour", "metallib", "model", "until"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", str(value)]
    if options.dist != Path("dist"):
        words += ["--dist", str(options.dist)]
    return shlex.join([*words, "--keep"] if keep else words)


def _is_finished(dist: Path) -> bool:
    """Whether every release of an earlier rehearsal went its whole way, and nobody kept it."""
    workspaces = [folder.parent for folder in (dist / ENVIRONMENT).glob("*/ledger")]
    if not workspaces or embedded.is_running(dist, ENVIRONMENT):
        return False
    return all(
        overview.read(workspace).verdict in ("released", "rolled back") for workspace in workspaces
    )
