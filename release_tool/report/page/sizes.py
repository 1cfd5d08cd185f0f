"""How large the release is, against the one before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from release_tool import values
from release_tool.report.page.told import Around
from release_tool.report.summary import size

_MOST_ROWS = 25
_WIDTH = 1000


@dataclass(frozen=True, kw_only=True)
class Size:
    """One file, or a sum, in both releases."""

    name: str
    before: str
    now: str
    change: str
    bar: int
    """The size now, in thousandths of the larger of all."""
    bar_before: int


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sums, and the files that changed most."""

    before: str
    """The version of the release before; empty where there is none."""
    sums: tuple[Size, ...]
    files: tuple[Size, ...]
    same: int
    """Files of the same size."""
    left_out: int


def of(around: Around) -> Sizes | None:
    """The sizes of the archive; None before there is one."""
    now = around.release.get("archive", values.ReleaseArchive)
    if now is None:
        return None
    found = next(iter(around.earlier), None)
    before = found.archive if found else None
    here, there = _by_path(now), _by_path(before)
    largest = max([sum(here.values()), sum(there.values()), now.size, 1])
    compared = before is not None
    rows = _changed(here, there) if compared else sorted(here, key=lambda path: -here[path])

    def row(name: str, old: int | None, new: int | None) -> Size:
        return _row(name, old, new, largest, compared=compared)

    return Sizes(
        before=found.version if found else "",
        sums=(
            row("download", before.size if before else None, now.size),
            row("unpacked", sum(there.values()) if compared else None, sum(here.values())),
        ),
        files=tuple(row(path, there.get(path), here.get(path)) for path in rows[:_MOST_ROWS]),
        same=sum(there.get(path) == here[path] for path in here) if compared else 0,
        left_out=max(len(rows) - _MOST_ROWS, 0),
    )


def _by_path(archive: values.ReleaseArchive | None) -> dict[str, int]:
    return {one.path: one.size for one in archive.members} if archive else {}


def _changed(here: Mapping[str, int], there: Mapping[str, int]) -> Sequence[str]:
    paths = [path for path in here.keys() | there.keys() if here.get(path) != there.get(path)]
    return sorted(paths, key=lambda path: (-abs(here.get(path, 0) - there.get(path, 0)), path))


def _row(name: str, before: int | None, now: int | None, largest: int, *, compared: bool) -> Size:
    return Size(
        name=name,
        before="" if before is None else size(before),
        now="gone" if now is None else size(now),
        change=_change(before, now) if compared else "",
        bar=_share(now, largest),
        bar_before=_share(before, largest),
    )


def _share(count: int | None, largest: int) -> int:
    return max(2, count * _WIDTH // largest) if count else 0


def _change(before: int | None, now: int | None) -> str:
    if before is None:
        return "new"
    if now is None:
        return "removed"
    if before == now:
        return "same"
    sign = "+" if now > before else "\N{MINUS SIGN}"
    percent = f" ({sign}{abs(now - before) / before:.1%})" if before else ""
    return f"{sign}{size(abs(now - before))}{percent}"
