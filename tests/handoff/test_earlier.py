"""A release that was published comes beside the one that follows, for its figures and archive."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.cli import main, release_before
from release_tool.cli.session import Session
from release_tool.handoff import earlier, unpacking
from release_tool.ledger import Ledger
from release_tool.plan import ReleasePlan
from release_tool.values import digest_of
from tests.handoff import releases
from tests.handoff.releases import Release


def older(plan: ReleasePlan, version: str = "0.4.9") -> ReleasePlan:
    source = plan.source.model_copy(update={"commit": "e" * 40})
    product = plan.product.model_copy(update={"minimum_macos": "13.0"})
    return plan.model_copy(update={"version": version, "source": source, "product": product})


@pytest.fixture
def before(tmp_path: Path, plan: ReleasePlan) -> Release:
    """A release of another commit and another plan, up to its archive."""
    made = releases.signed(tmp_path / "run" / "0.4.9", older(plan))
    made.file("archive", releases.ARCHIVE, b"archive" * 10_000, ["sign"])
    return made


def published(release: Release) -> Release:
    archive = release.ledger.newest("archive")
    assert archive
    release.append(
        "publish",
        value={"archive_sha256": archive.outputs[releases.ARCHIVE]},
        inputs={"archive": digest_of(archive.value)},
    )
    return release


def bring(release: Release, plan: ReleasePlan, folder: Path, expect: str | None = None) -> Path:
    release.pack(folder / "handoff.tar.gz")
    there = earlier.of(plan, unpacking.manifest_of(folder / "handoff.tar.gz"))
    root = folder / "dist" / there.version
    root.parent.mkdir(exist_ok=True)
    earlier.unpack(folder / "handoff.tar.gz", root, there, expect=expect)
    return root


def test_the_release_before_is_found_beside(
    before: Release, plan: ReleasePlan, tmp_path: Path
) -> None:
    """By another plan, from another commit, under any head: it arrives whole, and is at hand."""
    published(before)
    root = bring(before, plan, tmp_path)
    assert Ledger(root / "ledger").head == before.ledger.head
    assert releases.named(replace(before, root=root)) == releases.named(before)
    found = release_before.find(root.parent / plan.version, plan.version)
    assert found
    assert (found.version, found.file) == ("0.4.9", root / releases.ARCHIVE)
    # Once more, as in a job that is run again.
    assert bring(before, plan, tmp_path, expect=before.ledger.head) == root


def test_one_that_no_user_has_is_refused(
    before: Release, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Never published, of another flavour, or under another head than is known: nothing comes."""
    with pytest.raises(errors.UsageError, match="never published") as caught:
        bring(before, plan, tmp_path)
    assert caught.value.observed == "done up to archive"
    published(before)
    with pytest.raises(errors.VerificationError, match="another ledger"):
        bring(before, plan, tmp_path, expect="0" * 64)
    before.append("register", "failure", plan_part={"flavour.layout": "flat"})
    with pytest.raises(errors.UsageError, match="another flavour") as caught:
        bring(before, plan, tmp_path)
    assert caught.value.observed == "layout flat"
    assert not list((tmp_path / "dist").glob("*/ledger/*.json"))


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main.invoke(["handoff", "earlier", *words], Session({}, out=out, err=err))
    return code, out.getvalue(), err.getvalue()


def test_a_job_brings_it_by_one_command(before: Release, plan: ReleasePlan, tmp_path: Path) -> None:
    """Into the folder of its own version; the same version, or one that is none, is refused."""
    dist = ("--env", "rehearsal", "--dist", str(tmp_path / "dist"))
    release = replace(
        published(before),
        plan=before.plan.model_copy(
            update={
                "environment": plan.environment.model_copy(update={"name": "rehearsal"}),
            }
        ),
    )
    file = str(tmp_path / "handoff.tar.gz")
    release.pack(Path(file))
    code, said, err = call(file, *dist, "--version", "0.5.0")
    assert (code, err) == (0, "")
    assert said.startswith(f"{tmp_path}/dist/rehearsal/0.4.9: created from {file}")
    for version in ("0.4.9", "0.4.8"):
        code, _, err = call(file, *dist, "--version", version)
        assert code == 2
        assert "this is no earlier release" in err
    away = release.plan.model_copy(update={"version": "../../0.4.9"})
    replace(release, plan=away).pack(Path(file))
    code, _, err = call(file, *dist, "--version", "0.5.0")
    assert code == 2
    assert "'../../0.4.9'" in err
    assert not (tmp_path / "0.4.9").exists()
