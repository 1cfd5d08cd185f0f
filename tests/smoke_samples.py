"""Evidence of a smoke run, for tests of what comes after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from release_tool.plan import ReleasePlan
from release_tool.stages import smoke_asked, smoke_questions
from release_tool.stages.smoke_asked import Wanted
from release_tool.values import (
    CheckOutcome,
    Host,
    SmokeAnswer,
    SmokeEvidence,
    SmokePrompt,
    SmokeRound,
)


def prompt(text: str = "q", *, tokens: int = 1) -> SmokePrompt:
    """A prompt whose answer agrees."""
    return SmokePrompt(
        prompt=text,
        text="a",
        completion_tokens=tokens,
        reason="stop",
        agrees=True,
        agreed_tokens=tokens,
        reference_tokens=tokens,
        first_token_seconds=0.1,
        decode_tokens_per_second=1.0,
        reference_first_token_seconds=0.1,
        reference_decode_tokens_per_second=1.0,
    )


def of(plan: ReleasePlan, **change: object) -> SmokeEvidence:
    """What a stand-in on Linux proves of a release, by its plan."""
    made = evidence(
        version=plan.version, prompts=plan.smoke.prompts, concurrency=plan.smoke.concurrency
    )
    rounds = tuple(
        SmokeRound(
            at_once=len(places),
            seconds=0.1,
            answers=tuple(_answer(plan.smoke.prompts[place]) for place in places),
        )
        for places in smoke_questions.at_once(plan.smoke)
    )
    own = {
        "long": prompt(plan.smoke.long_prompt, tokens=plan.smoke.long_tokens),
        "rounds": rounds,
        "checks": passed(smoke_asked.of(plan)),
    }
    return SmokeEvidence.model_validate(made.model_dump() | own | change)


def of_bundle(plan: ReleasePlan, **change: object) -> SmokeEvidence:
    """What the bundle's own executable on a Mac proves of a release, by its plan."""
    bundle: dict[str, object] = {
        "kind": "bundle",
        "contract": plan.smoke.contract,
        "ran_sha256": "b" * 64,
        "version_ran": True,
        "host": Host(system="macos", release="15.1", machine="arm64"),
        "needs": passed(smoke_asked.needs(plan)),
        "install": passed(smoke_asked.trials()),
    }
    return of(plan, **bundle | change)


def passed(wanted: Iterable[Wanted]) -> tuple[CheckOutcome, ...]:
    """All that is asked, as a good run records it."""
    return tuple(
        CheckOutcome(name=one.name, subject=one.subject or "", outcome="passed")
        for one in sorted(wanted, key=str)
    )


def _answer(text: str) -> SmokeAnswer:
    return SmokeAnswer(
        prompt=text, completion_tokens=1, first_token_seconds=0.1, decode_tokens_per_second=1.0
    )


def evidence(
    *,
    archive_sha256: str = "a" * 64,
    binary_sha256: str = "b" * 64,
    version: str = "0.5.0",
    prompts: Sequence[str] = ("q",),
    concurrency: Sequence[int] = (1, 2, 4),
) -> SmokeEvidence:
    """What a stand-in on Linux proves of an archive."""
    return SmokeEvidence(
        archive_sha256=archive_sha256,
        kind="stand-in",
        contract="2026-05",
        executable_sha256=binary_sha256,
        cdhash="0" * 40,
        ran="stand-in",
        ran_sha256="0" * 64,
        version=version,
        version_ran=False,
        host=Host(system="linux", release="1", machine="x86_64"),
        model="tiny",
        model_sha256="0" * 64,
        reference="mlx-lm 0",
        agreement="exact",
        prompts=tuple(map(prompt, prompts)),
        long=prompt(prompts[0]),
        rounds=tuple(
            SmokeRound(at_once=count, seconds=0.1, answers=(_answer(prompts[0]),) * count)
            for count in concurrency
        ),
        checks=tuple(CheckOutcome(name=name, outcome="passed") for name in smoke_asked.ONCE),
        macos_verdicts={},
        transcript="smoke/transcript.jsonl",
        transcript_sha256="0" * 64,
        log="smoke/provider.log",
        log_sha256="0" * 64,
    )
