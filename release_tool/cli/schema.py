"""`release-tool schema`: JSON Schemas of what this tool reads, keeps and prints."""

from __future__ import annotations

import json

import click

from release_tool.cli import schemas
from release_tool.cli.session import Session, pass_session

_NAME_WIDTH = 16


@click.command("schema")
@click.argument("name", required=False, type=click.Choice(schemas.NAMES))
@pass_session
def command(session: Session, name: str | None) -> None:
    """Print the JSON Schema of the release file, a record or a command's --json.

    Without a name it lists what there is. Each document carries the number of its form as
    `schema`: it is raised when a key goes or changes its meaning, never when one is added.

    \b
    For an editor:  release-tool schema release.yaml > release.schema.json
    For a reader:   release-tool schema doctor
    """
    if name is None:
        for one in schemas.NAMES:
            print(f"  {one:<{_NAME_WIDTH}}{schemas.says(one)}", file=session.out)
        return
    print(json.dumps(schemas.schema(name), indent=2, ensure_ascii=False), file=session.out)
