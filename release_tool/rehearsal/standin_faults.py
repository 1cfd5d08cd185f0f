"""The ways in which a provider can be broken, each as a small change of the stand-in.

A fault overrides one method of the server's handler, or one moment of the process: its version, its
start, its end. The smoke run has to refuse each by its own name.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from release_tool.rehearsal import faulty_handlers
from release_tool.rehearsal.faulty_handlers import hang
from release_tool.rehearsal.standin_server import Handler

_LOG = "no engine for this model, Bearer not-a-real-secret\n"
_NO_LIBRARY = "dyld[1]: Library not loaded: @rpath/libnothing.dylib\n"
# More than anybody reads, in well under a second.
_FLOOD_BYTES = 20 * 1024 * 1024
# It leaves group and session, and nobody is its parent.
_DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (0, 1, 2):
            os.close(number)
        time.sleep(3600)
os._exit(0)
"""
_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"


def _same(value: Any) -> Any:  # noqa: ANN401 - whatever goes in comes out
    return value


def _nothing(executable: str, model: Path) -> None:
    del executable, model


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Where a broken provider differs from a good one."""

    handler: type[Handler] = Handler
    version: Callable[[str], str] = _same
    markers: Callable[[Sequence[str]], Sequence[str]] = _same
    before_start: Callable[[str, Path], None] = _nothing
    port: Callable[[int], int] = _same
    pid: Callable[[int], int] = _same
    on_term: Callable[[threading.Event], None] = threading.Event.set


NONE = Fault()


# The process.


def _die(number: signal.Signals, said: str = "") -> Callable[..., NoReturn]:
    def die(*_: object) -> NoReturn:
        sys.stderr.write(said)
        sys.stderr.flush()
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        hang()

    return die


def _exit(*_: object) -> NoReturn:
    sys.stderr.write(_LOG)
    sys.stderr.flush()
    os._exit(1)


def _leave(code: str) -> Callable[..., Any]:
    def leave(first: Any, *_: object) -> Any:  # noqa: ANN401
        left = subprocess.Popen([sys.executable, "-I", "-c", code])
        if code is _DAEMON:
            # What was started first ends at once, and nobody is the daemon's parent.
            left.wait()
        return first

    return leave


def _flood(*_: object) -> None:
    line = b"again and again\n" * 4096
    for _number in range(_FLOOD_BYTES // len(line)):
        os.write(1, line)


def _listen_everywhere(*_: object) -> None:
    made = socket.create_server(("0.0.0.0", 0))  # noqa: S104 - it is the fault
    # It lives as long as the process.
    made.detach()


def _write_into_app(executable: str, _: Path) -> None:
    (Path(executable).parent.parent / "written.txt").write_text("here\n")


def _write_beside_home(_: str, __: Path) -> None:
    (Path.home().parent / "written.txt").write_text("here\n")


def _write_into_model(_: str, model: Path) -> None:
    (model / "written.txt").write_text("here\n")


def _write_into_users_home(_: str, __: Path) -> None:
    # The real one is not to be touched by a test: this variable names a stand-in for it too.
    folder = Path(os.environ["STAND_IN_USERS_HOME"]) / ".darkbloom"
    folder.mkdir(exist_ok=True)
    (folder / "written.txt").write_text("here\n")


# Its end.


def _ignore(_: threading.Event) -> None:
    sys.stderr.write("not now\n")


def _with_another_environment(lines: Sequence[str]) -> Sequence[str]:
    return [
        "build-environment-runtime-smoke: prod coordinator=ws://localhost:8080/ws/provider",
        *lines[1:],
    ]


FAULTS: Mapping[str, Fault] = {
    # --version and runtime-smoke
    "version-hangs": Fault(version=hang),
    "version-killed": Fault(version=_die(signal.SIGKILL)),
    "version-aborts": Fault(version=_die(signal.SIGABRT, _NO_LIBRARY)),
    "version-silent": Fault(version=lambda _: ""),
    "version-chatty": Fault(version=lambda version: f"error: some tool that wants {version}"),
    "version-other": Fault(version=lambda _: "0.0.1"),
    "version-fails": Fault(version=_exit),
    "version-daemon": Fault(version=_leave(_DAEMON)),
    "smoke-silent": Fault(markers=lambda lines: lines[:-1]),
    "smoke-elsewhere": Fault(markers=_with_another_environment),
    "smoke-killed": Fault(markers=_die(signal.SIGKILL)),
    # start
    "exit": Fault(before_start=_exit),
    "start-killed": Fault(before_start=_die(signal.SIGKILL)),
    "start-aborts": Fault(before_start=_die(signal.SIGABRT, _NO_LIBRARY)),
    "hang": Fault(before_start=hang),
    "other-port": Fault(port=lambda port: port - 1),
    "flood": Fault(before_start=_flood),
    "foreign-pid-file": Fault(pid=lambda _: 1),
    "second-port": Fault(before_start=_listen_everywhere),
    "writes-app": Fault(before_start=_write_into_app),
    "writes-beside": Fault(before_start=_write_beside_home),
    "writes-model": Fault(before_start=_write_into_model),
    "writes-users-home": Fault(before_start=_write_into_users_home),
    # first answers
    "loading": Fault(handler=faulty_handlers.Loading),
    "health-other": Fault(handler=faulty_handlers.OtherHealth),
    "health-without-version": Fault(handler=faulty_handlers.HealthWithoutVersion),
    "health-page": Fault(handler=faulty_handlers.PageForHealth),
    "other-model": Fault(handler=faulty_handlers.OtherModel),
    "no-model": Fault(handler=faulty_handlers.NoModel),
    "needs-key": Fault(handler=faulty_handlers.NeedsKey),
    "open-to-all": Fault(handler=faulty_handlers.OpenToAll),
    "any-key": Fault(handler=faulty_handlers.AnyKey),
    "open-models": Fault(handler=faulty_handlers.OpenModels),
    # answers
    "mute": Fault(handler=faulty_handlers.Mute),
    "blank": Fault(handler=faulty_handlers.Blank),
    "thinking": Fault(handler=faulty_handlers.Thinking),
    "only-thinking": Fault(handler=faulty_handlers.OnlyThinking),
    "drip-head": Fault(handler=faulty_handlers.DripHead),
    "drip-size": Fault(handler=faulty_handlers.DripSize),
    "slow-first": Fault(handler=faulty_handlers.SlowFirst),
    "diverge": Fault(handler=faulty_handlers.Diverging),
    "diverge-late": Fault(handler=faulty_handlers.DivergingLate),
    "diverge-long": Fault(handler=faulty_handlers.DivergingLong),
    "diverge-plain-long": Fault(handler=faulty_handlers.DivergingPlainLong),
    "diverge-to-key": Fault(handler=faulty_handlers.DivergingToKey),
    "stops-early": Fault(handler=faulty_handlers.StopsEarly),
    "user-role": Fault(handler=faulty_handlers.UserRole),
    "diverge-stream": Fault(handler=faulty_handlers.DivergingStream),
    "mixed": Fault(handler=faulty_handlers.Mixed),
    "one-at-a-time": Fault(handler=faulty_handlers.OneAtATime),
    "crash": Fault(handler=faulty_handlers.Crash),
    "hang-answer": Fault(handler=faulty_handlers.HangAnswer),
    "stall": Fault(handler=faulty_handlers.Stall),
    "stop": Fault(handler=faulty_handlers.Stop),
    "error-inside": Fault(handler=faulty_handlers.ErrorInside),
    "broken-json": Fault(handler=faulty_handlers.BrokenJson),
    "cut-json": Fault(handler=faulty_handlers.CutJson),
    "no-end-reason": Fault(handler=faulty_handlers.NoEndReason),
    "wrong-end-reason": Fault(handler=faulty_handlers.WrongEndReason),
    "foreign-answer": Fault(handler=faulty_handlers.ForeignAnswer),
    "usage-zero": Fault(handler=faulty_handlers.UsageZero),
    "usage-more": Fault(handler=faulty_handlers.UsageMore),
    "usage-sum": Fault(handler=faulty_handlers.UsageSum),
    "endless": Fault(handler=faulty_handlers.Endless),
    # streams
    "no-end-mark": Fault(handler=faulty_handlers.NoEndMark),
    "stream-error": Fault(handler=faulty_handlers.ErrorInStream),
    "other-ids": Fault(handler=faulty_handlers.OtherIds),
    "no-role": Fault(handler=faulty_handlers.NoRole),
    "no-end-chunk": Fault(handler=faulty_handlers.NoEndChunk),
    "text-after-end": Fault(handler=faulty_handlers.TextAfterEnd),
    "one-piece": Fault(handler=faulty_handlers.OnePiece),
    "burst": Fault(handler=faulty_handlers.Burst),
    "never-closes": Fault(handler=faulty_handlers.NeverCloses),
    "text-after-mark": Fault(handler=faulty_handlers.TextAfterMark),
    "stream-as-json": Fault(handler=faulty_handlers.StreamAsJson),
    "plain-for-stream": Fault(handler=faulty_handlers.PlainForStream),
    "crash-on-cancel": Fault(handler=faulty_handlers.CrashOnCancel),
    "deaf-after-cancel": Fault(handler=faulty_handlers.DeafAfterCancel),
    # refusals
    "malformed-fails": Fault(handler=faulty_handlers.FailOnMalformed),
    "malformed-accepted": Fault(handler=faulty_handlers.AcceptMalformed),
    "malformed-hangs": Fault(handler=faulty_handlers.HangOnMalformed),
    "malformed-crashes": Fault(handler=faulty_handlers.CrashOnMalformed),
    "any-type": Fault(handler=faulty_handlers.AnyType),
    "large-fails": Fault(handler=faulty_handlers.FailOnLarge),
    "large-crashes": Fault(handler=faulty_handlers.CrashOnLarge),
    "large-unanswered": Fault(handler=faulty_handlers.DeafOnLarge),
    # end
    "ignores-term": Fault(on_term=_ignore),
    "orphan": Fault(before_start=_leave(_STUBBORN)),
    "daemon": Fault(before_start=_leave(_DAEMON)),
    "fails-at-end": Fault(on_term=_exit),
    "crash-at-end": Fault(on_term=_die(signal.SIGSEGV)),
}
"""By name, for `--fault`."""
