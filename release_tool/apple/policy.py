"""What macOS and we ourselves demand of our app, beyond signatures that hold.

`launch` says what AMFI would do at exec: it kills code whose restricted entitlements no embedded
profile grants. `compare` holds what was read against what was meant, role by role. Rule and
source: Apple's TN3125; the incidents of past releases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from release_tool.apple import checks, code_directory, entitlements
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts, CodeFacts, flag_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What the embedded provisioning profile allows."""

    team_ids: tuple[str, ...]
    entitlements: Mapping[str, object]
    certificates: tuple[str, ...]
    """SHA-256 of each signing certificate that it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeantCode:
    """What one code object was to be signed as."""

    identifier: str
    entitlements: Mapping[str, object] | None = field(default=None)
    """None for no entitlements at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """What a whole app was to be signed as."""

    team_id: str | None
    """None for an ad-hoc signature."""
    code: Mapping[str, MeantCode]
    """By the executable's path relative to the app: `Contents/MacOS/darkbloom`."""
    certificate_sha256: str = ""
    """Of the signing certificate; empty where any of the team's will do."""
    arch: str = "arm64"

    @property
    def flags(self) -> int:
        """Hardened runtime, and no other flag but ad-hoc where nobody signs."""
        adhoc = code_directory.ADHOC if self.team_id is None else 0
        return code_directory.RUNTIME | adhoc


def launch(facts: BundleFacts, grants: Grants | None) -> list[Check]:
    """Say what AMFI would say when the app's code is started.

    Args:
        facts: the app as it was read.
        grants: of the embedded profile; None without one.
    """
    found: list[Check] = []
    for path, report in facts.code.items():
        for item in report.slices:
            found += _debugging(item)
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


def _debugging(item: CodeFacts) -> Iterator[Check]:
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


def compare(facts: BundleFacts, meant: Meant) -> list[Check]:
    """Hold what was read against what was meant: every code object, and no other.

    Args:
        facts: the app as it was read back from disk.
        meant: what signing was asked for.
    """
    found = [
        checks.compare(
            "code objects",
            expected=", ".join(sorted(meant.code)),
            observed=", ".join(sorted(facts.code)),
            subject=facts.path,
        )
    ]
    main = meant.code.get(facts.main_executable)
    if main is not None:
        found.append(
            checks.compare(
                "bundle identifier",
                expected=main.identifier,
                observed=facts.bundle_id,
                subject=facts.path,
            )
        )
    for path, wanted in meant.code.items():
        report = facts.code.get(path)
        for item in report.slices if report else ():
            found += _compare_code(item, wanted, meant)
    return found


def _compare_code(item: CodeFacts, wanted: MeantCode, meant: Meant) -> Iterator[Check]:
    subject = item.path
    yield checks.compare("architecture", expected=meant.arch, observed=item.arch, subject=subject)
    yield checks.compare(
        "identifier", expected=wanted.identifier, observed=item.identifier, subject=subject
    )
    yield checks.compare(
        "team",
        expected=meant.team_id or "none",
        observed=item.team_id or "none",
        subject=subject,
    )
    yield checks.compare(
        "flags",
        expected=", ".join(flag_names(meant.flags)),
        observed=", ".join(item.flag_names),
        subject=subject,
    )
    yield _compare_entitlements(item, wanted)
    yield from _debugging(item)
    if meant.team_id is not None:
        yield from _compare_signer(item, meant)


def _compare_entitlements(item: CodeFacts, wanted: MeantCode) -> Check:
    name = "entitlements as meant"
    if item.entitlements == wanted.entitlements:
        count = len(wanted.entitlements or {})
        return checks.passed(name, f"{count} keys", subject=item.path)
    return checks.failed(
        name,
        subject=item.path,
        expected=_claims_text(wanted.entitlements),
        observed=_claims_text(item.entitlements),
    )


def _claims_text(claims: Mapping[str, object] | None) -> str:
    return "none" if claims is None else entitlements.describe(claims)


def _compare_signer(item: CodeFacts, meant: Meant) -> Iterator[Check]:
    if meant.certificate_sha256:
        yield checks.compare(
            "signing certificate",
            expected=meant.certificate_sha256,
            observed=item.certificate_sha256 or "none",
            subject=item.path,
        )
    if item.signed_at is None:
        yield checks.failed(
            "timestamped",
            subject=item.path,
            expected="a timestamp",
            observed="none",
            hint="the notary refuses code without a secure timestamp",
        )
    else:
        moment = f"{item.signed_at:%Y-%m-%d %H:%M:%S} UTC"
        yield checks.passed("timestamped", moment, subject=item.path)
