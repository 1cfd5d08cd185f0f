"""From the profile to the ticket: who vouches for a release, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from release_tool import values
from release_tool.apple.policy import expiry
from release_tool.report import expiries
from release_tool.report.page.timeline import moment
from release_tool.report.page.told import Told
from release_tool.report.summary import counted, time_left

_FULL_DAYS = 730
"""A bar is full from here on: nothing has to be done within two years."""
_WIDTH = 1000
_MOST_ROWS = 50


@dataclass(frozen=True, kw_only=True)
class Life:
    """Something that ends."""

    what: str
    name: str
    ends: str
    left: str
    state: str
    """`ended`, `soon` or `good`."""
    bar: int
    """The days left in thousandths of `_FULL_DAYS`."""
    todo: str
    """What to do; empty where there is time."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """One link of the chain that a user's Mac follows."""

    what: str
    name: str
    digest: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Trust:
    """The chain, and what of it ends."""

    links: tuple[Link, ...]
    lives: tuple[Life, ...]


def of(told: Told, now: datetime) -> Trust | None:
    """The links that are recorded, in order; None where there is none yet.

    Args:
        told: the release's ledger.
        now: from when days are counted, aware.
    """
    links = tuple(_links(told))
    lives = tuple(_life(row) for row in _rows(told, now)[:_MOST_ROWS])
    return Trust(links=links, lives=lives) if links or lives else None


def _rows(told: Told, now: datetime) -> tuple[expiry.Row, ...]:
    try:
        return expiries.of(told.values.values(), now=now)
    except (ValueError, TypeError):
        return ()  # a time that is none, or has no zone: written by something else


def _life(row: expiry.Row) -> Life:
    state = "ended" if row.days_left < 0 else "soon" if row.is_soon else "good"
    return Life(
        what=row.what,
        name=row.name,
        ends=f"{row.ends:%Y-%m-%d}",
        left=time_left(row.days_left),
        state=state,
        bar=max(0, min(_WIDTH, row.days_left * _WIDTH // _FULL_DAYS)),
        todo="" if state == "good" else row.todo,
    )


def _links(told: Told) -> Iterator[Link]:
    if profile := told.get("profile", values.VerifiedProfile):
        yield Link(
            what="profile",
            name=profile.name,
            digest=profile.sha256,
            text=f"allows {', '.join(profile.app_ids) or 'no app'} of team {profile.team_id},"
            f" signed by {counted(len(profile.certificates), 'certificate')} that it lists",
        )
    if signed := told.get("sign", values.SignedBundle):
        yield from _signature(signed, told.get("profile", values.VerifiedProfile))
    if notarized := told.get("notarize", values.Notarization):
        count = len(notarized.cdhashes)
        yield Link(
            what="notarization",
            name=notarized.submission_id,
            digest=notarized.log_sha256,
            text=f"accepted; our archive's digest and {counted(count, 'cdhash')} stand in its log",
        )
    if stapled := told.get("staple", values.StapledBundle):
        yield Link(
            what="ticket",
            name=f"issued {moment(stapled.ticket_issued)}",
            digest=stapled.ticket_sha256,
            text="stapled; it has no end, and is read without a network",
        )


def _signature(
    signed: values.SignedBundle, profile: values.VerifiedProfile | None
) -> Iterator[Link]:
    listed = ""
    if profile:
        known = signed.certificate_sha256 in profile.certificates
        listed = ", which the profile lists" if known else ", which the profile does not list"
    yield Link(
        what="certificate",
        name=signed.certificate_name,
        digest=signed.certificate_sha256,
        text=f"signed {counted(len(signed.code), 'code object')}{listed}",
    )
    stamps = sorted({code.signed_at for code in signed.code})
    if stamps and stamps[0]:
        yield Link(
            what="timestamp",
            name=moment(stamps[0]),
            digest="",
            text="the signatures hold on when the certificate has ended",
        )
    else:
        yield Link(
            what="timestamp",
            name="none",
            digest="",
            text="a signature without one ends with its certificate",
        )
