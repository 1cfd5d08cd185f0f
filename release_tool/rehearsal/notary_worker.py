"""The notary's work behind its counter: one thread that judges uploads, one after the other."""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from release_tool.rehearsal import faults, notary_judge, ticket_server
from release_tool.rehearsal.notary_store import Issue, NotaryStore, Submission, Verdict
from release_tool.rehearsal.ticket_signer import TicketSigner

# An upload that takes longer is judged anew by the next process.
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How long things take at least."""

    processing_seconds: float = 1.0
    """From the upload to the verdict."""
    ticket_seconds: float = 1.0
    """From the verdict to the ticket."""


class NotaryWorker:
    """Judges what was uploaded, also what an earlier process left unjudged.

    Args:
        store: uploads and verdicts.
        judge: the rules.
        signer: of tickets.
        delays: how long things take.
        broken: faults on demand.
        clock: the notary's time.
    """

    def __init__(
        self,
        store: NotaryStore,
        judge: notary_judge.Judge,
        signer: TicketSigner,
        delays: Delays,
        *,
        broken: faults.Faults,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._judge = judge
        self._signer = signer
        self._delays = delays
        self._broken = broken
        self._clock = clock
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="notary", daemon=True)

    def __enter__(self) -> Self:
        for identity in self._store.waiting():
            self.add(identity)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.put(None)
        self._thread.join(_STOP_SECONDS)

    def add(self, identity: str) -> None:
        """Let an upload be judged when its turn comes."""
        self._waiting.put(identity)

    def _work(self) -> None:
        while (identity := self._waiting.get()) is not None:
            try:
                self._process(identity)
            except Exception:
                # A bug of ours: told in the log, and the next in line is served.
                traceback.print_exc(file=sys.stderr)

    def _process(self, identity: str) -> None:
        submission = self._store.get(identity)
        if submission is None or submission.uploaded_at is None or submission.verdict is not None:
            return
        verdict = self._verdict(submission)
        now = self._clock()
        if verdict.status != notary_judge.ACCEPTED:
            self._store.judged(identity, verdict, None, now)
            return
        told = max(now, submission.uploaded_at + timedelta(seconds=self._delays.processing_seconds))
        cdhashes = list(dict.fromkeys(code.cdhash for code in verdict.contents))
        ticket = self._signer.issue([bytes.fromhex(cdhash) for cdhash in cdhashes], now)
        # Names first: a process that dies in between judges once more and offers them again.
        self._store.offer(
            [ticket_server.record_name(cdhash) for cdhash in cdhashes],
            identity,
            told + timedelta(seconds=self._delays.ticket_seconds),
        )
        self._store.judged(identity, verdict, ticket, now)

    def _verdict(self, submission: Submission) -> Verdict:
        if self._broken.take(faults.NOTARY_REJECTED):
            return notary_judge.rejected()
        upload = notary_judge.Upload(
            archive=self._store.place(submission.id),
            name=submission.name,
            declared_sha256=submission.sha256,
            sha256=submission.uploaded_sha256 or "",
        )
        verdict = self._judge.judge(upload, now=self._clock())
        if verdict.status == notary_judge.ACCEPTED and self._broken.take(faults.NOTARY_WARNING):
            warning = Issue(
                message="The binary uses an architecture that will not be supported.",
                path=submission.name,
                severity="warning",
            )
            return replace(verdict, issues=(warning,))
        return verdict
