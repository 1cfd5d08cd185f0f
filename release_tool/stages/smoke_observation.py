"""What a provider does, beside mlx-lm: started, asked, ended, and looked at for traces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.plan import ReleasePlan
from release_tool.services import hub_cache, provider, provider_start, reference
from release_tool.services.reference import Reference
from release_tool.stages import agreement, smoke_launch, smoke_questions
from release_tool.stages.smoke_questions import Interview
from release_tool.stages.smoke_subject import Subject, built_for
from release_tool.stages.smoke_traces import Traces

Require = Callable[[str, Sequence[Check], str], object]
"""Takes a group's name, its checks, and the verdict where one of them failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was observed, and held against what was wanted."""

    version: str
    interview: Interview
    expected: Reference
    checks: Sequence[Check]
    log: str


def observe(plan: ReleasePlan, subject: Subject, *, users_home: Path, require: Require) -> Seen:
    """Ask everything, of the provider and of mlx-lm.

    Args:
        plan: the release plan.
        subject: what runs.
        users_home: the home of who runs this.
        require: refuses where one of the checks failed that are to be asked no further.

    Returns:
        What was seen, judged; whether it may ship is for the caller to say.

    Raises:
        VerificationError: it is of another version, does not start, answer or end.
    """
    home = subject.folder("provider/home")
    traces = Traces(
        folders={"the unpacked release": subject.copy.root, "the model": subject.model},
        holders={"the folder beside its home": home.parent},
        users_home=users_home,
    )
    version = provider_start.ask_version(subject.command, home=home)
    found = [checks.compare("--version", expected=plan.version, observed=version)]
    require("provider", found, "the executable is of another version")
    found += _launches(plan, subject, home)
    require("provider", found, "its own runtime-smoke fails")
    interview, health, expected, log = _interview(plan, subject, home)
    found.append(smoke_questions.version_told(interview.contract, plan.version, health))
    found += smoke_questions.judge(interview)
    found += agreement.judge_all(plan.smoke, interview, expected)
    found += traces.judge()
    return Seen(version=version, interview=interview, expected=expected, checks=found, log=log)


def _launches(plan: ReleasePlan, subject: Subject, home: Path) -> list[Check]:
    """Every other executable of a bundle, and what the main one says of itself."""
    found: list[Check] = []
    if subject.command.kind == "bundle":
        found += smoke_launch.others(
            plan,
            subject.copy.app,
            subject.command,
            subject.copy.facts,
            lambda name: subject.folder(f"others/{name}"),
        )
    return found + provider_start.runtime_smoke(
        subject.command, home=home, built_for=built_for(plan)
    )


def _interview(
    plan: ReleasePlan, subject: Subject, home: Path
) -> tuple[Interview, str, Reference, str]:
    smoke = plan.smoke
    # As often as the provider is asked, plain and streamed: else one of the two would be cold. The
    # figures of a stand-in say nothing, whatever they stand beside.
    times = 2 if subject.command.kind == "bundle" else 1
    asked = [
        reference.Prompt(prompt=one, max_tokens=smoke.max_tokens, times=times)
        for one in smoke.prompts
    ]
    asked.append(reference.Prompt(prompt=smoke.long_prompt, max_tokens=smoke.long_tokens))
    at_once = smoke_questions.at_once(smoke)
    waits = sum(one.times for one in asked) + len(at_once)
    seconds = plan.limits.provider_start_seconds + plan.limits.request_seconds * waits
    own_home = subject.folder("others/reference")
    with reference.generating(subject.model, asked, home=own_home, rounds=at_once) as pending:
        expected: Reference | None = None
        if subject.command.kind == "bundle":
            # One after the other: the figures of a real provider must not suffer from a neighbour.
            expected = pending.result(seconds=seconds)
        interview, health, log = _ask(plan, subject, home)
        return interview, health, expected or pending.result(seconds=seconds), log


def _ask(plan: ReleasePlan, subject: Subject, home: Path) -> tuple[Interview, str, str]:
    wanted = str(subject.model)
    if subject.command.kind == "bundle":
        wanted = hub_cache.show(
            subject.model, model=plan.smoke.model, digest=subject.model_digest, home=home
        )
    limits = plan.limits
    with provider.serve(
        subject.command, model=wanted, home=home, start_seconds=limits.provider_start_seconds
    ) as serving:
        interview = smoke_questions.hold(
            serving, plan.smoke, wanted=wanted, seconds=limits.request_seconds
        )
    interview.checks += serving.end
    return interview, serving.version, serving.record
