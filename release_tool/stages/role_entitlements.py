"""Which entitlements each executable is signed with, and whether its role may claim them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from release_tool import errors
from release_tool.apple import checks, entitlements
from release_tool.apple.checks import Check
from release_tool.files.tree import DiskTree
from release_tool.plan import Executable, Product, ReleasePlan

_NETWORK = ("com.apple.security.network.client", "com.apple.security.network.server")
_PLACEHOLDER = b"$("


def resolve(
    plan: ReleasePlan, folder: Path, granted: Mapping[str, object]
) -> tuple[dict[str, dict[str, object] | None], list[Check]]:
    """Read every executable's entitlements, add what the profile grants, and judge the whole.

    Args:
        plan: the release plan.
        folder: holds the entitlements files.
        granted: what the profile grants.

    Returns:
        The entitlements by executable name (None for an executable without), and the checks.
    """
    found: dict[str, dict[str, object] | None] = {}
    judged: list[Check] = []
    for executable in (*plan.bundle.executables, *plan.bundle.helpers):
        if executable.entitlements is None:
            found[executable.name] = None
            continue
        try:
            claimed = read(folder, executable.entitlements)
        except (errors.VerificationError, errors.HostError) as problem:
            judged.append(
                checks.failed(
                    "entitlements file",
                    expected="a property list",
                    observed=problem.message,
                    subject=executable.entitlements,
                )
            )
            continue
        claimed |= when_granted(plan, executable.name, granted)
        found[executable.name] = claimed
        judged += _judge(plan.product, executable, claimed, granted)
    return found, judged


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


def read(folder: Path, name: str) -> dict[str, object]:
    """Read one entitlements file.

    Raises:
        FormatError: it is no property list, or holds a placeholder that nobody fills in.
        HostError: it is not there.
    """
    path = folder / name
    if not path.is_file():
        raise errors.HostError("there is no such entitlements file", subject=str(path))
    text = DiskTree(folder).head(name, entitlements.MAX_BYTES + 1)
    if _PLACEHOLDER in text:
        # Xcode fills `$(AppIdentifierPrefix)` in; nothing here does, and AMFI takes it literally.
        raise errors.FormatError(
            "holds the literal text $(", subject=str(path), hint="write the team identifier out"
        )
    try:
        return entitlements.parse_xml(text)
    except errors.FormatError as problem:
        problem.subject = problem.subject or str(path)
        raise


def _judge(
    product: Product,
    executable: Executable,
    claimed: Mapping[str, object],
    granted: Mapping[str, object],
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
    if executable.role == "provider":
        return found + _judge_provider(product, executable, claimed)
    restricted = entitlements.restricted_keys(claimed, product.team_id)
    found.append(
        checks.compare(
            "restricted entitlements",
            expected="none",
            observed=", ".join(restricted) or "none",
            subject=executable.name,
            hint="macOS kills a bare helper that claims one; the profile is the main executable's",
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
