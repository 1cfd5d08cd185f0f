"""Where everything lies in a release: an app with flat copies beside it, or flat files alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from release_tool import plan as plans
from release_tool.plan import ReleasePlan

FLAT = "bin"
"""Where installers and the coordinator look for executables."""
_NO_PROFILE = "a flat archive holds no app, and only an app can carry a profile"
_NO_TICKET = "a bare executable has no place for a ticket: macOS asks Apple when it first runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The places of one release."""

    top: str
    """The folder of the release that is signed: `Darkbloom.app`, or `bin`."""
    executables: str
    """Where the executables lie below it: `Contents/MacOS`, or nothing."""
    is_app: bool
    repeated: tuple[str, ...]
    """Files beside the executables that the archive holds once more, under `bin/`."""
    omitted: Mapping[str, str] = field(default_factory=dict)
    """Stages that have nothing to do here, with the reason."""

    def place(self, name: str) -> str:
        """An executable, or what lies beside it, below the top."""
        return f"{self.executables}/{name}" if self.executables else name

    @property
    def flat_copies(self) -> dict[str, str]:
        """Members under `bin/` and the file that each repeats; none where `bin/` is the top."""
        return {f"{FLAT}/{name}": f"{self.top}/{self.place(name)}" for name in self.repeated}


def of(plan: ReleasePlan) -> Layout:
    """The layout that the plan's flavour has."""
    if plan.flavour.layout == "flat":
        return Layout(
            top=FLAT,
            executables="",
            is_app=False,
            repeated=(),
            omitted={"profile": _NO_PROFILE, "staple": _NO_TICKET},
        )
    return Layout(
        top=f"{plan.product.name}.app",
        executables="Contents/MacOS",
        is_app=True,
        repeated=_flat_names(plan.bundle),
    )


def flat_names(plan: ReleasePlan) -> tuple[str, ...]:
    """What lies under `bin/` of the archive, copied or alone; the main executable first."""
    names = _flat_names(plan.bundle)
    return tuple(sorted(names, key=lambda name: name != plan.bundle.main_executable))


def _flat_names(bundle: plans.Bundle) -> tuple[str, ...]:
    names = [one.name for one in bundle.executables if one.flat_copy]
    if bundle.metallib and bundle.metallib.flat_copy:
        names.append(bundle.metallib.name)
    return tuple(names)
