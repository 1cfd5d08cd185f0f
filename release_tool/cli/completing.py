"""What a shell may complete behind an option: names of the release file, and stages.

The release file is only read, and what reads it only loaded, once somebody asks for a name of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from release_tool import data, errors
from release_tool.cli.stage_names import STAGES

if TYPE_CHECKING:
    from release_tool.release_yaml import Document


def environments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The environments of the release file that this command line would read."""
    del param
    from release_tool import release_file

    document = _document(ctx)
    return _beginning(release_file.sections(document) if document else (), incomplete)


def flavours(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Its flavours."""
    del param
    from release_tool import release_file

    document = _document(ctx)
    return _beginning(release_file.flavours(document) if document else (), incomplete)


def stages(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The stages, in order."""
    del ctx, param
    return _beginning(STAGES, incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _document(ctx: click.Context) -> Document | None:
    """A file that cannot be read completes nothing: the command itself says why."""
    from release_tool import release_yaml

    chosen = ctx.params.get("config_file") or ctx.params.get("config")
    beside = Path(data.RELEASE_FILE)
    path = chosen if isinstance(chosen, Path) else beside
    try:
        return release_yaml.read(path if path.is_file() else data.release_file())
    except errors.ReleaseError:
        return None
