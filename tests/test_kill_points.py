"""A run that dies at a write or a request ends, run again, in exactly one release.

So does a rollback, in exactly one withdrawal.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from release_tool.rehearsal import places
from tests.killing import judging
from tests.killing.world import World

ROOT = Path(__file__).resolve().parent.parent
# Most after the smoke run, which takes longer than all else together; `make kill` goes everywhere.
SAMPLE = (
    "smoke rename dist/rehearsal/<version>/smoke/provider.log #1",
    "publish sent PUT /darkbloom-rehearsal/releases/v<version>/"
    "darkbloom-bundle-macos-arm64.tar.gz #1",
    "register sent POST /v1/releases #1",
    "register torn dist/rehearsal/<version>/ledger/.0012-register.json.<pid> #1",
    "promote answered PUT /darkbloom-rehearsal/releases/latest/"
    "darkbloom-bundle-macos-arm64.tar.gz #1",
    "keyless/register answered POST /v1/releases #1",
    "october/register sent POST /v1/releases #1",
    "rollback/tombstone rename dist/rehearsal/rollback/log.head.5.json #1",
    "rollback/deactivate sent DELETE /v1/admin/releases #1",
)


def test_the_judge_of_secrets_can_fail(tmp_path: Path) -> None:
    """As the watch over the tests finds it: said, in a record, in an archive, in what was left."""
    folder = tmp_path / "world"
    state, workspace = tmp_path / "state", folder / "workspace"
    for name in places.SECRETS:
        place = places.secret(state, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"secret of {name}+/")
    workspace.mkdir(parents=True)
    names = {"state": state, "folder": folder, "workspace": workspace}
    world = cast("World", SimpleNamespace(**names, temporary=folder / "tmp"))
    assert list(judging.secrets(world, ["nothing"])) == []
    (workspace / "record.json").write_text("secret of release-key\\u002b\\/")
    (workspace / "handoff.tar.gz").write_bytes(gzip.compress(b"secret of admin-key+/"))
    assert list(judging.secrets(world, ["secret of github-token&#43;&#47;"])) == [
        "the secret github-token in what it said",
        "the secret admin-key in handoff.tar.gz",
        "the secret release-key in record.json",
    ]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sample_of_all_points_holds() -> None:
    """One registration, one set of bytes, no second upload, nothing left behind or running."""
    # A process of its own: its runs are forks, and a test's process has threads.
    command = [sys.executable, "-m", "tests.killing", "--json", "--jobs", "1"]
    command += [word for point in SAMPLE for word in ("--point", point)]
    swept = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    verdicts = [json.loads(line) for line in swept.stdout.splitlines()]
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert [(one["point"], one["outcome"]) for one in verdicts] == [
        (point, "holds") for point in SAMPLE
    ]
