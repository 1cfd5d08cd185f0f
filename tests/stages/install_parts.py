"""What tests of the installer's trials share: a candidate, and installers that are worse."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from release_tool.apple.checks import Check
from release_tool.plan import ReleasePlan
from release_tool.stages import installer_file
from release_tool.stages.install_trial import Candidate
from release_tool.values import ReleaseArchive
from tests import signed_release
from tests.stages.release_parts import changed


def digest(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def candidate(plan: ReleasePlan, folder: Path) -> Candidate:
    """A signed release with the template of installers, all below a folder."""
    made = signed_release.made()
    file = folder / "darkbloom-bundle-macos-arm64.tar.gz"
    file.write_bytes(made.archive)
    (folder / "outside").mkdir()
    archive = ReleaseArchive(
        path=file.name,
        sha256=digest(made.archive),
        size=len(made.archive),
        tar_sha256="0" * 64,
        binary_sha256=digest(made.files["bin/darkbloom"]),
        enclave_sha256="0" * 64,
        metallib_sha256=digest(made.files["bin/mlx.metallib"]),
        cdhash="0" * 40,
        code_directory_sha256="0" * 64,
        source_commit="unknown",
        test_outcome="unknown",
        members=(),
    )
    return Candidate(
        plan=plan,
        archive=archive,
        file=file,
        unpacked=made.write(folder / "unpacked"),
        scratch=folder / "scratch",
        outside=(folder / "outside",),
    )


def own(candidate: Candidate, changes: Mapping[str, str]) -> Candidate:
    """The candidate with an installer of the project's own: the template, somewhat worse."""
    text = installer_file.render(candidate.plan)
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path = candidate.file.parent / "own.sh"
    path.write_text(text)
    named = changed(candidate.plan, smoke={"installer": str(path)})
    return dataclasses.replace(candidate, plan=named)


def failed(found: list[Check]) -> dict[tuple[str, str], str]:
    """What failed, by trial and subject: what was observed."""
    return {
        (check.name.removeprefix("installer, "), check.subject): check.observed
        for check in found
        if check.outcome == "failed"
    }
