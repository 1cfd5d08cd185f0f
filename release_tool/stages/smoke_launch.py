"""Each executable of the unpacked app is started once before anything is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from release_tool import errors, layout
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.apple.policy import deaths
from release_tool.plan import ReleasePlan
from release_tool.services import child_guard, provider_start
from release_tool.services.provider_command import Explain, ProviderCommand

NAME = "starts with --version"
_HELPERS = "Contents/Helpers/"


def explaining(path: str, facts: BundleFacts | None) -> Explain:
    """What a death of one executable of the app means, by what was read of its signature.

    Args:
        path: of the executable, relative to the app.
        facts: the app's; None where nobody read them.
    """

    def explain(signal_name: str, said: Sequence[str]) -> deaths.Reading:
        return deaths.read(signal_name, said=said, path=path, facts=facts)

    return explain


def others(
    plan: ReleasePlan,
    app: Path,
    command: ProviderCommand,
    facts: BundleFacts | None,
    new_home: Callable[[str], Path],
) -> Iterator[Check]:
    """Start every executable but the main one; a helper need not know `--version`, but it starts.

    Args:
        plan: the release plan.
        app: the unpacked app.
        command: how the main executable is started, for the environment.
        facts: what was read of the app's signatures.
        new_home: makes an empty home of a name.

    Raises:
        VerificationError: one is ended by a signal, hangs, or leaves a process behind.
    """
    for path in paths(plan):
        words = replace(command, argv=(str(app / path),), explain=explaining(path, facts))
        name = path.rpartition("/")[2]
        done = provider_start.start(
            words,
            ["--version"],
            home=new_home(f"start {name}"),
            seconds=provider_start.VERSION_SECONDS,
        )
        if done.ending.status == child_guard.CANNOT_START:
            raise errors.VerificationError(
                "cannot be started", subject=path, observed=str(done.ending), details=done.log
            )
        # No contract promises that another one than the main one knows `--version`: a usage error
        # is a start, too.
        yield checks.passed(
            NAME, str(done.ending), subject=path, expected="it starts and ends by itself"
        )


def paths(plan: ReleasePlan) -> Iterator[str]:
    """Every executable but the main one, relative to the app."""
    places = layout.of(plan)
    for one in plan.bundle.executables:
        if one.name != plan.bundle.main_executable:
            yield places.place(one.name)
    for helper in plan.bundle.helpers:
        yield f"{_HELPERS}{helper.name}"
