"""`release-tool plan`: what it prints, what it never prints, and how it leaves."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from release_tool import data
from release_tool.cli import main
from release_tool.cli.session import Session
from tests.git_trees import commit, git

SEVEN = {
    "R2_ACCESS_KEY_ID": "access-key-value",
    "R2_SECRET_ACCESS_KEY": "secret-key-value",
    "R2_ENDPOINT": "https://store.example.com",
    "R2_PUBLIC_URL": "https://cdn.example.com",
    "R2_BUCKET": "a-bucket",
    "COORDINATOR_URL": "https://api.example.com",
    "RELEASE_KEY": "release-key-value",
    "PROVENANCE_KEY": "-----BEGIN PRIVATE KEY-----\nprovenance\n-----END PRIVATE KEY-----",
}
APPLE = {
    "APPLE_CERTIFICATE_P12": "MAlwMTItdmFsdWU=",
    "APPLE_CERTIFICATE_PASSWORD": "password-value",
    "PROVISIONING_PROFILE_BASE64": "MAdwcm9maWxl",
    "APPLE_API_KEY_P8": "-----BEGIN PRIVATE KEY-----\nkey-value\n-----END PRIVATE KEY-----",
    "APPLE_API_KEY_ID": "key-id-value",
    "APPLE_API_ISSUER_ID": "issuer-value",
    "GITHUB_TOKEN": "github-token-value",
}
HIDDEN = (
    *("access-key-value", "secret-key-value", "release-key-value", SEVEN["PROVENANCE_KEY"]),
    *APPLE.values(),
)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a clean clone that holds the release file."""
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main")
    shutil.copy(data.release_file(), origin)
    git(origin, "add", ".")
    commit(origin, "README")
    git(tmp_path, "clone", "-q", origin.as_uri(), "clone")
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path / "clone"


def plan(*argv: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run the command; returns its exit code and what it said on both ways."""
    out, err = io.StringIO(), io.StringIO()
    session = Session({"PATH": os.environ["PATH"], **(environ or {})}, out=out, err=err)
    code = main.invoke(["plan", *argv], session)
    return code, out.getvalue(), err.getvalue()


def document(text: str) -> Any:  # noqa: ANN401 - any JSON
    return json.loads(text)


def row(text: str, name: str) -> list[str]:
    """The words of the line that begins with a name."""
    (found,) = [line.split() for line in text.splitlines() if line.split()[:1] == [name]]
    return found


def test_a_complete_plan_is_printed(tree: Path) -> None:
    """The verdict first, then each value with its origin, then the names that won."""
    environ = {f"DEV_{name}": value for name, value in SEVEN.items()} | APPLE
    code, out, err = plan("--env", "dev", "--version", "0.5.0-dev.1", environ=environ)
    assert (code, err) == (0, "")
    head = git(tree, "rev-parse", "HEAD")[:7]
    assert out.startswith(f"Darkbloom 0.5.0-dev.1 · dev · from {head} (clean) · plan: ")
    assert "2 from flags" in out.splitlines()[0]
    assert row(out, "version") == ["version", "0.5.0-dev.1", "--version"]
    assert row(out, "product.team_id")[-1] == "release.yaml:7"
    assert row(out, "endpoints.r2_bucket") == ["endpoints.r2_bucket", "a-bucket", "DEV_R2_BUCKET"]
    assert row(out, "RELEASE_KEY") == ["RELEASE_KEY", "DEV_RELEASE_KEY"]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_value_of_a_secret_is_printed(tree: Path, form: list[str]) -> None:
    """Neither form shows one, though every setting is set."""
    environ = {f"PROD_{name}": value for name, value in SEVEN.items()} | APPLE
    environ["PROD_ADMIN_KEY"] = "admin-key-value"
    code, out, err = plan("--env", "prod", "--version", "0.5.0", *form, environ=environ)
    assert code == 0
    assert "PROD_RELEASE_KEY" in out
    assert not [value for value in (*HIDDEN, "admin-key-value") if value in out + err]


def test_missing_settings_follow_the_plan(tree: Path) -> None:
    """The plan is printed, then all that is missing, and the exit is 4."""
    code, out, err = plan("--env", "prod", "--version", "0.5.0")
    assert code == 4
    assert row(out, "RELEASE_KEY") == ["RELEASE_KEY", "missing"]
    assert "14 settings are missing" in err
    for name in ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "R2_ENDPOINT", "RELEASE_KEY"):
        assert f"PROD_{name} or {name} is not set" in err


def test_json_is_one_document_even_when_something_is_missing(tree: Path) -> None:
    """A program reads one document; the exit code says the same."""
    code, out, _ = plan("--env", "dev", "--version", "0.5.0-dev.1", "--json")
    found = document(out)
    assert code == 4
    assert found["ok"] is False
    assert found["plan"]["product"]["team_id"] == "SLDQ2GJ6TL"
    assert found["origins"]["version"] == {"kind": "flag", "where": "--version"}
    assert {"DEV_RELEASE_KEY"} in [set(entry["wanted"]) for entry in found["missing"]]


def test_the_rehearsal_needs_nothing(tree: Path) -> None:
    """Without any setting the plan of the embedded environment is whole."""
    code, out, _ = plan("--env", "rehearsal", "--json")
    assert code == 0
    assert document(out)["ok"] is True
    assert document(out)["origins"]["credentials.RELEASE_KEY"]["kind"] == "made for the run"


def test_a_job_hands_on_what_it_resolved(tree: Path, tmp_path: Path) -> None:
    """The first job of a release has no settings and needs none."""
    git(tree, "tag", "v0.5.0-swift.1")
    target = tmp_path / "output"
    environ = {"GITHUB_REF": "refs/tags/v0.5.0-swift.1", "GITHUB_OUTPUT": str(target)}
    code, out, _ = plan("--github-output", environ=environ)
    assert code == 0
    assert target.read_text() == "environment=prod\nversion=0.5.0\nflavour=swift\nsigner=codesign\n"
    assert row(out, "version")[-1] == "GITHUB_REF"
    assert plan("--github-output", "--env", "rehearsal")[0] == 2


@pytest.mark.parametrize(
    ("place", "reason"), [("/dev/full", "No space left on device"), (".", "Is a directory")]
)
def test_outputs_that_cannot_be_written_are_told(tree: Path, place: str, reason: str) -> None:
    """Exit 3 with the file and why; no later job goes on without what it was to be handed."""
    if not Path(place).exists():
        pytest.skip("no full device on this host")
    code, _, err = plan("--github-output", "--env", "rehearsal", environ={"GITHUB_OUTPUT": place})
    assert code == 3
    assert f"{place}: cannot write the outputs of the job" in err
    assert reason in err
    assert "then run again" in err


def test_a_legacy_name_is_a_notice_of_the_job(tree: Path) -> None:
    """GitHub shows it as an annotation, people as a line."""
    environ = {f"PROD_{name}": value for name, value in SEVEN.items()} | APPLE
    environ["RELEASE_KEY"] = environ.pop("PROD_RELEASE_KEY")
    asked = ("--env", "prod", "--version", "0.5.0")
    _, out, _ = plan(*asked, environ=environ)
    assert "Notice: PROD_RELEASE_KEY is not set, the legacy name RELEASE_KEY serves" in out
    _, out, _ = plan(*asked, environ={**environ, "GITHUB_ACTIONS": "true"})
    assert "::notice title=release-tool::PROD_RELEASE_KEY is not set" in out


def test_problems_come_together(tree: Path) -> None:
    """One error, exit 2, every line of it on the terminal."""
    text = (tree / "release.yaml").read_text()
    (tree / "release.yaml").write_text(text.replace("team_id:", "teamid:"))
    code, out, err = plan("--env", "prod", "--version", "main")
    assert (code, out) == (2, "")
    assert "release.yaml:7: unknown key product.teamid; did you mean team_id?" in err
    assert "--version: 'main' is not a version" in err


def test_the_text_of_a_tag_cannot_steer_the_terminal(tree: Path) -> None:
    """Control characters and workflow commands in a tag are shown as text on one line."""
    git(tree, "tag", "-a", "v0.5.0-dev.1", "-m", "x\x1b[2J\n\n::error::y\u202e")
    _, out, _ = plan("--env", "dev", "--version", "0.5.0-dev.1")
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert not [line for line in out.splitlines() if line.startswith("::")]


def test_the_schema_judges_a_release_file(tree: Path) -> None:
    """What `--schema` prints accepts the real file and refuses an unknown key."""
    code, out, _ = plan("--schema")
    assert json.loads(out)["$id"] == "urn:release-tool:schema:1:release.yaml"
    assert code == 0
    validator = jsonschema.Draft202012Validator(document(out))
    whole = yaml.safe_load((tree / "release.yaml").read_text())
    assert validator.is_valid(whole)
    assert not validator.is_valid({**whole, "limit": {}})


def test_a_wrong_option_is_usage(tree: Path) -> None:
    """Exit 2 as for every command."""
    assert plan("--nonsense")[0] == 2
    code, _, err = plan("--env", "rehearsal", "--config", "missing.yaml")
    assert code == 2
    assert "missing.yaml" in err


def names_alone(**changed: str) -> dict[str, str]:
    """What a job that only looks gives: addresses, and `set` for every secret."""
    addresses = {f"PROD_{name}": SEVEN[name] for name in ("R2_ENDPOINT", "R2_PUBLIC_URL")}
    keys = ("RELEASE_KEY", "ADMIN_KEY", "PROVENANCE_KEY")
    secrets = ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", *keys)
    return {**addresses, **{f"PROD_{name}": "set" for name in secrets}, **changed}


PUBLISHING = ("--env", "prod", "--version", "0.5.0", "--set-for", "publish,register,promote")
SIGNING = ("--env", "prod", "--version", "0.5.0", "--set-for", "profile,sign,notarize")


@pytest.fixture
def tagged(tree: Path) -> Path:
    """On the tag that is released, as production wants it."""
    git(tree, "checkout", "-q", "-B", "master")
    git(tree, "update-ref", "refs/remotes/origin/master", "HEAD")
    git(tree, "-c", "user.name=x", "-c", "user.email=x@y", "tag", "-a", "v0.5.0", "-m", "0.5.0")
    return tree


def test_a_job_that_only_looks_needs_no_value(tagged: Path) -> None:
    """Nothing is missing: exit 0, and no secret was judged by what it holds."""
    code, out, err = plan(*PUBLISHING, environ=names_alone())
    assert (code, err) == (0, "")
    assert "publish, register, promote" in out
    code, _, err = plan(*SIGNING, environ=dict.fromkeys(APPLE, "set"))
    assert (code, err) == (0, "")


@pytest.mark.parametrize("name", ["R2_ENDPOINT", "RELEASE_KEY", "ADMIN_KEY", "PROVENANCE_KEY"])
def test_each_one_that_is_missing_is_named_early(tagged: Path, name: str) -> None:
    """An empty one counts as none, and those of other stages are not asked for."""
    code, _, err = plan(*PUBLISHING, environ=names_alone(**{f"PROD_{name}": " "}))
    assert code == 4
    assert f"PROD_{name}" in err
    assert "is not set" in err
    assert "APPLE" not in err


def test_notarytools_password_serves_where_a_mac_notarizes(tagged: Path) -> None:
    """Whatever looks for it beforehand; half an API key beside it is a mistake all the same."""
    signing = ("APPLE_CERTIFICATE_P12", "APPLE_CERTIFICATE_PASSWORD", "PROVISIONING_PROFILE_BASE64")
    given = dict.fromkeys((*signing, "APPLE_ID", "APPLE_APP_PASSWORD"), "set")
    assert plan(*SIGNING, environ=given)[0] == 0
    code, _, err = plan(*SIGNING, environ={**given, "APPLE_API_KEY_ID": "set"})
    assert code == 4
    assert "APPLE_API_KEY_P8 is not set" in err


def test_a_stage_that_is_none_and_another_answer_are_refused(tagged: Path) -> None:
    """Exit 2: a misspelt stage would need nothing."""
    for more in (("--set-for", "publsh"), ("--set-for", ""), (*PUBLISHING[4:], "--json")):
        assert plan("--env", "prod", "--version", "0.5.0", *more)[0] == 2
