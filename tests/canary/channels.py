"""Where a secret could leave: outputs, files, and what children are started with."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from release_tool.cli.session import Session
from tests.canary import sources
from tests.canary.child import sitecustomize
from tests.canary.needles import Needles

CANARY_VARIABLE = "RELEASE_TOOL_CANARY"
"""Stands in the environment of every process of the tool, and in that of no child of one."""
_REPORT_VARIABLE = "RELEASE_TOOL_WATCH"
_HOOKS = Path(sitecustomize.__file__).parent
_FILE_BYTES = 32 * 1024 * 1024
"""Of a larger file, the beginning: no test's own is larger but for whole bundles."""
_TEXT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Exempt:
    """A place where a secret stands by design."""

    kind: str
    """`file` or `spawn`."""
    module: str
    """Of the tool, as far as it must agree."""
    place: str
    """What the path or the arguments hold."""
    names: tuple[str, ...]
    """The secrets that may stand there; empty for all."""
    why: str


UPLOAD = ("access_key_id", "secret_access_key", "session_token")
BY_DESIGN = (
    Exempt(
        "file",
        "release_tool.",
        "/secrets/",
        (),
        "the embedded environment keeps its own secrets, readable to this user alone",
    ),
    Exempt(
        "file",
        "release_tool.",
        "/notary/",
        UPLOAD,
        "the look-alike notary must know the temporary credentials that it gave",
    ),
    Exempt(
        "file",
        "release_tool.",
        "/.notary/",
        UPLOAD,
        "Apple gives the credentials of an upload once; a killed upload goes on with them",
    ),
    Exempt(
        "spawn",
        "release_tool.services.password_prompt",
        "--apple-id",
        ("APPLE_ID",),
        "notarytool takes the account's name as an argument; its password goes to a prompt",
    ),
)


@dataclass
class Channels:
    """What came out since the last test."""

    folder: Path
    """For reports of children."""
    needles: Needles
    said: list[tuple[str, str | bytes]] = field(default_factory=list)
    """Channel and text."""
    events: list[tuple[str, str, Any]] = field(default_factory=list)
    """What the hooks of this process and of children observed."""
    streams: dict[int, io.StringIO] = field(default_factory=dict)
    """What commands print to inside a test."""
    waiting: list[Path] = field(default_factory=list)
    """Reports of children that may still grow."""
    _count: int = 0
    _busy: threading.local = field(default_factory=threading.local)

    # How it listens.

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Listen to everything, until the patches are taken back."""
        patch.setenv(CANARY_VARIABLE, f"canary-of-the-environment-{os.getpid()}")
        self.needles.add(CANARY_VARIABLE, os.environ[CANARY_VARIABLE], keep=True)
        self._listen_to_sessions(patch)
        self._listen_to_captures(patch)
        self._listen_to_children(patch)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            found = sitecustomize.observed(event, arguments)
            if found is not None:
                self.events.append(found)
        except Exception:
            return
        finally:
            self._busy.now = False

    def _listen_to_sessions(self, patch: pytest.MonkeyPatch) -> None:
        inner = Session.__init__

        def listening(session: Session, *arguments: Any, **given: Any) -> None:  # noqa: ANN401
            inner(session, *arguments, **given)
            sources.from_environment(self.needles, session.environ)
            for told in (session.out, session.err):
                # In a job a guard stands before the stream.
                stream = getattr(told, "stream", told)
                if isinstance(stream, io.StringIO):
                    self.streams[id(stream)] = stream

        patch.setattr(Session, "__init__", listening)

    def _listen_to_captures(self, patch: pytest.MonkeyPatch) -> None:
        inner = pytest.CaptureFixture.readouterr

        def listening(capture: pytest.CaptureFixture[Any]) -> Any:  # noqa: ANN401
            read = inner(capture)
            self.said += [("standard output", read.out), ("standard error", read.err)]
            return read

        patch.setattr(pytest.CaptureFixture, "readouterr", listening)

    def _listen_to_children(self, patch: pytest.MonkeyPatch) -> None:
        start, communicate = subprocess.Popen.__init__, subprocess.Popen.communicate

        def listening(child: Any, words: Any, *more: Any, **given: Any) -> None:  # noqa: ANN401
            if not more and _is_the_tool(words) and not _by_the_tool():
                given["env"] = self._watched(given.get("env"))
            start(child, words, *more, **given)

        def hearing(child: Any, *arguments: Any, **given: Any) -> Any:  # noqa: ANN401
            said = communicate(child, *arguments, **given)
            if not _by_the_tool():
                self.said += [("what a child prints", text) for text in said if text]
            return said

        patch.setattr(subprocess.Popen, "__init__", listening)
        patch.setattr(subprocess.Popen, "communicate", hearing)

    def _watched(self, environ: Mapping[str, str] | None) -> dict[str, str]:
        """The environment of a process of the tool that a test starts."""
        chosen = dict(os.environ if environ is None else environ)
        sources.from_environment(self.needles, chosen)
        self._count += 1
        report = self.folder / f"child-{self._count}"
        self.waiting.append(report)
        places = [str(_HOOKS), chosen.get("PYTHONPATH", "")]
        return chosen | {
            "PYTHONPATH": os.pathsep.join(place for place in places if place),
            _REPORT_VARIABLE: str(report),
            CANARY_VARIABLE: os.environ[CANARY_VARIABLE],
        }

    # What it heard.

    def leaks(self) -> list[str]:
        """Where a secret was found since the last call; what was heard is forgotten."""
        events, self.events = [*self.events, *self._reported()], []
        said, self.said = self.said, []
        said += [("what a command prints", _text_of(one)) for one in self.streams.values()]
        self.streams = {}
        for path in {what for kind, _, what in events if kind == "secret"}:
            sources.from_file(self.needles, path)
        return sorted(
            {
                *self._in_texts(said),
                *self._in_names(events),
                *self._in_files(events),
                *self._in_spawns(events),
            }
        )

    def _reported(self) -> Iterator[tuple[str, str, Any]]:
        for report in self.waiting:
            try:
                lines = report.read_bytes().splitlines()
                # A child that still runs begins a new file.
                report.unlink()
            except OSError:
                continue
            for line in lines:
                with contextlib.suppress(ValueError, SyntaxError):
                    yield ast.literal_eval(line.decode("utf-8", "surrogatepass"))

    def _in_texts(self, said: Sequence[tuple[str, str | bytes]]) -> Iterator[str]:
        by_channel: dict[str, list[bytes]] = {}
        for channel, text in said:
            content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
            by_channel.setdefault(channel, []).append(content)
        for channel, texts in by_channel.items():
            for name in self.needles.found_in(b"\n".join(texts)[:_TEXT_BYTES]):
                yield f"{name} stands in {channel}"

    def _in_names(self, events: Sequence[tuple[str, str, Any]]) -> Iterator[str]:
        by_module: dict[str, set[str]] = {}
        for kind, module, what in events:
            if kind in ("file", "name"):
                by_module.setdefault(module, set()).add(what)
        for module, paths in by_module.items():
            listed = "\n".join(sorted(paths)).encode("utf-8", "surrogatepass")
            for name in self.needles.found_in(listed):
                yield f"{name} stands in the name of a file, a folder or a link of {module}"

    def _in_files(self, events: Sequence[tuple[str, str, Any]]) -> Iterator[str]:
        by_path: dict[str, set[str]] = {}
        for kind, module, what in events:
            if kind == "file":
                by_path.setdefault(what, set()).add(module)
        for path, modules in sorted(by_path.items()):
            content, private = _read(path)
            for name in self.needles.found_in(content):
                for module in sorted(modules):
                    if not (private and _is_by_design("file", module, path, name)):
                        yield f"{name} stands in {path}, written by {module}"

    def _in_spawns(self, events: Sequence[tuple[str, str, Any]]) -> Iterator[str]:
        for module, (words, pairs) in (
            (module, what) for kind, module, what in events if kind == "spawn"
        ):
            said = "\0".join(words)
            for name in self.needles.found_in(said.encode("utf-8", "surrogatepass")):
                if not _is_by_design("spawn", module, said, name):
                    yield f"{name} stands in the arguments of {words[0]}, started by {module}"
            given = "\0".join(f"{one}={other}" for one, other in pairs)
            for name in self.needles.found_in(given.encode("utf-8", "surrogatepass")):
                yield f"{name} stands in the environment of {words[0]}, started by {module}"


_EVENTS = frozenset(
    (
        *("open", "os.rename", "os.link", "os.symlink", "os.mkdir"),
        *("subprocess.Popen", "os.posix_spawn", "os.exec"),
    )
)


def _by_the_tool() -> bool:
    return bool(sitecustomize._by_the_tool())


def _is_the_tool(words: object) -> bool:
    """Whether a command is this Python or the tool, with nothing that keeps our hooks out."""
    if not isinstance(words, list | tuple) or not words:
        return False
    texts = [str(word) for word in words]
    shut = {"-I", "-S", "-E"} & set(texts[1:4])
    return not shut and (texts[0] == sys.executable or texts[0].endswith("/release-tool"))


def _text_of(stream: io.StringIO) -> str:
    return "" if stream.closed else stream.getvalue()


def _read(path: str) -> tuple[bytes, bool]:
    """The beginning of a file, and whether nobody else may read it."""
    try:
        status = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            return b"", True
        with open(path, "rb") as source:  # noqa: PTH123
            return source.read(_FILE_BYTES), not status.st_mode & 0o077
    except OSError:
        return b"", True


def _is_by_design(kind: str, module: str, place: str, name: str) -> bool:
    return any(
        kind == known.kind
        and module.startswith(known.module)
        and known.place in place
        and (not known.names or name in known.names)
        for known in BY_DESIGN
    )
