"""What a death by signal at launch means, as AMFI and dyld would mean it.

macOS tells the process that it killed nothing. What it would have objected to stands in the
signature, which was judged before: `amfi` and `library_validation` say it in the same words.
Source: Apple's TN3125, TN2206 and "Resolving library validation errors"; the incidents of past
releases (a push entitlement without its grant was "Killed: 9", a missing resource bundle a trap).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from release_tool.apple import entitlements
from release_tool.apple.facts import BundleFacts

_LOOK = "look for AMFI in the system log: log show --last 5m --predicate 'sender == \"AMFI\"'"
_KILL, _ABORT, _TRAP = "SIGKILL", "SIGABRT", "SIGTRAP"
_MEMORY = ("SIGSEGV", "SIGBUS")
_OTHER_TEAM = ("different team id", "not valid for use in process", "library validation")


class Reading(NamedTuple):
    """The likely reason of a death."""

    means: str
    hint: str


def read(
    signal_name: str,
    *,
    said: Sequence[str] = (),
    path: str = "",
    facts: BundleFacts | None = None,
) -> Reading:
    """The most likely reason why code was ended by a signal.

    Args:
        signal_name: `SIGKILL`, `SIGABRT`, …
        said: what it wrote last, dyld's and Swift's last words among it.
        path: of its file, as in `facts`.
        facts: the app's signatures as they were read; None where nobody could. What `amfi` finds
            wrong in them stops a release before anything starts: here is what is left.
    """
    words = " ".join(said).lower()
    if signal_name in (_KILL, _ABORT) and any(mark in words for mark in _OTHER_TEAM):
        return Reading(
            "library validation: it loads code of another team",
            "sign that library with our identity",
        )
    if "library not loaded" in words or "symbol not found" in words:
        return Reading(
            "dyld: a library that it links is not there", "pack it, or link what macOS has"
        )
    if signal_name == _KILL:
        return _killed(path, facts)
    if signal_name in (_TRAP, "SIGILL", _ABORT):
        return Reading(
            "a trap of its own: a failed precondition, such as a resource bundle that is not there",
            "its last words say where; the app must hold every resource bundle that it looks for",
        )
    if signal_name in _MEMORY:
        return Reading("a crash", "read the crash report in ~/Library/Logs/DiagnosticReports")
    return Reading("ended from outside", "run again where nothing else ends processes")


def _killed(path: str, facts: BundleFacts | None) -> Reading:
    claims = _restricted(path, facts)
    if claims:
        named = ", ".join(claims)
        return Reading(
            f"AMFI: a restricted entitlement that the profile does not grant on this Mac: {named}",
            "compare each with the profile (release-tool verify-profile), and see that this Mac is"
            f" allowed by it; {_LOOK}",
        )
    return Reading(
        "macOS killed it: an invalid signature, a launch constraint, or too little memory", _LOOK
    )


def _restricted(path: str, facts: BundleFacts | None) -> list[str]:
    report = facts.code.get(path) if facts else None
    if report is None:
        return []
    keys: dict[str, None] = {}
    for item in report.slices:
        claims: Mapping[str, object] = item.entitlements or {}
        keys.update(dict.fromkeys(entitlements.restricted_keys(claims, item.team_id or "")))
    return list(keys)
