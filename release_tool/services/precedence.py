"""Which of two versions ranks above the other: by SemVer, and as coordinators of May have it."""

from __future__ import annotations

import re

import semver


def is_newer(version: str, than: str) -> bool:
    """Whether `version` ranks above `than` by SemVer precedence; what is no SemVer never does."""
    try:
        return semver.Version.parse(version) > semver.Version.parse(than)
    except ValueError:
        return False


def may_ranks_above(version: str, other: str) -> bool:
    """Whether a coordinator of May ranks `version` above `other` although SemVer does not.

    Its comparator splits at dots and scans one integer out of each piece, so `0.5.0-dev.1`
    becomes 0, 5, 0, 1 and stands above `0.5.0`.
    """
    return not is_newer(version, other) and _may_rank(version) > _may_rank(other)


def may_be_served_before(version: str, other: str, *, by_may: bool) -> bool:
    """Whether a coordinator may serve `version` as latest although `other` is active.

    Of equal rank the newer row wins, and nobody tells when a row was made: it may.

    Args:
        version: of an active release.
        other: of the release that shall be served.
        by_may: whether it ranks as those of May do, else by SemVer, where what is no version
            ranks below every one.
    """
    if by_may:
        return _may_rank(version) >= _may_rank(other)
    return semver.Version.is_valid(version) and not is_newer(other, version)


def next_version(version: str) -> str:
    """The version after one that must not be used again."""
    try:
        parsed = semver.Version.parse(version)
    except ValueError:
        return "the next version"
    return str(parsed.bump_prerelease() if parsed.prerelease else parsed.bump_patch())


def _may_rank(version: str) -> tuple[int, ...]:
    pieces = [re.match(r"[0-9]{1,18}", piece) for piece in version.split(".")]
    numbers = [int(piece.group()) if piece else 0 for piece in pieces]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
