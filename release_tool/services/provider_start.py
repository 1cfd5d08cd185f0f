"""Short runs of a provider's executables: `--version` and `runtime-smoke`, each to its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from release_tool import errors
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.services import child, executable_version, provider_ends
from release_tool.services.provider_command import ProviderCommand, environment
from release_tool.services.provider_contract import BuiltFor

VERSION_SECONDS = 60.0
"""The first start of code that macOS has not seen yet takes some seconds of assessment."""
SMOKE_SECONDS = 180.0
"""`runtime-smoke` compiles kernels on its first run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A short run of an executable, such as `--version`."""

    ending: child.Ending
    lines: tuple[str, ...]
    """What it printed, without empty lines."""
    log: tuple[str, ...]
    record: str


def start(
    command: ProviderCommand,
    words: Sequence[str],
    *,
    home: Path,
    seconds: float,
    environment_more: Mapping[str, str] | None = None,
) -> Started:
    """Run an executable to its end.

    Args:
        command: the executable.
        words: its arguments.
        home: an existing folder, its whole world.
        seconds: how long it may take.
        environment_more: what else its environment holds.

    Raises:
        VerificationError: it is ended by a signal, hangs, or leaves a process behind.
    """
    name = Path(command.argv[0]).name if command.kind == "bundle" else "provider"
    done = child.run(
        [*command.argv, *words],
        environment={**environment(command, home), **(environment_more or {})},
        folder=home,
        seconds=seconds,
    )
    if done is None:
        raise errors.VerificationError(f"{words[0]} did not end within {seconds:g} s", subject=name)
    if done.ending.status < 0:
        raise provider_ends.killed(f"ended at {words[0]}", name, done.ending, done.log, command)
    if done.aftermath.left:
        raise provider_ends.left(
            f"{words[0]} leaves processes behind", name, done.aftermath, done.log
        )
    lines = tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
    return Started(ending=done.ending, lines=lines, log=done.log, record=done.record)


def ask_version(command: ProviderCommand, *, home: Path) -> str:
    """What `--version` prints last, without the program's name in front.

    Args:
        command: the provider.
        home: an existing folder, its whole world.

    Raises:
        VerificationError: it does not start, fails, hangs, prints nothing or leaves a process.
    """
    done = start(command, ["--version"], home=home, seconds=VERSION_SECONDS)
    if done.ending.status != 0 or not done.lines:
        raise errors.VerificationError(
            "does not tell its version",
            subject="provider",
            observed=str(done.ending) if done.ending.status else "it prints nothing",
            details=done.log,
        )
    return executable_version.told(done.lines)


def runtime_smoke(command: ProviderCommand, *, home: Path, built_for: BuiltFor) -> list[Check]:
    """What an October provider says of its own Metal runtime; nothing of one of May.

    Args:
        command: the provider.
        home: an existing folder, its whole world.
        built_for: the environment of this release.

    Raises:
        VerificationError: it dies, hangs or leaves a process.
    """
    contract = command.contract
    if not contract.smoke_markers:
        return []
    done = start(
        command,
        ["runtime-smoke"],
        home=home,
        seconds=SMOKE_SECONDS,
        environment_more=contract.smoke_seeds,
    )
    name = "runtime-smoke"
    ending = checks.compare(name, expected="exit code 0", observed=str(done.ending))
    told = [line for line in done.lines if line.startswith(contract.built_for_mark)]
    said = told[0].removeprefix(contract.built_for_mark).strip() if told else "nothing"
    found = [
        checks.compare(
            name,
            subject=marker,
            expected="printed",
            observed="printed" if marker in done.lines else "missing",
        )
        for marker in contract.smoke_markers
    ]
    return [ending, *found, *built_for.judge(said)]
