"""A death by signal is read as the gate that would have caused it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.apple.facts import BundleFacts
from release_tool.apple.policy import deaths
from tests import policy_apps


@pytest.mark.parametrize(
    ("signal_name", "said", "means"),
    [
        ("SIGABRT", ["dyld[7]: Library not loaded: @rpath/libx.dylib"], "dyld: a library"),
        ("SIGABRT", ["dyld[7]: Symbol not found: _new"], "dyld: a library"),
        (
            "SIGABRT",
            ["code signature in <1> '/x/liby.dylib' not valid for use in process: mapping process"
             " and mapped file (non-platform) have different Team IDs"],
            "library validation",
        ),
        ("SIGTRAP", ["Fatal error: unable to find bundle named X"], "a trap of its own"),
        ("SIGILL", [], "a trap of its own"),
        ("SIGABRT", [], "a trap of its own"),
        ("SIGSEGV", [], "a crash"),
        ("SIGBUS", [], "a crash"),
        ("SIGHUP", [], "ended from outside"),
        ("SIGKILL", [], "macOS killed it"),
    ],
)  # fmt: skip
def test_a_signal_and_the_last_words_name_the_gate(
    signal_name: str, said: list[str], means: str
) -> None:
    """dyld, library validation, a trap, a crash and AMFI are told apart, each with a next step."""
    reading = deaths.read(signal_name, said=said)
    assert reading.means.startswith(means)
    assert reading.hint


def test_a_kill_names_the_restricted_entitlements(app: BundleFacts) -> None:
    """Where the signature claims what a profile has to grant, those keys are the likely reason."""
    reading = deaths.read("SIGKILL", path=app.main_executable, facts=app)
    assert "com.apple.application-identifier" in reading.means
    assert "AMFI" in reading.means
    assert "verify-profile" in reading.hint


def test_a_kill_of_code_without_any_is_something_else(app: BundleFacts) -> None:
    """A helper that claims nothing was not killed for an entitlement."""
    report = app.code[app.main_executable]
    bare = replace(report, slices=tuple(replace(item, entitlements=None) for item in report.slices))
    facts = replace(app, code={"Contents/MacOS/helper": bare})
    for path in ("Contents/MacOS/helper", "Contents/MacOS/unknown"):
        reading = deaths.read("SIGKILL", path=path, facts=facts)
        assert "invalid signature" in reading.means


@given(signal_name=st.text(max_size=12), said=st.lists(st.text(max_size=60), max_size=4))
def test_every_death_has_a_reading(signal_name: str, said: list[str]) -> None:
    """No signal and no words are without an answer."""
    reading = deaths.read(signal_name, said=said)
    assert reading.means
    assert reading.hint


@pytest.fixture(scope="module")
def app() -> BundleFacts:
    return policy_apps.signed()
