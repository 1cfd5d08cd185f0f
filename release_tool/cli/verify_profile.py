"""`release-tool verify-profile`: what a provisioning profile allows, and whether Apple said so.

It loads neither pydantic nor rich nor any service, so that it answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from release_tool import errors
from release_tool.apple import armor, certificates, checks, profile_policy, provisioning_profile
from release_tool.cli.session import Session

if TYPE_CHECKING:
    from release_tool.apple.provisioning_profile import Profile

_NAME_WIDTH = 13
_OUTCOME_WIDTH = 8
_LINE_WIDTH = 100
_UUID_CUT = 8
_EXIT_REFUSED = errors.VerificationError.exit_code

# Checks whose observation tells the whole story, so that the line leaves the expectation out.
_SELF_TELLING = frozenset(("signature", "inner profile", "certificate", "debugging"))
_PLAIN_VALUES = frozenset(("kind", "platform", "team"))


@click.command("verify-profile")
@click.argument("profile", required=False)
@click.option("--base64-env", metavar="NAME", help="Read the profile from this variable instead.")
@click.option("--team-id", help="The team that signs, such as SLDQ2GJ6TL.")
@click.option("--bundle-id", help="The app that it is for, such as io.darkbloom.provider.")
@click.option("--access-group", multiple=True, help="A keychain access group that it must grant.")
@click.option("--certificate", metavar="FILE", help="The certificate that signs, DER or PEM.")
@click.option(
    "--min-days",
    default=30,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="Days that it must still be valid.",
)
@click.option("--trust", multiple=True, metavar="CA", help="Trust this root instead of Apple's.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    ctx: click.Context,
    profile: str | None,
    base64_env: str | None,
    team_id: str | None,
    bundle_id: str | None,
    access_group: tuple[str, ...],
    certificate: str | None,
    min_days: int,
    trust: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 - click's flag
) -> None:
    """Verify a provisioning profile: a file, or - for standard input.

    Checks who signed it, its kind and its expiry; the team, the app, access groups and the signing
    certificate as asked. Takes DER, PEM or base64 text. Exits 6 when it must not be used.

    \b
    release-tool verify-profile my.provisionprofile --team-id SLDQ2GJ6TL
    release-tool verify-profile --base64-env PROVISIONING_PROFILE_BASE64 --json
    """
    _refuse_empty(("--team-id", team_id), ("--bundle-id", bundle_id), *_each(access_group))
    session = ctx.obj if isinstance(ctx.obj, Session) else Session({})
    wanted = profile_policy.Wanted(
        team_id=team_id or "",
        bundle_id=bundle_id or "",
        access_groups=access_group,
        certificate=None if certificate is None else _certificate(certificate),
        minimum_days=min_days,
    )
    name, data = _profile_bytes(session, profile, base64_env)
    now = datetime.now(UTC)
    found = _read(name, data, _trust(trust))
    outcomes = profile_policy.judge(found, wanted, now=now)
    text = _document(found, outcomes, now) if as_json else _text(name, found, outcomes)
    print(text, file=session.out)
    ctx.exit(0 if checks.all_hold(outcomes) else _EXIT_REFUSED)


def _each(groups: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    return (("--access-group", group) for group in groups)


def _refuse_empty(*options: tuple[str, str | None]) -> None:
    """An unset variable of a CI job would otherwise switch its check off in silence."""
    for option, value in options:
        if value is not None and not value.strip():
            raise errors.UsageError(f"{option} is empty")


# Input


def _profile_bytes(session: Session, path: str | None, variable: str | None) -> tuple[str, bytes]:
    if (path is None) == (variable is None):
        raise errors.UsageError("name one profile: a file, - or --base64-env NAME")
    if variable is not None:
        value = session.environ.get(variable, "")
        if not value.strip():
            raise errors.UsageError(f"the variable {variable} is unset or empty")
        return f"${variable}", value.encode("utf-8", "surrogateescape")
    if path == "-":
        return "standard input", sys.stdin.buffer.read(armor.MAX_BYTES + 1)
    return str(path), _file(str(path))


def _file(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - pathlib would cost start-up time
            return stream.read(armor.MAX_BYTES + 1)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise errors.UsageError(f"cannot be read: {reason}", subject=path) from problem


def _read(name: str, data: bytes, trust: certificates.Trust) -> Profile:
    try:
        return provisioning_profile.read(data, trust=trust)
    except errors.FormatError as problem:
        problem.subject = problem.subject or name
        raise


def _certificates(path: str) -> list[certificates.Certificate]:
    try:
        blocks = armor.unwrap_all(_file(path), "a certificate", label="CERTIFICATE")
        return [certificates.load(block) for block in blocks]
    except errors.FormatError as problem:
        problem.subject = problem.subject or path
        raise


def _certificate(path: str) -> certificates.Certificate:
    """The one certificate of a file that is no authority's: files often carry their chain."""
    leafs = [item for item in _certificates(path) if not certificates.authority_limits(item)[0]]
    if len(leafs) != 1:
        raise errors.FormatError(
            "does not hold one signing certificate", subject=path, observed=f"{len(leafs)} of them"
        )
    return leafs[0]


def _trust(paths: tuple[str, ...]) -> certificates.Trust:
    if not paths:
        return certificates.apple_trust()
    roots = [root for path in paths for root in _certificates(path)]
    return certificates.Trust(name="the given roots", roots=tuple(dict.fromkeys(roots)))


# Output


def _text(name: str, found: Profile, outcomes: Sequence[checks.Check]) -> str:
    holds = checks.all_hold(outcomes)
    lines = [_headline(name, found, "holds" if holds else "do not ship")]
    for check in outcomes:
        if check.outcome == "not_checked":
            continue
        lines.append(
            f"  {check.outcome:<{_OUTCOME_WIDTH}} {check.name:<{_NAME_WIDTH}} {_said(check)}"
        )
        if check.outcome == "failed" and check.hint:
            lines.append(f"{'':<{_OUTCOME_WIDTH + _NAME_WIDTH + 4}}{check.hint}")
    lines.extend(
        f"  {'not checked':<{_OUTCOME_WIDTH + _NAME_WIDTH + 1}} {check.name} ({check.hint})"
        for check in outcomes
        if check.outcome == "not_checked"
    )
    return "\n".join([*lines, *([] if holds else [f"exit {_EXIT_REFUSED}"])])


def _headline(name: str, found: Profile, verdict: str) -> str:
    left = f"{certificates.printable(name)}: {verdict}"
    uuid = found.uuid if len(found.uuid) <= _UUID_CUT else f"{found.uuid[:4]}…{found.uuid[-2:]}"
    kind = provisioning_profile.KIND_NAMES[found.kind]
    right = certificates.printable(f'"{found.name}" {uuid}, {kind}')
    return left + " " * max(_LINE_WIDTH - len(left) - len(right), 2) + right


def _said(check: checks.Check) -> str:
    if check.outcome != "failed" or check.name in _SELF_TELLING:
        return check.observed
    if check.name == "expiry":
        return f"{check.observed}, {check.expected} wanted"
    subject = f"{check.subject}: " if check.subject else ""
    found = "found " if check.name in _PLAIN_VALUES else ""
    return f"{subject}expected {check.expected}, {found}{check.observed}"


def _document(found: Profile, outcomes: Sequence[checks.Check], now: datetime) -> str:
    import json

    return json.dumps(
        {
            "ok": checks.all_hold(outcomes),
            "authentic": found.authentic,
            "profile": _profile_document(found, now),
            "checks": [check.as_json() for check in outcomes],
        },
        ensure_ascii=False,
        indent=2,
    )


def _profile_document(found: Profile, now: datetime) -> dict[str, object]:
    return {
        "sha256": found.sha256,
        "name": found.name,
        "uuid": found.uuid,
        "team_id": found.team_id,
        "kind": found.kind,
        "platforms": list(found.platforms),
        "created": _moment(found.created),
        "expires": _moment(found.expires),
        "days_left": profile_policy.days_left(found, now),
        "app_ids": list(found.app_ids),
        "access_groups": list(found.access_groups),
        "certificates": [_certificate_document(item) for item in found.certificates],
    }


def _certificate_document(certificate: certificates.Certificate) -> dict[str, object]:
    return {
        "sha256": certificates.fingerprint(certificate),
        "name": certificates.common_name(certificate),
        "team_id": certificates.organizational_unit(certificate),
        "serial": certificates.serial_hex(certificate),
        "valid_from": _moment(certificate.not_before),
        "expires": _moment(certificate.not_after),
    }


def _moment(value: datetime | None) -> str | None:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if value else None
