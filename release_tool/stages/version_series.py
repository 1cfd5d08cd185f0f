"""The versions of all flavours are one series: a coordinator has one row for each of them.

Registered again, a row of May is replaced without a word, and a flavour that takes another's
version takes its providers with it. So it is refused before anything is sent, and before anything
is signed where that can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.services import precedence
from release_tool.services.coordinator import Coordinator, Row
from release_tool.services.coordinator_rules import Release


class DeactivatedError(errors.RemoteRefusedError):
    """The coordinator holds this version, and has it withdrawn."""


def require_own(plan: ReleasePlan, coordinator: Coordinator) -> Release | None:
    """Refuse a version that the coordinator has with another backend, or has deactivated.

    Only the inventory tells of versions that are not the latest, and it wants `ADMIN_KEY`.

    Returns:
        What is served as latest, if anything is.

    Raises:
        RemoteRefusedError: so.
        CredentialError, TransientError, VerificationError: the coordinator.
    """
    ours = (plan.version, plan.product.platform)
    latest = coordinator.latest(plan.product.platform)
    for row in _rows(latest, coordinator):
        found = row.release
        if (found.version, found.platform) != ours:
            continue
        if found.backend not in ("", plan.product.backend):
            raise errors.RemoteRefusedError(
                f"{plan.version} is registered as another flavour; nothing was sent",
                subject=plan.product.platform,
                expected=f"backend {plan.product.backend}, or no such version",
                observed=f"backend {found.backend}, archive {found.bundle_hash}",
                hint="the versions of all flavours are one series: release one that none has",
            )
        require_active(row)
    return latest


def require_active(row: Row) -> None:
    """Refuse a release that somebody deactivated: registered again, it would be active again.

    Raises:
        DeactivatedError: it is inactive.
    """
    if row.active:
        return
    version = row.release.version
    raise DeactivatedError(
        f"{version} was deactivated on the coordinator; nothing was sent",
        expected="an active release, or none of this version",
        observed=f"inactive, archive {row.release.bundle_hash}",
        hint=(
            "registering it again would activate it again; release the next version:"
            f" {precedence.next_version(version)}"
        ),
    )


def crossing(plan: ReleasePlan, latest: Release | None) -> str:
    """What a registration changes for who updates from what is served; empty for nothing.

    Source: the updater of May wants a Metal library in what it installs, and the newest installer
    puts no flat archive over an app.
    """
    if latest is None or latest.backend in ("", plan.product.backend):
        return ""
    return (
        f"{latest.version} of backend {latest.backend} is served now: where this becomes latest,"
        f" its updaters are offered an archive of backend {plan.product.backend}"
    )


def _rows(latest: Release | None, coordinator: Coordinator) -> Iterator[Row]:
    if latest is not None:
        yield Row(release=latest, active=True)
    if coordinator.has_admin_key:
        yield from coordinator.inventory()
