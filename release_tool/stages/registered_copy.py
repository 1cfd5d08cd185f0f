"""What users download of a release of which only the coordinator's row is known, judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from release_tool import layout
from release_tool.apple import certificates, checks, release
from release_tool.apple.checks import Check
from release_tool.apple.verification import Judge
from release_tool.files.archive_reader import Unpacked
from release_tool.files.tree import DiskTree
from release_tool.plan import ReleasePlan
from release_tool.services.coordinator_rules import Release

Verdict = Callable[[ReleasePlan, Release, Path, Unpacked], Sequence[Check]]


def from_the_seal_down(
    trust: certificates.Trust, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Verdict:
    """The judge: the registered files, then the whole release with its signature.

    Args:
        trust: whom the signature must lead to.
        clock: the time at which it must hold.
    """

    def judge(plan: ReleasePlan, row: Release, root: Path, unpacked: Unpacked) -> list[Check]:
        strict = plan.environment.signer == "portable"
        report = release.verify(
            DiskTree(root, beside=unpacked.beside),
            judge=Judge(trust=trust, now=clock(), strict=strict),
            flat_copies=layout.flat_names(plan),
            with_app=layout.of(plan).is_app,
        )
        return [*_registered(plan, row, unpacked), *report.checks]

    return judge


def _registered(plan: ReleasePlan, row: Release, unpacked: Unpacked) -> Iterator[Check]:
    """The files whose digests stand in the row."""
    wanted = {f"bin/{plan.bundle.main_executable}": row.binary_hash}
    if plan.bundle.metallib:
        wanted[f"bin/{plan.bundle.metallib.name}"] = row.metallib_hash
    found = {one.path: one.sha256 for one in unpacked.members}
    for path, digest in wanted.items():
        if digest:
            observed = found.get(path, "nothing")
            yield checks.compare("registered", expected=digest, observed=observed, subject=path)
