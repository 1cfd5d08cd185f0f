"""What a plan makes of the chain of stages: which places are open, and what stands in for them."""

from __future__ import annotations

from release_tool import layout
from release_tool.plan import ReleasePlan


def packed(plan: ReleasePlan) -> tuple[str, ...]:
    """What the archive is made of, and Apple's word where no ticket in it says so."""
    if not is_notarized(plan):
        return ("sign",)
    return ("sign", "notarize") if "staple" in layout.of(plan).omitted else ("staple",)


def is_signed_for(plan: ReleasePlan) -> bool:
    """Whether this environment signs provenance and keeps a log."""
    return plan.environment.provenance is not None


def is_notarized(plan: ReleasePlan) -> bool:
    """Whether Apple's word is asked for, or left open."""
    return plan.environment.notarization == "required"


def is_signed_by_apple(plan: ReleasePlan) -> bool:
    """Whether codesign signs, which may put signatures into extended attributes."""
    return plan.environment.signer == "codesign"


def told_of(plan: ReleasePlan) -> tuple[str, ...]:
    """The stages whose values a statement on the archive tells of."""
    told = ("profile", "assemble", "sign")
    return tuple(name for name in told if name not in layout.of(plan).omitted)
