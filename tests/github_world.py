"""The look-alike of GitHub on three ports, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from release_tool.rehearsal import faults, github, servers
from release_tool.rehearsal.github_store import GitHubStore
from release_tool.rehearsal.wire import Wire
from release_tool.services import retries
from release_tool.services.github import GitHub

REPOSITORY = "octo-org/darkbloom"
WRITE = "ghs_canary-write-0123456789"
READ = "ghs_canary-read-0123456789"
NOBODY = "ghs_canary-none-0123456789"
POLICY = retries.Policy(attempts=4, first_seconds=0, sleep=lambda _: None)


@dataclass(frozen=True, kw_only=True)
class World:
    """The look-alike, living."""

    store: GitHubStore
    settings: github.Settings
    broken: faults.Faults
    lines: Wire
    """The wire of the interface, as the service `github`."""

    def client(self, token: str = WRITE, *, repository: str = REPOSITORY) -> GitHub:
        """A client of it."""
        return GitHub(
            api_url=self.settings.api_url,
            uploads_url=self.settings.uploads_url,
            repository=repository,
            token=lambda: token,
            seconds=5,
        )


@contextmanager
def living(folder: Path, *, immutable: bool = False) -> Iterator[World]:
    """The look-alike on 127.0.0.1 until the block ends."""
    store = GitHubStore(folder)
    settings = github.Settings(
        repository=REPOSITORY,
        rights={WRITE: "write", READ: "read", NOBODY: "none"},
        immutable=immutable,
    )
    broken = faults.Faults()
    lines = Wire()
    made = github.GitHub(store, settings, broken=broken)
    with (
        servers.Server(made.api, name="github", wire=lines) as api,
        servers.Server(made.uploads) as uploads,
        servers.Server(made.storage) as storage,
    ):
        settings.api_url, settings.uploads_url = api.url, uploads.url
        settings.storage_url = storage.url
        yield World(store=store, settings=settings, broken=broken, lines=lines)
