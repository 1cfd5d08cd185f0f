"""Submissions whose upload is under way, so that a killed process's upload goes on.

Apple gives the credentials of an upload once, for twelve hours, and none can be asked for again.
They are secret, so they stand in no record: a file of mode 0600 beside the records holds them with
the parts that have arrived. Once everything has arrived only the submission's id is left in it,
and with the verdict it goes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from release_tool.files import atomic

# Twelve hours by Apple's word; the last half hour is too short to begin a large upload in.
_USABLE_SECONDS = 11.5 * 3600
_STATE_BYTES = 2 * 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an upload goes, and with what."""

    bucket: str
    key: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A submission that was made, and how much of it has arrived."""

    submission_id: str
    sha256: str
    created: float
    """Unix time at which the credentials were given."""
    target: Target | None = field(default=None, repr=False)
    """None once everything has arrived."""
    upload_id: str = ""
    """Of a multipart upload; empty before it and for a single request."""
    part_bytes: int = 0
    parts: Mapping[int, str] = field(default_factory=dict)
    """ETags by part number, from 1."""

    @property
    def arrived(self) -> bool:
        return self.target is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """The submissions that are under way in one workspace."""

    folder: Path
    clock: Callable[[], float] = time.time

    def find(self, sha256: str) -> Begun | None:
        """What was begun with this archive and can still be finished; anything else is dropped."""
        path = self._path(sha256)
        try:
            with path.open("rb") as source:
                found = _decode(source.read(_STATE_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError):
            found = None
        if found and found.sha256 == sha256 and (found.arrived or self._is_fresh(found)):
            return found
        self.forget(sha256)
        return None

    def keep(self, begun: Begun) -> None:
        """Write the state down, readable to this user alone.

        Raises:
            HostError: the system refuses.
        """
        with atomic.naming(self.folder, "make the folder"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = json.dumps(asdict(begun)).encode()
        atomic.write_atomically(self._path(begun.sha256), content, mode=0o600)

    def arrive(self, begun: Begun) -> Begun:
        """Note that everything has arrived; the credentials go."""
        whole = replace(begun, target=None, upload_id="", part_bytes=0, parts={})
        self.keep(whole)
        return whole

    def forget(self, sha256: str) -> None:
        """Remove the state of an archive."""
        with suppress(OSError):
            self._path(sha256).unlink()
        self._drop_unfinished()
        with suppress(OSError):
            self.folder.rmdir()

    def drop_others(self, sha256: str) -> None:
        """Remove what was begun with other archives: a workspace holds one signed app at a time.

        Their credentials serve nobody any more, and should not lie about.
        """
        self._drop_unfinished()
        with suppress(OSError):
            for path in self.folder.glob("*.json"):
                if path.stem != sha256:
                    path.unlink()

    def _drop_unfinished(self) -> None:
        """What a kill amid a write left behind holds credentials too."""
        atomic.drop_unfinished(self.folder)

    def forget_submission(self, submission_id: str) -> None:
        """Remove the state of a submission whose verdict has come."""
        with suppress(OSError):
            for path in self.folder.glob("*.json"):
                found = self.find(path.stem) if _DIGEST.fullmatch(path.stem) else None
                if found is not None and found.submission_id == submission_id:
                    self.forget(path.stem)

    def _path(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.json"

    def _is_fresh(self, begun: Begun) -> bool:
        return 0 <= self.clock() - begun.created < _USABLE_SECONDS


def _decode(content: bytes) -> Begun:
    whole = json.loads(content)
    target = whole["target"]
    return Begun(
        submission_id=str(whole["submission_id"]),
        sha256=str(whole["sha256"]),
        created=float(whole["created"]),
        target=None if target is None else Target(**{key: str(target[key]) for key in _TARGET}),
        upload_id=str(whole["upload_id"]),
        part_bytes=int(whole["part_bytes"]),
        parts={int(number): str(etag) for number, etag in whole["parts"].items()},
    )


_TARGET = ("bucket", "key", "access_key_id", "secret_access_key", "session_token")
