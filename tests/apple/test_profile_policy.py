"""What a profile must allow: one table, each rule broken alone, all reasons at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from release_tool.apple import certificates, profile_policy, provisioning_profile
from release_tool.apple.profile_policy import Wanted
from release_tool.rehearsal import certificate_parts, profiles
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.profiles import Wish

TEAM = "SLDQ2GJ6TL"
BUNDLE = "io.darkbloom.provider"
APP_ID = f"{TEAM}.{BUNDLE}"
APP_ID_KEY = "com.apple.application-identifier"
NOW = datetime.now(UTC)
PROVIDER: Mapping[str, object] = {
    APP_ID_KEY: APP_ID,
    "com.apple.developer.team-identifier": TEAM,
    "keychain-access-groups": [APP_ID],
    "com.apple.security.network.client": True,
}
ENCLAVE: Mapping[str, object] = {"com.apple.security.network.client": True}


@lru_cache
def _authority(team: str) -> Authority:
    return Authority.create(team)


def _der(role: str = certificate_parts.DEVELOPER_ID, team: str = TEAM) -> bytes:
    return _authority(team).certificate(role).public_bytes(serialization.Encoding.DER)


@lru_cache
def _trust() -> certificates.Trust:
    names = (certificate_parts.ROOT, certificate_parts.ROOT_G3)
    return certificates.Trust(
        name="look-alike", roots=tuple(certificates.load(_der(name)) for name in names)
    )


def _leaf(team: str = TEAM) -> certificates.Certificate:
    return certificates.load(_der(team=team))


def _profile(**wish: object) -> provisioning_profile.Profile:
    wanted = {"team_id": TEAM, "bundle_id": BUNDLE, **wish}
    data = profiles.make(_authority(TEAM), Wish(**wanted))  # type: ignore[arg-type]
    return provisioning_profile.read(data, trust=_trust())


def _everything(**changes: object) -> Wanted:
    asked = {
        "team_id": TEAM,
        "bundle_id": BUNDLE,
        "access_groups": (APP_ID,),
        "certificate": _leaf(),
        "entitlements": (PROVIDER, ENCLAVE),
        **changes,
    }
    return Wanted(**asked)  # type: ignore[arg-type]


def _failed(
    found: provisioning_profile.Profile, wanted: Wanted, now: datetime = NOW
) -> dict[str, str]:
    return {
        check.name: check.observed
        for check in profile_policy.judge(found, wanted, now=now)
        if check.outcome == "failed"
    }


def _outcomes(found: provisioning_profile.Profile, wanted: Wanted) -> dict[str, str]:
    return {check.name: check.outcome for check in profile_policy.judge(found, wanted, now=NOW)}


def test_a_good_profile_passes_everything_asked() -> None:
    """All rules hold for the profile that we sign with, and nothing is left unchecked."""
    assert set(_outcomes(_profile(), _everything()).values()) == {"passed"}


def test_a_bare_call_checks_authenticity_kind_and_expiry() -> None:
    """What was not asked is not checked, and says so."""
    outcomes = _outcomes(_profile(), Wanted())
    asked = {name for name, outcome in outcomes.items() if outcome == "passed"}
    assert asked == {"signature", "inner profile", "kind", "platform", "debugging", "expiry"}
    left = {name for name, outcome in outcomes.items() if outcome == "not_checked"}
    assert left == {"team", "app id", "access groups", "entitlements", "certificate"}


GRANT = "granted"


@pytest.mark.parametrize(
    ("wish", "check"),
    [
        ({"kind": "development"}, "kind"),
        ({"kind": "app-store"}, "kind"),
        ({"platform": "iOS"}, "platform"),
        ({"without": ("Platform",)}, "platform"),
        ({GRANT: {"get-task-allow": True}}, "debugging"),
        ({GRANT: {"com.apple.security.get-task-allow": True}}, "debugging"),
        ({GRANT: {"get-task-allow": "yes"}}, "debugging"),
        ({"team_id": "AAAAAAAAAA"}, "team"),
        ({"without": ("TeamIdentifier",)}, "team"),
        ({GRANT: {"com.apple.developer.team-identifier": "AAAAAAAAAA"}}, "team"),
        ({"bundle_id": "io.darkbloom.cli"}, "app id"),
        ({GRANT: {APP_ID_KEY: "*"}}, "app id"),
        ({GRANT: {APP_ID_KEY: "AAAAAAAAAA.*"}}, "app id"),
        ({GRANT: {APP_ID_KEY: f"{TEAM}.io.darkbloom.prov"}}, "app id"),
        ({GRANT: {APP_ID_KEY: f"{TEAM}.*.provider"}}, "app id"),
        ({GRANT: {APP_ID_KEY: f"{TEAM}*"}}, "app id"),
        ({GRANT: {APP_ID_KEY: None}}, "app id"),
        ({GRANT: {APP_ID_KEY: [APP_ID, "x"]}}, "app id"),
        ({GRANT: {"application-identifier": "AAAAAAAAAA.io.darkbloom.provider"}}, "app id"),
        ({GRANT: {"application-identifier": f"{TEAM}.other"}}, "app id"),
        ({GRANT: {"keychain-access-groups": ["AAAAAAAAAA.*"]}}, "access groups"),
        ({GRANT: {"keychain-access-groups": ["*"]}}, "access groups"),
        ({GRANT: {"keychain-access-groups": None}}, "access groups"),
        ({GRANT: {"keychain-access-groups": [f"{TEAM}.other"]}}, "access groups"),
        ({"certificates": ()}, "certificate"),
        ({"life_days": 20}, "expiry"),
        ({"life_days": -1}, "expiry"),
        ({"without": ("ExpirationDate",)}, "expiry"),
    ],
)
def test_each_broken_rule_fails_its_check(wish: Mapping[str, object], check: str) -> None:
    """One fault in the profile fails the check of that name, in words."""
    failed = _failed(_profile(**wish), _everything())
    assert check in failed
    assert all(failed.values())


@pytest.mark.parametrize(
    "granted",
    [
        {},
        {APP_ID_KEY: f"{TEAM}.*"},
        {APP_ID_KEY: f"{TEAM}.io.darkbloom.*"},
        {APP_ID_KEY: None, "application-identifier": APP_ID},
        {"application-identifier": f"{TEAM}.*"},
        {"get-task-allow": False},
        {"keychain-access-groups": [APP_ID]},
        {"keychain-access-groups": ["AAAAAAAAAA.*", f"{TEAM}.io.*"]},
    ],
)
def test_grants_that_cover_us_pass(granted: Mapping[str, object]) -> None:
    """Exact values and own-team wildcards cover us under either spelling."""
    assert _failed(_profile(granted=granted), _everything()) == {}


def test_an_omitted_app_id_passes_only_if_nothing_claims_one() -> None:
    """Without a grant, code that claims no application identifier may still be signed."""
    found = _profile(granted={APP_ID_KEY: None})
    assert "app id" in _failed(found, _everything())
    assert "app id" in _failed(found, _everything(entitlements=None))
    assert "app id" not in _failed(found, _everything(entitlements=(ENCLAVE,)))


def test_what_is_signed_must_claim_the_same_app_id() -> None:
    """A wildcard profile does not excuse an entitlement for another bundle, or a literal one."""
    wildcard = _profile(granted={APP_ID_KEY: f"{TEAM}.*"})
    for claim in (f"{TEAM}.io.darkbloom.cli", "$(AppIdentifierPrefix)io.darkbloom.provider"):
        entitled = {**PROVIDER, APP_ID_KEY: claim}
        assert "app id" in _failed(wildcard, _everything(entitlements=(entitled,)))


def test_every_restricted_entitlement_must_be_granted() -> None:
    """A capability that the profile does not enable is named; unrestricted ones are free."""
    entitled = {**PROVIDER, "com.apple.developer.aps-environment": "production"}
    wanted = _everything(entitlements=(entitled, ENCLAVE))
    found = [
        check
        for check in profile_policy.judge(_profile(), wanted, now=NOW)
        if check.outcome == "failed"
    ]
    assert [check.subject for check in found] == ["com.apple.developer.aps-environment"]
    granted = _profile(granted={"com.apple.developer.aps-environment": "production"})
    assert _failed(granted, wanted) == {}
    development = _profile(granted={"com.apple.developer.aps-environment": "development"})
    assert _failed(development, wanted).keys() == {"entitlement granted"}


def test_access_groups_of_other_teams_are_never_ours() -> None:
    """A group of another team is refused even where the profile grants it."""
    found = _profile(granted={"keychain-access-groups": ["AAAAAAAAAA.group", f"{TEAM}.*"]})
    failed = _failed(found, _everything(access_groups=("AAAAAAAAAA.group", APP_ID)))
    assert failed.keys() == {"access groups"}


def test_the_signing_certificate_must_be_listed_and_valid() -> None:
    """Another certificate, a lapsed one, one of the future and one of another team are refused."""
    found = _profile()
    assert (
        "is not among its 1 certificates"
        in _failed(found, _everything(certificate=_leaf("AAAAAAAAAA")))["certificate"]
    )
    late, early = _leaf().not_after + timedelta(days=1), _leaf().not_before - timedelta(days=1)
    assert "expired" in _failed(found, _everything(), late)["certificate"]
    assert "is valid from" in _failed(found, _everything(), early)["certificate"]
    both = _profile(certificates=(_der(), _der(team="AAAAAAAAAA")))
    assert (
        "belongs to team AAAAAAAAAA"
        in _failed(both, _everything(certificate=_leaf("AAAAAAAAAA")))["certificate"]
    )


def test_expiry_counts_whole_days() -> None:
    """Thirty days are enough for thirty; a second less is not; zero asks only for today."""
    found = _profile()
    assert found.expires is not None
    edge = found.expires - timedelta(days=30)
    assert profile_policy.days_left(found, edge) == 30
    assert _failed(found, Wanted(), edge) == {}
    assert "29 days left" in _failed(found, Wanted(), edge + timedelta(seconds=1))["expiry"]
    last = found.expires - timedelta(seconds=1)
    assert _failed(found, Wanted(minimum_days=0), last) == {}
    assert "expired" in _failed(found, Wanted(minimum_days=0), found.expires)["expiry"]


def test_a_profile_of_the_future_is_refused() -> None:
    """The profile names its own signing time: one to come fails, a day of clocks is allowed."""
    found = _profile(created=NOW + timedelta(days=400))
    assert "signed in the future" in _failed(found, Wanted())["signing time"]
    unsigned = found._replace(signed=None)
    assert "made in the future" in _failed(unsigned, Wanted())["signing time"]
    near = _profile(created=NOW + timedelta(hours=23))
    assert _failed(near, _everything()) == {}
    assert "signing time" in _failed(near, Wanted(), NOW - timedelta(hours=2))


def test_a_team_that_stands_in_some_places_only_is_told_by_place() -> None:
    """What was wanted is never listed as what was found without the place that lacks it."""
    failed = _failed(_profile(without=("TeamIdentifier",)), Wanted(team_id=TEAM))
    assert failed["team"].startswith(f"TeamIdentifier none, prefix {TEAM}")
    assert _failed(_profile(), Wanted(team_id="AAAAAAAAAA"))["team"] == TEAM


def test_all_reasons_come_at_once() -> None:
    """A profile that is wrong in everything says everything."""
    found = _profile(
        kind="development",
        team_id="AAAAAAAAAA",
        platform="iOS",
        life_days=3,
        certificates=(),
        signer=certificate_parts.DEVELOPER_ID,
    )
    assert _failed(found, _everything()).keys() == {
        *("signature", "kind", "platform", "debugging", "team", "app id", "access groups"),
        *("entitlement granted", "certificate", "expiry"),
    }


@pytest.mark.parametrize(
    ("name", "failing"),
    [
        ("developer-id-2026.provisionprofile", set()),
        ("developer-id-2020-icloud.provisionprofile", set()),
        ("developer-id-2019-endpoint-security.provisionprofile", set()),
        ("mac-app-store-2026.provisionprofile", {"kind"}),
        ("mac-app-store-2023-expired.provisionprofile", {"kind", "expiry"}),
        ("mac-app-store-2017-expired.provisionprofile", {"kind", "expiry"}),
        ("ios-app-store-2019-expired.mobileprovision", {"kind", "platform", "expiry"}),
        (
            "forged-self-signed.mobileprovision",
            {"signature", "kind", "platform", "debugging", "expiry"},
        ),
    ],
)
def test_real_profiles_come_out_as_their_table_says(
    real_data: Path, name: str, failing: set[str]
) -> None:
    """Authentic ones of the right kind pass a bare call; the others fail for their reasons."""
    data = (real_data / "profiles" / name).read_bytes()
    found = provisioning_profile.read(data, trust=certificates.apple_trust())
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert _failed(found, Wanted(), now).keys() == failing


def test_a_real_profile_passes_for_its_own_team(real_data: Path) -> None:
    """The 2026 Developer ID profile covers its own team, app, groups and certificate."""
    data = (real_data / "profiles" / "developer-id-2026.provisionprofile").read_bytes()
    found = provisioning_profile.read(data, trust=certificates.apple_trust())
    wanted = Wanted(
        team_id="X44L3QQYVR",
        bundle_id="com.bluzuli.touchfs",
        access_groups=("X44L3QQYVR.com.bluzuli.touchfs",),
        certificate=found.certificates[0],
    )
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert _failed(found, wanted, now) == {}
    assert "expired" in _failed(found, wanted, datetime(2027, 3, 1, tzinfo=UTC))["certificate"]
