"""Zips of others as all readers here take them: opened, listed, their members named."""

from __future__ import annotations

import errno
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from release_tool import errors
from release_tool.files import atomic
from release_tool.files.members import shown

BESIDE = "__MACOSX"
"""Where ditto keeps what lies beside files: attributes in AppleDouble, no files of the app."""
LINK_BYTES = 4096
"""How long the target of a link may be: macOS opens no longer path."""
_UTF8 = 0x800


@contextmanager
def opening(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip; whatever `zipfile` finds wrong with it meanwhile is the format's error.

    Raises:
        FormatError: it is no zip, or one that is damaged.
        HostError: the system refuses.
    """
    with atomic.naming(archive, "read"):
        try:
            with zipfile.ZipFile(archive) as opened:
                yield opened
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as problem:
            raise _damaged(archive) from problem
        except OSError as problem:
            # An offset before the file's beginning is no fault of the system.
            if problem.errno == errno.EINVAL:
                raise _damaged(archive) from problem
            raise


def _damaged(archive: Path) -> errors.FormatError:
    return errors.FormatError("not a zip that can be read", subject=archive.name)


def members_of(opened: zipfile.ZipFile, *, most: int) -> list[zipfile.ZipInfo]:
    """Every member of a zip, each with a name, and packed as ditto and Info-ZIP pack.

    Raises:
        FormatError: more than `most`, one without a name or place, or packed in another way.
    """
    found = opened.infolist()
    if len(found) > most:
        raise errors.FormatError(f"a zip of {len(found)} members, more than {most}")
    for info in found:
        if not info.filename or info.header_offset < 0:
            raise errors.FormatError("a member without a name, or before the zip begins")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise errors.FormatError(
                "a member is packed in a way that no Mac packs",
                subject=shown(info.filename),
                expected="stored or deflated",
                observed=f"method {info.compress_type}",
            )
    return found


def name_of(info: zipfile.ZipInfo) -> str:
    """The name as UTF-8: ditto writes it so and does not say so.

    Raises:
        FormatError: it is not UTF-8.
    """
    if info.flag_bits & _UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError as problem:
        raise errors.FormatError(
            "a member's name is not UTF-8", subject=shown(info.filename)
        ) from problem
