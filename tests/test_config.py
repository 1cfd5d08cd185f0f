"""The cascade: each value with its origin, every problem at once, on real repositories."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from release_tool import config, data, errors
from release_tool.config import Flag, Request, Resolved
from release_tool.release_yaml import dotted
from release_tool.settings import Settings
from tests.git_trees import commit, git

COMMIT_DATE = 1_700_000_001
SECRETS = {
    "R2_ACCESS_KEY_ID": "access-key-value",
    "R2_SECRET_ACCESS_KEY": "secret-key-value",
    "RELEASE_KEY": "release-key-value",
    "PROVENANCE_KEY": "-----BEGIN PRIVATE KEY-----\nprovenance\n-----END PRIVATE KEY-----",
}
SEVEN = {
    **SECRETS,
    "R2_ENDPOINT": "https://store.example.com",
    "R2_PUBLIC_URL": "https://cdn.example.com/",
    "R2_BUCKET": "a-bucket",
    "COORDINATOR_URL": "https://api.example.com",
}
APPLE = {
    "APPLE_CERTIFICATE_P12": "MAA=",
    "APPLE_CERTIFICATE_PASSWORD": "pass word",
    "PROVISIONING_PROFILE_BASE64": "MAA=",
    "APPLE_API_KEY_P8": "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----",
    "APPLE_API_KEY_ID": "2X9R4HXF34",
    "APPLE_API_ISSUER_ID": "57246542-96fe-1a63-e053-0824d011072a",
    "GITHUB_TOKEN": "ghs_0123456789",
}
ON_TAG = {"GITHUB_REF_TYPE": "tag"}


def prefixed(prefix: str) -> dict[str, str]:
    return {f"{prefix}{name}": value for name, value in SEVEN.items()} | APPLE


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that holds the release file, and its clone; each test gets a copy of both."""
    folder = tmp_path_factory.mktemp("pushed")
    origin = folder / "origin"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main", "--template=")
    shutil.copy(data.release_file(), origin)
    git(origin, "add", ".")
    commit(origin, ".gitignore", "dist/\n")
    git(folder, "clone", "-q", "--template=", origin.as_uri(), "clone")
    return folder


@pytest.fixture
def tree(tmp_path: Path, pushed: Path) -> Path:
    """A clone of a repository that holds the release file, clean and pushed."""
    shutil.copytree(pushed, tmp_path, dirs_exist_ok=True, symlinks=True)
    git(tmp_path / "clone", "remote", "set-url", "origin", (tmp_path / "origin").as_uri())
    return tmp_path / "clone"


def ask(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    env: str | None = None,
    version: str | None = None,
    flavour: str | None = None,
    flags: Mapping[str, Flag] | None = None,
    made: Settings | None = None,
    config_file: Path | None = None,
    from_source: bool = True,
) -> Resolved:
    """Resolve as a command line would."""
    return config.resolve(
        Request(
            environ={"PATH": os.environ["PATH"], **(environ or {})},
            working_folder=folder,
            config_file=config_file,
            environment=env,
            version=version,
            flavour=flavour,
            flags=flags or {},
            settings=made,
            from_source=from_source,
        )
    )


def refused(folder: Path, environ: Mapping[str, str] | None = None, **asked: str) -> list[str]:
    """The list of reasons of a refusal."""
    with pytest.raises(errors.UsageError) as caught:
        ask(folder, environ, **asked)  # type: ignore[arg-type] # names only
    return list(caught.value.details)


def edit(tree: Path, old: str, new: str) -> None:
    """Change the release file of the tree."""
    text = (tree / "release.yaml").read_text()
    assert old in text
    (tree / "release.yaml").write_text(text.replace(old, new))


def test_each_value_says_where_it_came_from(tree: Path) -> None:
    """Flag, variable, file and line, git and default are told apart."""
    found = ask(
        tree,
        prefixed("DEV_"),
        env="dev",
        version="0.5.0-dev.3",
        flags={"smoke.model": Flag(name="--model", value="/models/x")},
    )
    where = {name: str(origin) for name, origin in found.origins.items()}
    lines = (tree / "release.yaml").read_text().splitlines()
    team = next(at for at, line in enumerate(lines, 1) if "team_id" in line)
    assert where["version"] == "--version"
    assert where["environment.name"] == "--env"
    assert where["product.team_id"].endswith(f"release.yaml:{team}")
    assert where["smoke.model"] == "--model"
    assert where["smoke.authorization"] == "default"
    assert where["endpoints.notary_url"] == "default"
    assert where["credentials.APPLE_ID"] == "not set"
    assert where["source.commit"] == "git"
    assert where["endpoints.r2_bucket"] == "DEV_R2_BUCKET"
    assert where["credentials.RELEASE_KEY"] == "DEV_RELEASE_KEY"
    assert where["credentials.APPLE_CERTIFICATE_P12"] == "APPLE_CERTIFICATE_P12"
    assert found.plan.smoke.model == "/models/x"
    assert found.plan.endpoints.r2_public_url == "https://cdn.example.com"
    found.require()


def test_every_leaf_of_the_plan_has_an_origin(tree: Path) -> None:
    """Nothing in the plan is of unknown origin, and nothing else has one."""
    found = ask(tree, env="dev", version="0.5.0-dev.3")
    leaves = {dotted(place) for place, _ in config.leaves(found.plan.model_dump(mode="json"))}
    named = {name for name in found.origins if not name.startswith("credentials.")}
    assert named == leaves
    assert sum(name.startswith("credentials.") for name in found.origins) == 19


def test_the_source_is_what_git_says(tree: Path) -> None:
    """Commit, date, cleanness, tag and its text come into the plan."""
    git(tree, "tag", "-a", "v0.5.0-dev.3", "-m", "Better\n\n- faster")
    found = ask(tree, env="dev", version="0.5.0-dev.3").plan.source
    assert found.commit == git(tree, "rev-parse", "HEAD")
    assert (found.date, found.clean) == (COMMIT_DATE, True)
    assert (found.tag, found.changelog) == ("v0.5.0-dev.3", "Better\n\n- faster")
    (tree / "new").write_text("")
    assert not ask(tree, env="dev", version="0.5.0-dev.3").plan.source.clean


def test_a_long_text_of_a_tag_is_cut_and_said(tree: Path) -> None:
    """The coordinator takes 64 KiB for everything; whole lines and characters stay."""
    line = "ü" * 1000
    git(tree, "tag", "-a", "v0.5.0-dev.3", "-m", "\n\n".join(["Subject", *[line] * 60]))
    found = ask(tree, env="dev", version="0.5.0-dev.3")
    kept = found.plan.source.changelog
    assert 40_000 < len(kept.encode()) <= found.plan.limits.changelog_bytes
    assert kept.endswith(line)
    assert any("cut" in notice for notice in found.notices)


TAGGED = [
    ("v0.5.0", "prod", "0.5.0"),
    ("v0.5.0-dev.7", "dev", "0.5.0-dev.7"),
    ("v0.5.0-swift", "prod", "0.5.0"),
    ("v0.5.0-swift.2", "prod", "0.5.0"),
    ("rust-bridge-v0.4.9", "prod", "0.4.9"),
]


@pytest.mark.parametrize(("name", "environment", "version"), TAGGED)
@pytest.mark.parametrize("full", [False, True])
def test_a_tag_names_environment_and_version(
    tree: Path, name: str, environment: str, version: str, *, full: bool
) -> None:
    """`-dev.` goes to dev, every other one to prod, by either variable."""
    git(tree, "tag", name)
    ref = {"GITHUB_REF": f"refs/tags/{name}"} if full else {**ON_TAG, "GITHUB_REF_NAME": name}
    found = ask(tree, ref)
    assert (found.plan.environment.name, found.plan.version) == (environment, version)
    assert found.plan.source.tag == name
    assert found.origins["version"].where == next(iter(set(ref) - {"GITHUB_REF_TYPE"}))


def test_a_flag_wins_over_a_variable_and_a_variable_over_a_tag(tree: Path) -> None:
    """The order of the cascade, with a word where they differ."""
    ref = {**ON_TAG, "GITHUB_REF_NAME": "v0.5.0-dev.1"}
    job = {**ref, "RELEASE_VERSION": "0.5.0-dev.2", "RELEASE_ENVIRONMENT": "dev"}
    assert ask(tree, ref).plan.version == "0.5.0-dev.1"
    by_variable = ask(tree, job)
    assert by_variable.plan.version == "0.5.0-dev.2"
    assert str(by_variable.origins["environment.name"]) == "RELEASE_ENVIRONMENT"
    assert any("v0.5.0-dev.1" in notice for notice in by_variable.notices)
    assert ask(tree, job, version="0.5.0-dev.3").plan.version == "0.5.0-dev.3"
    assert ask(tree, {**ref, "RELEASE_VERSION": " "}).plan.version == "0.5.0-dev.1"


DISAGREEMENTS = [
    ("v0.5.0-dev.1", {"env": "prod"}, "is for a development environment"),
    ("v0.5.0", {"env": "dev"}, "is for a release environment"),
    ("v0.5.0", {"env": "prod", "version": "0.5.1"}, "--version says '0.5.1' and tag v0.5.0"),
    ("", {"env": "prod", "version": "0.5.0-dev.1"}, "is a development version: not for prod"),
]


@pytest.mark.parametrize(("tag", "asked", "reason"), DISAGREEMENTS)
def test_what_disagrees_is_refused(
    tree: Path, tag: str, asked: dict[str, str], reason: str
) -> None:
    """A tag of one kind never goes to an environment of the other."""
    ref = {**ON_TAG, "GITHUB_REF_NAME": tag} if tag else {}
    assert any(reason in line for line in refused(tree, ref, **asked))


@pytest.mark.parametrize("name", ["main", "v0.5.0", "0.5.0", "release/0.5.0"])
def test_a_branch_is_no_version(tree: Path, name: str) -> None:
    """Run on a branch without a version, there is none."""
    ref = {
        "GITHUB_REF": f"refs/heads/{name}",
        "GITHUB_REF_TYPE": "branch",
        "GITHUB_REF_NAME": name,
    }
    assert any("no version is named" in line for line in refused(tree, ref, env="dev"))


def test_a_foreign_tag_is_no_version(tree: Path) -> None:
    """The forms that are taken are said."""
    found = refused(tree, {"GITHUB_REF": "refs/tags/v1.0.0-rc.1"}, env="dev")
    assert any("'v1.0.0-rc.1' names no version" in line and "-swift" in line for line in found)


def test_the_embedded_environment_needs_nothing(tmp_path: Path) -> None:
    """Without git, settings or a version the rehearsal has a plan."""
    bare = {"GIT_CEILING_DIRECTORIES": str(tmp_path)}
    found = ask(tmp_path, bare, env="rehearsal")
    assert found.plan.version == "0.5.0"
    assert found.plan.source.commit == "unknown"
    assert found.lacking() == []
    found.require()


def test_an_environment_may_say_some_of_the_smoke_run_for_itself(tree: Path) -> None:
    """They replace the release's, an empty list too, and the plan says where they stand."""
    rehearsal = ask(tree, env="rehearsal")
    assert rehearsal.plan.smoke.thresholds == ()
    found = ask(tree, prefixed("DEV_"), env="dev", version="1.2.3-dev.1")
    assert found.plan.smoke.thresholds == ("ttft:p95:b1<=2s", "decode_ratio:p50:b1>=0.5")
    assert rehearsal.plan.smoke.long_tokens < found.plan.smoke.long_tokens == 128
    text = (tree / data.RELEASE_FILE).read_text()
    for told, mark in (
        (found.origins["smoke.thresholds[0]"], "  thresholds: ["),
        (rehearsal.origins["smoke.thresholds"], "smoke_thresholds: []"),
        (found.origins["smoke.long_tokens"], "  long_tokens: 128"),
        (rehearsal.origins["smoke.long_tokens"], "smoke_long_tokens: 32"),
    ):
        line = text[: text.index(mark)].count("\n") + 1
        assert str(told).endswith(f"release.yaml:{line}")


def test_the_embedded_environment_never_sees_real_settings(tree: Path) -> None:
    """Its settings are those made for the run, whatever the process's environment holds."""
    real = prefixed("") | prefixed("PROD_")
    before = ask(tree, real, env="rehearsal")
    assert before.plan.endpoints.r2_bucket == ""
    assert before.credentials.secrets == {}
    values = {
        **dict.fromkeys(SECRETS, "made-for-the-run"),
        "PROVENANCE_KEY": SEVEN["PROVENANCE_KEY"],
        "R2_ENDPOINT": "http://127.0.0.1:9001",
        "R2_PUBLIC_URL": "http://127.0.0.1:9002",
        "R2_BUCKET": "releases",
        "COORDINATOR_URL": "http://127.0.0.1:9003",
        "TIMESTAMP_URL": "http://127.0.0.1:9004",
        "NOTARY_URL": "http://127.0.0.1:9005/notary/v2/submissions",
        "NOTARY_UPLOAD_URL": "http://127.0.0.1:9006",
        "TICKET_URL": "http://127.0.0.1:9007/lookup",
    }
    found = ask(tree, real, env="rehearsal", made=Settings(values=values))
    assert found.plan.endpoints.timestamp_url == "http://127.0.0.1:9004"
    assert found.plan.endpoints.notary_url == "http://127.0.0.1:9005/notary/v2/submissions"
    assert found.plan.endpoints.notary_upload_url == "http://127.0.0.1:9006"
    assert found.plan.endpoints.ticket_url == "http://127.0.0.1:9007/lookup"
    assert before.plan.endpoints.notary_url == ""
    assert found.credentials.secret("RELEASE_KEY").reveal() == "made-for-the-run"
    assert str(found.origins["credentials.RELEASE_KEY"]) == "rehearsal environment"
    assert found.lacking() == []
    del values["RELEASE_KEY"]
    lame = ask(tree, real, env="rehearsal", made=Settings(values=values))
    assert [entry.name for entry in lame.lacking()] == ["RELEASE_KEY"]


def test_prod_takes_a_legacy_name_and_says_so(tree: Path) -> None:
    """An unprefixed setting serves prod alone, with a notice that names the key."""
    values = prefixed("PROD_") | {"PROD_RELEASE_KEY": " ", "RELEASE_KEY": "legacy-key-value"}
    found = ask(tree, values, env="prod", version="0.5.0")
    assert str(found.origins["credentials.RELEASE_KEY"]) == "RELEASE_KEY"
    assert [notice for notice in found.notices if "PROD_RELEASE_KEY" in notice]
    assert "legacy-key-value" not in repr(found)
    assert [entry.name for entry in found.lacking()] == ["ADMIN_KEY"]
    values["PROD_ADMIN_KEY"] = "admin-key-value"
    ask(tree, values, env="prod", version="0.5.0").require()
    dev = ask(tree, prefixed(""), env="dev", version="0.5.0-dev.1")
    assert "RELEASE_KEY" in [entry.name for entry in dev.lacking()]


@pytest.mark.parametrize("said", ["", "required"])
def test_a_release_whose_fleet_is_watched_wants_an_administrators_key(
    tree: Path, said: str
) -> None:
    """Also where nothing is said; the line tells how to do without, and that is in the plan."""
    edit(tree, "    fleet_watch: required\n", f"    fleet_watch: {said}\n" if said else "")
    git(tree, "commit", "-q", "-a", "--allow-empty", "-m", "Say it or not")
    git(tree, "update-ref", "refs/remotes/origin/main", "HEAD")
    found = ask(tree, prefixed("PROD_"), env="prod", version="0.5.0")
    (entry,) = found.lacking()
    assert (entry.name, entry.stages) == ("ADMIN_KEY", ("register",))
    assert "fleet_watch: unchecked" in entry.line()
    anchor = "    fleet_watch_seconds: 120\n"
    if said:
        edit(tree, "    fleet_watch: required\n", "")
    edit(tree, anchor, f"    fleet_watch: unchecked\n{anchor}")
    git(tree, "commit", "-qam", "Waive it")
    git(tree, "update-ref", "refs/remotes/origin/main", "HEAD")
    waived = ask(tree, prefixed("PROD_"), env="prod", version="0.5.0")
    assert waived.lacking() == []
    assert waived.plan.environment.fleet_watch == "unchecked"
    assert str(waived.origins["credentials.ADMIN_KEY"]) == "not set"


def test_only_a_release_on_github_wants_its_token(tree: Path) -> None:
    """Prod has one and lacks the token; dev has none and never asks."""
    prod = ask(tree, env="prod", version="0.5.0")
    (entry,) = [one for one in prod.lacking() if one.name == "GITHUB_TOKEN"]
    assert entry.stages == ("github",)
    assert "contents: write" in entry.line()
    dev = ask(tree, env="dev", version="0.5.0-dev.1")
    assert "GITHUB_TOKEN" not in [one.name for one in dev.lacking()]
    assert str(dev.origins["credentials.GITHUB_TOKEN"]) == "not set"


def test_a_known_endpoint_serves_and_a_setting_wins_over_it(tree: Path) -> None:
    """The file's bucket is the default; a different setting counts and is told."""
    bare = ask(tree, env="dev", version="0.5.0-dev.1")
    assert bare.plan.endpoints.r2_bucket == "d-inf-app-dev"
    assert "release.yaml:" in str(bare.origins["endpoints.r2_bucket"])
    other = ask(tree, {"DEV_R2_BUCKET": "other"}, env="dev", version="0.5.0-dev.1")
    assert other.plan.endpoints.r2_bucket == "other"
    assert any("DEV_R2_BUCKET differs" in notice for notice in other.notices)
    same = ask(tree, {"DEV_R2_BUCKET": "d-inf-app-dev"}, env="dev", version="0.5.0-dev.1")
    assert same.notices == ()


def test_all_missing_settings_come_at_once(tree: Path) -> None:
    """A plan stands without them, and asking for them names every one: exit 4."""
    edit(tree, "      r2_bucket: d-inf-app-prod\n", "")
    edit(tree, "      coordinator_url: https://api.darkbloom.dev\n", "      {}\n")
    git(tree, "commit", "-qam", "Know no endpoint")
    git(tree, "push", "-q", "origin", "HEAD:refs/heads/other")
    git(tree, "update-ref", "refs/remotes/origin/main", "HEAD")
    found = ask(tree, env="prod", version="0.5.0")
    with pytest.raises(errors.CredentialError) as caught:
        found.require()
    text = "\n".join(caught.value.details)
    assert all(f"PROD_{name} or {name} is not set" in text for name in SEVEN)
    assert "PROD_ADMIN_KEY or ADMIN_KEY is not set" in text
    assert len(caught.value.details) == 16


def test_prod_wants_a_clean_tree(tree: Path) -> None:
    """Changed files are named, a few of many."""
    for number in range(8):
        (tree / f"new{number}").write_text("")
    found = refused(tree, env="prod", version="0.5.0")
    assert "the tree is not clean: new0, new1, new2, new3, new4 and 3 more" in found


def test_prod_wants_a_commit_of_the_default_branch(tree: Path) -> None:
    """A commit that was never pushed is refused, a tag on another commit too."""
    git(tree, "tag", "v0.5.0")
    ask(tree, env="prod", version="0.5.0")
    made = commit(tree, "local")
    found = refused(tree, {"GITHUB_REF": "refs/tags/v0.5.0"})
    assert f"commit {made[:12]} is not in origin/main" in found
    assert any("tag v0.5.0 names commit" in line for line in found)
    git(tree, "update-ref", "refs/remotes/origin/main", "HEAD")
    ask(tree, env="prod", version="0.5.1")


def test_what_is_made_of_no_tree_asks_nothing_of_it(tree: Path) -> None:
    """A rollback to 0.5.0 from a later, unpushed commit with changes, where v0.5.0 is another's."""
    git(tree, "tag", "v0.5.0")
    commit(tree, "local")
    (tree / "new").write_text("")
    found = refused(tree, env="prod", version="0.5.0")
    assert [one for one in found if "is not set" not in one] == found[:3]
    assert ask(tree, env="prod", version="0.5.0", from_source=False).plan.version == "0.5.0"


@pytest.mark.parametrize("tag", ["v0.5.1", "v0.5.1-dev.1", "rust-bridge-v0.4.9"])
def test_what_is_made_of_no_tree_is_no_matter_of_the_jobs_tag(tree: Path, tag: str) -> None:
    """A rollback in a job that was started on the bad release's tag; a release is refused there."""
    job = {"GITHUB_REF": f"refs/tags/{tag}"}
    found = ask(tree, job, env="prod", version="0.5.0", from_source=False)
    assert (found.plan.version, found.plan.flavour.name) == ("0.5.0", "swift")
    assert any(tag in line for line in refused(tree, job, env="prod", version="0.5.0"))


def test_prod_wants_the_tag_that_a_job_names(tree: Path) -> None:
    """A tag that the clone lacks proves nothing; fetched, or for dev, it is taken."""
    found = refused(tree, {"GITHUB_REF": "refs/tags/v9.9.9"})
    assert found[0] == "tag v9.9.9 is not in this clone: git fetch --tags"
    ask(tree, {"GITHUB_REF": "refs/tags/v9.9.9-dev.1"})
    git(tree, "tag", "-a", "v9.9.9", "-m", "text")
    ask(tree, {"GITHUB_REF": "refs/tags/v9.9.9"})


def test_prod_refuses_a_version_whose_tag_names_another_commit(tree: Path) -> None:
    """Without a job's tag the version's own tag still says which commit it is."""
    git(tree, "tag", "v1.2.3")
    made = commit(tree, "later")
    git(tree, "update-ref", "refs/remotes/origin/main", "HEAD")
    first = git(tree, "rev-parse", "v1.2.3")
    found = refused(tree, env="prod", version="1.2.3")
    assert found[0] == (f"tag v1.2.3 names commit {first[:12]}, and {made[:12]} is checked out")
    ask(tree, env="prod", version="1.2.4")


def test_a_shallow_clone_cannot_prove_prod(tree: Path, tmp_path: Path) -> None:
    """Exit 3 with both remedies; after the remedy it passes, and dev does not ask."""
    commit(tmp_path / "origin", "more")
    git(tmp_path, "clone", "-q", "--depth=1", (tmp_path / "origin").as_uri(), "shallow")
    shallow = tmp_path / "shallow"
    with pytest.raises(errors.HostError) as caught:
        ask(shallow, env="prod", version="0.5.0")
    assert caught.value.exit_code == 3
    assert "git fetch --unshallow" in caught.value.hint
    assert "fetch-depth: 0" in caught.value.hint
    ask(shallow, env="dev", version="0.5.0-dev.1")
    git(shallow, "fetch", "-q", "--unshallow")
    ask(shallow, env="prod", version="0.5.0")


def test_prod_refuses_an_unknown_source(tmp_path: Path) -> None:
    """Outside a git tree there is no release."""
    found = refused(tmp_path, env="prod", version="0.5.0")
    assert "this is not a git tree: its commit is unknown" in found


def test_everything_wrong_comes_in_one_error(tree: Path) -> None:
    """File, version, settings and tree together, before any work: exit 2."""
    edit(tree, "Inc. (SLDQ2GJ6TL)", "Inc.")
    found = refused(
        tree,
        {"PROD_COORDINATOR_URL": "http://api.example.com", "PROD_RELEASE_KEY": "a\nb"},
        env="prod",
        version="0.5",
    )
    for part in (
        "signing identity does not end",
        "both accept: expected X.Y.Z, such as 0.5.0",
        "PROD_COORDINATOR_URL is not an address that can be used",
        "PROD_RELEASE_KEY is not plain text",
        "the tree is not clean: release.yaml",
        "PROD_R2_ENDPOINT or R2_ENDPOINT is not set",
    ):
        assert any(part in line for line in found), part


def test_faults_of_the_file_do_not_hide_those_of_the_version(tree: Path) -> None:
    """Even a file that gives no plan is told together with the rest."""
    edit(tree, "  team_id:", "  teamid:")
    found = refused(tree, env="prod", version="main")
    assert any("did you mean team_id" in line for line in found)
    assert any("'main' is not a version" in line for line in found)


def test_a_setting_that_does_not_decode_comes_with_all_others(tree: Path) -> None:
    """Its variable is named, never its value, beside what is missing; a file given instead wins."""
    wrong = {"junk": "does not decode to a file of this kind", "QUJDR": "is not base64"}
    for junk, reason in wrong.items():
        values = {"PROVISIONING_PROFILE_BASE64": junk, "DEV_COORDINATOR_URL": "x"}
        found = refused(tree, values, env="dev", version="0.5.0-dev.1")
        assert any(f"PROVISIONING_PROFILE_BASE64 {reason}" in line for line in found)
        assert any("DEV_COORDINATOR_URL is not an address" in line for line in found)
        assert any("DEV_RELEASE_KEY is not set" in line for line in found)
        assert not any(junk in line for line in found)
    request = Request(
        environ={"PATH": os.environ["PATH"], "PROVISIONING_PROFILE_BASE64": "junk"},
        working_folder=tree,
        environment="dev",
        version="0.5.0-dev.1",
        supplied=["PROVISIONING_PROFILE_BASE64"],
    )
    config.resolve(request)


def test_a_bad_file_hides_no_missing_setting_and_invents_no_fault(tree: Path) -> None:
    """Environments that can be read are judged; a version that may stand in the file is not."""
    edit(tree, "  team_id:", "  teamid:")
    found = refused(tree, env="dev", version="0.5.0-dev.1")
    assert any("DEV_RELEASE_KEY is not set" in line for line in found)
    assert not any("RELEASE_KEY" in line for line in refused(tree, env="rehearsal"))
    assert any("no version is named" in line for line in refused(tree, env="dev"))
    edit(tree, "  rehearsal:", "  rehearsal:\n    embeded: true")
    for found in (refused(tree, env="rehearsal"), refused(tree)):
        assert not any("no version" in line or "no environment" in line for line in found)


def test_an_unknown_environment_is_told_with_the_nearest(tree: Path) -> None:
    """The names that there are stand beside."""
    (found,) = refused(tree, env="prd", version="0.5.0")
    assert "did you mean prod?" in found
    assert "rehearsal, dev, prod" in found


def test_a_flag_that_is_wrong_is_named(tree: Path) -> None:
    """A fault of a flag's value points at the flag, not at a line of the file."""
    with pytest.raises(errors.UsageError) as caught:
        ask(
            tree,
            env="rehearsal",
            flags={"profile.minimum_days": Flag(name="--min-days", value=-1)},
        )
    assert caught.value.details[0].startswith("--min-days: profile.minimum_days is -1")


def test_the_file_is_found_beside_or_named_or_built_in(tree: Path, tmp_path: Path) -> None:
    """`--config` first, then the working folder, then the one of the tool."""
    edit(tree, "minimum_days: 30", "minimum_days: 31")
    other = tmp_path / "other.yaml"
    other.write_text((tree / "release.yaml").read_text().replace("days: 31", "days: 32"))
    days = [
        ask(folder, env="rehearsal", config_file=named).plan.profile.minimum_days
        for folder, named in ((tree, None), (tree, other), (tmp_path, None))
    ]
    assert days == [31, 32, 30]
    with pytest.raises(errors.UsageError, match="cannot be read"):
        ask(tree, env="rehearsal", config_file=tmp_path / "missing.yaml")


def test_nothing_resolved_shows_a_secret(tree: Path) -> None:
    """Plan, origins and their texts hold no secret value, and credentials refuse to travel."""
    found = ask(tree, prefixed("DEV_"), env="dev", version="0.5.0-dev.1")
    shown = repr(found) + found.plan.model_dump_json() + repr(found.plan)
    assert not [value for value in [*SECRETS.values(), "pass word"] if value in shown]
    with pytest.raises(TypeError):
        pickle.dumps(found.credentials)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ref=st.text(alphabet="v0.5-devswiftmain/+", max_size=14),
    kind=st.sampled_from(["tag", "branch", ""]),
)
def test_any_ref_resolves_or_is_refused(tmp_path: Path, ref: str, kind: str) -> None:
    """Whatever a job runs on, a version comes of a tag alone and is in its name."""
    environ = {"GITHUB_REF_NAME": ref, "GITHUB_REF_TYPE": kind}
    try:
        found = ask(tmp_path, environ, env="dev")
    except errors.UsageError:
        return
    assert kind == "tag"
    assert found.plan.version in ref


BRIDGE_TAG = {"GITHUB_REF": "refs/tags/rust-bridge-v0.4.9"}
SOURCES: list[tuple[dict[str, str], str | None, str, str]] = [
    ({}, None, "swift", "release.yaml:"),
    (BRIDGE_TAG, None, "rust-bridge", "GITHUB_REF"),
    ({"GITHUB_REF": "refs/tags/v0.5.0"}, None, "swift", "GITHUB_REF"),
    ({"RELEASE_FLAVOUR": "rust-bridge"}, None, "rust-bridge", "RELEASE_FLAVOUR"),
    ({"RELEASE_FLAVOUR": ""}, None, "swift", "release.yaml:"),
    ({"RELEASE_FLAVOUR": "swift"}, "rust-bridge", "rust-bridge", "--flavour"),
    ({**BRIDGE_TAG, "RELEASE_FLAVOUR": "rust-bridge"}, None, "rust-bridge", "RELEASE_FLAVOUR"),
]


@pytest.mark.parametrize(("environ", "flag", "name", "origin"), SOURCES)
def test_a_flag_a_variable_a_tag_or_the_file_names_the_flavour(
    tree: Path, environ: dict[str, str], flag: str | None, name: str, origin: str
) -> None:
    """In this order; the plan says which, and which layout, tags and backend go with it."""
    if tag := environ.get("GITHUB_REF", "").removeprefix("refs/tags/"):
        git(tree, "tag", tag)
    version = None if tag else "0.4.9"
    environ = {**prefixed("PROD_"), **environ}
    found = ask(tree, environ, env="prod", version=version, flavour=flag)
    assert found.plan.flavour.name == name
    assert origin in str(found.origins["flavour.name"])
    layouts = {
        "swift": ("app", "v", "mlx-swift"),
        "rust-bridge": ("flat", "rust-bridge-v", "vllm-mlx"),
    }
    flavour = found.plan.flavour
    assert (flavour.layout, flavour.tag_prefix, found.plan.product.backend) == layouts[name]


def test_a_value_of_the_flavour_says_its_line(tree: Path) -> None:
    """What replaces a value of the release stands in the file as well."""
    found = ask(tree, prefixed("DEV_"), env="dev", version="0.4.9", flavour="rust-bridge")
    text = (tree / "release.yaml").read_text()

    def line(part: str) -> str:
        number = text[: text.index(part)].count("\n") + 1
        return f"{tree / 'release.yaml'}:{number}"

    where = {name: str(origin) for name, origin in found.origins.items()}
    assert where["product.backend"] == line("    backend: vllm-mlx")
    assert where["flavour.layout"] == line("    layout: flat")
    assert where["bundle.executables[1].name"] == line("        - name: eigeninference-enclave")
    assert where["bundle.metallib"] == "default"
    assert where["product.team_id"] == line("  team_id:")


def test_tag_and_flag_of_two_flavours_come_with_all_else(tree: Path) -> None:
    """A tag belongs to its family, and no flag takes it out of that; every reason at once."""
    environ = {**BRIDGE_TAG, "RELEASE_FLAVOUR": "swift"}
    reasons = refused(tree, environ, env="dev", version="main")
    assert "RELEASE_FLAVOUR says flavour swift and tag rust-bridge-v0.4.9 is of rust-bridge" in (
        reasons
    )
    assert any("for a release environment" in line for line in reasons)
    assert any("'main' is not a version" in line for line in reasons)


def test_an_unknown_flavour_is_told_with_the_nearest(tree: Path) -> None:
    """A slip of the pen is answered with what was meant."""
    found = refused(tree, env="dev", version="0.4.9", flavour="rust-brigde")
    assert found[0] == (
        "--flavour: no flavour 'rust-brigde'; did you mean rust-bridge? (swift, rust-bridge)"
    )


def test_a_tag_of_no_family_names_the_families(tree: Path) -> None:
    """A tag that looks like one of ours is no version in silence."""
    found = refused(tree, {"GITHUB_REF": "refs/tags/rustbridge-v0.4.9"}, env="dev")
    assert any("rust-bridge-vX.Y.Z[-dev.N]" in line for line in found), found


def test_two_families_at_one_commit_keep_their_texts(tree: Path) -> None:
    """The changelog is that of the release's own tag, though both name the same version."""
    git(tree, "tag", "-a", "v0.4.9", "-m", "of swift")
    git(tree, "tag", "-a", "rust-bridge-v0.4.9", "-m", "of the bridge")
    told = {
        name: ask(tree, prefixed("DEV_"), env="dev", version="0.4.9", flavour=name).plan.source
        for name in ("swift", "rust-bridge")
    }
    assert (told["swift"].tag, told["swift"].changelog.strip()) == ("v0.4.9", "of swift")
    assert (told["rust-bridge"].tag, told["rust-bridge"].changelog.strip()) == (
        "rust-bridge-v0.4.9",
        "of the bridge",
    )


def test_a_flat_release_wants_no_profile(tree: Path) -> None:
    """Only an app can carry one, so nobody is asked for it."""
    environ = {**prefixed("DEV_"), "PROVISIONING_PROFILE_BASE64": ""}
    lacking = ask(tree, environ, env="dev", version="0.4.9", flavour="rust-bridge").lacking()
    assert lacking == []
    swift = ask(tree, environ, env="dev", version="0.4.9").lacking()
    assert [entry.name for entry in swift] == ["PROVISIONING_PROFILE_BASE64"]


def test_what_cannot_be_approved_is_refused_before_any_work(tree: Path) -> None:
    """In October prod registers approved builds, and only one backend is ever approved."""
    edit(tree, "contract: 2026-05", "contract: 2026-10")
    found = refused(tree, prefixed("PROD_"), env="prod", version="0.4.9", flavour="rust-bridge")
    assert any("approves backend mlx-swift, not vllm-mlx" in line for line in found), found


def test_the_flavour_of_before_is_said_in_no_digest(tree: Path) -> None:
    """Records of then go on counting; whatever says something else has another digest."""
    swift = ask(tree, prefixed("DEV_"), env="dev", version="0.4.9").plan
    reads = ("version", "flavour.layout", "flavour.tag_prefix", "flavour.title")
    assert swift.part(reads) == {"version": "0.4.9"}
    assert swift.part_digest(reads) == swift.part_digest(("version",))
    for key, value in (("layout", "flat"), ("tag_prefix", "a-v"), ("title", "A")):
        other = swift.model_copy(update={"flavour": swift.flavour.model_copy(update={key: value})})
        assert other.part_digest(reads) != swift.part_digest(reads)
        assert other.part(reads) == {"version": "0.4.9", f"flavour.{key}": value}
