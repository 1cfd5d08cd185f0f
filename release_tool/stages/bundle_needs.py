"""What a bundle needs to run on a user's Mac, judged without one, on the unpacked archive.

Each subject has its module in `apple/`; here they meet the plan. Nothing is started and no
signature is judged: `apple.release` does that from the seal down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from release_tool import layout
from release_tool.apple import (
    built_in,
    capabilities,
    checks,
    metal_functions,
    release,
    resource_bundles,
)
from release_tool.apple.capabilities import Capability
from release_tool.apple.checks import Check
from release_tool.apple.policy import distribution, inventory, library_validation
from release_tool.apple.policy.inventory import Inventory
from release_tool.apple.tree import BundleTree, Remembered, Subtree, TreeEntry
from release_tool.files.tree import DiskTree
from release_tool.plan import ReleasePlan

READS = (
    "product.name",
    "product.team_id",
    "product.minimum_macos",
    "bundle",
    "environment.name",
    "environment.built_in",
    "environment.not_built_in",
    "flavour.layout",
)
_HELPERS = "Contents/Helpers"
_HELPER_MODE = 0o755


def judge(plan: ReleasePlan, root: Path) -> list[Check]:
    """Judge an unpacked release: every need, named, with expected and observed.

    Args:
        plan: the release plan.
        root: the folder that holds the app and `bin/`.

    Raises:
        VerificationError: a file cannot be read as what it must be.
    """
    tree = Remembered(DiskTree(root))
    path = layout.of(plan).top
    app = Remembered(Subtree(tree=tree, prefix=path))
    if missing := _missing(plan, app, path):
        return missing
    taken = inventory.take(app)
    return [
        *of_build(plan, app, path=path),
        *_built_in(plan, app, path),
        *distribution.targets(taken, minimum_macos=plan.product.minimum_macos, path=path),
        *library_validation.judge(taken, path=path),
        *_teams(plan, taken, path),
        *_helpers(plan, app.entries(), path),
        *_flat_copies(plan, tree),
    ]


def named(plan: ReleasePlan) -> Iterator[tuple[str, str]]:
    """Name and subject of what passes for every good release of a plan, whatever its build links.

    Args:
        plan: the release plan; of a real environment, whose files name what is built in.
    """
    places = layout.of(plan)
    main = f"{places.top}/{places.place(plan.bundle.main_executable)}"
    helpers = [f"{places.top}/{_HELPERS}/{one.name}" for one in plan.bundle.helpers]
    programs = [f"{places.top}/{places.place(one.name)}" for one in plan.bundle.executables]
    for program in (*programs, *helpers):
        yield "minimum macOS of the code", program
        yield "team of the code", program
    if plan.bundle.metallib:
        library = f"{places.top}/{places.place(plan.bundle.metallib.name)}"
        yield "Metal functions", library
        yield "Metal target", library
        if plan.bundle.metallib.functions:
            yield "Metal function", library
    if plan.environment.built_in:
        yield "built in", main
    if plan.environment.not_built_in:
        yield "not built in", main
    for one in plan.bundle.capability_markers:
        yield "capability marker", f"{places.top}/{capabilities.FOLDER}/{one.name}"
    yield from (("helper", path) for path in helpers)
    yield from (("flat copy", copy) for copy in places.flat_copies)
    yield "resources", places.top


def of_build(plan: ReleasePlan, tree: BundleTree, *, path: str = "") -> list[Check]:
    """Judge what only another build mends, so that it is known before anything is signed.

    Args:
        plan: the release plan.
        tree: the app's root, with its main executable and its Metal library.
        path: how checks name it.

    Raises:
        VerificationError: a file cannot be read as what it must be.
    """
    main = _main(plan)
    return [
        *_metal_functions(plan, tree, path),
        *resource_bundles.judge(tree, main, path=path),
        *capabilities.judge(tree, main, capabilities=_capabilities(plan), path=path),
    ]


def _metal_functions(plan: ReleasePlan, tree: BundleTree, path: str) -> Iterator[Check]:
    pin = plan.bundle.metallib
    if pin is None:
        return
    own = layout.of(plan).place(pin.name)
    yield from metal_functions.judge(
        tree.view(own), required=pin.functions, subject=_named(path, own)
    )


def _main(plan: ReleasePlan) -> str:
    return layout.of(plan).place(plan.bundle.main_executable)


def _missing(plan: ReleasePlan, app: BundleTree, path: str) -> list[Check]:
    files = {entry.path for entry in app.entries() if entry.kind == "file"}
    declared = (*plan.bundle.data, *(one.name for one in plan.bundle.executables))
    names = [layout.of(plan).place(name) for name in declared]
    return [
        checks.failed(
            "file",
            expected="present",
            observed="missing",
            subject=_named(path, name),
            hint="assemble the release again",
        )
        for name in names
        if name not in files
    ]


def _capabilities(plan: ReleasePlan) -> list[Capability]:
    return [
        Capability(marker=one.name, code_string=one.code_string, needs=one.needs)
        for one in plan.bundle.capability_markers
    ]


def _helpers(plan: ReleasePlan, entries: Sequence[TreeEntry], path: str) -> Iterator[Check]:
    """Every declared helper is a program of exactly one mode: who installs it compares that."""
    by_path = {entry.path: entry for entry in entries}
    for helper in plan.bundle.helpers:
        entry = by_path.get(f"{_HELPERS}/{helper.name}")
        observed = "nothing"
        if entry is not None:
            observed = f"a {entry.kind} of mode {entry.mode:04o}"
        yield checks.compare(
            "helper",
            expected=f"a file of mode {_HELPER_MODE:04o}",
            observed=observed,
            subject=_named(path, f"{_HELPERS}/{helper.name}"),
            hint="chmod 755: installers refuse any other mode",
        )


def _built_in(plan: ReleasePlan, app: BundleTree, path: str) -> list[Check]:
    return built_in.judge(
        app.view(_main(plan)),
        wanted=plan.environment.built_in,
        unwanted=plan.environment.not_built_in,
        environment=plan.environment.name,
        subject=_named(path, _main(plan)),
    )


def _teams(plan: ReleasePlan, taken: Inventory, path: str) -> Iterator[Check]:
    """All code is of the release's team: the hardened runtime loads no other."""
    team = plan.product.team_id
    for own, file in taken.code.items():
        found = {part.team_id or "none" for part in file.parts} or {"none"}
        yield checks.compare(
            "team of the code",
            expected=team,
            observed=", ".join(sorted(found)),
            subject=_named(path, own),
            hint="sign it with the release's certificate: a library of another team is refused",
        )


def _flat_copies(plan: ReleasePlan, tree: BundleTree) -> Iterator[Check]:
    """`bin/` holds the declared copies, each the app's own file again, and no helper."""
    entries = {entry.path: entry for entry in tree.entries()}
    for copy, original in layout.of(plan).flat_copies.items():
        yield _flat_copy(tree, entries.get(copy), copy, original)
    for helper in plan.bundle.helpers:
        there = f"{release.FLAT}/{helper.name}" in entries
        yield checks.compare(
            "helper under bin/",
            expected="none",
            observed="one" if there else "none",
            subject=f"{release.FLAT}/{helper.name}",
            hint="installers refuse it there: it runs from the app only",
        )


def _flat_copy(tree: BundleTree, entry: TreeEntry | None, copy: str, original: str) -> Check:
    observed = "nothing"
    if entry is not None and entry.kind != "file":
        observed = f"a {entry.kind}"
    elif entry is not None:
        observed = tree.digest(entry.path, "sha256").hex()
    return checks.compare(
        "flat copy",
        expected=tree.digest(original, "sha256").hex(),
        observed=observed,
        subject=copy,
        hint=f"it must be {original} once more: run the archive stage again",
    )


def _named(path: str, own: str) -> str:
    return f"{path}/{own}" if path else own
