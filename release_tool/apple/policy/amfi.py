"""What AMFI would do when code of ours starts: it kills what no embedded profile allows.

Rule and source: Apple's TN3125; the incidents of past releases. `rules` names each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from release_tool.apple import checks, entitlements, signer_kinds
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts, CodeFacts

_BUNDLE_SUFFIXES = (
    *(".app", ".appex", ".bundle", ".framework", ".kext", ".plugin", ".systemextension", ".xpc"),
)
_SIGNED_BY_APPLE = frozenset({signer_kinds.PLATFORM.name, signer_kinds.MAC_APP_STORE.name})
_TOKEN_GROUP = "com.apple.token"  # noqa: S105 - where keys of smart cards show up, for every team


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What an embedded provisioning profile allows."""

    team_ids: tuple[str, ...]
    entitlements: Mapping[str, object]
    certificates: tuple[str, ...]
    """SHA-256 of each signing certificate that it names."""
    prefixes: tuple[str, ...] = ()
    """Of application identifiers: old teams have others than their own identifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NestedBundle:
    """A bundle inside the app, which answers for its own entitlements."""

    bundle_id: str
    main_executable: str
    """Path relative to the app."""
    grants: Grants | None
    """Of its own embedded profile; None without one."""


def launch(
    facts: BundleFacts, grants: Grants | None, nested: Mapping[str, NestedBundle] | None = None
) -> list[Check]:
    """Say what AMFI would say when the app's code is started.

    Args:
        facts: the app as it was read.
        grants: of the embedded profile; None without one.
        nested: the bundles inside by their path, as `nested_bundles` finds them; None where
            nobody looked, when their restricted entitlements are left open.
    """
    found: list[Check] = []
    for path, report in facts.code.items():
        owner = bundle_of(path)
        for item in report.slices:
            found += debugging(item)
            if item.signer_kind in _SIGNED_BY_APPLE:
                found += _by_apple(item)
                continue
            found += _keychain_groups(item, grants)
            if path == facts.main_executable:
                found += _main_launch(item, facts.bundle_id, grants)
            elif not owner:
                found += _helper_launch(item)
            elif nested is None or owner not in nested:
                found += _nested_launch(item)
            elif path == nested[owner].main_executable:
                found += _main_launch(item, nested[owner].bundle_id, nested[owner].grants)
            else:
                found += _helper_launch(item)
    return found


def _by_apple(item: CodeFacts) -> Iterator[Check]:
    """Apple vouches for its own code and for what its store signed anew."""
    hint = f"{item.signer_kind}: Apple signed it, so that no profile has to grant them"
    yield checks.not_checked("restricted entitlements", hint, subject=item.path)


def bundle_of(path: str) -> str:
    """Path of the innermost bundle inside the app that a file belongs to; empty for the app.

    Args:
        path: relative to the app: `Contents/Helpers/Host.app/Contents/MacOS/host`.
    """
    parts = path.split("/")
    last = [at for at, part in enumerate(parts[:-1]) if at and part.endswith(_BUNDLE_SUFFIXES)]
    return "/".join(parts[: last[-1] + 1]) if last else ""


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


def _keychain_groups(item: CodeFacts, grants: Grants | None) -> Iterator[Check]:
    """A keychain access group belongs to the team that signs, whatever a profile says."""
    claimed = (item.entitlements or {}).get(entitlements.KEYCHAIN_ACCESS_GROUPS)
    if not claimed:
        return
    own = (item.team_id or "", *(grants.prefixes if grants else ()))
    groups = claimed if isinstance(claimed, list | tuple) else (claimed,)
    foreign = [
        str(group) for group in groups if group != _TOKEN_GROUP and not _begins_with(group, own)
    ]
    if not foreign:
        yield checks.passed(
            "keychain access group", f"{len(groups)} of {own[0]}", subject=item.path
        )
        return
    yield checks.failed(
        "keychain access group",
        subject=item.path,
        expected=f"groups of {own[0] or 'no team'}",
        observed=", ".join(foreign),
        hint=f"a group begins with the team that signs: {own[0]}.…",
    )


def _begins_with(group: object, prefixes: tuple[str, ...]) -> bool:
    starts = tuple(f"{prefix}." for prefix in prefixes if prefix)
    return bool(starts) and isinstance(group, str) and group.startswith(starts)


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


def _main_launch(item: CodeFacts, bundle_id: str, grants: Grants | None) -> Iterator[Check]:
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
    granted = f"one that grants {len(grants.entitlements)} entitlements"
    yield checks.passed("embedded profile", granted, subject=item.path)
    yield from entitlements.coverage(claims, grants.entitlements, team_id, prefixes=grants.prefixes)
    yield from _identity_claims(item, bundle_id, claims, grants.prefixes)
    yield checks.compare(
        "team of the profile",
        expected=team_id or "none",
        observed=", ".join(grants.team_ids) or "none",
        subject=item.path,
    )
    yield _certificate_among(item, grants)


def _identity_claims(
    item: CodeFacts, bundle_id: str, claims: Mapping[str, object], prefixes: tuple[str, ...]
) -> Iterator[Check]:
    """Restricted claims count only beside the app and team that they are made for."""
    team_id = item.team_id or ""
    claimed = claims.get(entitlements.APPLICATION_IDENTIFIER)
    by_prefix = [f"{prefix}.{bundle_id}" for prefix in (team_id, *prefixes)]
    wanted = {
        entitlements.APPLICATION_IDENTIFIER: next(
            (one for one in by_prefix if one == claimed), by_prefix[0]
        ),
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
