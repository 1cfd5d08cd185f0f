"""An installer that is killed: wherever that is, the old or the new version stands whole.

Or the old one was set aside whole; and the next run ends well. Where that is told by a clock, a
swap of some milliseconds is never hit: so it is also held at each of the commands by which it moves
files, looked at, and killed at some of them, first of all where the app changes.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from release_tool.apple.checks import Check
from release_tool.services import installer
from release_tool.services.candidate_server import Point
from release_tool.services.held_commands import MOST_CALLS, NAMES, HeldCommands
from release_tool.stages import install_trial
from release_tool.stages.install_home import Listing
from release_tool.stages.install_trial import WHOLE, Trial, compare, not_tried

_POINT_SECONDS = 60.0
# Of what is left of an installation once all was downloaded: amid unpacking, and late in it.
LATE = (0.3, 0.8)
# Each costs two installations: enough for both ends of `old`, `aside` and `new`.
KILLS = 6
# Before anything moved, and where the swap begins and is half done: `make kill` kills the template
# at each of its commands, so a rehearsal need not be slow for it.
KILLS_OF_THE_TEMPLATE = 3
# Of all kills at a command together; an installation takes seconds, and no release waits for hours.
_KILLING_SECONDS = 600.0
_COMMANDS = "/".join(NAMES)
INTERRUPTED = {
    "interrupted amid the download": signal.SIGINT,
    "terminated amid the download": signal.SIGTERM,
}
_RENAMING = ("mv", "ln")
"""What changes a name in one step; a kill may come amid everything else."""
_SHOWN_CALL = 100
_SHOWN = 3


def by_the_clock(trial: Trial) -> Iterator[Check]:
    """Killed before, amid and behind the download, and run again."""
    home = trial.home_of_a_previous_version()
    points: dict[Point, str] = {"asked": "before the download", "amid": "amid the download"}
    for point, name in points.items():
        yield from _killed(trial, home, point, f"killed {name}", 0.0)
    # By Ctrl-C and by a session that ends, which what it cleans up with sees.
    for name, number in INTERRUPTED.items():
        yield from _killed(trial, home, "amid", name, 0.0, by=number)
    yield from trial.installed("after two kills", home, trial.run(home))
    home = trial.home_of_a_previous_version()
    for share in LATE:
        after = trial.tail_seconds * share
        yield from _killed(trial, home, "sent", f"killed {share:.0%} after the download", after)
    yield from trial.installed("after two late kills", home, trial.run(home))


def _killed(
    trial: Trial,
    home: Path,
    point: Point,
    name: str,
    after: float,
    *,
    by: signal.Signals = signal.SIGKILL,
) -> Iterator[Check]:
    before = trial.state(home)
    trial.server.hold(point)
    killed = installer.kill_at(
        trial.script,
        home=home,
        reached=trial.server.wait,
        after=after,
        seconds=_POINT_SECONDS,
        by=by,
    )
    trial.server.release()
    if killed:
        yield compare(name, trial.app, "whole", trial.whole(home, before))
    elif point == "sent":
        yield not_tried(name, trial.app, "it ended before it could be killed")
    else:
        yield compare(name, "the point", "reached", "never reached")


def at_commands(trial: Trial) -> Iterator[Check]:
    """Held at each command that moves files, and killed at some of them."""
    calls = _held(trial)
    name = f"held at each {_COMMANDS}"
    if not calls:
        why = f"it calls none of {_COMMANDS} by name or path: killed by the clock only"
        yield not_tried(name, trial.app, why)
        return
    wrong = [str(one) for one in calls if one.state not in WHOLE]
    whole = f"whole at {len(calls)} calls"
    yield compare(name, trial.app, whole, "; ".join(wrong[:_SHOWN]) or whole)
    if not wrong:
        yield _by_renaming(trial, calls)
    if len(calls) == MOST_CALLS:
        yield not_tried(name, "the calls after these", f"{MOST_CALLS} calls were looked at")
    until = time.monotonic() + _KILLING_SECONDS
    for call in _worth_killing(calls, _kills(trial)):
        yield from _killed_at(trial, call, len(calls), until)


def _by_renaming(trial: Trial, calls: Sequence[_Call]) -> Check:
    """Whether each change of what stands was one step, at a call that names the app."""
    name = "changes the app in one step"
    # What stands behind the last call was compared when it ended.
    steps = [
        (call, after) for call, after in pairwise((*calls, None)) if call and _changes(call, after)
    ]
    unseen = [call for call, _ in steps if trial.app not in call.said]
    if unseen or not steps:
        where = f"behind {unseen[0].said}" if unseen else "at none of its calls"
        why = f"the app changes {where}, by another command: killed there by the clock only"
        return not_tried(name, trial.app, why)
    halved = [str(call) for call, _ in steps if call.command not in _RENAMING]
    by = f"by {' or '.join(_RENAMING)}"
    return compare(name, trial.app, by, "; ".join(halved[:_SHOWN]) or by)


def _changes(call: _Call, after: _Call | None) -> bool:
    return call.state != (after.state if after else "new")


def _kills(trial: Trial) -> int:
    plan = trial.candidate.plan
    well_known = not plan.smoke.installer and plan.environment.provider == "stand-in"
    return KILLS_OF_THE_TEMPLATE if well_known else KILLS


def _held(trial: Trial) -> list[_Call]:
    """An installation over a previous version, looked at before each of its commands."""
    home, before, commands, script = _with_commands(trial, None)
    calls: list[_Call] = []

    def look(number: int) -> None:
        said = commands.said(number).replace(str(home), "~")[:_SHOWN_CALL]
        calls.append(_Call(number, said, trial.stands(home, before)))

    installer.step_through(
        script, home=home, commands=commands, look=look, seconds=_KILLING_SECONDS
    )
    shutil.rmtree(home, ignore_errors=True)
    return calls


def _killed_at(trial: Trial, call: _Call, count: int, until: float) -> Iterator[Check]:
    """Killed at a command, and run again."""
    name, subject = "killed at a command", f"{call.command}, call {call.number} of {count}"
    if time.monotonic() > until:
        yield not_tried(name, subject, f"the others took {_KILLING_SECONDS:.0f} s")
        return
    home, before, commands, script = _with_commands(trial, call.number)

    def reached(seconds: float) -> bool:
        if not commands.waits(call.number):
            time.sleep(seconds)
        return commands.waits(call.number)

    if not installer.kill_at(
        script,
        home=home,
        reached=reached,
        after=0.0,
        seconds=install_trial.SECONDS,
        commands=commands,
    ):
        yield not_tried(name, subject, "it did not come to that call again")
        return
    yield compare(name, subject, "whole", trial.whole(home, before))
    again = trial.installed("again", home, trial.run(home))
    wrong = [f"{one.subject} {one.observed}" for one in again if one.outcome == "failed"]
    ends = "run again, it ends well"
    yield compare(f"{name}, and run again", subject, ends, "; ".join(wrong) or ends)
    # Each home holds a whole release.
    shutil.rmtree(home, ignore_errors=True)


def _with_commands(trial: Trial, hold: int | None) -> tuple[Path, Listing, HeldCommands, Path]:
    """A home of a previous version, what stands in it, stand-ins, and the script for them."""
    home = trial.home_of_a_previous_version()
    folder = trial.candidate.scratch / f"held-{trial.homes}"
    commands = HeldCommands(folder, hold=hold)
    script = folder / trial.script.name
    script.write_bytes(commands.led_to(trial.script.read_bytes()))
    return home, trial.state(home), commands, script


class _Call(NamedTuple):
    """A command of an installer, as it waits."""

    number: int
    said: str
    """The command and its arguments, cut."""
    state: str
    """What stands before it does anything."""

    @property
    def command(self) -> str:
        """Its name."""
        return self.said.partition(" ")[0]

    def __str__(self) -> str:
        return f"{self.state} before call {self.number}, {self.said}"


def _worth_killing(calls: Sequence[_Call], kills: int) -> list[_Call]:
    """Both ends of each stretch in which the same stands, then others, evenly."""
    last = len(calls) - 1
    ends = [
        one
        for at, one in enumerate(calls)
        if at in (0, last) or calls[at - 1].state != one.state or calls[at + 1].state != one.state
    ]
    # What stands wrong first: that is what a release must not have.
    ends.sort(key=lambda one: one.state in WHOLE)
    others = [one for one in calls if one not in ends]
    room = max(kills - len(ends), 0)
    spread = [others[at * len(others) // room] for at in range(min(room, len(others)))]
    return sorted([*ends[:kills], *spread])
