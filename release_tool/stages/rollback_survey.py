"""What a rollback would meet and change: looked at, refused where it cannot end well, and shown.

Everything is refused here, before anything is changed: after the first deactivation the fleet is
on its way, and there is no way back to a release that turns out to be no good either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from release_tool import errors, version
from release_tool.plan import ReleasePlan
from release_tool.services import addresses, precedence, release_keys, tombstone
from release_tool.services.coordinator import Coordinator, Fleet, Row
from release_tool.services.coordinator_rules import Release
from release_tool.services.object_store import ObjectStore
from release_tool.services.tombstone import Tombstone, WithdrawnError
from release_tool.stages import aliases

# A refusal names the releases that could be gone back to; a coordinator may hold many.
_MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A version that shall be withdrawn."""

    version: str
    row: Row | None
    """None where the coordinator never had it: it gets its tombstone all the same."""
    stone: Tombstone | None
    """What stands already."""
    sha256: str
    """Of its archive; empty where neither the coordinator nor the bucket tells."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Where everything stands."""

    target: Release
    """The coordinator's row of the release to go back to."""
    key: str
    """Where its archive stands in the bucket."""
    bad: tuple[Bad, ...]
    latest: str
    """What the coordinator serves, up to a minute ago; empty for nothing."""
    pointer: str
    """The version that the pointer names; empty where none stands."""
    aliases: Mapping[str, str]
    """By key, the version that was noted there; empty for none."""
    active: tuple[str, ...]
    """What stays active at the coordinator afterwards."""
    fleet: Fleet | None
    """None where the coordinator does not tell."""


def look(
    plan: ReleasePlan, bad: Sequence[str], *, store: ObjectStore, coordinator: Coordinator
) -> Survey:
    """Look at everything that a rollback to the plan's version touches, and refuse what must be.

    Args:
        plan: its version is the one to go back to.
        bad: the versions to withdraw.
        store: the bucket.
        coordinator: the coordinator, with an administrator's key.

    Raises:
        UsageError: the versions make no rollback, or are of another flavour.
        RemoteRefusedError: the release to go back to is unknown, inactive, withdrawn or newer
            than what is served; another release would be served in its place.
        CredentialError, TransientError, VerificationError: the coordinator or the bucket.
    """
    good = plan.version
    _require_versions(good, bad)
    rows = {
        row.release.version: row
        for row in coordinator.inventory()
        if row.release.platform == plan.product.platform
    }
    latest = coordinator.latest(plan.product.platform)
    target = _target(plan, rows, bad, tombstone.find(store, plan.publish.prefix, good))
    key = _key(plan, target)
    pointer = aliases.read_pointer(store, aliases.pointer_key(plan))
    holding = {alias: store.head(alias) for alias in aliases.names(plan)}
    found = Survey(
        target=target,
        key=key,
        bad=tuple(_bad(plan, one, rows.get(one), store) for one in bad),
        latest=latest.version if latest else "",
        pointer=pointer[1].version if pointer else "",
        aliases={alias: state.version if state else "" for alias, state in holding.items()},
        active=tuple(name for name, row in rows.items() if row.active and name not in bad),
        fleet=coordinator.fleet(),
    )
    _require_way_back(plan, found)
    _require_nothing_between(plan, found, bad)
    return found


def in_the_way(plan: ReleasePlan, active: Sequence[str]) -> list[str]:
    """The active releases that the coordinator may serve in the place of the plan's version."""
    by_may = plan.coordinator.contract == "2026-05"
    return [
        other
        for other in active
        if other != plan.version
        and precedence.may_be_served_before(other, plan.version, by_may=by_may)
    ]


def _require_versions(good: str, bad: Sequence[str]) -> None:
    for one in bad:
        version.check(one, origin="--deactivate")
    if good in bad:
        raise errors.UsageError(
            f"{good} cannot be withdrawn and gone back to at once",
            hint="name an earlier release with --to",
        )


def _target(
    plan: ReleasePlan, rows: Mapping[str, Row], bad: Sequence[str], stone: Tombstone | None
) -> Release:
    good = plan.version
    others = [name for name, row in rows.items() if row.active and name not in (good, *bad)]
    besides = f" besides {', '.join(bad)}" if bad else ""
    named = f"active{besides}: {', '.join(others[-_MOST_NAMED:]) or 'none'}"
    if stone is not None:
        raise WithdrawnError(
            f"{good} was itself withdrawn; nothing was changed",
            details=[tombstone.told(stone)],
            hint=f"go back to another release; {named}",
        )
    row = rows.get(good)
    if row is None:
        raise errors.RemoteRefusedError(
            f"the coordinator does not know {good}; nothing was changed",
            expected=f"an active release for {plan.product.platform}",
            hint=f"go back to another release; {named}",
        )
    if not row.active:
        raise errors.RemoteRefusedError(
            f"{good} is not active at the coordinator; nothing was changed",
            expected="an active release",
            observed="a deactivated one",
            hint=(
                f"somebody deactivated it, and nothing activates it silently: go back to another"
                f" release ({named}), or release the next version"
            ),
        )
    if row.release.backend and row.release.backend != plan.product.backend:
        raise errors.UsageError(
            f"{good} is of another flavour; nothing was changed",
            expected=f"backend {plan.product.backend}",
            observed=f"backend {row.release.backend[:80]}",
            hint="name the flavour of that backend with --flavour",
        )
    return row.release


def _key(plan: ReleasePlan, target: Release) -> str:
    """The key of the archive, from the address that the coordinator serves."""
    base = addresses.base(plan.endpoints.r2_public_url, name="R2_PUBLIC_URL")
    prefix, version, name = plan.publish.prefix, target.version, plan.archive.name
    keys = [
        release_keys.beside(prefix, version, name),
        release_keys.by_digest(prefix, version, target.bundle_hash, name),
    ]
    for key in keys:
        if addresses.same(addresses.join(base, key), target.url):
            return key
    raise errors.RemoteRefusedError(
        f"the coordinator serves {target.version} from another address than this bucket's",
        expected=" or ".join(addresses.join(base, key) for key in keys),
        observed=target.url[:300],
        hint="check --env, R2_PUBLIC_URL and COORDINATOR_URL: they must be of one environment",
    )


def _bad(plan: ReleasePlan, one: str, row: Row | None, store: ObjectStore) -> Bad:
    stone = tombstone.find(store, plan.publish.prefix, one)
    noted = ""
    if row is None:
        there = store.head(release_keys.beside(plan.publish.prefix, one, plan.archive.name))
        noted = there.sha256 if there else ""
    return Bad(
        version=one,
        row=row,
        stone=stone,
        sha256=row.release.bundle_hash if row else noted,
    )


def _require_way_back(plan: ReleasePlan, found: Survey) -> None:
    """A newer release than the served one is promoted, with all that `promote` asks."""
    good, latest = plan.version, found.latest
    if not precedence.is_newer(good, latest) or precedence.may_ranks_above(latest, good):
        return
    raise errors.RemoteRefusedError(
        f"{good} is newer than what is served; nothing was changed",
        expected=f"a release before {latest}",
        hint=(
            f"going forward is a promotion: release-tool run {plan.flags}"
            f" --version {good}; if {good} was registered within the last minute, ask again"
        ),
    )


def _require_nothing_between(plan: ReleasePlan, found: Survey, bad: Sequence[str]) -> None:
    between: dict[str, str] = {}
    for one, why in _between(plan, found, bad):
        between.setdefault(one, why)
    if not between:
        return
    words = [f"--deactivate {one}" for one in (*bad, *between)]
    raise errors.RemoteRefusedError(
        f"users would not get {plan.version}: {', '.join(between)} would stay before it;"
        " nothing was changed",
        details=[f"{one}: {why}" for one, why in between.items()],
        hint=(
            "each version that is withdrawn must be named: release-tool rollback"
            f" {plan.flags} --to {plan.version} {' '.join(words)}"
        ),
    )


def _between(plan: ReleasePlan, found: Survey, bad: Sequence[str]) -> Iterator[tuple[str, str]]:
    for one in in_the_way(plan, found.active):
        yield one, "active, and the coordinator ranks it first"
    holding = {aliases.pointer_key(plan): found.pointer, **found.aliases}
    for key, there in holding.items():
        if there not in bad and precedence.is_newer(there, plan.version):
            yield there, f"newer, and {key} holds it"
