"""The verdict on a release: what became of it, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from release_tool import values
from release_tool.report.page import timeline
from release_tool.report.page.timeline import Problem, Stage
from release_tool.report.page.told import Around, Told
from release_tool.report.summary import counted

Tone = Literal["good", "bad", "wait"]
_RESUME = "run the same command again: it goes on where it was"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What stands on top of the page."""

    tone: Tone
    word: str
    """The state in a word or two."""
    title: str
    """The same as a clause that names the release."""
    text: str = ""
    next_step: str = ""
    problem: Problem | None = None
    warnings: tuple[str, ...] = ()
    """What a reader must not overlook."""


def of(around: Around, stages: Sequence[Stage], *, stood_in: Sequence[str]) -> Verdict:
    """Judge a release by the stages of its ledger and the rollbacks beside it."""
    found = _withdrawn(around) or _of_stages(around, stages)
    warnings = (*_rehearsed(stood_in), *found.warnings, *_warnings(around))
    word = "Rehearsed" if stood_in and found.word == "Released" else found.word
    return replace(found, word=word, warnings=warnings)


def _of_stages(around: Around, stages: Sequence[Stage]) -> Verdict:
    if stopped := _stopped(stages):
        return _of_stop(around, stages, stopped)
    if around.is_rollback:
        return _rolled(around, stages)
    promoted = around.release.get("promote", values.PromotedRelease)
    if promoted and around.release.get("register", values.RegisteredRelease):
        return _released(around, promoted)
    return _under_way(around, stages)


def _name(around: Around) -> str:
    if around.is_rollback:
        return f"The rollback of {around.environment} to {around.version}"
    return f"{around.product} {around.version}"


def _stopped(stages: Sequence[Stage]) -> Stage | None:
    """The stage that stopped the release, unless what comes before it was done again since."""
    latest = 0
    for stage in stages:
        if stage.outcome in ("failed", "pending", "sent") and stage.number > latest:
            return stage
        latest = max(latest, stage.number)
    return None


def _of_stop(around: Around, stages: Sequence[Stage], stopped: Stage) -> Verdict:
    name, warnings = _name(around), tuple(_beyond_return(around, stages))
    if stopped.outcome == "failed" and stopped.problem:
        return Verdict(
            tone="bad",
            word=f"Refused at {stopped.name}",
            title=f"{name} was refused at {stopped.name}",
            text=stopped.problem.message,
            next_step=stopped.problem.hint or "mend what it says, then run the same command again",
            problem=stopped.problem,
            warnings=warnings,
        )
    hint = stopped.problem.hint if stopped.problem else ""
    return Verdict(
        tone="wait",
        word="Under way",
        title=f"{name} is under way: {stopped.name} waits for an answer",
        text=stopped.text,
        next_step=hint or _RESUME,
        problem=stopped.problem,
        warnings=warnings,
    )


def _released(around: Around, promoted: values.PromotedRelease) -> Verdict:
    name = _name(around)
    if promoted.outcome == "superseded":
        return Verdict(
            tone="good",
            word="Superseded",
            title=f"{name} is registered, and {promoted.latest_version} is served as latest",
            text="A newer version was there already; its aliases were not touched.",
        )
    aliases = counted(len(promoted.aliases), "alias")
    return Verdict(
        tone="good",
        word="Released",
        title=f"{name} is released in {around.environment}",
        text=f"The coordinator served it as latest, with {aliases},"
        f" on {_when(around.release, 'promote')}.",
    )


def _under_way(around: Around, stages: Sequence[Stage]) -> Verdict:
    done = [stage.name for stage in stages if stage.outcome == "done"]
    coming = [stage.name for stage in stages if stage.outcome in ("open", "stale")]
    name = _name(around)
    if not done:
        return Verdict(
            tone="wait", word="Not begun", title=f"{name} is not begun", next_step=_RESUME
        )
    then = f", {coming[0]} comes next" if coming else ""
    return Verdict(
        tone="wait",
        word="Under way",
        title=f"{name} is under way",
        text=f"Done up to {done[-1]}{then}.",
        next_step=_RESUME,
        warnings=tuple(_beyond_return(around, stages)),
    )


def _rolled(around: Around, stages: Sequence[Stage]) -> Verdict:
    pointed = around.release.get("point", values.RolledBack)
    if pointed is None:
        return _under_way(around, stages)
    instead = f" instead of {', '.join(pointed.instead_of)}" if pointed.instead_of else ""
    return Verdict(
        tone="good",
        word="Rolled back",
        title=f"{around.environment} is rolled back to {pointed.version}",
        text=f"Users get {pointed.version}{instead} since {_when(around.release, 'point')}.",
    )


def _withdrawn(around: Around) -> Verdict | None:
    """The verdict on a version that a rollback beside it withdrew, however long ago."""
    withdrew = [age for age, told in enumerate(around.rollbacks) if around.version in _buried(told)]
    if not withdrew:
        return None
    since = around.rollbacks[: withdrew[0] + 1]
    name = _name(around)
    at = _when(since[-1], "tombstone")
    said = f"Its tombstone is recorded on {at}: this version is never released again."
    said = f"{_why(since[-1], around.version)}{said}"
    for later in since:
        if pointed := later.get("point", values.RolledBack):
            return Verdict(
                tone="bad",
                word="Withdrawn",
                title=f"{name} is withdrawn; users get {pointed.version} again",
                text=f"{said} Rolled back to {pointed.version} on {_when(later, 'point')}.",
            )
    return _half_rolled(since[0], name, said)


def _why(told: Told, version: str) -> str:
    """Who withdrew a version and why, as its tombstone says; empty where that says neither."""
    withdrawn = told.get("tombstone", values.Withdrawn)
    for stone in withdrawn.tombstones if withdrawn else ():
        if stone.version == version and (stone.by or stone.reason):
            by = f" by {stone.by}" if stone.by else ""
            return f"Withdrawn{by}: {stone.reason or 'no reason is told'}. "
    return ""


def _buried(told: Told) -> set[str]:
    """The versions that a rollback wrote tombstones for, or found some of."""
    withdrawn = told.get("tombstone", values.Withdrawn)
    return {one.version for one in withdrawn.tombstones} if withdrawn else set()


def touched(told: Told) -> set[str]:
    """The versions that a rollback withdrew or gave to users."""
    target = told.get("verify", values.RollbackTarget)
    return _buried(told) | ({target.version} if target else set())


def _half_rolled(told: Told, name: str, said: str) -> Verdict:
    stopped = _stopped(timeline.of(told))
    return Verdict(
        tone="bad",
        word="Withdrawn, rollback unfinished",
        title=f"{name} is withdrawn, and the rollback is not finished",
        text=said,
        next_step=(stopped.problem.hint if stopped and stopped.problem else "")
        or "run `release-tool rollback` again: it is made for being repeated",
        problem=stopped.problem if stopped else None,
    )


def _rehearsed(stood_in: Sequence[str]) -> Iterator[str]:
    if stood_in:
        yield (
            f"A rehearsal: look-alikes stood for {_listed(stood_in)}."
            " It proves the wiring and opens nothing."
        )


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _beyond_return(around: Around, stages: Sequence[Stage]) -> Iterator[str]:
    """What a failure behind the registration means for users."""
    by_name = {stage.name: stage for stage in stages}
    register = by_name.get("register")
    if register is None or around.release.get("promote", values.PromotedRelease):
        return
    if register.outcome == "done":
        yield (
            "It is registered: installers and self-updaters may follow the coordinator to it"
            " already. Go on, or withdraw it with `release-tool rollback`."
        )
    elif register.outcome == "sent":
        yield "The registration was sent and its answer is not known: it may stand."


def _warnings(around: Around) -> Iterator[str]:
    release = around.release
    archive = release.get("archive", values.ReleaseArchive)
    if archive and archive.test_outcome != "passed":
        yield f"The tests of this source are recorded as {archive.test_outcome}."
    if archive and release.get("notarize", values.Notarization) is None:
        yield "This release is not notarized."
    newest = around.rollbacks[0] if around.rollbacks else None
    point = newest.get("point", values.RolledBack) if newest else None
    if newest and point and point.version == around.version:
        instead = f" instead of {', '.join(point.instead_of)}" if point.instead_of else ""
        at = _when(newest, "point")
        yield f"Users were given this version again{instead} by a rollback on {at}."


def _when(told: Told, stage: str) -> str:
    record = told.standing.get(stage)
    return timeline.minute(record.at) if record else "an unknown day"
