"""What went wrong in past releases and elsewhere, each with the rule that refuses it now.

Apart from those of other rooms: what the notary answers, how signatures travel, and what a
provider does when it runs is tested where it is done.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from release_tool.apple import (
    certificates,
    metal_library,
    policy,
    provisioning_profile,
    release,
)
from release_tool.apple.checks import Check
from release_tool.apple.policy import (
    amfi,
    distribution,
    embedded,
    expiry,
    library_validation,
    linter,
    notary,
)
from release_tool.apple.verification import Judge
from release_tool.files.tree import DiskTree
from release_tool.rehearsal import profiles
from tests import linked_macho, macho_samples, policy_apps, signed_release
from tests.signed_release import APP, BUNDLE_ID, CLAIMS, ENCLAVE, MAIN, TEAM

PUSH = {"com.apple.developer.aps-environment": "production"}


def failed(found: list[Check]) -> set[tuple[str, str]]:
    return {(check.name, check.subject) for check in found if check.outcome == "failed"}


def lint(values: Mapping[str, object], **options: bool) -> set[str]:
    found = linter.lint(plistlib.dumps(dict(values)), name="role.plist", **options)
    return {check.name for check in found.checks if check.outcome == "failed"}


def test_april_7_an_unsigned_runtime_made_notarization_fail() -> None:
    """Unsigned code in Resources, far from code places, is the notary's reason: told before."""
    judge = signed_release.made().judge()
    runtime = "Contents/Resources/python/lib/libpython.dylib"
    tree = policy_apps.signed_tree({runtime: linked_macho.build(executable=False)})
    found = failed(notary.judge(tree, judge=judge, path=APP))
    assert ("signed for the notary", f"{APP}/{runtime}") in found


def test_april_16_a_script_in_macos_counted_as_unsigned_code() -> None:
    """A text in a code place is refused before signing; in Resources it may lie."""
    script = {
        "Contents/MacOS/start.sh": b"#!/bin/sh\n",
        "Contents/Resources/start.sh": b"#!/bin/sh\n",
    }
    found = failed(list(distribution.code_places(policy_apps.app(script))))
    assert found == {("code place", "Contents/MacOS/start.sh")}


def test_april_18_a_library_of_another_team_was_killed_at_load() -> None:
    """Library validation: the loader's team, or an entitlement that lifts it."""
    library = "@executable_path/../Frameworks/libpart.dylib"
    place = "Contents/Frameworks/libpart.dylib"
    taken = policy_apps.app(
        {
            MAIN: linked_macho.build(libraries=[library]),
            place: linked_macho.build(executable=False),
        }
    )
    teams = {MAIN: TEAM, place: "ANOTHER001"}
    code = {
        path: file._replace(
            parts=tuple(part._replace(flags=0x10000, team_id=teams[path]) for part in file.parts)
        )
        for path, file in taken.code.items()
    }
    found = library_validation.judge(replace(taken, code=code), facts=policy_apps.signed())
    assert failed(found) == {("team of the linked library", MAIN)}


def test_april_18_a_placeholder_stayed_in_the_entitlements() -> None:
    """`$(AppIdentifierPrefix)` was taken literally: error -34018 of the keychain."""
    group = "$(AppIdentifierPrefix)io.darkbloom.provider"
    assert lint({"keychain-access-groups": [group]}) == {"placeholder"}


def test_april_19_an_application_identifier_without_a_profile() -> None:
    """A restricted entitlement and nothing that grants it: killed at launch."""
    claims = {"com.apple.application-identifier": f"{TEAM}.{BUNDLE_ID}"}
    found = failed(policy.launch(policy_apps.claiming(claims), None))
    assert found == {("embedded profile", f"{APP}/{MAIN}")}


def test_april_the_long_name_of_the_keychain_groups_had_no_effect() -> None:
    """Securityd reads the short one."""
    long = {linter.LONG_KEYCHAIN_KEY: [f"{TEAM}.x"]}
    assert lint(long) == {"keychain access groups key"}


def test_june_the_enclave_was_signed_with_the_provider_s_entitlements() -> None:
    """A bare executable has no profile of its own: AMFI kills it."""
    found = failed(policy.launch(policy_apps.claiming(CLAIMS, ENCLAVE), policy_apps.grants()))
    assert found == {("restricted entitlements", f"{APP}/{ENCLAVE}")}


def test_june_a_push_entitlement_that_the_profile_did_not_grant() -> None:
    """0.6.0: Killed: 9. Refused without a grant and with the grant of another value."""
    facts = policy_apps.claiming({**CLAIMS, **PUSH})
    (key,) = PUSH
    assert failed(policy.launch(facts, policy_apps.grants())) == {("entitlement granted", key)}
    other = policy_apps.grants({key: "development"})
    assert failed(policy.launch(facts, other)) == {("entitlement granted", key)}
    assert not failed(policy.launch(facts, policy_apps.grants(PUSH)))


def test_august_a_metal_library_for_newer_systems_than_the_installer_promised() -> None:
    """Linked for 26.2, promised for 14; the same for the code itself."""
    size = metal_library.HEADER_SIZE
    taken = policy_apps.app(
        {
            "Contents/MacOS/mlx.metallib": metal_library.header(size=size, minimum="26.2"),
            "Contents/MacOS/darkbloom-enclave": linked_macho.build(minos="15.0"),
        }
    )
    assert failed(list(distribution.targets(taken, minimum_macos="14.0"))) == {
        ("Metal target", "Contents/MacOS/mlx.metallib"),
        ("minimum macOS of the code", "Contents/MacOS/darkbloom-enclave"),
    }


def test_september_an_archive_left_apple_double_files() -> None:
    """`._*` beside the files of the app: nobody sealed them."""
    names = policy_apps.entries("Contents/MacOS/mlx.metallib", "Contents/MacOS/._mlx.metallib")
    found = failed(list(distribution.names(names)))
    assert found == {("AppleDouble file", "Contents/MacOS/._mlx.metallib")}
    assert failed(list(distribution.names(policy_apps.entries("__MACOSX/x", "__MACOSX"))))


def test_a_certificate_was_renewed_after_the_profile_was_made() -> None:
    """codesign, the notary and Gatekeeper pass it; AMFI kills it."""
    grants = policy_apps.grants(certificates=["ab" * 32])
    found = failed(policy.launch(policy_apps.claiming(CLAIMS), grants))
    assert found == {("certificate in the profile", f"{APP}/{MAIN}")}


def test_a_team_of_before_2011_has_another_prefix() -> None:
    """Its identifiers begin with what the profile names as prefix, and with no third one."""
    claims = {
        "com.apple.application-identifier": f"OLDPREFIX1.{BUNDLE_ID}",
        "com.apple.developer.team-identifier": TEAM,
        "keychain-access-groups": [f"OLDPREFIX1.{BUNDLE_ID}"],
    }
    granted = {
        "com.apple.application-identifier": f"OLDPREFIX1.{BUNDLE_ID}",
        "keychain-access-groups": ["OLDPREFIX1.*"],
    }
    facts = policy_apps.claiming(claims)
    assert not failed(policy.launch(facts, policy_apps.grants(granted, prefixes=("OLDPREFIX1",))))
    told = {name for name, _ in failed(policy.launch(facts, policy_apps.grants(granted)))}
    assert told == {"entitlement granted", "identity entitlement", "keychain access group"}


@pytest.mark.parametrize("spelling", ["get-task-allow", "com.apple.security.get-task-allow"])
def test_a_debug_build_was_shipped(spelling: str) -> None:
    """Both spellings of get-task-allow are refused, also where only the value is odd."""
    for value in (True, 1, "YES"):
        facts = policy_apps.claiming({spelling: value})
        assert ("get-task-allow", f"{APP}/{MAIN}") in failed(policy.launch(facts, None))


def test_a_jit_helper_without_its_entitlement_ended_at_start() -> None:
    """SIGTRAP under the hardened runtime."""
    assert lint({"com.apple.security.network.client": True}, jit=True) == {"JIT entitlement"}


def test_names_that_a_zip_composed() -> None:
    """An NFD name is another name after a zip: the seal breaks."""
    found = failed(list(distribution.names(policy_apps.entries("Contents/Resources/u\u0308.txt"))))
    assert found == {("name form", "Contents/Resources/u\u0308.txt")}


def test_links_that_turned_absolute() -> None:
    """A link to the build host, and one that climbs out of the app."""
    for target in ("/Users/ci/lib", "../../../lib", "../../.."):
        taken = policy_apps.app(links={"Contents/Resources/lib": target})
        entries = tuple(taken.entries.values())
        assert failed(list(distribution.links(entries))) == {("link", "Contents/Resources/lib")}


def test_finder_information_on_a_file_of_the_app() -> None:
    """What a file provider adds is detritus to codesign; what macOS notes by itself is not."""
    bad = distribution.attributes({MAIN: ["com.apple.FinderInfo"]})
    assert (bad.outcome, "com.apple.FinderInfo" in bad.observed) == ("failed", True)
    assert distribution.attributes({MAIN: ["com.apple.quarantine"]}).outcome == "passed"


def test_profiles_and_certificates_that_end(real_data: Path) -> None:
    """The leaf of a real profile of 2026 ends with its authority on 2027-02-01."""
    content = (real_data / "profiles" / "developer-id-2026.provisionprofile").read_bytes()
    profile = provisioning_profile.read(content, trust=certificates.apple_trust())
    rows = expiry.forecast(now=datetime(2026, 11, 26, tzinfo=UTC), profile=profile)
    assert [(row.what, f"{row.ends:%Y-%m-%d}") for row in rows] == [
        ("certificate in the profile", "2027-02-01"),
        ("profile", "2044-02-08"),
    ]
    assert [check.outcome for check in expiry.judge(rows, within=90)] == ["failed", "passed"]


HOST = "Contents/Helpers/Host.app"


def nested_app(folder: Path, *, granted: str | None) -> Path:
    """An app with an app inside, unsigned; `granted` names the inner app that a profile is for."""
    app = signed_release.assemble(folder)
    inner = app / HOST / "Contents"
    (inner / "MacOS").mkdir(parents=True)
    (inner / "MacOS" / "host").write_bytes(macho_samples.thin())
    info = {"CFBundleIdentifier": "io.darkbloom.host", "CFBundleExecutable": "host"}
    (inner / "Info.plist").write_bytes(plistlib.dumps(info))
    if granted is not None:
        wish = profiles.Wish(team_id=TEAM, bundle_id=granted)
        content = profiles.make(signed_release.look_alike(), wish)
        (inner / "embedded.provisionprofile").write_bytes(content)
    return app


@pytest.mark.parametrize(
    ("granted", "names"),
    [
        ("io.darkbloom.host", set()),
        ("io.darkbloom.other", {"entitlement granted"}),
        (None, {"embedded profile"}),
    ],
)
def test_nested_apps_answer_for_themselves(
    tmp_path: Path, granted: str | None, names: set[str]
) -> None:
    """A helper that is an app is judged by its own profile, not by the outer app's."""
    claims = {
        "com.apple.application-identifier": f"{TEAM}.io.darkbloom.host",
        "com.apple.developer.team-identifier": TEAM,
    }
    tree = DiskTree(nested_app(tmp_path, granted=granted))
    path = f"{HOST}/Contents/MacOS/host"
    facts = policy_apps.with_code(policy_apps.helper(path, claims))
    judge = signed_release.made().judge()
    inner, outcomes = embedded.nested(tree, facts, judge=judge)
    assert not failed(outcomes)
    assert inner[HOST].main_executable == path
    found = policy.launch(facts, policy_apps.grants(), inner)
    assert {name for name, _ in failed(found)} == names


def test_a_tool_in_a_nested_app_has_no_profile(tmp_path: Path) -> None:
    """Only the inner app's main executable may claim what its profile grants."""
    app = nested_app(tmp_path, granted="io.darkbloom.host")
    path = f"{HOST}/Contents/MacOS/tool"
    facts = policy_apps.with_code(policy_apps.helper(path, CLAIMS))
    inner, _ = embedded.nested(DiskTree(app), facts, judge=signed_release.made().judge())
    found = policy.launch(facts, policy_apps.grants(), inner)
    assert failed(found) == {("restricted entitlements", path)}


@pytest.mark.parametrize("kind", ["Apple platform code", "Mac App Store"])
def test_what_apple_signed_answers_to_no_profile(kind: str) -> None:
    """Apple's own code and what its store signed anew may claim what no profile grants."""
    item = replace(policy_apps.main(), signer_kind=kind, entitlements={**CLAIMS, **PUSH})
    found = policy.launch(policy_apps.with_code({MAIN: item}), None)
    assert not failed(found)
    assert "not_checked" in [check.outcome for check in found if check.subject.endswith(MAIN)]


@pytest.mark.parametrize(("strict", "outcome"), [(True, "failed"), (False, "passed")])
def test_only_our_own_profile_must_be_one_for_developer_id(
    real_data: Path, *, strict: bool, outcome: str
) -> None:
    """A real App Store profile in another's app is what a store asks for; in ours it is wrong."""
    content = (real_data / "profiles" / "mac-app-store-2026.provisionprofile").read_bytes()
    now = datetime(2026, 11, 26, tzinfo=UTC)
    judge = Judge(trust=certificates.apple_trust(), now=now, strict=strict)
    grants, found = embedded.read(content, judge=judge, subject="profile")
    assert grants is not None
    assert {check.name: check.outcome for check in found}["profile kind"] == outcome


def test_bundles_are_told_by_their_suffix() -> None:
    """The innermost bundle owns a file; folders with a dot in their name are none."""
    assert amfi.bundle_of(MAIN) == ""
    assert amfi.bundle_of("Contents/Helpers/tool") == ""
    assert amfi.bundle_of(f"{HOST}/Contents/MacOS/host") == HOST
    part = "Contents/Frameworks/Part.framework"
    assert amfi.bundle_of(f"{part}/Versions/1.2/Part") == part
    assert amfi.bundle_of(f"{part}/Versions/A/XPCServices/S.xpc/Contents/MacOS/S") == (
        f"{part}/Versions/A/XPCServices/S.xpc"
    )


def test_a_whole_release_is_asked_all_of_it(tmp_path: Path) -> None:
    """`verify` of our own app names what the gates say: here a file that nobody wants there."""
    app = signed_release.assemble(tmp_path)
    (app / "Contents" / "Resources").mkdir()
    (app / "Contents" / "Resources" / "._part").write_bytes(b"x")
    signed_release.sign(app)
    report = release.verify_app(DiskTree(app), judge=signed_release.made().judge(), path=APP)
    assert failed(list(report.checks)) == {("AppleDouble file", f"{APP}/Contents/Resources/._part")}
