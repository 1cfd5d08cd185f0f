"""The log of releases: one line for each event, each bound to all that stands before it.

A line is a canonical JSON object: `after` (count, size and SHA-256 of everything before it), the
`entry`, and a signature over both. So a line that was edited, moved, left out or added by somebody
without a key shows. What does not show is a log that ends too early, for a beginning of a chain is
a chain: that is what the signed head is for, which is copied to where the store's writers cannot
reach.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NoReturn, get_args

from release_tool import errors
from release_tool.provenance import canonical, dsse
from release_tool.provenance.keys import PublicKey, SigningKey

Kind = Literal["registered", "promoted", "withdrawn", "rolled back"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NAME = "log.jsonl"
HEAD_NAME = "log.head.json"
_LATER_HEAD = re.compile(r"log\.head\.([1-9][0-9]{0,6})\.json")
ENTRY_TYPE = "application/vnd.release-tool.log-entry+json"
HEAD_TYPE = "application/vnd.release-tool.log-head+json"
# A line has some 800 bytes. A release makes two or three: this is enough for two thousand.
LIMIT_BYTES = 8 * 1024 * 1024
_LINE_BYTES = 8 * 1024
_HEAD_BYTES = 4 * 1024
_TEXT_CHARACTERS = 500
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOVES = ("promoted", "rolled back")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event."""

    kind: Kind
    environment: str
    version: str
    """The release that it happened to; for `rolled back` the one that users get again."""
    platform: str
    sha256: str
    """Of the archive; empty where nobody knew one."""
    provenance: str = ""
    """SHA-256 of the provenance's envelope, for `registered`; empty without one."""
    at: str
    """ISO 8601, UTC."""
    note: str = ""
    """Who withdrew it and why; the versions that it was rolled back from."""

    @property
    def told(self) -> str:
        """In a few words."""
        return f"{self.kind} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A length of the log, by which everything in it is fixed."""

    environment: str
    count: int
    """Lines."""
    size: int
    """Bytes."""
    sha256: str
    """Of exactly these bytes: `head -c SIZE log.jsonl | shasum -a 256`."""

    def __str__(self) -> str:
        return f"{self.count} lines, {self.size} bytes, {self.sha256}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a log whose chain holds."""

    entry: Entry
    message: bytes
    """What is signed: `after` and `entry`."""
    keyid: str
    signature: bytes
    size: int
    """Bytes of the log up to its end."""
    sha256: str
    """Of those."""

    def signer(self, trusted: Sequence[PublicKey]) -> PublicKey | None:
        """The trusted key that signed it."""
        signed = dsse.pae(ENTRY_TYPE, self.message)
        return next((key for key in trusted if key.verifies(self.signature, signed)), None)


@dataclass(frozen=True, slots=True)
class Log:
    """A log whose chain holds."""

    content: bytes
    lines: tuple[Line, ...]

    def head(self, environment: str, count: int | None = None) -> Head:
        """The head of its first so many lines; of all without a number."""
        number = len(self.lines) if count is None else count
        last = self.lines[number - 1] if number else None
        return Head(
            environment=environment,
            count=number,
            size=last.size if last else 0,
            sha256=last.sha256 if last else _digest(b""),
        )

    def covers(self, head: Head) -> bool:
        """Whether this log begins with exactly what the head fixed."""
        return head.count <= len(self.lines) and self.head(head.environment, head.count) == head

    def unsigned(self, trusted: Sequence[PublicKey]) -> list[int]:
        """Numbers of the lines that no trusted key signed; the first line is 1."""
        return [at for at, line in enumerate(self.lines, 1) if line.signer(trusted) is None]

    def place(self, entry: Entry) -> int | None:
        """The number of the line by which an event is already told; None where it is news.

        A registration happens once for an archive, a withdrawal once for a version. A move of the
        aliases is told while no other move stands behind it.
        """
        for at, line in reversed(list(enumerate(self.lines, 1))):
            there = line.entry
            if entry.kind in _MOVES and there.kind in _MOVES:
                return at if _same_release(there, entry) else None
            if there.kind == entry.kind and entry.kind == "withdrawn":
                if there.version == entry.version:
                    return at
            elif there.kind == entry.kind and _same_release(there, entry):
                return at
        return None

    def find(self, entry: Entry) -> int | None:
        """The number of the line that holds exactly this entry, its time included."""
        return next((at for at, line in enumerate(self.lines, 1) if line.entry == entry), None)

    def first(self, kind: Kind, version: str, sha256: str) -> int | None:
        """The number of the first line of a kind for a release."""
        for at, line in enumerate(self.lines, 1):
            there = line.entry
            if (there.kind, there.version, there.sha256) == (kind, version, sha256):
                return at
        return None

    def archives(self, version: str) -> list[str]:
        """The digests that were registered under a version; one, unless something is wrong."""
        return list(
            dict.fromkeys(
                line.entry.sha256
                for line in self.lines
                if line.entry.kind == "registered" and line.entry.version == version
            )
        )

    def digests(self, version: str) -> list[str]:
        """Every archive that the log tells of under a version, however."""
        told = (line.entry for line in self.lines if line.entry.version == version)
        return list(dict.fromkeys(entry.sha256 for entry in told if entry.sha256))

    def withdrawn(self, version: str) -> Entry | None:
        """The entry by which a version was withdrawn."""
        found = (line.entry for line in self.lines if line.entry.version == version)
        return next((entry for entry in found if entry.kind == "withdrawn"), None)

    def extended(self, entry: Entry, key: SigningKey) -> bytes:
        """The whole content with one more line.

        Raises:
            FormatError: the log is full, or the entry cannot stand in it.
        """
        _checked(asdict(entry))
        message = canonical.encode({"after": self._after(), "entry": asdict(entry)})
        signature = key.sign(dsse.pae(ENTRY_TYPE, message))
        line = canonical.encode(
            {
                "after": self._after(),
                "entry": asdict(entry),
                "signature": {
                    "keyid": key.public.keyid,
                    "sig": base64.b64encode(signature).decode(),
                },
            }
        )
        grown = self.content + line + b"\n"
        if len(line) > _LINE_BYTES or len(grown) > LIMIT_BYTES:
            raise errors.FormatError("is full", observed=f"{len(grown)} bytes")
        return grown

    def _after(self) -> dict[str, object]:
        head = self.head("")
        return {"count": head.count, "sha256": head.sha256, "size": head.size}


EMPTY = Log(b"", ())


def _same_release(there: Entry, ours: Entry) -> bool:
    return (there.version, there.sha256) == (ours.version, ours.sha256)


def parse(content: bytes) -> Log:
    """Read a log and follow its chain; signatures are asked for apart.

    Raises:
        FormatError: it is none, or a line does not follow what stands before it.
    """
    if len(content) > LIMIT_BYTES:
        raise errors.FormatError("is longer than a log", observed=f"{len(content)} bytes")
    return Log(content, tuple(_lines(content)))


def _lines(content: bytes) -> Iterator[Line]:
    digest, size = hashlib.sha256(), 0
    for number, piece in enumerate(content.splitlines(keepends=True), 1):
        if not piece.endswith(b"\n") or piece.endswith(b"\r\n"):
            raise errors.FormatError(f"breaks off in line {number}")
        try:
            found = canonical.decode(piece[:-1], limit_bytes=_LINE_BYTES, what="a line of the log")
            entry, after, signature = _parts(found)
        except errors.FormatError as problem:
            raise errors.FormatError(
                f"cannot be read: line {number} {problem.message}", observed=problem.observed
            ) from problem
        wanted = {"count": number - 1, "sha256": digest.hexdigest(), "size": size}
        # By its spelling: Python takes 0.0 and False for 0.
        if canonical.encode(after) != canonical.encode(wanted):
            raise errors.FormatError(
                f"is no chain: line {number} does not follow what stands before it",
                expected=f"after {_told(wanted)}",
                observed=f"after {_told(after)}",
            )
        digest.update(piece)
        size += len(piece)
        yield Line(
            entry=entry,
            message=canonical.encode({"after": wanted, "entry": found["entry"]}),
            keyid=signature[0],
            signature=signature[1],
            size=size,
            sha256=digest.hexdigest(),
        )


def _parts(found: dict[str, Any]) -> tuple[Entry, dict[str, Any], tuple[str, bytes]]:
    if found.keys() != {"after", "entry", "signature"}:
        raise errors.FormatError("has other parts than after, entry and signature")
    after, signature = found["after"], found["signature"]
    if not isinstance(after, dict):
        raise errors.FormatError("does not say what it follows")
    if not isinstance(signature, dict) or signature.keys() != {"keyid", "sig"}:
        raise errors.FormatError("holds no signature")
    keyid, sig = signature["keyid"], signature["sig"]
    if not isinstance(keyid, str) or not _SHA256.fullmatch(keyid) or not isinstance(sig, str):
        raise errors.FormatError("holds no signature")
    try:
        decoded = base64.b64decode(sig, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise errors.FormatError("holds no signature") from problem
    return _checked(found["entry"]), after, (keyid, decoded)


_FIELDS = tuple(one.name for one in fields(Entry))


def _checked(found: Any) -> Entry:  # noqa: ANN401 - anybody's JSON
    if not isinstance(found, dict) or found.keys() != set(_FIELDS):
        raise errors.FormatError("holds no entry")
    for name, value in found.items():
        short = isinstance(value, str) and len(value) <= _TEXT_CHARACTERS
        if not short or not value.isprintable():
            _refuse(name, value)
    if found["kind"] not in KINDS:
        _refuse("kind", found["kind"])
    for name in ("sha256", "provenance"):
        if found[name] and not _SHA256.fullmatch(found[name]):
            _refuse(name, found[name])
    if not found["version"]:
        _refuse("version", "")
    return Entry(**found)


def _refuse(name: str, value: object) -> NoReturn:
    raise errors.FormatError(f"has no fit {name}", observed=repr(value)[:80])


def seal(head: Head, key: SigningKey) -> bytes:
    """The signed head: a DSSE envelope in one line, the same for the same head and key."""
    return dsse.seal(HEAD_TYPE, canonical.encode(asdict(head)), key)


def unseal(content: bytes, *, trusted: Sequence[PublicKey]) -> Head:
    """Read a signed head.

    Raises:
        FormatError: it is none.
        VerificationError: no trusted key signed it.
    """
    opened = dsse.unseal(content, payload_type=HEAD_TYPE, trusted=trusted)
    found = canonical.decode(opened.payload, limit_bytes=_HEAD_BYTES, what="a head")
    if found.keys() != {one.name for one in fields(Head)}:
        raise errors.FormatError("is no head of a log")
    numbers = [found["count"], found["size"]]
    if any(type(one) is not int or not 0 <= one <= LIMIT_BYTES for one in numbers):
        raise errors.FormatError("names no length", observed=repr(numbers)[:80])
    texts = [found["environment"], found["sha256"]]
    if not all(isinstance(one, str) for one in texts) or not _SHA256.fullmatch(found["sha256"]):
        raise errors.FormatError("names no digest")
    return Head(**found)


def is_same_head(one: bytes, other: bytes, *, trusted: Sequence[PublicKey]) -> bool:
    """Whether both are one head, each signed by a trusted key; not always by the same one."""
    try:
        return unseal(one, trusted=trusted) == unseal(other, trusted=trusted)
    except errors.VerificationError:
        return False


def later_name(head: Head) -> str:
    """The name under which a later head goes to a release that has one: no asset is replaced."""
    return f"log.head.{head.count}.json"


def is_later_name(name: str) -> bool:
    """Whether a file of a release is such a head."""
    return lines_named(name) is not None


def lines_named(name: str) -> int | None:
    """How many lines a head covers, by its name; None where the name is no later head's."""
    found = _LATER_HEAD.fullmatch(name)
    return int(found[1]) if found else None


def judge(log: Log, head: Head) -> None:
    """Whether a log begins with what a head fixed.

    Raises:
        VerificationError: lines are missing, or are others.
    """
    if log.covers(head):
        return
    ours = log.head(head.environment)
    if ours.count < head.count or ours.size < head.size:
        raise errors.VerificationError(
            "lacks lines that a signed head covers", expected=f"at least {head}", observed=str(ours)
        )
    count = min(head.count, len(log.lines))
    raise errors.VerificationError(
        "has other lines than a signed head covers",
        expected=str(head),
        observed=str(log.head(head.environment, count)),
    )


def _told(after: dict[str, Any]) -> str:
    return repr(after)[:160]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def told(entries: Iterable[Entry]) -> str:
    """Some entries, for a sentence."""
    return ", ".join(entry.told for entry in entries)
