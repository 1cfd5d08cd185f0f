"""What was found, all at once: files compared, failed checks in one error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from release_tool import errors
from release_tool.apple import checks
from release_tool.apple.checks import Check


def require(found: Iterable[Check], message: str, *, hint: str = "") -> None:
    """Pass when no check failed.

    Args:
        found: checks with their outcomes.
        message: the verdict when one failed.
        hint: the next step, where the failed checks name none.

    Raises:
        VerificationError: at least one failed; each is listed with expected and observed.
    """
    failed = [check for check in found if check.outcome == "failed"]
    if failed:
        named = "; ".join(dict.fromkeys(check.hint for check in failed if check.hint))
        raise errors.VerificationError(
            message, details=[_line(check) for check in failed], hint=named or hint
        )


def same_files(name: str, *, wanted: Mapping[str, str], found: Mapping[str, str]) -> list[Check]:
    """Compare two listings of files, each file's description by its path, both ways.

    Args:
        name: of the checks, such as `packed file`.
        wanted: as they were recorded.
        found: as they are.
    """
    return [
        checks.compare(
            name,
            expected=wanted.get(path, "no such file"),
            observed=found.get(path, "nothing"),
            subject=path,
        )
        for path in sorted(wanted.keys() | found.keys())
    ]


def _line(check: Check) -> str:
    name = f"{check.name} of {check.subject}" if check.subject else check.name
    observed = check.observed or "nothing"
    if not check.expected:
        return f"{name}: {observed}"
    return f"{name}: expected {check.expected}, observed {observed}"
