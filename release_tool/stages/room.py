"""Want of room, told before what followed from it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from release_tool import errors

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# A child that starts writes its logs, locks and caches; with less it rather failed for that.
_LEAST_BYTES = 1024**2


@contextmanager
def blamed(folder: Path, *, hint: str) -> Iterator[None]:
    """Say that a volume is full where something failed on it and it is.

    A child that cannot write fails as one that is broken would: that is no verdict on it.

    Args:
        folder: where the block and its children write.
        hint: how to get more room.

    Raises:
        HostError: there was no room.
    """
    try:
        yield
    except OSError as problem:
        if problem.errno not in _FULL:
            raise
        raise _no_room(folder, problem.strerror or str(problem), hint) from problem
    except errors.VerificationError as problem:
        if not (_is_full(folder) or _tells_of_it(problem)):
            raise
        raise _no_room(folder, problem.message, hint, *problem.details) from problem


def _is_full(folder: Path) -> bool:
    found = os.statvfs(folder)
    without_names = found.f_files > 0 and found.f_favail == 0
    return without_names or found.f_bavail * found.f_frsize < _LEAST_BYTES


def _tells_of_it(problem: errors.VerificationError) -> bool:
    """Whether a child's last words are the system's: it may have removed what filled the volume."""
    words = {os.strerror(number) for number in _FULL}
    return any(word in line for line in problem.lines() for word in words)


def _no_room(folder: Path, met: str, hint: str, *details: str) -> errors.HostError:
    return errors.HostError(
        "there is no room on the volume of the temporary files",
        subject=str(folder),
        observed=met,
        details=details,
        hint=hint,
    )
