"""How far this host's clock is from a server's, in words for a reader.

Signatures of requests and bearer tokens tell the time, so a server refuses them from a host whose
clock is off, and often without saying why. Its `Date` header says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from release_tool import errors
from release_tool.services import retry_after

TOLERANCE_SECONDS = 60
"""Nearer than this, clocks agree: an answer may take half of it."""
HINT = "set this host's clock, then run again"
# Larger differences are read in minutes.
_IN_SECONDS = 120


def ahead(headers: Mapping[str, str], now: datetime) -> float:
    """By how many seconds this host's clock is ahead of the server's; 0 where it does not tell.

    Args:
        headers: of the answer, names in lower case.
        now: this host's time.
    """
    moment = retry_after.date(headers.get("date", ""))
    return (now - moment).total_seconds() if moment else 0.0


def refused(
    ahead_seconds: float, whose: str, *, why: str, subject: str, observed: str
) -> errors.HostError:
    """The error for a refusal that the difference explains.

    Args:
        ahead_seconds: by how much this host's clock is ahead; negative behind.
        whose: the other clock: `the notary's`.
        why: what the time matters for: `tokens tell time`.
        subject: whom was asked.
        observed: the answer.
    """
    return errors.HostError(
        f"this host's clock is {worded(ahead_seconds)} {whose}, and {why}",
        subject=subject,
        observed=observed,
        hint=HINT,
    )


def worded(ahead_seconds: float) -> str:
    """`90 s ahead of` or `61 min behind`; a difference that is untold is `too far from`."""
    apart = abs(ahead_seconds)
    if apart < 1:
        return "too far from"
    shown = f"{apart:.0f} s" if apart < _IN_SECONDS else f"{apart / 60:.0f} min"
    return f"{shown} {'ahead of' if ahead_seconds > 0 else 'behind'}"
