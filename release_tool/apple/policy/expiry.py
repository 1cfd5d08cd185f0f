"""What ends when: certificates, authorities and profiles that the next release will need.

Signed, timestamped and notarized code goes on working when its certificate ends; signing anew
does not. So this is about the next release, not about those that are out. `rules` names the
sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from release_tool.apple import certificates, checks
from release_tool.apple.certificates import Certificate
from release_tool.apple.checks import Check
from release_tool.apple.provisioning_profile import Profile

_SECONDS_PER_DAY = 86_400
WARN_WITHIN_DAYS = 90
"""What ends sooner is told at the end of each run: a new leaf takes days, a new profile minutes,
and holidays weeks."""

_FIRST_AUTHORITY = "7afc9d01a62f03a2de9637936d4afe68090d2de18d03f29c88cfb0b1ba63587f"
"""Developer ID Certification Authority, the first: until 2027-02-01."""

_LEAF = (
    "make a new Developer ID Application certificate (Account Holder), select it in the profile,"
    " and set APPLE_CERTIFICATE_P12 and its password anew"
)
_G1 = (
    "leafs of this authority cannot outlive it: make a new certificate under G2, and select it in"
    " the profile before signing with it"
)
_INTERMEDIATE = "make a new certificate under Apple's next Developer ID authority"
_TIMESTAMP = (
    "nothing to set: Apple will issue under its next authority; timestamps of this one hold on in"
    " what they stamped, and a newer release-tool may be needed to check the next"
)
_PROFILE = "renew the profile on the developer portal and set PROVISIONING_PROFILE_BASE64 anew"
_LISTED = "edit the profile on the portal, select a certificate that lasts longer"


class Row(NamedTuple):
    """One thing that ends."""

    what: str
    """`signing certificate`, `intermediate`, `timestamp CA`, `profile`, `certificate in the
    profile`."""
    name: str
    ends: datetime
    days_left: int
    """Whole days; negative once it ended."""
    todo: str

    def as_json(self) -> dict[str, object]:
        return {
            "what": self.what,
            "name": self.name,
            "ends": self.ends.isoformat(),
            "days_left": self.days_left,
            "todo": self.todo,
        }

    @property
    def is_soon(self) -> bool:
        """Whether it ends within `WARN_WITHIN_DAYS`."""
        return self.days_left < WARN_WITHIN_DAYS

    @property
    def line(self) -> str:
        """For a table without columns."""
        left = "ended" if self.days_left < 0 else f"{self.days_left} days left"
        return f"{self.what} {self.name}: {left} ({self.ends:%Y-%m-%d})"


def forecast(
    *,
    now: datetime,
    leaf: Certificate | None = None,
    chain: Sequence[Certificate] = (),
    profile: Profile | None = None,
    timestamp_authorities: Iterable[Certificate] = (),
) -> tuple[Row, ...]:
    """List what ends, the soonest first.

    Args:
        now: the current time, aware.
        leaf: the certificate that signs.
        chain: the issuers above it, the root last as far as they are known.
        profile: the provisioning profile that is embedded.
        timestamp_authorities: those that issue to the timestamp service.
    """
    rows = [
        *_signer(leaf, chain, now),
        *_profile(profile, leaf, now),
        *(_row("timestamp CA", one, now, _TIMESTAMP) for one in timestamp_authorities),
    ]
    return tuple(sorted(rows, key=lambda row: (row.ends, row.what)))


def apple_timestamp_authorities() -> tuple[Certificate, ...]:
    """Apple's timestamp authorities that are known here."""
    return tuple(
        one
        for one in certificates.intermediates()
        if certificates.has_marker(one, certificates.TIMESTAMP_CA)
    )


def issuers(chain: Sequence[Certificate]) -> tuple[Certificate, ...]:
    """The authorities of a chain, its leaf first, between leaf and root."""
    return tuple(one for one in chain[1:] if one.subject != one.issuer)


def _signer(leaf: Certificate | None, chain: Sequence[Certificate], now: datetime) -> Iterator[Row]:
    if leaf is None:
        return
    yield _row("signing certificate", leaf, now, _LEAF)
    for one in issuers((leaf, *chain)):
        is_first = certificates.fingerprint(one) == _FIRST_AUTHORITY
        yield _row("intermediate", one, now, _G1 if is_first else _INTERMEDIATE)


def _profile(profile: Profile | None, leaf: Certificate | None, now: datetime) -> Iterator[Row]:
    if profile is None:
        return
    if profile.expires is not None:
        yield Row(
            "profile", profile.name, profile.expires, days_left(profile.expires, now), _PROFILE
        )
    for one in profile.certificates:
        if one != leaf:
            yield _row("certificate in the profile", one, now, _LISTED)


def _row(what: str, certificate: Certificate, now: datetime, todo: str) -> Row:
    unit = certificates.organizational_unit(certificate)
    name = certificates.display_name(certificate)
    # Apple names the generations of an authority in its unit alone.
    shown = f"{name} ({unit})" if unit in ("G2", "G3", "G5") else name
    ends = certificate.not_after
    return Row(what, shown, ends, days_left(ends, now), todo)


def days_left(ends: datetime, now: datetime) -> int:
    """Whole days from now; negative once it ended."""
    return int((ends - now).total_seconds() // _SECONDS_PER_DAY)


def judge(rows: Iterable[Row], *, within: int = 0) -> list[Check]:
    """Refuse what ended, or ends within some days.

    Where one of several is enough (the profile's other certificates, timestamp authorities) only
    the end of the last one is a reason.

    Args:
        rows: as `forecast` lists them.
        within: how many days must be left; 0 refuses only what ended.
    """
    listed = tuple(rows)
    spared = {what for what in _ONE_IS_ENOUGH if _lasts(what, listed, within)}
    return [_judge(row, within, spared=row.what in spared) for row in listed]


_ONE_IS_ENOUGH = {
    "timestamp CA": frozenset({"timestamp CA"}),
    "certificate in the profile": frozenset({"certificate in the profile", "signing certificate"}),
}


def _lasts(what: str, rows: Sequence[Row], within: int) -> bool:
    kinds = _ONE_IS_ENOUGH[what]
    return any(row.what in kinds and row.days_left >= within for row in rows)


def _judge(row: Row, within: int, *, spared: bool) -> Check:
    left = f"{row.days_left} days left" if row.days_left >= 0 else "ended"
    observed = f"{left} ({row.ends:%Y-%m-%d})"
    if not spared and (row.days_left < within or row.days_left < 0):
        return checks.failed(
            f"expiry of the {row.what}",
            subject=row.name,
            expected=f"{within} days" if within else "not ended",
            observed=observed,
            hint=row.todo,
        )
    return checks.passed(f"expiry of the {row.what}", observed, subject=row.name)


def soon(rows: Iterable[Row]) -> tuple[Row, ...]:
    """What ends within `WARN_WITHIN_DAYS`."""
    return tuple(row for row in rows if row.is_soon)
