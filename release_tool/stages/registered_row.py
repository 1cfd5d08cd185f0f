"""What the coordinator holds of a release before anything is sent, as far as it can be seen.

Registered again, a row of May is replaced without a word and activated again, so a registration
is sent only where nothing tells that this version was registered before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from release_tool import errors
from release_tool.services import coordinator_rules, precedence
from release_tool.services.coordinator import Coordinator, Row
from release_tool.services.coordinator_rules import Release
from release_tool.services.release_pointer import Pointer
from release_tool.stages import fleet_gate, version_series


@dataclass(frozen=True, kw_only=True)
class Public:
    """What was published of earlier registrations: all that is known without the inventory."""

    pointer: Callable[[], Pointer | None]
    """How the pointer to the latest release is looked up."""
    logged: Callable[[], bool] = lambda: False
    """Whether the log of releases tells that this version was registered."""
    marked: Callable[[], bool] = lambda: False
    """Whether its mark does."""

    def tells_of(self, release: Release) -> str:
        """What tells that a version was registered; empty for nothing.

        Asked before the release is looked for: what another run registers and tells of meanwhile
        would seem to be deactivated.
        """
        there = self.pointer()
        ours = (release.version, release.platform)
        if there is not None and (there.version, there.platform) == ours:
            return "the pointer names it"
        if self.marked():
            return "the mark beside its archive tells"
        return "the log of releases tells of it" if self.logged() else ""


def find(release: Release, coordinator: Coordinator) -> Release | None:
    """The row of exactly these bytes as it stands; None where the coordinator tells of none.

    Equal digests are the same release: its address or its changelog may be those of another
    time, and what stands stays. `latest` may be a minute old. `/api/version` tells less, but a
    registration clears it at once. Both are silent where a newer release is served: only the
    inventory tells of this one then.

    Raises:
        RemoteRefusedError: it holds other bytes under this version, or has it deactivated.
    """
    if row := _held(release, coordinator):
        _refuse_other_bytes(release, {name: getattr(row.release, name) for name in _BYTES})
        version_series.require_active(row)
        return row.release
    latest = coordinator.latest(release.platform)
    if latest and latest.version == release.version:
        _refuse_other_bytes(release, {name: getattr(latest, name) for name in _BYTES})
        return latest
    current = coordinator.current()
    if current is None or not fleet_gate.is_told(current, release):
        return None
    _refuse_other_bytes(release, {"bundle_hash": current.bundle_hash})
    return replace(release, url=current.download_url or release.url)


def other_facts(release: Release, row: Release) -> list[str]:
    """Names of what differs between what would be sent and what stands."""
    return [line.partition(":")[0] for line in coordinator_rules.differences(release, row)]


def refuse_registered_before(release: Release, coordinator: Coordinator, why: str) -> None:
    """Refuse a version that was registered, is not served, and cannot be looked up.

    May and October activate a row that is registered again, and without the inventory a
    deactivated one cannot be told from one that stands behind a newer release.

    Args:
        release: what would be registered, and was not found a moment ago.
        coordinator: the coordinator.
        why: what told of an earlier registration before it was looked for; empty for nothing.

    Raises:
        CredentialError: a newer release is served before it.
        RemoteRefusedError: none is: somebody deactivated it.
    """
    if not why:
        return
    latest = coordinator.latest(release.platform)
    if latest and latest.version == release.version:
        return
    if newer := _newer(release, latest):
        raise unseen(release, newer, coordinator, f"{why}, and there is no administrator's key")
    raise _not_served_any_more(release, latest, coordinator, why)


def behind(release: Release, coordinator: Coordinator) -> str:
    """The newer version behind which this one cannot be seen; empty where it can."""
    if coordinator.has_admin_key:
        return ""
    return _newer(release, coordinator.latest(release.platform))


def _newer(release: Release, latest: Release | None) -> str:
    version = latest.version if latest else release.version
    newer = precedence.is_newer(version, release.version)
    return version if newer or precedence.may_ranks_above(version, release.version) else ""


def unseen(
    release: Release, newer: str, coordinator: Coordinator, observed: str
) -> errors.CredentialError:
    """The error where a newer release hides whether this one is registered."""
    return errors.CredentialError(
        f"whether {release.version} is registered cannot be seen: {newer} is served before it",
        subject=coordinator.base_url,
        expected="an answer to the registration that was sent, or an inventory to ask",
        observed=observed,
        hint=f"set {coordinator.admin_key_name} and run again; it is not sent twice blindly",
    )


def _not_served_any_more(
    release: Release, latest: Release | None, coordinator: Coordinator, why: str
) -> errors.RemoteRefusedError:
    version = release.version
    return errors.RemoteRefusedError(
        f"{version} was registered before, and is not served any more; nothing was sent",
        subject=coordinator.base_url,
        expected=f"{version}, as {why}",
        observed=latest.version if latest else "no active release",
        hint=(
            "if somebody deactivated it, registering it again would activate it again: release"
            f" {precedence.next_version(version)}; if not, set {coordinator.admin_key_name} and run"
            " again"
        ),
    )


def _held(release: Release, coordinator: Coordinator) -> Row | None:
    """The row of this version, where there is one and an administrator's key to see it."""
    rows = coordinator.inventory() if coordinator.has_admin_key else []
    ours = (release.version, release.platform)
    return next((row for row in rows if (row.release.version, row.release.platform) == ours), None)


_BYTES = coordinator_rules.HASHES


def _refuse_other_bytes(release: Release, served: Mapping[str, str]) -> None:
    other = [name for name, value in served.items() if value != getattr(release, name)]
    if other:
        raise errors.RemoteRefusedError(
            f"the coordinator holds {release.version} with other bytes; nothing was sent",
            details=[
                f"{name}: there {served[name] or 'none'}, ours {getattr(release, name)}"
                for name in other
            ],
            hint="a registered version never changes: release the next one",
        )
