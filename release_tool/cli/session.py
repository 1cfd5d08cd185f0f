"""What every command shares: the environment as a mapping, and how it speaks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import click

from release_tool.cli import github_commands

if TYPE_CHECKING:
    from release_tool.plan import ReleasePlan


@dataclass
class Session:
    """One invocation. Commands get it as `ctx.obj`; nothing below cli/ does."""

    environ: Mapping[str, str] = field(repr=False)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    resume_with: str = ""
    """The command that goes on after an interrupt or a failure."""
    state: str = ""
    """Where things stand, for the last line of a failure: `ledger head 77aa01c3f9d2`."""
    verbose: bool = False
    """Whether `-v` asked for what is left out else."""

    def __post_init__(self) -> None:
        if self.in_github_actions:
            # Whatever is printed in a job, only our own commands are commands there.
            self.out, self.err = _guarded(self.out), _guarded(self.err)

    @property
    def in_github_actions(self) -> bool:
        return self.environ.get("GITHUB_ACTIONS") == "true"

    @property
    def on_terminal(self) -> bool:
        return self.out.isatty() and not self.in_github_actions


def _guarded(stream: TextIO) -> TextIO:
    return cast("TextIO", github_commands.Guarded(stream))


def workspace_root(plan: ReleasePlan, dist: Path) -> Path:
    """The folder of a release below the folder of all: one for each environment and tag.

    It is called like the tag without its `v`, so that no two flavours ever share one.
    """
    return (dist / plan.environment.name / f"{plan.flavour.family}{plan.version}").resolve()


def shown_path(path: Path) -> str:
    """A path as people read it: short where it lies below the working folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


pass_session = click.make_pass_decorator(Session)
