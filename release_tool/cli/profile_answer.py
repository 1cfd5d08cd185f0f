"""What `verify-profile` does and prints, without the library that reads command lines.

That library takes longer to load than a profile to verify; `entry` answers plain calls from here
and leaves every other call, and every error, to the whole program.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from release_tool import errors
from release_tool.apple import armor, certificates, checks, profile_policy, provisioning_profile
from release_tool.apple.provisioning_profile import Profile
from release_tool.cli import github_commands
from release_tool.schema_number import SCHEMA

DEFAULT_MINIMUM_DAYS = 30

_NAME_WIDTH = 13
_OUTCOME_WIDTH = 8
_LINE_WIDTH = 100
_UUID_CUT = 8
_WANTED_FILE = "give the .provisionprofile as the portal made it, as PEM or as base64 text"
_EXIT_REFUSED = errors.VerificationError.exit_code

# Checks whose observation tells the whole story, so that the line leaves the expectation out.
_SELF_TELLING = frozenset(("signature", "inner profile", "certificate", "debugging"))
_PLAIN_VALUES = frozenset(("kind", "platform", "team"))


class Request(NamedTuple):
    """One call: where the profile is, and what is asked of it."""

    profile: str | None = None
    """A path, or `-` for standard input."""
    base64_env: str | None = None
    team_id: str | None = None
    bundle_id: str | None = None
    access_group: tuple[str, ...] = ()
    certificate: str | None = None
    min_days: int = DEFAULT_MINIMUM_DAYS
    trust: tuple[str, ...] = ()
    as_json: bool = False


_SINGLE = frozenset(("--base64-env", "--team-id", "--bundle-id", "--certificate"))
_REPEATED = frozenset(("--access-group", "--trust"))


def plain(arguments: Sequence[str]) -> Request | None:
    """Read a command line of the plainest form: one file, options with their values behind them.

    Returns:
        None for every other form, right or wrong.
    """
    single: dict[str, str] = {}
    repeated: dict[str, tuple[str, ...]] = {}
    words, as_json = iter(arguments), False
    for word in words:
        value = next(words, "") if word in _SINGLE | _REPEATED else ""
        if word == "--json":
            as_json = True
        elif word in _REPEATED and value:
            repeated[_field(word)] = (*repeated.get(_field(word), ()), value)
        elif word in _SINGLE and value and _field(word) not in single:
            single[_field(word)] = value
        elif word and not word.startswith("-") and "profile" not in single:
            single["profile"] = word
        else:
            return None
    return Request(**single, **repeated, as_json=as_json)  # type: ignore[arg-type]


def _field(option: str) -> str:
    return option[2:].replace("-", "_")


def answer(request: Request, environ: Mapping[str, str]) -> tuple[str, int]:
    """Verify the profile.

    Returns:
        What to print, and the exit code.

    Raises:
        UsageError: the request makes no sense, or a file cannot be read.
        CredentialError: the variable that should hold the profile is unset.
        FormatError: what it names is no profile, or no certificate.
    """
    _refuse_empty(request)
    wanted = profile_policy.Wanted(
        team_id=request.team_id or "",
        bundle_id=request.bundle_id or "",
        access_groups=request.access_group,
        certificate=None if request.certificate is None else _certificate(request.certificate),
        minimum_days=request.min_days,
    )
    name, data = _profile_bytes(request, environ)
    now = datetime.now(UTC)
    found = _read(name, data, _trust(request.trust))
    outcomes = profile_policy.judge(found, wanted, now=now)
    code = 0 if checks.all_hold(outcomes) else _EXIT_REFUSED
    if request.as_json:
        return _document(found, outcomes, now), code
    lines = list(_lines(name, found, outcomes))
    if code and environ.get("GITHUB_ACTIONS") == "true":
        lines.append(_annotation(name, outcomes))
    return "\n".join(lines), code


def _refuse_empty(request: Request) -> None:
    """An unset variable of a CI job would otherwise switch its check off in silence."""
    given = (("--team-id", request.team_id), ("--bundle-id", request.bundle_id))
    groups = (("--access-group", group) for group in request.access_group)
    for option, value in (*given, *groups):
        if value is not None and not value.strip():
            raise errors.UsageError(f"{option} is empty")


# Input


def _profile_bytes(request: Request, environ: Mapping[str, str]) -> tuple[str, bytes]:
    path, variable = request.profile, request.base64_env
    if (path is None) == (variable is None):
        raise errors.UsageError("name one profile: a file, - or --base64-env NAME")
    if variable is not None:
        value = environ.get(variable, "")
        if not value.strip():
            raise errors.CredentialError(
                f"the variable {variable} is unset or empty",
                hint=f"set {variable} to the profile as base64 text",
            )
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
        problem.hint = problem.hint or _WANTED_FILE
        raise


def _certificates(path: str) -> list[certificates.Certificate]:
    try:
        blocks = armor.unwrap_all(_file(path), "a certificate", label="CERTIFICATE")
        return [certificates.load(block) for block in blocks]
    except errors.FormatError as problem:
        problem.subject = problem.subject or path
        problem.hint = problem.hint or "give a certificate as DER or PEM"
        raise


def _certificate(path: str) -> certificates.Certificate:
    """The one certificate of a file that is no authority's: files often carry their chain."""
    leafs = [item for item in _certificates(path) if not certificates.authority_limits(item)[0]]
    if len(leafs) != 1:
        raise errors.FormatError(
            "does not hold one signing certificate",
            subject=path,
            observed=f"{len(leafs)} of them",
            hint="give the certificate that signs, alone or with its chain",
        )
    return leafs[0]


def _trust(paths: tuple[str, ...]) -> certificates.Trust:
    if not paths:
        return certificates.apple_trust()
    roots = [root for path in paths for root in _certificates(path)]
    return certificates.Trust(name="the given roots", roots=tuple(dict.fromkeys(roots)))


# Output


def _lines(name: str, found: Profile, outcomes: Sequence[checks.Check]) -> Iterator[str]:
    holds = checks.all_hold(outcomes)
    yield _headline(name, found, "holds" if holds else "do not ship")
    for check in outcomes:
        if check.outcome == "not_checked":
            continue
        yield f"  {check.outcome:<{_OUTCOME_WIDTH}} {check.name:<{_NAME_WIDTH}} {_said(check)}"
        if check.outcome == "failed" and check.hint:
            yield " " * (_OUTCOME_WIDTH + _NAME_WIDTH + 4) + check.hint
    for check in outcomes:
        if check.outcome == "not_checked":
            label = f"{'not checked':<{_OUTCOME_WIDTH + _NAME_WIDTH + 1}}"
            yield f"  {label} {check.name} ({check.hint})"
    if not holds:
        yield f"exit {_EXIT_REFUSED}"


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
    if not check.expected:
        return f"{subject}{check.observed or 'nothing'}"
    found = "found " if check.name in _PLAIN_VALUES else ""
    return f"{subject}expected {check.expected}, {found}{check.observed}"


def _annotation(name: str, outcomes: Sequence[checks.Check]) -> str:
    """One annotation of GitHub's with every reason."""
    failed = (f"{check.name}: {_said(check)}" for check in outcomes if check.outcome == "failed")
    return github_commands.error(
        "\n".join((f"{certificates.printable(name)}: do not ship", *failed))
    )


def _document(found: Profile, outcomes: Sequence[checks.Check], now: datetime) -> str:
    import json

    return json.dumps(
        {
            "schema": SCHEMA,
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
