"""Moves a handoff that was verified into an existing workspace, all of it or nothing.

The one step that decides is the rename of the verified folder to `.handoff` in the workspace.
What follows can be done again from any point, and whoever locks the workspace does it first:
artifacts take their places, then records in their order, so that a record never stands before
what it names.
"""

from __future__ import annotations

import os
from pathlib import Path

from release_tool.files import atomic
from release_tool.handoff.contents import LEDGER
from release_tool.ledger import number_of

INCOMING = ".handoff"
_REPLACED = ".replaced"


def settle(root: Path) -> bool:
    """Finish what an interrupted `unpack` had decided; the caller holds the ledger's lock.

    Args:
        root: the workspace.

    Returns:
        Whether there was anything to do; then the ledger must be read again.

    Raises:
        HostError: the system refuses; run again.
    """
    incoming = root / INCOMING
    with atomic.naming(incoming, "move into place"):
        if not incoming.is_dir():
            return False
        _place_artifacts(incoming, root)
        _place_records(incoming / LEDGER, root / LEDGER)
        atomic.remove_tree(incoming)
        atomic.sync_directory(root)
    return True


def _place_artifacts(incoming: Path, root: Path) -> None:
    """Whole trees at once: what lies beside the files that are named is not theirs."""
    for made in sorted(incoming.iterdir()):
        if made.name in (LEDGER, _REPLACED):
            continue
        final = root / made.name
        if os.path.lexists(final):
            aside = incoming / _REPLACED / made.name
            aside.parent.mkdir(exist_ok=True)
            final.rename(aside)
        made.rename(final)
    atomic.sync_directory(root)


def _place_records(incoming: Path, ledger: Path) -> None:
    if not incoming.is_dir():
        return
    for made in sorted(incoming.iterdir(), key=lambda path: number_of(path.name) or 0):
        final = ledger / made.name
        if final.exists():
            # Verified before to be the same record.
            made.unlink()
        else:
            made.rename(final)
    atomic.sync_directory(ledger)
