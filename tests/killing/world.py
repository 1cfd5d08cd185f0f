"""One worker's place: a workspace, its look-alikes, and snapshots of both before each stage.

Everything that a run imports is imported here once, and each run is a fork of this process; so
this process must never start a thread.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import boto3  # noqa: F401 - for the forks

from release_tool.cli import entry, rehearse  # noqa: F401 - for the forks
from release_tool.cli import main as whole_program  # noqa: F401 - for the forks
from release_tool.rehearsal import environment, places, samples, serve, tiny_model
from release_tool.rehearsal.registration import AUTUMN
from release_tool.services import release_keys
from release_tool.stages import approval
from tests import git_trees
from tests.killing.courses import END, RELEASE, ROLLBACK, VERSION, WITHDRAWN, Course
from tests.killing.points import Points

ARCHIVE = "darkbloom-bundle-macos-arm64.tar.gz"
ALIASES = tuple(
    f"releases/latest/{name}" for name in (ARCHIVE, "eigeninference-bundle-macos-arm64.tar.gz")
)
LOG, LOG_HEAD = "releases/log.jsonl", "releases/log.head.json"
POINTER = "releases/latest/release.json"
PENDING = 8
_READY_SECONDS = 30.0
_RUN_SECONDS = 120


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    status: int
    """The exit code, or the negative number of a signal."""
    output: str


@dataclass
class World:
    """Workspace and look-alikes of one worker.

    Args:
        folder: everything is below it.
        course: what is carried on there.
    """

    folder: Path
    course: Course = RELEASE
    _served: int = field(default=0, init=False)
    _carried: bool = field(default=False, init=False)
    """Whether the earlier releases are there."""

    def __post_init__(self) -> None:
        self.dist.mkdir(parents=True)
        self.temporary.mkdir()
        self.metallib = self.folder / "sample.metallib"
        self.metallib.write_bytes(samples.metallib(50_000))
        self.model = tiny_model.make(self.folder / "model")
        (self.folder / "release.yaml").write_text(self.course.release_file(), encoding="utf-8")
        if self.course.contract == AUTUMN:
            # An approval binds the commit that the release was built from.
            self._place.mkdir()
            git_trees.git(self._place, "init", "-q")
            git_trees.commit(self._place, "source")

    @property
    def _place(self) -> Path:
        """Where runs begin: beside no checkout, whose changes would be another release's source."""
        return self.folder / "tree" if self.course.contract == AUTUMN else self.folder

    @property
    def dist(self) -> Path:
        return self.folder / "dist"

    @property
    def state(self) -> Path:
        return self.dist / "rehearsal" / "environment"

    @property
    def workspace(self) -> Path:
        return self.dist / "rehearsal" / (ROLLBACK if self.course.is_rollback else VERSION)

    def archive_key(self, sha256: str) -> str:
        """Where the version's archive stands."""
        if self.course.contract == AUTUMN:
            return release_keys.by_digest("releases", VERSION, sha256, ARCHIVE)
        return release_keys.beside("releases", VERSION, ARCHIVE)

    def content(self, sha256: str) -> bytes:
        """What stands in the bucket, by its digest."""
        return (places.objects(self.state) / "content" / sha256).read_bytes()

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def run(
        self, *further: str, wanted: str = "", journal: Path | None = None, version: str = VERSION
    ) -> Ended:
        """Run the course's command to its end, or to the point at which it dies."""
        words = self._words(version, *further)

        def inside() -> None:
            os.chdir(self._place)
            sys.argv = ["release-tool", *words]
            points = Points(
                folder=self.folder,
                others=(self.state,),
                version=VERSION,
                prefix=self.course.prefix,
                wanted=wanted,
                journal=journal.open("w") if journal else None,
            )
            points.install()
            entry.main()

        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.temporary),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        if self.course.contract == AUTUMN:
            environ["RELEASE_CI_RUN_ID"] = "17041704"
        return _forked(inside, environ)

    def _words(self, version: str, *further: str) -> list[str]:
        dist = ["--dist", str(self.dist)]
        given = ["--metallib", str(self.metallib), "--model", str(self.model), *further]
        if self.course is RELEASE:
            return ["rehearse", "--keep", "--version", version, *dist, *given]
        where = ["--env", "rehearsal", "--config", str(self.folder / "release.yaml"), *dist]
        if self.course.is_rollback and version == VERSION and self._carried:
            words = ["rollback", "--to", VERSION, "--deactivate", WITHDRAWN, "--yes"]
            return [*words, "--reason", "no start", "--by", "night shift", *where]
        return ["run", "--version", version, *where, *given]

    def finish(self, *until: str) -> Ended:
        """Run again, and once more where an administrator had to approve the build first."""
        ended = self.run(*until)
        return self.run(*until) if ended.status == PENDING and self._approve() else ended

    def _approve(self) -> bool:
        """What a run that waits for an approval asks for."""
        request = self.workspace / approval.REQUEST
        if self.course.contract != AUTUMN or not request.is_file():
            return False
        living = environment.attach(self.state)
        assert living is not None
        living.approve(json.loads(request.read_bytes()), evidence="it ran on a Mac")
        return True

    def serve(self) -> None:
        """Start the look-alikes on the state that lies here."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        words = [str(self.state), "--cache-seconds", "0.2"]
        words += ["--processing-seconds", "0.05", "--ticket-seconds", "0.05"]
        words += ["--contract", self.course.contract]
        if (pid := os.fork()) == 0:
            _become(places.log(self.state))
            os.setsid()
            _leave(lambda: sys.exit(serve.main(words)))
        self._served = pid
        deadline = time.monotonic() + _READY_SECONDS
        while environment.attach(self.state) is None:
            if time.monotonic() > deadline:
                message = "the look-alikes did not start"
                raise RuntimeError(message)
            time.sleep(0.01)

    def stop(self) -> None:
        """End the look-alikes, and wait until they are gone."""
        if self._served:
            os.kill(self._served, signal.SIGTERM)
            os.waitpid(self._served, 0)
            self._served = 0

    @property
    def served(self) -> int:
        return self._served

    def snapshots(self, stages: Collection[str]) -> None:
        """Carry one release through, and keep what lies here before these, and at the end."""
        self.serve()
        for version in self.course.earlier:
            self._carry(version=version)
        self._carried = True
        steps = self.course.steps
        for number, stage in enumerate((*steps, END)):
            if stage in stages or stage == END:
                if number:
                    self._carry(
                        *(() if self.course.is_rollback else ("--until", steps[number - 1]))
                    )
                if stage == "register" and self.course.contract == AUTUMN:
                    self.run("--until", stage)
                    self._approve()
                self.stop()
                self._keep(stage)
                self.serve()

    def _carry(self, *further: str, version: str = VERSION) -> None:
        ended = self.run(*further, version=version)
        if ended.status == PENDING and self._approve():
            ended = self.run(*further, version=version)
        if ended.status != 0:
            raise RuntimeError(ended.output)

    def restore(self, stage: str) -> None:
        """Put back what lay here before a stage, and serve it."""
        self.stop()
        shutil.rmtree(self.dist)
        shutil.rmtree(self.temporary)
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        self.temporary.mkdir()
        shutil.copytree(self.snapshot(stage), self.dist, symlinks=True)
        self.serve()

    def snapshot(self, stage: str) -> Path:
        return self.folder / "snapshots" / stage

    def _keep(self, stage: str) -> None:
        shutil.copytree(self.dist, self.snapshot(stage), symlinks=True)


def _forked(inside: Callable[[], None], environ: Mapping[str, str]) -> Ended:
    # A pipe: a limit on the size of files must not meet what the run prints.
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(reading)
        os.environ.clear()
        os.environ.update(environ)
        signal.alarm(_RUN_SECONDS)
        _become(writing)
        _leave(inside)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as told:
        output = told.read()
    _, status = os.waitpid(pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), output)


def _become(output: Path | int) -> None:
    """Give this fork standard streams of its own, and the signals of a new process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if isinstance(output, Path):
        output = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "wb", closefd=False), line_buffering=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "wb", closefd=False), line_buffering=True)


def _leave(inside: Callable[[], None]) -> None:
    """Run the fork's work and end the process; nothing of the worker goes on in it."""
    code = 0
    try:
        inside()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
