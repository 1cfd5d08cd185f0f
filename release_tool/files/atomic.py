"""Files that appear whole or not at all, whatever ends the process."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from release_tool import errors

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_UNFINISHED = ".part"
# As tempfile says it, under the number of a file that is not there.
_NO_TEMPORARY = "No usable temporary directory"
_IN_TEXT = re.compile(r"\[Errno ([0-9]{1,4})\]")


@contextmanager
def naming(path: Path, doing: str) -> Iterator[None]:
    """Turn the system's refusals into our error about `path`.

    Args:
        path: what was touched.
        doing: the verb for the reader: `write`, `unpack into`.

    Raises:
        HostError: the disk is full, the permission is missing, or the system says no otherwise.
    """
    try:
        yield
    except OSError as problem:
        if doing == "read" and _number(problem) in _FULL:
            # What was read is being written elsewhere, and that place is full.
            raise
        raise _host_error(path, doing, problem) from problem


@contextmanager
def refusals(folder: Path) -> Iterator[None]:
    """Turn a full disk and a missing permission below `folder` into our error, wherever met.

    Any other fault of the system that nobody named is a bug, and stays one.

    Raises:
        HostError: so.
    """
    try:
        yield
    except OSError as problem:
        if _number(problem) not in _FULL | _FORBIDDEN:
            raise
        raise _host_error(_place(problem) or folder, "write", problem) from problem


def no_room(problem: OSError) -> errors.HostError | None:
    """The error for a volume that is full, where nobody else named it; None for any other fault."""
    if _number(problem) in _FULL:
        return _host_error(_place(problem) or Path.cwd(), "write", problem)
    if (problem.strerror or "").startswith(_NO_TEMPORARY):
        return errors.HostError(
            "no folder for temporary files can be written",
            observed=problem.strerror or "",
            hint="make room in /tmp, or name another volume in TMPDIR, then run again",
        )
    return None


def _place(problem: OSError) -> Path | None:
    named = problem.filename
    return Path(named) if isinstance(named, str) else None


@contextmanager
def new_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to write, which takes the name `path` once the block ends well.

    The bytes reach the disk before the name does, and the name before this returns. What stood
    at `path` stays until then; after an error nothing new lies there.

    Raises:
        HostError: the system refuses.
    """
    with naming(path, "write"):
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=_UNFINISHED, dir=path.parent
        )
    scratch = Path(name)
    try:
        with naming(path, "write"), os.fdopen(descriptor, "wb") as target:
            yield target
            target.flush()
            os.fchmod(target.fileno(), mode)
            os.fsync(target.fileno())
        with naming(path, "write"):
            scratch.replace(path)
            sync_directory(path.parent)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Give `path` this content, or leave it as it was.

    Raises:
        HostError: the system refuses.
    """
    with new_file(path, mode=mode) as target:
        target.write(data)


def drop_unfinished(folder: Path) -> None:
    """Remove what a kill amid `new_file` left directly in a folder; what cannot go stays.

    The caller knows that nobody else writes there.
    """
    with suppress(OSError):
        for path in folder.glob(f".*{_UNFINISHED}"):
            path.unlink()


def replace_directory(scratch: Path, final: Path) -> None:
    """Give a finished folder its name; a folder that had it goes.

    A rename cannot replace a folder that is not empty, so the old one steps aside first and comes
    back if the new one cannot take its place.

    Raises:
        HostError: the system refuses.
    """
    aside = final.with_name(f".{final.name}.old")
    with naming(final, "replace"):
        remove_tree(aside)
        had_one = final.exists()
        if had_one:
            final.rename(aside)
        try:
            scratch.rename(final)
        except OSError:
            if had_one:
                aside.rename(final)
            raise
        sync_directory(final.parent)
        remove_tree(aside)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all below it; nothing there is fine."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def sync_directory(folder: Path) -> None:
    """Bring a folder's names to the disk: a rename is safe only after that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        # Some network and overlay file systems cannot; the rename itself still holds.
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _number(problem: OSError) -> int:
    """The system's number; a copy of a whole tree has it in the text of its first fault only."""
    if problem.errno is not None:
        return problem.errno
    found = _IN_TEXT.search(str(problem)) if isinstance(problem, shutil.Error) else None
    return int(found[1]) if found else 0


def _host_error(path: Path, doing: str, problem: OSError) -> errors.HostError:
    number = _number(problem)
    if number in _FULL:
        hint = "make room on this volume, then run again"
    elif number in _FORBIDDEN:
        hint = "allow the user of this process to do so, then run again"
    else:
        hint = ""
    reason = os.strerror(number) if number else str(problem)
    return errors.HostError(f"cannot {doing}", subject=str(path), observed=reason, hint=hint)
