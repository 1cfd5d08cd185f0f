"""What a shell may complete behind an option: names of the release file, and stages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from release_tool import data, errors, release_file, release_yaml


def environments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The environments of the release file that this command line would read."""
    del param
    document = _document(ctx)
    return _beginning(release_file.sections(document) if document else (), incomplete)


def flavours(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Its flavours."""
    del param
    document = _document(ctx)
    return _beginning(release_file.flavours(document) if document else (), incomplete)


def stages(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The stages, in order."""
    del ctx, param
    from release_tool.cli.wiring import STAGES

    return _beginning(STAGES, incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _document(ctx: click.Context) -> release_yaml.Document | None:
    """A file that cannot be read completes nothing: the command itself says why."""
    chosen = ctx.params.get("config_file") or ctx.params.get("config")
    beside = Path(data.RELEASE_FILE)
    path = chosen if isinstance(chosen, Path) else beside
    try:
        return release_yaml.read(path if path.is_file() else data.release_file())
    except errors.ReleaseError:
        return None
