"""Capability markers and the code that they speak for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.apple import capabilities
from release_tool.apple.capabilities import FOLDER, Capability
from release_tool.apple.checks import Check
from release_tool.apple.tree import MemoryTree, in_memory

MAIN = "Contents/MacOS/darkbloom"
KERNEL = "Contents/Resources/kit_Core.bundle/pagedattention.metal"
MARKER = f"{FOLDER}/paged-kernel-v1"
PAGED = Capability(
    marker="paged-kernel-v1",
    code_string="engine_v2_kv_backend",
    needs=("Resources/kit_Core.bundle/pagedattention.metal",),
)
WITH = {MAIN: b"\0engine_v2_kv_backend\0", MARKER: b"1", KERNEL: b"kernel"}


def judged(files: dict[str, bytes]) -> list[Check]:
    return list(capabilities.judge(in_memory(files), MAIN, capabilities=[PAGED], path="A.app"))


def failed(files: dict[str, bytes]) -> list[tuple[str, str, str]]:
    return [
        (check.subject, check.expected, check.observed)
        for check in judged(files)
        if check.outcome == "failed"
    ]


@given(code=st.booleans(), marker=st.booleans(), kernel=st.booleans())
def test_a_marker_stands_if_and_only_if_its_code_does(
    *, code: bool, marker: bool, kernel: bool
) -> None:
    """Of the eight ways only two hold: all of it, or nothing."""
    files = {MAIN: WITH[MAIN] if code else b"\0engine_v1\0"}
    files |= {MARKER: b"1"} if marker else {}
    files |= {KERNEL: b"kernel"} if kernel else {}
    assert (failed(files) == []) == (code == marker == kernel)


def test_what_is_wrong_is_said_with_the_next_step() -> None:
    """A missing marker names the text that calls for it; a needless one, what lacks."""
    without = [check for check in judged({**WITH, MAIN: b"old"}) if check.outcome == "failed"]
    assert [check.expected for check in without] == ["none", "none"]
    assert "does not hold engine_v2_kv_backend" in without[0].hint
    bare = [check for check in judged({MAIN: WITH[MAIN]}) if check.outcome == "failed"]
    assert [check.observed for check in bare] == ["none", "none"]
    assert "holds engine_v2_kv_backend" in bare[0].hint


@pytest.mark.parametrize("content", [b"", b"0", b"1\n", b"11"])
def test_a_marker_holds_one_digit(content: bytes) -> None:
    """Readers compare the whole content with `1`."""
    assert failed({**WITH, MARKER: content}) == [
        (f"A.app/{MARKER}", "a file with 1", f"a file with {content[:2]!r}")
    ]


def test_a_kernel_in_two_places_is_ambiguous() -> None:
    """Exactly one file of the name: the program finds the other first, or does not."""
    other = "Contents/Resources/old.bundle/pagedattention.metal"
    assert failed({**WITH, other: b"kernel"}) == [
        (f"A.app/{KERNEL}", "a file", f"a file, and {other}")
    ]


def test_links_folders_and_unknown_markers_are_refused() -> None:
    """What is no file is no marker, and nobody knows a marker that is not declared."""
    linked = MemoryTree(
        files={MAIN: WITH[MAIN], KERNEL: b"kernel"}, links={MARKER: "elsewhere"}, modes={}
    )
    found = capabilities.judge(linked, MAIN, capabilities=[PAGED])
    assert [check.observed for check in found if check.outcome == "failed"] == ["a symlink"]
    assert failed({**WITH, f"{FOLDER}/other-v1": b"1"}) == [
        (f"A.app/{FOLDER}/other-v1", "one that release.yaml declares", "another")
    ]
