"""The look-alike of the model hub on two ports, with models made for a test, and clients of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release_tool.rehearsal import faults, servers
from release_tool.rehearsal import hub as look_alike
from release_tool.rehearsal.wire import Wire
from release_tool.services import retries
from release_tool.services.hub import Hub
from release_tool.services.model_store import ModelStore

MODEL = "mlx-look-alike/tiny"
COMMIT = "1" * 40
EARLIER = "2" * 40
READER = "hf_canary-reader-0123456789"
STRANGER = "hf_canary-stranger-0123456789"
POLICY = retries.Policy(attempts=3, first_seconds=0, sleep=lambda _: None)
FILES: Mapping[str, bytes] = {
    ".gitattributes": b"*.safetensors filter=lfs\n",
    "config.json": b'{"model_type": "llama"}',
    "empty.txt": b"",
    "model.safetensors": bytes(range(256)) * 1000,
    "nested folder/tokenizer (1).json": b"{}" * 100,
}


@dataclass(frozen=True, kw_only=True)
class World:
    """The look-alike, living."""

    hub: look_alike.Hub
    settings: look_alike.Settings
    broken: faults.Faults
    lines: Wire
    """The wire of the hub itself, as the service `hub`."""
    folder: Path
    url: str
    """Of the hub, where it really listens."""

    def client(self, token: str = "") -> Hub:
        """A client of it."""
        known = (lambda: token) if token else None
        return Hub(endpoint=self.url, token=known, policy=POLICY)

    def store(self, token: str = "") -> ModelStore:
        """A store that asks it, beside a hub's cache that is empty."""
        return ModelStore(
            shared=self.folder / "shared", own=self.folder / "own", hub=self.client(token)
        )

    def add(self, name: str, **changes: object) -> None:
        """A further model, with the files of the first."""
        first = self.settings.models[0]
        made: dict[str, Any] = {
            "name": name,
            "commits": first.commits,
            "refs": first.refs,
            **changes,
        }
        self.settings.models.append(look_alike.Model(**made))


@contextmanager
def living(folder: Path) -> Iterator[World]:
    """The look-alike on 127.0.0.1 until the block ends."""
    files = write(folder / "models" / "tiny", FILES)
    settings = look_alike.Settings(
        models=[look_alike.Model(name=MODEL, commits={COMMIT: files}, refs={"main": COMMIT})],
        tokens=frozenset({READER, STRANGER}),
    )
    broken, lines = faults.Faults(), Wire()
    made = look_alike.Hub(settings, broken=broken)
    with (
        servers.Server(made.hub, name="hub", wire=lines) as front,
        servers.Server(made.store) as store,
    ):
        settings.hub_url, settings.store_url = front.url, store.url
        yield World(
            hub=made, settings=settings, broken=broken, lines=lines, folder=folder, url=front.url
        )


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A folder with these files."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def digest(files: Mapping[str, bytes]) -> str:
    """What a pin states of these files, computed apart from the code that is tested."""
    lines = [
        f"{hashlib.sha256(content).hexdigest()}  {path}\n"
        for path, content in sorted(files.items(), key=lambda one: one[0].split("/"))
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
