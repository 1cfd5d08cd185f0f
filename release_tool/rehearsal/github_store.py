"""What the look-alike of GitHub keeps of one repository: releases, their assets, tags, a journal.

Everything lies in one folder, so that it comes back as it was.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from release_tool.files import atomic

STARTER = "starter"
UPLOADED = "uploaded"
_RUNS = "runs.json"


@dataclass(kw_only=True)
class Asset:
    """One asset; `starter` is the placeholder that a broken upload leaves."""

    id: int
    name: str
    content_type: str
    state: str = STARTER
    size: int = 0
    digest: str | None = None
    """`sha256:…`, computed when the upload is whole; None before."""
    created: str = ""


@dataclass(kw_only=True)
class Release:
    """One release or draft."""

    id: int
    tag: str
    name: str
    body: str
    target: str
    draft: bool
    prerelease: bool
    created: str
    published: str | None = None
    immutable: bool = False
    latest: bool = False
    assets: list[Asset] = field(default_factory=list)


@dataclass(kw_only=True)
class Issue:
    """One issue."""

    number: int
    title: str
    body: str
    login: str
    """Of who opened it."""
    association: str
    """How that user stands to the repository."""
    state: str = "open"
    comments: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a workflow."""

    id: int
    workflow: str
    """The name of its file."""
    event: str
    ref: str
    """The tag or branch."""
    repository: str = ""
    """Where what it ran came from; empty for this one."""
    artifacts: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    """Those of its artifacts that nobody can fetch any more."""


class GitHubStore:
    """One repository's releases, issues and runs.

    Args:
        folder: where they lie; made where absent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "assets").mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.releases: list[Release] = []
        self.issues: list[Issue] = []
        """The newest first."""
        self.used_by_immutable: list[str] = []
        """Tags that can never be released again."""
        self.journal: list[tuple[str, str]] = []
        """What was asked, and of what; oldest first."""
        self._next = 1
        self._load()

    def tags(self) -> dict[str, str]:
        """Commits by tag, as somebody pushed them."""
        try:
            found = json.loads(self._tags.read_bytes())
        except FileNotFoundError:
            return {}
        return {str(tag): str(commit) for tag, commit in found.items()}

    def push_tag(self, tag: str, commit: str) -> None:
        """What `git push` of a tag does."""
        push_tag(self._folder, tag, commit)

    def runs(self) -> list[Run]:
        """The runs of workflows, as they stood last."""
        try:
            rows = json.loads((self._folder / _RUNS).read_bytes())
        except FileNotFoundError:
            return []
        listed = ("artifacts", "expired")
        return [Run(**row | {name: tuple(row[name]) for name in listed}) for row in rows]

    @property
    def _tags(self) -> Path:
        return self._folder / "tags.json"

    def note(self, operation: str, subject: str) -> None:
        """Keep what was asked, for tests."""
        with self.changing():
            self.journal.append((operation, subject))

    def asked(self, operation: str) -> list[str]:
        """Of what an operation was asked, oldest first."""
        with self.lock:
            return [subject for name, subject in self.journal if name == operation]

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Alone with the state, which is written down afterwards."""
        with self.lock:
            yield
            self._save()

    def new_id(self) -> int:
        """A number that nothing else has."""
        self._next += 1
        return self._next

    def release(self, number: int) -> Release | None:
        """One release by its id."""
        return next((found for found in self.releases if found.id == number), None)

    def asset(self, number: int) -> tuple[Release, Asset] | None:
        """One asset by its id, with its release."""
        for release in self.releases:
            for found in release.assets:
                if found.id == number:
                    return release, found
        return None

    def place(self, asset: Asset) -> Path:
        """The file of an asset's bytes."""
        return self._folder / "assets" / str(asset.id)

    def _load(self) -> None:
        try:
            found: dict[str, Any] = json.loads((self._folder / "state.json").read_bytes())
        except FileNotFoundError:
            return
        self._next = found["next"]
        self.used_by_immutable = found["used_by_immutable"]
        self.journal = [(row[0], row[1]) for row in found["journal"]]
        self.issues = [Issue(**row) for row in found.get("issues", ())]
        self.releases = [
            Release(**row | {"assets": [Asset(**asset) for asset in row["assets"]]})
            for row in found["releases"]
        ]

    def _save(self) -> None:
        told = {
            "next": self._next,
            "used_by_immutable": self.used_by_immutable,
            "journal": self.journal,
            "releases": [asdict(release) for release in self.releases],
            "issues": [asdict(issue) for issue in self.issues],
        }
        atomic.write_atomically(self._folder / "state.json", json.dumps(told).encode())


def push_tag(folder: Path, tag: str, commit: str) -> None:
    """Let a tag of the repository in `folder` name a commit."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tags.json"
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        found = {}
    atomic.write_atomically(path, json.dumps(found | {tag: commit}).encode())


def record_runs(folder: Path, runs: Iterable[Run]) -> None:
    """Let the repository in `folder` have had exactly these runs."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_atomically(folder / _RUNS, json.dumps([asdict(one) for one in runs]).encode())


def now() -> str:
    """As GitHub writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
