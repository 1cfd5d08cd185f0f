"""The one error tree. Exit codes go by remedy, so a script can tell what to do from the code alone.

ReleaseError
├── UsageError            2   edit the command or the configuration
│   └── RepeatRefusedError 2  what is signed would be signed again: say so, or take a new version
├── HostError             3   this host lacks something: a tool, an extra, a full clone
├── CredentialError       4   a credential is missing, expired or refused
├── TransientError        5   a passing fault of a network or a service: retry
├── VerificationError     6   what was read is not what was meant: do not ship
│   └── FormatError       6   the bytes are not of the format: truncated, hostile, something else
├── RemoteRefusedError    7   a service understood and refused
└── PendingError          8   a service is still at work: run again to resume

Anything else that escapes is a bug: exit 70 with its traceback. An interrupt exits 130.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class ReleaseError(Exception):
    """Something failed that the reader can act on.

    Args:
        message: what failed, one sentence without a full stop.
        subject: the object: a path, a key, a name. Empty when the message names it.
        expected: what should have been there.
        observed: what was there instead.
        hint: the one next step.
        details: further lines, such as each finding of a list that failed at once.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        expected: str = "",
        observed: str = "",
        hint: str = "",
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.expected = expected
        self.observed = observed
        self.hint = hint
        self.details = tuple(details)

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}" if self.subject else self.message

    def rewrite(self, by: Callable[[str], str]) -> None:
        """Put everything that the error says through `by`, in place: it may be raised on."""
        for name in ("message", "subject", "expected", "observed", "hint"):
            setattr(self, name, by(getattr(self, name)))
        self.details = tuple(by(detail) for detail in self.details)
        self.args = (self.message,)

    def lines(self) -> list[str]:
        """The whole text for a terminal: the verdict, then the evidence, then the next step."""
        found = [str(self)]
        if self.expected:
            found.append(f"  expected  {self.expected}")
        if self.observed:
            found.append(f"  observed  {self.observed}")
        found.extend(f"  {detail}" for detail in self.details)
        if self.hint:
            found.append(f"  {self.hint}")
        return found

    def as_json(self) -> dict[str, object]:
        """The same facts for `--json`."""
        return {
            "ok": False,
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            "message": self.message,
            "subject": self.subject,
            "expected": self.expected,
            "observed": self.observed,
            "details": list(self.details),
            "hint": self.hint,
        }


class UsageError(ReleaseError):
    """The command line or `release.yaml` says something that cannot be done."""

    exit_code = 2


class RepeatRefusedError(UsageError):
    """A stage that must not be repeated by accident would be."""


class HostError(ReleaseError):
    """This host lacks something that the step needs."""

    exit_code = 3


class CredentialError(ReleaseError):
    """A credential is missing, expired or refused."""

    exit_code = 4


class TransientError(ReleaseError):
    """A network or a service failed in passing; the same command may succeed later."""

    exit_code = 5


class VerificationError(ReleaseError):
    """What was read back differs from what was meant; it must not ship."""

    exit_code = 6


class FormatError(VerificationError):
    """The bytes are not of the format: truncated, hostile or something else."""


class RemoteRefusedError(ReleaseError):
    """A service understood the request and refused it."""

    exit_code = 7


class PendingError(ReleaseError):
    """A service is still at work; running again resumes."""

    exit_code = 8
