"""What a provider leaves outside its own home: nothing, on this machine and on a user's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from release_tool.apple import checks
from release_tool.apple.checks import Check

# Where providers keep their state in a user's home: a provider of somebody else may live there, so
# only what is new counts.
_IN_HOME = (".darkbloom", ".cache/huggingface/hub")
_TOLD = 5

Listing = Mapping[str, tuple[int, ...]]


class Traces:
    """How places looked before something ran.

    Args:
        folders: what must stay exactly as it is, by the name that a check gives it.
        holders: folders in which nothing new may appear, by name.
        users_home: the home of who runs this, which the provider was not told of.
    """

    def __init__(
        self, *, folders: Mapping[str, Path], holders: Mapping[str, Path], users_home: Path
    ) -> None:
        self._folders = folders
        self._holders = {
            **holders,
            **{f"~/{name}": users_home / name for name in _IN_HOME},
        }
        self._before = {name: _listing(path) for name, path in folders.items()}
        self._names = {name: _names(path) for name, path in self._holders.items()}

    def judge(self) -> list[Check]:
        """Whether all is as it was."""
        found = []
        for name, path in self._folders.items():
            before, after = self._before[name], _listing(path)
            changed = sorted(
                place
                for place in before.keys() | after.keys()
                if before.get(place) != after.get(place)
            )
            found.append(_check(name, changed))
        for name, path in self._holders.items():
            found.append(_check(name, sorted(_names(path) - self._names[name])))
        return found


def _check(place: str, changed: list[str]) -> Check:
    name = "writes only into its home"
    if not changed:
        return checks.passed(name, "untouched", subject=place)
    more = f" and {len(changed) - _TOLD} more" if len(changed) > _TOLD else ""
    return checks.failed(
        name,
        subject=place,
        expected="untouched",
        observed=f"{', '.join(changed[:_TOLD])}{more}",
        hint="HOME and TMPDIR say where it may write; a changed app breaks its own seal",
    )


def _listing(folder: Path) -> Listing:
    found = {}
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except OSError:
            continue
        facts = (status.st_mode, status.st_size, status.st_ino, status.st_mtime_ns)
        # A folder's own size and time change with what lies in it, which is listed itself.
        found[path.relative_to(folder).as_posix()] = facts[:1] if path.is_dir() else facts
    return found


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return set()
