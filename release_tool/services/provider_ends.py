"""How a provider ended, or was found: what it means, and the errors that say so."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from release_tool import errors
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.services import child
from release_tool.services.provider_command import ProviderCommand

_GOOD_END = "exit code 0, or TERM"


def judge(
    running: child.Child, early: child.Ending | None, command: ProviderCommand, grace_seconds: float
) -> list[Check]:
    """How it lived until it was told to end, and how it ended then."""
    after, ending = running.aftermath, running.ending
    asked = f"an end within {grace_seconds:g} s of TERM"
    found = [
        checks.compare(
            "lives until it is told to end",
            expected="alive",
            observed=str(early) if early else "alive",
            hint=_meaning(early, running, command),
        ),
        checks.compare(
            "ends when it is told to",
            expected=asked,
            observed="KILL was needed" if after.killed else asked,
            hint="a service that does not end is killed in the middle of an answer",
        ),
        checks.compare(
            "leaves no process behind",
            expected="none",
            observed=", ".join(after.left) or "none",
            hint="they were ended here; users' machines would keep them",
        ),
    ]
    badly = None if early or after.killed else _badly(ending)
    found.append(
        checks.compare(
            "ends without a crash",
            expected=_GOOD_END,
            observed=str(badly) if badly else _GOOD_END,
            hint=_meaning(badly, running, command),
        )
    )
    return found


def _badly(ending: child.Ending | None) -> child.Ending | None:
    """An end by a signal that nobody sent, or with the exit code of a fault.

    Darkbloom's providers exit with 1 for any fault; a shell says 128 and the signal's number.
    """
    good = (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    return None if ending is None or ending.status in good else ending


def _meaning(ending: child.Ending | None, running: child.Child, command: ProviderCommand) -> str:
    if ending is None or ending.status >= 0:
        return ""
    reading = command.explain(ending.signal_name, running.log)
    return f"likely {reading.means}: {reading.hint}"


def require_no_flood(running: child.Child) -> None:
    """Refuse a provider that writes without end.

    Raises:
        VerificationError: it does.
    """
    if running.flooded:
        raise errors.VerificationError(
            "floods its output",
            subject="provider",
            expected=f"less than {child.FLOOD_BYTES} bytes",
            details=running.log,
        )


def left(
    message: str, name: str, after: child.Aftermath, log: Sequence[str]
) -> errors.ReleaseError:
    """The error of an executable that left processes behind."""
    return errors.VerificationError(
        message,
        subject=name,
        expected="none",
        observed=", ".join(after.left),
        details=log,
        hint="they were ended; users' machines would keep them",
    )


def died(
    when: str, ending: child.Ending | None, running: child.Child, command: ProviderCommand
) -> errors.ReleaseError:
    """The error of a provider that ended by itself, with its last words."""
    running.settle()
    if ending and ending.status < 0:
        return killed(f"ended {when}", "provider", ending, running.log, command)
    return errors.VerificationError(
        f"ended {when}",
        subject="provider",
        observed=str(ending) if ending else "",
        details=running.log,
    )


def killed(
    message: str, name: str, ending: child.Ending, log: Sequence[str], command: ProviderCommand
) -> errors.ReleaseError:
    """The error of an executable that a signal ended, read with what its signature says."""
    reading = command.explain(ending.signal_name, log)
    return errors.VerificationError(
        message,
        subject=name,
        observed=str(ending),
        details=[f"likely {reading.means}", *log],
        hint=reading.hint,
    )
