"""Checks as people read them: what failed first, what held in few words, what was not asked."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from release_tool.apple import certificates
from release_tool.apple.checks import Check
from release_tool.cli import github_commands

_WIDTH = 100
_OUTCOME_WIDTH = 13
_DIGEST = re.compile(r"\b[0-9a-f]{40,}\b")
_SHOWN_DIGITS = 12
_SLICE = re.compile(r" \((?:arm64e?|x86_64)\)$")
_ANNOTATED = 3
_FEW_OBJECTS, _FEW_NAMES = 2, 3


def headline(left: str, right: str) -> str:
    """The verdict, with what it is about at the right edge."""
    gap = max(_WIDTH - len(left) - len(right), 2)
    return (left + " " * gap + right).rstrip()


def lines(checks: Sequence[Check]) -> Iterator[str]:
    """Failed checks one by one, then what held by object, then the open ends."""
    for check in checks:
        if check.outcome == "failed":
            yield from _failed(check)
    yield from _passed([check for check in checks if check.outcome == "passed"])
    for outcome in ("unprotected", "not_checked"):
        yield from _alike([check for check in checks if check.outcome == outcome])


def annotation(verdict: str, checks: Sequence[Check]) -> str:
    """A refusal as GitHub Actions shows it beside a run: the verdict and what failed first."""
    failed = [check for check in checks if check.outcome == "failed"]
    told = [certificates.printable(_told(check), 500) for check in failed[:_ANNOTATED]]
    if len(failed) > _ANNOTATED:
        told.append(f"and {len(failed) - _ANNOTATED} more")
    return github_commands.error(f"{verdict}: " + "\n".join(told))


def _told(check: Check) -> str:
    where = f"{check.subject}: " if check.subject else ""
    found = check.observed or "nothing"
    told = f"expected {check.expected}; found {found}" if check.expected else found
    return f"{check.name}  {where}{told}"


def _failed(check: Check) -> Iterator[str]:
    yield from _wrapped("failed", _told(check))
    if check.hint:
        yield from _wrapped("", check.hint)


def _passed(checks: Sequence[Check]) -> Iterator[str]:
    """One entry for each object: the names of what held while they are few, else their count."""
    objects = list(dict.fromkeys(_object(check) for check in checks))
    for subject in objects:
        own = [check for check in checks if _object(check) == subject]
        if not subject:
            for check in own:
                yield from _wrapped("passed", f"{check.name}  {check.observed}")
            continue
        names = list(dict.fromkeys(check.name for check in own))
        brief = len(objects) > _FEW_OBJECTS and len(names) > _FEW_NAMES
        told = f"{len(own)} checks" if brief else ", ".join(names)
        yield from _wrapped("passed", f"{subject}  {told}")


def _object(check: Check) -> str:
    """The file that a check concerns, whatever its slice."""
    return _SLICE.sub("", check.subject)


def _alike(checks: Sequence[Check]) -> Iterator[str]:
    """Checks of one name and finding share a line that counts the objects."""
    for name, told in dict.fromkeys((check.name, check.observed or check.hint) for check in checks):
        own = [c for c in checks if (c.name, c.observed or c.hint) == (name, told)]
        subjects = [check.subject for check in own if check.subject]
        where = f"{subjects[0]}: " if len(subjects) == 1 else ""
        if len(subjects) > 1:
            where = f"{len(subjects)} objects: "
        outcome = own[0].outcome.replace("_", " ")
        yield from _wrapped(outcome, f"{name}  {where}{told}")


def _wrapped(outcome: str, text: str) -> Iterable[str]:
    shown = certificates.printable(_DIGEST.sub(lambda m: m[0][:_SHOWN_DIGITS], text), 2000)
    return textwrap.wrap(
        shown,
        width=_WIDTH,
        initial_indent=f"  {outcome:<{_OUTCOME_WIDTH}}",
        subsequent_indent=" " * (_OUTCOME_WIDTH + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
