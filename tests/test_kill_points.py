"""A run that dies at a write or a request ends, run again, in exactly one release.

So does a rollback, in exactly one withdrawal.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
