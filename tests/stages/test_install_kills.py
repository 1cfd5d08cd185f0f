"""The installer killed: where it leaves neither the old nor the new app, it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from release_tool.plan import ReleasePlan
from release_tool.services import installer
from release_tool.services.held_commands import HeldCommands
from release_tool.stages import install_kills, install_smoke
from release_tool.stages.install_trial import Candidate
from tests.stages import install_parts
from tests.stages.install_parts import failed, own


@pytest.fixture
def candidate(plan: ReleasePlan, tmp_path: Path) -> Candidate:
    return install_parts.candidate(plan, tmp_path)


def test_an_app_that_is_removed_before_the_new_one_comes_is_refused(candidate: Candidate) -> None:
    """Between rm and mv there is no app: a moment that a clock rarely hits, and commands do."""
    remover = own(
        candidate,
        {'mkdir "$previous"\n    mv "$root/$top" "$previous/$top"': 'rm -rf "$root/$top"'},
    )
    found = install_smoke.judge(remover)
    killed = [one for one in found if one.name == "installer, killed at a command"]
    assert len(killed) == install_kills.KILLS  # of an installer that nothing else has killed
    # On a busy machine the clock may hit it, too.
    wrong = {
        (name, subject): observed
        for (name, subject), observed in failed(found).items()
        if not name.endswith("after the download")
    }
    told = wrong.pop(("held at each cp/ln/mv/rm", "Darkbloom.app"))
    assert told.startswith("gone before call ")
    assert ", mv ~/.darkbloom/.install.work." in told
    [((name, subject), observed)] = wrong.items()
    assert (name, observed) == ("killed at a command", "gone")
    assert subject.startswith("mv, call ")


@pytest.mark.slow
def test_a_kill_that_came_too_late_is_no_evidence(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installer that ended first was not killed; commands that it never calls hold nothing."""
    monkeypatch.setattr(install_kills, "LATE", (1000.0, 2000.0))
    away = own(candidate, {"set -eu\n": "set -eu\nPATH=/usr/bin:/bin\n"})
    judged = [one for one in install_smoke.judge(away) if one.outcome != "passed"]
    found = [one for one in judged if one.hint != "no earlier published archive is at hand"]
    assert [(one.outcome, one.hint) for one in found] == [
        ("not_checked", "it ended before it could be killed"),
        ("not_checked", "it ended before it could be killed"),
        (
            "not_checked",
            "it calls none of cp/ln/mv/rm by name or path: killed by the clock only",
        ),
    ]


def test_commands_are_held_in_order_by_name_and_by_path(tmp_path: Path) -> None:
    """Each call waits until it was looked at, and does then what it was asked to."""
    (tmp_path / "home").mkdir()
    commands = HeldCommands(tmp_path / "held", hold=None)
    script = tmp_path / "install.sh"
    text = (
        b"touch one\nmv one two\n/bin/cp two three\n/usr/bin/ln -s three four\nrm -f ./bin/rm two\n"
    )
    script.write_bytes(commands.led_to(text))
    seen = []

    def look(number: int) -> None:
        here = sorted(one.name for one in (tmp_path / "home").iterdir() if one.name != "tmp")
        seen.append((commands.said(number), here))

    ended = installer.step_through(
        script, home=tmp_path / "home", commands=commands, look=look, seconds=60
    )
    assert ended
    assert seen == [
        ("mv one two", ["one"]),
        ("cp two three", ["two"]),
        ("ln -s three four", ["three", "two"]),
        ("rm -f ./bin/rm two", ["four", "three", "two"]),
    ]


def test_an_installer_that_waits_is_ended(tmp_path: Path) -> None:
    """It is killed with what it started, at its point or when it never comes there."""
    script = tmp_path / "install.sh"
    script.write_text("sleep 600 & wait\n")
    reached = installer.kill_at(script, home=tmp_path, reached=lambda _: True, after=0.0, seconds=5)
    assert reached
    script.write_text("exit 3\n")
    ended = installer.kill_at(script, home=tmp_path, reached=lambda _: False, after=0.0, seconds=20)
    assert not ended
