"""What a provisioning profile must allow before anything is signed with it, all reasons at once.

macOS judges the same at launch and kills what a profile does not cover (Apple's TN3125); here it
is said beforehand, in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from release_tool.apple import certificates, checks, entitlements
from release_tool.apple.checks import Check
from release_tool.apple.provisioning_profile import KIND_NAMES, MACOS, Profile

_SECONDS_PER_DAY = 86_400
_CLOCK_TOLERANCE = timedelta(days=1)
"""How far a clock may be behind Apple's before a profile seems to come from the future."""
_PORTAL = "make a profile of this kind on the developer portal"


class Wanted(NamedTuple):
    """What a caller asks of a profile; what is left empty is not checked."""

    team_id: str = ""
    bundle_id: str = ""
    access_groups: tuple[str, ...] = ()
    certificate: certificates.Certificate | None = None
    """The certificate that will sign."""
    entitlements: tuple[Mapping[str, object], ...] | None = None
    """Of every executable that will be signed."""
    minimum_days: int = 30


def judge(profile: Profile, wanted: Wanted, *, now: datetime) -> tuple[Check, ...]:
    """Judge a profile: authenticity, kind and expiry always, the rest as asked.

    Args:
        profile: what `provisioning_profile.read` returned.
        wanted: what it is for.
        now: the current time, aware.
    """
    return (
        *profile.authenticity,
        *_future(profile, now),
        _kind(profile),
        _platform(profile),
        _debugging(profile),
        _team(profile, wanted),
        _app_id(profile, wanted),
        *_access_groups(profile, wanted),
        *_entitlements(profile, wanted),
        _certificate(profile, wanted, now),
        _expiry(profile, wanted.minimum_days, now),
    )


def days_left(profile: Profile, now: datetime) -> int | None:
    """Whole days until the profile expires; negative once it did, None if it does not say."""
    if profile.expires is None:
        return None
    return int((profile.expires - now).total_seconds() // _SECONDS_PER_DAY)


def _future(profile: Profile, now: datetime) -> list[Check]:
    """Chains are judged at the time of signing, so that time must not be one to come."""
    for moment, said in ((profile.signed, "signed"), (profile.created, "made")):
        if moment is not None and moment > now + _CLOCK_TOLERANCE:
            failure = checks.failed(
                "signing time",
                expected=f"not after {now:%Y-%m-%d}",
                observed=f"{said} in the future: {moment:%Y-%m-%d}",
                hint="check the clock, or download the profile anew from the developer portal",
            )
            return [failure]
    return []


def _kind(profile: Profile) -> Check:
    return checks.compare(
        "kind",
        expected=KIND_NAMES["developer-id"],
        observed=KIND_NAMES[profile.kind],
        hint=f"{_PORTAL}: Distribution, Developer ID",
    )


def _platform(profile: Profile) -> Check:
    observed = _join(profile.platforms) or "none"
    if MACOS in profile.platforms:
        return checks.passed("platform", observed, expected=MACOS)
    return checks.failed("platform", expected=MACOS, observed=observed, hint=_PORTAL)


def _debugging(profile: Profile) -> Check:
    if not entitlements.allows_debugging(profile.entitlements):
        return checks.passed("debugging", "get-task-allow is not granted")
    return checks.failed(
        "debugging",
        expected="get-task-allow is not granted",
        observed="the profile grants get-task-allow",
        hint=f"{_PORTAL}: distribution profiles never grant it",
    )


def _team(profile: Profile, wanted: Wanted) -> Check:
    if not wanted.team_id:
        return checks.not_checked("team", "name it with --team-id")
    named = [
        ("TeamIdentifier", profile.team_ids or ("none",)),
        ("prefix", profile.prefixes),
    ]
    if entitlements.TEAM_IDENTIFIER in profile.entitlements:
        named.append(("entitlement", (str(profile.entitlements[entitlements.TEAM_IDENTIFIER]),)))
    said = dict.fromkeys(value for _, values in named for value in values)
    # Places that disagree are named, or the team that was wanted would stand among what was found.
    told = [f"{place} {', '.join(values)}" for place, values in named if values]
    return checks.compare(
        "team",
        expected=wanted.team_id,
        observed=_join(tuple(said) if len(said) == 1 else tuple(told)),
        hint="use a profile of the team that signs",
    )


def _app_id(profile: Profile, wanted: Wanted) -> Check:
    name = "app id"
    if not wanted.bundle_id:
        return checks.not_checked(name, "name it with --bundle-id")
    team = wanted.team_id or profile.team_id
    identifier = f"{team}.{wanted.bundle_id}"
    claims = _claimed_identifiers(wanted)
    grants = "the profile grants " + (_join(profile.app_ids) or "none")
    declared = _declared(profile)
    if not declared and claims == ():
        return checks.passed(name, "nothing that is signed claims one", expected=identifier)
    wrong = [
        claim
        for claim in claims or (identifier,)
        if claim != identifier
        or not all(isinstance(value, str) for value in declared)
        or not entitlements.covered(
            entitlements.APPLICATION_IDENTIFIER, claim, profile.entitlements, team
        )
    ]
    if not wrong:
        return checks.passed(name, grants, expected=identifier)
    claimed = "" if wrong == [identifier] else f"; what is signed claims {_join(tuple(wrong))}"
    return checks.failed(
        name,
        expected=identifier,
        observed=grants + claimed,
        hint="make a profile for the App ID of this bundle",
    )


def _declared(profile: Profile) -> list[object]:
    spellings = entitlements.APPLICATION_IDENTIFIER_SPELLINGS
    return [profile.entitlements[key] for key in spellings if key in profile.entitlements]


def _claimed_identifiers(wanted: Wanted) -> tuple[str, ...] | None:
    """The application identifiers that our code claims; None where nobody said what it claims."""
    if wanted.entitlements is None:
        return None
    spellings = entitlements.APPLICATION_IDENTIFIER_SPELLINGS
    found = (
        str(values[key]) for values in wanted.entitlements for key in spellings if key in values
    )
    return tuple(dict.fromkeys(found))


def _access_groups(profile: Profile, wanted: Wanted) -> list[Check]:
    name, key = "access groups", entitlements.KEYCHAIN_ACCESS_GROUPS
    if not wanted.access_groups:
        return [checks.not_checked(name, "name one with --access-group")]
    team = wanted.team_id or profile.team_id
    grants = "the profile grants " + (_join(profile.access_groups) or "none")
    missing = [
        group
        for group in wanted.access_groups
        if not group.startswith(f"{team}.")
        or not entitlements.covered(key, group, profile.entitlements, team)
    ]
    expected = _join(wanted.access_groups)
    if not missing:
        return [checks.passed(name, grants, expected=expected)]
    return [
        checks.failed(
            name,
            expected=_join(tuple(missing)),
            observed=grants,
            hint=f"a group begins with the team: {team}.…" if team else "",
        )
    ]


def _entitlements(profile: Profile, wanted: Wanted) -> list[Check]:
    name = "entitlements"
    if wanted.entitlements is None:
        return [checks.not_checked(name, "`release-tool run` asks with what it signs")]
    team = wanted.team_id or profile.team_id
    found = [
        check
        for values in wanted.entitlements
        for check in entitlements.coverage(values, profile.entitlements, team)
    ]
    failed = [check for check in found if check.outcome == "failed"]
    if failed:
        return list(dict.fromkeys(failed))
    return [checks.passed(name, f"{len(found)} restricted, every one granted")]


def _certificate(profile: Profile, wanted: Wanted, now: datetime) -> Check:
    name, certificate = "certificate", wanted.certificate
    if certificate is None:
        return checks.not_checked(name, "name the one that signs with --certificate")
    said = f"{certificates.display_name(certificate)} {certificates.fingerprint(certificate)[:12]}"
    problem = _certificate_problem(profile, certificate, wanted.team_id or profile.team_id, now)
    if problem is None:
        return checks.passed(name, f"{said}, valid until {certificate.not_after:%Y-%m-%d}")
    observed, hint = problem
    return checks.failed(
        name, expected="one of the profile's, valid now", observed=f"{said} {observed}", hint=hint
    )


def _certificate_problem(
    profile: Profile, certificate: certificates.Certificate, team: str, now: datetime
) -> tuple[str, str] | None:
    if certificate not in profile.certificates:
        return (
            f"is not among its {len(profile.certificates)} certificates",
            "the profile was made before the certificate was renewed: edit it on the portal, "
            "select the new one",
        )
    if now > certificate.not_after:
        return f"expired {certificate.not_after:%Y-%m-%d}", "renew the signing certificate"
    if now < certificate.not_before:
        return f"is valid from {certificate.not_before:%Y-%m-%d} only", "check the clock"
    unit = certificates.organizational_unit(certificate)
    if team and unit != team:
        return f"belongs to team {unit or 'none'}, not {team}", "sign with the team's own"
    return None


def _expiry(profile: Profile, minimum_days: int, now: datetime) -> Check:
    left, expires = days_left(profile, now), profile.expires
    expected = f"{minimum_days} days"
    hint = "renew the profile on the developer portal"
    if left is None or expires is None:
        observed = "the profile has no expiration date"
        return checks.failed("expiry", expected=expected, observed=observed, hint=hint)
    if now >= expires:
        return checks.failed(
            "expiry", expected=expected, observed=f"expired {expires:%Y-%m-%d}", hint=hint
        )
    observed = f"{left} days left ({expires:%Y-%m-%d})"
    if left < minimum_days:
        return checks.failed("expiry", expected=expected, observed=observed, hint=hint)
    return checks.passed("expiry", observed, expected=expected)


def _join(values: tuple[str, ...]) -> str:
    return certificates.printable(", ".join(values), 300)
