"""The log of releases in the store: one object that only grows, and its signed head beside it.

A line is added by writing the whole log over exactly the state in which it was read, so of two
releases at the same moment the second one reads the first one's line. The head comes after: who
dies in between leaves a log that is ahead of its head by signed lines, and the next one mends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from release_tool import errors
from release_tool.provenance import log
from release_tool.provenance.keys import PublicKey, SigningKey
from release_tool.provenance.log import Entry, Head, Log
from release_tool.services import precedence, retries
from release_tool.services.object_store import ObjectStore, StoredObject
from release_tool.services.object_store_calls import Outcome

# An event takes two turns. Several releases of an environment may end together, and each turn that
# is lost is another's that was won.
_TURNS = 24
_HEAD_BYTES = 64 * 1024
_JSON_LINES = "application/jsonl"
_JSON = "application/json"
_LOOK = (
    "somebody who has no key of this environment wrote to the bucket, or lost what was there:"
    " compare with the head on the latest release on GitHub, and restore the log"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """Where an event stands in the log."""

    number: int
    """Of its line; the first is 1."""
    head: Head
    """The log up to and with this line."""
    added: bool
    """False where it was told before."""


def key_of(prefix: str) -> str:
    """Where the log stands."""
    return f"{prefix}/{log.NAME}"


def head_key_of(prefix: str) -> str:
    """Where its signed head stands."""
    return f"{prefix}/{log.HEAD_NAME}"


def tells_of(content: bytes | None, version: str, *, subject: str) -> bool:
    """Whether a log tells that a version was registered, whoever signed the line.

    Args:
        content: the log; None where there is none.
        version: the version.
        subject: where it stands, for the error.

    Raises:
        VerificationError: it is no log.
    """
    if content is None:
        return False
    try:
        return bool(log.parse(content).archives(version))
    except errors.FormatError as problem:
        raise _broken(f"the log of releases {problem.message}", subject, problem) from problem


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    log: Log
    there: StoredObject | None
    head_there: StoredObject | None
    covered: int
    """Lines that the head covers."""


@dataclass(frozen=True, kw_only=True)
class ReleaseLog:
    """The log of one environment, for whoever may write to it.

    Args:
        store: the bucket.
        prefix: of the releases' keys.
        environment: whose log it is.
        key: signs lines and heads.
        trusted: the keys whose lines and heads count; `key` is among them.
        policy: how to wait between tries.
    """

    store: ObjectStore
    prefix: str
    environment: str
    key: SigningKey
    trusted: Sequence[PublicKey]
    policy: retries.Policy = retries.DEFAULT

    def check(self) -> Log:
        """The log as it stands: its chain, the signature of each line, and its head.

        Raises:
            VerificationError: somebody without a key wrote to it, or it lacks lines.
            CredentialError, RemoteRefusedError, TransientError: the bucket.
        """
        return self._read().log

    def append(self, entry: Entry) -> Logged:
        """Tell an event, unless it is told, and sign the head.

        Raises:
            VerificationError: the log or its head does not hold.
            RemoteRefusedError: another archive is registered under this version.
            TransientError: others wrote to it at every try.
            CredentialError: the bucket.
        """
        added = False
        pauses = retries.pauses(self.policy.first_seconds, self.policy.largest_seconds)
        for _ in range(_TURNS):
            state = self._read()
            # A move of ours may have another one behind it by now.
            number = state.log.find(entry) or state.log.place(entry)
            if number is None:
                _refuse_another(state.log, entry)
                outcome = self._write(state, entry)
                added = outcome is Outcome.WRITTEN
            elif state.covered >= number or self._sign(state) is Outcome.WRITTEN:
                head = state.log.head(self.environment, number)
                return Logged(number=number, head=head, added=added)
            else:
                outcome = Outcome.KEPT
            if outcome is Outcome.KEPT:
                self.policy.sleep(next(pauses))
        raise errors.TransientError(
            f"{entry.told} could not be written into the log: others write to it all the time",
            subject=key_of(self.prefix),
            hint="run again",
        )

    def sealed(self, head: Head) -> bytes:
        """A head of this log, signed: what is copied to where the bucket's writers cannot reach."""
        return log.seal(head, self.key)

    def _write(self, state: _State, entry: Entry) -> Outcome:
        return self.store.replace(
            key_of(self.prefix),
            state.log.extended(entry, self.key),
            over=state.there,
            content_type=_JSON_LINES,
            version=entry.version,
        )

    def _sign(self, state: _State) -> Outcome:
        return self.store.replace(
            head_key_of(self.prefix),
            self.sealed(state.log.head(self.environment)),
            over=state.head_there,
            content_type=_JSON,
            version=state.log.lines[-1].entry.version,
        )

    def _read(self) -> _State:
        """The head and then the log: it only grows, so it covers every head that was read before.

        Lines behind the head are taken where a key of this environment signed them: whoever
        wrote them died before its head, or is about to write it.
        """
        head_there, head = self._head()
        there, standing = self._log()
        if head is not None:
            try:
                log.judge(standing, head)
            except errors.VerificationError as problem:
                message = f"the log of releases {problem.message}"
                raise _broken(message, key_of(self.prefix), problem) from problem
        return _State(
            log=standing, there=there, head_there=head_there, covered=head.count if head else 0
        )

    def _log(self) -> tuple[StoredObject | None, Log]:
        key = key_of(self.prefix)
        found = self.store.read(key, limit_bytes=log.LIMIT_BYTES)
        if found is None:
            return None, log.EMPTY
        there, content = found
        try:
            read = log.parse(content)
        except errors.FormatError as problem:
            raise _broken(f"the log of releases {problem.message}", key, problem) from problem
        if unsigned := read.unsigned(self.trusted):
            raise errors.VerificationError(
                "the log of releases holds lines that no key of this environment signed",
                subject=key,
                expected=" or ".join(f"key {one.keyid}" for one in self.trusted),
                observed=f"line {unsigned[0]}, by key {read.lines[unsigned[0] - 1].keyid}",
                hint=_LOOK,
            )
        return there, read

    def _head(self) -> tuple[StoredObject | None, Head | None]:
        key = head_key_of(self.prefix)
        found = self.store.read(key, limit_bytes=_HEAD_BYTES)
        if found is None:
            return None, None
        there, content = found
        try:
            head = log.unseal(content, trusted=self.trusted)
        except errors.VerificationError as problem:
            raise _broken(f"the log's head {problem.message}", key, problem) from problem
        if head.environment != self.environment:
            raise errors.VerificationError(
                "the log's head is another environment's",
                subject=key,
                expected=self.environment,
                observed=head.environment[:80],
                hint=_LOOK,
            )
        return there, head


def _refuse_another(standing: Log, entry: Entry) -> None:
    """A version is one archive's, whatever a coordinator would take."""
    others = [one for one in standing.archives(entry.version) if one != entry.sha256]
    if entry.kind in ("registered", "promoted") and others:
        raise errors.RemoteRefusedError(
            f"the log of releases tells of another archive of {entry.version}",
            expected=entry.sha256,
            observed=", ".join(others),
            hint=f"release {precedence.next_version(entry.version)}",
        )


def _broken(message: str, key: str, problem: errors.VerificationError) -> errors.VerificationError:
    return errors.VerificationError(
        message, subject=key, expected=problem.expected, observed=problem.observed, hint=_LOOK
    )
