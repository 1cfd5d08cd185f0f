"""`release-tool verify-release`: a published release against all that was signed about it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from release_tool import errors
from release_tool.cli import check_lines, release_question
from release_tool.cli.release_question import Options
from release_tool.cli.run import DIST, FILE
from release_tool.cli.session import Session, pass_session
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.schema_number import SCHEMA
from release_tool.services.coordinator import Coordinator
from release_tool.stages.release_verification import Verification


@click.command("verify-release")
@click.argument("version")
@click.option("--env", "environment", help="Environment of release.yaml.")
@click.option("--flavour", help="Flavour of release.yaml.")
@click.option("--public-url", default="", metavar="URL", help="In place of R2_PUBLIC_URL.")
@click.option("--key", type=FILE, help="The public key to trust, instead of those that are pinned.")
@click.option("--log-head", type=FILE, help="A log.head.json seen before: from GitHub, or kept.")
@click.option("--no-github", is_flag=True, help="Do not ask GitHub for the log's heads there.")
@click.option("--commit", default="", metavar="SHA", help="The source commit it must be of.")
@click.option("--config", "config_file", type=FILE, help="Another release.yaml.")
@click.option("--dist", type=DIST, default=Path("dist"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_session
def command(session: Session, /, **options: Any) -> int:  # noqa: ANN401 - click's own keywords
    """Verify a published release as anybody can: no account, no secret.

    Downloads the archive by its public address and verifies it from the seal down to Apple's
    roots, with its ticket; its provenance by a key that release.yaml pins; its bill of materials
    against what was unpacked; its line in the log of releases under the signed head, and under
    the heads on GitHub; that it was not withdrawn; and what the coordinator tells. Exits 6 when
    anything fails; what could not be checked is named.

    \b
    release-tool verify-release 0.5.0 --env prod --public-url https://downloads.example.com
    release-tool verify-release 0.5.0 --env prod --log-head log.head.json --json
    release-tool verify-release 0.4.9 --env prod --flavour rust-bridge --log-head log.head.json
    release-tool verify-release 0.5.0 --env rehearsal
    """
    wanted = Options(**options)
    question = release_question.ask(session, wanted)
    plan = question.plan
    github, left_out = release_question.witness(plan, wanted)
    with tempfile.TemporaryDirectory(prefix="release-tool-verify-") as folder:
        verification = Verification(
            question=question,
            coordinator=Coordinator(
                base_url=plan.endpoints.coordinator_url,
                release_key=_nobodys,
                contract=plan.coordinator.contract,
            ),
            github=github,
            left_out=left_out,
            scratch=Path(folder),
            reporter=Silent(),
        )
        verification.run()
    told = (
        _json(plan, verification)
        if wanted.as_json
        else _text(plan, verification, verbose=session.verbose)
    )
    print(told, file=session.out)
    if verification.holds:
        return 0
    if session.in_github_actions:
        told = f"{plan.name} {plan.version}: do not use"
        print(check_lines.annotation(told, verification.checks), file=session.err)
    return errors.VerificationError.exit_code


def _nobodys() -> str:
    raise errors.CredentialError("verifying a release needs no key, and none is sent")


def _json(plan: ReleasePlan, done: Verification) -> str:
    said, head = done.statement, done.head
    document = {
        "schema": SCHEMA,
        "ok": done.holds,
        "version": plan.version,
        "environment": plan.environment.name,
        "archive_sha256": said.sha256 if said else "",
        "source_commit": said.commit if said else "",
        "builder": said.builder if said else "",
        "log_head": {"count": head.count, "size": head.size, "sha256": head.sha256}
        if head
        else None,
        "checks": [check.as_json() for check in done.checks],
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _text(plan: ReleasePlan, done: Verification, *, verbose: bool) -> str:
    verdict = "holds" if done.holds else "do not use"
    about = f"archive {done.statement.sha256[:12]}" if done.statement else ""
    name = f"{plan.name} {plan.version} · {plan.environment.name}"
    lines = [check_lines.headline(f"{name}: {verdict}", about)]
    # The failures are what a terminal shall still show at the end.
    lines += check_lines.lines(done.checks, counted=not verbose)
    if not done.holds:
        lines.append(f"exit {errors.VerificationError.exit_code}")
    return "\n".join(lines)
