"""Put an archive where users get it, as whole processes, against three `aws s3 cp` of that file.

The look-alikes of the store and of its public address run in a process of their own. Ours hashes
the archive, uploads it once, reads the public address back, moves the pointer, copies two aliases
inside the store and reads them back too; theirs uploads three times and looks at nothing.

These are the calls of the stages `publish` and `promote`, not the stages: there is no ledger, no
look for a tombstone or another archive of the version, and the download is hashed, not unpacked
and judged from the seal down (`bench_app` measures what judging costs). The archive is random.

`Expect: 100-continue` is answered here, as R2 does not: theirs would wait a second for each part.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import bench_aws
import requests
from bench_aims import Aims
from bench_app import peak_anonymous
from bench_pairs import alternate, run

from release_tool.services import multipart_upload

ARCHIVE_BYTES = 250_000_000
SIZES = (10_000_000, ARCHIVE_BYTES, 2_000_000_000)
NAMES = ("a.tar.gz", "latest/a.tar.gz", "latest/b.tar.gz")
_PIECE_BYTES = 1_000_000
_MOST_SENT = 1.01
_MOST_TIME = 0.4
_TIMES_FASTER = 5
_MEASURED = (
    "our calls of the store, not the stages around them: no records, no tombstone, nothing unpacked"
)

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
with servers.Server(counted, handler=servers.ContinuingHandler) as one, servers.Server(
        public_bucket.PublicBucket(index, broken=broken)) as two:
    print(json.dumps({"store": one.url, "public": two.url}), flush=True)
    sys.stdin.read()
"""

OURS = """
import sys
from pathlib import Path
from types import SimpleNamespace
from release_tool.files import hashing
from release_tool.progress import Silent
from release_tool.services import public_url
from release_tool.services.object_store import ObjectStore
from release_tool.services.release_pointer import Pointer
from release_tool.stages.aliases import Aliases
archive, run, endpoint, public = Path(sys.argv[1]), *sys.argv[2:]
store = ObjectStore(endpoint=endpoint, bucket="releases", access_key_id=lambda: "BENCH",
                    secret_access_key=lambda: "bench")
digest, quiet = hashing.sha256_of(archive), Silent()
key = f"{run}/a.tar.gz"
store.create(key, archive, sha256=digest, version="0.5.0", reporter=quiet)
served = public_url.read(f"{public}/{key}", limit_bytes=2 << 30, seconds=600, reporter=quiet)
assert served.sha256 == digest
plan = SimpleNamespace(
    publish=SimpleNamespace(prefix=run, legacy_aliases=("b.tar.gz",)),
    archive=SimpleNamespace(name="a.tar.gz"))
here = Pointer(version="0.5.0", platform="macos-arm64", key=key, url=f"{public}/{key}",
               sha256=digest, size=archive.stat().st_size)
moved = Aliases(plan=plan, store=store, reporter=quiet, target=here,
                permit=lambda key, version: None, confirm=lambda: None).move()
assert len(moved) == 2
"""


@dataclass(frozen=True)
class _Servers:
    store: str
    public: str
    runs: Iterator[int] = field(default_factory=count)

    def ours(self, archive: Path) -> list[str]:
        """A run under keys of its own: the store takes one write a second for each key."""
        name = f"run-{next(self.runs)}"
        return [sys.executable, "-c", OURS, str(archive), name, self.store, self.public]

    def theirs(self, aws: bench_aws.Aws, archive: Path) -> None:
        """Three uploads, also under keys of their own."""
        name = f"run-{next(self.runs)}"
        for key in NAMES:
            aws.copy(archive, f"s3://releases/{name}/{key}", self.store)

    def counted(self) -> int:
        """Bytes of the requests, heads and bodies, since it was asked last."""
        return int(requests.get(f"{self.store}/counted", timeout=60).text)


def compare(folder: Path, pairs: int, aims: Aims) -> None:
    """Time and bytes sent at one size, memory at three."""
    archive = _file(folder / "archive.tar.gz", ARCHIVE_BYTES)
    aws = _aws(folder)
    with serving(folder / "timed") as servers:
        found = alternate(
            lambda: servers.theirs(aws, archive), lambda: run(servers.ours(archive)), pairs
        )
        servers.counted()
        run(servers.ours(archive))
        sent = servers.counted() / ARCHIVE_BYTES
    archive.unlink()
    time_aim = aims.at_most("publish: time", 1 / found.ratio, _MOST_TIME)
    sent_aim = aims.at_most("publish: bytes sent", sent, _MOST_SENT)
    print(f"upload and alias, {ARCHIVE_BYTES / 1e6:.0f} MB, {os.cpu_count()} processors")
    print(f"  {_MEASURED}")
    print(f"  three aws s3 cp  {found.seconds()}")
    print(f"  takes {1 / found.ratio:.2f} times as long {time_aim}, with three read-backs in it")
    print(f"  sends {sent:.4f} times the archive {sent_aim}")
    peaks = {size: _peak(folder, size) for size in SIZES}
    print(f"  peak of anonymous memory  {aims.flat('publish: memory', peaks)}")
    above = [size for size in sorted(peaks) if size >= multipart_upload.Parts().above_bytes]
    if len(above) > 1 and above[0] != min(peaks):
        inner = peaks[above[-1]] / peaks[above[0]]
        print(f"    of it {inner:.2f} times from {above[0] / 1e6:.0f} MB, the rest below: what is")
        print("    smaller goes in one request, the others in four at a time, each with a thread")


def compare_release(
    folder: Path, bundle: Path, pack: Sequence[str], pairs: int, aims: Aims
) -> None:
    """From a bundle's files to its place, against tar, three shasums and three uploads.

    Args:
        folder: for scratch.
        bundle: what is packed.
        pack: the command of ours that packs and hashes; the archive's path comes behind it.
        pairs: how often.
        aims: where a miss is noted.
    """
    aws = _aws(folder)
    packed, tarred = folder / "ours.tar.gz", folder / "theirs.tar.gz"
    with serving(folder / "released") as servers:

        def shell() -> None:
            run(["tar", "czf", str(tarred), "-C", str(bundle), "."])
            for _ in NAMES:
                run(["shasum", "-a", "256", str(tarred)])
            servers.theirs(aws, tarred)

        def tool() -> None:
            run([*pack, str(packed)])
            run(servers.ours(packed))

        found = alternate(shell, tool, pairs)
    aim = aims.at_least("archive, hash and publish: times faster", found.ratio, _TIMES_FASTER)
    print("archive, hash, upload and alias a bundle of 250 MB")
    print(f"  {_MEASURED}")
    print(f"  tar czf, three shasum, three aws s3 cp  {found.seconds()}")
    print(f"  {found.ratio:.1f} times faster {aim}")


def _aws(folder: Path) -> bench_aws.Aws:
    return bench_aws.install(folder / "aws", ("BENCH", "bench"))


def _peak(folder: Path, size: int) -> int:
    with serving(folder / f"memory-{size}") as servers:
        archive = _file(folder / f"{size}.tar.gz", size)
        peak = peak_anonymous(servers.ours(archive))
    archive.unlink()
    shutil.rmtree(folder / f"memory-{size}")
    return peak


def _file(path: Path, size: int) -> Path:
    """Bytes that do not compress, like those of an archive."""
    with path.open("wb") as target:
        for _ in range(size // _PIECE_BYTES):
            target.write(os.urandom(_PIECE_BYTES))
    return path


@contextmanager
def serving(folder: Path) -> Iterator[_Servers]:
    """The look-alikes in a process of their own, empty."""
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
