"""Git, on real repositories made for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from release_tool import errors
from release_tool.services.git import Git
from tests.git_trees import ENVIRON, commit, git


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository with two commits on `main`."""
    folder = tmp_path / "origin"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "one")
    commit(folder, "two")
    return folder


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Path:
    """A full clone of it."""
    git(tmp_path, "clone", "-q", origin.as_uri(), "clone")
    return tmp_path / "clone"


def test_a_clean_clone_tells_its_commit(clone: Path) -> None:
    """Commit, committer's date and cleanness come from git."""
    found = Git(clone, ENVIRON).checkout()
    assert found.commit == git(clone, "rev-parse", "HEAD")
    assert found.date == 1_700_000_001
    assert found.changes == ()
    assert not found.shallow


def test_changed_renamed_and_untracked_files_are_all_changes(clone: Path) -> None:
    """Each makes the tree unclean, whatever its name holds."""
    git(clone, "mv", "one", "ö ne\n1")
    (clone / "two").write_text("changed")
    (clone / 'new "file"').write_text("")
    assert sorted(Git(clone, ENVIRON).checkout().changes) == ['new "file"', "two", "ö ne\n1"]


def test_ignored_files_leave_the_tree_clean(clone: Path) -> None:
    """The folder of releases is ignored and does not count."""
    commit(clone, ".gitignore", "dist/\n")
    (clone / "dist").mkdir()
    (clone / "dist" / "x").write_text("")
    assert Git(clone, ENVIRON).checkout().changes == ()


def test_a_folder_without_git_is_no_repository(tmp_path: Path) -> None:
    """Nor is one without a commit, nor a host without git."""
    git_free = Git(tmp_path, {**ENVIRON, "GIT_CEILING_DIRECTORIES": str(tmp_path)})
    assert not git_free.is_repository()
    git(tmp_path, "init", "-q")
    assert not Git(tmp_path, ENVIRON).is_repository()
    assert not Git(tmp_path, {"PATH": str(tmp_path)}).is_repository()


def test_a_host_without_git_is_told(clone: Path) -> None:
    """Where git is needed and missing the exit code is that of a lacking host."""
    with pytest.raises(errors.HostError, match="git is not installed"):
        Git(clone, {"PATH": str(clone)}).checkout()


def test_variables_that_point_elsewhere_are_not_passed_on(clone: Path, origin: Path) -> None:
    """`GIT_DIR` of a surrounding hook does not decide which tree is read."""
    commit(origin, "three")
    astray = {**ENVIRON, "GIT_DIR": str(origin / ".git"), "GIT_WORK_TREE": str(origin)}
    assert Git(clone, astray).checkout().commit == git(clone, "rev-parse", "HEAD")


def test_a_monitor_of_the_tree_is_not_run(clone: Path, tmp_path: Path) -> None:
    """Reading a foreign tree runs no program that its configuration names."""
    script = tmp_path / "monitor"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    script.chmod(0o755)
    git(clone, "config", "core.fsmonitor", str(script))
    Git(clone, ENVIRON).checkout()
    assert not (tmp_path / "ran").exists()


def test_a_shallow_clone_says_so(origin: Path, tmp_path: Path) -> None:
    """A clone with one commit is shallow."""
    git(tmp_path, "clone", "-q", "--depth=1", origin.as_uri(), "shallow")
    assert Git(tmp_path / "shallow", ENVIRON).checkout().shallow


def test_the_remote_names_its_default_branch(clone: Path) -> None:
    """`origin/HEAD` decides, and without it the one usual name that is there."""
    assert Git(clone, ENVIRON).default_branch() == "refs/remotes/origin/main"
    git(clone, "remote", "set-head", "origin", "--delete")
    assert Git(clone, ENVIRON).default_branch() == "refs/remotes/origin/main"


def test_a_configured_branch_wins(clone: Path) -> None:
    """The release file may name another branch; a name that is nowhere is refused."""
    git(clone, "branch", "stable")
    assert Git(clone, ENVIRON).default_branch("stable") == "refs/heads/stable"
    with pytest.raises(errors.HostError, match="which branch is the default"):
        Git(clone, ENVIRON).default_branch("nowhere")


def test_two_candidates_are_not_guessed_between(clone: Path) -> None:
    """With main and master both there somebody must say which."""
    git(clone, "remote", "set-head", "origin", "--delete")
    git(clone, "update-ref", "refs/remotes/origin/master", "HEAD")
    with pytest.raises(errors.HostError) as caught:
        Git(clone, ENVIRON).default_branch()
    assert "origin/main, refs/remotes/origin/master" in caught.value.observed


def test_reachability_is_that_of_history(clone: Path) -> None:
    """A commit that was only made here is not in the remote's branch."""
    repository = Git(clone, ENVIRON)
    branch = repository.default_branch()
    assert repository.reaches(branch, git(clone, "rev-parse", "HEAD~1"))
    assert not repository.reaches(branch, commit(clone, "local"))
    with pytest.raises(errors.HostError, match="cannot read the source tree"):
        repository.reaches(branch, "0" * 40)


def test_the_text_of_a_tag_is_data(clone: Path) -> None:
    """Quotes, braces, percent signs and shell words come back as they were written."""
    text = 'Release "0.5.0"\n\n$(touch x) `y` %(refname) {"a": 1} \\n ü\n- last'
    git(clone, "tag", "-a", "v0.5.0", "-m", text)
    git(clone, "tag", "plain")
    repository = Git(clone, ENVIRON)
    assert repository.annotation("v0.5.0") == text
    assert repository.annotation("plain") == ""
    assert repository.annotation("missing") == ""
    assert sorted(repository.tags_at_head()) == ["plain", "v0.5.0"]
    assert repository.commit_of_tag("v0.5.0") == git(clone, "rev-parse", "HEAD")
    assert repository.commit_of_tag("missing") == ""
