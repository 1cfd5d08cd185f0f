"""The addresses that are built into an executable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import built_in
from release_tool.apple.checks import Check
from release_tool.rehearsal import samples
from tests import built

HOST = "api.darkbloom.dev"
LOCAL = "localhost:8080"


def judged(code: bytes) -> dict[str, Check]:
    found = built_in.judge(
        code, wanted=[HOST], unwanted=[LOCAL], environment="prod", subject="darkbloom"
    )
    return {check.name: check for check in found}


@given(host=st.from_regex(r"[a-z0-9.-]{1,20}(:[0-9]{1,5})?", fullmatch=True))
def test_a_whole_constant_is_an_address(host: str) -> None:
    """Any host, with a port or without, is found once and as it stands."""
    assert f"https://{host}" in built_in.addresses(built.holding(f"https://{host}"))


@given(data=st.binary(max_size=200))
def test_any_bytes_end_in_checks(data: bytes) -> None:
    """What is no program is a failed check, never another error."""
    for content in (data, samples.executable("darkbloom", "0.5.0")[:4096] + data):
        assert judged(content)


def test_a_build_for_its_environment_passes() -> None:
    """The coordinator's address is a constant, and localhost is in none."""
    found = judged(built.holding(f"https://{HOST}"))
    assert {check.outcome for check in found.values()} == {"passed"}
    assert found["built in"].observed == f"https://{HOST}"


def test_a_build_for_localhost_is_refused_with_the_next_step() -> None:
    """The incident: the built-in coordinator was that of a developer's machine."""
    found = judged(built.holding(f"http://{LOCAL}/v1"))
    assert (found["built in"].outcome, found["built in"].observed) == ("failed", "nowhere in it")
    assert found["not built in"].outcome == "failed"
    assert found["not built in"].observed == f"http://{LOCAL}/v1"
    assert "build it for prod" in found["not built in"].hint


def test_prose_is_no_constant() -> None:
    """A help text that names localhost is not what the program connects to."""
    found = judged(built.holding(f"as http://{LOCAL}", HOST))
    assert {check.outcome for check in found.values()} == {"passed"}
    assert found["built in"].observed == f"{HOST}, in no address of its own"


def test_too_many_addresses_are_a_format_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file made of addresses is no program, and is refused as a whole."""
    code = built.holding("ws://one", "ws://two", "ws://three")
    monkeypatch.setattr(built_in, "_MAX_ADDRESSES", 2)
    with pytest.raises(errors.FormatError, match="too many addresses"):
        built_in.addresses(code)
    assert [check.outcome for check in judged(code).values()] == ["failed"]
