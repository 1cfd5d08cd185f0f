"""`release-tool report`: one release as a page, from its ledger alone."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import click

from release_tool import credentials, errors
from release_tool.cli.session import Session, pass_session, shown_path
from release_tool.files import atomic
from release_tool.report.page import document, rendering
from release_tool.report.page.rendering import FORMS, SUFFIXES, Form
from release_tool.report.page.told import ROLLBACKS

NAME = "report"
_STANDARD_OUTPUT = Path("-")


@click.command("report")
@click.argument("workspace", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--env", "environment", help="Environment of the release.")
@click.option("--version", help="Version of the release.")
@click.option(
    "--dist",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("dist"),
    show_default=True,
    help="Folder that holds the releases.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="File to write, or - for standard output.  [default: report.html beside the ledger]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    help="Which of the two.  [default: by the file's name, else html]",
)
@click.option("--open", "opened", is_flag=True, help="Show it in a browser.")
@pass_session
def command(
    session: Session,
    workspace: Path | None,
    environment: str | None,
    version: str | None,
    dist: Path,
    output: Path | None,
    form: Form | None,
    *,
    opened: bool,
) -> None:
    """Write one release as a page: verdict, stages, contents, trust, figures, claims.

    One HTML file without a script, or the same as Markdown. It says what the ledger says, asks
    nobody, and works for a release that failed, is under way or was withdrawn.

    \b
    The only release here: release-tool report
    One of several:        release-tool report --env prod --version 0.5.0 --open
    A folder handed over:  release-tool report dist/prod/0.5.0 -o 0.5.0.html
    For an issue:          release-tool report --version 0.5.0 --format markdown -o -
    """
    found = workspace or _only(dist, environment, version)
    _require_ledger(found)
    chosen = form or _by_name(output)
    text = rendering.render(document.read(found), chosen, cover=cover(session.environ))
    if output == _STANDARD_OUTPUT:
        print(text, end="", file=session.out)
        return
    path = output or found / f"{NAME}{SUFFIXES[chosen]}"
    _write(path, text)
    print(shown_path(path.resolve()), file=session.out)
    if opened and not webbrowser.open(path.resolve().as_uri()):
        raise errors.HostError(
            "no browser could be started",
            subject=str(path),
            hint="the page is written: open this file on a machine that has one",
        )


def leave(session: Session, workspace: Path) -> str:
    """Write the page beside the ledger, after a failure too; it never stands in an outcome's way.

    Returns:
        where it is, as people read it; empty where there is none.
    """
    path = workspace / f"{NAME}{SUFFIXES['html']}"
    try:
        page = document.read(workspace)
        if not page.records:
            return ""
        covered = cover(session.environ)
        _write(path, rendering.as_html(page, covered))
        if session.in_github_actions:
            # What a job leaves is read where no browser is, too.
            text = rendering.render(page, "markdown", cover=covered)
            _write(path.with_suffix(SUFFIXES["markdown"]), text)
    except (OSError, errors.ReleaseError) as problem:
        said = f"the report was not written: {problem}"
        print(f"release-tool: warning: {said}", file=session.err)
        return ""
    return shown_path(path)


def renew(session: Session, folder: Path, versions: Iterable[str]) -> list[str]:
    """Write anew the pages of releases that something happened to from elsewhere.

    Args:
        session: as for every command.
        folder: of one environment, with its releases.
        versions: of these, of any flavour; what is not here is left out.

    Returns:
        where they are, as people read it.
    """
    wanted = list(versions)
    found = [
        ledger.parent
        for ledger in sorted(folder.glob("*/ledger"))
        if any(_is_named(ledger.parent.name, version) for version in wanted)
    ]
    return [page for one in found if (page := leave(session, one))]


def cover(environ: Mapping[str, str]) -> Callable[[str], str]:
    """Takes the secrets of an environment out of texts, each text once."""
    seen: dict[str, str] = {}

    def covered(text: str) -> str:
        if text not in seen:
            seen[text] = credentials.covered(text, environ)
        return seen[text]

    return covered


def _only(dist: Path, environment: str | None, version: str | None) -> Path:
    """The one release that the options name."""
    found = [
        ledger.parent
        for ledger in sorted(dist.glob(f"{environment or '*'}/*/ledger"))
        if _is_named(ledger.parent.name, version)
    ]
    asked = [one for one in (environment, version) if one]
    if not found:
        raise errors.UsageError(
            f"no release{' of ' if asked else ''}{' '.join(asked)} was begun here",
            subject=str(dist),
            hint="see what there is: release-tool status",
        )
    if len(found) > 1:
        raise errors.UsageError(
            "there are several releases here",
            subject=str(dist),
            details=[str(one) for one in found],
            hint="name one with --env and --version, or its folder",
        )
    return found[0]


def _is_named(folder: str, version: str | None) -> bool:
    """Whether a folder is of this version, of any flavour."""
    if version is None:
        return folder != ROLLBACKS
    return folder == version or folder.endswith(f"-{version}")


def _require_ledger(workspace: Path) -> None:
    if not (workspace / "ledger").is_dir():
        raise errors.UsageError(
            "there is no ledger here",
            subject=str(workspace),
            hint="name the folder of one release, such as dist/dev/1.2.3, or see them all:"
            " release-tool status",
        )


def _by_name(output: Path | None) -> Form:
    is_markdown = output is not None and output.suffix in (".md", ".markdown")
    return "markdown" if is_markdown else "html"


def _write(path: Path, text: str) -> None:
    with atomic.new_file(path) as out:
        out.write(text.encode())
