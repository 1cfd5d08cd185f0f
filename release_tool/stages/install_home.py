"""What stands in a user's home and beside it, listed before and after an installer ran."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from release_tool.files.tree import DiskTree
from release_tool.stages import installer_file

USERS_FILE = "provider.toml"
"""What the user has written there, and an installation keeps."""
UNCHANGED = "unchanged"
_SHOWN = 3
_TRACE = re.compile(r"darkbloom|eigeninference", re.IGNORECASE)
_HOME_FILES = (
    *(".profile", ".bashrc", ".bash_profile", ".zshrc", ".zprofile"),
    *(f"{installer_file.FOLDER}/bin", "Library/LaunchAgents"),
)

Listing = Mapping[str, str]
"""What stands in a folder: kind, mode and digest or target, by path."""


def root(home: Path) -> Path:
    """Where a release is installed."""
    return home / installer_file.FOLDER


def write(path: Path, text: str) -> None:
    """Write a file, and the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def listing(folder: Path) -> dict[str, str]:
    """Everything below a folder."""
    tree = DiskTree(folder)
    entries = tree.entries()
    digests = tree.digests({one.path: ("sha256",) for one in entries if one.kind == "file"})
    return {
        one.path: f"{one.mode:04o} {digests[one.path]['sha256'].hex()}"
        if one.kind == "file"
        else f"{one.kind} {one.target}"
        for one in entries
    }


def difference(wanted: Listing, found: Listing) -> str:
    """What differs, by name; empty where nothing does."""
    told = []
    for path in sorted(wanted.keys() | found.keys()):
        if path not in found:
            told.append(f"{path} is missing")
        elif path not in wanted:
            told.append(f"{path} is new")
        elif wanted[path] != found[path]:
            told.append(f"{path} differs")
    more = [f"and {len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
    return ", ".join([*told[:_SHOWN], *more])


def changed(before: Listing, after: Listing) -> str:
    """What differs, or `unchanged`."""
    return difference(before, after) or UNCHANGED


def outside(home: Path) -> tuple[Path, ...]:
    """Where installers of the past have written, beside their own folder."""
    system = (Path("/tmp"), Path("/var/tmp"), Path("/usr/local/bin"))  # noqa: S108
    return (*system, *(home / name for name in _HOME_FILES))


def traces(places: Sequence[Path]) -> dict[str, str]:
    """Files of the product's name in folders, and the files themselves."""
    found = {}
    for place in places:
        try:
            inside = [one for one in place.iterdir() if _TRACE.search(one.name)]
        except NotADirectoryError:
            inside = [place]
        except OSError:
            continue
        for one in inside:
            status = one.lstat()
            found[str(one)] = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
    return found
