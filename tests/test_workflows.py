"""What the release workflow hands from job to job."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import yaml

RELEASE = Path(__file__).parent.parent / ".github" / "workflows" / "release.yml"


def test_a_job_that_waited_in_vain_keeps_its_ledger_and_no_credentials(tmp_path: Path) -> None:
    """The workflow's own command packs records and app; an upload's credentials stay behind."""
    steps = yaml.safe_load(RELEASE.read_text())["jobs"]["notarize"]["steps"]
    (notarize,) = [place for place, step in enumerate(steps) if step.get("id") == "notarize"]
    pack, keep, _ = steps[notarize + 1 :]
    assert "steps.notarize.outcome" in pack["if"]
    assert keep["if"] == pack["if"]
    fetched = next(step for step in steps if "download-artifact" in step.get("uses", ""))
    assert keep["with"]["name"] == fetched["with"]["name"]
    release = tmp_path / "dist" / "prod" / "0.5.0"
    for name in ("ledger/0001-sign.json", ".notary/a.json", ".scratch/notarize/submission.zip"):
        (release / name).parent.mkdir(parents=True)
        (release / name).write_text(name)
    (release / "signed" / "Darkbloom.app").mkdir(parents=True)
    subprocess.run(["sh", "-euc", pack["run"]], cwd=tmp_path, check=True)
    with tarfile.open(tmp_path / keep["with"]["path"]) as made:
        names = {Path(name).name for name in made.getnames()}
    assert {"0001-sign.json", "Darkbloom.app"} <= names
    assert not names & {".notary", "a.json", ".scratch", "submission.zip"}
