"""One shape for every check of ours: what was asked, expected and observed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Outcome = Literal["passed", "failed", "not_checked", "unprotected"]


class Check(NamedTuple):
    """One named check with its outcome.

    `not_checked` was not asked; `unprotected` says that nothing protects these bytes.
    """

    name: str
    """What is checked, in the reader's words: `team`, `page hashes`, `sealed file`."""
    outcome: Outcome
    subject: str = ""
    """The path or slice that it concerns; empty for the object as a whole."""
    expected: str = ""
    observed: str = ""
    hint: str = ""
    """The one next step when it failed."""

    def as_json(self) -> dict[str, str]:
        """All fields by name; empty ones stay, so that readers need no defaults."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "subject": self.subject,
            "expected": self.expected,
            "observed": self.observed,
            "hint": self.hint,
        }


def passed(name: str, observed: str = "", *, subject: str = "", expected: str = "") -> Check:
    """A check that held."""
    return Check(name=name, outcome="passed", subject=subject, expected=expected, observed=observed)


def failed(
    name: str, *, expected: str = "", observed: str = "", subject: str = "", hint: str = ""
) -> Check:
    """A check that did not hold."""
    return Check(
        name=name,
        outcome="failed",
        subject=subject,
        expected=expected,
        observed=observed,
        hint=hint,
    )


def not_checked(name: str, hint: str = "", *, subject: str = "") -> Check:
    """A check that nobody asked for, with how to ask."""
    return Check(name=name, outcome="not_checked", subject=subject, hint=hint)


def unprotected(name: str, observed: str = "", *, subject: str = "") -> Check:
    """Bytes that no hash and no signature covers."""
    return Check(name=name, outcome="unprotected", subject=subject, observed=observed)


def compare(name: str, *, expected: str, observed: str, subject: str = "", hint: str = "") -> Check:
    """Passed when both texts are equal, failed otherwise."""
    if expected == observed:
        return passed(name, observed, subject=subject, expected=expected)
    return failed(name, expected=expected, observed=observed, subject=subject, hint=hint)


def all_hold(checks: Iterable[Check]) -> bool:
    """Whether no check failed. `not_checked` and `unprotected` do not count against it."""
    return not any(check.outcome == "failed" for check in checks)
