"""Put an archive where users get it, as a whole process, against three uploads of the same file.

The look-alikes of the store and of its public address run in a process of their own. Ours uploads
once, reads the public address back, moves the pointer, copies two aliases inside the store and
reads them back too; theirs uploads three times and looks at nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import requests
from bench_app import peak_anonymous
from bench_pairs import alternate, run

ARCHIVE_BYTES = 250_000_000
SMALL, LARGE = 10_000_000, 1_000_000_000
_PIECE_BYTES = 1_000_000
_GROWTH = 1.2
"""Peaks within this are the same: allocators and the interpreter vary by some megabytes."""
_MOST_SENT = 1.01

SERVE = """
import json, sys, threading
from pathlib import Path
from release_tool.rehearsal import faults, object_store, public_bucket, servers, signature_v4
from release_tool.rehearsal.object_index import ObjectIndex
index = ObjectIndex(Path(sys.argv[1]))
broken, keys = faults.Faults(), signature_v4.Credentials(
    access_key_id="BENCH", secret_access_key="bench")
store = object_store.ObjectStore("releases", keys, index=index, broken=broken)
came = [0]
def counted(environ, start):
    if environ["PATH_INFO"] == "/counted":
        start("200 OK", [("Content-Type", "text/plain")])
        told, came[0] = str(came[0]), 0
        return [told.encode()]
    came[0] += int(environ.get("CONTENT_LENGTH") or 0)
    came[0] += sum(len(k) + len(v) for k, v in environ.items() if k.startswith("HTTP_"))
    return store(environ, start)
with servers.Server(counted) as one, servers.Server(
        public_bucket.PublicBucket(index, broken=broken)) as two:
    print(json.dumps({"store": one.url, "public": two.url}), flush=True)
    sys.stdin.read()
"""

OURS = """
import sys
from pathlib import Path
from release_tool.files import hashing
from release_tool.progress import Silent
from release_tool.services import public_url
from release_tool.services.object_store import ObjectStore
archive, run, endpoint, public = Path(sys.argv[1]), *sys.argv[2:]
store = ObjectStore(endpoint=endpoint, bucket="releases", access_key_id=lambda: "BENCH",
                    secret_access_key=lambda: "bench")
digest, quiet = hashing.sha256_of(archive), Silent()
key = f"{run}/a.tar.gz"
store.create(key, archive, sha256=digest, version="0.5.0", reporter=quiet)
served = public_url.read(f"{public}/{key}", limit_bytes=2 << 30, seconds=600, reporter=quiet)
assert served.sha256 == digest
source = store.head(key)
store.replace(f"{run}/latest/release.json", b"{}", over=None, content_type="application/json",
              version="0.5.0")
for alias in (f"{run}/latest/a.tar.gz", f"{run}/latest/b.tar.gz"):
    store.copy(source, alias, over=None, sha256=digest, version="0.5.0")
    assert store.digest(store.head(alias), reporter=quiet) == digest
"""

THEIRS = """
import sys
import boto3
from botocore.config import Config
archive, run, endpoint = sys.argv[1:4]
plain = Config(request_checksum_calculation="when_required", s3={"addressing_style": "path"})
client = boto3.client("s3", endpoint_url=endpoint, region_name="auto", config=plain,
                      aws_access_key_id="BENCH", aws_secret_access_key="bench")
for name in ("a.tar.gz", "latest/a.tar.gz", "latest/b.tar.gz"):
    client.upload_file(archive, "releases", f"{run}/{name}")
"""


@dataclass(frozen=True)
class _Servers:
    store: str
    public: str
    runs: Iterator[int] = field(default_factory=count)

    def command(self, script: str, archive: Path) -> list[str]:
        """A run under keys of its own: the store takes one write a second for each key."""
        ended = [self.public] if script is OURS else []
        name = f"run-{next(self.runs)}"
        return [sys.executable, "-c", script, str(archive), name, self.store, *ended]

    def counted(self) -> int:
        """Bytes of the requests, heads and bodies, since it was asked last."""
        return int(requests.get(f"{self.store}/counted", timeout=60).text)


def compare(folder: Path, pairs: int) -> None:
    """Time and bytes sent at one size, memory at two."""
    archive = _file(folder / "archive.tar.gz", ARCHIVE_BYTES)
    with _serving(folder / "timed") as servers:
        found = alternate(_runner(servers, THEIRS, archive), _runner(servers, OURS, archive), pairs)
        servers.counted()
        run(servers.command(OURS, archive))
        sent = servers.counted() / ARCHIVE_BYTES
    print(f"publish and alias, {ARCHIVE_BYTES / 1e6:.0f} MB, {os.cpu_count()} processors")
    print(f"  three upload_file calls of boto3  {found.seconds()}")
    print(f"  takes {1 / found.ratio:.2f} times as long (aim 0.4), with three read-backs in it")
    print(f"  sends {sent:.4f} times the archive (aim at most {_MOST_SENT})")
    peaks = {}
    for size in (SMALL, LARGE):
        with _serving(folder / f"memory-{size}") as servers:
            large = _file(folder / f"{size}.tar.gz", size)
            peaks[size] = peak_anonymous(servers.command(OURS, large))
            large.unlink()
    told = ", ".join(f"{size / 1e6:.0f} MB: {peak / 1e6:.0f} MB" for size, peak in peaks.items())
    verdict = "flat" if peaks[LARGE] <= _GROWTH * peaks[SMALL] else "grows"
    print(f"  peak of anonymous memory  {told} ({verdict})")


def _runner(servers: _Servers, script: str, archive: Path) -> Callable[[], None]:
    return lambda: run(servers.command(script, archive))


def _file(path: Path, size: int) -> Path:
    """Bytes that do not compress, like those of an archive."""
    with path.open("wb") as target:
        for _ in range(size // _PIECE_BYTES):
            target.write(os.urandom(_PIECE_BYTES))
    return path


@contextmanager
def _serving(folder: Path) -> Iterator[_Servers]:
    folder.mkdir()
    command = [sys.executable, "-c", SERVE, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        addresses = json.loads(child.stdout.readline())
        try:
            yield _Servers(**addresses)
        finally:
            assert child.stdin
            child.stdin.close()
            child.wait(timeout=60)
