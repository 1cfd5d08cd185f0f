"""The archive that ships, unpacked as on a user's machine, where no build tree is.

Our own reader takes everything that may be hostile. On a Mac the system's tar unpacks once more,
because that is what users run and what puts signatures in extended attributes back; both must have
made the same files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from release_tool import errors, layout
from release_tool.apple.facts import BundleFacts
from release_tool.files import archive_reader
from release_tool.files.archive_reader import Limits
from release_tool.files.tree import APPLE_DOUBLE_PREFIX
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.stages import findings, listing
from release_tool.stages.public_copy import Reader
from release_tool.values import ReleaseArchive

Unpack = Callable[[Path, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalCopy:
    """An unpacked release."""

    root: Path
    app: Path
    facts: BundleFacts | None
    """What was read of its signatures; None where nobody was asked to."""


def unpack(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    path: Path,
    scratch: Path,
    *,
    reporter: Reporter,
    read: Reader | None,
    system_unpack: Unpack | None,
) -> FinalCopy:
    """Unpack, compare and verify, in this order; nothing has been started yet.

    Args:
        plan: the release plan.
        archive: the archive as it was recorded.
        path: its file.
        scratch: an empty folder.
        reporter: sees the unpacking.
        read: judges what lies there (`public_copy.with_facts`).
        system_unpack: unpacks as users' machines do; None off macOS.

    Raises:
        VerificationError: it is another archive, its files differ from what macOS unpacks, or it
            does not verify.
    """
    folder = scratch / "unpacked"
    folder.mkdir()
    limits = Limits(
        compressed_bytes=plan.limits.archive_bytes,
        member_bytes=plan.limits.member_bytes,
        members=plan.limits.members,
    )
    # macOS's tar, which packs what codesign signed, writes extended attributes as sidecars.
    sidecars = plan.environment.signer == "portable"
    found = archive_reader.unpack(path, folder, limits=limits, sidecars=sidecars, reporter=reporter)
    if found.sha256 != archive.sha256:
        raise errors.VerificationError(
            "is not the archive that was made",
            subject=archive.path,
            expected=archive.sha256,
            observed=found.sha256,
        )
    facts = None
    if read is not None:
        judged = read(plan, archive, folder, found)
        facts = judged.facts
        findings.require(judged.checks, "the unpacked archive does not verify; nothing was started")
    root = folder
    if system_unpack is not None:
        root = scratch / "unpacked-by-tar"
        root.mkdir()
        system_unpack(path, root)
        _require_same(folder, root)
    return FinalCopy(root=root, app=root / layout.of(plan).top, facts=facts)


def _require_same(ours: Path, theirs: Path) -> None:
    wanted, found = (
        {
            file.path: f"{file.sha256} {file.mode:04o}"
            for file in listing.sealed_files(folder)
            if not file.path.rpartition("/")[2].startswith(APPLE_DOUBLE_PREFIX)
        }
        for folder in (ours, theirs)
    )
    findings.require(
        findings.same_files("file unpacked by macOS", wanted=wanted, found=found),
        "macOS's tar unpacks something else than what was judged",
    )
