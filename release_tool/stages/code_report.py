"""The signed part of a release as its signatures tell it: an app, or flat files alone."""

from __future__ import annotations

from release_tool import layout
from release_tool.apple import flat, release
from release_tool.apple.facts import BundleReport
from release_tool.apple.tree import BundleTree
from release_tool.apple.verification import Judge
from release_tool.plan import ReleasePlan
from release_tool.values import CodeObject, SignedBundle


def of(plan: ReleasePlan, tree: BundleTree, *, judge: Judge, path: str) -> BundleReport:
    """Judge what was signed, by the layout that it has.

    Args:
        plan: the release plan.
        tree: the app's root, or the folder of flat files.
        judge: trust, time, and whether to judge as our own writer's work.
        path: how checks name it.
    """
    if layout.of(plan).is_app:
        return release.verify_app(tree, judge=judge, path=path)
    return flat.verify(tree, judge=judge, path=path, main=plan.bundle.main_executable)


def main(plan: ReleasePlan, signed: SignedBundle) -> CodeObject:
    """The main executable's code object; an app itself stands for its own."""
    places = (signed.app, f"{signed.app}/{layout.of(plan).place(plan.bundle.main_executable)}")
    return next(code for code in signed.code if code.path in places)


def whole(plan: ReleasePlan, signed: SignedBundle) -> list[str]:
    """Paths, relative to the release's root, that codesign judges whole: the app, or each file."""
    if layout.of(plan).is_app:
        return [signed.app]
    return [code.path for code in signed.code]
