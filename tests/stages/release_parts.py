"""What the stages from profile to archive need: a verified profile, binaries, entitlements."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from release_tool import data
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.rehearsal import profiles, samples
from release_tool.stages import assemble, profile
from release_tool.values import AssembledBundle, VerifiedProfile
from tests import look_alike


class Told(Silent):
    """Keeps what a stage said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.tasks: list[str] = []

    def start(self, task: str, total_bytes: int | None) -> None:
        del total_bytes
        self.tasks.append(task)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def changed(plan: ReleasePlan, **parts: Mapping[str, object]) -> ReleasePlan:
    """The plan with some values of some parts replaced."""
    whole = plan.model_dump(mode="json")
    for name, values in parts.items():
        whole[name] |= values
    return ReleasePlan.model_validate(whole)


def binaries(folder: Path, plan: ReleasePlan) -> Path:
    """What a build of the plan's commit hands over."""
    samples.materialize(folder, plan.version, plan.source.commit)
    return folder


def metallib(folder: Path) -> Path:
    """A file that looks like a Metal library."""
    path = folder / "given.metallib"
    path.write_bytes(samples.metallib())
    return path


def entitlements(folder: Path) -> Path:
    """A copy of the entitlements of the release, to change."""
    copy = folder / "entitlements"
    shutil.copytree(data.entitlements_folder(), copy)
    return copy


def verified_profile(
    plan: ReleasePlan, workspace: Workspace, granted: Mapping[str, object] | None = None
) -> VerifiedProfile:
    """The profile stage's value for a look-alike profile."""
    product = plan.product
    return profile.run(
        plan,
        _profile(product.team_id, product.bundle_id, json.dumps(granted or {})),
        workspace=workspace,
        reporter=Silent(),
        trust=look_alike.trust(),
        entitlements=(),
        certificate=look_alike.signer().leaf,
    )


@lru_cache
def _profile(team_id: str, bundle_id: str, granted: str) -> bytes:
    """The same bytes each time, although every signature differs."""
    wish = profiles.Wish(team_id=team_id, bundle_id=bundle_id, granted=json.loads(granted))
    return profiles.make(look_alike.authority(), wish)


def assembled(
    plan: ReleasePlan,
    folder: Path,
    *,
    reporter: Told | None = None,
    binaries_folder: Path | None = None,
    entitlements_folder: Path | None = None,
    metallib_file: Path | None = None,
    granted: Mapping[str, object] | None = None,
) -> AssembledBundle:
    """Run the assemble stage in `folder/work`, with good parts where none is named."""
    workspace = Workspace(folder / "work")
    workspace.root.mkdir(exist_ok=True)
    return assemble.run(
        plan,
        verified_profile(plan, workspace, granted),
        workspace=workspace,
        reporter=reporter or Told(),
        binaries=binaries_folder or binaries(folder / "built", plan),
        entitlements=entitlements_folder or data.entitlements_folder(),
        metallib=metallib_file or metallib(folder),
        cache=folder / "cache",
        environ=dict(os.environ),
    )
