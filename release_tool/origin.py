"""Where a value of the plan came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OriginKind = Literal[
    "flag",
    "environment variable",
    "settings file",
    "file",
    "git",
    "default",
    "made for the run",
    "missing",
    "not set",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value came from."""

    kind: OriginKind
    where: str = ""
    """The flag, the variable, or file and line; of a settings file both."""

    def __str__(self) -> str:
        return self.where or self.kind


Origins = dict[str, Origin]
"""By dotted name."""
