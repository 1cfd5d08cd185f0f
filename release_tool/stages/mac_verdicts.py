"""What macOS itself says about an unpacked app: codesign, spctl and stapler, in this order."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from release_tool import errors, layout
from release_tool.plan import Environment, ReleasePlan
from release_tool.services import codesign, gatekeeper
from release_tool.services.apple_tools import TOOLS, AppleTools

_NOTARIZED = ("spctl", "stapler")
_REFUSED, _NOT_TOLD = "refused:", "not told:"
_SIGNED = "accepted"
_GOOD = {
    "codesign": _SIGNED,
    "spctl": gatekeeper.ACCEPTED,
    "stapler": gatekeeper.VALIDATED,
}


def of_unpacked(plan: ReleasePlan) -> Callable[[Path], Mapping[str, str]]:
    """The question to macOS about what was unpacked: an app, or a folder of bare executables.

    spctl and stapler judge apps only; of bare code codesign alone can be asked without a network.
    """
    environment = plan.environment
    if layout.of(plan).is_app:
        return for_environment(environment)

    def judge(folder: Path) -> Mapping[str, str]:
        asked = {
            f"codesign {one.name}": lambda folder, name=one.name: _codesign(folder / name)
            for one in plan.bundle.executables
        }
        return ask_all(folder, asked, must_hold=environment.trust == "apple")

    return judge


def needed(plan: ReleasePlan) -> tuple[str, ...]:
    """The names of the verdicts that a run on a Mac must have; none without Apple's trust."""
    if plan.environment.trust != "apple":
        return ()
    if not layout.of(plan).is_app:
        return tuple(f"codesign {one.name}" for one in plan.bundle.executables)
    return ("codesign", *(_NOTARIZED if plan.environment.notarization == "required" else ()))


def is_good(name: str, verdict: str) -> bool:
    """Whether a recorded verdict is the one word of its tool that lets the code run."""
    return verdict == _GOOD.get(name.partition(" ")[0])


def for_environment(environment: Environment) -> Callable[[Path], Mapping[str, str]]:
    """The question to macOS that fits an environment.

    Where it trusts Apple, each verdict must be good. A look-alike's app is refused by macOS, as it
    has to be, and the verdicts are only kept. While notarization is open there is no ticket to ask
    for.
    """
    asked: dict[str, Callable[[Path], str]] = {"codesign": _codesign}
    if environment.notarization == "required":
        asked |= {"spctl": gatekeeper.assess, "stapler": gatekeeper.validate_ticket}

    def judge(app: Path) -> Mapping[str, str]:
        return ask_all(app, asked, must_hold=environment.trust == "apple")

    return judge


def of_stapled(
    environment: Environment, *, tools: AppleTools = TOOLS
) -> Callable[[Path], Mapping[str, str]]:
    """What macOS says of a freshly stapled app: a second opinion, on a Mac alone.

    Where the environment trusts Apple, a verdict that differs from ours is fatal.
    """
    asked: dict[str, Callable[[Path], str]] = {
        "stapler": lambda app: gatekeeper.validate_ticket(app, tools=tools),
        "spctl": lambda app: gatekeeper.assess(app, tools=tools),
    }

    def judge(app: Path) -> Mapping[str, str]:
        if platform.system() != "Darwin":
            return {}
        return ask_all(app, asked, must_hold=environment.trust == "apple")

    return judge


def ask_all(
    app: Path, asked: Mapping[str, Callable[[Path], str]], *, must_hold: bool
) -> dict[str, str]:
    """Ask every tool, and refuse for all reasons at once.

    Raises:
        VerificationError: a tool refuses the app and `must_hold`.
        HostError, TransientError: a tool is missing or comes to no verdict, and `must_hold`.
    """
    verdicts: dict[str, str] = {}
    refusals: list[str] = []
    for name, ask in asked.items():
        try:
            verdicts[name] = ask(app)
        except errors.VerificationError as refusal:
            verdicts[name] = f"{_REFUSED} {'; '.join(refusal.details) or refusal.message}"[:500]
            refusals.append(f"{name} {verdicts[name]}")
        except (errors.HostError, errors.TransientError) as problem:
            if must_hold:
                raise
            verdicts[name] = f"{_NOT_TOLD} {problem.message}"
    if refusals and must_hold:
        raise errors.VerificationError("macOS refuses the app", subject=app.name, details=refusals)
    return verdicts


def _codesign(app: Path) -> str:
    codesign.verify(app)
    return _SIGNED
