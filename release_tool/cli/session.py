"""What every command shares: the environment as a mapping, and how it speaks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TextIO

import click


@dataclass
class Session:
    """One invocation. Commands get it as `ctx.obj`; nothing below cli/ does."""

    environ: Mapping[str, str]
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    resume_with: str = ""
    """The command that goes on after an interrupt or a failure."""
    state: str = ""
    """Where things stand, for the last line of a failure: `ledger head 77aa01c3f9d2`."""

    @property
    def in_github_actions(self) -> bool:
        return self.environ.get("GITHUB_ACTIONS") == "true"

    @property
    def on_terminal(self) -> bool:
        return self.out.isatty() and not self.in_github_actions


pass_session = click.make_pass_decorator(Session)
