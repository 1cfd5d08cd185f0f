"""The pointer and the aliases, moved together to one archive: by `promote`, and back by `rollback`.

Each alias is looked at first, then the pointer is read, then the mover asks whether this release
is still the one to point to, and only then is anything written, over exactly what was seen. Who
comes later has seen the aliases later or finds them changed: a slow loser cannot overwrite the
winner, in any order of events.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from release_tool import errors, progress
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import release_pointer
from release_tool.services.at_once import Together
from release_tool.services.object_store import ObjectStore, StoredObject
from release_tool.services.object_store_calls import Outcome
from release_tool.services.release_pointer import Pointer

# Each lost race means that somebody else moved the alias; more than a few is a quarrel.
_RACES = 4


def pointer_key(plan: ReleasePlan) -> str:
    """Where the pointer stands."""
    return f"{plan.publish.prefix}/latest/{release_pointer.NAME}"


def names(plan: ReleasePlan) -> list[str]:
    """The keys of the aliases."""
    files = [plan.archive.name, *plan.publish.legacy_aliases]
    return [f"{plan.publish.prefix}/latest/{name}" for name in dict.fromkeys(files)]


def read_pointer(store: ObjectStore, key: str) -> tuple[StoredObject, Pointer] | None:
    """The pointer and the state in which it was read; None where none stands.

    Raises:
        RemoteRefusedError: what stands there is no pointer.
        CredentialError, TransientError: the store did not tell.
    """
    found = store.read(key, limit_bytes=release_pointer.LIMIT_BYTES)
    return (found[0], parse_pointer(key, found[1])) if found else None


def parse_pointer(subject: str, content: bytes) -> Pointer:
    """What stands where the pointer does.

    Raises:
        RemoteRefusedError: it is no pointer.
    """
    try:
        return release_pointer.parse(content)
    except errors.FormatError as problem:
        raise errors.RemoteRefusedError(
            f"the pointer {problem.message}; nothing was moved",
            subject=subject,
            observed=problem.observed,
            hint="somebody else writes to this key: look at it, take it away, and run again",
        ) from problem


class _Read(NamedTuple):
    """An alias, read back."""

    stands: StoredObject | None
    sha256: str
    """Of its bytes; empty where nothing stands."""


@dataclass(kw_only=True)
class Aliases:
    """One move of the pointer and the aliases."""

    plan: ReleasePlan
    store: ObjectStore
    reporter: Reporter
    target: Pointer
    """The archive that all of them shall name or hold."""
    permit: Callable[[str, str], None]
    """Raises where the version (second) that stands at a key (first) may not be replaced."""
    confirm: Callable[[], None]
    """Raises where the target is not the release to point to, or not any more."""

    def move(self) -> tuple[str, ...]:
        """Move all of them; returns the keys of the aliases.

        Raises:
            VerificationError: the archive is gone; an alias, read back, holds other bytes.
            RemoteRefusedError: the pointer names other bytes under this version, or is none.
            CredentialError, TransientError: the store.
            ReleaseError: whatever `permit` and `confirm` raise.
        """
        source = self._source()
        everything = names(self.plan)
        left = self._look(everything)
        for _ in range(_RACES):
            self._point()
            lost = self._carry(source, left)
            if not lost:
                return tuple(everything)
            left = self._look(lost)
        raise _quarrel(next(iter(left)))

    def stands(self) -> bool:
        """Whether all of them still say that they hold the target; no byte is read again."""
        found = [self.store.head(alias) for alias in names(self.plan)]
        pointer = read_pointer(self.store, pointer_key(self.plan))
        return (
            pointer is not None
            and pointer[1] == self.target
            and all(one is not None and self._is_noted(one) for one in found)
        )

    def _is_noted(self, alias: StoredObject) -> bool:
        return (alias.size, alias.version) == (self.target.size, self.target.version)

    def _source(self) -> StoredObject:
        source = self.store.head(self.target.key)
        if source is None or source.size != self.target.size:
            raise errors.VerificationError(
                "the published archive does not stand at its key any more",
                subject=self.target.key,
                expected=f"{self.target.size} bytes",
                observed=f"{source.size} bytes" if source else "nothing",
                hint="run the publish stage again: release-tool run --only publish",
            )
        return source

    def _look(self, keys: Iterable[str]) -> dict[str, StoredObject | None]:
        seen = {alias: self.store.head(alias) for alias in keys}
        for alias, state in seen.items():
            self._permit(alias, state)
        return seen

    def _permit(self, alias: str, seen: StoredObject | None) -> None:
        if seen is not None:
            self.permit(alias, seen.version)

    def _point(self) -> None:
        """Move the pointer to the target, or find it there."""
        key = pointer_key(self.plan)
        for _ in range(_RACES):
            found = read_pointer(self.store, key)
            if found is not None:
                self._may_replace(key, found[1])
            # After both were seen, so that nobody can slip in between.
            self.confirm()
            if found is not None and self._is_there(found[1]):
                return
            outcome = self.store.replace(
                key,
                release_pointer.encode(self.target),
                over=found[0] if found else None,
                content_type="application/json",
                version=self.target.version,
            )
            if outcome is Outcome.KEPT:
                self.reporter.note("the pointer was moved by somebody else, looking again")
        raise _quarrel(key)

    def _is_there(self, there: Pointer) -> bool:
        """A move back is written even over an equal pointer: who read that one must lose."""
        if not self.target.instead_of:
            there = replace(there, instead_of="")
        return there == self.target

    def _may_replace(self, key: str, there: Pointer) -> None:
        self.permit(key, there.version)
        if there.version == self.target.version and there.sha256 != self.target.sha256:
            raise errors.RemoteRefusedError(
                f"the pointer names {there.version} with other bytes; nothing was moved",
                subject=key,
                expected=self.target.sha256,
                observed=there.sha256,
                hint="a released version never changes: release the next one",
            )

    def _carry(self, source: StoredObject, seen: Mapping[str, StoredObject | None]) -> list[str]:
        """Bring all to the target at the same time, each over what was seen, and read them back.

        Returns those that were moved by somebody else meanwhile.
        """
        together = Together()
        with progress.task(self.reporter, "read back", source.size * len(seen)):
            read = together.run(
                [
                    partial(
                        self._one, source, alias, state, together.voice(self.reporter, "read back")
                    )
                    for alias, state in seen.items()
                ],
                at_once=len(seen),
                name="alias",
            )
        lost = []
        for alias, end in zip(seen, read, strict=True):
            if end is None:
                self.reporter.note(f"{alias} was moved by somebody else, looking again")
                lost.append(alias)
            else:
                self._judge(alias, end)
        return lost

    def _one(
        self, source: StoredObject, alias: str, seen: StoredObject | None, reporter: Reporter
    ) -> _Read | None:
        """Copy where that is needed, and read back; None where the copy's condition failed."""
        if seen is None or (seen.etag, seen.size) != (source.etag, source.size):
            if seen is not None and self._reads_as_ours(seen, reporter):
                return _Read(seen, self.target.sha256)
            if self._copy(source, alias, seen) is Outcome.KEPT:
                return None
        return self._stands(alias, reporter)

    def _reads_as_ours(self, seen: StoredObject, reporter: Reporter) -> bool:
        """Whether an alias needs no copy: a copy of what went in parts may get another ETag."""
        if (seen.size, seen.sha256) != (self.target.size, self.target.sha256):
            return False
        # One that moves while it is read is not copied over either: the condition sees to that.
        with contextlib.suppress(errors.TransientError):
            return self.store.digest(seen, reporter=reporter) == self.target.sha256
        return False

    def _copy(self, source: StoredObject, alias: str, seen: StoredObject | None) -> Outcome:
        return self.store.copy(
            source,
            alias,
            over=seen,
            sha256=self.target.sha256,
            version=self.target.version,
        )

    def _judge(self, alias: str, read: _Read) -> None:
        """By all of its bytes: R2 was seen to tell a wrong checksum of a copy that was right."""
        if read.sha256 == self.target.sha256:
            return
        # Not ours: either a newer release came in after the copy, or something is wrong.
        self.confirm()
        self._permit(alias, read.stands)
        raise errors.VerificationError(
            "the alias, read back, holds other bytes",
            subject=alias,
            expected=self.target.sha256,
            observed=read.sha256 or "nothing",
            hint="run again; if it stays, somebody else writes to this key",
        )

    def _stands(self, alias: str, reporter: Reporter) -> _Read:
        """What an alias holds; it may move while it is read."""
        stands = self.store.head(alias)
        for _ in range(_RACES):
            if stands is None:
                return _Read(None, "")
            try:
                return _Read(stands, self.store.digest(stands, reporter=reporter))
            except errors.TransientError:
                before, stands = stands, self.store.head(alias)
                if stands is not None and stands.etag == before.etag:
                    raise
        raise _quarrel(alias)


def _quarrel(key: str) -> errors.TransientError:
    return errors.TransientError(
        "somebody else keeps moving this alias", subject=key, hint="run again"
    )
