"""What macOS would say of a whole app: every gate but the notary, every reason at once."""

from __future__ import annotations

from collections.abc import Collection

from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.apple.policy import (
    amfi,
    distribution,
    embedded,
    library_validation,
    linter,
)
from release_tool.apple.policy import inventory as inventories
from release_tool.apple.policy.inventory import Inventory
from release_tool.apple.tree import BundleTree
from release_tool.apple.verification import Judge


def of_app(tree: BundleTree, facts: BundleFacts, *, judge: Judge, own: bool) -> list[Check]:
    """Judge an app by AMFI's rules and library validation; our own by what we hand out as well.

    Args:
        tree: the app's root.
        facts: the app as its signatures were judged; its path names the app in checks.
        judge: whom profiles must be signed by, and when they must be good.
        own: whether it is ours: others may link what lies elsewhere, and name files as they like.
    """
    place = f"{facts.path}/{embedded.PROFILE}".removeprefix("/")
    grants, found = embedded.read(facts.profile, judge=judge, subject=place)
    nested, nested_checks = embedded.nested(tree, facts, judge=judge)
    found += nested_checks
    found += amfi.launch(facts, grants, nested)
    taken = inventories.take(tree, resources=False)
    found += library_validation.judge(taken, facts=facts, path=facts.path, own=own)
    if own:
        found += _signed_with(facts)
        found += files(taken, minimum_macos=facts.minimum_macos, path=facts.path)
    return found


def files(
    taken: Inventory,
    *,
    minimum_macos: str,
    data_in_code_places: Collection[str] | None = None,
    path: str = "",
    as_written: bool = False,
) -> list[Check]:
    """Judge what needs no signature to be judged of our app: names, links, modes, targets.

    Args:
        taken: what lies in it.
        minimum_macos: the oldest system that is promised to users; empty where nothing promises.
        data_in_code_places: paths of files that are no code and may lie where code does; None
            for every Metal library.
        path: how checks name the app.
        as_written: whether modes are still those that we gave, no unpacker's.
    """
    entries = tuple(taken.entries.values())
    allowed = frozenset(taken.metal) if data_in_code_places is None else data_in_code_places
    return [
        *distribution.names(entries, path=path),
        *distribution.links(entries, path=path),
        *distribution.modes(entries, taken.programs, path=path, as_written=as_written),
        *distribution.targets(taken, minimum_macos=minimum_macos, path=path),
        *distribution.code_places(taken, allowed=allowed, path=path),
    ]


def _signed_with(facts: BundleFacts) -> list[Check]:
    """The linter's errors in what was signed; a warning is no matter of what is out."""
    return [
        check
        for report in facts.code.values()
        for item in report.slices
        if item.entitlements is not None
        for check in linter.judge(item.entitlements, name=item.path)
    ]
