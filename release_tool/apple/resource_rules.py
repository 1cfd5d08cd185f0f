"""Which files of a bundle a resource seal covers, and how.

Patterns are searched in the path relative to `Contents/`; the heaviest match wins. Rule and
source: Apple's published default rules, identical in every real Developer ID app measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from release_tool import errors
from release_tool.apple import property_list

_NESTED_PLACES = (
    "^(Frameworks|SharedFrameworks|PlugIns|Plug-ins|XPCServices|Helpers|MacOS"
    "|Library/(Automator|Spotlight|LoginItems))/"
)
_EVERYTHING = "^.*"


def _weighing(weight: int, **flags: bool) -> dict[str, object]:
    return {**flags, "weight": property_list.WholeReal(weight)}


def tables(resources: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Apple's default rules: the legacy table and the one that macOS judges by.

    Args:
        resources: where the bundle keeps resources, `Resources/`; empty for a flat bundle.
    """
    here = f"^{resources}"
    places: dict[str, object] = {
        rf"{here}.*\.lproj/": _weighing(1000, optional=True),
        rf"{here}.*\.lproj/locversion.plist$": _weighing(1100, omit=True),
        rf"{here}Base\.lproj/": _weighing(1010),
    }
    legacy: dict[str, object] = {here: True, **places, "^version.plist$": True}
    modern: dict[str, object] = {
        r".*\.dSYM($|/)": _weighing(11),
        r"^(.*/)?\.DS_Store$": _weighing(2000, omit=True),
        _NESTED_PLACES: _weighing(10, nested=True),
        _EVERYTHING: True,
        r"^Info\.plist$": _weighing(20, omit=True),
        "^PkgInfo$": _weighing(20, omit=True),
        here: _weighing(20),
        **places,
        "^[^/]+$": _weighing(10, nested=True),
        r"^embedded\.provisionprofile$": _weighing(20),
        r"^version\.plist$": _weighing(20),
    }
    return legacy, modern


RULES, RULES2 = tables("Resources/")
"""The legacy table, which the SHA-1 `files` follow, and the table that macOS judges by."""
_, _FLAT_RULES2 = tables("")

# Apple's tables have 13 rules, hand-written ones a few more.
MAX_RULES = 100

# Python's matcher backtracks, so a pattern from a stranger is only used when it cannot make it
# wander: literals and at most two `.*` between an anchor and the end.
_HARMLESS = re.compile(
    r"\^(?:[A-Za-z0-9_ /@\-]|\\[.+\-$()]|\.(?![*+?{]))*"
    r"(?:\.\*(?:[A-Za-z0-9_ /@\-]|\\[.+\-$()]|\.(?![*+?{]))*){0,2}\$?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One compiled rule."""

    pattern: re.Pattern[str]
    weight: float = 1.0
    omit: bool = False
    optional: bool = False
    nested: bool = False


_SILENT_OMISSION = Rule(pattern=re.compile(""), omit=True)
"""What no rule matches is not sealed."""


def compile_rules(table: Mapping[str, object]) -> tuple[Rule, ...]:
    """Compile a table of rules as it stands in a seal.

    Raises:
        FormatError: a rule is not of a known shape, or its pattern is not safe to try.
    """
    if len(table) > MAX_RULES:
        raise errors.FormatError("the seal has too many rules", observed=str(len(table)))
    return tuple(_rule(pattern, value) for pattern, value in table.items())


def _rule(pattern: str, value: object) -> Rule:
    if pattern not in RULES2 and pattern not in RULES and not _HARMLESS.fullmatch(pattern):
        raise errors.FormatError("a rule of the seal is not one of Apple's", observed=pattern[:80])
    compiled = re.compile(pattern)
    if isinstance(value, bool):
        return Rule(pattern=compiled, omit=not value)
    if not isinstance(value, dict):
        raise errors.FormatError("a rule of the seal has an unknown shape", observed=pattern[:80])
    weight = value.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise errors.FormatError("a rule's weight is not a number", observed=pattern[:80])
    return Rule(
        pattern=compiled,
        weight=float(weight),
        omit=value.get("omit") is True,
        optional=value.get("optional") is True,
        nested=value.get("nested") is True,
    )


def choose(rules: Sequence[Rule], path: str) -> Rule:
    """The rule that decides about a path: the heaviest that matches, the first among equals."""
    best: Rule | None = None
    for rule in rules:
        if (best is None or rule.weight > best.weight) and rule.pattern.search(path):
            best = rule
    return best or _SILENT_OMISSION


def is_default(table: object) -> bool:
    """Whether a table is Apple's default, of a bundle with a resources folder or a flat one."""
    return isinstance(table, dict) and table in (dict(RULES2), dict(_FLAT_RULES2))


def weaknesses(table: Mapping[str, object]) -> list[str]:
    """Why a table leaves files unsealed that Apple's default seals; empty where it does not.

    Rule and source: codesign's strict validation. Only the default's own omissions may stand, and
    the rule that seals everything must.
    """
    own = {pattern for pattern, value in RULES2.items() if _omits(value)}
    omitted = [pattern for pattern, value in table.items() if _omits(value) and pattern not in own]
    found = [f"{pattern} is omitted" for pattern in omitted]
    if table.get(_EVERYTHING) is not True:
        found.append(f"no rule {_EVERYTHING}")
    return found


def _omits(value: object) -> bool:
    return isinstance(value, Mapping) and value.get("omit") is True
