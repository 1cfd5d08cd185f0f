"""`release-tool doctor`: what this host, its settings and its certificates lack for a release."""

from __future__ import annotations

import json
import platform
import sys
import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from release_tool.apple.checks import Check
from release_tool.apple.policy import rules
from release_tool.apple.policy.expiry import Row
from release_tool.cli import check_lines, completing, diagnosis, github_commands, signed_subject
from release_tool.cli.diagnosis import Diagnosis, Finding
from release_tool.cli.session import Session, pass_session
from release_tool.config import FLAVOUR_VARIABLE
from release_tool.report.summary import time_left
from release_tool.schema_number import SCHEMA

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_WIDTH = 100
_SECTION_WIDTH, _NAME_WIDTH = 14, 28


@click.command("doctor")
@click.option(
    "--env",
    "environment",
    shell_complete=completing.environments,
    metavar="NAME",
    help="Whose settings and signer to look at.",
)
@click.option(
    "--flavour",
    shell_complete=completing.flavours,
    metavar="NAME",
    help="Whose executables; else the default one's.",
)
@click.option("--config", "config_file", type=_FILE, help="Another release.yaml.")
@click.option("--profile", type=_FILE, help="Profile instead of PROVISIONING_PROFILE_BASE64.")
@click.option("--identity", type=_FILE, help="PKCS#12 or PEM instead of APPLE_CERTIFICATE_P12.")
@click.option(
    "--entitlements",
    multiple=True,
    type=_FILE,
    help="An entitlements file to look at instead of the release's; may be given several times.",
)
@click.option(
    "--fail-within",
    metavar="DAYS",
    type=click.IntRange(0, 100_000),
    default=0,
    help="Fail when anything ends within so many days: for scheduled jobs.",
)
@click.option(
    "--online", is_flag=True, help="Ask each service of the environment, too; changes nothing."
)
@click.option("--trust", multiple=True, type=_FILE, help="Trust this root instead of Apple's.")
@click.option("--rules", "as_rules", is_flag=True, help="Print every rule of every gate.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_session
def command(
    session: Session,
    environment: str | None,
    flavour: str | None,
    config_file: Path | None,
    profile: Path | None,
    identity: Path | None,
    entitlements: tuple[Path, ...],
    fail_within: int,
    trust: tuple[Path, ...],
    *,
    online: bool,
    as_rules: bool,
    as_json: bool,
) -> int:
    """Look at host, tools, settings, entitlements, certificate, profile and what ends when.

    Reads only. With --online it asks each service as a run would, with requests that can never
    succeed where a key must be judged, and compares clocks. Exits by the remedy that comes first:
    3 for the host, 4 for settings and certificates, 6 for what must not be used; of services 5
    for a passing fault, 7 for a refusal.

    \b
    Before a release:  release-tool doctor --env prod --online
    Without a network: release-tool doctor --env prod
    A scheduled job:   release-tool doctor --env prod --fail-within 60
    The rules:         release-tool doctor --rules
    """
    if as_rules:
        print(_rules_json() if as_json else "\n".join(_rules_text()), file=session.out)
        return 0
    found = diagnosis.examine(
        diagnosis.Question(
            environ=session.environ,
            working_folder=Path.cwd(),
            now=datetime.now(UTC),
            environment=environment,
            flavour=flavour or session.environ.get(FLAVOUR_VARIABLE, "").strip() or None,
            config_file=config_file,
            profile=profile.read_bytes() if profile else None,
            identity=identity.read_bytes() if identity else None,
            entitlements=entitlements,
            fail_within=fail_within,
            online=online,
            trust=signed_subject.trusting(trust),
        )
    )
    print(_json(found) if as_json else "\n".join(_text(found)), file=session.out)
    if found.failed and session.in_github_actions:
        told = [
            "\n".join(filter(None, (f"doctor: {_told(one.check)}", one.check.hint)))
            for one in found.failed
        ]
        print("\n".join(github_commands.errors_of(told)), file=session.err)
    return found.exit_code


def _json(found: Diagnosis) -> str:
    document = {
        "schema": SCHEMA,
        "ok": not found.failed,
        "exit_code": found.exit_code,
        "environment": found.environment,
        "checks": [{"section": one.section, **one.check.as_json()} for one in found.findings],
        "expiries": [row.as_json() for row in found.expiries],
        "warnings": list(found.warnings),
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _count(found: Diagnosis) -> str:
    count = len(found.failed)
    return "nothing failed" if not count else f"{count} finding{'s' if count > 1 else ''}"


def _text(found: Diagnosis) -> Iterator[str]:
    system = "macos" if sys.platform == "darwin" else sys.platform
    about = f"{found.environment or 'no environment'} · {system}-{platform.machine()}"
    yield check_lines.headline(f"doctor: {_count(found)}", about)
    yield from _failed(found.failed)
    yield from _summary(found.findings)
    for row in found.expiries:
        yield _ends(row)
    for warning in found.warnings:
        yield from _wrapped("warning", warning)
    if found.exit_code:
        yield f"exit {found.exit_code}"


def _failed(findings: Sequence[Finding]) -> Iterator[str]:
    """What failed, findings with one remedy together."""
    for section, hint in dict.fromkeys((one.section, one.check.hint) for one in findings):
        own = [one.check for one in findings if (one.section, one.check.hint) == (section, hint)]
        for check in own:
            yield from _wrapped(section, _told(check))
        if hint:
            yield from _wrapped("", hint)


def _told(check: Check) -> str:
    subject = f" {check.subject}" if check.subject else ""
    expected = f"expected {check.expected}; found " if check.expected else ""
    return f"{check.name}{subject}: {expected}{check.observed or 'nothing'}"


def _summary(findings: Sequence[Finding]) -> Iterator[str]:
    """What held, in few words for each section; what was not asked, by name."""
    for section in dict.fromkeys(one.section for one in findings):
        own = [one.check for one in findings if one.section == section]
        held = [check for check in own if check.outcome == "passed"]
        told = ", ".join(check.observed for check in held)
        if section != "host":
            told = f"{len(held)} of {len(own)} checks hold"
        if held and section != "expiry":
            yield from _wrapped(section, told)
        open_ends: dict[str, list[str]] = {}
        for check in own:
            if check.outcome == "not_checked":
                open_ends.setdefault(check.hint, []).append(_short(check.name))
        for hint, names in open_ends.items():
            yield from _wrapped("not checked", f"{section}: {', '.join(names)} ({hint})")


def _short(name: str) -> str:
    """`setting R2_BUCKET` stands under its section's name already."""
    first, _, rest = name.partition(" ")
    return rest if first in ("tool", "setting", "profile") and rest else name


def _ends(row: Row) -> str:
    left = time_left(row.days_left)
    return f"  {'ends':<{_SECTION_WIDTH}}{row.ends:%Y-%m-%d}  {left:<16}  {row.what} {row.name}"


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=f"  {label:<{_SECTION_WIDTH}}",
        subsequent_indent=" " * (_SECTION_WIDTH + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _rules_json() -> str:
    return json.dumps([rule.as_json() for rule in rules.RULES], ensure_ascii=False, indent=2)


def _rules_text() -> Iterator[str]:
    for gate in dict.fromkeys(rule.gate for rule in rules.RULES):
        yield gate
        for rule in rules.RULES:
            if rule.gate == gate:
                yield f"  {rule.id:<{_NAME_WIDTH}}{rule.says}"
                yield f"  {'':<{_NAME_WIDTH}}source: {rule.source}"
                yield f"  {'':<{_NAME_WIDTH}}proved by: {rule.proof}"
