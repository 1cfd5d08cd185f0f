"""Whose turn it is to send a registration, and how long one that went unanswered is waited out.

Sent again while the first is still under way, a registration of May would arrive twice, and the
second may activate what a rollback deactivated in between. What nobody answers for is asked for
until it cannot arrive any more; which of several runs sends, their version's claim decides.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from release_tool import errors
from release_tool.progress import Reporter
from release_tool.services import retries
from release_tool.services.coordinator_rules import Release
from release_tool.services.registration_claim import Claim, Claims, Held, State

_FIRST_PAUSE_SECONDS = 2.0
_LARGEST_PAUSE_SECONDS = 10.0
_OWN = "own"
# From its claim on, a run has this share of the coordinator's time to send.
_FRESH = 0.2


def longest(seconds: float) -> float:
    """How long after its claim a registration may arrive, where the coordinator takes `seconds`."""
    return seconds * (1 + _FRESH)


@dataclass(kw_only=True)
class Turn:
    """This run's turn, among others that may have the same bytes.

    Args:
        release: what is registered.
        claims: the version's claim.
        seconds: how long the coordinator may be at a registration whose client is gone.
        stands: whether the release is registered by now.
        reporter: is told of the waiting.
        sleep: how to wait between questions.
        clock: what measures the waiting.
        wall: the time of day.
    """

    release: Release
    claims: Claims
    seconds: float
    stands: Callable[[], bool]
    reporter: Reporter
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    wall: Callable[[], float] = time.time
    _whose: str = field(default="", init=False)
    _held: Held | None = field(default=None, init=False)
    _is_marked: bool | None = field(default=None, init=False)
    _taken_at: tuple[float, float] = field(default=(0.0, 0.0), init=False)
    _deadlines: dict[str, float] = field(default_factory=dict, init=False)

    def look(self) -> None:
        """Read the claim.

        Raises:
            RemoteRefusedError: what stands there is no claim.
            CredentialError, TransientError: the store or its public address.
        """
        self._held, self._is_marked = self.claims.find(), None

    def refuse_other_bytes(self) -> None:
        """Refuse a version of which other bytes were sent, or are about to be.

        Raises:
            RemoteRefusedError: so.
        """
        claim = self._claim
        if claim is None or claim.state == "not_taken" or claim.sha256 == self.release.bundle_hash:
            return
        raise errors.RemoteRefusedError(
            f"a registration of other bytes was already sent for {self.release.version}",
            expected=self.release.bundle_hash,
            observed=f"{claim.sha256}, {claim.state}",
            hint="a registered version never changes: release the next one",
        )

    @property
    def _claim(self) -> Claim | None:
        return self._held.claim if self._held else None

    @property
    def is_under_way(self) -> bool:
        """Whether another run has sent it, or is about to, and told no end of it."""
        claim = self._claim
        if claim is None or claim.state != "sending" or claim.whose == self._whose:
            return False
        return not self.is_marked

    @property
    def is_marked(self) -> bool:
        """Whether it was registered once, as its mark tells."""
        if self._is_marked is None:
            self._is_marked = self.claims.is_marked()
        return self._is_marked

    def outlast(self, *, unanswered: bool) -> bool:
        """Wait until nothing that was sent can arrive any more; whether any time went by.

        It ends early once the release stands, or another run told how its own ended. Whoever
        waited looks at everything again.

        Args:
            unanswered: whether this ledger tells of one that was sent, and of no answer.
        """
        claim = self._claim
        sources = [_OWN] if unanswered else []
        if claim is not None and self.is_under_way:
            sources.append(claim.whose)
        if not sources:
            return False
        until = max(self._until(source) for source in sources)
        if until <= self.clock():
            return False
        self._tell(until - self.clock(), elsewhere=not unanswered)
        pauses = retries.pauses(_FIRST_PAUSE_SECONDS, _LARGEST_PAUSE_SECONDS)
        while (left := until - self.clock()) > 0:
            self.sleep(min(next(pauses), left))
            if self._stands_by_now() or (not unanswered and self._is_over(claim)):
                break
        return True

    def _until(self, source: str) -> float:
        """Clocks of machines differ, so it is waited for in full from when it was first seen."""
        return self._deadlines.setdefault(source, self.clock() + longest(self.seconds))

    def _tell(self, seconds: float, *, elsewhere: bool) -> None:
        what = "another run is at it" if elsewhere else "it was sent, and not answered"
        self.reporter.note(
            f"registering {self.release.version}: {what}; the coordinator is asked for up to"
            f" {seconds:.0f} s before it is sent"
        )

    def _stands_by_now(self) -> bool:
        try:
            return self.stands()
        except errors.TransientError:
            return False

    def _is_over(self, before: Claim | None) -> bool:
        """Whether the other run told how it ended."""
        try:
            found = self.claims.find()
        except errors.TransientError:
            return False
        return found is None or found.claim != before

    def take(self) -> None:
        """Write this run's claim over what `look` read; one that still holds stays.

        Raises:
            TransientError: another run was quicker; or the store.
            CredentialError, RemoteRefusedError: the store.
        """
        if self._is_ours and not self._is_stale:
            return
        self._whose, self._taken_at = secrets.token_hex(16), self._times()
        if self.claims.write and not self.claims.write(self._ours("sending"), self._held):
            raise errors.TransientError(
                f"another run registers {self.release.version} at this moment",
                hint="run again: it finds what the other one did",
            )

    def require_fresh(self) -> None:
        """See that no other run can have waited this one out since it took its turn.

        Raises:
            TransientError: it has been too long.
        """
        if self._is_stale:
            raise errors.TransientError(
                f"it took too long from the claim of {self.release.version} to its registration",
                observed=f"{self._age:.0f} s",
                hint="run again",
            )

    @property
    def _is_ours(self) -> bool:
        return self._claim is not None and self._claim.whose == self._whose

    @property
    def _is_stale(self) -> bool:
        return self._age > self.seconds * _FRESH

    @property
    def _age(self) -> float:
        """Seconds since it took its turn; only the wall's clock goes on in a laptop's sleep."""
        return max(now - then for now, then in zip(self._times(), self._taken_at, strict=True))

    def _times(self) -> tuple[float, float]:
        return self.clock(), self.wall()

    def sends(self) -> None:
        """From now on it may arrive, for as long as the coordinator may take."""
        self._deadlines[_OWN] = self.clock() + self.seconds

    def answered(self) -> None:
        """What was sent is over, whatever became of it."""
        self._deadlines[_OWN] = self.clock()

    def give_back(self) -> None:
        """Tell that nothing was registered; where another run took its turn meanwhile, it tells.

        Raises:
            CredentialError, RemoteRefusedError, TransientError: the store.
        """
        if self.claims.write is None:
            return
        held = self.claims.find()
        if held is not None and held.claim == self._ours("sending"):
            self.claims.write(self._ours("not_taken"), held)

    def mark(self) -> None:
        """Let everybody know for ever that it was registered.

        Raises:
            CredentialError, RemoteRefusedError, TransientError: the store.
        """
        if self.claims.mark:
            self.claims.mark(self._ours("sending"))

    def _ours(self, state: State) -> Claim:
        return Claim(
            version=self.release.version,
            platform=self.release.platform,
            sha256=self.release.bundle_hash,
            state=state,
            whose=self._whose,
        )
