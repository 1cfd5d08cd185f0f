"""Hold what was signed against what was meant, role by role."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from release_tool.apple import checks, code_directory, entitlements
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts, CodeFacts, flag_names
from release_tool.apple.policy import amfi


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
    if item.arch:  # signed data has none
        yield checks.compare(
            "architecture", expected=meant.arch, observed=item.arch, subject=subject
        )
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
    yield from amfi.debugging(item)
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
