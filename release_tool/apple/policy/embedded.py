"""What the provisioning profiles inside an app grant: its own, and those of bundles in it."""

from __future__ import annotations

from collections.abc import Mapping

from release_tool import errors
from release_tool.apple import (
    certificates,
    checks,
    profile_policy,
    property_list,
    provisioning_profile,
)
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.apple.policy import amfi
from release_tool.apple.policy.amfi import Grants, NestedBundle
from release_tool.apple.tree import BundleTree
from release_tool.apple.verification import Judge

PROFILE = "Contents/embedded.provisionprofile"
_INFO = "Contents/Info.plist"


def read(data: bytes | None, *, judge: Judge, subject: str) -> tuple[Grants | None, list[Check]]:
    """What an embedded profile grants, and whether it is authentic, of our kind and unexpired.

    Args:
        data: the profile; None without one.
        judge: whom it must be signed by, and when it must be good.
        subject: how checks name it.

    Returns:
        The grants, None without a profile or with one that cannot be read; and the checks.
    """
    if data is None:
        return None, []
    try:
        profile = provisioning_profile.read(data, trust=judge.trust)
    except errors.VerificationError as problem:
        return None, [checks.failed("embedded profile", subject=subject, observed=str(problem))]
    wanted = profile_policy.Wanted(minimum_days=0)
    judged = profile_policy.judge(profile, wanted, now=judge.now)
    found = [
        _told(check, strict=judge.strict)._replace(name=f"profile {check.name}", subject=subject)
        for check in judged
        if check.outcome != "not_checked"
    ]
    grants = Grants(
        team_ids=profile.team_ids,
        entitlements=profile.entitlements,
        certificates=tuple(certificates.fingerprint(item) for item in profile.certificates),
        prefixes=profile.prefixes,
    )
    return grants, found


def _told(check: Check, *, strict: bool) -> Check:
    """Only ours must be a Developer ID profile: others' apps come out of a store, too."""
    if check.name == "kind" and not strict:
        return checks.passed(check.name, check.observed)
    return check


def nested(
    tree: BundleTree, facts: BundleFacts, *, judge: Judge
) -> tuple[dict[str, NestedBundle], list[Check]]:
    """The bundles with an `Info.plist` inside an app, each with what its own profile grants.

    Args:
        tree: the app's root.
        facts: the app as it was read.
        judge: whom profiles must be signed by.

    Returns:
        The bundles by their path, and the checks of their profiles.
    """
    files = {entry.path for entry in tree.entries() if entry.kind == "file"}
    found: dict[str, NestedBundle] = {}
    outcomes: list[Check] = []
    for owner in sorted({amfi.bundle_of(path) for path in facts.code} - {""}):
        if f"{owner}/{_INFO}" not in files:
            continue
        info = _info(tree, f"{owner}/{_INFO}")
        place = f"{owner}/{PROFILE}"
        grants, judged = read(
            tree.read(place) if place in files else None,
            judge=judge,
            subject=f"{facts.path}/{place}".removeprefix("/"),
        )
        outcomes += judged
        found[owner] = NestedBundle(
            bundle_id=str(info.get("CFBundleIdentifier", "")),
            main_executable=f"{owner}/Contents/MacOS/{info.get('CFBundleExecutable', '')}",
            grants=grants,
        )
    return found, outcomes


def _info(tree: BundleTree, path: str) -> Mapping[str, object]:
    """Empty for a list that cannot be read: its bundle was refused for that already."""
    try:
        return property_list.parse_any(tree.read(path))
    except errors.FormatError:
        return {}
