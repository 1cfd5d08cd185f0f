"""`release-tool expiries`: what ends when, and one issue that says so as long as it has to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from release_tool import credentials, errors
from release_tool.apple import checks
from release_tool.cli import diagnosis, preflight, signed_subject
from release_tool.cli.diagnosis import Finding
from release_tool.cli.session import Session, pass_session
from release_tool.report import expiry_issue
from release_tool.report.expiry_issue import Watched
from release_tool.report.summary import time_left
from release_tool.schema_number import SCHEMA
from release_tool.services.github_issues import Issue, Issues

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
# Of everything that `doctor` looks at, what the next signature hangs on.
_SECTIONS = frozenset({"certificate", "profile", "expiry"})
_SETTINGS = (
    "APPLE_CERTIFICATE_P12",
    "APPLE_CERTIFICATE_PASSWORD",
    "PROVISIONING_PROFILE_BASE64",
    *credentials.API_KEY,
)
_CHECKS = frozenset(("App Store Connect key", "notary", *(f"setting {name}" for name in _SETTINGS)))


@click.command("expiries")
@click.option("--env", "environment", required=True, metavar="NAME", help="Whose next release.")
@click.option(
    "--within",
    metavar="DAYS",
    type=click.IntRange(1, 10_000),
    default=60,
    show_default=True,
    help="Tell what ends within so many days.",
)
@click.option("--issue", is_flag=True, help="Open, update or close the issue that says so.")
@click.option("--config", "config_file", type=_FILE, help="Another release.yaml.")
@click.option("--trust", multiple=True, type=_FILE, help="Trust this root instead of Apple's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_session
def command(
    session: Session,
    environment: str,
    within: int,
    config_file: Path | None,
    trust: tuple[Path, ...],
    *,
    issue: bool,
    as_json: bool,
) -> int:
    """Say what the next signature needs and when it ends: profile, certificates, API key.

    Asks the notary whether the key still serves, and nobody else. With --issue, one issue of the
    repository that GITHUB_REPOSITORY names says so as long as it is true; then finding something
    is no failure of the job. What only did not answer changes no issue, and ends in exit 5.

    \b
    By hand:         release-tool expiries --env prod
    A scheduled job: release-tool expiries --env prod --issue
    """
    found = diagnosis.examine(
        diagnosis.Question(
            environ=session.environ,
            working_folder=Path.cwd(),
            now=datetime.now(UTC),
            environment=environment,
            config_file=config_file,
            fail_within=0,
            online=True,
            services=("notary",),
            trust=signed_subject.trusting(trust),
        )
    )
    failed = [one for one in found.failed if _is_watched(one)]
    failed += _unasked(found.findings, failed)
    passing = [one for one in failed if issubclass(one.remedy, errors.TransientError)]
    watched = Watched(
        within=within,
        rows=found.expiries,
        # What ended is a row of its own.
        failed=[one.check for one in failed if one not in passing and one.section != "expiry"],
    )
    kept = ""
    if issue and not passing:
        kept = _settle(_issues(session.environ, environment, config_file), watched)
    _tell(session, watched, passing, kept, as_json=as_json)
    return _code(watched, failed, passing, issue=issue)


def _unasked(findings: Sequence[Finding], failed: Sequence[Finding]) -> list[Finding]:
    """A key that nobody was asked about must not pass for one that serves."""
    asked = [one.check for one in findings if one.check.name == "notary"]
    if failed or any(check.outcome != "not_checked" for check in asked):
        return []
    why = next((check.hint for check in asked if check.hint), "see release-tool doctor --online")
    check = checks.failed("notary", expected="an answer", observed="was not asked", hint=why)
    return [Finding("services", check, errors.CredentialError)]


def _is_watched(finding: Finding) -> bool:
    return finding.section in _SECTIONS or finding.check.name in _CHECKS


def _code(watched: Watched, failed: list[Finding], passing: list[Finding], *, issue: bool) -> int:
    if passing:
        return errors.TransientError.exit_code
    if watched.is_well or issue:
        return 0
    return preflight.gravest([one.remedy for one in failed]) or errors.CredentialError.exit_code


def _issues(environ: Mapping[str, str], environment: str, config_file: Path | None) -> Issues:
    """The issues of the repository that the job runs in."""
    section = diagnosis.environment_of(Path.cwd(), environment, config_file)
    repository = environ.get("GITHUB_REPOSITORY", "") or section.github_repository
    token = environ.get("GITHUB_TOKEN", "").strip()
    if not repository or not token:
        raise errors.CredentialError(
            "the issue cannot be kept",
            expected="GITHUB_REPOSITORY and GITHUB_TOKEN",
            observed="no GITHUB_TOKEN" if repository else "no GITHUB_REPOSITORY",
            hint="a job has both: give the step `secrets.GITHUB_TOKEN`, with"
            " `permissions: issues: write`",
        )
    return Issues(
        api_url=section.github_api_url,
        uploads_url=section.github_uploads_url,
        repository=repository,
        token=lambda: token,
    )


def _settle(issues: Issues, watched: Watched) -> str:
    """Let exactly one issue be open while something has to be done; returns what was done."""
    standing = issues.marked(expiry_issue.MARKER)
    if watched.is_well:
        for one in standing:
            issues.close(one, reason=expiry_issue.CLOSED)
        return _shown("closed", standing)
    title, body = expiry_issue.title(watched), expiry_issue.body(watched)
    if not standing:
        return _shown("opened", (issues.open(title, body),))
    first, *others = standing
    for one in others:
        issues.close(one, reason=f"This is told in #{first.number}.")
    if (first.title, first.body) == (title, body):
        return _shown("stands as it was", (first,))
    return _shown("updated", (issues.change(first, title=title, body=body),))


def _shown(what: str, issues: tuple[Issue, ...]) -> str:
    return f"{what}: {', '.join(one.page for one in issues)}" if issues else "none is open"


def _tell(
    session: Session, watched: Watched, passing: list[Finding], kept: str, *, as_json: bool
) -> None:
    if as_json:
        document = {
            "schema": SCHEMA,
            "ok": watched.is_well and not passing,
            "within": watched.within,
            "expiries": [row.as_json() for row in watched.rows],
            "failed": [check.as_json() for check in watched.failed],
            "unanswered": [one.check.as_json() for one in passing],
            "issue": kept,
        }
        print(json.dumps(document, ensure_ascii=False, indent=2), file=session.out)
        return
    count = len(watched.soon) + len(watched.failed)
    verdict = "nothing has to be renewed" if watched.is_well else f"{count} to be seen to"
    print(f"expiries: {verdict} within {watched.within} days", file=session.out)
    for check in watched.failed:
        print(f"  failed    {check.name}: {check.observed}", file=session.out)
        if check.hint:
            print(f"            {check.hint}", file=session.out)
    for one in passing:
        print(f"  unknown   {one.check.name}: {one.check.observed}", file=session.out)
    for row in watched.rows:
        left = time_left(row.days_left)
        print(f"  {row.ends:%Y-%m-%d}  {left:<16}  {row.what} {row.name}", file=session.out)
        if row in watched.soon:
            print(f"            {row.todo}", file=session.out)
    if kept:
        print(f"  issue     {kept}", file=session.out)
