"""Failed checks in one error."""

from __future__ import annotations

import pytest

from release_tool import errors
from release_tool.apple import checks
from release_tool.stages import findings


def test_each_failed_check_is_a_line_that_says_only_what_it_knows() -> None:
    """Nothing is said to be expected where a check only found what must not be."""
    found = [
        checks.passed("team"),
        checks.failed("flags", expected="runtime", observed="none", subject="bin/x"),
        checks.failed("page hashes", observed="page 3 differs", hint="look at it"),
        checks.failed("nested code"),
    ]
    with pytest.raises(errors.VerificationError) as caught:
        findings.require(found, "does not verify", hint="sign again")
    assert caught.value.details == (
        "flags of bin/x: expected runtime, observed none",
        "page hashes: page 3 differs",
        "nested code: nothing",
    )
    assert caught.value.hint == "look at it"
