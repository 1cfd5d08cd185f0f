"""What a smoke run has to have asked, by the plan: the checks that its evidence cannot lack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from release_tool.plan import ReleasePlan
from release_tool.services.provider_contract import CONTRACTS
from release_tool.stages import (
    bundle_needs,
    install_smoke,
    smoke_launch,
    smoke_questions,
    smoke_streaming,
)
from release_tool.values import CheckOutcome

ONCE = (
    *("--version", "models", "long answer", "cancelled stream", "malformed request"),
    smoke_streaming.NAME,
    *("request without messages", "too large request", "health at the end"),
    *("writes only into its home", "lives until it is told to end", "ends when it is told to"),
    *("ends without a crash", "leaves no process behind"),
)
"""Asked of every provider, whatever the plan."""


class Wanted(NamedTuple):
    """A check that has to have passed."""

    name: str
    subject: str | None = None
    """None: whatever it was about."""

    def __str__(self) -> str:
        return self.name if self.subject is None else f"{self.name} of {self.subject}"


def of(plan: ReleasePlan) -> frozenset[Wanted]:
    """Every check that a run by this plan ends with, each passed."""
    wanted = {Wanted(name) for name in ONCE}
    wanted.update(_of_prompts(plan), _of_contract(plan))
    if plan.environment.provider == "bundle":
        wanted.update(Wanted(smoke_launch.NAME, path) for path in smoke_launch.paths(plan))
    return frozenset(wanted)


def needs(plan: ReleasePlan) -> frozenset[Wanted]:
    """What the bundle needs on a user's Mac: every check that a good release passes."""
    return frozenset(Wanted(name, subject) for name, subject in bundle_needs.named(plan))


def trials() -> frozenset[Wanted]:
    """What is tried of the installer, and passed on every host."""
    sure = (Wanted(f"installer, {name}") for name in install_smoke.SURE)
    return frozenset((*sure, Wanted("installer", "outside")))


def missing(wanted: Iterable[Wanted], outcomes: Iterable[CheckOutcome]) -> list[str]:
    """What has not passed, by name."""
    passed = {(one.name, one.subject) for one in outcomes if one.outcome == "passed"}
    names = {name for name, _ in passed}
    return sorted(
        str(one)
        for one in wanted
        if (one.name not in names if one.subject is None else (*one,) not in passed)
    )


def _of_prompts(plan: ReleasePlan) -> Iterator[Wanted]:
    smoke = plan.smoke
    for prompt in smoke.prompts:
        for name in ("plain token count", "streamed token count", "streamed text", "text"):
            yield Wanted(name, prompt)
    for name in ("long token count", "long plain token count", "long streamed text", "long text"):
        yield Wanted(name, smoke.long_prompt)
    for places in smoke_questions.at_once(smoke):
        for place in places:
            yield Wanted(f"text with {len(places)} at once", smoke.prompts[place])
    for after in ("a cancelled stream", "refused requests"):
        yield Wanted(f"text after {after}", smoke.prompts[0])


def _of_contract(plan: ReleasePlan) -> Iterator[Wanted]:
    contract = CONTRACTS[plan.smoke.contract]
    if contract.other_type_statuses:
        yield Wanted(smoke_questions.OTHER_TYPE)
    if contract.tells_version:
        yield Wanted("version in /health")
    if contract.smoke_markers:
        yield Wanted("runtime-smoke", "")
        yield Wanted("built for", "")
        yield Wanted("built for", "coordinator")
        for marker in contract.smoke_markers:
            yield Wanted("runtime-smoke", marker)
    if contract.has_keys and plan.smoke.authorization == "token":
        yield from (Wanted(name) for name in smoke_questions.KEY_CHECKS)
        yield Wanted("key file is private")
