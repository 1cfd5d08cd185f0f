"""`handoff find` on the look-alike of GitHub: which run promoted the release before."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from release_tool import data
from release_tool.cli import main
from release_tool.cli.session import Session
from release_tool.rehearsal import faults, github_store
from release_tool.rehearsal.github_store import Run
from release_tool.services import patience
from tests import github_world

NAME = "release-promoted-prod-swift-{}"


@dataclass(frozen=True)
class Place:
    """A repository with runs, and a release file that leads to it."""

    world: github_world.World
    state: Path
    folder: Path

    def had(self, *runs: Run) -> None:
        github_store.record_runs(self.state, runs)

    def find(self, *words: str, **changed: str) -> tuple[int, dict[str, str], str, str]:
        """Exit code, outputs of the job, what is said, and the errors."""
        output, summary = self.folder / "output", self.folder / "summary.md"
        for path in (output, summary):
            path.write_text("")
        out, err = io.StringIO(), io.StringIO()
        argv = ["handoff", "find", "--workflow", "release.yml", "--github-output"]
        argv += ["--config", str(self.folder / "release.yaml"), *words]
        environ = {
            "RELEASE_ENVIRONMENT": "prod",
            "RELEASE_VERSION": "0.5.0",
            "GITHUB_REPOSITORY": github_world.REPOSITORY,
            "GITHUB_TOKEN": github_world.READ,
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            **changed,
        }
        code = main.invoke(argv, Session(environ, out=out, err=err))
        told = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return code, told, f"{out.getvalue()}{summary.read_text()}", err.getvalue()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with github_world.living(tmp_path / "github") as world:
        release = yaml.safe_load(data.release_file().read_text())
        release["environments"]["prod"]["github_api_url"] = world.settings.api_url
        release["limits"]["pause_share"] = 0.001
        (tmp_path / "release.yaml").write_text(yaml.safe_dump(release))
        yield Place(world, tmp_path / "github", tmp_path)
    patience.hold(patience.Patience())


def run(number: int, *artifacts: str, **more: object) -> Run:
    told: dict[str, object] = {"workflow": "release.yml", "event": "workflow_dispatch"}
    told |= {"ref": "master", "artifacts": tuple(artifacts), **more}
    return Run(id=number, **told)  # type: ignore[arg-type]


def test_the_highest_version_below_is_found(place: Place) -> None:
    """Of this environment and flavour, of the newest attempt, whichever run came last."""
    place.had(
        run(1, "binaries-1", NAME.format("0.4.8-1")),
        run(2, NAME.format("0.4.9-1"), NAME.format("0.4.9-2"), "report-promote-1"),
        # A mend of an older release, a later one, development, another flavour, another file.
        run(3, NAME.format("0.4.8-7")),
        run(4, NAME.format("0.5.0-1"), NAME.format("0.6.0-1")),
        run(5, "release-promoted-dev-swift-0.4.9-1", "release-promoted-prod-bridge-0.4.9-1"),
        run(6, NAME.format("0.4.9-9"), workflow="other.yml"),
        run(7, NAME.format("nonsense-1"), NAME.format("0.4.9"), NAME.format("x-0.4.9-1")),
    )
    code, told, said, err = place.find()
    assert (code, err) == (0, "")
    assert told == {"run": "2", "artifact": NAME.format("0.4.9-2")}
    assert said.count("0.4.9, promoted by run 2") == 2
    code, _, said, _ = place.find("--json", "--version", "0.4.9")
    document = json.loads(said.splitlines()[0])
    assert (document["version"], document["run"]) == ("0.4.8", "3")


def test_what_a_stranger_ran_is_never_taken(place: Place) -> None:
    """A pull request may run a file of this name, and so may a fork."""
    place.had(
        run(1, NAME.format("0.4.7-1")),
        run(2, NAME.format("0.4.9-1"), event="pull_request", repository="mallory/darkbloom"),
        run(3, NAME.format("0.4.9-1"), event="pull_request"),
        run(4, NAME.format("0.4.9-1"), event="push", ref="v0.4.9", repository="mallory/darkbloom"),
    )
    assert place.find()[1]["run"] == "1"


def test_none_before_is_said_and_is_no_failure(place: Place) -> None:
    """Nothing promoted, or expired: exit 0, empty outputs, one line on the job's page."""
    gone = NAME.format("0.4.9-1")
    place.had(run(1, "release-signed-1"), run(2, gone, expired=(gone,)))
    code, told, said, err = place.find()
    assert (code, told, err) == (0, {"run": "", "artifact": ""}, "")
    assert said.count("none of prod, swift among the newest runs of release.yml") == 2


def test_runs_whose_tag_says_enough_are_not_asked(place: Place) -> None:
    """Of development, of another family, of a later version; hundreds of them hide nothing."""
    many = [run(at, event="push", ref=f"v0.5.1-dev.{at}") for at in range(10, 70)]
    place.had(
        run(1, NAME.format("0.4.9-1"), event="push", ref="v0.4.9"),
        run(2, event="push", ref="rust-bridge-v0.4.9"),
        run(3, event="push", ref="v0.5.0"),
        *many,
    )
    assert place.find()[1]["run"] == "1"
    assert place.world.lines.report().requests.total() == 4


def test_what_github_refuses_is_told_with_the_right_that_lacks(place: Place) -> None:
    """Exit 4 with `actions: read`, 5 for what passes; the job goes on without either way."""
    place.had(run(1, NAME.format("0.4.9-1")))
    code, _, _, err = place.find(GITHUB_TOKEN=github_world.NOBODY)
    assert code == 4
    assert "the token lacks `actions: read`" in err
    code, _, _, err = place.find(GITHUB_TOKEN="")
    assert code == 4
    assert "permissions: actions: read" in err
    place.world.broken.set({faults.GITHUB_UNAVAILABLE: 50})
    code, told, _, err = place.find()
    assert (code, told) == (5, {})
    place.world.broken.set({faults.GITHUB_UNAVAILABLE: 0, faults.GITHUB_TRUNCATED: 1})
    assert place.find()[1]["run"] == "1"
