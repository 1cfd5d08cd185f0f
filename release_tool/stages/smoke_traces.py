"""What a provider leaves outside its own home: nothing, on this machine and on a user's.

Its places in the user's home are compared whole. Elsewhere other programs write all the time, so
only what bears its name counts there: another file in a folder of everybody is not seen.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from release_tool.apple import checks
from release_tool.apple.checks import Check

NAME = "writes only into its home"
# Where providers keep their state and models, below a user's home.
_STATE = ".darkbloom"
_IN_HOME = (_STATE, ".cache/huggingface/hub")
# Where macOS and others put a program's files by its name; the first is the home itself.
_BY_NAME = (
    *("", ".config", ".cache", ".local/share", ".local/state"),
    *(
        f"Library/{name}"
        for name in (
            *("Application Support", "Caches", "Containers", "HTTPStorages", "LaunchAgents"),
            *("Logs", "Preferences", "Saved Application State"),
        )
    ),
)
_OWN_NAME = re.compile(r"darkbloom|eigeninference", re.IGNORECASE)
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - looked into, not written
_TOLD = 5
_ENTRIES = 50_000
"""More than that is no provider's state, and would be listed for minutes."""
_PID_BYTES = 32

Listing = Mapping[str, tuple[int, ...]]


class Traces:
    """How places looked before something ran.

    Args:
        folders: what must stay exactly as it is, by the name that a check gives it.
        holders: folders in which nothing new may appear, by name.
        users_home: the home of who runs this, which the provider was not told of.
        temporary: folders of everybody's temporary files.
    """

    def __init__(
        self,
        *,
        folders: Mapping[str, Path],
        holders: Mapping[str, Path],
        users_home: Path,
        temporary: Sequence[Path] = _TEMPORARY,
    ) -> None:
        # A Mac's own is below /var/folders.
        shared = dict.fromkeys((*temporary, Path(tempfile.gettempdir())))
        self._folders = folders
        self._holders = holders
        self._state = {f"~/{name}": users_home / name for name in _IN_HOME}
        self._named = {
            "the home of who runs this": [users_home / name for name in _BY_NAME],
            "folders of temporary files": list(shared),
        }
        self._neighbour = _neighbour(users_home / _STATE)
        self._before = self._seen()
        self._names = {name: _names(path) for name, path in self._holders.items()}

    def judge(self) -> list[Check]:
        """Whether all is as it was."""
        after = self._seen()
        found = [self._compared(place, after[place]) for place in after]
        for place, path in self._holders.items():
            found.append(_check(place, sorted(_names(path) - self._names[place])))
        return found

    def _seen(self) -> dict[str, Listing]:
        whole = {**self._folders, **self._state}
        by_name = {place: _of_its_name(paths) for place, paths in self._named.items()}
        return {place: _listing(path) for place, path in whole.items()} | by_name

    def _compared(self, place: str, after: Listing) -> Check:
        before = self._before[place]
        changed = sorted(
            path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        )
        if changed and self._neighbour and place not in self._folders:
            return checks.not_checked(
                NAME,
                f"another provider lives there (process {self._neighbour}), and what changed may be"
                " its own: end it before a smoke run",
                subject=place,
            )
        if max(len(before), len(after)) > _ENTRIES:
            return checks.not_checked(NAME, f"it holds more than {_ENTRIES} files", subject=place)
        return _check(place, changed)


def _check(place: str, changed: list[str]) -> Check:
    if not changed:
        return checks.passed(NAME, "untouched", subject=place)
    more = f" and {len(changed) - _TOLD} more" if len(changed) > _TOLD else ""
    return checks.failed(
        NAME,
        subject=place,
        expected="untouched",
        observed=f"{', '.join(changed[:_TOLD])}{more}",
        hint="HOME and TMPDIR say where it may write; a changed app breaks its own seal",
    )


def _listing(folder: Path) -> Listing:
    return dict(itertools.islice(_entries(folder, folder), _ENTRIES + 1))


def _of_its_name(folders: Iterable[Path]) -> Listing:
    """Everything in these folders that is called like a provider, and all below it."""
    return dict(itertools.islice(_named_entries(folders), _ENTRIES + 1))


def _named_entries(folders: Iterable[Path]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for folder in folders:
        for name in sorted(_names(folder)):
            # Its folder of state is compared by itself.
            if name == _STATE or not _OWN_NAME.search(name):
                continue
            yield from _entries(folder / name, folder.parent)
            with suppress(OSError):
                yield str(folder / name), _facts(folder / name)


def _entries(folder: Path, above: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    for path in folder.rglob("*"):
        with suppress(OSError):
            yield path.relative_to(above).as_posix(), _facts(path)


def _facts(path: Path) -> tuple[int, ...]:
    status = path.lstat()
    # A folder's own size and time change with what lies in it, which is listed itself.
    whole = (status.st_mode, status.st_size, status.st_ino, status.st_mtime_ns)
    return whole[:1] if path.is_dir() else whole


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return set()


def _neighbour(state: Path) -> int:
    """The number of a living provider of the user's own; 0 where there is none."""
    for path in sorted(state.glob("*.pid")):
        with suppress(OSError, ValueError, OverflowError):
            with path.open("rb") as source:
                number = int(source.read(_PID_BYTES))
            if number > 0:
                os.kill(number, 0)
                return number
    return 0
