"""What `--version` prints is a version, or it is told as it stands."""

from __future__ import annotations

import pytest

from release_tool.services import executable_version


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["0.5.0"], "0.5.0"),
        (["a notice", "darkbloom 0.5.0"], "0.5.0"),
        (["darkbloom-enclave\t0.5.0-dev.1"], "0.5.0-dev.1"),
        (["error: some tool wants 0.5.0"], "error: some tool wants 0.5.0"),
        (["error: 0.5.0"], "error: 0.5.0"),
        (["0.5.0", "a notice behind it"], "a notice behind it"),
    ],
)
def test_only_a_line_of_name_and_version_tells_one(lines: list[str], expected: str) -> None:
    """The last word of a longer line is no version, so that it compares with none."""
    assert executable_version.told(lines) == expected
