"""Where Apple's tools stand, and what they get to know."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from release_tool.services.apple_tools import TOOLS


def test_the_tools_are_named_by_their_whole_paths() -> None:
    """No folder that one works in and no PATH puts another program in a tool's place."""
    named = [getattr(TOOLS, one.name) for one in dataclasses.fields(TOOLS)]
    paths = [path for path in named if isinstance(path, Path)]
    assert len(paths) == 6
    assert {str(path.parent) for path in paths} == {"/usr/bin", "/usr/sbin"}
    assert set(TOOLS.environment) == {"HOME", "USER", "LOGNAME", "PATH", "LANG"}
