"""`release-tool plan`: everything that is decided before any work, and where it came from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from release_tool import config, credentials, errors, release_file
from release_tool.cli import completing, github_commands, notary_route, presence
from release_tool.cli.session import Session, pass_session
from release_tool.release_yaml import dotted
from release_tool.schema_number import SCHEMA

_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VALUE_WIDTH = 52


@click.command("plan")
@click.option(
    "--env",
    "environment",
    shell_complete=completing.environments,
    metavar="NAME",
    help="Environment; a tag may name it too.",
)
@click.option("--version", "version", metavar="X.Y.Z", help="Version; a tag may name it too.")
@click.option(
    "--flavour",
    shell_complete=completing.flavours,
    metavar="NAME",
    help="Flavour; a tag may name it too.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Release file; else release.yaml here, else the one of this tool.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of release.yaml.")
@click.option(
    "--github-output",
    is_flag=True,
    help="Hand environment, version, flavour and signer to later jobs; they hold the settings, so"
    " none is asked.",
)
@click.option(
    "--set-for",
    "set_for",
    metavar="STAGE,…",
    help="Only say whether the settings of these stages are set. What a secret holds is not"
    " looked at, so a job may give `set` in its place.",
)
@pass_session
def command(
    session: Session,
    environment: str | None,
    version: str | None,
    flavour: str | None,
    config_file: Path | None,
    set_for: str | None,
    *,
    as_json: bool,
    schema: bool,
    github_output: bool,
) -> int:
    """Print the resolved plan and where each value came from.

    For credentials it prints the names that won, never a value. Missing ones end in exit 4.

    \b
    Resolved:  release-tool plan --env dev --version 0.5.0
    Schema:    release-tool plan --schema
    In a job:  release-tool plan --set-for publish,register,promote
    """
    if schema:
        print(json.dumps(release_file.schema(), indent=2, ensure_ascii=False), file=session.out)
        return 0
    request = config.Request(
        environ=session.environ,
        working_folder=Path.cwd(),
        config_file=config_file,
        environment=environment,
        version=version,
        flavour=flavour,
        # The job that resolves holds no setting, and none is asked of it.
        stages=() if github_output else None,
        supplied=notary_route.supplied(session.environ),
    )
    if set_for is not None:
        _require_alone(as_json=as_json, github_output=github_output)
        presence.require(session, request, set_for)
        return 0
    resolved = config.resolve(request)
    if github_output:
        plan = resolved.plan
        outputs = {
            "environment": plan.environment.name,
            "version": plan.version,
            "flavour": plan.flavour.name,
            # Which runner signs.
            "signer": plan.environment.signer,
        }
        github_commands.hand_on(session.environ, outputs)
    lacking = [] if github_output else resolved.lacking()
    if as_json:
        print(json.dumps(as_document(resolved), ensure_ascii=False, indent=1), file=session.out)
    else:
        _show(session, resolved)
    if not lacking:
        return 0
    problem = credentials.missing_error(lacking)
    if not as_json:
        raise problem
    for line in problem.lines():
        print(line, file=session.err)
    return problem.exit_code


def _require_alone(*, as_json: bool, github_output: bool) -> None:
    if as_json or github_output:
        raise errors.UsageError(
            "--set-for stands alone",
            observed="--json" if as_json else "--github-output",
            hint="leave one of them out",
        )


def as_document(resolved: config.Resolved) -> dict[str, object]:
    """The whole answer for `--json`."""
    return {
        "schema": SCHEMA,
        "ok": not resolved.lacking(),
        "plan": resolved.plan.model_dump(mode="json"),
        "origins": {
            name: {"kind": origin.kind, "where": origin.where}
            for name, origin in resolved.origins.items()
        },
        "missing": [
            {"name": entry.name, "wanted": list(entry.wanted), "stages": list(entry.stages)}
            for entry in resolved.lacking()
        ],
        "notices": list(resolved.notices),
    }


def _show(session: Session, resolved: config.Resolved) -> None:
    rows = list(_rows(resolved))
    width = max(len(name) for name, _, _ in rows)
    print(_headline(resolved), file=session.out)
    for name, value, where in rows:
        print(f"  {name:<{width}}  {value:<{_VALUE_WIDTH}}  {where}".rstrip(), file=session.out)
    print("Credentials: the name that won, never the value", file=session.out)
    for name, origin in resolved.origins.items():
        if name.startswith("credentials."):
            setting = name.removeprefix("credentials.")
            print(f"  {setting:<{width}}  {origin}", file=session.out)
    for notice in resolved.notices:
        told = github_commands.notice(notice) if session.in_github_actions else f"Notice: {notice}"
        print(told, file=session.out)


def _headline(resolved: config.Resolved) -> str:
    plan = resolved.plan
    state = "clean" if plan.source.clean else "not clean"
    if plan.source.commit == "unknown":
        state = "no git tree"
    values = [name for name in resolved.origins if not name.startswith("credentials.")]
    flags = sum(resolved.origins[name].kind == "flag" for name in values)
    return (
        f"{plan.name} {plan.version} · {plan.environment.name}"
        f" · from {plan.source.commit[:7]} ({state})"
        f" · plan: {len(values)} values, {flags} from flags"
    )


def _rows(resolved: config.Resolved) -> list[tuple[str, str, str]]:
    whole = resolved.plan.model_dump(mode="json")
    rows = []
    for location, value in config.leaves(whole):
        name = dotted(location)
        rows.append((name, _text(value), str(resolved.origins[name])))
    return rows


def _text(value: object) -> str:
    """A value on one line; digests are cut, since `--json` has them whole."""
    if isinstance(value, str):
        if _DIGEST.fullmatch(value):
            return value[:12]
        plain = value if value.isprintable() and value else json.dumps(value, ensure_ascii=False)
    else:
        plain = json.dumps(value, ensure_ascii=False)
    plain = "".join(one if one.isprintable() else "?" for one in plain)
    return plain if len(plain) <= _VALUE_WIDTH else plain[: _VALUE_WIDTH - 1] + "…"
