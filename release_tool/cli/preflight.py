"""Read-only probes before any work: every finding at once, within a minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from release_tool import errors

_BUDGET_SECONDS = 55.0
# What the reader must mend first decides the exit code; a passing fault only when nothing else is.
_GRAVITY: tuple[type[errors.ReleaseError], ...] = (
    errors.UsageError,
    errors.HostError,
    errors.CredentialError,
    errors.VerificationError,
    errors.RemoteRefusedError,
    errors.PendingError,
    errors.TransientError,
)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One question to a service, a key or a file; it changes nothing."""

    name: str
    stages: frozenset[str]
    """The stages that need a good answer."""
    ask: Callable[[], None]
    """Raises a `ReleaseError` when the answer is bad."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A bad answer."""

    probe: str
    problem: errors.ReleaseError


def run(probes: Sequence[Probe], stages: Collection[str]) -> list[str]:
    """Ask everything that the coming stages need; returns the names of what was asked.

    Raises:
        ReleaseError: at least one answer is bad; its class is that of the gravest finding.
    """
    asked = [probe for probe in probes if probe.stages.intersection(stages)]
    findings = _ask_all(asked)
    if findings:
        raise _error(findings)
    return [probe.name for probe in asked]


def gravest(kinds: Collection[type[errors.ReleaseError]]) -> int:
    """The exit code of what must be mended first; 0 where nothing must."""
    found = next((kind for kind in _GRAVITY if any(issubclass(one, kind) for one in kinds)), None)
    return found.exit_code if found else 0


def _ask_all(probes: Sequence[Probe]) -> list[Finding]:
    return [
        Finding(probe=probe.name, problem=problem) for probe, problem in answers(probes) if problem
    ]


def answers(probes: Sequence[Probe]) -> list[tuple[Probe, errors.ReleaseError | None]]:
    """Ask all at once; each with what is wrong, or None."""
    deadline = time.monotonic() + _BUDGET_SECONDS
    futures = [(probe, _begun(probe.ask)) for probe in probes]
    found: list[tuple[Probe, errors.ReleaseError | None]] = []
    for probe, future in futures:
        try:
            future.result(timeout=max(deadline - time.monotonic(), 0.1))
        except TimeoutError:
            late = errors.TransientError(f"no answer within {_BUDGET_SECONDS:.0f} s")
            found.append((probe, late))
        except errors.ReleaseError as problem:
            found.append((probe, problem))
        else:
            found.append((probe, None))
    return found


def _begun(ask: Callable[[], None]) -> Future[None]:
    """Ask in a thread that holds back neither the verdict nor the end of the process.

    A pool's threads are waited for when the interpreter ends, for all tries of a probe that hangs.
    """
    future: Future[None] = Future()

    def run() -> None:
        try:
            ask()
        except BaseException as problem:
            future.set_exception(problem)
        else:
            future.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    return future


def _gravity(finding: Finding) -> int:
    return next(
        (at for at, kind in enumerate(_GRAVITY) if isinstance(finding.problem, kind)),
        len(_GRAVITY),
    )


def _error(findings: Sequence[Finding]) -> errors.ReleaseError:
    kinds = [kind for kind in _GRAVITY if any(isinstance(f.problem, kind) for f in findings)]
    details: list[str] = []
    # The worst first: of many a job's page shows ten.
    for finding in sorted(findings, key=_gravity):
        lines = finding.problem.lines()
        details.append(f"{finding.probe}: {lines[0]}")
        details.extend(f"  {line}" for line in lines[1:])
    count = len(findings)
    return (kinds[0] if kinds else errors.HostError)(
        f"preflight: {count} {'finding' if count == 1 else 'findings'}, nothing was started",
        details=details,
    )
