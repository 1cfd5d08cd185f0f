"""What the ledgers around one release say: its own, its environment's rollbacks, earlier ones."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue, ValidationError

from release_tool import errors, smoke_records, values
from release_tool.ledger import Ledger, Record
from release_tool.report.overview import ROLLBACK, STAGES
from release_tool.services import precedence
from release_tool.standing import chained

V = TypeVar("V", bound=values.Value)
ROLLBACKS = "rollback"
"""The folder beside the releases of an environment that holds the records of its rollbacks."""
# Each costs a whole chain to read, and a chart of more rows says less.
_LOOKED_AT = 8
SHOWN_EARLIER = 3
"""Earlier releases beside which a figure is shown."""
# An exabyte; neither infinity nor what is no number is below it.
_LARGEST = 10**18


@dataclass(frozen=True, kw_only=True)
class Told:
    """A chain of records, and what of it stands."""

    stages: Mapping[str, type[values.Value]]
    records: tuple[Record, ...]
    head: str
    standing: Mapping[str, Record]
    """By stage: the newest records whose inputs are what they were."""
    values: Mapping[str, values.Value]
    """What they hold, where this version of the tool can read it."""

    def get(self, stage: str, kind: type[V]) -> V | None:
        """The value of a stage that stands."""
        found = self.values.get(stage)
        return found if isinstance(found, kind) else None

    def newest(self, stage: str) -> Record | None:
        """The newest entry of a stage, of any kind."""
        return next((one for one in reversed(self.records) if one.stage == stage), None)

    def part(self, name: str) -> JsonValue:
        """A value of the plan by its dotted name, as the newest record that read it says."""
        for record in reversed(self.records):
            found, value = _part(record.plan_part, name)
            if found:
                return value
        return None

    def text(self, name: str) -> str:
        """The same as a text; empty where no record says it."""
        found = self.part(name)
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A release that lies beside this one, and ranks below it."""

    version: str
    archive: values.ReleaseArchive


@dataclass(frozen=True, kw_only=True)
class Around:
    """A release, and what lies beside it."""

    folder: Path
    environment: str
    version: str
    release: Told
    rollbacks: tuple[Told, ...]
    """Those of its environment, the newest first; each attempt is one."""
    earlier: tuple[Earlier, ...]
    """The nearest first."""
    smokes: tuple[values.SmokeEvidence, ...]
    """Of every host that counts, the newest last."""

    @property
    def product(self) -> str:
        """What the product is called, with its flavour's title."""
        title = self.release.text("flavour.title")
        return f"{self.release.text('product.name') or 'Release'} {title}".rstrip()

    @property
    def is_rollback(self) -> bool:
        """Whether this is the folder of an environment's rollbacks, not of a release."""
        return self.release.stages is ROLLBACK


def read(workspace: Path) -> Around:
    """Read the ledger of a workspace, and what lies beside it.

    Raises:
        VerificationError: the workspace's own ledger is damaged.
        HostError: it cannot be read.
    """
    folder = workspace.resolve()
    own = _told(Ledger(folder / "ledger"))
    version = own.text("version") or folder.name
    smokes = smoke_records.beside(own.records)
    newest = own.get("smoke", values.SmokeEvidence)
    return Around(
        folder=folder,
        environment=own.text("environment.name") or folder.parent.name,
        version=version,
        release=own,
        rollbacks=() if own.stages is ROLLBACK else _rollbacks(folder.parent / ROLLBACKS),
        earlier=tuple(_earlier(folder, version)),
        smokes=(*smokes, newest) if newest else tuple(smokes),
    )


def _told(ledger: Ledger) -> Told:
    runs = _runs(ledger.records)
    return of(ROLLBACK, runs[-1], ledger.head) if runs else of(STAGES, ledger.records, ledger.head)


def _runs(records: Sequence[Record]) -> list[Sequence[Record]]:
    """The runs that a ledger of rollbacks holds: each begins with the same step."""
    begun = [at for at, record in enumerate(records) if record.stage == next(iter(ROLLBACK))]
    ends = [*begun[1:], len(records)]
    return [records[at:end] for at, end in zip(begun, ends, strict=False)]


def of(stages: Mapping[str, type[values.Value]], records: Sequence[Record], head: str) -> Told:
    """What a chain of records says.

    Args:
        stages: those that it is of, in order, with the type of each one's value.
        records: the chain, the oldest first.
        head: its head.
    """
    standing = chained(records)
    found = {name: value_of(stages.get(name), record) for name, record in standing.items()}
    return Told(
        stages=stages,
        records=tuple(records),
        head=head,
        standing=standing,
        values={name: value for name, value in found.items() if value is not None},
    )


def value_of(kind: type[values.Value] | None, record: Record) -> values.Value | None:
    """What a record holds; None where this version of the tool makes no sense of it."""
    try:
        return kind.model_validate(record.value) if kind and is_sane(record.value) else None
    except ValidationError:
        return None


def is_sane(value: JsonValue) -> bool:
    """Whether every number in it is one that somebody can have measured or counted."""
    if isinstance(value, dict):
        return all(map(is_sane, value.values()))
    if isinstance(value, list):
        return all(map(is_sane, value))
    return not isinstance(value, int | float) or -_LARGEST <= value <= _LARGEST


def _beside(folder: Path) -> Ledger | None:
    # What lies beside may be damaged; it is not this release's fault.
    with contextlib.suppress(errors.ReleaseError, OSError):
        return Ledger(folder / "ledger")
    return None


def _rollbacks(folder: Path) -> tuple[Told, ...]:
    ledger = _beside(folder)
    runs = _runs(ledger.records) if ledger else []
    return tuple(of(ROLLBACK, run, "") for run in reversed(runs))


def _earlier(folder: Path, version: str) -> Sequence[Earlier]:
    if not folder.name.endswith(version):
        return ()
    found: list[Earlier] = []
    for name, place in _ranked(folder, version)[:_LOOKED_AT]:
        ledger = _beside(place)
        told = _told(ledger) if ledger else None
        archive = told.get("archive", values.ReleaseArchive) if told else None
        if archive:
            found.append(Earlier(version=name, archive=archive))
    return found[:SHOWN_EARLIER]


def _ranked(folder: Path, version: str) -> list[tuple[str, Path]]:
    """The earlier versions of the same environment and flavour, the nearest first."""
    family = folder.name.removesuffix(version)
    ranked: list[tuple[str, Path]] = []
    for ledger in folder.parent.glob(f"{family}*/ledger"):
        name = ledger.parent.name.removeprefix(family)
        if precedence.is_newer(version, name):
            at = sum(precedence.is_newer(other, name) for other, _ in ranked)
            ranked.insert(at, (name, ledger.parent))
    return ranked


def _part(part: Mapping[str, JsonValue], name: str) -> tuple[bool, JsonValue]:
    """A dotted name in a record's part of the plan, which holds whole parts or single values."""
    steps = name.split(".")
    for cut in range(len(steps), 0, -1):
        key = ".".join(steps[:cut])
        if key in part:
            return _inside(part[key], steps[cut:])
    return False, None


def _inside(value: JsonValue, steps: Sequence[str]) -> tuple[bool, JsonValue]:
    for step in steps:
        if not isinstance(value, dict) or step not in value:
            return False, None
        value = value[step]
    return True, value
