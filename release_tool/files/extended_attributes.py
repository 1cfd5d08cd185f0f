"""Extended attributes: what they are called, on the systems that have them."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from release_tool.files import atomic

HOST_OWN = frozenset({"com.apple.provenance", "com.apple.macl"})
"""macOS attaches these by itself, and nobody can take them off; they travel in no archive."""

_NO_FOLLOW = 0x0001
"""XATTR_NOFOLLOW of <sys/xattr.h>."""


def names(path: Path) -> tuple[str, ...]:
    """The attributes that belong to a file, sorted; of a link, not of what it points to.

    On Linux only `user.*` counts: the other name spaces are the host's labels.

    Raises:
        HostError: the file cannot be looked at.
    """
    with atomic.naming(path, "read the attributes of"):
        found = _all(path)
    return tuple(sorted(name for name in found if name not in HOST_OWN))


if sys.platform == "linux":

    def _all(path: Path) -> list[str]:
        try:
            found = os.listxattr(path, follow_symlinks=False)
        except OSError as problem:
            if problem.errno == _NOT_SUPPORTED:
                return []
            raise
        return [name for name in found if name.startswith("user.")]

    _NOT_SUPPORTED = 95  # a file system without attributes has none

elif sys.platform == "darwin":

    def _all(path: Path) -> list[str]:
        """CPython has no listxattr on macOS, so the C library is asked."""
        library = ctypes.CDLL(None, use_errno=True)
        name = os.fsencode(path)
        size = library.listxattr(name, None, ctypes.c_size_t(0), _NO_FOLLOW)
        if size <= 0:
            _raise_unless_none(size)
            return []
        buffer = ctypes.create_string_buffer(size)
        size = library.listxattr(name, buffer, ctypes.c_size_t(size), _NO_FOLLOW)
        _raise_unless_none(size)
        return [part.decode("utf-8", "replace") for part in buffer.raw[:size].split(b"\0") if part]

    def _raise_unless_none(size: int) -> None:
        if size < 0 and ctypes.get_errno() != _NOT_SUPPORTED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    _NOT_SUPPORTED = 45  # ENOTSUP of macOS

else:

    def _all(path: Path) -> list[str]:  # noqa: ARG001 -- no other system is known to have them
        return []
