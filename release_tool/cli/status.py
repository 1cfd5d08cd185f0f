"""`release-tool status`: the ledger, for people and for jobs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from release_tool import errors
from release_tool.apple.policy import expiry
from release_tool.cli.session import Session, pass_session
from release_tool.report import overview, smoke
from release_tool.report.summary import ago


@click.command("status")
@click.argument("workspace", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--dist",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("dist"),
    show_default=True,
    help="Folder that holds the releases.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--markdown", is_flag=True, help="A table for a job's step summary.")
@pass_session
def command(
    session: Session, workspace: Path | None, dist: Path, *, as_json: bool, markdown: bool
) -> None:
    """Show what is done and what comes next.

    \b
    Every release:  release-tool status
    One of them:    release-tool status dist/rehearsal/0.5.0
    """
    found = [overview.read(folder) for folder in _workspaces(workspace, dist)]
    if as_json:
        document = [one.as_json() for one in found]
        print(json.dumps(document, ensure_ascii=False, indent=1), file=session.out)
    elif markdown:
        for one in found:
            print(one.as_markdown(), file=session.out)
            for told in smoke.read(Path(one.folder)):
                print(f"\n{told.as_markdown()}", file=session.out)
    else:
        for one in found:
            _show(session, one)


def _workspaces(workspace: Path | None, dist: Path) -> list[Path]:
    if workspace is not None:
        if not (workspace / "ledger").is_dir():
            raise errors.UsageError(
                "there is no ledger here",
                subject=str(workspace),
                hint="name the folder of one release, such as dist/dev/1.2.3, or see them all:"
                " release-tool status",
            )
        return [workspace]
    found = sorted(ledger.parent for ledger in dist.glob("*/*/ledger"))
    if not found:
        raise errors.UsageError(
            "no release was begun here", subject=str(dist), hint="begin one: release-tool rehearse"
        )
    return found


def _show(session: Session, one: overview.Overview) -> None:
    print(f"{one.folder}: {one.verdict}   ledger head {one.head[:12]}", file=session.out)
    for row in one.rows:
        when = ago(row.at) if row.at else ""
        print(f"  {row.stage:<10} {row.outcome:<7} {row.text}  {when}".rstrip(), file=session.out)
    for lane in one.lanes:
        state = "done" if lane.host else "missing"
        when = ago(lane.at) if lane.at else ""
        print(
            f"  lane {lane.lane}: {state}, {lane.host or lane.wanted}  {when}".rstrip(),
            file=session.out,
        )
    for ends in expiry.soon(one.expiries):
        print(f"  {'ends soon':<18} {ends.line}: {ends.todo}", file=session.out)
