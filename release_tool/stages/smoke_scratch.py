"""Where a smoke run unpacks and starts things: outside of every build tree, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from release_tool import errors
from release_tool.stages import room

# What a killed run left behind goes with the next one.
_MORE_ROOM = "make room in /tmp, or name another volume in TMPDIR, then run again"
_SCRATCH_PREFIX = "release-tool-smoke-"


@contextmanager
def folder() -> Iterator[Path]:
    """A folder outside every build tree: an app that only runs beside its build would show it."""
    parent = _temporary()
    for old in parent.glob(f"{_SCRATCH_PREFIX}*"):
        if old.lstat().st_uid == os.getuid() and not _is_used(old):
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{_SCRATCH_PREFIX}{os.getpid()}-", dir=parent, ignore_cleanup_errors=True
    ) as name:
        # On macOS the temporary folder is behind a link, and an app should see its true path.
        made = Path(name).resolve()
        with room.blamed(made, hint=_MORE_ROOM):
            yield made


def _temporary() -> Path:
    """Where Python puts temporary files; where all of those are full, it takes the working folder.

    Raises:
        HostError: so, or even that takes nothing.
    """
    try:
        found = Path(tempfile.gettempdir())
    except FileNotFoundError as problem:
        raise _no_room(problem.strerror or str(problem)) from problem
    if found.parts[-1:] != ("tmp",) and found.resolve() == Path.cwd():
        raise _no_room(f"only the working folder does: {found}")
    return found


def _no_room(observed: str) -> errors.HostError:
    return errors.HostError(
        "the smoke run unpacks the archive outside of every build tree, and no such place has room",
        expected="a folder for temporary files that can be written",
        observed=observed,
        hint=_MORE_ROOM,
    )


def _is_used(folder: Path) -> bool:
    """Whether the run that made the folder, and put its number into the name, still lives."""
    number = folder.name.removeprefix(_SCRATCH_PREFIX).partition("-")[0]
    if not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
