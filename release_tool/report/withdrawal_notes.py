"""What the notes of a withdrawn release begin with on GitHub: the words of its tombstone."""

from __future__ import annotations

from collections.abc import Mapping

from release_tool.report.notes import fact
from release_tool.values import Withdrawn


def lines(withdrawn: Withdrawn) -> Mapping[str, str]:
    """By version, one line of Markdown; the same for the same tombstone, and every text is data."""
    return {
        one.version: (
            f"**Withdrawn: not to be used, take another release.** At {fact(one.at or 'unknown')}"
            f" by {fact(one.by or 'nobody named')}: {fact(one.reason or 'no reason')}."
        )
        for one in withdrawn.tombstones
    }
