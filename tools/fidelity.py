"""Make real signatures again, and say of each what was derived, what copied, and what differs.

Every open item of the real data, and more of what Apple's own tool signed: code from the package
indexes, each file pinned by its digest, and the tickets and profiles beside this checkout where
they are. Exit 6 if something differs and nobody knows why, 3 if an item could not be had.
"""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import real_items
from real_items import APP, fetch
from rich.console import Console
from rich.table import Table

from release_tool import errors
from release_tool.apple import reproduction
from release_tool.apple.reproduction import Reproduction
from release_tool.files.tree import DiskTree

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared/realdata"
NOT_CMS = "not-cms-at-all.provisionprofile"


class Item(NamedTuple):
    """One open item, and how it is had and made again."""

    name: str
    make: Callable[[], Sequence[Reproduction]]


class Outcome(NamedTuple):
    """What became of the items."""

    made: tuple[Reproduction, ...]
    missing: Mapping[str, errors.ReleaseError]
    """Items that could not be had, or that are not what they should be."""

    @property
    def exit_code(self) -> int:
        fetched = (errors.HostError, errors.TransientError)
        whole = all(isinstance(problem, fetched) for problem in self.missing.values())
        if not whole or not all(one.explained for one in self.made):
            return errors.VerificationError.exit_code
        return errors.HostError.exit_code if self.missing else 0


def items(environ: Mapping[str, str], scratch: Path) -> Iterator[Item]:
    """Every open item: code from the indexes, tickets and profiles in place."""
    yield Item("ruff", lambda: _file("ruff", fetch(real_items.RUFF, environ)))
    yield Item("node", lambda: _file("node", fetch(real_items.NODE, environ)))
    yield Item("sentry-cli", lambda: _file("sentry-cli", real_items.fetch_sentry(environ)))
    for name, wanted in real_items.MORE.items():
        yield Item(name, lambda name=name, wanted=wanted: _file(name, fetch(wanted, environ)))  # type: ignore[misc]
    yield Item(APP, lambda: _app(fetch(real_items.RECORD, environ), scratch))
    yield from _beside(REAL_DATA)


def _beside(folder: Path) -> Iterator[Item]:
    """Tickets and profiles, the forged one and other platforms' too; one of the files is a text."""
    if not folder.is_dir():
        yield Item("tickets and profiles", lambda: [_absent("tickets and profiles")])
        return
    for path in sorted((folder / "tickets").iterdir()):
        yield Item(path.name, lambda path=path: [_ticket(path)])  # type: ignore[misc]
    for path in sorted((folder / "profiles").iterdir()):
        if path.name != NOT_CMS:
            yield Item(path.name, lambda path=path: _profile(path))  # type: ignore[misc]


def _absent(name: str) -> Reproduction:
    return Reproduction(
        item=name,
        part="",
        expected="",
        observed="",
        derived=(),
        absent="they are not beside this checkout",
    )


def run(wanted: Sequence[Item]) -> Outcome:
    """Make the items again; one that cannot be had does not stop the others."""
    made: list[Reproduction] = []
    missing: dict[str, errors.ReleaseError] = {}
    for item in wanted:
        try:
            made += item.make()
        except errors.ReleaseError as problem:
            missing[item.name] = problem
    return Outcome(tuple(made), missing)


def _file(name: str, path: Path) -> Sequence[Reproduction]:
    return reproduction.of_file(name, DiskTree(path.parent).view(path.name))


def _app(packed: Path, scratch: Path) -> Sequence[Reproduction]:
    """The app with its modes and links, out of its zip, whose digest is pinned."""
    with zipfile.ZipFile(io.BytesIO(packed.read_bytes())) as archive:
        for entry in archive.infolist():
            target, mode = scratch / entry.filename, entry.external_attr >> 16
            if not entry.filename.startswith(f"{APP}/") or entry.is_dir():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISLNK(mode):
                target.symlink_to(archive.read(entry).decode())
            else:
                target.write_bytes(archive.read(entry))
    ticket = scratch / APP / "Contents/CodeResources"
    stapled = reproduction.of_ticket(f"{APP}/Contents/CodeResources", ticket.read_bytes())
    return [
        *reproduction.of_bundle(DiskTree(scratch / APP), name=APP),
        stapled,
    ]


def _ticket(path: Path) -> Reproduction:
    return reproduction.of_ticket(path.name, path.read_bytes())


def _profile(path: Path) -> Sequence[Reproduction]:
    return reproduction.of_profile(path.name, path.read_bytes())


def table(outcome: Outcome) -> Table:
    """What came out, for people."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("item", "part", "reproduced", "derived", "copied", "why not"):
        shown.add_column(name, overflow="fold")
    for one in outcome.made:
        verdict = one.observed[:12] if one.reproduced else ("-" if one.absent else "no")
        why = one.absent or "; ".join(
            f"{item.what}: {item.expected} became {item.observed} ({item.reason or 'unexplained'})"
            for item in one.differences
        )
        row = (one.item, one.part, verdict, ", ".join(one.derived), ", ".join(one.copied), why)
        shown.add_row(*row)
    for name, problem in outcome.missing.items():
        shown.add_row(name, "", "-", "", "", str(problem))
    return shown


def document(outcome: Outcome) -> dict[str, object]:
    """The same for machines."""
    return {
        "items": [
            {
                "item": one.item,
                "part": one.part,
                "reproduced": one.reproduced,
                "expected": one.expected,
                "observed": one.observed,
                "derived": one.derived,
                "copied": one.copied,
                "absent": one.absent,
                "differences": [item._asdict() for item in one.differences],
            }
            for one in outcome.made
        ],
        "missing": {name: str(problem) for name, problem in outcome.missing.items()},
    }


def summary(outcome: Outcome) -> str:
    """One line: how many came out."""
    tried = [one for one in outcome.made if not one.absent]
    good = sum(one.reproduced for one in tried)
    missing = f", {len(outcome.missing)} items could not be had" if outcome.missing else ""
    return f"{good} of {len(tried)} reproduced byte for byte{missing}"


def main() -> int:
    """Make everything again and print the table; `--json` for a document."""
    with tempfile.TemporaryDirectory(prefix="fidelity-") as folder:
        outcome = run(list(items(dict(os.environ), Path(folder))))
    if "--json" in sys.argv[1:]:
        print(json.dumps(document(outcome)))
    else:
        console = Console(width=None if sys.stdout.isatty() else 200)
        console.print(table(outcome))
        console.print(summary(outcome))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
