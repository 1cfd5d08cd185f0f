"""What this machine is, for evidence."""

from __future__ import annotations

import platform
import sys

import pytest

from release_tool.services import host


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("System Integrity Protection status: enabled.", "enabled"),
        ("System Integrity Protection status: disabled.\n", "disabled"),
        (
            "System Integrity Protection status: unknown (Custom Configuration).\n"
            "Configuration:\n\tApple Internal: disabled",
            "unknown",
        ),
        ("", "unknown"),
    ],
)
def test_what_csrutil_says_is_read(text: str, expected: str) -> None:
    """Only a plain `enabled` counts as such: a custom configuration is neither."""
    assert host.read_sip(text) == expected


def test_this_machine_is_described() -> None:
    """System, machine and memory are told, and no name of host or user."""
    found = host.describe()
    assert found.system == ("macos" if sys.platform == "darwin" else sys.platform)
    assert found.machine == platform.machine()
    assert found.memory_bytes > 0
    assert platform.node() not in found.model_dump_json()
