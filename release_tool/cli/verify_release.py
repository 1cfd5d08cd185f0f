"""`release-tool verify-release`: a published release against all that was signed about it."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from release_tool import config, errors
from release_tool.apple import armor, certificates
from release_tool.cli import check_lines, embedded
from release_tool.cli.run import DIST, FILE
from release_tool.cli.session import Session, pass_session
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.provenance import keys
from release_tool.provenance.keys import PublicKey
from release_tool.schema_number import SCHEMA
from release_tool.services import json_document
from release_tool.services.coordinator import Coordinator
from release_tool.stages.release_verification import Verification
from release_tool.stages.verification_findings import Question

_HEAD_BYTES = 64 * 1024
_COMMIT = re.compile(r"[0-9a-f]{12,64}")
_KEY_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of the command."""

    version: str
    environment: str | None
    flavour: str | None
    config_file: Path | None
    public_url: str
    key: Path | None
    log_head: Path | None
    commit: str
    dist: Path
    as_json: bool


@click.command("verify-release")
@click.argument("version")
@click.option("--env", "environment", help="Environment of release.yaml.")
@click.option("--flavour", help="Flavour of release.yaml.")
@click.option("--public-url", default="", metavar="URL", help="In place of R2_PUBLIC_URL.")
@click.option("--key", type=FILE, help="The public key to trust, instead of those that are pinned.")
@click.option("--log-head", type=FILE, help="A log.head.json seen before: from GitHub, or kept.")
@click.option("--commit", default="", metavar="SHA", help="The source commit it must be of.")
@click.option("--config", "config_file", type=FILE, help="Another release.yaml.")
@click.option("--dist", type=DIST, default=Path("dist"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_session
def command(session: Session, /, **options: Any) -> int:  # noqa: ANN401 - click's own keywords
    """Verify a published release as anybody can: no account, no secret.

    Downloads the archive by its public address and verifies it from the seal down to Apple's
    roots, with its ticket; its provenance by a key that release.yaml pins; its bill of materials
    against what was unpacked; its line in the log of releases under the signed head; that it was
    not withdrawn; and what the coordinator tells. Exits 6 when anything fails; what could not be
    checked is named.

    \b
    release-tool verify-release 0.5.0 --env prod --public-url https://downloads.example.com
    release-tool verify-release 0.5.0 --env prod --log-head log.head.json --json
    release-tool verify-release 0.5.0 --env rehearsal
    """
    wanted = Options(**options)
    plan, question = _question(session, wanted)
    with tempfile.TemporaryDirectory(prefix="release-tool-verify-") as folder:
        verification = Verification(
            question=question,
            coordinator=Coordinator(
                base_url=plan.endpoints.coordinator_url,
                release_key=_nobodys,
                contract=plan.coordinator.contract,
            ),
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


def _question(session: Session, options: Options) -> tuple[ReleasePlan, Question]:
    plan = _plan(session, options)
    seen = _head(options.log_head) if options.log_head else None
    return plan, Question(
        plan=plan,
        trusted=_trusted(plan, options),
        trust=_roots(plan, options),
        seen=seen,
        commit=_commit(options.commit),
    )


def _commit(given: str) -> str:
    """A commit, or as much of it as is shown in one line."""
    commit = given.strip().lower()
    if commit and not _COMMIT.fullmatch(commit):
        raise errors.UsageError(
            "--commit is no commit", expected="12 to 64 hexadecimal digits", observed=given[:80]
        )
    return commit


def _head(path: Path) -> bytes:
    """The caller's own file: one that holds nothing of the kind says nothing about a release."""
    content = _read(path, _HEAD_BYTES)
    try:
        json_document.read(content, limit_bytes=_HEAD_BYTES, what="a signed head")
    except errors.FormatError as problem:
        raise errors.UsageError(
            f"--log-head {problem.message}",
            subject=str(path),
            expected="the log.head.json of a release",
        ) from problem
    return content


def _plan(session: Session, options: Options) -> ReleasePlan:
    plan = embedded.resolve(_request(session, options), options.dist).plan
    if options.public_url:
        endpoints = plan.endpoints.model_copy(update={"r2_public_url": options.public_url})
        plan = plan.model_copy(update={"endpoints": endpoints})
    for name in ("r2_public_url", "coordinator_url"):
        if not getattr(plan.endpoints, name):
            flag = "--public-url, or set " if name == "r2_public_url" else ""
            raise errors.UsageError(
                f"nothing says where {plan.environment.name} is",
                observed=f"no {name.upper()}",
                hint=f"name it with {flag}{plan.environment.prefix}{name.upper()}",
            )
    return plan


def _request(session: Session, options: Options) -> config.Request:
    return config.Request(
        environ=session.environ,
        working_folder=Path.cwd(),
        config_file=options.config_file,
        environment=options.environment,
        version=options.version,
        version_flag="VERSION",
        flavour=options.flavour,
        stages=(),
        from_source=False,
    )


def _trusted(plan: ReleasePlan, options: Options) -> tuple[PublicKey, ...]:
    """Whose word counts: from a file that the caller chose, or from release.yaml."""
    if options.key is not None:
        try:
            return (keys.parse(_read(options.key, _KEY_BYTES).decode("utf-8", "replace")),)
        except errors.FormatError as problem:
            raise errors.UsageError(
                f"--key {problem.message}", subject=str(options.key), observed=problem.observed
            ) from problem
    if plan.environment.embedded:
        return (keys.parse(embedded.provenance_key(options.dist, plan.environment.name)),)
    section = plan.environment.provenance
    if section is None or not section.keys:
        raise errors.UsageError(
            f"release.yaml pins no key for {plan.environment.name}",
            hint="name the file of its public key with --key, from a source that you trust",
        )
    return tuple(map(keys.parse, section.keys))


def _roots(plan: ReleasePlan, options: Options) -> certificates.Trust:
    if not plan.environment.embedded:
        return certificates.apple_trust()
    roots = embedded.trust(options.dist, plan.environment.name)
    return certificates.Trust(
        name="the rehearsal's authority",
        roots=tuple(map(certificates.load, armor.unwrap_all(roots, "a root"))),
    )


def _read(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as source:
        content = source.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise errors.UsageError(
            "this is too large for what it should be",
            subject=str(path),
            expected=f"at most {limit_bytes} bytes",
        )
    return content


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
