"""Unpacks an earlier release beside this one, for its figures and its archive.

Nobody goes on with it, so it is held against no plan, and its head need not be known: what it says
is compared and shown, and decides nothing. It is verified like every handoff, to its last file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from release_tool import errors
from release_tool.handoff import unpacking
from release_tool.handoff.contents import Manifest
from release_tool.handoff.unpacking import Unpacked
from release_tool.ledger import Record
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.standing import chained

_PUBLISHED = "publish"
_LAYOUT = "flavour.layout"


def of(plan: ReleasePlan, manifest: Manifest) -> ReleasePlan:
    """The plan of a release as far as it names it: what a handoff says, else this release's.

    Args:
        plan: of the release that follows.
        manifest: of the earlier one; its version names a folder, and is checked by the caller.
    """
    source = plan.source.model_copy(update={"commit": manifest.source_commit})
    return plan.model_copy(update={"version": manifest.version, "source": source})


def unpack(
    archive: Path,
    root: Path,
    plan: ReleasePlan,
    *,
    expect: str | None = None,
    reporter: Reporter | None = None,
) -> Unpacked:
    """Unpack the handoff of a release that was published into its own workspace.

    Args:
        archive: what `pack` wrote.
        root: the workspace of the earlier release.
        plan: as `of` gives it.
        expect: the ledger's head, where it is known.
        reporter: sees the task `unpack`.

    Raises:
        UsageError: as `unpacking.unpack`; or it was never published, or is of another flavour.
        FormatError, VerificationError, TransientError, HostError: as `unpacking.unpack`.
    """

    def judge(records: Sequence[Record]) -> None:
        standing = chained(records)
        if _PUBLISHED not in standing:
            raise errors.UsageError(
                "the earlier release was never published: no user has it",
                subject=f"{archive}, {plan.version}",
                observed=f"done up to {list(standing)[-1]}" if standing else "nothing was done",
                hint="take the handoff that was packed behind its publication",
            )
        layouts = {str(one.plan_part[_LAYOUT]) for one in records if _LAYOUT in one.plan_part}
        if layouts - {plan.flavour.layout}:
            raise errors.UsageError(
                "the earlier release is of another flavour",
                subject=f"{archive}, {plan.version}",
                expected=f"layout {plan.flavour.layout}",
                observed=f"layout {', '.join(sorted(layouts))}",
                hint="releases of one flavour are compared: take the one before of this flavour",
            )

    return unpacking.unpack(archive, root, plan, expect=expect, judge=judge, reporter=reporter)
