"""The installer under trial: the template does all that it must, and each broken one is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from release_tool.files import archive_writer, hashing
from release_tool.plan import ReleasePlan
from release_tool.services import candidate_server
from release_tool.stages import (
    install_kills,
    install_smoke,
    installer_file,
    smoke_asked,
    smoke_record,
)
from release_tool.stages.install_trial import Candidate, ReleaseBefore, Trial
from release_tool.values import ReleaseArchive
from tests.stages import install_parts
from tests.stages.install_parts import failed, own
from tests.stages.release_parts import changed


@pytest.fixture
def candidate(plan: ReleasePlan, tmp_path: Path) -> Candidate:
    return install_parts.candidate(plan, tmp_path)


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
        "interrupted amid the download",
        "terminated amid the download",
        "after two kills",
        "killed 30% after the download",
        "killed 80% after the download",
        "after two late kills",
        "held at each cp/ln/mv/rm",
        "changes the app in one step",
        "killed at a command",
        "killed at a command, and run again",
        "installer",
    ]
    open_ = ("after the download", "over the release before")
    others = [check for check in found if not check.name.endswith(open_)]
    assert {check.outcome for check in others} == {"passed"}
    assert smoke_asked.missing(smoke_asked.trials(), smoke_record.outcomes(found)) == []
    # Before anything moved, and on both sides of the first move of the swap.
    killed = [check.subject for check in others if check.name == "installer, killed at a command"]
    assert len(killed) == install_kills.KILLS_OF_THE_TEMPLATE
    assert [one.partition(",")[0] for one in killed].count("mv") == 2


def test_the_release_before_is_updated_where_it_is_at_hand(candidate: Candidate) -> None:
    """Its own files, unpacked as users have them; another archive than was published is refused."""
    sha256 = hashing.sha256_of(candidate.file)
    for digest, wrong in ((sha256, {}), ("0" * 64, {"darkbloom-bundle": sha256})):
        before = ReleaseBefore(version="0.4.9", file=candidate.file, sha256=digest)
        made = dataclasses.replace(candidate, before=before)
        made.scratch.mkdir(exist_ok=True)
        row = install_smoke.row_of(made.plan, made.archive)
        with candidate_server.serving(made.file, row) as server:
            script = made.scratch / "install.sh"
            content = installer_file.read(made.plan)
            mark = installer_file.PLACEHOLDER.encode()
            script.write_bytes(content.replace(mark, server.url.encode()))
            trial = Trial(made, server, script)
            trial.homes = 10 + len(wrong)
            found = list(install_smoke.updates(trial))
        assert {check.name for check in found} == {"installer, over the release before, 0.4.9"}
        assert list(failed(found).values()) == list(wrong.values())
        assert ("the user's file" in {check.subject for check in found}) == (not wrong)


@pytest.mark.slow
def test_a_careless_installer_is_refused_by_each_of_its_faults(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like those of the past: no digest, over the old app, in a shared folder, names forgotten."""
    monkeypatch.setattr(install_kills, "KILLS", 1)
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
    monkeypatch.setattr(install_kills, "KILLS", 1)
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
        binary_sha256=install_parts.digest(names[0].encode() * 1000),
        enclave_sha256=install_parts.digest(names[1].encode() * 1000),
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
    assert smoke_asked.missing(smoke_asked.trials(), smoke_record.outcomes(found)) == []


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


SWAP = 'mkdir "$previous"\n    mv "$root/$top" "$previous/$top"'
REST = {
    # Piped into a shell, it reads itself away.
    "reads": ({"\nmain\n": "\ncat >/dev/null\nmain\n"}, ("fresh", "Darkbloom.app"), "not there"),
    "interrupted": (
        {"trap 'exit 130' INT": "trap 'rm -rf \"$root/$top\"; exit 130' INT"},
        ("interrupted amid the download", "Darkbloom.app"),
        "gone",
    ),
    "terminated": (
        {"trap 'exit 143' TERM": "trap 'rm -rf \"$root/$top\"; exit 143' TERM"},
        ("terminated amid the download", "Darkbloom.app"),
        "gone",
    ),
    "download": (
        {'[ -z "$work" ] || rm -rf "$work"': ":"},
        ("fresh", "what it leaves"),
        "bundle.tar.gz, the download",
    ),
    "process": (
        {"\nmain\n": "\nmain\nnohup sleep 3600 >/dev/null 2>&1 &\n"},
        ("fresh", "what it leaves"),
        "sleep (process ",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", REST)
def test_an_installer_that_passed_once_is_refused(
    fault: str, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these was let through by an earlier form of the trial."""
    monkeypatch.setattr(install_kills, "KILLS", 1)
    changes, place, told = REST[fault]
    wrong = failed(install_smoke.judge(own(candidate, changes)))
    assert told in wrong.get(place, ""), wrong


@pytest.mark.slow
def test_an_installer_that_swaps_by_other_means_says_so(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `rm` is held and looked at; what changes the app is no command that can be held."""
    monkeypatch.setattr(install_kills, "KILLS", 1)
    moved = 'tar -C "$work/new" -cf - "$top" | tar -C "$root" -xf -'
    changes = {SWAP: 'find "$root/$top" -delete', 'mv "$work/new/$top" "$root/$top"': moved}
    found = install_smoke.judge(own(candidate, changes))
    [one] = [one for one in found if one.name == "installer, changes the app in one step"]
    assert one.outcome == "not_checked"
    assert "by another command" in one.hint


@pytest.mark.slow
def test_files_that_are_copied_over_what_runs_are_refused(
    bridge: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing seals a flat folder, so the end is right; a kill amid the copying is never hit."""
    monkeypatch.setattr(install_kills, "KILLS", 1)
    copied = 'cp -Rp "$work/new/$top" "$root/"'
    changes = {SWAP: ":", 'mv "$work/new/$top" "$root/$top"': copied}
    wrong = failed(install_smoke.judge(own(bridge, changes)))
    assert "before call" in wrong.get(("changes the app in one step", "bin"), ""), wrong
    assert ", cp " in wrong["changes the app in one step", "bin"]
