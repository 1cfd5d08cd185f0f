"""`release-tool verify`: whether signed code, an app, a profile or a release archive holds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from release_tool import errors
from release_tool.cli import check_lines, signed_document, signed_subject
from release_tool.cli.session import Session, pass_session
from release_tool.cli.signed_subject import Judged, Question


@click.command("verify")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--team-id", help="The team that must have signed, such as SLDQ2GJ6TL.")
@click.option(
    "--trust",
    multiple=True,
    metavar="CA",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust this root instead of Apple's; may be given several times.",
)
@click.option(
    "--ours/--foreign",
    "ours",
    default=None,
    help="Whether bytes that no hash covers must be exactly what this tool writes, or are listed"
    " as unprotected. By default a release (one app beside bin/) is judged as ours, anything else"
    " as foreign.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_session
def command(
    session: Session,
    path: Path,
    team_id: str | None,
    trust: tuple[Path, ...],
    *,
    ours: bool | None,
    as_json: bool,
) -> int:
    """Verify a Mach-O, a bundle, a ticket, a profile, an archive or an unpacked release.

    From the bytes alone, on any host: every page and file by its hash, the seal both ways, all
    code inside, the signature with its chain and timestamp, the stapled ticket, the flat copies
    against the app. Whether Apple has revoked anything is not checked.
    Exits 6 when anything fails; what was not asked and what nothing protects is named.

    \b
    An app:      release-tool verify Darkbloom.app --team-id SLDQ2GJ6TL
    A rehearsal: release-tool verify bundle.tar.gz --trust dist/rehearsal/environment/trust.pem
    """
    if team_id is not None and not team_id.strip():
        raise errors.UsageError("--team-id is empty")
    question = Question(trust=signed_subject.trusting(trust), team_id=team_id or "", ours=ours)
    judged = signed_subject.judge(path, question)
    print(_json(judged) if as_json else _text(judged), file=session.out)
    if judged.holds:
        return 0
    if session.in_github_actions:
        annotation = check_lines.annotation(f"{path}: do not ship", judged.checks)
        print(annotation, file=session.err)
    return errors.VerificationError.exit_code


def _json(judged: Judged) -> str:
    document = {
        "ok": judged.holds,
        "ours": judged.ours,
        **signed_document.document(judged),
        "checks": [check.as_json() for check in judged.checks],
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _text(judged: Judged) -> str:
    verdict = "holds" if judged.holds else "do not ship"
    lines = [check_lines.headline(f"{judged.name}: {verdict}", _about(judged))]
    lines += check_lines.lines(judged.checks)
    if not judged.holds:
        lines.append(f"exit {errors.VerificationError.exit_code}")
    return "\n".join(lines)


def _about(judged: Judged) -> str:
    kind = signed_subject.KIND_NAMES[judged.kind]
    if judged.profile is not None:
        return f'{kind} "{judged.profile.name}"'
    if judged.ticket is not None:
        return f"{kind} of {judged.ticket.issued:%Y-%m-%d %H:%M:%S} UTC"
    main = judged.app.main if judged.app else next(iter(judged.code), None)
    if main is None:
        return kind
    version = f" {judged.app.version}" if judged.app else ""
    by = f"team {main.team_id}" if main.team_id else main.signer_kind or "signer unknown"
    return f"{kind}, {main.identifier}{version}, {by}"
