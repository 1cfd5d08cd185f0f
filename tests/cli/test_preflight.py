"""The preflight: asks what the coming stages need, and tells everything at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from release_tool import errors
from release_tool.cli import preflight
from release_tool.cli.preflight import Probe


def bad(problem: errors.ReleaseError) -> Callable[[], None]:
    def ask() -> None:
        raise problem

    return ask


def probe(name: str, stage: str, ask: Callable[[], None] = lambda: None) -> Probe:
    return Probe(name=name, stages=frozenset({stage}), ask=ask)


def test_only_what_coming_stages_need_is_asked() -> None:
    """A job that only promotes asks nothing about profiles."""
    probes = [
        probe("profile", "profile", bad(errors.VerificationError("expired"))),
        probe("store", "promote"),
    ]
    assert preflight.run(probes, ["promote"]) == ["store"]


def test_all_findings_come_at_once_and_the_gravest_decides() -> None:
    """A passing fault beside a wrong key exits as the wrong key does."""
    probes = [
        probe("timestamps", "sign", bad(errors.TransientError("no answer"))),
        probe("store", "publish", bad(errors.CredentialError("refused", hint="set it"))),
        probe("latest", "register"),
    ]
    with pytest.raises(errors.CredentialError) as caught:
        preflight.run(probes, ["sign", "publish", "register"])
    assert caught.value.message == "preflight: 2 findings, nothing was started"
    # The worst first.
    assert caught.value.details == ("store: refused", "    set it", "timestamps: no answer")


def test_probes_run_side_by_side() -> None:
    """Two probes that wait for each other both end: the slowest decides the time."""
    meeting = threading.Barrier(2, timeout=20)
    probes = [probe(name, "sign", lambda: void(meeting.wait())) for name in ("a", "b")]
    assert preflight.run(probes, ["sign"]) == ["a", "b"]


def void(_: object) -> None:
    """Take a value and give none."""


def test_a_bug_in_a_probe_is_not_a_finding() -> None:
    """What is not ours stays a bug with its traceback."""

    def ask() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        preflight.run([probe("a", "sign", ask)], ["sign"])


_HANGING = """
import sys, time
from release_tool import errors
from release_tool.cli import preflight
preflight._BUDGET_SECONDS = 0.1
probe = preflight.Probe(name="slow", stages=frozenset({"sign"}), ask=lambda: time.sleep(3600))
try:
    preflight.run([probe], ["sign"])
except errors.TransientError as problem:
    print(problem)
"""


def test_a_probe_that_hangs_holds_back_neither_verdict_nor_process() -> None:
    """The interpreter must not wait for it at its end: a job would hang behind its own error."""
    told = subprocess.run(
        [sys.executable, "-c", _HANGING], capture_output=True, text=True, timeout=60, check=True
    )
    assert "nothing was started" in told.stdout
