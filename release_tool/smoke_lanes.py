"""The kinds of hosts that a release is smoked on, and which of them a host is."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from release_tool.plan import ReleasePlan, Smoke, SmokeLane
from release_tool.values import Host

STAGE = "smoke"
_GIB = 1024**3
_NUMBER = re.compile(r"[0-9]{1,9}")
_BOUND = re.compile(r"(>=|>|<=|<)([0-9.]+)")
_COMPARE: Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """What a release asks of its hosts."""

    lanes: tuple[SmokeLane, ...]
    minimum_macos: str
    newest_macos: str

    @property
    def several(self) -> bool:
        """Whether one record may be too few, or of the wrong host."""
        return any(lane != SmokeLane(name=lane.name) for lane in self.lanes)

    def filled_by(self, lane: SmokeLane, host: Host) -> bool:
        """Whether a host is of a lane's kind.

        A Mac tells its memory exactly; what a virtual machine keeps for itself is not counted.
        """
        return (
            self._runs(lane.macos, host)
            and lane.chip.casefold() in host.chip.casefold()
            and (lane.sip or host.sip) == host.sip
            and host.memory_bytes >= lane.memory_gib * _GIB
            and not 0 < lane.memory_gib_at_most * _GIB < host.memory_bytes
        )

    def wanted(self, lane: SmokeLane) -> str:
        """A lane's conditions, for people: `macOS 14 (oldest-supported), Apple M1, 16 GiB`."""
        found = [
            f"macOS {self._version(lane.macos)}" if lane.macos else "",
            lane.chip,
            f"at least {lane.memory_gib} GiB" if lane.memory_gib else "",
            f"at most {lane.memory_gib_at_most} GiB" if lane.memory_gib_at_most else "",
            "SIP enabled" if lane.sip else "",
        ]
        return ", ".join(one for one in found if one) or "any host"

    def _version(self, wanted: str) -> str:
        if wanted == "oldest-supported":
            return f"{self.minimum_macos.split('.')[0]} ({wanted})"
        return f">={self.newest_macos} ({wanted})" if wanted == "newest" else wanted

    def _runs(self, wanted: str, host: Host) -> bool:
        if not wanted:
            return True
        if host.system != "macos":
            return False
        if wanted == "oldest-supported":
            # Its updates are what users of that release run.
            minimum = _version(self.minimum_macos)
            return _begins(host.release, minimum[:1]) and _at_least(host.release, minimum)
        if wanted == "newest":
            return bool(self.newest_macos) and _at_least(host.release, _version(self.newest_macos))
        bounds = _BOUND.findall(wanted)
        if not bounds:
            return _begins(host.release, _version(wanted))
        return all(_COMPARE[sign](*_padded(host.release, bound)) for sign, bound in bounds)


def of(plan: ReleasePlan) -> Lanes:
    """The lanes of a release, in its environment."""
    asked = plan.environment.lanes == "required"
    return lanes(plan.smoke if asked else None, plan.product.minimum_macos)


def lanes(smoke: Smoke | None, minimum_macos: str) -> Lanes:
    """The lanes of a section of the plan; any host's without one."""
    return Lanes(
        lanes=smoke.require if smoke else (SmokeLane(name="any-host"),),
        minimum_macos=minimum_macos,
        newest_macos=smoke.newest_macos if smoke else "",
    )


def folder(plan: ReleasePlan, host: Host) -> str:
    """Where a host keeps what it saw: one place for each, where several are wanted."""
    return f"{STAGE}/{name_of(host)}" if of(plan).several else STAGE


def name_of(host: Host) -> str:
    """A host's kind in one word: `macos-14.6.1-23g93-apple-m1-16-gib`."""
    memory = f"{host.memory_bytes // _GIB} GiB" if host.memory_bytes else ""
    told = (host.system, host.release, host.build, host.machine, host.chip, memory)
    text = " ".join(part for part in told if part).lower()
    return re.sub(r"[^a-z0-9._]+", "-", text).strip("-.")[:120]


def shown(host: Host) -> str:
    """A host on one line: `macOS 14.6.1 (23G93), Apple M1, 16 GiB`."""
    system = "macOS" if host.system == "macos" else host.system
    build = f" ({host.build})" if host.build else ""
    memory = f"{host.memory_bytes / _GIB:.0f} GiB" if host.memory_bytes else ""
    parts = (f"{system} {host.release}{build}", host.chip or host.machine, memory)
    return ", ".join(part for part in parts if part)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in _NUMBER.findall(text)[:3])


def _begins(release: str, wanted: tuple[int, ...]) -> bool:
    return _version(release)[: len(wanted)] == wanted


def _at_least(release: str, wanted: tuple[int, ...]) -> bool:
    return _version(release) >= wanted


def _padded(release: str, bound: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The release to as many places as the bound has: 14.6.1 is not above 14.6."""
    wanted = _version(bound)
    whole = (*_version(release), 0, 0, 0)
    return whole[: len(wanted)], wanted
