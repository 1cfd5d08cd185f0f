"""One release as a page: everything that the two templates may say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from release_tool import values
from release_tool.report import overview
from release_tool.report.page import (
    claims,
    contents,
    published,
    sizes,
    speed,
    timeline,
    told,
    trust,
    verdict,
    world,
)
from release_tool.report.page.claims import Checked
from release_tool.report.page.told import Around

MOST_ROWS = 200
"""Of a table whose length a record decides; a release has a dozen."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One line of the summary."""

    name: str
    text: str
    is_digest: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the templates say."""

    name: str
    """Product and version."""
    environment: str
    made_at: str
    """When this page was written, and from when days are counted."""
    tool: str
    """That wrote the newest record."""
    head: str
    records: int
    span: str
    """From the first record to the newest one, and how much of it was work."""
    stood_in: tuple[str, ...]
    """For whom look-alikes stood; empty for a real release."""
    verdict: verdict.Verdict
    facts: tuple[Fact, ...]
    stages: tuple[timeline.Stage, ...]
    rollback: tuple[timeline.Stage, ...]
    """Of the rollback that withdrew this release, or gave it to users again."""
    lanes: tuple[overview.LaneRow, ...]
    contents: contents.Contents | None
    trust: trust.Trust | None
    runs: tuple[speed.Run, ...]
    sizes: sizes.Sizes | None
    places: tuple[published.Place, ...]
    claims: tuple[claims.Claim, ...]
    meanings: tuple[tuple[str, str], ...]
    """Of the proofs that occur."""
    checks: tuple[Checked, ...]


def read(workspace: Path, *, now: datetime | None = None) -> Page:
    """Read what the ledgers say, and nothing else.

    Args:
        workspace: of a release, or the folder of an environment's rollbacks.
        now: the current time, aware; by default the clock's.

    Raises:
        VerificationError: the ledger is damaged.
        HostError: it cannot be read.
    """
    at = now or datetime.now(UTC)
    return of(told.read(workspace), at, lanes=overview.read(workspace).lanes)


def of(around: Around, at: datetime, *, lanes: tuple[overview.LaneRow, ...] = ()) -> Page:
    """The page of what was read.

    Args:
        around: the release, and what lies beside it.
        at: from when days are counted, aware.
        lanes: the hosts that its smoke run is asked of.
    """
    release = around.release
    other_side = world.of(release)
    stages = timeline.of(release)
    said = claims.of(release, other_side)
    proofs = {one.proof for one in said}
    judged = verdict.of(around, stages, stood_in=other_side.stood_in)
    records = release.records
    return Page(
        name=f"{around.product} {around.version}",
        environment=around.environment,
        made_at=f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        tool=records[-1].tool if records else "",
        head=release.head,
        records=len(records),
        span=timeline.span(records),
        stood_in=other_side.stood_in,
        verdict=judged,
        facts=tuple(_facts(around)),
        stages=stages,
        rollback=_rollback(around),
        lanes=lanes,
        contents=contents.of(release),
        trust=trust.of(release, at),
        runs=speed.of(around),
        sizes=sizes.of(around),
        places=published.of(release)[:MOST_ROWS],
        claims=said[:MOST_ROWS],
        meanings=tuple((proof, text) for proof, text in claims.MEANINGS.items() if proof in proofs),
        checks=claims.checks(release),
    )


def _rollback(around: Around) -> tuple[timeline.Stage, ...]:
    """The newest run of a rollback that this version has a part in."""
    for run in around.rollbacks:
        if around.version in verdict.touched(run):
            return timeline.of(run)
    return ()


def _facts(around: Around) -> Iterator[Fact]:
    release = around.release
    if commit := _commit(around):
        yield Fact(name="Source commit", text=commit, is_digest=True)
    if tag := release.text("source.tag"):
        yield Fact(name="Tag", text=tag)
    if archive := release.get("archive", values.ReleaseArchive):
        yield Fact(name="Archive", text=archive.path)
        yield Fact(name="Archive SHA-256", text=archive.sha256, is_digest=True)
        yield Fact(name="Executable SHA-256", text=archive.binary_sha256, is_digest=True)
        yield Fact(name="cdhash", text=archive.cdhash, is_digest=True)
    if run := release.text("source.ci_run_id"):
        yield Fact(name="CI run", text=run)
    if target := release.get("verify", values.RollbackTarget):
        yield Fact(name="Archive SHA-256", text=target.sha256, is_digest=True)
    yield Fact(name="Ledger head", text=release.head, is_digest=True)


def _commit(around: Around) -> str:
    release = around.release
    archive = release.get("archive", values.ReleaseArchive)
    assembled = release.get("assemble", values.AssembledBundle)
    found = archive or assembled
    return found.source_commit if found else release.text("source.commit")
