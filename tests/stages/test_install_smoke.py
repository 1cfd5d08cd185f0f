"""The installer under trial: the template does all that it must, and each broken one is named."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from release_tool.apple.checks import Check
from release_tool.files import archive_writer, hashing
from release_tool.plan import ReleasePlan
from release_tool.services import candidate_server, installer
from release_tool.services.held_commands import HeldCommands
from release_tool.stages import install_smoke, installer_file
from release_tool.stages.install_smoke import Candidate
from release_tool.values import ReleaseArchive
from tests import signed_release
from tests.stages.release_parts import changed


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def candidate(plan: ReleasePlan, tmp_path: Path) -> Candidate:
    made = signed_release.made()
    file = tmp_path / "darkbloom-bundle-macos-arm64.tar.gz"
    file.write_bytes(made.archive)
    (tmp_path / "outside").mkdir()
    archive = ReleaseArchive(
        path=file.name,
        sha256=digest(made.archive),
        size=len(made.archive),
        tar_sha256="0" * 64,
        binary_sha256=digest(made.files["bin/darkbloom"]),
        enclave_sha256="0" * 64,
        metallib_sha256=digest(made.files["bin/mlx.metallib"]),
        cdhash="0" * 40,
        code_directory_sha256="0" * 64,
        source_commit="unknown",
        test_outcome="unknown",
        members=(),
    )
    return Candidate(
        plan=plan,
        archive=archive,
        file=file,
        unpacked=made.write(tmp_path / "unpacked"),
        scratch=tmp_path / "scratch",
        outside=(tmp_path / "outside",),
    )


def own(candidate: Candidate, changes: Mapping[str, str]) -> Candidate:
    """The candidate with an installer of the project's own: the template, somewhat worse."""
    text = installer_file.render(candidate.plan)
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path = candidate.file.parent / "own.sh"
    path.write_text(text)
    named = changed(candidate.plan, smoke={"installer": str(path)})
    return Candidate(
        plan=named,
        archive=candidate.archive,
        file=candidate.file,
        unpacked=candidate.unpacked,
        scratch=candidate.scratch,
        outside=candidate.outside,
    )


def failed(found: list[Check]) -> dict[tuple[str, str], str]:
    return {
        (check.name.removeprefix("installer, "), check.subject): check.observed
        for check in found
        if check.outcome == "failed"
    }


def test_the_template_does_all_that_it_must(candidate: Candidate) -> None:
    """Every trial is named in the evidence, and all of them end well."""
    found = install_smoke.judge(candidate)
    assert failed(found) == {}
    named = [check.name.removeprefix("installer, ") for check in found]
    assert list(dict.fromkeys(named)) == [
        "fresh",
        "twice",
        "over a previous version",
        "over the release before",
        "a changed download",
        "a cut download",
        "no release",
        "killed before the download",
        "killed amid the download",
        "after two kills",
        "killed 30% after the download",
        "killed 80% after the download",
        "after two late kills",
        "held at each cp, ln, mv, rm",
        "killed at a command",
        "killed at a command, and run again",
        "installer",
    ]
    open_ = ("after the download", "over the release before")
    others = [check for check in found if not check.name.endswith(open_)]
    assert {check.outcome for check in others} == {"passed"}
    # Before anything moved, and on both sides of the first move of the swap.
    killed = [check.subject for check in others if check.name == "installer, killed at a command"]
    assert len(killed) == install_smoke._KILLS_OF_THE_TEMPLATE
    assert [one.partition(",")[0] for one in killed].count("mv") == 2


def test_the_release_before_is_updated_where_it_is_at_hand(candidate: Candidate) -> None:
    """Its own files, unpacked as users have them; another archive than was published is refused."""
    sha256 = hashing.sha256_of(candidate.file)
    for digest, wrong in ((sha256, {}), ("0" * 64, {"darkbloom-bundle": sha256})):
        before = install_smoke.ReleaseBefore(version="0.4.9", file=candidate.file, sha256=digest)
        made = dataclasses.replace(candidate, before=before)
        made.scratch.mkdir(exist_ok=True)
        row = install_smoke._row(made.plan, made.archive)
        with candidate_server.serving(made.file, row) as server:
            script = made.scratch / "install.sh"
            content = installer_file.read(made.plan)
            mark = installer_file.PLACEHOLDER.encode()
            script.write_bytes(content.replace(mark, server.url.encode()))
            trial = install_smoke._Trial(made, server, script)
            trial._homes = 10 + len(wrong)
            found = list(trial.updates())
        assert {check.name for check in found} == {"installer, over the release before, 0.4.9"}
        assert list(failed(found).values()) == list(wrong.values())
        assert ("the user's file" in {check.subject for check in found}) == (not wrong)


def test_an_app_that_is_removed_before_the_new_one_comes_is_refused(candidate: Candidate) -> None:
    """Between rm and mv there is no app: a moment that a clock rarely hits, and commands do."""
    remover = own(
        candidate,
        {'mkdir "$previous"\n    mv "$root/$top" "$previous/$top"': 'rm -rf "$root/$top"'},
    )
    found = install_smoke.judge(remover)
    killed = [one for one in found if one.name == "installer, killed at a command"]
    assert len(killed) == install_smoke._KILLS  # of an installer that nothing else has killed
    # On a busy machine the clock may hit it, too.
    wrong = {
        (name, subject): observed
        for (name, subject), observed in failed(found).items()
        if not name.endswith("after the download")
    }
    told = wrong.pop(("held at each cp, ln, mv, rm", "Darkbloom.app"))
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
    monkeypatch.setattr(install_smoke, "_LATE", (1000.0, 2000.0))
    away = own(candidate, {"set -eu\n": "set -eu\nPATH=/usr/bin:/bin\n"})
    judged = [one for one in install_smoke.judge(away) if one.outcome != "passed"]
    found = [one for one in judged if one.hint != "no earlier published archive is at hand"]
    assert [(one.outcome, one.hint) for one in found] == [
        ("not_checked", "it ended before it could be killed"),
        ("not_checked", "it ended before it could be killed"),
        (
            "not_checked",
            "it calls none of cp, ln, mv, rm by name or path: killed by the clock only",
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


@pytest.mark.slow
def test_a_careless_installer_is_refused_by_each_of_its_faults(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like those of the past: no digest, over the old app, in a shared folder, names forgotten."""
    monkeypatch.setattr(install_smoke, "_KILLS", 1)
    outside = candidate.outside[0]
    careless = own(
        candidate,
        {
            '[ "$found" = "$2" ] || die': "true || die",
            'mv "$root/$top" "$previous/$top"': ":",
            'mv "$work/new/$top" "$root/$top"': 'cp -R "$work/new/$top" "$root/"',
            "take_lock\n  put_back": f'take_lock\n  : >"{outside}/darkbloom-bundle.tar.gz"\n',
            "link darkbloom-enclave eigeninference-enclave": 'rm -f "$root/provider.toml"',
        },
    )
    wrong = failed(install_smoke.judge(careless))
    # It unpacks as well as the released archive, and is another file.
    assert wrong["a changed download", "exit code"] == "exit code 0"
    assert "differs" in wrong["a changed download", "what stood there"]
    # The installer of May left stale files in the new app, and the seal broke.
    assert "Contents/Resources is new" in wrong["over a previous version", "Darkbloom.app"]
    assert wrong["fresh", "bin/"] == "bin/eigeninference-enclave"
    assert wrong["over a previous version", "the user's file"] == "gone"
    assert "darkbloom-bundle.tar.gz is new" in wrong["installer", "outside"]


@pytest.mark.slow
def test_a_hasty_installer_is_refused(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It removes the old app first, and says nothing of its failures."""
    monkeypatch.setattr(install_smoke, "_KILLS", 1)
    hasty = own(
        candidate,
        {
            "\n  download\n": '\n  rm -rf "${root:?}/$top"\n  download\n',
            "\nmain\n": "\n(main) || exit 0\n",
        },
    )
    wrong = failed(install_smoke.judge(hasty))
    assert wrong["killed amid the download", "Darkbloom.app"] == "gone"
    assert "is missing" in wrong["a changed download", "what stood there"]
    assert wrong["no release", "exit code"] == "exit code 0"


@pytest.fixture
def bridge(plan: ReleasePlan, tmp_path: Path) -> Candidate:
    """A release of flat files, as the last provider in Rust was."""
    names = ("darkbloom", "eigeninference-enclave")
    executables = [
        {**plan.bundle.executables[at].model_dump(mode="json"), "name": name, "flat_copy": True}
        for at, name in enumerate(names)
    ]
    flat = changed(
        plan,
        flavour={"layout": "flat"},
        bundle={"main_executable": names[0], "executables": executables, "metallib": None},
    )
    unpacked = tmp_path / "bridge"
    (unpacked / "bin").mkdir(parents=True)
    for name in names:
        (unpacked / "bin" / name).write_bytes(name.encode() * 1000)
        (unpacked / "bin" / name).chmod(0o755)
    file = tmp_path / "darkbloom-bundle-macos-arm64.tar.gz"
    packed = archive_writer.pack(unpacked, file, date=1)
    (tmp_path / "outside").mkdir()
    archive = ReleaseArchive(
        path=file.name,
        sha256=packed.sha256,
        size=packed.size,
        tar_sha256=packed.tar_sha256,
        binary_sha256=digest(names[0].encode() * 1000),
        enclave_sha256=digest(names[1].encode() * 1000),
        metallib_sha256="",
        cdhash="0" * 40,
        code_directory_sha256="0" * 64,
        source_commit="unknown",
        test_outcome="unknown",
        members=(),
    )
    return Candidate(
        plan=flat,
        archive=archive,
        file=file,
        unpacked=unpacked,
        scratch=tmp_path / "scratch",
        outside=(tmp_path / "outside",),
    )


def test_a_release_of_flat_files_is_tried_like_an_app(bridge: Candidate) -> None:
    """`bin/` is swapped as a whole, whenever it is killed, and never over an installed app."""
    found = install_smoke.judge(bridge)
    assert failed(found) == {}
    passed = {one.name.removeprefix("installer, ") for one in found if one.outcome == "passed"}
    assert passed >= {
        *("fresh", "twice", "over a previous version", "over an installed app"),
        *("a changed download", "a cut download", "no release", "after two kills"),
        *("killed at a command", "killed at a command, and run again", "installer"),
    }


def test_flat_files_that_hide_an_app_are_refused(bridge: Candidate) -> None:
    """An installer that looks for none, and copies over what runs: both are told by name."""
    careless = own(
        bridge,
        {
            "  refuse_app\n": "",
            'mv "$work/new/$top" "$root/$top"': 'cp -R "$work/new/$top" "$root/"',
        },
    )
    wrong = failed(install_smoke.judge(careless))
    assert wrong["over an installed app", "exit code"] == "exit code 0"
    assert "differs" in wrong["over an installed app", "what stood there"]


def test_an_installer_that_waits_is_ended(tmp_path: Path) -> None:
    """It is killed with what it started, at its point or when it never comes there."""
    script = tmp_path / "install.sh"
    script.write_text("sleep 600 & wait\n")
    reached = installer.kill_at(script, home=tmp_path, reached=lambda _: True, after=0.0, seconds=5)
    assert reached
    script.write_text("exit 3\n")
    ended = installer.kill_at(script, home=tmp_path, reached=lambda _: False, after=0.0, seconds=20)
    assert not ended
