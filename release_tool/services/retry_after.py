"""`Retry-After`: when a service wants to be asked again, in seconds or as a date."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from release_tool import errors
from release_tool.services import retries

# A service that asks for more is asked again all the same, by another run.
_LONGEST_WAIT_SECONDS = 300.0


def passing(
    message: str, *, subject: str, observed: str, headers: Mapping[str, str]
) -> errors.TransientError:
    """The error for an answer that passes by itself, with the pause that its service asks for.

    Args:
        message: as for every error.
        subject: likewise.
        observed: likewise.
        headers: of the answer, by names in small letters.
    """
    wait = wait_seconds(headers, datetime.now(UTC))
    if wait:
        return retries.BusyError(message, subject=subject, observed=observed, wait_seconds=wait)
    return errors.TransientError(message, subject=subject, observed=observed, hint="run again")


def wait_seconds(headers: Mapping[str, str], now: datetime) -> float:
    """What `Retry-After` asks for, within reason; 0 without one."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), _LONGEST_WAIT_SECONDS)
    moment = date(text)
    if moment is None:
        return 0.0
    return min(max((moment - now).total_seconds(), 0.0), _LONGEST_WAIT_SECONDS)


def date(text: str) -> datetime | None:
    """A date of HTTP; None where it is none."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
