"""Which entitlements each executable is signed with, and whether its role may claim them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from release_tool import errors, layout
from release_tool.apple import checks, entitlements
from release_tool.apple.checks import Check
from release_tool.apple.policy import linter
from release_tool.files.tree import DiskTree
from release_tool.plan import Executable, Product, ReleasePlan
from release_tool.stages import findings

_NETWORK = ("com.apple.security.network.client", "com.apple.security.network.server")


class Resolved(NamedTuple):
    """What every executable is signed with, and what is wrong with it."""

    entitlements: dict[str, dict[str, object] | None]
    """By executable name; None for an executable without."""
    checks: list[Check]
    warnings: list[str]
    """What macOS would ignore."""


def resolve(plan: ReleasePlan, folder: Path, granted: Mapping[str, object]) -> Resolved:
    """Read every executable's entitlements, add what the profile grants, and judge the whole.

    Args:
        plan: the release plan.
        folder: holds the entitlements files.
        granted: what the profile grants.

    """
    found: dict[str, dict[str, object] | None] = {}
    judged: list[Check] = []
    warnings: list[str] = []
    for executable in (*plan.bundle.executables, *plan.bundle.helpers):
        if executable.entitlements is None:
            found[executable.name] = None
            continue
        try:
            lint = examine(folder, executable)
        except errors.HostError as problem:
            judged.append(
                checks.failed(
                    "entitlements file",
                    expected="a property list",
                    observed=problem.message,
                    subject=executable.entitlements,
                )
            )
            continue
        judged += lint.checks
        warnings += lint.warnings
        if lint.values is None:
            continue
        claimed = dict(lint.values)
        claimed |= when_granted(plan, executable.name, granted)
        found[executable.name] = claimed
        in_app = layout.of(plan).is_app
        judged += _judge(plan.product, executable, claimed, granted, in_app=in_app)
    return Resolved(entitlements=found, checks=judged, warnings=warnings)


def when_granted(
    plan: ReleasePlan, executable: str, granted: Mapping[str, object]
) -> dict[str, object]:
    """The entitlements that an executable gets because this profile grants them."""
    return {
        addition.key: addition.value
        for addition in plan.bundle.when_granted
        if addition.executable == executable
        and entitlements.covered(addition.key, addition.value, granted, plan.product.team_id)
    }


def examine(folder: Path, executable: Executable) -> linter.Lint:
    """Judge the entitlements file of an executable that has one.

    Raises:
        HostError: it is not there.
    """
    name = executable.entitlements or ""
    path = folder / name
    if not path.is_file():
        raise errors.HostError("there is no such entitlements file", subject=str(path))
    data = DiskTree(folder).head(name, entitlements.MAX_BYTES + 1)
    return linter.lint(data, name=name, jit=executable.jit)


def read(folder: Path, executable: Executable) -> dict[str, object]:
    """Read the entitlements file of an executable that has one.

    Raises:
        VerificationError: something is wrong with it, every reason at once.
        HostError: it is not there.
    """
    lint = examine(folder, executable)
    path = folder / (executable.entitlements or "")
    findings.require(lint.checks, f"{path}: these entitlements must not be signed with")
    return dict(lint.values or {})


def _judge(
    product: Product,
    executable: Executable,
    claimed: Mapping[str, object],
    granted: Mapping[str, object],
    *,
    in_app: bool,
) -> list[Check]:
    found = entitlements.coverage(claimed, granted, product.team_id)
    found.append(
        checks.compare(
            "get-task-allow",
            expected="not claimed",
            observed="claimed" if entitlements.allows_debugging(claimed) else "not claimed",
            subject=executable.name,
        )
    )
    if executable.role == "provider" and in_app:
        return found + _judge_provider(product, executable, claimed)
    restricted = entitlements.restricted_keys(claimed, product.team_id)
    found.append(
        checks.compare(
            "restricted entitlements",
            expected="none",
            observed=", ".join(restricted) or "none",
            subject=executable.name,
            hint="macOS kills a bare executable that claims one; an app's profile is for its main"
            " executable",
        )
    )
    return found


def _judge_provider(
    product: Product, executable: Executable, claimed: Mapping[str, object]
) -> list[Check]:
    wanted: dict[str, object] = {
        entitlements.APPLICATION_IDENTIFIER: f"{product.team_id}.{product.bundle_id}",
        entitlements.TEAM_IDENTIFIER: product.team_id,
        entitlements.KEYCHAIN_ACCESS_GROUPS: list(product.access_groups),
        **dict.fromkeys(_NETWORK, True),
    }
    return [
        checks.compare(
            key,
            expected=entitlements.describe(value),
            observed=entitlements.describe(claimed[key]) if key in claimed else "",
            subject=executable.name,
        )
        for key, value in wanted.items()
    ]
