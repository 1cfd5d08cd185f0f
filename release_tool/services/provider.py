"""Runs a provider on this machine and talks to it, as its first user would.

The provider is an OpenAI-like server on loopback without a coordinator (`start --local`). It does
not say when it listens, so `/health` is polled; and a failure in the middle of an answer may look
like a normal end, so an answer counts only with text and tokens in it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from release_tool import errors
from release_tool.services import chat, child
from release_tool.services.chat import Completion

Kind = Literal["bundle", "stand-in"]
STAND_IN_FOR = "STAND_IN_FOR"
"""Tells a stand-in the executable in whose place it answers."""

VERSION_SECONDS = 60.0
"""The first start of code that macOS has not seen yet takes some seconds of assessment."""
_POLL_SECONDS = 0.1
_PROBE_SECONDS = 2.0
_PORT_ATTEMPTS = 3
_DEATH_SECONDS = 1.0
_KILLED_HINT = (
    "macOS kills code whose signature or restricted entitlements it does not accept:"
    " look for AMFI in the system log"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderCommand:
    """How a provider is started: the words before `start` or `--version`."""

    argv: tuple[str, ...]
    kind: Kind
    """`bundle`: the shipping executable itself. `stand-in` proves the wiring only."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the small world that every provider gets."""


class Provider:
    """A provider that answers on loopback. Made by `serve`."""

    def __init__(self, running: child.Child, endpoint: chat.Endpoint, version: str) -> None:
        self._running = running
        self._endpoint = endpoint
        self.version = version
        """What `/health` says; empty where it says none."""

    @property
    def group(self) -> int:
        """The number of its process group."""
        return self._running.group

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._endpoint.port

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines that it wrote, redacted."""
        return self._running.log

    def model(self, wanted: str) -> str:
        """The name under which it lists the only model that it serves, or else the wanted one.

        Raises:
            VerificationError: it lists no model.
        """
        with self._watched():
            listed = chat.models(self._endpoint, seconds=_PROBE_SECONDS * 5)
        return listed[0] if len(listed) == 1 else wanted

    def complete(self, question: chat.Question, *, seconds: float) -> Completion:
        """One plain chat completion.

        Raises:
            VerificationError: it answers an error, something else, too late, or dies.
        """
        with self._watched():
            return chat.complete(self._endpoint, question, seconds=seconds)

    def stream(self, question: chat.Question, *, seconds: float) -> Completion:
        """One streamed chat completion.

        Raises:
            VerificationError: as `complete`, or the stream ends without its end mark.
        """
        with self._watched():
            return chat.stream(self._endpoint, question, seconds=seconds)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Where an answer fails, a death is the better explanation, and the log belongs to it."""
        try:
            yield
        except chat.AnswerError as problem:
            ending = self._running.wait(_DEATH_SECONDS)
            if ending is not None:
                raise _died("while it answered", ending, self._running) from problem
            raise errors.VerificationError(
                problem.message,
                subject="provider",
                expected=problem.expected,
                observed=problem.observed,
                details=self._running.log,
            ) from problem


def ask_version(command: ProviderCommand, *, home: Path) -> str:
    """What `--version` prints last, without the program's name in front.

    Args:
        command: the provider.
        home: an existing folder, its whole world.

    Raises:
        VerificationError: it does not start, fails, hangs or prints nothing.
    """
    done = child.run(
        [*command.argv, "--version"],
        environment=environment(command, home),
        folder=home,
        seconds=VERSION_SECONDS,
    )
    if done is None:
        raise errors.VerificationError(
            f"--version did not end within {VERSION_SECONDS:.0f} s", subject="provider"
        )
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.ending.status != 0 or not lines:
        raise errors.VerificationError(
            "does not tell its version",
            subject="provider",
            observed=str(done.ending),
            details=done.log,
            hint=_KILLED_HINT if done.ending.status == -9 else "",
        )
    return lines[-1].split()[-1]


@contextmanager
def serve(
    command: ProviderCommand,
    *,
    model: str,
    home: Path,
    start_seconds: float,
    grace_seconds: float = child.GRACE_SECONDS,
) -> Iterator[Provider]:
    """Run a provider while the block lasts; its process group is gone afterwards.

    Args:
        command: the provider.
        model: the model that it shall serve: an id, or a folder.
        home: an existing folder, its whole world.
        start_seconds: how long it may take until `/health` answers.
        grace_seconds: how long it may take to end by itself when told to.

    Raises:
        VerificationError: it dies or does not answer in time.
        HostError: no process can be started here.
    """
    deadline = time.monotonic() + start_seconds
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        port = free_port()
        words = ["start", "--local", "--port", str(port), "--model", model]
        with child.running(
            [*command.argv, *words],
            environment=environment(command, home),
            folder=home,
            grace_seconds=grace_seconds,
        ) as running:
            endpoint = chat.Endpoint(port=port)
            version = _await_health(running, endpoint, deadline)
            if version is None and attempt < _PORT_ATTEMPTS:
                continue
            if version is None:
                raise _died("before it answered", running.ending, running)
            yield Provider(running, endpoint, version)
            return


def _await_health(running: child.Child, endpoint: chat.Endpoint, deadline: float) -> str | None:
    """The version that `/health` tells; None if another process took the port before it."""
    while time.monotonic() < deadline:
        ending = running.ending
        if ending is not None:
            running.settle()
            if any("address already in use" in line.lower() for line in running.log):
                return None
            raise _died("before it answered", ending, running)
        version = chat.health(endpoint, seconds=_PROBE_SECONDS)
        # Another process may have taken the port meanwhile, and then ours has just died of it.
        if version is not None and running.wait(_POLL_SECONDS) is None:
            return version
        time.sleep(_POLL_SECONDS)
    raise errors.VerificationError(
        "did not answer /health in time",
        subject="provider",
        details=running.log,
        hint="raise limits.provider_start_seconds if the model is large",
    )


def environment(command: ProviderCommand, home: Path) -> dict[str, str]:
    """The whole environment of a provider: its small world and what isolates it from others."""
    return {
        **child.small_world(home),
        # A May provider kills the one whose number it finds in the default file.
        "DARKBLOOM_PID_FILE": str(home / "provider.pid"),
        # Otherwise an older build might replace itself by what is released.
        "DARKBLOOM_NO_UPDATE_CHECK": "1",
        **command.environment,
    }


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _died(when: str, ending: child.Ending | None, running: child.Child) -> errors.ReleaseError:
    running.settle()
    return errors.VerificationError(
        f"ended {when}",
        subject="provider",
        observed=str(ending) if ending else "",
        details=running.log,
        hint=_KILLED_HINT if ending and ending.status == -9 else "",
    )
