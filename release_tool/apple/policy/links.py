"""Follow the symbolic links of an app as the system does, without touching a disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from posixpath import dirname, normpath

# MAXSYMLINKS of macOS.
_MAX_LINKS = 32
# MAXPATHLEN of macOS.
_LONGEST_PATH = 1024


def follow(
    path: str,
    links: Mapping[str, str],
    exists: Callable[[str], bool],
    may: Callable[[str], bool] = lambda _: True,
) -> str | None:
    """Follow relative links, also on the way, as the system does; None where it leads nowhere.

    Args:
        path: relative to the app.
        links: target of each link by its path.
        exists: whether a path is a regular file.
        may: asked before each step; False ends it.
    """
    for _ in range(_MAX_LINKS):
        if path.startswith(("../", "/")) or path == ".." or len(path) > _LONGEST_PATH:
            return None
        if not may(path):
            return None
        at = _first_link(path, links) if links else None
        if at is None:
            return path if exists(path) else None
        rest = path[len(at) :].lstrip("/")
        path = normpath("/".join(piece for piece in (dirname(at), links[at], rest) if piece))
        if links[at].startswith("/"):
            return None
    return None


def _first_link(path: str, links: Collection[str]) -> str | None:
    parts = path.split("/")
    stages = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
    return next((stage for stage in stages if stage in links), None)
