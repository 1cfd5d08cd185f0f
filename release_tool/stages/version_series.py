"""The versions of all flavours are one series: a coordinator has one row for each of them.

Registered again, a row of May is replaced without a word, and a flavour that takes another's
version takes its providers with it. So it is refused before anything is sent, and before anything
is signed where that can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.services.coordinator import Coordinator
from release_tool.services.coordinator_rules import Release


def require_own(plan: ReleasePlan, coordinator: Coordinator) -> None:
    """Refuse a version that the coordinator has with another backend.

    Only the inventory tells of versions that are not the latest, and it wants `ADMIN_KEY`.

    Raises:
        RemoteRefusedError: so.
        CredentialError, TransientError, VerificationError: the coordinator.
    """
    ours = (plan.version, plan.product.platform)
    for row in _rows(plan, coordinator):
        if (row.version, row.platform) == ours and row.backend not in ("", plan.product.backend):
            raise errors.RemoteRefusedError(
                f"{plan.version} is registered as another flavour; nothing was sent",
                subject=plan.product.platform,
                expected=f"backend {plan.product.backend}, or no such version",
                observed=f"backend {row.backend}, archive {row.bundle_hash}",
                hint="the versions of all flavours are one series: release one that none has",
            )


def _rows(plan: ReleasePlan, coordinator: Coordinator) -> Iterator[Release]:
    latest = coordinator.latest(plan.product.platform)
    if latest is not None:
        yield latest
    if coordinator.has_admin_key:
        yield from (row.release for row in coordinator.inventory())
