"""A bucket, its public address and a coordinator of May, small and in memory, with a clock.

The embedded environment's look-alikes are the real rehearsal. These exist to place faults and
races at exact requests, and time stands still here until somebody sleeps.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import JsonValue

from release_tool.services import retries
from release_tool.services.coordinator import Coordinator
from release_tool.services.object_store import ObjectStore
from tests import scripted_server
from tests.scripted_server import Reply, Request, ScriptedServer

KEY = "release-key-of-the-small-world"
PLATFORM = "macos-arm64"
BUCKET = "releases"
POINTER = "releases/latest/release.json"
_CACHE_SECONDS = 60.0

Hook = Callable[[Request], Reply | None]


class KilledError(BaseException):
    """Stands for `kill -9`: nothing of the tool may catch it."""


def make_archive(binary: bytes) -> bytes:
    """A release archive with this binary, small and whole."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name in ("Darkbloom.app/Contents/MacOS/darkbloom", "bin/darkbloom"):
            member = tarfile.TarInfo(name)
            member.size = len(binary)
            tar.addfile(member, io.BytesIO(binary))
    return gzip.compress(whole.getvalue(), mtime=0)


@dataclass
class MemoryIntents:
    """Intents of one stage, kept in memory."""

    declared: list[tuple[str, Mapping[str, JsonValue]]] = field(default_factory=list)

    def find(self, action: str) -> Mapping[str, JsonValue] | None:
        found = [facts for name, facts in self.declared if name == action]
        return found[-1] if found else None

    def declare(self, action: str, facts: Mapping[str, JsonValue]) -> None:
        self.declared.append((action, dict(facts)))


@dataclass
class Stored:
    """One object of the bucket."""

    body: bytes
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'


class SmallWorld:
    """The bucket, the public address and the coordinator; `before` and `after` see each request."""

    def __init__(self, store: ScriptedServer, coordinator: ScriptedServer) -> None:
        self._lock = threading.Lock()
        self._clients = threading.local()
        self._store = store
        self._coordinator = coordinator
        store.says(lambda request: self._framed(request, self._bucket_or_public))
        coordinator.says(lambda request: self._framed(request, self._coordinate))
        self.reset()

    def reset(self) -> None:
        """Empty the world and start its time anew; making a client of S3 takes long."""
        self.objects: dict[str, Stored] = {}
        self.rows: dict[tuple[str, str], dict[str, str]] = {}
        self.posts = 0
        self.puts = 0
        self.moves = 0
        self.now = 0.0
        self.by_semver = False
        self.stats: dict[str, object] = {}
        self.evicted: set[str] = set()
        self.admin = False
        self.before: Hook = lambda _: None
        self.after: Hook = lambda _: None
        self.when_sleeping: Callable[[], None] = lambda: None
        self._cached: tuple[float, Reply] | None = None

    def photograph(self) -> Callable[[], None]:
        """What stands now; returns what puts it back, in a world that was reset."""
        objects, rows = dict(self.objects), {key: dict(row) for key, row in self.rows.items()}
        evicted, now, cached = set(self.evicted), self.now, self._cached

        def put_back() -> None:
            self.reset()
            self.objects, self.rows = dict(objects), {key: dict(row) for key, row in rows.items()}
            self.evicted, self.now, self._cached = set(evicted), now, cached

        return put_back

    @property
    def store_url(self) -> str:
        return self._store.url

    @property
    def public_url(self) -> str:
        return f"{self._store.url}/public"

    @property
    def coordinator_url(self) -> str:
        return self._coordinator.url

    @property
    def policy(self) -> retries.Policy:
        return retries.Policy(attempts=4, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        """Let the world's time pass; another thread gets a turn."""
        self.when_sleeping()
        self.now += seconds
        time.sleep(0)

    def clock(self) -> float:
        return self.now

    def object_store(self) -> ObjectStore:
        """The thread's own store: a client is not for two threads."""
        if not hasattr(self._clients, "store"):
            self._clients.store = self._new_store()
        store: ObjectStore = self._clients.store
        return store

    def _new_store(self) -> ObjectStore:
        return ObjectStore(
            endpoint=self.store_url,
            bucket=BUCKET,
            access_key_id=lambda: "AKIDLOOKALIKE0001",
            secret_access_key=lambda: "look-alike-secret",
            policy=self.policy,
        )

    def coordinator(self) -> Coordinator:
        return Coordinator(
            base_url=self.coordinator_url,
            release_key=lambda: KEY,
            seconds=5,
            policy=self.policy,
            admin_key=(lambda: "admin-key") if self.admin else None,
        )

    def coordinate(self, request: Request) -> Reply:
        """What the coordinator does with a request, whoever hands it over and when."""
        with self._lock:
            return self._coordinate(request)

    def add_row(self, version: str, **other: str) -> None:
        """Register behind the tool's back, clearing nothing: the cache of May stays."""
        row = {
            "version": version,
            "platform": PLATFORM,
            "backend": "mlx-swift",
            "binary_hash": "1" * 64,
            "bundle_hash": "2" * 64,
            "metallib_hash": "3" * 64,
            "url": f"{self.public_url}/releases/v{version}/darkbloom-bundle-{PLATFORM}.tar.gz",
            "changelog": "",
        }
        self.rows[version, PLATFORM] = row | other

    def _framed(self, request: Request, answer: Callable[[Request], Reply]) -> Reply:
        early = self.before(request)
        if early is not None:
            return early
        with self._lock:
            reply = answer(request)
        return self.after(request) or reply

    def _bucket_or_public(self, request: Request) -> Reply:
        path = urllib.parse.unquote(request.path)
        if path.startswith("/public/"):
            there = self.objects.get(path.removeprefix("/public/").partition("?")[0])
            return Reply(200, there.body) if there else Reply(404)
        key = path.removeprefix(f"/{BUCKET}/").partition("?")[0]
        if request.method == "PUT" and "x-amz-copy-source" in request.headers:
            return self._copy(key, request)
        if request.method == "PUT":
            return self._put(key, request)
        there = self.objects.get(key)
        if there is None:
            return Reply(404)
        if request.headers.get("if-match", there.etag) != there.etag:
            return Reply(412)
        notes = {f"x-amz-meta-{name}": value for name, value in there.notes.items()}
        modified = {"Last-Modified": "Thu, 14 May 2026 21:51:07 GMT"}
        return Reply(200, there.body, {"ETag": there.etag} | modified | notes)

    def _put(self, key: str, request: Request) -> Reply:
        there = self.objects.get(key)
        if request.headers.get("if-none-match") == "*" and there:
            return Reply(412)
        wanted = request.headers.get("if-match")
        if wanted is not None and (there is None or there.etag != wanted):
            return Reply(412)
        digest = hashlib.sha256(request.body)
        sent = base64.b64decode(request.headers["x-amz-checksum-sha256"])
        if sent != digest.digest():
            return Reply(400, b"<Error><Code>BadDigest</Code></Error>")
        if key == POINTER:
            self.moves += 1
        elif "/registrations/" not in key and not key.endswith("/registered.json"):
            self.puts += 1
        self.objects[key] = Stored(request.body, _notes(request))
        return Reply(200, b"", {"ETag": self.objects[key].etag})

    def _copy(self, key: str, request: Request) -> Reply:
        source_key = urllib.parse.unquote(request.headers["x-amz-copy-source"])
        source = self.objects[source_key.removeprefix(f"{BUCKET}/")]
        there = self.objects.get(key)
        wanted = request.headers.get("cf-copy-destination-if-match")
        if wanted is not None and (there is None or there.etag != wanted):
            return Reply(412)
        if request.headers.get("cf-copy-destination-if-none-match") == "*" and there:
            return Reply(412)
        if request.headers["x-amz-copy-source-if-match"] != source.etag:
            return Reply(412)
        self.objects[key] = Stored(source.body, _notes(request))
        xml = f"<CopyObjectResult><ETag>{source.etag}</ETag></CopyObjectResult>"
        return Reply(200, xml.encode(), {"Content-Type": "application/xml"})

    def _coordinate(self, request: Request) -> Reply:
        if request.method == "POST":
            return self._register(request)
        if request.path == "/v1/stats":
            return _json(200, self.stats) if self.stats else Reply(404)
        if request.path == "/v1/admin/releases" and request.method == "DELETE":
            return self._deactivate(json.loads(request.body)["version"])
        if request.path == "/v1/admin/releases":
            rows = [
                row | {"active": row["version"] not in self.evicted} for row in self.rows.values()
            ]
            return _json(200, {"releases": rows})
        if request.path.startswith("/api/version"):
            row = self._newest()
            if row is None:
                return Reply(404)
            facts = {"version": row["version"], "bundle_hash": row["bundle_hash"]}
            return _json(200, facts | {"download_url": row["url"]})
        if self._cached is None or self.now - self._cached[0] >= _CACHE_SECONDS:
            row = self._newest()
            reply = _json(200, row) if row else _refusal(404, "not_found", "no active release")
            self._cached = (self.now, reply)
        return self._cached[1]

    def _deactivate(self, version: str) -> Reply:
        """As in May: nothing is forgotten of what is cached."""
        if (version, PLATFORM) not in self.rows:
            return _refusal(404, "not_found", "release not found")
        self.evicted.add(version)
        return _json(200, {"status": "release_deactivated"})

    def _newest(self) -> dict[str, str] | None:
        rank = _semver_rank if self.by_semver else _may_rank
        active = [row for row in self.rows.values() if row["version"] not in self.evicted]
        return max(active, key=lambda row: rank(row["version"]), default=None)

    def _register(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return _refusal(401, "unauthorized", "invalid release key")
        row = json.loads(request.body)
        key = urllib.parse.unquote(row["url"].removeprefix(f"{self.public_url}/"))
        there = self.objects.get(key)
        failed = "release artifact verification failed: "
        if there is None:
            return _refusal(400, "invalid_request_error", f"{failed}download bundle: 404")
        if hashlib.sha256(there.body).hexdigest() != row["bundle_hash"]:
            return _refusal(400, "invalid_request_error", f"{failed}bundle hash mismatch")
        self.posts += 1
        self.evicted.discard(row["version"])
        self.rows[row["version"], row["platform"]] = row
        return _json(200, {"status": "release_registered", "release": row})


class Killer:
    """Answers one request with a fault, and kills whoever waits to try again."""

    def __init__(self, world: SmallWorld, at: int, *, after: bool) -> None:
        self._world = world
        self._at = at
        self._count = 0
        self._armed = False
        world.when_sleeping = self._kill
        if after:
            world.after = self._see
        else:
            world.before = self._see

    def _see(self, _: Request) -> Reply | None:
        self._count += 1
        self._armed = self._count == self._at
        return Reply(503) if self._armed else None

    def _kill(self) -> None:
        if self._armed:
            raise KilledError

    def disarm(self) -> None:
        self._armed = False
        self._world.before = self._world.after = lambda _: None


def _notes(request: Request) -> dict[str, str]:
    start = "x-amz-meta-"
    return {
        name.removeprefix(start): value
        for name, value in request.headers.items()
        if name.startswith(start)
    }


def _may_rank(version: str) -> tuple[tuple[int, ...], int]:
    pieces = [piece.split("-")[0] for piece in version.split(".")]
    return tuple(int(piece) if piece.isdigit() else 0 for piece in pieces), 0


def _semver_rank(version: str) -> tuple[tuple[int, ...], int]:
    core, _, pre = version.partition("-")
    return tuple(int(piece) for piece in core.split(".")), 0 if pre else 1


def _json(status: int, whole: Mapping[str, object]) -> Reply:
    return Reply(status, json.dumps(whole).encode(), {"Content-Type": "application/json"})


def _refusal(status: int, kind: str, message: str) -> Reply:
    return _json(status, {"error": {"type": kind, "message": message}})


@contextmanager
def existing() -> Iterator[SmallWorld]:
    """One small world, ended afterwards."""
    with scripted_server.running() as store, scripted_server.running() as coordinator:
        yield SmallWorld(store, coordinator)
