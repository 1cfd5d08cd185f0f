"""One world of the fault matrix: look-alikes on ports of their own, and a release at every stage.

A release is carried once through all its stages, and its whole folder, records and look-alikes
included, is kept before each stage that meets faults. A row starts from such a copy.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from fault_cli import CommandLine, Ended

from release_tool.rehearsal import environment, places, samples, serve, tiny_model
from release_tool.rehearsal.environment import Environment

VERSION = "0.5.0"
_RELEASE_FILE = Path(__file__).resolve().parent.parent / "release.yaml"
# Where a release stands before the stage that meets the fault.
BEFORE = {
    "sign": "assemble",
    "notarize": "sign",
    "staple": "notarize",
    "publish": "smoke",
    "register": "publish",
    "promote": "register",
    "github": "promote",
}
_BASE_TRIES = 3
SMALL, LARGE = "small.metallib", "large.metallib"
_LARGE_BYTES = 11 * 1024**2
_FILLED = 1024 * 1024
# A port that a client of somebody's got in between is free again soon.
_PORT_TRIES, _PORT_SECONDS = 60, 1.0
CAP_SECONDS = 240.0
"""What no command may take; a whole release takes five seconds where nothing else runs."""
# So that a row takes seconds: production waits for minutes, and proves no more.
_LIMITS = {
    # The least that the store takes, so that a large archive need not be very large.
    "part_bytes": 5 * 1024**2,
    "answer_seconds": 1.5,
    "pause_share": 0.15,
    "latest_poll_seconds": 4,
    "notary_wait_seconds": 6,
    "ticket_wait_seconds": 6,
}
_SERVED = (*("--cache-seconds", "0.3", "--processing-seconds", "0.1", "--ticket-seconds", "0.1"),)


@dataclass(frozen=True, kw_only=True)
class Said:
    """A command's end, and what it said."""

    ended: Ended
    text: str


@dataclass(kw_only=True)
class Site:
    """The folder of one row.

    Args:
        folder: holds everything; nothing is written outside of it.
        world: whose look-alikes and program are used.
    """

    folder: Path
    world: World
    library: str = SMALL
    """The Metal library that the release is made with, which makes its size."""

    @property
    def dist(self) -> Path:
        return self.folder / "dist"

    @property
    def state(self) -> Path:
        """Of the look-alikes."""
        return self.dist / "rehearsal" / "environment"

    @property
    def workspace(self) -> Path:
        """Of the release."""
        return self.dist / "rehearsal" / VERSION

    @contextmanager
    def served(self) -> Iterator[Environment]:
        """Serve the look-alikes of this folder, on the ports that they had."""
        options = serve.parser().parse_args([str(self.state), *_SERVED])
        ports = places.ports(self.state)
        wanted = ports.read_bytes() if ports.exists() else b""
        for _ in range(_PORT_TRIES):
            with serve.serving(self.state.resolve(), options):
                # Another address is another plan: what was published would be published again.
                if wanted in (b"", ports.read_bytes()):
                    living = environment.attach(self.state)
                    assert living is not None
                    yield living
                    break
            ports.write_bytes(wanted)
            time.sleep(_PORT_SECONDS)
        else:
            raise RuntimeError("somebody else has a port of these look-alikes")
        places.description(self.state).unlink(missing_ok=True)

    def run(self, *more: str, cap: float = CAP_SECONDS) -> Said:
        """Carry the release on, as a person or a job does."""
        parts = self.world.parts
        argv = ["run", "--env", "rehearsal", "--version", VERSION, "--dist", str(self.dist)]
        argv += ["--config", str(parts / "release.yaml"), "--model", str(parts / "model")]
        argv += ["--metallib", str(parts / self.library), *more]
        for name in ("home", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
        environ = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_CACHE_HOME": str(parts / "cache"),
        }
        out = self.folder / "said.txt"
        ended = self.world.program.run(argv, folder=self.folder, environ=environ, out=out, cap=cap)
        return Said(ended=ended, text=out.read_text(errors="replace"))


@dataclass(kw_only=True)
class World:
    """Look-alikes on ports of their own.

    Args:
        folder: an empty folder, removed by whoever made it.
        program: the loaded command line.
    """

    folder: Path
    program: CommandLine
    _rows: int = field(default=0, init=False)

    @property
    def parts(self) -> Path:
        """What every run is given."""
        return self.folder / "parts"

    def prepare(self) -> None:
        """Make what every run is given."""
        self.parts.mkdir(parents=True)
        (self.parts / SMALL).write_bytes(samples.metallib())
        (self.parts / LARGE).write_bytes(_large())
        tiny_model.make(self.parts / "model")
        told = yaml.safe_load(_RELEASE_FILE.read_text(encoding="utf-8"))
        told["limits"] |= _LIMITS
        (self.parts / "release.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")

    def _carry(self, stage: str, library: str) -> Path:
        """Carry the release to a stage, and keep it there; returns what was kept."""
        kept = self.folder / "kept" / library / stage
        if kept.exists():
            return kept
        base = Site(folder=self.folder / f"base-{library}", world=self, library=library)
        base.state.mkdir(parents=True, exist_ok=True)
        for each, before in BEFORE.items():
            here = self.folder / "kept" / library / each
            if not here.exists():
                with base.served():
                    self._bring(base, before)
                shutil.copytree(base.dist, here, symlinks=True)
            if each == stage:
                break
        return kept

    def _bring(self, base: Site, stage: str) -> None:
        """Run up to a stage; again where a busy machine kept a bound of the smoke run."""
        text = ""
        for _ in range(_BASE_TRIES):
            said = base.run("--until", stage)
            if said.ended.code == 0:
                return
            text = said.text
        raise RuntimeError(text)

    @contextmanager
    def site(self, stage: str, library: str = SMALL) -> Iterator[Site]:
        """A release that stands before a stage, in a folder that is removed afterwards."""
        self._rows += 1
        made = Site(folder=self.folder / f"row-{self._rows}", world=self, library=library)
        made.folder.mkdir()
        shutil.copytree(self._carry(stage, library), made.dist, symlinks=True)
        try:
            yield made
        finally:
            shutil.rmtree(made.folder)


def _large() -> bytes:
    """A library that makes an archive of three parts: its filler does not compress."""
    bare = samples.metallib(_LARGE_BYTES)
    noise = random.Random(1).randbytes(_LARGE_BYTES - _FILLED)  # noqa: S311 - filler
    return bare[:_FILLED] + noise
