"""The resource bundles that a program opens, and what lies in `Resources`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import resource_bundles
from release_tool.apple.checks import Check
from release_tool.apple.tree import in_memory
from tests import macho_samples

MAIN = "Contents/MacOS/darkbloom"
NAME = "mlx-swift-lm_MLXLMCommon.bundle"
ACCESSOR = f"\0/Users/ci/p/.build/release/{NAME}\0{NAME}\0".encode()
NAMES = st.from_regex(r"[A-Za-z0-9-]{1,20}_[A-Za-z0-9]{1,20}\.bundle", fullmatch=True)


def judged(files: dict[str, bytes], modes: dict[str, int] | None = None) -> list[Check]:
    tree = in_memory({MAIN: b"code" + ACCESSOR, **files}, modes=modes or {})
    return list(resource_bundles.judge(tree, MAIN, path="A.app"))


@given(names=st.sets(NAMES, max_size=5), between=st.binary(max_size=20))
def test_every_accessor_is_found(names: set[str], between: bytes) -> None:
    """A name beside its path in the build tree, whatever stands between."""
    code = b"".join(
        between + f"\0/b/{name}\0".encode() + between + f"\0{name}\0".encode() for name in names
    )
    assert set(names) <= set(resource_bundles.opened(code))


@pytest.mark.parametrize(
    "code",
    [
        f"\0{NAME}\0".encode(),
        f"\0/b/{NAME}\0".encode(),
        f"\0see /b/{NAME}\0{NAME}\0".encode(),
        b"\0/b/plain.bundle\0plain.bundle\0",
        b"\0/b/.bundle\0.bundle\0",
        b".bundle\0",
    ],
)
def test_what_is_no_accessor_says_nothing(code: bytes) -> None:
    """A name alone, a path alone, prose, or another form: nobody is refused for it."""
    assert resource_bundles.opened(code) == ()


@given(code=st.binary(max_size=300))
def test_any_bytes_end_in_names(code: bytes) -> None:
    """Nothing is raised, with an accessor amid the bytes or not."""
    resource_bundles.opened(code)
    resource_bundles.opened(code + ACCESSOR + code)


def test_a_crowd_of_names_is_refused() -> None:
    """A file made of accessors is judged as one, in bounded memory."""
    crowd = "".join(f"\0k_{at}.bundle\0" for at in range(resource_bundles.MAX_BUNDLES + 1)).encode()
    with pytest.raises(errors.FormatError, match="too many resource bundles"):
        resource_bundles.opened(crowd)
    found = list(resource_bundles.judge(in_memory({MAIN: crowd}), MAIN))
    assert [check.outcome for check in found] == ["failed"]


def test_a_bundle_that_the_program_opens_must_be_there() -> None:
    """The incident of July: without it the program ends where it opens it."""
    missing = [check for check in judged({}) if check.outcome == "failed"]
    assert [(check.name, check.expected, check.observed) for check in missing] == [
        ("resource bundle", f"Contents/Resources/{NAME}", "not there")
    ]
    assert "bundle.resources" in missing[0].hint
    there = judged({f"Contents/Resources/{NAME}/pagedattention.metal": b"kernel"})
    assert {check.outcome for check in there} == {"passed"}


@pytest.mark.parametrize(
    ("content", "mode", "observed"),
    [
        (macho_samples.universal(), 0o644, "a Mach-O"),
        (b"#!/bin/sh\n", 0o755, "a file that may be run, 0755"),
    ],
)
def test_resources_hold_no_code(content: bytes, mode: int, observed: str) -> None:
    """A Mach-O, or a file that is marked as a program."""
    place = f"Contents/Resources/{NAME}/tool"
    wrong = [
        check for check in judged({place: content}, {place: mode}) if check.outcome == "failed"
    ]
    assert [(check.name, check.subject, check.observed) for check in wrong] == [
        ("resources", f"A.app/{place}", observed)
    ]
