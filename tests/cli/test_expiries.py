"""`expiries` on the look-alikes: what ends, and the one issue that follows it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from release_tool import data
from release_tool.apple import checks
from release_tool.apple.policy.expiry import Row
from release_tool.cli import embedded, main
from release_tool.cli.session import Session
from release_tool.rehearsal import environment, github_store, places
from release_tool.rehearsal.environment import Environment
from release_tool.report import expiry_issue
from release_tool.report.expiry_issue import MARKER, Watched
from release_tool.services import patience
from release_tool.services.github_issues import Issues
from tests import github_world

# Everything of the look-alikes ends within so many days, and nothing within one.
ALL, NOTHING = "9999", "1"


@dataclass(frozen=True)
class World:
    """An environment that a release file leads to, and the settings of a job that watches."""

    living: Environment
    folder: Path
    settings: Mapping[str, str]

    def watch(self, *words: str, **changed: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        argv = ["expiries", "--env", "dev", "--config", str(self.folder / "watch.yaml"), *words]
        argv += ["--trust", str(self.living.trust)]
        environ = {**self.settings, **changed}
        return main.invoke(argv, Session(environ, out=out, err=err)), out.getvalue(), err.getvalue()

    def issues(self) -> list[dict[str, object]]:
        state = places.github(self.living.state) / "state.json"
        found: list[dict[str, object]] = json.loads(state.read_bytes())["issues"]
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("watch")
    living = environment.start(
        folder / "environment", team_id="SLDQ2GJ6TL", bundle_id="io.darkbloom.provider"
    )
    made = dict(embedded._settings(living).values)
    release = yaml.safe_load(data.release_file().read_text())
    dev = release["environments"]["dev"]
    dev |= {"signer": "portable", "endpoints": {"coordinator_url": made["COORDINATOR_URL"]}}
    for name in ("timestamp", "notary", "notary_upload", "ticket", "github_api", "github_uploads"):
        dev[f"{name}_url"] = made[f"{name.upper()}_URL"]
    release["limits"]["pause_share"] = 0.001
    (folder / "watch.yaml").write_text(yaml.safe_dump(release))
    own = {name: made[name] for name in made if name.startswith(("APPLE", "PROVISIONING"))}
    settings = own | {
        "GITHUB_TOKEN": made["GITHUB_TOKEN"],
        "GITHUB_REPOSITORY": "look-alike/darkbloom",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield World(living, folder, settings)
    patience.hold(patience.Patience())
    living.stop()


def test_one_issue_follows_what_ends(world: World) -> None:
    """Opened, left as it is, changed, and closed with a word, all with exit 0."""
    code, out, err = world.watch("--issue", "--within", ALL)
    assert code == 0, err
    assert "issue     opened: https://github.com/look-alike/darkbloom/issues/" in out
    code, out, _ = world.watch("--issue", "--within", ALL)
    assert "issue     stands as it was" in out
    # Another bound leaves other rows without a word of what to do.
    code, out, _ = world.watch("--issue", "--within", "7000")
    assert (code, len(world.issues())) == (0, 1)
    code, out, _ = world.watch("--issue", "--within", NOTHING)
    assert (code, "issue     closed" in out) == (0, True)
    (issue,) = world.issues()
    assert issue["state"] == "closed"
    assert issue["comments"] == [expiry_issue.CLOSED]
    code, out, _ = world.watch("--issue", "--within", NOTHING)
    assert (code, "issue     none is open" in out) == (0, True)


def test_without_an_issue_the_exit_code_tells(world: World) -> None:
    """4 where something has to be renewed, 0 where nothing has; no issue is touched."""
    before = world.issues()
    code, out, _ = world.watch("--within", ALL)
    assert (code, "to be seen to" in out) == (4, True)
    code, out, _ = world.watch("--within", NOTHING, "--json")
    assert (code, json.loads(out)["ok"]) == (0, True)
    assert world.issues() == before


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"APPLE_API_KEY_ID": "2X9R4HXF34"}, "notary"),
        ({"APPLE_API_KEY_P8": ""}, "setting APPLE_API_KEY_P8"),
        ({"APPLE_CERTIFICATE_P12": ""}, "setting APPLE_CERTIFICATE_P12"),
        ({"PROVISIONING_PROFILE_BASE64": ""}, "setting PROVISIONING_PROFILE_BASE64"),
    ],
)
def test_what_cannot_be_seen_is_not_well(world: World, changed: dict[str, str], name: str) -> None:
    """A key that Apple refuses, and a setting that this job was not given."""
    code, out, _ = world.watch("--within", NOTHING, "--json", **changed)
    found = json.loads(out)
    assert (code, found["ok"]) == (4, False)
    assert name in [one["name"] for one in found["failed"]]


def test_a_notary_that_does_not_answer_changes_no_issue(world: World) -> None:
    """Neither opened nor closed: nobody knows. Exit 5, try again."""
    release = yaml.safe_load((world.folder / "watch.yaml").read_text())
    release["environments"]["dev"]["notary_url"] = "http://127.0.0.1:9/notary/v2/submissions"
    (world.folder / "deaf.yaml").write_text(yaml.safe_dump(release))
    before = world.issues()
    code, out, _ = world.watch(
        "--issue", "--within", NOTHING, "--config", str(world.folder / "deaf.yaml")
    )
    assert (code, "unknown   notary" in out) == (5, True)
    assert world.issues() == before


def test_a_token_without_the_right_is_told(world: World) -> None:
    """With the permission that the job lacks."""
    code, _, err = world.watch("--issue", "--within", ALL, GITHUB_TOKEN="")
    assert (code, "issues: write" in err) == (4, True)


def test_an_issue_of_a_stranger_is_none_of_ours(tmp_path: Path) -> None:
    """With the marker in it, as anybody may write; nor is a pull request. Duplicates are ours."""
    with github_world.living(tmp_path) as living:
        given: dict[str, Any] = {"title": "t", "body": f"{MARKER} x", "state": "open"}
        rows = [
            github_store.Issue(number=1, login="stranger", association="NONE", **given),
            github_store.Issue(number=2, login="maintainer", association="MEMBER", **given),
            github_store.Issue(number=3, login="github-actions[bot]", association="NONE", **given),
            github_store.Issue(
                number=4,
                login="github-actions[bot]",
                association="NONE",
                title="Pull request",
                body=MARKER,
            ),
            github_store.Issue(number=5, title="t", body="", login="a", association="OWNER"),
        ]
        living.store.issues = rows[::-1] + [
            github_store.Issue(number=10 + n, title="t", body="b", login="a", association="NONE")
            for n in range(100)
        ]
        issues = Issues(
            api_url=living.settings.api_url,
            uploads_url=living.settings.uploads_url,
            repository=github_world.REPOSITORY,
            token=lambda: github_world.WRITE,
        )
        assert [one.number for one in issues.marked(MARKER)] == [2, 3]


def test_names_leave_neither_their_cell_nor_mention_anybody() -> None:
    """What stands in a certificate is text; the issue stays within what GitHub takes."""
    ends = datetime(2026, 12, 1, tzinfo=UTC)
    evil = "| <img src=x> @octocat `code` [x](http://e)\n# Heading"
    row = Row("profile", evil, ends, 4, "renew it")
    text = expiry_issue.body(Watched(within=60, rows=[row], failed=[]))
    (line,) = [one for one in text.splitlines() if "img" in one]
    assert line.startswith("| 2026-12-01 | 4 | profile \\| &lt;img src=x&gt; (at)octocat \\`code")
    assert "\n# Heading" not in text
    assert expiry_issue.title(Watched(within=60, rows=[row], failed=[])).endswith("in 4 days")
    rows = [row._replace(ends=ends + timedelta(days=n), name="n" * 900) for n in range(200)]
    failed = [checks.failed("c", expected="e", observed="o")]
    long = expiry_issue.body(Watched(within=60, rows=rows, failed=failed))
    assert len(long) < 65_536
    assert "lines are left out" in long
