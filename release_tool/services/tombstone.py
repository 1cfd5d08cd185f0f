"""A withdrawn version's tombstone: a small JSON document beside its archive, made once for ever.

A coordinator of May activates a withdrawn release again whenever it is registered again, and
knows no other memory. So the bucket remembers: publish, register and promote look here before
they send anything. Whatever stands at the key counts, readable or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields

from release_tool import errors
from release_tool.services import (
    addresses,
    json_document,
    precedence,
    public_document,
    release_keys,
    retries,
)
from release_tool.services.object_store import ObjectStore

NAME = "tombstone.json"
# Ours has some 300 bytes; what is far larger is something else, and counts all the same.
LIMIT_BYTES = 16 * 1024
_PUBLIC_SECONDS = 20.0
_TEXT_CHARACTERS = 500

Finder = Callable[[str], "Tombstone | None"]
"""Finds the tombstone of a version, wherever the job at hand can look."""


class WithdrawnError(errors.RemoteRefusedError):
    """The version was withdrawn; it is never released again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """Who withdrew which bytes, when and why. Anybody may read it."""

    version: str
    platform: str
    sha256: str
    """Of the archive; empty where neither the coordinator nor the bucket knew one."""
    at: str
    """ISO 8601, UTC."""
    by: str
    reason: str


def key_of(prefix: str, version: str) -> str:
    """Where a version's tombstone stands, whichever address its archive has."""
    return release_keys.beside(prefix, version, NAME)


def encode(stone: Tombstone) -> bytes:
    """The document: one line of JSON, keys sorted."""
    return json_document.encode(asdict(stone))


def parse(content: bytes) -> Tombstone:
    """Read a document; further keys of later writers are left aside.

    Raises:
        FormatError: it is no such document.
    """
    found = json_document.read(content, limit_bytes=LIMIT_BYTES, what="a tombstone")
    names = [one.name for one in fields(Tombstone)]
    return Tombstone(**{name: _text(name, found.get(name)) for name in names})


def is_line(text: str) -> bool:
    """Whether a text may stand in a tombstone: short, in one line, and printable."""
    return len(text) <= _TEXT_CHARACTERS and text.isprintable()


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise errors.FormatError(f"names no {name}", observed=repr(value)[:80])
    if not is_line(value):
        raise errors.FormatError(
            f"has a {name} that is no short printable line", observed=repr(value)[:80]
        )
    return value


def find(store: ObjectStore, prefix: str, version: str) -> Tombstone | None:
    """Ask the bucket itself: what was written a moment ago is seen.

    Raises:
        RemoteRefusedError: what stands there is no tombstone that can be read, or the store
            refused.
        CredentialError, TransientError: the store did not tell.
    """
    key = key_of(prefix, version)
    found = store.read(key, limit_bytes=LIMIT_BYTES)
    return _read(key, found[1]) if found else None


def find_served(
    public_base: str, prefix: str, version: str, *, policy: retries.Policy = retries.DEFAULT
) -> Tombstone | None:
    """Ask the public address, where a job has no keys for the bucket.

    Raises:
        RemoteRefusedError: what is served there is no tombstone that can be read, or the address
            does not serve plainly.
        TransientError: the address did not answer.
    """
    address = addresses.join(public_base, key_of(prefix, version))
    content = public_document.fetch(
        address, limit_bytes=LIMIT_BYTES, seconds=_PUBLIC_SECONDS, policy=policy
    )
    return _read(address, content) if content is not None else None


def refuse(stone: Tombstone | None) -> None:
    """Refuse a version that has a tombstone.

    Raises:
        WithdrawnError: it has one.
    """
    if stone is None:
        return
    raise WithdrawnError(
        f"{stone.version} was withdrawn and is never released again",
        details=[
            told(stone),
            f"archive   {stone.sha256 or 'unknown'}",
        ],
        hint=f"release the next version: {precedence.next_version(stone.version)}",
    )


@contextmanager
def seen_late(version: str, *, doing: str, hint: str) -> Iterator[None]:
    """Around a last look: say that what was just done crossed a rollback on its way.

    Raises:
        WithdrawnError: the look found a tombstone.
    """
    try:
        yield
    except WithdrawnError as problem:
        raise WithdrawnError(
            f"{version} was withdrawn while {doing}",
            details=problem.details or [str(problem)],
            hint=hint,
        ) from problem


def told(stone: Tombstone) -> str:
    """When, by whom and why, in a line."""
    return f"withdrawn {stone.at} by {stone.by or 'nobody named'}: {stone.reason or 'no reason'}"


def _read(subject: str, content: bytes) -> Tombstone:
    try:
        return parse(content)
    except errors.FormatError as problem:
        raise WithdrawnError(
            f"what stands where a tombstone would {problem.message}; it counts as one",
            subject=subject,
            observed=problem.observed,
            hint="look at it: the version is not released while it stands there",
        ) from problem
