"""What users download, unpacked while it comes in and judged from the seal down."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

from release_tool import layout
from release_tool.apple import certificates, checks, release
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.apple.verification import Judge
from release_tool.files import archive_reader
from release_tool.files.archive_reader import Limits, Unpacked
from release_tool.files.tree import DiskTree
from release_tool.plan import ReleasePlan
from release_tool.stages import findings
from release_tool.values import ReleaseArchive

Verdict = Callable[[ReleasePlan, ReleaseArchive, Path, Unpacked], Sequence[Check]]


@dataclass
class PublicCopy:
    """An unpacked download; each try of the download begins anew.

    Args:
        plan: the release plan.
        folder: an existing folder of scratch.
    """

    plan: ReleasePlan
    folder: Path
    unpacked: Unpacked | None = field(default=None, init=False)

    @property
    def root(self) -> Path:
        """Where the members lie."""
        return self.folder / "served"

    def take(self, source: BinaryIO) -> None:
        """Unpack what comes in.

        Raises:
            FormatError: it is damaged, hostile or over a limit.
            HostError: the disk refuses.
        """
        self.unpacked = None
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        limits = Limits(
            compressed_bytes=self.plan.limits.archive_bytes,
            member_bytes=self.plan.limits.member_bytes,
            members=self.plan.limits.members,
        )
        # macOS's tar, which packs what codesign signed, writes extended attributes as sidecars.
        sidecars = self.plan.environment.signer == "portable"
        self.unpacked = archive_reader.unpack_from(
            source, self.root, limits=limits, sidecars=sidecars
        )


def from_the_seal_down(
    trust: certificates.Trust, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Verdict:
    """The judge of a download: every file, the app with its signature, the code that was signed.

    Args:
        trust: whom the signature must lead to.
        clock: the time at which it must hold.
    """
    read = with_facts(trust, clock)

    def judge(
        plan: ReleasePlan, archive: ReleaseArchive, root: Path, unpacked: Unpacked
    ) -> Sequence[Check]:
        return read(plan, archive, root, unpacked).checks

    return judge


class Judged(NamedTuple):
    """An unpacked release: what was judged of it, and what was read."""

    checks: Sequence[Check]
    facts: BundleFacts | None


Reader = Callable[[ReleasePlan, ReleaseArchive, Path, Unpacked], Judged]


def with_facts(
    trust: certificates.Trust, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Reader:
    """As `from_the_seal_down`, with what was read of the app on the way."""

    def read(plan: ReleasePlan, archive: ReleaseArchive, root: Path, unpacked: Unpacked) -> Judged:
        strict = plan.environment.signer == "portable"
        report = release.verify(
            DiskTree(root, beside=unpacked.beside),
            judge=Judge(trust=trust, now=clock(), strict=strict),
            flat_copies=layout.flat_names(plan),
            with_app=layout.of(plan).is_app,
        )
        main = report.facts.main if report.facts else None
        found = [
            *_same_members(archive, unpacked),
            *report.checks,
            checks.compare("cdhash", expected=archive.cdhash, observed=main.cdhash if main else ""),
        ]
        return Judged(checks=found, facts=report.facts)

    return read


def _same_members(archive: ReleaseArchive, unpacked: Unpacked) -> Iterator[Check]:
    yield from findings.same_files(
        "served file",
        wanted={one.path: f"{one.sha256} {one.mode:04o}" for one in archive.members},
        found={
            one.path: f"{one.sha256} {one.mode:04o}"
            for one in unpacked.members
            if one.kind != "directory"
        },
    )
