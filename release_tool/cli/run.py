"""`release-tool run`: carry a release through its stages, and resume it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from release_tool.cli import completing
from release_tool.cli.session import Session, pass_session

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
DIST = click.Path(path_type=Path, file_okay=False)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("run")
@click.option(
    "--env",
    "environment",
    shell_complete=completing.environments,
    help="Environment of release.yaml; a tag names it, too.",
)
@click.option("--version", help="Version, when this is not run on a tag.")
@click.option(
    "--flavour",
    shell_complete=completing.flavours,
    help="Flavour of release.yaml; a tag names it, too.",
)
@click.option("--config", type=FILE, help="Another release.yaml.")
@click.option("--binaries", type=FOLDER, help="What the build produced, with its build.json.")
@click.option("--metallib", type=FILE, help="Metal library instead of the pinned wheel's.")
@click.option("--profile", type=FILE, help="Profile instead of PROVISIONING_PROFILE_BASE64.")
@click.option("--identity", type=FILE, help="PKCS#12 or PEM instead of APPLE_CERTIFICATE_P12.")
@click.option(
    "--keychain", is_flag=True, help="On a Mac: the identity of release.yaml in your keychains."
)
@click.option("--model", help="Model of the smoke run: a folder, or an id of the hub's cache.")
@click.option(
    "--until", shell_complete=completing.stages, metavar="STAGE", help="Stop after this stage."
)
@click.option(
    "--only",
    shell_complete=completing.stages,
    metavar="STAGE",
    help="Run this one stage on records that stand.",
)
@click.option("--resign", is_flag=True, help="Sign again; says what that invalidates.")
@click.option("--yes", is_flag=True, help="Register without asking: for jobs.")
@click.option("--no-wait", is_flag=True, help="Hand in to the notary and leave: exit 8.")
@click.option(
    "--dry-run", "dry", is_flag=True, help="Tell what would be signed, and change nothing."
)
@click.option("--dist", type=DIST, default=Path("dist"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document at the end.")
@pass_session
def command(session: Session, /, *, dry: bool, **options: Any) -> None:  # noqa: ANN401 - click's own keywords
    """Carry a release through its stages; run again to resume.

    \b
    Everything:        release-tool run --env dev --version 0.5.0 --binaries build
    Up to the archive: release-tool run --env dev --version 0.5.0 --until archive
    Without a wait:    release-tool run --env dev --version 0.5.0 --until archive --no-wait
    One stage:         release-tool run --env dev --version 0.5.0 --only smoke
    Only look:         release-tool run --env dev --version 0.5.0 --binaries build --dry-run
    """
    # What carries a release takes most of a second to load, and neither help nor a TAB needs it.
    from release_tool.cli import carry

    wanted = carry.Options(**options)
    if dry:
        from release_tool.cli import dry_run

        dry_run.show(session, wanted)
    else:
        carry.carry(session, wanted)
