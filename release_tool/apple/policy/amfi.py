"""What AMFI would do when code of ours starts: it kills what no embedded profile allows.

Rule and source: Apple's TN3125; the incidents of past releases. `rules` names each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from release_tool.apple import checks, entitlements
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts, CodeFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What the embedded provisioning profile allows."""

    team_ids: tuple[str, ...]
    entitlements: Mapping[str, object]
    certificates: tuple[str, ...]
    """SHA-256 of each signing certificate that it names."""


def launch(facts: BundleFacts, grants: Grants | None) -> list[Check]:
    """Say what AMFI would say when the app's code is started.

    Args:
        facts: the app as it was read.
        grants: of the embedded profile; None without one.
    """
    found: list[Check] = []
    for path, report in facts.code.items():
        for item in report.slices:
            found += debugging(item)
            if path == facts.main_executable:
                found += _main_launch(facts, item, grants)
            elif _owner(path):
                found += _nested_launch(item)
            else:
                found += _helper_launch(item)
    return found


def _owner(path: str) -> str:
    """The nested bundle that an executable belongs to; empty for a bare one."""
    parts = path.split("/")
    names = [part for part in parts[1:-1] if "." in part]
    return names[-1] if names else ""


def debugging(item: CodeFacts) -> Iterator[Check]:
    """Whether other processes may take over this one: nothing that ships may allow it."""
    name = "get-task-allow"
    if entitlements.allows_debugging(item.entitlements or {}):
        yield checks.failed(
            name,
            subject=item.path,
            expected="absent or false",
            observed="true",
            hint="it lets any process read this one's memory; the notary refuses it",
        )
    else:
        yield checks.passed(name, "absent or false", subject=item.path)


def _nested_launch(item: CodeFacts) -> Iterator[Check]:
    claims = item.entitlements or {}
    if entitlements.restricted_keys(claims, item.team_id or ""):
        hint = "it is for its own bundle's profile to grant them: verify that bundle"
        yield checks.not_checked("restricted entitlements", hint, subject=item.path)


def _helper_launch(item: CodeFacts) -> Iterator[Check]:
    name = "restricted entitlements"
    claimed = entitlements.restricted_keys(item.entitlements or {}, item.team_id or "")
    if claimed:
        yield checks.failed(
            name,
            subject=item.path,
            expected="none: a bare executable has no profile",
            observed=", ".join(claimed),
            hint="macOS kills it at launch; drop them or make it a bundle with its own profile",
        )
    else:
        yield checks.passed(name, "none", subject=item.path)


def _main_launch(facts: BundleFacts, item: CodeFacts, grants: Grants | None) -> Iterator[Check]:
    claims, team_id = item.entitlements or {}, item.team_id or ""
    restricted = entitlements.restricted_keys(claims, team_id)
    if not restricted:
        yield checks.passed("restricted entitlements", "none", subject=item.path)
        return
    if grants is None:
        yield checks.failed(
            "embedded profile",
            subject=item.path,
            expected="one that grants the restricted entitlements",
            observed=f"none, but {', '.join(restricted)}",
            hint="macOS kills it at launch",
        )
        return
    yield from entitlements.coverage(claims, grants.entitlements, team_id)
    yield from _identity_claims(facts, item, claims)
    yield checks.compare(
        "team of the profile",
        expected=team_id or "none",
        observed=", ".join(grants.team_ids) or "none",
        subject=item.path,
    )
    yield _certificate_among(item, grants)


def _identity_claims(
    facts: BundleFacts, item: CodeFacts, claims: Mapping[str, object]
) -> Iterator[Check]:
    """Restricted claims count only beside the app and team that they are made for."""
    team_id = item.team_id or ""
    wanted = {
        entitlements.APPLICATION_IDENTIFIER: f"{team_id}.{facts.bundle_id}",
        entitlements.TEAM_IDENTIFIER: team_id,
    }
    for key, value in wanted.items():
        claim = claims.get(key)
        yield checks.compare(
            "identity entitlement",
            expected=f"{key} {value}",
            observed=f"{key} {'is absent' if claim is None else entitlements.describe(claim)}",
            subject=item.path,
        )


def _certificate_among(item: CodeFacts, grants: Grants) -> Check:
    name, fingerprint = "certificate in the profile", item.certificate_sha256
    if fingerprint and fingerprint in grants.certificates:
        return checks.passed(name, item.certificate_name, subject=item.path)
    count = len(grants.certificates)
    return checks.failed(
        name,
        subject=item.path,
        expected=f"{item.certificate_name or 'a certificate'} {fingerprint}".strip(),
        observed=f"not among its {count} certificates",
        hint="make the profile anew with this certificate selected",
    )
