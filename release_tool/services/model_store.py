"""Models on this host: found in a cache, or downloaded into one, whole or not at all.

The hub's own cache is read and never written: its layout is its library's. What is downloaded here
lies in a folder of ours, by commit. A download that broke off goes on where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from release_tool import errors
from release_tool.files import atomic, hashing
from release_tool.progress import Reporter, task
from release_tool.services import hub_cache, hub_errors
from release_tool.services.hub import COMMIT, Hub
from release_tool.services.hub_listing import HubFile

_SPARE_BYTES = 256 * 1024 * 1024
"""Left free on the volume: a full disk stops more than a download."""


class Pin(NamedTuple):
    """Which model."""

    model: str
    """`ORG/NAME`, or a folder."""
    revision: str
    """A commit of the hub; empty where any will do that is here."""
    sha256: str
    """Of all files; empty for any."""


@dataclass(frozen=True, kw_only=True)
class ModelStore:
    """Where models are looked for.

    Args:
        shared: the hub's cache of this user, which is read only.
        own: where downloads go; None where nothing is downloaded.
        hub: who is asked for what is not here; None for nobody.
        barred: why nobody is asked.
    """

    shared: Path
    own: Path | None = None
    hub: Hub | None = None
    barred: str = "nothing may be downloaded here"

    def find(self, pin: Pin) -> Path | None:
        """The folder of a model that is here; None where it is not.

        Another digest than the pinned one is not this one's to tell, where there is nothing better.

        Raises:
            UsageError: neither a folder nor the id of a model.
        """
        if self.own is not None and COMMIT.fullmatch(pin.revision) and not _is_folder(pin.model):
            mine = self._folder(self.own, pin)
            if _is_intact(mine):
                return mine
        try:
            found = hub_cache.find(pin.model, revision=pin.revision, hub=self.shared)
        except errors.HostError:
            return None
        usable = self.hub is None or _is_folder(pin.model) or not pin.sha256
        return found if usable or hub_cache.digest(found) == pin.sha256 else None

    def check(self, pin: Pin) -> None:
        """Whether `obtain` can do its part; nothing is downloaded.

        Raises:
            HostError: the model is not here and nobody may be asked, or it has no room.
            TransientError: the model is not here and the hub does not answer.
            ReleaseError: whatever the hub says against it.
        """
        if self.find(pin) is not None:
            return
        hub, own = self._asked(pin)
        try:
            files = hub.files(pin.model, hub.commit(pin.model, pin.revision))
        except errors.TransientError as problem:
            raise hub_errors.unreachable(pin.model, hub.endpoint, problem) from problem
        _require_room(own, files, have=0)

    def obtain(self, pin: Pin, reporter: Reporter) -> Path:
        """The folder of a model, downloaded where it is not here.

        Args:
            pin: the model. Where it is not here, its revision has to be a commit.
            reporter: sees the bytes come.

        Raises:
            HostError: nobody may be asked, another run downloads it, or the disk refuses.
            TransientError: the hub does not answer, or broke off; the next run goes on.
            VerificationError: the bytes are not those that the hub lists.
            ReleaseError: whatever the hub says against it.
        """
        found = self.find(pin)
        if found is not None:
            return found
        hub, own = self._asked(pin)
        final = self._folder(own, pin)
        with atomic.naming(own, "keep a model in"):
            final.parent.mkdir(parents=True, exist_ok=True)
        with _alone(final, pin):
            if not _is_intact(final):
                hub.commit(pin.model, pin.revision)
                files = hub.files(pin.model, pin.revision)
                with atomic.refusals(final.parent):
                    _Filling(hub, pin, final).fill(files, reporter)
        return final

    def _asked(self, pin: Pin) -> tuple[Hub, Path]:
        if self.hub is None or self.own is None:
            raise hub_errors.offline(pin.model, self.barred)
        if not COMMIT.fullmatch(pin.revision):
            found = hub_errors.offline(
                pin.model, "no commit of it is named, only that is downloaded"
            )
            # To fetch what nobody pinned would end here again.
            found.hint = "pin one in release.yaml: `release-tool model pin` prints the lines for it"
            raise found
        return self.hub, self.own

    @staticmethod
    def _folder(own: Path, pin: Pin) -> Path:
        return own / pin.model.replace("/", "--") / pin.revision


class _Filling:
    """One download, in a folder beside the final one that keeps what came until it is whole."""

    def __init__(self, hub: Hub, pin: Pin, final: Path) -> None:
        self._hub = hub
        self._pin = pin
        self._final = final
        self._scratch = final.with_name(f".{final.name}")
        self._files = self._scratch / "files"
        self._parts = self._scratch / "parts"

    def fill(self, files: Sequence[HubFile], reporter: Reporter) -> None:
        for folder in (self._files, self._parts):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._drop_others(files)
        _require_room(self._final.parent, files, have=self._have())
        name = f"download {self._pin.model}"
        with task(reporter, name, sum(one.size for one in files)):
            for file in files:
                self._one(file, reporter, name)
        # What is there must be what is listed, and no more: its digest is what counts.
        atomic.write_atomically(_noted(self._final), hub_cache.digest(self._files).encode())
        atomic.replace_directory(self._files, self._final)
        atomic.remove_tree(self._scratch)

    def _one(self, file: HubFile, reporter: Reporter, name: str) -> None:
        done, part = self._files / file.path, self._parts / (file.sha256 or file.blob)
        if done.is_file() and _digest(done, file) == _wanted(file):
            reporter.advance(name, file.size)
            return
        resumed = part.exists() and part.stat().st_size > 0
        observed = self._downloaded(file, part, reporter, name)
        if observed != _wanted(file) and resumed:
            # What an earlier run left may be the damaged half.
            observed = self._downloaded(file, part, reporter, name)
        if observed != _wanted(file):
            raise errors.VerificationError(
                "the bytes that came are not those that the hub lists",
                subject=f"{self._pin.model}/{file.path}",
                expected=_wanted(file),
                observed=observed,
                hint="run again; if it stays so, do not use this model: find out who changes it",
            )
        done.parent.mkdir(parents=True, exist_ok=True)
        part.rename(done)

    def _downloaded(self, file: HubFile, part: Path, reporter: Reporter, name: str) -> str:
        """Complete a part; its digest. What is wrong does not stay."""
        with part.open("a+b") as target:
            have = target.seek(0, os.SEEK_END)
            if have > file.size:
                target.truncate(have := 0)
            reporter.advance(name, have)
            self._hub.fetch(
                self._pin.model,
                self._pin.revision,
                file,
                target,
                told=lambda count: reporter.advance(name, count),
            )
            target.flush()
            os.fsync(target.fileno())
        observed = _digest(part, file)
        if observed != _wanted(file):
            part.unlink()
        return observed

    def _drop_others(self, files: Sequence[HubFile]) -> None:
        """What no file of the listing is would count in the digest."""
        listed = {self._files / one.path for one in files}
        for path in sorted(self._files.rglob("*"), reverse=True):
            if path.is_symlink() or (path.is_file() and path not in listed):
                path.unlink()

    def _have(self) -> int:
        return sum(one.stat().st_size for one in self._scratch.rglob("*") if one.is_file())


def _wanted(file: HubFile) -> str:
    return file.sha256 or file.blob


def _digest(path: Path, file: HubFile) -> str:
    """SHA-256 of a file of the large storage, else the SHA-1 that git gives it."""
    if file.sha256:
        return hashing.sha256_of(path)
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with atomic.naming(path, "read"), path.open("rb") as source:
        while chunk := source.read(hashing.CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _is_folder(model: str) -> bool:
    return (Path(model) / "config.json").is_file()


def _noted(final: Path) -> Path:
    return final.with_suffix(".sha256")


def _is_intact(final: Path) -> bool:
    """Whether a folder is what its download made: a damaged one is downloaded again."""
    try:
        noted = _noted(final).read_text(encoding="ascii")
        return final.is_dir() and noted == hub_cache.digest(final)
    except (OSError, ValueError, errors.HostError):
        return False


def _require_room(folder: Path, files: Sequence[HubFile], *, have: int) -> None:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    wanted = max(sum(one.size for one in files) - have, 0) + _SPARE_BYTES
    free = shutil.disk_usage(there).free
    if free < wanted:
        raise errors.HostError(
            "the disk is too full for the smoke model",
            subject=str(folder),
            expected=f"{wanted // 1_000_000} MB free",
            observed=f"{free // 1_000_000} MB free",
            hint="make room, or name another place in XDG_CACHE_HOME",
        )


@contextmanager
def _alone(final: Path, pin: Pin) -> Iterator[None]:
    path = final.with_suffix(".lock")
    with atomic.naming(path, "write"):
        lock = path.open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            raise errors.HostError(
                "another run downloads this model",
                subject=pin.model,
                hint="run again when it is done; what it downloads serves this run too",
            ) from problem
        yield
