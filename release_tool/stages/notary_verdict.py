"""Waiting for the notary's verdict and its log, and what a verdict that is no acceptance means."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

from release_tool import errors, progress
from release_tool.apple import notary_log
from release_tool.apple.notary_log import NotaryLog
from release_tool.progress import Reporter
from release_tool.services import notary as words
from release_tool.services import retries
from release_tool.services.notary import Notary

# Apple answers within a minute mostly; a new team may wait for hours.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
# The log is written a moment behind the verdict.
_LOG_SECONDS = 180.0


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How a run waits; tests bring their own time."""

    wait: bool = True
    """False hands in and leaves: exit 8, and the next run collects the verdict."""
    seconds: float | None = None
    """None for the plan's own."""
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the notary said in the end."""

    status: str
    log: NotaryLog | None
    """None where no log came, which an acceptance never lacks."""
    raw: bytes
    """The log as it came."""


def wait_for(
    notary: Notary, submission_id: str, *, patience: Patience, seconds: float, reporter: Reporter
) -> Verdict:
    """Wait for the verdict and for its log.

    Args:
        notary: the route to Apple.
        submission_id: of the submission.
        patience: how to wait.
        seconds: how long, where `patience` does not say.
        reporter: is told what is waited for.

    Raises:
        PendingError: the notary is still at work, or accepted without a log so far.
        FormatError: the log is none.
        CredentialError, RemoteRefusedError, TransientError: the service.
    """
    waiting = _Waiting(notary, submission_id, patience, reporter)
    status = waiting.verdict(seconds if patience.seconds is None else patience.seconds)
    raw = waiting.log()
    if raw is None:
        # Who does not wait comes again, and may find what was refused.
        if status == words.ACCEPTED or not patience.wait:
            raise waiting.pending(f"{status}, but its log is not there yet")
        return Verdict(status=status, log=None, raw=b"")
    return Verdict(status=status, log=_parsed(raw), raw=raw)


def _parsed(raw: bytes) -> NotaryLog:
    try:
        return notary_log.parse(raw)
    except errors.FormatError as problem:
        problem.hint = problem.hint or "run again: the submission stands, its log is fetched anew"
        raise


@dataclass
class _Waiting:
    """One wait; says each thing once, however often it is met."""

    notary: Notary
    id: str
    patience: Patience
    reporter: Reporter
    said: set[str] = field(default_factory=set)

    def verdict(self, seconds: float) -> str:
        deadline = self.patience.monotonic() + seconds
        pauses = retries.pauses(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        with ExitStack() as shown:
            told = False
            while (status := self._status()) not in words.FINAL:
                left = deadline - self.patience.monotonic()
                if left <= 0 or not self.patience.wait:
                    raise self.pending(status)
                if not told:
                    shown.enter_context(progress.task(self.reporter, self._waiting()))
                    told = True
                self.patience.sleep(min(next(pauses), left))
        return status

    def _waiting(self) -> str:
        """Shown while the wait lasts: it may be an hour, and a job's log has no other word."""
        return (
            f"submission {self.id} in progress, waiting"
            " (Ctrl-C leaves it running; `release-tool run` resumes)"
        )

    def log(self) -> bytes | None:
        deadline = self.patience.monotonic() + _LOG_SECONDS
        pauses = retries.pauses(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while (raw := self.notary.log(self.id)) is None:
            if not self.patience.wait or self.patience.monotonic() >= deadline:
                return None
            self.patience.sleep(next(pauses))
        return raw

    def pending(self, status: str) -> errors.PendingError:
        return errors.PendingError(
            "the notary is still at work",
            subject=f"submission {self.id}",
            observed=status,
            hint="it goes on without us; run again to resume",
        )

    def _status(self) -> str:
        """Apple's word; a network that fails for a while does not end a wait of hours."""
        try:
            status = self.notary.status(self.id)
        except errors.TransientError as problem:
            if not self.patience.wait:
                raise
            self._once(self.reporter.warn, f"no answer: {problem}")
            return words.IN_PROGRESS
        if status not in words.FINAL and status != words.IN_PROGRESS:
            told = f"the notary says {status!r}, taken as in progress"
            self._once(self.reporter.warn, told)
        return status

    def _once(self, say: Callable[[str], None], text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            say(text)


def refusal(submission_id: str, verdict: Verdict) -> errors.ReleaseError:
    """The error for a verdict that is no acceptance, with every issue of its log."""
    log = verdict.log
    details = notary_log.lines(log.issues) if log else []
    summary = log.summary if log else "there is no log"
    if verdict.status == words.REJECTED:
        not_configured = log is not None and log.status_code == notary_log.TEAM_NOT_CONFIGURED
        return errors.RemoteRefusedError(
            "Apple does not notarize for this team yet"
            if not_configured
            else "Apple rejected the submission, which is no verdict on its code",
            subject=f"submission {submission_id}",
            observed=f"{verdict.status}, {log.status_code if log else 'no'}: {summary}",
            details=details,
            hint="ask Apple Developer Support to enable notarization for the team, then run again",
        )
    return errors.VerificationError(
        f"the notary refuses this app: {len(details)} issues",
        subject=f"submission {submission_id}",
        observed=f"{verdict.status}: {summary}",
        details=details,
        hint="mend what is listed, then sign again: release-tool run --resign",
    )
