"""Profile: the provisioning profile must authorize what will be signed, before anything is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from release_tool.apple import armor, certificates, checks, profile_policy, provisioning_profile
from release_tool.apple.policy import expiry
from release_tool.files import atomic, hashing
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.stages import findings, listing
from release_tool.values import CheckOutcome, VerifiedProfile

READS = ("product.team_id", "product.bundle_id", "product.access_groups", "profile")
OUTPUT = "embedded.provisionprofile"


def run(
    plan: ReleasePlan,
    profile: bytes,
    *,
    workspace: Workspace,
    reporter: Reporter,
    trust: certificates.Trust,
    entitlements: tuple[Mapping[str, object], ...],
    certificate: certificates.Certificate | None,
) -> VerifiedProfile:
    """Verify the profile, keep its bytes, and say what it grants.

    Args:
        plan: the release plan.
        profile: the profile's bytes, armoured or not.
        workspace: gets a copy under `embedded.provisionprofile`.
        reporter: is told how long it still lives.
        trust: the roots that its signatures must end in.
        entitlements: what each executable will be signed with.
        certificate: the one that will sign; None where another job holds it, and then signing
            compares.

    Raises:
        FormatError: these bytes are no profile.
        VerificationError: every reason for which it does not do, at once.
    """
    now = datetime.now(UTC)
    found = provisioning_profile.read(profile, trust=trust)
    judged = judge(plan, found, entitlements=entitlements, certificate=certificate, now=now)
    data = armor.unwrap(profile, "a provisioning profile")
    with workspace.scratch("profile") as folder:
        made = folder / OUTPUT
        atomic.write_atomically(made, data)
        workspace.place(made, OUTPUT)
    days = profile_policy.days_left(found, now)
    reporter.note(f"expires {found.expires:%Y-%m-%d}" if found.expires else "never expires")
    return VerifiedProfile(
        path=OUTPUT,
        sha256=hashing.sha256_of(workspace.path(OUTPUT)),
        name=found.name,
        uuid=found.uuid,
        team_id=found.team_id,
        expires=found.expires.isoformat() if found.expires else "",
        days_left=days if days is not None else -1,
        app_ids=found.app_ids,
        access_groups=found.access_groups,
        entitlements=listing.json_dictionary(found.entitlements),
        certificates=tuple(certificates.fingerprint(one) for one in found.certificates),
        checks=tuple(CheckOutcome.model_validate(check.as_json()) for check in judged),
        expiries=listing.expiries(expiry.forecast(now=now, profile=found)),
    )


def judge(
    plan: ReleasePlan,
    found: provisioning_profile.Profile,
    *,
    entitlements: tuple[Mapping[str, object], ...],
    certificate: certificates.Certificate | None,
    now: datetime,
) -> tuple[checks.Check, ...]:
    """Hold the profile against the plan.

    Raises:
        VerificationError: at least one check failed; lists all of them.
    """
    wanted = profile_policy.Wanted(
        team_id=plan.product.team_id,
        bundle_id=plan.product.bundle_id,
        access_groups=plan.product.access_groups,
        certificate=certificate,
        entitlements=entitlements,
        minimum_days=plan.profile.minimum_days,
    )
    judged = profile_policy.judge(found, wanted, now=now)
    findings.require(
        judged, f'the provisioning profile "{found.name}" does not authorize this release'
    )
    return judged
