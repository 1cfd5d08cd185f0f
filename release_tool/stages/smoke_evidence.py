"""What the smoke run has to have proved: asked again by every stage behind it.

Records travel between jobs, and a stage may be run alone. So publish, register and promote each
hold the evidence against what they are about to do, and none trusts that another did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from release_tool import smoke_lanes
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.plan import Prefix, ReleasePlan, Smoke, SmokeLane
from release_tool.smoke_lanes import Lanes
from release_tool.stages import (
    findings,
    mac_verdicts,
    smoke_asked,
    smoke_questions,
    smoke_record,
    speed,
)
from release_tool.stages.smoke_asked import Wanted
from release_tool.values import CheckOutcome, SmokeEvidence, SmokePrompt

READS = (
    "version",
    "environment.provider",
    "environment.lanes",
    "environment.trust",
    "environment.notarization",
    "environment.built_in",
    "environment.not_built_in",
    "flavour.layout",
    "bundle",
    "smoke",
    "product.name",
    "product.minimum_macos",
)
"""What of the plan it reads: part of what its callers read."""
_TOLD = 6
_AGAIN = "run the smoke stage on this archive: release-tool run --only smoke"


def require(
    plan: ReleasePlan,
    evidence: SmokeEvidence,
    *,
    others: Sequence[SmokeEvidence] = (),
    archive_sha256: str,
    binary_sha256: str,
    act: str,
    cdhash: str | None = None,
) -> None:
    """Refuse evidence of anything else than exactly this archive, in an environment's own way.

    Each lane of `smoke.require` needs evidence that holds by itself.

    Args:
        plan: the release plan.
        evidence: what the newest smoke run recorded.
        others: what the runs on other hosts recorded.
        archive_sha256: of the archive that is about to be handed on.
        binary_sha256: of its main executable.
        act: what is about to be done: `publishing`, `registering`, `promoting`.
        cdhash: of its main executable; None where only its digest is at hand.

    Raises:
        VerificationError: it is of another archive, version or executable, an answer disagreed,
            a prompt of the plan was not asked, the bundle lacks what it needs, the installer
            failed its trial, this environment refuses its kind, or a lane has no such evidence.
    """
    wanted = _Wanted(plan, archive_sha256, binary_sha256, cdhash)
    found = [*wanted.judge(evidence), *_lanes(wanted, evidence, others)]
    findings.require(found, f"the smoke evidence does not allow {act} this archive", hint=_AGAIN)


class _Wanted(NamedTuple):
    """What each piece of evidence has to be of."""

    plan: ReleasePlan
    archive_sha256: str
    binary_sha256: str
    cdhash: str | None

    def judge(self, evidence: SmokeEvidence) -> list[Check]:
        """Whether one host's evidence holds by itself."""
        found = _judge(self.plan, evidence, self.archive_sha256, self.binary_sha256)
        if self.cdhash is not None:
            found.append(checks.compare("cdhash", expected=self.cdhash, observed=evidence.cdhash))
        return found


def _lanes(wanted: _Wanted, newest: SmokeEvidence, others: Sequence[SmokeEvidence]) -> list[Check]:
    """Each lane that one host's evidence alone would not fill."""
    asked = smoke_lanes.of(wanted.plan)
    if not asked.several:
        return []
    return [_lane(wanted, asked, lane, (newest, *others)) for lane in asked.lanes]


def _lane(wanted: _Wanted, asked: Lanes, lane: SmokeLane, found: Sequence[SmokeEvidence]) -> Check:
    name = f"lane {lane.name}"
    observed = []
    for evidence in found:
        host = smoke_lanes.shown(evidence.host)
        if not asked.filled_by(lane, evidence.host):
            observed.append(f"a record of {host}")
        elif failed := [one.name for one in wanted.judge(evidence) if one.outcome == "failed"]:
            observed.append(f"one of {host} that does not hold: {', '.join(failed)}")
        else:
            return checks.passed(name, host)
    return checks.failed(
        name,
        expected=f"a record of {asked.wanted(lane)}",
        observed=", ".join(observed),
        hint=_fill(wanted.plan),
    )


def _fill(plan: ReleasePlan) -> str:
    """What fills a lane, from this release's archive on."""
    words = f"{plan.flags} --version {plan.version}"
    return (
        f"on a host of that lane, with this release unpacked: release-tool run {words} --only smoke"
        f" and release-tool handoff pack {words}; then here: release-tool handoff merge FILE"
        f" --expect HEAD {words}"
    )


def _judge(
    plan: ReleasePlan, evidence: SmokeEvidence, archive_sha256: str, binary_sha256: str
) -> list[Check]:
    found = [
        checks.compare("archive", expected=archive_sha256, observed=evidence.archive_sha256),
        checks.compare("version", expected=plan.version, observed=evidence.version),
        checks.compare("contract", expected=plan.smoke.contract, observed=evidence.contract),
        checks.compare("executable", expected=binary_sha256, observed=evidence.executable_sha256),
        _answers(plan, evidence),
        checks.compare(
            "agreement", expected=smoke_record.policy(plan.smoke), observed=evidence.agreement
        ),
        _long(plan, evidence),
        _rounds(plan, evidence),
        _outcomes(plan, evidence),
        _held("needs of the bundle", evidence.needs),
        _held("installer", evidence.install),
        # From the answers: what the record says of its own figures decides nothing.
        *speed.judge(plan.smoke, speed.of(evidence.prompts, evidence.rounds)),
    ]
    if plan.environment.provider == "bundle":
        found.extend(_bundle_checks(plan, evidence))
    return found


def _answers(plan: ReleasePlan, evidence: SmokeEvidence) -> Check:
    most = plan.smoke.max_tokens
    agreeing = sum(_agrees(plan.smoke, prompt, most=most) for prompt in evidence.prompts)
    asked = tuple(prompt.prompt for prompt in evidence.prompts)
    whole = len(plan.smoke.prompts)
    if asked == plan.smoke.prompts and agreeing == whole:
        return checks.passed("prompts", f"{agreeing} of {whole} agree")
    return checks.failed(
        "prompts",
        expected=f"the plan's {whole} asked, each agrees",
        observed=f"{len(asked)} asked, {agreeing} agree",
    )


def _agrees(smoke: Smoke, prompt: SmokePrompt, *, most: int) -> bool:
    """Counted again: what the record says of itself decides nothing."""
    enough = prompt.reference_tokens
    if not 0 < prompt.completion_tokens <= most:
        return False
    if isinstance(smoke.agreement, Prefix):
        enough = min(smoke.agreement.prefix, enough)
    elif abs(prompt.completion_tokens - enough) > 1:
        # Of one text both count the same, but for a mark of its end.
        return False
    return prompt.agrees and bool(prompt.text) and prompt.agreed_tokens >= enough > 0


def _long(plan: ReleasePlan, evidence: SmokeEvidence) -> Check:
    long, smoke = evidence.long, plan.smoke
    agrees = "agrees" if _agrees(smoke, long, most=smoke.long_tokens) else "does not agree"
    # As `smoke_questions` asks: longer than the others, where it may be.
    fewest = min(smoke.max_tokens + 1, smoke.long_tokens)
    length = f"{fewest} tokens or more"
    told = length if long.completion_tokens >= fewest else f"{long.completion_tokens} tokens"
    return checks.compare(
        "long answer",
        expected=f"{smoke.long_prompt!r} agrees, {length}",
        observed=f"{long.prompt!r} {agrees}, {told}",
    )


def _rounds(plan: ReleasePlan, evidence: SmokeEvidence) -> Check:
    """Each round of the plan was asked, and each of its answers came."""
    places = smoke_questions.at_once(plan.smoke)
    wanted = [tuple(plan.smoke.prompts[place] for place in together) for together in places]
    found = [tuple(answer.prompt for answer in one.answers) for one in evidence.rounds]
    shown = ", ".join(f"{len(one.answers)} of {one.at_once}" for one in evidence.rounds)
    expected = ", ".join(f"{count} of {count}" for count in plan.smoke.concurrency)
    if found != wanted and shown == expected:
        shown = f"{shown}, of other prompts"
    empty = [one for part in evidence.rounds for one in part.answers if one.completion_tokens <= 0]
    if empty:
        shown = f"{shown}, {len(empty)} of them without a token"
    return checks.compare("answers at once", expected=expected, observed=shown)


def _outcomes(plan: ReleasePlan, evidence: SmokeEvidence) -> Check:
    """Nothing failed, and nothing that a run must ask is missing."""
    name = "checks"
    failed = [check.name for check in evidence.checks if check.outcome == "failed"]
    missing = smoke_asked.missing(smoke_asked.of(plan), evidence.checks)
    if not failed and not missing:
        return checks.passed(name, f"{len(evidence.checks)}, none failed")
    told = [*(f"{one} failed" for one in failed), *_not_passed(missing)]
    return checks.failed(name, expected="all passed", observed=", ".join(dict.fromkeys(told)))


def _not_passed(missing: Sequence[str]) -> list[str]:
    more = [f"{len(missing) - _TOLD} more not passed"] if len(missing) > _TOLD else []
    return [*(f"{one} not passed" for one in missing[:_TOLD]), *more]


def _verdicts(plan: ReleasePlan, evidence: SmokeEvidence) -> Check:
    """What macOS said before anything was started."""
    said = evidence.macos_verdicts
    lacking = [name for name in mac_verdicts.needed(plan) if name not in said]
    bad = [
        f"{name} {verdict}"
        for name, verdict in said.items()
        if not mac_verdicts.is_good(name, verdict)
    ]
    # A look-alike's app is refused by macOS, as it has to be.
    if plan.environment.trust != "apple" or not (lacking or bad):
        return checks.passed("macOS", ", ".join(said) or "not asked")
    told = [*bad, *(f"{name} not asked" for name in lacking)]
    return checks.failed("macOS", expected="accepted", observed="; ".join(told))


def _bundle_checks(plan: ReleasePlan, evidence: SmokeEvidence) -> list[Check]:
    """What a real environment asks: the bundle's own executable, on Apple Silicon."""
    host = f"{evidence.host.system} {evidence.host.machine}"
    pinned = plan.smoke.model_sha256 or evidence.model_sha256
    return [
        checks.compare("model", expected=pinned, observed=evidence.model_sha256),
        checks.compare("kind", expected="bundle", observed=evidence.kind),
        checks.compare("host", expected="macos arm64", observed=host),
        _verdicts(plan, evidence),
        checks.compare(
            "what ran", expected=evidence.executable_sha256, observed=evidence.ran_sha256
        ),
        checks.compare(
            "--version", expected="ran", observed="ran" if evidence.version_ran else "not run"
        ),
        _asked("needs of the bundle", smoke_asked.needs(plan), evidence.needs),
        _asked("installer", smoke_asked.trials(), evidence.install),
    ]


def _held(name: str, outcomes: Sequence[CheckOutcome]) -> Check:
    failed = ", ".join(check.name for check in outcomes if check.outcome == "failed")
    if failed:
        return checks.failed(name, expected="none failed", observed=failed)
    return checks.passed(name, f"{len(outcomes)}, none failed")


def _asked(name: str, wanted: Iterable[Wanted], outcomes: Sequence[CheckOutcome]) -> Check:
    """Each of what a run must find was found: one check alone is no judgement."""
    name = f"{name}, judged"
    told = _not_passed(smoke_asked.missing(wanted, outcomes))
    if told:
        return checks.failed(name, expected="all passed", observed=", ".join(told))
    return checks.passed(name, f"{len(outcomes)}, all that a release needs")
