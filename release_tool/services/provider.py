"""Runs a provider on this machine and talks to it, as its first user would.

The provider is an OpenAI-like server on loopback without a coordinator (`start --local`). It does
not say when it listens, so `/health` is polled; and a failure in the middle of an answer may look
like a normal end, so an answer counts only with text and tokens in it. What it does when it is told
to end counts as well: users' machines run it for weeks.
"""

from __future__ import annotations

import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from release_tool import errors
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.services import chat, child, listening, provider_contract, provider_ends
from release_tool.services.chat import Completion, Refusal
from release_tool.services.provider_command import ProviderCommand, environment
from release_tool.services.provider_contract import Contract

_POLL_SECONDS = 0.1
_PROBE_SECONDS = 2.0
_PORT_ATTEMPTS = 3
_DEATH_SECONDS = 2.0
_TOKEN_BYTES = 4096


class Provider:
    """A provider that answers on loopback. Made by `serve`."""

    def __init__(
        self,
        running: child.Child,
        endpoint: chat.Endpoint,
        version: str,
        *,
        command: ProviderCommand,
        home: Path,
    ) -> None:
        self._running = running
        self._endpoint = endpoint
        self._command = command
        self._home = home
        self.version = version
        """What `/health` says; empty where it says none."""
        self.end: Sequence[Check] = ()
        """How it ended; told once the block of `serve` has ended without an error."""

    @property
    def contract(self) -> Contract:
        """Whose manners it has."""
        return self._command.contract

    @property
    def wants_key(self) -> bool:
        """Whether a request without its key must be refused."""
        return bool(self._endpoint.token)

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

    @property
    def record(self) -> str:
        """All that was kept of its output, redacted; complete once it has ended."""
        return self._running.record

    def model(self, wanted: str) -> str:
        """The name under which it lists the wanted model.

        Raises:
            VerificationError: it lists no model, or others than this one.
        """
        with self._watched():
            listed = chat.models(self._endpoint, seconds=_PROBE_SECONDS * 5)
            for name in (wanted, wanted.rstrip("/").rpartition("/")[2]):
                if name in listed:
                    return name
            raise chat.AnswerError(
                "serves another model", expected=wanted, observed=", ".join(listed)
            )

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

    def cancel(self, question: chat.Question, *, seconds: float) -> None:
        """A stream whose reader hangs up at the first text.

        Raises:
            VerificationError: as `stream`.
        """
        with self._watched():
            chat.cancel(self._endpoint, question, seconds=seconds)

    def refusal(
        self, body: bytes, *, content_type: str, seconds: float, key: chat.Key = "own"
    ) -> Refusal:
        """How it answers a chat request that is not as it should be.

        Raises:
            VerificationError: it does not answer, or dies.
        """
        with self._watched():
            return chat.refusal(
                self._endpoint, body, content_type=content_type, seconds=seconds, key=key
            )

    def models_refusal(self, *, seconds: float) -> Refusal:
        """How it answers who asks for its models without a key.

        Raises:
            VerificationError: it does not answer, or dies.
        """
        with self._watched():
            return chat.models_refusal(self._endpoint, seconds=seconds)

    def health(self, *, seconds: float) -> str:
        """The version that it tells now.

        Raises:
            VerificationError: it is not well any more.
        """
        with self._watched():
            version = chat.health(self._endpoint, seconds=seconds)
            if version is None:
                raise chat.AnswerError("is not well any more", expected="/health: ok")
            return version

    def manners(self) -> list[Check]:
        """How it stands on this machine: where it listens, and what it wrote about itself."""
        found = [self.addresses(), self._pid_file()]
        if self._endpoint.token:
            found.append(self._token_file())
        return found

    def addresses(self, *, when: str = "") -> Check:
        """Whether it listens for this machine alone, at this moment."""
        name = f"listens on loopback only {when}".rstrip()
        own = listening.of_processes([one.pid for one in self._running.started()])
        seen = own | {(address, self.port) for address in listening.addresses(self.port)}
        if not seen:
            return checks.not_checked(name, "this system does not tell who listens")
        outer = sorted(one for one in seen if not listening.is_loopback(one[0]))
        if outer:
            told = ", ".join(f"{address} port {port}" for address, port in outer)
            return checks.failed(name, expected="127.0.0.1", observed=told)
        return checks.passed(name, ", ".join(sorted({address for address, _ in seen})))

    def _pid_file(self) -> Check:
        name = "PID file"
        try:
            text = (self._home / "provider.pid").read_text(errors="replace").strip()
        except OSError:
            return checks.not_checked(name, "it wrote none where DARKBLOOM_PID_FILE says")
        own = {str(one.pid) for one in self._running.started()}
        if text in own:
            return checks.passed(name, "its own number")
        return checks.failed(
            name,
            expected="its own number",
            observed=text[:40],
            hint="a provider of May ends the process whose number it finds there",
        )

    def _token_file(self) -> Check:
        mode = _token_path(self._home).stat().st_mode
        return checks.compare(
            "key file is private", expected="0600", observed=f"{stat.S_IMODE(mode):04o}"
        )

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Where an answer fails, a death is the better explanation, and the log belongs to it."""
        try:
            yield
        except chat.AnswerError as problem:
            ending = self._running.wait(_DEATH_SECONDS)
            if ending is not None:
                raise provider_ends.died(
                    "while it answered", ending, self._running, self._command
                ) from problem
            raise errors.VerificationError(
                problem.message,
                subject="provider",
                expected=problem.expected,
                observed=problem.observed,
                details=self._running.log,
                hint=problem.hint,
            ) from problem
        provider_ends.require_no_flood(self._running)


@contextmanager
def serve(
    command: ProviderCommand,
    *,
    model: str,
    home: Path,
    start_seconds: float,
    grace_seconds: float | None = None,
) -> Iterator[Provider]:
    """Run a provider while the block lasts; it and all that it started are gone afterwards.

    Args:
        command: the provider.
        model: the model that it shall serve: an id, or a folder.
        home: an existing folder, its whole world.
        start_seconds: how long it may take until `/health` answers.
        grace_seconds: how long it may take to end by itself when told to; None for as usual.

    Raises:
        VerificationError: it dies, does not answer in time, or floods its output.
        HostError: no process can be started here.
    """
    deadline = time.monotonic() + start_seconds
    grace_seconds = child.GRACE_SECONDS if grace_seconds is None else grace_seconds
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        port = free_port()
        words = [*command.contract.words(command.authorization), "--port", str(port)]
        with child.running(
            [*command.argv, *words, "--model", model],
            environment=environment(command, home),
            folder=home,
            grace_seconds=grace_seconds,
        ) as running:
            endpoint = chat.Endpoint(port=port)
            version = _await_health(running, endpoint, deadline, command)
            if version is None and attempt < _PORT_ATTEMPTS:
                continue
            if version is None:
                raise provider_ends.died("before it answered", running.ending, running, command)
            if command.contract.has_keys and command.authorization == "token":
                endpoint = chat.Endpoint(port=port, token=_token(home, running))
            made = Provider(running, endpoint, version, command=command, home=home)
            yield made
            provider_ends.require_no_flood(running)
            early = running.ending
        made.end = provider_ends.judge(running, early, command, grace_seconds)
        return


def _await_health(
    running: child.Child, endpoint: chat.Endpoint, deadline: float, command: ProviderCommand
) -> str | None:
    """The version that `/health` tells; None if another process took the port before it."""
    while time.monotonic() < deadline:
        provider_ends.require_no_flood(running)
        ending = running.ending
        if ending is not None:
            running.settle()
            if any("address already in use" in line.lower() for line in running.log):
                return None
            raise provider_ends.died("before it answered", ending, running, command)
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


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _token_path(home: Path) -> Path:
    return provider_contract.local_folder(home) / "local_token"


def _token(home: Path, running: child.Child) -> str:
    """The key that the provider has made for its own clients."""
    path = _token_path(home)
    try:
        with path.open("rb") as source:
            token = source.read(_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise errors.VerificationError(
            "wrote no key for its clients",
            subject="provider",
            expected=str(path.relative_to(home)),
            observed=type(problem).__name__,
            details=running.log,
        ) from problem
    if not token.isprintable() or not token:
        raise errors.VerificationError("wrote a key that is none", subject="provider")
    return token
