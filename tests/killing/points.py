"""The moments at which a run can be killed, seen from inside of its process.

A point is named by the stage, the operation and its object, and by how often that came before:
polls differ from run to run, so a number alone would mean another moment each time.
"""

from __future__ import annotations

import http.client
import os
import re
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from release_tool import pipeline

BEFORE_ALL, TORN = "start", "torn"
# What is left of a file whose writer was killed in the middle.
_TORN_BYTES = 5
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_NAMING = {
    "os.rename": "rename",
    "os.link": "link",
    "os.symlink": "symlink",
    "os.mkdir": "mkdir",
    "os.remove": "remove",
    "os.rmdir": "rmdir",
    "os.truncate": "truncate",
}
# Random or counted parts of names; what stays says what the object is.
_VOLATILE = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"[0-9a-f]{64}"), "<sha256>"),
    (re.compile(r"\.[a-z0-9_]{8}\.part$"), ".<random>.part"),
    (re.compile(r"(\.json)\.\d+$"), r"\1.<pid>"),
    (re.compile(r"(?<=/)tmp[a-z0-9_]{8}"), "tmp<random>"),
    # Where the standard library tries whether the folder for scratch can be written.
    (re.compile(r"^tmp/[a-z0-9_]{8}$"), "tmp/<random>"),
    (re.compile(r"(?<=/release-tool-smoke-)\d+-[a-z0-9_]{8}"), "<pid>-<random>"),
    (re.compile(r"(?<=/notary-submissions-)[0-9a-f]{8}"), "<random>"),
    (re.compile(r"(?<=/AROA)[0-9A-F]{16}"), "<random>"),
    (re.compile(r"(?<=/assets/)\d+|(?<=/releases/)\d+"), "<number>"),
)


@dataclass
class Points:
    """Sees each point of this process; notes it, or dies at the one that is wanted.

    Args:
        folder: of the run; writes elsewhere are nobody's business here.
        others: folders below it that belong to the look-alikes.
        version: of the release, left out of names.
        prefix: of names, by what runs.
        wanted: the name of the point at which to die; empty to note them all.
        journal: where names go.
    """

    folder: Path
    others: tuple[Path, ...]
    version: str
    prefix: str = ""
    wanted: str = ""
    journal: TextIO | None = None
    stage: str = BEFORE_ALL
    _seen: Counter[str] = field(default_factory=Counter)

    def install(self) -> None:
        """From now on everything is seen; this cannot be undone in a process."""
        self._follow_stages()
        self._follow_requests()
        self._follow_children()
        fsync = os.fsync

        def before_fsync(descriptor: int) -> None:
            self._on_path("fsync", _of_descriptor(descriptor))
            fsync(descriptor)

        os.fsync = before_fsync  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def _audit(self, event: str, details: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = details
            if isinstance(path, str | bytes | os.PathLike) and flags & _WRITING:
                self._on_path("open", os.fsdecode(path), torn=True)
        elif event in _NAMING and (place := _place(event, details)):
            self._on_path(_NAMING[event], place)

    def _on_path(self, operation: str, path: str, *, torn: bool = False) -> None:
        whole = Path.cwd() / path
        if not whole.is_relative_to(self.folder):
            return
        if any(whole.is_relative_to(other) for other in self.others):
            return
        shown = str(whole.relative_to(self.folder))
        self.reach(operation, shown)
        if torn:
            self.reach(TORN, shown)

    def reach(self, operation: str, shown: str) -> None:
        """A point: note it, or die here."""
        for pattern, plain in _VOLATILE:
            shown = pattern.sub(plain, shown)
        shown = shown.replace(self.version, "<version>")
        name = f"{self.prefix}{self.stage} {operation} {shown}"
        self._seen[name] += 1
        name = f"{name} #{self._seen[name]}"
        if self.journal is not None:
            self.journal.write(f"{name}\n")
            self.journal.flush()
        if name == self.wanted:
            _tear() if operation == TORN else os.kill(os.getpid(), signal.SIGKILL)

    def _follow_stages(self) -> None:
        one = pipeline.Run._one

        def during(run: pipeline.Run, stage: Any, values: Any) -> Any:  # noqa: ANN401
            self.stage = stage.name
            try:
                return one(run, stage, values)
            finally:
                self.stage = "end" if stage.name == run.steps[-1].name else BEFORE_ALL

        pipeline.Run._one = during  # type: ignore[method-assign, assignment]

    def _follow_requests(self) -> None:
        putrequest = http.client.HTTPConnection.putrequest
        getresponse = http.client.HTTPConnection.getresponse

        def before(connection: Any, method: str, url: str, *rest: Any, **more: Any) -> None:  # noqa: ANN401
            connection.point = f"{method} {url.partition('?')[0]}"
            self._on_request("before", connection)
            putrequest(connection, method, url, *rest, **more)

        def around(connection: Any, *rest: Any, **more: Any) -> Any:  # noqa: ANN401
            self._on_request("sent", connection)
            answer = getresponse(connection, *rest, **more)
            self._on_request("answered", connection)
            return answer

        http.client.HTTPConnection.putrequest = before  # type: ignore[assignment]
        http.client.HTTPConnection.getresponse = around  # type: ignore[assignment]

    def _on_request(self, when: str, connection: Any) -> None:  # noqa: ANN401
        # The embedded environment is asked whether it lives; no release does that.
        if not connection.point.endswith(" /alive"):
            self.reach(when, connection.point)

    def _follow_children(self) -> None:
        begin: Callable[..., None] = subprocess.Popen.__init__

        def around(process: Any, command: Any, *rest: Any, **more: Any) -> None:  # noqa: ANN401
            shown = Path(command[-1] if isinstance(command, list) else command).name
            self.reach("before child", shown)
            begin(process, command, *rest, **more)
            self.reach("started child", shown)

        subprocess.Popen.__init__ = around  # type: ignore[assignment]


def _place(event: str, details: tuple[Any, ...]) -> str:
    """The path of an audit event, a rename's and a link's new one; empty where nothing changes."""
    names = [os.fsdecode(one) for one in details if isinstance(one, str | bytes | os.PathLike)]
    name = names[-1] if names else ""
    if event == "os.mkdir" and Path(name).exists():
        return ""
    folder = details[-1]
    if event in ("os.remove", "os.rmdir") and isinstance(folder, int) and folder >= 0:
        # Inside of a whole tree that goes: each name would be a point of its own.
        return f"{_of_descriptor(folder)}/<one of all>"
    return name


def _of_descriptor(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _tear() -> None:
    """Let the kernel kill this process in the middle of its next write to a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_TORN_BYTES, _TORN_BYTES))
