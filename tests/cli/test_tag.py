"""`release-tool tag` on real repositories with a real remote, and the coordinator's look-alike."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from release_tool import data, errors, tag_message
from release_tool.cli import main
from release_tool.cli.session import Session
from release_tool.rehearsal import faults
from release_tool.rehearsal.coordinator import Coordinator, Settings
from release_tool.rehearsal.registration import Registration
from release_tool.rehearsal.release_store import ReleaseStore
from release_tool.rehearsal.servers import Server
from tests.git_trees import ENVIRON, commit, git

NOWHERE = "http://127.0.0.1:9"
CONSTANT = """{file: v.swift, pattern: 'version = "([^"]+)"'}"""
BRIDGE = "{file: Cargo.toml, pattern: '^version = \"(.*)\"$', flavours: [rust-bridge]}"


class Clone:
    """A clone of a bare remote, with a release file and a version constant."""

    def __init__(self, folder: Path) -> None:
        self.remote = folder / "origin.git"
        self.path = folder / "clone"
        self.environ: dict[str, str] = {"PROD_COORDINATOR_URL": NOWHERE}

    def make(self) -> None:
        git(self.remote.parent, "init", "-q", "--bare", "-b", "main", str(self.remote))
        git(self.remote.parent, "clone", "-q", self.remote.as_uri(), "clone")
        git(self.path, "checkout", "-q", "-b", "main")
        text = data.release_file().read_text()
        text = text.replace("constants: []", f"constants: [{CONSTANT}, {BRIDGE}]")
        (self.path / "release.yaml").write_text(text)
        git(self.path, "add", ".")
        self.says("0.5.0")

    def says(self, version: str) -> str:
        """Raise the constants, and push; returns the commit."""
        (self.path / "Cargo.toml").write_text(f'[package]\nversion = "{version}"\n')
        git(self.path, "add", ".")
        made = commit(self.path, "v.swift", f'let version = "{version}"\n')
        git(self.path, "push", "-q", "origin", "HEAD:main")
        return made

    def tag(self, *argv: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Run the command; returns its exit code and what it said on both ways."""
        out, err = io.StringIO(), io.StringIO()
        given = {**ENVIRON, **self.environ, **(environ or {})}
        code = main.invoke(["tag", *argv], Session(given, out=out, err=err))
        return code, out.getvalue(), err.getvalue()

    def here(self) -> list[str]:
        return git(self.path, "tag").split()

    def there(self) -> list[str]:
        return git(self.remote, "tag").split()

    def hook(self, name: str, script: str) -> None:
        """A hook of the remote."""
        path = self.remote / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a clone that every test gets a copy of."""
    folder = tmp_path_factory.mktemp("pattern")
    Clone(folder).make()
    return folder


@pytest.fixture
def clone(pattern: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    shutil.copytree(pattern, tmp_path, dirs_exist_ok=True, symlinks=True)
    made = Clone(tmp_path)
    git(made.path, "remote", "set-url", "origin", made.remote.as_uri())
    monkeypatch.chdir(made.path)
    return made


@pytest.fixture
def served(tmp_path: Path, clone: Clone) -> Iterator[ReleaseStore]:
    """The rows of a living coordinator of prod."""
    store = ReleaseStore(tmp_path / "coordinator.sqlite")
    settings = Settings(release_key="k", admin_key="a", cdn_url="")
    with Server(Coordinator(store, settings, scratch=tmp_path, broken=faults.Faults())) as server:
        clone.environ["PROD_COORDINATOR_URL"] = server.url
        yield store
    store.close()


def registered(version: str, backend: str = "mlx-swift") -> Registration:
    return Registration(
        version=version,
        platform="macos-arm64",
        backend=backend,
        binary_hash="0" * 64,
        bundle_hash="1" * 64,
        metallib_hash="2" * 64,
        url=f"https://cdn.example.com/releases/v{version}/darkbloom-bundle-macos-arm64.tar.gz",
    )


def test_a_dry_run_shows_everything_and_makes_nothing(clone: Clone) -> None:
    """Where it is cut from, what it is compared with, its text; then nothing is there."""
    code, out, err = clone.tag("0.5.0", "--dry-run", "--push")
    assert (code, err) == (0, "")
    head = git(clone.path, "rev-parse", "HEAD")
    assert out.startswith(f"Darkbloom 0.5.0 · tag v0.5.0 on {head[:12]} (main)")
    assert "releases to prod" in out
    assert f"{head[:12]} is in origin/main" in out
    assert "v.swift  0.5.0" in out
    assert "latest release in prod       not checked" in out
    assert "not signed (tag.gpgSign)" in out
    assert "  | Darkbloom 0.5.0\n  |\n  | - Add v.swift\n" in out
    assert out.endswith("Nothing was made (--dry-run)\n")
    assert clone.here() == clone.there() == []


def test_a_tag_is_annotated_and_stays_here_until_it_is_pushed(clone: Clone) -> None:
    """It names the commit, holds the commits since the tag before, and says how to push it."""
    git(clone.path, "tag", "-a", "-m", "old", "v0.4.9")
    git(clone.path, "push", "-q", "origin", "v0.4.9")
    last = commit(clone.path, "more")
    git(clone.path, "push", "-q", "origin", "HEAD:main")
    code, out, err = clone.tag("0.5.0")
    assert (code, err) == (0, "")
    assert git(clone.path, "cat-file", "-t", "v0.5.0") == "tag"
    assert git(clone.path, "rev-parse", "v0.5.0^{commit}") == last
    assert git(clone.path, "tag", "-l", "--format=%(contents)", "v0.5.0") == (
        "Darkbloom 0.5.0\n\n- Add more"
    )
    assert "push it: git push origin refs/tags/v0.5.0" in out
    assert clone.there() == ["v0.4.9"]


def test_push_brings_that_one_tag_to_the_remote(clone: Clone) -> None:
    """No other tag goes along, whatever push.followTags says, and the object is the same."""
    git(clone.path, "config", "push.followTags", "true")
    git(clone.path, "tag", "-a", "-m", "mine", "private")
    code, _, err = clone.tag("0.5.0", "--push", "--yes")
    assert (code, err) == (0, "")
    assert clone.there() == ["v0.5.0"]
    assert git(clone.remote, "rev-parse", "v0.5.0") == git(clone.path, "rev-parse", "v0.5.0")


def test_push_without_a_person_is_refused_before_anything(clone: Clone) -> None:
    """A job says --yes; otherwise nothing is made."""
    code, _, err = clone.tag("0.5.0", "--push")
    assert code == errors.UsageError.exit_code
    assert "nobody is here to confirm the push of 0.5.0" in err
    assert clone.here() == []


def test_a_refused_push_is_gone_on_with(clone: Clone) -> None:
    """The tag stays here, the error says so and how to go on, and the same command does it."""
    clone.hook("pre-receive", 'echo "tags are frozen" >&2; exit 1')
    code, _, err = clone.tag("0.5.0", "--push", "--yes")
    assert code == errors.RemoteRefusedError.exit_code
    assert "tag v0.5.0 was made here and is not at origin" in err
    assert "tags are frozen" in err
    assert "run the same command again" in err
    assert "git tag -d v0.5.0" in err
    first = git(clone.path, "rev-parse", "v0.5.0")
    (clone.remote / "hooks" / "pre-receive").unlink()
    code, out, err = clone.tag("0.5.0", "--push", "--yes")
    assert (code, err) == (0, "")
    assert "made by an earlier run, on this commit; push is left" in out
    assert git(clone.remote, "rev-parse", "v0.5.0") == first


def test_a_remote_that_is_gone_fails_before_anything_is_made(clone: Clone) -> None:
    """Whether the tag exists there could not be told."""
    clone.remote.rename(clone.remote.with_name("elsewhere"))
    code, _, err = clone.tag("0.5.0", "--push", "--yes")
    assert code == errors.TransientError.exit_code
    assert "the remote cannot be reached" in err
    assert clone.here() == []


def test_a_push_whose_answer_is_lost_counts_by_what_the_remote_has(clone: Clone) -> None:
    """The connection breaks once the remote has the tag: asked again, it says so."""
    clone.hook("post-receive", "kill -9 $PPID")
    code, out, err = clone.tag("0.5.0", "--push", "--yes")
    assert (code, err) == (0, "")
    assert "Pushed v0.5.0 to origin" in out
    assert clone.there() == ["v0.5.0"]


def test_a_push_that_breaks_off_before_is_not_taken_for_one(clone: Clone) -> None:
    """The remote dies before it takes the tag: a passing fault, and how to go on."""
    clone.hook("pre-receive", "kill -9 $PPID")
    code, _, err = clone.tag("0.5.0", "--push", "--yes")
    assert code == errors.TransientError.exit_code
    assert "tag v0.5.0 was made here and is not at origin" in err
    assert clone.there() == []


@pytest.mark.parametrize("untracked", [True, False])
def test_the_tree_must_be_clean(clone: Clone, *, untracked: bool) -> None:
    """Neither a changed nor an untracked file may be left out of what is tagged."""
    (clone.path / ("new" if untracked else "v.swift")).write_text("x")
    code, _, err = clone.tag("0.5.0")
    assert code == errors.UsageError.exit_code
    assert (
        f"tree: expected clean, nothing untracked; found {'new' if untracked else 'v.swift'}" in err
    )


def test_the_commit_must_be_in_the_branch_that_the_remote_has(clone: Clone) -> None:
    """An unpushed commit, another branch and a detached HEAD are refused, each by its name."""
    commit(clone.path, "unpushed")
    _, _, err = clone.tag("0.5.0")
    assert "is not in it" in err
    assert "push and merge it first" in err
    git(clone.path, "checkout", "-q", "-b", "side")
    _, _, err = clone.tag("0.5.0")
    assert "branch: expected main; found side" in err
    git(clone.path, "checkout", "-q", "--detach", "origin/main")
    _, _, err = clone.tag("0.5.0")
    assert "found a detached HEAD" in err
    git(clone.path, "checkout", "-q", "-b", "releases/0.5")
    code, _, err = clone.tag("0.5.0", "--branch", "releases/0.5", "--dry-run")
    assert (code, err) == (0, "")


def test_a_clone_that_is_behind_is_told_to_fetch(clone: Clone) -> None:
    """What is asked is the remote of now, not what this clone remembers of it."""
    other = clone.path.parent / "other"
    git(clone.path.parent, "clone", "-q", clone.remote.as_uri(), "other")
    commit(other, "theirs")
    git(other, "push", "-q", "origin", "HEAD:main")
    git(other, "tag", "-a", "-m", "theirs", "v0.4.8")
    git(other, "push", "-q", "origin", "v0.4.8")
    code, _, err = clone.tag("0.5.0")
    assert code == errors.UsageError.exit_code
    assert "run git fetch origin" in err
    assert "expected the commits since v0.4.8; found the tag is missing here" in err


def test_every_constant_must_say_the_version(clone: Clone) -> None:
    """Read as committed; one that differs, is missing or has no match is named with its file."""
    code, _, err = clone.tag("0.5.1")
    assert code == errors.UsageError.exit_code
    assert "version in the source v.swift: expected 0.5.1; found 0.5.0" in err
    assert "Cargo.toml" not in err
    git(clone.path, "rm", "-q", "v.swift")
    git(clone.path, "commit", "-q", "-m", "Lose it")
    _, _, err = clone.tag("0.5.0")
    assert "version in the source v.swift: expected 0.5.0; found no such file" in err
    commit(clone.path, "v.swift", 'version = "0.5.0"; oldest_version = "0.4.0"')
    _, _, err = clone.tag("0.5.0")
    assert "expected 0.5.0; found 0.5.0, 0.4.0" in err
    commit(clone.path, "v.swift", "")
    _, _, err = clone.tag("0.5.0")
    assert "nothing matches version = " in err


def test_the_repositorys_file_counts_below_its_top_too(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a subfolder the same constants are asked for, not those of the tool's own file."""
    (clone.path / "sub").mkdir()
    monkeypatch.chdir(clone.path / "sub")
    code, _, err = clone.tag("0.5.1", "--dry-run")
    assert code == errors.UsageError.exit_code
    assert "version in the source v.swift: expected 0.5.1; found 0.5.0" in err


def test_the_tools_own_repository_has_a_file_of_its_own(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that came with the tool is then the repository's, and is named like any other."""
    monkeypatch.setattr(data, "release_file", lambda: clone.path / "release.yaml")
    code, out, _ = clone.tag("0.5.0", "--dry-run")
    assert code == 0
    assert "this repository has none" not in out
    assert f"release file                 {clone.path / 'release.yaml'}" in out


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("v0.5.0", "did you mean 0.5.0?"),
        ("0.5", ""),
        ("0.5.0-rc.1", ""),
        ("01.5.0", ""),
        ("0.5.0+b1", ""),
        ("0.5.0\n", ""),
        ("main", ""),
        ("$(id)", ""),
        ("../../x", ""),
    ],
)
def test_only_the_version_of_a_release_tag_is_taken(clone: Clone, text: str, hint: str) -> None:
    """The workflow would not know any other; nothing of it reaches git."""
    code, _, err = clone.tag(text)
    assert code == errors.UsageError.exit_code
    assert "this is not the version of a release tag" in err
    assert hint in err
    assert clone.here() == []


def test_a_tag_that_exists_is_never_cut_again(clone: Clone) -> None:
    """Here or at the remote, under its own name or as a second build of the same version."""
    git(clone.path, "tag", "v0.5.0-swift")
    git(clone.path, "push", "-q", "origin", "v0.5.0-swift")
    git(clone.path, "tag", "-d", "v0.5.0-swift")
    code, _, err = clone.tag("0.5.0")
    assert code == errors.UsageError.exit_code
    assert "tag at origin: expected none; found v0.5.0-swift" in err
    assert "never cut again" in err
    git(clone.path, "tag", "v0.5.0")
    _, _, err = clone.tag("0.5.0", "--push", "--yes")
    assert "tag here: expected none; found v0.5.0 on" in err
    assert "git tag -d v0.5.0" in err


def test_only_a_tag_at_the_remote_is_the_remotes_refusal(clone: Clone) -> None:
    """There is nothing to edit: exit 7, and the next version."""
    git(clone.path, "tag", "v0.5.0")
    git(clone.path, "push", "-q", "origin", "v0.5.0")
    git(clone.path, "tag", "-d", "v0.5.0")
    code, _, err = clone.tag("0.5.0")
    assert code == errors.RemoteRefusedError.exit_code
    assert "release the next version" in err


def test_a_version_comes_after_the_latest_of_its_family(clone: Clone) -> None:
    """By SemVer, not by text; a release may stay below the next one's development versions."""
    for name in ("v0.4.9", "v0.10.0", "v0.11.0-dev.2", "rust-bridge-v3.0.0"):
        git(clone.path, "tag", "-a", "-m", "old", name)
    git(clone.path, "push", "-q", "--tags", "origin")
    _, _, err = clone.tag("0.5.0")
    assert "latest tag: expected a version above 0.10.0; found 0.5.0" in err
    clone.says("0.10.1")
    code, out, err = clone.tag("0.10.1", "--dry-run")
    assert (code, err) == (0, "")
    assert "the commits since v0.10.0" in out
    clone.says("0.11.0-dev.1")
    _, _, err = clone.tag("0.11.0-dev.1")
    assert "latest tag: expected a version above 0.11.0-dev.2" in err


def test_a_flavour_has_tags_of_its_own(clone: Clone) -> None:
    """Its family, its constants, its title; those of others do not count."""
    git(clone.path, "tag", "-a", "-m", "old", "v0.5.0")
    clone.says("0.4.9")
    code, out, err = clone.tag("0.4.9", "--flavour", "rust-bridge")
    assert (code, err) == (0, "")
    assert "Darkbloom Rust bridge 0.4.9 · tag rust-bridge-v0.4.9" in out
    assert "Cargo.toml  0.4.9" in out
    assert "none: this is the first one" in out
    assert git(clone.path, "tag", "-l", "--format=%(contents:subject)", "rust-bridge-v0.4.9") == (
        "Darkbloom Rust bridge 0.4.9"
    )


def test_a_development_tag_may_be_cut_from_any_branch(clone: Clone) -> None:
    """It releases to dev, which asks for no branch; a clean tree it wants all the same."""
    git(clone.path, "checkout", "-q", "-b", "idea")
    git(clone.path, "push", "-q", "origin", "idea")
    commit(clone.path, "v.swift", 'version = "0.6.0-dev.1"')
    environ = {"DEV_COORDINATOR_URL": NOWHERE}
    code, out, err = clone.tag("0.6.0-dev.1", environ=environ)
    assert (code, err) == (0, "")
    assert "releases to dev" in out
    assert "idea: dev takes any" in out
    assert "not checked: dev takes commits of any branch" in out


def test_the_coordinators_latest_counts(clone: Clone, served: ReleaseStore) -> None:
    """A version at or below what users have is refused; above it, it is said."""
    served.accept(registered("0.5.0"))
    code, _, err = clone.tag("0.5.0")
    assert code == errors.UsageError.exit_code
    assert "latest release in prod: expected a version above 0.5.0; found 0.5.0" in err
    clone.says("0.5.1")
    code, out, err = clone.tag("0.5.1", "--dry-run")
    assert (code, err) == (0, "")
    assert "latest release in prod       0.5.0, mlx-swift" in out


def test_a_bridge_may_stay_behind_what_is_served(clone: Clone, served: ReleaseStore) -> None:
    """Of another flavour's release it is only told, unless the version itself is taken."""
    served.accept(registered("0.5.0"))
    clone.says("0.4.9")
    code, out, err = clone.tag("0.4.9", "--flavour", "rust-bridge", "--dry-run")
    assert (code, err) == (0, "")
    assert "0.5.0, mlx-swift; this one stays behind it" in out
    clone.says("0.5.0")
    code, _, err = clone.tag("0.5.0", "--flavour", "rust-bridge")
    assert code == errors.UsageError.exit_code
    assert "the versions of all flavours are one series" in err


def test_notes_of_a_file_stand_as_they_are(clone: Clone) -> None:
    """Headings of Markdown are no comments of git, and markup and workflow commands no commands."""
    notes = clone.path.parent / "notes.md"
    text = "# Faster\r\n\r\n* <script>alert(1)</script>  \r\n::error::x\r\n$(id) `id`\r\n# end"
    notes.write_bytes(text.encode())
    code, out, err = clone.tag("0.5.0", "--notes", str(notes))
    assert (code, err) == (0, "")
    assert git(clone.path, "tag", "-l", "--format=%(contents)", "v0.5.0") == (
        "Darkbloom 0.5.0\n\n# Faster\n\n* <script>alert(1)</script>\n::error::x\n$(id) `id`\n# end"
    )
    assert not any(line.strip().startswith("::") for line in out.splitlines())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the notes are empty"),
        (b" \n\n", "the notes are empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a\nb\x1b[31mc", "notes.md:2: the notes hold a character that nobody sees"),
        ("a \u202etxt.exe".encode(), "U+202E"),
        (b"a\x00b", "U+0000"),
        (b"a\n-----BEGIN PGP SIGNATURE-----\nb", "for the tag's signature"),
        (b"-----BEGIN SSH SIGNATURE-----", "for the tag's signature"),
        (b"x" * 49_152, "longer than a changelog may be"),
    ],
)
def test_unfit_notes_are_refused(clone: Clone, content: bytes, said: str) -> None:
    """Before anything is made, and with the line that is to blame."""
    notes = clone.path.parent / "notes.md"
    notes.write_bytes(content)
    code, _, err = clone.tag("0.5.0", "--notes", str(notes))
    assert code == errors.UsageError.exit_code
    assert said in err
    assert clone.here() == []


def test_hostile_subjects_become_one_line_each(clone: Clone) -> None:
    """A commit's author writes into the list, and cannot leave the line."""
    subject = "-----BEGIN PGP SIGNATURE----- \x1b[2J\u202e::error::x %0A"
    git(clone.path, "commit", "-q", "--allow-empty", "-m", subject)
    git(clone.path, "push", "-q", "origin", "HEAD:main")
    code, out, err = clone.tag("0.5.0")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    shown = git(clone.path, "tag", "-l", "--format=%(contents)", "v0.5.0")
    assert shown.splitlines()[2] == "- -----BEGIN PGP SIGNATURE----- ?[2J?::error::x %0A"


@given(
    subjects=st.lists(st.text(max_size=300), max_size=30),
    limit=st.integers(min_value=60, max_value=2000),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_message_keeps_to_the_limit(subjects: list[str], limit: int) -> None:
    """Whatever was committed: plain lines, in order, within the coordinator's bound."""
    message = tag_message.from_commits("T 1.0.0", subjects, since="v0", limit=limit)
    assert len(message.encode()) <= limit
    assert message.startswith("T 1.0.0\n")
    assert message.endswith("\n")
    lines = message.rstrip("\n").split("\n")[2:]
    assert all(line.startswith("-") for line in lines)
    assert len(lines) <= len(subjects)


def test_a_tag_is_signed_where_git_says_so(clone: Clone, tmp_path: Path) -> None:
    """With the user's own key and configuration, and git verifies what was made."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    allowed = tmp_path / "allowed"
    allowed.write_text(f"a@example.com {key.with_suffix('.pub').read_text()}")
    for name, value in {
        "tag.gpgSign": "true",
        "gpg.format": "ssh",
        "user.signingKey": str(key),
    }.items():
        git(clone.path, "config", name, value)
    code, out, err = clone.tag("0.5.0", "--dry-run")
    assert (code, err) == (0, "")
    assert "signed (ssh)" in out
    code, out, err = clone.tag("0.5.0", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["signed"], told["made"], told["pushed"]) == (True, True, False)
    assert "allowedSignersFile" in told["signature_fault"]
    git(clone.path, "tag", "-d", "v0.5.0")
    git(clone.path, "config", "gpg.ssh.allowedSignersFile", str(allowed))
    code, out, err = clone.tag("0.5.0")
    assert (code, err) == (0, "")
    assert "signature                    verified" in out
    assert git(clone.path, "tag", "-v", "v0.5.0").startswith("object ")


def test_a_key_that_cannot_sign_leaves_no_tag(clone: Clone, tmp_path: Path) -> None:
    """Git's own words are told, and nothing is half made: git 2.39 makes an unsigned one."""
    git(clone.path, "config", "tag.gpgSign", "true")
    git(clone.path, "config", "gpg.format", "ssh")
    git(clone.path, "config", "user.signingKey", str(tmp_path / "absent"))
    code, _, err = clone.tag("0.5.0", "--push", "--yes")
    assert code == errors.HostError.exit_code
    assert "absent" in err
    assert "user.signingKey" in err
    assert clone.here() == clone.there() == []


def test_nobody_tags_without_a_name(clone: Clone) -> None:
    """Git would guess one of user and host."""
    environ = {**ENVIRON, **clone.environ}
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        del environ[name]
    out, err = io.StringIO(), io.StringIO()
    code = main.invoke(["tag", "0.5.0"], Session(environ, out=out, err=err))
    assert code == errors.HostError.exit_code
    assert "git config user.name" in err.getvalue()


def test_another_repository_cannot_be_named_by_the_environment(clone: Clone) -> None:
    """GIT_DIR and its like would lead git elsewhere than to this folder."""
    elsewhere = {"GIT_DIR": os.devnull, "GIT_WORK_TREE": "/", "GIT_INDEX_FILE": os.devnull}
    code, _, err = clone.tag("0.5.0", environ=elsewhere)
    assert (code, err) == (0, "")
    assert clone.here() == ["v0.5.0"]


def test_an_unknown_remote_is_told_with_those_there_are(clone: Clone) -> None:
    """Nothing that looks like an option or an address reaches git."""
    for name in ("upstream", "--upload-pack=x", "ext::sh -c id"):
        code, _, err = clone.tag("0.5.0", f"--remote={name}")
        assert code == errors.UsageError.exit_code
        assert "expected  origin" in err
