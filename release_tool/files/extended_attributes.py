"""Extended attributes: what they are called, and signatures in them, where systems have them."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from release_tool import errors
from release_tool.apple.detached_signature import MAX_PART_BYTES, PREFIX
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


def of_signature(descriptor: int, path: Path) -> Mapping[str, bytes]:
    """The parts of a code signature that an open file carries, by name without `PREFIX`.

    Raises:
        VerificationError: a part is larger than any signature's.
        HostError: the system refuses.
    """
    found: dict[str, bytes] = {}
    with atomic.naming(path, "read the attributes of"):
        for name in _all(descriptor):
            plain = name.removeprefix(_USERS)
            if plain.startswith(PREFIX):
                content = _content(descriptor, name)
                if len(content) > MAX_PART_BYTES:
                    raise errors.VerificationError(
                        "an extended attribute is larger than a signature",
                        subject=str(path),
                        observed=f"{plain}, {len(content)} bytes",
                    )
                found[plain.removeprefix(PREFIX)] = content
    return found


def attach_signature(descriptor: int, path: Path, parts: Mapping[str, bytes]) -> None:
    """Give an open file the parts of a code signature, by name without `PREFIX`.

    Raises:
        VerificationError: a part is larger than any signature's.
        HostError: the system refuses, or has no extended attributes.
    """
    with atomic.naming(path, "write the attributes of"):
        for name, content in parts.items():
            if len(content) > MAX_PART_BYTES:
                raise errors.VerificationError(
                    "an extended attribute is larger than a signature",
                    subject=str(path),
                    observed=f"{PREFIX}{name}, {len(content)} bytes",
                )
            _attach(descriptor, f"{_USERS}{PREFIX}{name}", content)


_USERS = "user." if sys.platform == "linux" else ""

if sys.platform == "linux":

    def _all(path: Path | int) -> list[str]:
        try:
            # A descriptor stands for its file, and no link is between.
            found = (
                os.listxattr(path)
                if isinstance(path, int)
                else os.listxattr(path, follow_symlinks=False)
            )
        except OSError as problem:
            if problem.errno == _NOT_SUPPORTED:
                return []
            raise
        return [name for name in found if name.startswith("user.")]

    def _content(descriptor: int, name: str) -> bytes:
        return os.getxattr(descriptor, name)

    def _attach(descriptor: int, name: str, content: bytes) -> None:
        os.setxattr(descriptor, name, content)

    _NOT_SUPPORTED = 95  # a file system without attributes has none

elif sys.platform == "darwin":

    def _all(path: Path | int) -> list[str]:
        """CPython has no listxattr on macOS, so the C library is asked."""
        size = _listed(path, None, 0)
        if size <= 0:
            _raise_unless_none(size)
            return []
        buffer = ctypes.create_string_buffer(size)
        size = _listed(path, buffer, size)
        _raise_unless_none(size)
        return [part.decode("utf-8", "replace") for part in buffer.raw[:size].split(b"\0") if part]

    def _listed(path: Path | int, buffer: ctypes.Array[ctypes.c_char] | None, size: int) -> int:
        library = ctypes.CDLL(None, use_errno=True)
        room = ctypes.c_size_t(size)
        if isinstance(path, int):
            return int(library.flistxattr(path, buffer, room, 0))
        return int(library.listxattr(os.fsencode(path), buffer, room, _NO_FOLLOW))

    def _content(descriptor: int, name: str) -> bytes:
        library = ctypes.CDLL(None, use_errno=True)
        library.fgetxattr.restype = ctypes.c_ssize_t
        # One byte more than is taken tells what is too large.
        buffer = ctypes.create_string_buffer(MAX_PART_BYTES + 1)
        room = ctypes.c_size_t(MAX_PART_BYTES + 1)
        size = library.fgetxattr(descriptor, name.encode(), buffer, room, 0, 0)
        if size < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return buffer.raw[:size]

    def _attach(descriptor: int, name: str, content: bytes) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        room = ctypes.c_size_t(len(content))
        if library.fsetxattr(descriptor, name.encode(), content, room, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def _raise_unless_none(size: int) -> None:
        if size < 0 and ctypes.get_errno() != _NOT_SUPPORTED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    _NOT_SUPPORTED = 45  # ENOTSUP of macOS

else:

    def _all(path: Path | int) -> list[str]:  # noqa: ARG001 -- no other system is known to have them
        return []

    def _content(descriptor: int, name: str) -> bytes:  # noqa: ARG001 -- likewise
        return b""

    def _attach(descriptor: int, name: str, content: bytes) -> None:  # noqa: ARG001 -- likewise
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
