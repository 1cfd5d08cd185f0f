"""What the smoke run has to have proved: asked again by every stage behind it.

Records travel between jobs, and a stage may be run alone. So publish, register and promote each
hold the evidence against what they are about to do, and none trusts that another did.
"""

from __future__ import annotations

from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.plan import ReleasePlan
from release_tool.stages import findings
from release_tool.values import SmokeEvidence

READS = ("version", "environment.provider", "smoke.prompts")
"""What of the plan it reads: part of what its callers read."""
_AGAIN = "run the smoke stage on this archive: release-tool run --only smoke"


def require(
    plan: ReleasePlan,
    evidence: SmokeEvidence,
    *,
    archive_sha256: str,
    binary_sha256: str,
    act: str,
) -> None:
    """Refuse evidence of anything else than exactly this archive, in an environment's own way.

    Args:
        plan: the release plan.
        evidence: what the smoke run recorded.
        archive_sha256: of the archive that is about to be handed on.
        binary_sha256: of its main executable.
        act: what is about to be done: `publishing`, `registering`, `promoting`.

    Raises:
        VerificationError: it is of another archive, version or executable, an answer disagreed,
            a prompt of the plan was not asked, or this environment refuses its kind.
    """
    found = [
        checks.compare("archive", expected=archive_sha256, observed=evidence.archive_sha256),
        checks.compare("version", expected=plan.version, observed=evidence.version),
        checks.compare("executable", expected=binary_sha256, observed=evidence.executable_sha256),
        _answers(plan, evidence),
    ]
    if plan.environment.provider == "bundle":
        found.extend(_bundle_checks(evidence))
    findings.require(found, f"the smoke evidence does not allow {act} this archive", hint=_AGAIN)


def _answers(plan: ReleasePlan, evidence: SmokeEvidence) -> Check:
    agreeing = sum(prompt.agrees for prompt in evidence.prompts)
    asked = tuple(prompt.prompt for prompt in evidence.prompts)
    whole = len(plan.smoke.prompts)
    if asked == plan.smoke.prompts and agreeing == whole:
        return checks.passed("prompts", f"{agreeing} of {whole} agree")
    return checks.failed(
        "prompts",
        expected=f"the plan's {whole} asked, each agrees",
        observed=f"{len(asked)} asked, {agreeing} agree",
    )


def _bundle_checks(evidence: SmokeEvidence) -> list[Check]:
    """What a real environment asks: the bundle's own executable, on Apple Silicon."""
    host = f"{evidence.host.system} {evidence.host.machine}"
    return [
        checks.compare("kind", expected="bundle", observed=evidence.kind),
        checks.compare("host", expected="macos arm64", observed=host),
        checks.compare(
            "what ran", expected=evidence.executable_sha256, observed=evidence.ran_sha256
        ),
        checks.compare(
            "--version", expected="ran", observed="ran" if evidence.version_ran else "not run"
        ),
    ]
