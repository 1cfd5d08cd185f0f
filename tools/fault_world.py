"""One world of the fault matrix: look-alikes on ports of their own, and a release at every stage.

A release is carried once through all its stages, and its whole folder, records and look-alikes
included, is kept before each stage that meets faults. A row starts from such a copy. There is one
such release for each shape: as usual, without an administrator's key, for a coordinator of
October, and one that is taken back.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from fault_cli import CommandLine, Ended

from release_tool.rehearsal import environment, places, samples, serve, tiny_model, wire
from release_tool.rehearsal.environment import Environment
from release_tool.rehearsal.registration import AUTUMN, MAY, Contract
from release_tool.services import release_keys
from release_tool.stages import approval

VERSION = "0.5.0"
WITHDRAWN = "0.5.1"
"""What a rollback to `VERSION` withdraws."""
ROLLBACK = "rollback"
PENDING = 8
_NAME = "darkbloom-bundle-macos-arm64.tar.gz"
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


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a release is made for, and what stands before it."""

    name: str
    contract: Contract = MAY
    has_administrator: bool = True
    """Whether the run is given an administrator's key for the coordinator."""
    earlier: tuple[str, ...] = ()
    """Versions that were released before, oldest first."""
    before: Mapping[str, str] = field(default_factory=lambda: BEFORE)
    """By the stage that meets a fault, the one up to which the release was carried; none for a
    rollback."""


USUAL = Shape(name="usual")
# An earlier release is served, so that the answers hold something to be spoilt.
KEYLESS = Shape(
    name="keyless",
    has_administrator=False,
    earlier=("0.4.9",),
    before={"register": "publish"},
)
OCTOBER = Shape(
    name="october",
    contract=AUTUMN,
    before={"publish": "smoke", "register": "publish", "promote": "register"},
)
BACK = Shape(name="rollback", earlier=(VERSION, WITHDRAWN), before={ROLLBACK: ""})
SHAPES = {shape.name: shape for shape in (USUAL, KEYLESS, OCTOBER, BACK)}
_BASE_TRIES = 3
SMALL, LARGE = "small.metallib", "large.metallib"
_LARGE_BYTES = 11 * 1024**2
_FILLED = 1024 * 1024
_TREE = "tree"
# A port that a client of somebody's got in between is free again soon.
_PORT_TRIES, _PORT_SECONDS = 60, 1.0
# Late by seconds; a coordinator's download on a busy machine takes as long again.
_SETTLE_SECONDS, _LOOK_SECONDS = 60.0, 0.05
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
    shape: Shape = USUAL

    @property
    def dist(self) -> Path:
        return self.folder / "dist"

    @property
    def state(self) -> Path:
        """Of the look-alikes."""
        return self.dist / "rehearsal" / "environment"

    @property
    def workspace(self) -> Path:
        """Of the release, or of the rollback."""
        return self.dist / "rehearsal" / (ROLLBACK if self.shape is BACK else VERSION)

    def archive_key(self, sha256: str) -> str:
        """Where a version's archive stands."""
        if self.shape.contract == AUTUMN:
            return release_keys.by_digest("releases", VERSION, sha256, _NAME)
        return release_keys.beside("releases", VERSION, _NAME)

    @contextmanager
    def served(self) -> Iterator[Environment]:
        """Serve the look-alikes of this folder, on the ports that they had."""
        words = [str(self.state), *_SERVED, "--contract", self.shape.contract]
        options = serve.parser().parse_args(words)
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

    def run(self, *more: str, version: str = VERSION, cap: float = CAP_SECONDS) -> Said:
        """Carry the release on, as a person or a job does."""
        parts = self.world.parts
        argv = ["run", "--env", "rehearsal", "--version", version, "--dist", str(self.dist)]
        argv += ["--config", str(self._config), "--model", str(parts / "model")]
        argv += ["--metallib", str(parts / self.library), *more]
        return self._said(argv, cap)

    def roll_back(self) -> Said:
        """Take the later release back, as a job does."""
        argv = ["rollback", "--env", "rehearsal", "--dist", str(self.dist), "--yes"]
        argv += ["--config", str(self._config), "--to", VERSION, "--deactivate", WITHDRAWN]
        argv += ["--reason", "no start", "--by", "night shift"]
        return self._said(argv, CAP_SECONDS)

    def follow(self, said: Said, living: Environment) -> None:
        """Do what an advice asks of others, before the command is run again."""
        request = self.workspace / approval.REQUEST
        if said.ended.code == PENDING and request.is_file():
            living.approve(json.loads(request.read_bytes()), evidence="it ran on a Mac")

    @property
    def _config(self) -> Path:
        return self.world.parts / f"{self.shape.name}.yaml"

    def _said(self, argv: list[str], cap: float) -> Said:
        for name in ("home", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
        environ = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_CACHE_HOME": str(self.world.parts / "cache"),
        }
        folder = self.folder
        if self.shape.contract == AUTUMN:
            # An approval binds the commit and the run that built the release.
            environ["RELEASE_CI_RUN_ID"] = "17041704"
            folder = self.world.parts / _TREE
        out = self.folder / "said.txt"
        ended = self.world.program.run(argv, folder=folder, environ=environ, out=out, cap=cap)
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
        _make_tree(self.parts / _TREE)
        for shape in SHAPES.values():
            text = yaml.safe_dump(_release_file(shape))
            (self.parts / f"{shape.name}.yaml").write_text(text, encoding="utf-8")

    def _carry(self, stage: str, library: str, shape: Shape) -> Path:
        """Carry the release to a stage, and keep it there; returns what was kept."""
        kept = self.folder / "kept" / shape.name / library
        folder = self.folder / f"base-{shape.name}-{library}"
        base = Site(folder=folder, world=self, library=library, shape=shape)
        if not base.state.exists():
            base.state.mkdir(parents=True)
            with base.served():
                for version in shape.earlier:
                    self._bring(base, version=version)
        for each, before in shape.before.items():
            if (kept / stage).exists():
                break
            if not (kept / each).exists():
                self._advance(base, each, before)
                shutil.copytree(base.dist, kept / each, symlinks=True)
        return kept / stage

    def _advance(self, base: Site, stage: str, before: str) -> None:
        """Carry a release on to where it stands right before a stage."""
        if not before:
            return
        with base.served() as living:
            self._bring(base, "--until", before)
            if stage == "register" and base.shape.contract == AUTUMN:
                said = base.run("--until", stage)
                if said.ended.code != PENDING:
                    raise RuntimeError(said.text)
                base.follow(said, living)

    def _bring(self, base: Site, *to: str, version: str = VERSION) -> None:
        """Run up to a stage; again where a busy machine kept a bound of the smoke run."""
        text = ""
        for _ in range(_BASE_TRIES):
            said = base.run(*to, version=version)
            if said.ended.code == 0:
                return
            text = said.text
        raise RuntimeError(text)

    @contextmanager
    def site(self, stage: str, library: str = SMALL, shape: Shape = USUAL) -> Iterator[Site]:
        """A release that stands before a stage, in a folder that is removed afterwards."""
        self._rows += 1
        folder = self.folder / f"row-{self._rows}"
        made = Site(folder=folder, world=self, library=library, shape=shape)
        made.folder.mkdir()
        shutil.copytree(self._carry(stage, library, shape), made.dist, symlinks=True)
        try:
            yield made
        finally:
            shutil.rmtree(made.folder)


def settled(living: Environment) -> wire.Report:
    """Wait until every late request was handled: what comes of it is judged as well.

    Returns:
        What came over the wire.

    Raises:
        RuntimeError: a request is handled for longer than any takes.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while (report := living.wire_report()).outstanding:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{report.outstanding} late requests are still not handled")
        time.sleep(_LOOK_SECONDS)
    return report


def _release_file(shape: Shape) -> dict[str, object]:
    told: dict[str, Any] = yaml.safe_load(_RELEASE_FILE.read_text(encoding="utf-8"))
    told["limits"] |= _LIMITS
    told["coordinator"]["contract"] = shape.contract
    rehearsal = told["environments"]["rehearsal"]
    rehearsal["require_qualification"] = shape.contract == AUTUMN
    rehearsal["fleet_watch"] = "required" if shape.has_administrator else "unchecked"
    if shape is not USUAL:
        # None of their faults meets the smoke run, which takes longer than all else together.
        told["smoke"] |= {"prompts": told["smoke"]["prompts"][:1], "concurrency": [1]}
    return told


def _make_tree(folder: Path) -> None:
    """A checkout with one commit: what an approval binds must be known."""
    folder.mkdir()
    (folder / "README").write_text("source\n", encoding="utf-8")
    who = ("-c", "user.name=look-alike", "-c", "user.email=look-alike@localhost")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "source")):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def _large() -> bytes:
    """A library that makes an archive of three parts: its filler does not compress."""
    bare = samples.metallib(_LARGE_BYTES)
    noise = random.Random(1).randbytes(_LARGE_BYTES - _FILLED)  # noqa: S311 - filler
    return bare[:_FILLED] + noise
