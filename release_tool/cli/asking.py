"""What a command line asks of `config`: its options, here, in the environment of this process."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from release_tool import config
from release_tool.cli.session import Session


class Named(Protocol):
    """The options of every command that reads a release file."""

    @property
    def environment(self) -> str | None: ...

    @property
    def flavour(self) -> str | None: ...

    @property
    def config_file(self) -> Path | None: ...


def request(session: Session, named: Named) -> config.Request:
    """What they ask for; the version, and whatever else a command knows, it adds itself."""
    return config.Request(
        environ=session.environ,
        working_folder=Path.cwd(),
        config_file=named.config_file,
        environment=named.environment,
        flavour=named.flavour,
    )
