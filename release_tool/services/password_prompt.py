"""Answer a tool that asks for a password on its terminal.

The tool gets a terminal of its own; the password is written there once the question stands there,
so it is in no argument, no environment and no file. Echo is off from the start, and what the tool
printed comes back without the password.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from release_tool import errors
from release_tool.services import terminal_guard
from release_tool.services.apple_tools import Said

_GUARD = Path(terminal_guard.__file__)
_KEPT_BYTES = 64 * 1024
_REAP_SECONDS = 10.0


def answer(
    command: Sequence[str],
    *,
    question: re.Pattern[str],
    password: str,
    environment: Mapping[str, str],
    seconds: float,
) -> Said:
    """Run a command to its end, and answer its one question.

    Args:
        command: the tool's path and its arguments.
        question: stands at the end of what was printed when the tool waits.
        password: one line.
        environment: the whole environment of the tool.
        seconds: how long all of it may take.

    Raises:
        HostError: it does not start, does not ask, asks twice, or does not end in time.
    """
    if not password or any(mark in password for mark in "\r\n\x00\x03\x04"):
        raise errors.CredentialError("the password is empty or not one line")
    ours, theirs = pty.openpty()
    try:
        attributes = termios.tcgetattr(theirs)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        process = _start(command, theirs, environment)
        os.close(theirs)
        theirs = -1
        return _Talk(ours, process, question, password).run(seconds)
    finally:
        for descriptor in (ours, theirs):
            if descriptor >= 0:
                os.close(descriptor)


def _start(
    command: Sequence[str], terminal: int, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    guarded = [sys.executable, "-I", "-S", str(_GUARD), *command]
    try:
        return subprocess.Popen(
            guarded,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as problem:
        raise errors.HostError("cannot start a process", observed=str(problem)) from problem


class _Talk:
    """What is said on one terminal."""

    def __init__(
        self,
        terminal: int,
        process: subprocess.Popen[bytes],
        question: re.Pattern[str],
        password: str,
    ) -> None:
        self._terminal = terminal
        self._process = process
        self._question = question
        self._password = password
        self._said = bytearray()
        self._fresh = 0
        """Where what was said after the answer begins."""
        self._answered = False

    def run(self, seconds: float) -> Said:
        deadline = time.monotonic() + seconds
        try:
            while self._listen(deadline):
                self._answer_if_asked()
            status = self._process.wait(_REAP_SECONDS)
        except subprocess.TimeoutExpired:
            raise self._failed("closed its terminal and did not end") from None
        finally:
            if self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        return Said(status=status, stdout=self._text(), stderr="")

    def _listen(self, deadline: float) -> bool:
        """Take in what is said next; False once nobody speaks any more."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._failed("did not end in time" if self._answered else "did not ask in time")
        ready, _, _ = select.select([self._terminal], [], [], min(left, 0.5))
        if not ready:
            return self._process.poll() is None
        try:
            piece = os.read(self._terminal, 4096)
        except OSError:
            # Linux says EIO once the other side is closed; macOS gives an empty read.
            return False
        self._said += piece
        return bool(piece)

    def _answer_if_asked(self) -> None:
        text = self._said[self._fresh :].decode("utf-8", "replace")
        if len(self._said) > _KEPT_BYTES:
            raise self._failed("printed without end")
        if not self._question.search(text):
            return
        if self._answered:
            raise self._failed("asked again")
        self._answered = True
        self._fresh = len(self._said)
        os.write(self._terminal, self._password.encode() + b"\n")

    def _text(self) -> str:
        said = self._said.decode("utf-8", "replace").replace("\r\n", "\n")
        return said.replace(self._password, "[redacted]")

    def _failed(self, what: str) -> errors.HostError:
        said = Said(status=0, stdout=self._text(), stderr="")
        return errors.HostError(
            f"the tool that asks for a password {what}",
            details=said.lines,
            hint="run the command by hand once, and see what it asks",
        )
