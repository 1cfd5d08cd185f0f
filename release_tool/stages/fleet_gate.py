"""The fleet after a registration: is the release before it still accepted, does capacity hold.

A registration once left only the newest hashes accepted, and another once sent every provider
through checks that took their capacity away while all of them stayed connected.

What the coordinator tells is little. Which hashes it accepts stands in its inventory alone, which
only an administrator may read. Capacity is a number of its dashboard, computed on a timer, and
coordinators of May do not have it. Whether a provider of the new release is routed to is told
nowhere: the first of them shows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from release_tool import errors
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.progress import Reporter
from release_tool.services import addresses
from release_tool.services.coordinator import Coordinator, Current, Fleet
from release_tool.services.coordinator_rules import HASHES, Release
from release_tool.services.tombstone import Finder
from release_tool.values import FLEET_WATCH

# Load varies over a day; less than half within minutes of a registration is no variation.
_LEAST_SHARE = 0.5
_PAUSE_SECONDS = 5.0
_VERSION = "/api/version"
_ACCEPTED = "the release before is accepted"
_CAPACITY = "routable capacity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How long the fleet is watched, and what may go unseen.

    Args:
        seconds: how long both are watched; 0 asks once.
        waived: whether the plan does without what the coordinator does not tell.
        flags: what chooses environment and flavour, for the command that is advised.
        sleep: how to wait between questions.
        clock: what measures the waiting.
    """

    seconds: float
    waived: bool = False
    flags: str = ""
    sleep: Callable[[float], None] = field(default=time.sleep)
    clock: Callable[[], float] = field(default=time.monotonic)


TOLD_PLATFORM = "macos-arm64"
"""The one that `/api/version` tells of: section 1.3 of the coordinator's contract."""


def look(latest: Release | None, coordinator: Coordinator) -> dict[str, JsonValue]:
    """What is served and how much of it can be routed to, for a later comparison."""
    fleet = _fleet(coordinator)
    row = {name: getattr(latest, name) for name in ("version", *HASHES)} if latest else {}
    return {**row, "capacity": fleet.capacity if fleet else None}


def judge(
    before: Mapping[str, JsonValue],
    release: Release,
    coordinator: Coordinator,
    tombstones: Finder,
    watch: Watch,
    reporter: Reporter,
) -> list[Check]:
    """Compare the fleet with what `look` saw before the registration.

    Raises:
        CredentialError, TransientError, RemoteRefusedError: the inventory cannot be read.
    """
    told = [_told_version(release, coordinator)]
    if watch.waived and not coordinator.has_admin_key:
        lacking = f"{coordinator.admin_key_name} is not set"
        why = f"release.yaml says `fleet_watch: unchecked`, and {lacking}"
        told.append(checks.not_checked(FLEET_WATCH, why))
    return [*told, *_watched(before, release, coordinator, tombstones, watch, reporter)]


def is_told(told: Current, release: Release) -> bool:
    """Whether what `/api/version` tells is this version on this platform.

    It names no platform and tells of one only: of another one the address shows it. Where no
    release stands it tells a built-in version, without a digest.
    """
    if told.version != release.version:
        return False
    same = addresses.same(told.download_url, release.url)
    return same or (release.platform == TOLD_PLATFORM and told.bundle_hash != "")


def _told_version(release: Release, coordinator: Coordinator) -> Check:
    """What `/api/version` tells; both contracts clear it with a registration.

    Another version is no failure: a newer one may be served, and `promote` waits for `latest`.
    """
    try:
        told = coordinator.current()
    except errors.TransientError:
        return checks.not_checked(_VERSION, "it did not answer")
    if told is None:
        return checks.not_checked(_VERSION, "it tells nothing that is understood")
    if not is_told(told, release):
        return checks.not_checked(_VERSION, f"it tells {told.version[:80]}, not this release")
    return checks.compare(
        _VERSION,
        expected=release.bundle_hash,
        observed=told.bundle_hash,
        subject=release.version,
        hint="somebody registered this version with other bytes: look at the coordinator",
    )


def _accepted(
    before: Mapping[str, JsonValue],
    release: Release,
    coordinator: Coordinator,
    tombstones: Finder,
) -> Check:
    version = str(before.get("version", ""))
    if not version:
        return checks.not_checked(_ACCEPTED, "no release was seen before this one")
    if version == release.version:
        return checks.not_checked(_ACCEPTED, "what was served before it was not seen")
    if not coordinator.has_admin_key:
        return checks.not_checked(
            _ACCEPTED,
            f"only the inventory tells whether {version} is: set {coordinator.admin_key_name}",
        )
    rows = [
        row
        for row in coordinator.inventory()
        if (row.release.version, row.release.platform) == (version, release.platform)
    ]
    observed = "it is gone"
    if rows:
        same = all(getattr(rows[0].release, name) == before.get(name) for name in HASHES)
        observed = "active" if rows[0].active else "inactive"
        observed += "" if same else ", with other hashes"
    if observed != "active" and tombstones(version):
        return checks.not_checked(_ACCEPTED, f"{version} was withdrawn meanwhile")
    return checks.compare(
        _ACCEPTED,
        expected="active",
        observed=observed,
        subject=version,
        hint=(
            f"{_STANDS}; let an administrator activate {version} on the coordinator as it was, or"
            f" {_FORWARD}; withdrawing {release.version} gives {version} nothing back, and no"
            " rollback goes to what is not active"
        ),
    )


_STANDS = "it is registered and stays so, the aliases were not moved, and running again looks again"
_FORWARD = "roll forward: release the next version, which is compared with this one"


def _way_on(before: Mapping[str, JsonValue], release: Release, watch: Watch) -> str:
    """Forward, or back by a tombstone, which keeps a rerun from registering it again."""
    earlier = str(before.get("version", ""))
    to = earlier if earlier not in ("", release.version) else "AN-EARLIER-VERSION"
    words = ("release-tool rollback", watch.flags, f"--to {to} --deactivate {release.version}")
    return f"{_STANDS}; {_FORWARD}; or withdraw it: {' '.join(filter(None, words))}"


def _capacity(
    before: Mapping[str, JsonValue], release: Release, coordinator: Coordinator, watch: Watch
) -> Check:
    had = _capacity_before(before)
    if had is None:
        return checks.not_checked(
            _CAPACITY, "the coordinator did not tell it before; connected providers prove nothing"
        )
    least = had * _LEAST_SHARE
    fleet = _fleet(coordinator)
    expected = f"at least {least:.0f} of {had:.0f} tokens a second"
    if fleet is None or fleet.capacity is None:
        return _untold(expected, watch)
    observed = f"{fleet.capacity:.0f}, {fleet.providers} providers connected"
    if fleet.capacity < least:
        hint = _way_on(before, release, watch)
        return checks.failed(_CAPACITY, expected=expected, observed=observed, hint=hint)
    return checks.passed(_CAPACITY, observed, expected=expected)


def _untold(expected: str, watch: Watch) -> Check:
    """What was told before a registration and is not after it may be what the registration did."""
    if watch.waived:
        return checks.not_checked(_CAPACITY, "the coordinator does not tell it any more")
    return checks.failed(
        _CAPACITY,
        expected=expected,
        observed="the coordinator does not tell it any more",
        hint=(
            f"{_STANDS}: look at the coordinator's /v1/stats; where it shall not tell it any more,"
            " run again with --config and `fleet_watch: unchecked`, which is recorded"
        ),
    )


def _capacity_before(before: Mapping[str, JsonValue]) -> float | None:
    had = before.get("capacity")
    return had if isinstance(had, int | float) and had > 0 else None


def _watched(
    before: Mapping[str, JsonValue],
    release: Release,
    coordinator: Coordinator,
    tombstones: Finder,
    watch: Watch,
    reporter: Reporter,
) -> list[Check]:
    """The last answers of the watch: what heals within it is no failure, what comes late is."""
    deadline = watch.clock() + watch.seconds
    told: set[str] = set()
    while True:
        accepted = _accepted(before, release, coordinator, tombstones)
        found = [accepted, _capacity(before, release, coordinator, watch)]
        left = deadline - watch.clock()
        seen = accepted.outcome != "not_checked" or _capacity_before(before) is not None
        if left <= 0 or not seen:
            return found
        for check in found:
            if check.outcome == "failed" and check.name not in told:
                told.add(check.name)
                reporter.note(f"{check.name}: {check.observed}; watching on for {left:.0f} s")
        watch.sleep(min(_PAUSE_SECONDS, left))


def _fleet(coordinator: Coordinator) -> Fleet | None:
    """No number of a dashboard is worth a failed release."""
    try:
        return coordinator.fleet()
    except errors.ReleaseError:
        return None
