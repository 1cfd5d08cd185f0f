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
_FEW = 2
_NUMBER = re.compile(r"\d+")
_TELLING = ("certificate chain", "timestamp", "expired certificate", "ticket", "ticket cdhashes")
"""Passed checks whose finding is told: who signed, when, and what Apple notarized."""
_OF_FILES, _NAMED = ("outside the seal", "extended attribute"), 5
"""Findings that are about the files themselves, and how many of those are named."""


def headline(left: str, right: str) -> str:
    """The verdict, with what it is about at the right edge."""
    gap = max(_WIDTH - len(left) - len(right), 2)
    return (left + " " * gap + right).rstrip()


def lines(checks: Sequence[Check], *, counted: bool = False) -> Iterator[str]:
    """Failed checks one by one, then what held by object or only counted, then the open ends."""
    for check in checks:
        if check.outcome == "failed":
            yield from _failed(check)
    passed = [check for check in checks if check.outcome == "passed"]
    if counted:
        yield from _wrapped("passed", f"{len(passed)} checks, which -v names") if passed else ()
    else:
        yield from _passed(passed)
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
    """Who signed and when; then the names of what held, with the objects or how many they are."""
    for name in _TELLING:
        told = list(dict.fromkeys(check.observed for check in checks if check.name == name))
        more = f", and {len(told) - 1} more" if len(told) > 1 else ""
        yield from _wrapped("passed", f"{name}  {told[0]}{more}") if told else ()
    names: dict[str, list[str]] = {}
    for check in checks:
        if check.name in _TELLING:
            continue
        if not check.subject:
            yield from _wrapped("passed", f"{check.name}  {check.observed}")
        elif _object(check) not in names.setdefault(check.name, []):
            names[check.name].append(_object(check))
    for objects in dict.fromkeys(map(tuple, names.values())):
        alike = ", ".join(name for name, own in names.items() if tuple(own) == objects)
        where = ", ".join(objects) if len(objects) <= _FEW else f"{len(objects)} objects"
        yield from _wrapped("passed", f"{where}  {alike}")


def _object(check: Check) -> str:
    """The file that a check concerns, whatever its slice."""
    return _SLICE.sub("", check.subject)


def _alike(checks: Sequence[Check]) -> Iterator[str]:
    """Checks of one name and finding, but for its numbers, share a line."""
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        finding = _NUMBER.sub("0", check.observed or check.hint)
        groups.setdefault((check.name, finding), []).append(check)
    for (name, _), own in groups.items():
        told = list(dict.fromkeys(check.observed or check.hint for check in own))
        others = ", others alike" if len(told) > 1 else ""
        outcome = own[0].outcome.replace("_", " ")
        yield from _wrapped(outcome, f"{name}  {_where(name, own)}{told[0]}{others}")


def _where(name: str, checks: Sequence[Check]) -> str:
    """The objects of a finding: how many, or which where the object is the finding."""
    objects = list(dict.fromkeys(_object(check) for check in checks if check.subject))
    if not objects:
        return ""
    if name not in _OF_FILES or len(objects) == 1:
        return f"{objects[0]}: " if len(objects) == 1 else f"{len(objects)} objects: "
    more = f" and {len(objects) - _NAMED} more" if len(objects) > _NAMED else ""
    return f"{', '.join(objects[:_NAMED])}{more}: "


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
