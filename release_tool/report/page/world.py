"""Who answered: Apple and the real services, or look-alikes. Only what records say counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from release_tool import values
from release_tool.apple import certificates
from release_tool.report.page.told import Told
from release_tool.services import addresses

Who = Literal["real", "look-alike", "not recorded"]


@dataclass(frozen=True, kw_only=True)
class World:
    """The other side of a release, by party."""

    apple: Who
    store: Who
    coordinator: Who
    github: Who

    @property
    def stood_in(self) -> tuple[str, ...]:
        """Those for whom a look-alike stood."""
        pairs = {
            "Apple": self.apple,
            "the object store": self.store,
            "the coordinator": self.coordinator,
            "GitHub": self.github,
        }
        return tuple(name for name, who in pairs.items() if who == "look-alike")


def of(told: Told) -> World:
    """Look at the authority that the profile was verified to, and at the addresses of services.

    A look-alike lives on this machine alone, so an address on a loopback host is one.
    """
    published = told.get("publish", values.PublishedRelease)
    store = _who([told.text("endpoints.r2_endpoint"), published.url if published else ""])
    coordinator = _who([told.text("endpoints.coordinator_url")])
    services = [store, coordinator]
    around: Who = "look-alike" if "look-alike" in services else "not recorded"
    return World(
        apple=_apple(told) or around,
        store=store,
        coordinator=coordinator,
        # Its address is no part of a record; a look-alike never stands alone.
        github="real" if services == ["real", "real"] else around,
    )


def _apple(told: Told) -> Who | None:
    profile = told.get("profile", values.VerifiedProfile)
    if profile is None:
        return None
    real = f"{certificates.apple_trust().name}: "
    for check in profile.checks:
        if check.name == "signature" and check.outcome == "passed":
            return "real" if check.observed.startswith(real) else "look-alike"
    return None


def _who(found: Iterable[str]) -> Who:
    told = [address for address in found if address]
    if not told:
        return "not recorded"
    return "look-alike" if any(map(_is_loopback, told)) else "real"


def _is_loopback(address: str) -> bool:
    try:
        return addresses.is_loopback(address)
    except ValueError:
        return False
