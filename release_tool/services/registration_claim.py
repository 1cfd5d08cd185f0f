"""A version's claim, which says who registers it, and its mark, which says that it was registered.

A coordinator of May keeps no trace of a registration that is under way, and carries one out that
its client has given up. Whoever registers writes its claim over exactly what it read there, so of
two that have the same bytes one sends. The mark is made once for ever: what stands there counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from release_tool import errors
from release_tool.services import (
    addresses,
    json_document,
    public_document,
    release_keys,
    retries,
)
from release_tool.services.object_store import ObjectStore, StoredObject
from release_tool.services.object_store_calls import Outcome

MARK = "registered.json"
# Ours has some 250 bytes; what is far larger is something else.
LIMIT_BYTES = 16 * 1024
_PUBLIC_SECONDS = 20.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WHOSE = re.compile(r"[0-9a-f]{32}")
_TEXT_CHARACTERS = 500
_CONTENT_TYPE = "application/json"

State = Literal["sending", "not_taken"]
"""`sending`: it may have arrived, or may yet. `not_taken`: it was not sent after all, or the
coordinator answered that it did not take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One registration. Anybody may read it."""

    version: str
    platform: str
    sha256: str
    """Of the archive."""
    state: State
    whose: str
    """32 hexadecimal digits of chance, others for each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A claim, and the state of the bucket in which it was read."""

    claim: Claim
    at: StoredObject | None
    """None where it was read at the public address."""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The claim and the mark of one version, as far as the job at hand reaches."""

    find: Callable[[], Held | None]
    is_marked: Callable[[], bool]
    write: Callable[[Claim, Held | None], bool] | None
    """Writes a claim over what was read; False where something else stands there by now. Without
    the bucket's keys nothing is written at all."""
    mark: Callable[[Claim], None] | None
    """Makes the mark, or finds one."""


def key_of(prefix: str, version: str) -> str:
    """Where a version's claim stands: not beside the archive, where nothing ever changes."""
    return release_keys.registration(prefix, version)


def mark_of(prefix: str, version: str) -> str:
    """Where its mark stands."""
    return release_keys.beside(prefix, version, MARK)


def in_bucket(store: ObjectStore, prefix: str, version: str) -> Claims:
    """Ask and write the bucket itself."""
    key, mark = key_of(prefix, version), mark_of(prefix, version)
    return Claims(
        find=lambda: _find(store, key),
        is_marked=lambda: store.head(mark) is not None,
        write=lambda claim, over: _write(store, key, claim, over),
        mark=lambda claim: _mark(store, mark, claim),
    )


def served(
    public_base: str, prefix: str, version: str, *, policy: retries.Policy = retries.DEFAULT
) -> Claims:
    """Ask the public address, where a job has no keys for the bucket."""

    def fetch(key: str) -> tuple[str, bytes | None]:
        address = addresses.join(public_base, key)
        return address, public_document.fetch(
            address, limit_bytes=LIMIT_BYTES, seconds=_PUBLIC_SECONDS, policy=policy
        )

    def find() -> Held | None:
        address, content = fetch(key_of(prefix, version))
        return Held(claim=_read(address, content), at=None) if content is not None else None

    return Claims(
        find=find,
        is_marked=lambda: fetch(mark_of(prefix, version))[1] is not None,
        write=None,
        mark=None,
    )


def encode(claim: Claim) -> bytes:
    """The document: one line of JSON, keys sorted."""
    return json_document.encode(asdict(claim))


def parse(content: bytes) -> Claim:
    """Read a document; further keys of later writers are left aside.

    Raises:
        FormatError: it is no such document.
    """
    found = json_document.read(content, limit_bytes=LIMIT_BYTES, what="a claim")
    names = ("version", "platform")
    texts = {
        name: json_document.text(name, found.get(name), most=_TEXT_CHARACTERS) for name in names
    }
    return Claim(
        **texts,
        sha256=_matching("sha256", found.get("sha256"), _SHA256),
        state=_state(found.get("state")),
        whose=_matching("whose", found.get("whose"), _WHOSE),
    )


def _matching(name: str, value: object, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise errors.FormatError(f"names no {name}", observed=repr(value)[:80])
    return value


def _state(value: object) -> State:
    for state in get_args(State):
        if value == state:
            known: State = state
            return known
    raise errors.FormatError("names no state", observed=repr(value)[:80])


def _find(store: ObjectStore, key: str) -> Held | None:
    found = store.read(key, limit_bytes=LIMIT_BYTES)
    return Held(claim=_read(key, found[1]), at=found[0]) if found else None


def _write(store: ObjectStore, key: str, claim: Claim, over: Held | None) -> bool:
    outcome = store.replace(
        key,
        encode(claim),
        over=over.at if over else None,
        content_type=_CONTENT_TYPE,
        version=claim.version,
    )
    if outcome is Outcome.WRITTEN:
        return True
    # A retry whose first try did arrive is kept out by its own bytes.
    found = _find(store, key)
    return found is not None and found.claim == claim


def _mark(store: ObjectStore, key: str, claim: Claim) -> None:
    names = ("version", "platform", "sha256")
    content = json_document.encode({name: getattr(claim, name) for name in names})
    store.replace(key, content, over=None, content_type=_CONTENT_TYPE, version=claim.version)


def _read(subject: str, content: bytes) -> Claim:
    try:
        return parse(content)
    except errors.FormatError as problem:
        raise errors.RemoteRefusedError(
            f"what stands where a registration's claim would {problem.message}; nothing was sent",
            subject=subject,
            observed=problem.observed,
            hint="somebody else writes to this key: look at it, take it away, and run again",
        ) from problem
