"""A whole release for a coordinator of October, with the approval that somebody else gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests

from release_tool import data
from release_tool.cli import embedded
from release_tool.rehearsal import environment, places, samples, tiny_model
from tests import git_trees
from tests.cli.test_run import invoke


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed tree whose release file speaks October and wants approvals."""
    text = data.release_file().read_text()
    text = text.replace("contract: 2026-05", "contract: 2026-10")
    text = text.replace("embedded: true", "embedded: true\n    require_qualification: true")
    folder = tmp_path / "tree"
    folder.mkdir()
    git_trees.git(folder, "init", "-q")
    (folder / "release.yaml").write_text(text)
    git_trees.commit(folder, "source")
    monkeypatch.chdir(folder)
    return folder


def run(tmp_path: Path, *more: str, run_id: str = "17041704") -> tuple[int, str, str]:
    return invoke(
        *("run", "--env", "rehearsal", "--dist", str(tmp_path / "dist")),
        *("--metallib", str(tmp_path / "lib.metallib"), "--model", str(tmp_path / "model"), *more),
        environ={"RELEASE_CI_RUN_ID": run_id} if run_id else {},
    )


@pytest.mark.usefixtures("tree")
def test_a_run_that_names_no_run_of_the_ci_does_not_begin(tmp_path: Path) -> None:
    """Exit 2 before anything is signed; what registers nothing needs none."""
    for part in ("lib.metallib", "model"):
        (tmp_path / part).touch()
    code, _, err = run(tmp_path, run_id="")
    assert code == 2
    assert "RELEASE_CI_RUN_ID" in err
    code, _, err = run(tmp_path, run_id="seventeen")
    assert code == 2
    assert "expected 1 to 32 digits" in err
    embedded.stop(tmp_path / "dist", "rehearsal")


@pytest.mark.slow
@pytest.mark.usefixtures("tree")
def test_a_release_waits_for_its_approval_and_is_registered(tmp_path: Path) -> None:
    """Exit 8 with the request; the coordinator takes it with its evidence; then all goes on."""
    (tmp_path / "lib.metallib").write_bytes(samples.metallib())
    tiny_model.make(tmp_path / "model")
    try:
        code, _, err = run(tmp_path)
        assert code == 8
        (path,) = (tmp_path / "dist").rglob("qualification-request.json")
        assert str(path) in err
        living = environment.attach(embedded.state_folder(tmp_path / "dist", "rehearsal"))
        assert living
        approved = requests.post(
            f"{living.coordinator_url}/v1/admin/app-attest/builds",
            json=json.loads(path.read_text()) | {"evidence": "it ran"},
            headers={"Authorization": f"Bearer {living.secret(places.ADMIN_KEY)}"},
            timeout=20,
        )
        assert approved.json()["changed"] is True
        code, out, _ = run(tmp_path, "--json")
        assert code == 0
        values = json.loads(out)["values"]
        assert "/artifacts/" in values["register"]["url"]
        outcomes = {check["name"]: check["outcome"] for check in values["register"]["checks"]}
        assert outcomes["/api/version"] == outcomes["routable capacity"] == "passed"
        assert values["promote"]["outcome"] == "promoted"
    finally:
        embedded.stop(tmp_path / "dist", "rehearsal")
