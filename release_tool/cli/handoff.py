"""`release-tool handoff`: carry a release to another machine, and prove that it arrived whole."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import click

import release_tool
from release_tool import config, errors
from release_tool.cli import asking, earlier_runs, embedded, github_commands, lane_packs
from release_tool.cli.console import RunConsole
from release_tool.cli.run import DIST, FILE
from release_tool.cli.session import Session, pass_session, shown_path, workspace_root
from release_tool.handoff import earlier, merging, packing, unpacking
from release_tool.handoff.contents import LEDGER
from release_tool.handoff.unpacking import Unpacked
from release_tool.ledger import Ledger
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter, Silent
from release_tool.report.summary import size
from release_tool.schema_number import SCHEMA
from release_tool.services import precedence

_HEAD = re.compile(r"[0-9a-f]{64}")
_ATTEMPT = re.compile(r"attempt-([0-9]{1,9})\.tar\.gz")
_NAME = "handoff.tar.gz"

_OF_A_RELEASE = (
    click.option("--env", "environment", help="Environment of release.yaml; a tag names it, too."),
    click.option("--version", help="Version, when this is not run on a tag."),
    click.option("--flavour", help="Flavour of release.yaml; a tag names it, too."),
    click.option("--config", "config_file", type=FILE, help="Another release.yaml."),
    click.option("--dist", type=DIST, default=Path("dist"), show_default=True),
)
_model = click.option("--model", help="As `run` was told, where it was.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document.")
_github = click.option(
    "--github-output", is_flag=True, help="Also write head=… for the outputs of the job."
)


@dataclass(frozen=True, kw_only=True)
class _Release:
    """Which release, as each command here is told."""

    environment: str | None
    version: str | None
    flavour: str | None
    config_file: Path | None
    dist: Path


def _of_a_release(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name a release; they come to it as one."""

    @functools.wraps(command)
    def gathered(*given: Any, **options: Any) -> None:  # noqa: ANN401 - click's own keywords
        named = {one.name: options.pop(one.name) for one in fields(_Release)}
        command(*given, release=_Release(**named), **options)

    for option in reversed(_OF_A_RELEASE):
        gathered = option(gathered)
    return gathered


@click.group("handoff")
def command() -> None:
    """Carry a release to another machine: its ledger and artifacts in one archive.

    The ledger's head travels another way, as the output of a job: what arrives under another head
    is refused. No secret is in a handoff; each job needs the settings of its own stages only.

    \b
    Here:   release-tool handoff pack --env dev --version 0.5.0
    There:  release-tool handoff unpack dist/handoff.tar.gz --env dev --version 0.5.0 --expect HEAD
    """


@command.command("pack")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@_of_a_release
@_github
@_json
@pass_session
def pack(
    session: Session,
    file: Path | None,
    *,
    release: _Release,
    github_output: bool,
    as_json: bool,
) -> None:
    """Pack the ledger, and the artifacts that its standing records name, into FILE.

    FILE is handoff.tar.gz in the folder of --dist unless it is named. Modes, links and signatures
    in extended attributes come along; the same ledger gives the same bytes. Every digest is
    compared.

    \b
    For people:  release-tool handoff pack --env dev --version 0.5.0
    For a job:   release-tool handoff pack --github-output
    """
    plan = _plan(session, release)
    # Not beside the sources: their tree must stay clean.
    destination = file or release.dist / _NAME
    _require_outputs(session, github_output=github_output)
    packed = packing.pack(
        workspace_root(plan, release.dist),
        destination,
        environment=plan.environment.name,
        version=plan.version,
        source_commit=plan.source.commit,
        reporter=_reporter(session, as_json=as_json),
    )
    head = packed.manifest.head
    _hand_on(session, head, github_output=github_output)
    if as_json:
        facts = {
            "file": str(destination),
            "sha256": packed.sha256,
            "size": packed.size,
            "records": packed.records,
            "artifacts": packed.artifacts,
        }
        _document(session, {**packed.manifest.model_dump(mode="json"), **facts})
        return
    print(
        f"{destination}: {plan.name} {plan.version} · {plan.environment.name},"
        f" {_counted(packed.records, packed.artifacts)}, {size(packed.size)}",
        file=session.out,
    )
    print(f"  head {head}", file=session.out)


@command.command("unpack")
@click.argument("file", type=FILE)
@click.option(
    "--expect", required=True, metavar="HEAD", help="The ledger's head, as `pack` printed it."
)
@click.option(
    "--continued",
    is_flag=True,
    help="Also take intents and failures behind HEAD: what a broken-off attempt wrote down.",
)
@click.option(
    "--attempts",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Of attempt-N.tar.gz in FOLDER, the one with the highest N in place of FILE, as with"
    " --continued; FILE where there is none.",
)
@_of_a_release
@_model
@_github
@_json
@pass_session
def unpack(
    session: Session,
    file: Path,
    expect: str,
    model: str | None,
    attempts: Path | None,
    *,
    release: _Release,
    continued: bool,
    github_output: bool,
    as_json: bool,
) -> None:
    """Unpack FILE into the workspace of its release: all of it or nothing.

    Refused are another head, environment, version, source commit or plan, an artifact that is not
    what its record says, and anything that no record names. A workspace that is here already is
    only extended, and only where its ledger is a beginning of the one that comes.

    \b
    By hand:   release-tool handoff unpack handoff.tar.gz --env dev --version 0.5.0 --expect HEAD
    In a job:  release-tool handoff unpack dist/handoff.tar.gz --expect "$HEAD"
    """
    _require_head(expect)
    plan = _whole_plan(session, release, model)
    _require_outputs(session, github_output=github_output)
    root = workspace_root(plan, release.dist)
    attempt = _newest(attempts) if attempts else None
    file, continued = attempt or file, continued or attempt is not None
    found = unpacking.unpack(
        file,
        root,
        plan,
        expect=expect,
        continued=continued,
        reporter=_reporter(session, as_json=as_json),
    )
    _hand_on(session, found.head, github_output=github_output)
    _tell(session, file, root, found, as_json=as_json)


def _tell(session: Session, file: Path, root: Path, found: Unpacked, *, as_json: bool) -> None:
    if as_json:
        facts = {
            "workspace": str(root),
            "outcome": found.outcome,
            "head": found.head,
            "records": found.records,
            "artifacts": found.artifacts,
            "left_out": found.left_out,
        }
        _document(session, {**found.manifest.model_dump(mode="json"), **facts})
        return
    print(
        f"{shown_path(root)}: {found.outcome} from {file},"
        f" {_counted(found.records, found.artifacts)}, each as recorded",
        file=session.out,
    )
    if found.left_out:
        print(
            f"  {found.left_out} records behind the expected head are not taken", file=session.out
        )
    print(f"  head {found.head}", file=session.out)


def _newest(folder: Path) -> Path | None:
    """What the last attempt that broke off packed; a folder that nobody made holds none."""
    numbers = {int(found[1]): path for path in folder.glob("*") if (found := _named(path))}
    return numbers[max(numbers)] if numbers else None


def _named(path: Path) -> re.Match[str] | None:
    return _ATTEMPT.fullmatch(path.name) if path.is_file() else None


@command.command("earlier")
@click.argument("file", type=FILE)
@click.option("--expect", metavar="HEAD", help="The head of its ledger, where it is known.")
@_of_a_release
@_json
@pass_session
def earlier_release(
    session: Session,
    file: Path,
    expect: str | None,
    *,
    release: _Release,
    as_json: bool,
) -> None:
    """Unpack FILE, the handoff of an earlier release that was published, beside this one.

    The smoke run tries the installer over its archive, and reports show its figures beside. Its
    records are verified, and decide nothing: so its head need not be known. --version is the one
    that is being released.

    \b
    By hand:   release-tool handoff earlier handoff.tar.gz --env prod --version 0.5.0
    In a job:  release-tool handoff earlier dist/earlier/handoff.tar.gz
    """
    if expect is not None:
        _require_head(expect)
    # The file first: of one that is no handoff nobody wants to know what else is missing.
    manifest = unpacking.manifest_of(file)
    plan = _plan(session, release)
    if not precedence.is_newer(plan.version, manifest.version):
        raise errors.UsageError(
            "this is no earlier release",
            subject=str(file),
            expected=f"a version below {plan.version}",
            observed=repr(manifest.version[:80]),
            hint="say by --version what is being released, and name the handoff of one before it",
        )
    there = earlier.of(plan, manifest)
    root = workspace_root(there, release.dist)
    found = earlier.unpack(
        file, root, there, expect=expect, reporter=_reporter(session, as_json=as_json)
    )
    _tell(session, file, root, found, as_json=as_json)


command.add_command(earlier_runs.command)


@command.command("merge")
@click.argument("files", type=FILE, nargs=-1)
@click.option(
    "--expect",
    "heads",
    multiple=True,
    metavar="HEAD",
    help="The head of each FILE, in the same order, as `pack` printed it.",
)
@click.option(
    "--lane",
    "lanes",
    multiple=True,
    type=(str, click.Path(path_type=Path), str),
    metavar="NAME FILE HEAD",
    help="In place of both: what a lane's job handed over. All lanes must be named; one whose file"
    " or head is missing is told by its name, and nothing is merged.",
)
@_of_a_release
@_model
@_github
@_json
@pass_session
def merge(
    session: Session,
    files: tuple[Path, ...],
    heads: tuple[str, ...],
    lanes: tuple[tuple[str, Path, str], ...],
    model: str | None,
    *,
    release: _Release,
    github_output: bool,
    as_json: bool,
) -> None:
    """Merge the smoke records of several hosts, one FILE each, into the release's ledger.

    Each host unpacked the same handoff, ran `--only smoke` and packed again. Their records are
    appended here with the place that each had there; nothing else may have been recorded behind
    the archive. Where the release is not here yet, the first FILE is unpacked as it is.

    \b
    By hand:   release-tool handoff merge old.tar.gz new.tar.gz --expect "$A" --expect "$B"
    In a job:  release-tool handoff merge --lane oldest old.tar.gz "$A" --lane newest new.tgz "$B"
    """
    lane_packs.require_one_way(files, heads, lanes)
    if not lanes:
        _require_heads(files, heads)
    plan = _whole_plan(session, release, model)
    _require_outputs(session, github_output=github_output)
    root = workspace_root(plan, release.dist)
    packs = lane_packs.of(plan, lanes) if lanes else list(zip(files, heads, strict=True))
    for _, head in packs:
        _require_head(head)
    found = merging.merge(
        packs,
        root,
        plan,
        tool=f"release-tool {release_tool.__version__}",
        reporter=_reporter(session, as_json=as_json),
    )
    if lanes:
        lane_packs.require_filled(plan, root)
    _hand_on(session, found.head, github_output=github_output)
    if as_json:
        arrivals = [
            {"file": str(one.file), "hosts": list(one.hosts), "kept": one.kept}
            for one in found.arrivals
        ]
        _document(session, {"head": found.head, "records": found.records, "packs": arrivals})
        return
    for one in found.arrivals:
        kept = f"{one.kept} here already" if one.kept else "no smoke record"
        print(f"{one.file}: {'; '.join(one.hosts) or kept}", file=session.out)
    print(f"  head {found.head}", file=session.out)


def _require_heads(files: tuple[Path, ...], heads: tuple[str, ...]) -> None:
    if len(heads) != len(files):
        raise errors.UsageError(
            "each handoff needs its own head",
            expected=f"--expect {len(files)} times, in the order of the files",
            observed=f"{len(heads)} times",
            hint="in a job each is an output of the one that packed it",
        )
    for head in heads:
        _require_head(head)


def _require_head(head: str) -> None:
    if not _HEAD.fullmatch(head):
        raise errors.UsageError(
            "--expect is no head of a ledger",
            expected="64 hex digits, as `release-tool handoff pack` printed them",
            observed=repr(head[:80]),
            hint="in a job it is an output of the one before: check that it is declared there",
        )


@command.command("head")
@_of_a_release
@_github
@_json
@pass_session
def head(
    session: Session,
    *,
    release: _Release,
    github_output: bool,
    as_json: bool,
) -> None:
    """Print the head of a release's ledger, whole.

    \b
    For a script:  head=$(release-tool handoff head --env dev --version 0.5.0)
    For a job:     release-tool handoff head --github-output
    """
    plan = _plan(session, release)
    _require_outputs(session, github_output=github_output)
    folder = workspace_root(plan, release.dist) / LEDGER
    ledger = Ledger(folder)
    if not ledger.records:
        raise errors.UsageError(
            "nothing was recorded here yet",
            subject=str(folder),
            hint="begin the release: release-tool run",
        )
    _hand_on(session, ledger.head, github_output=github_output)
    if as_json:
        _document(session, {"head": ledger.head, "records": len(ledger.records)})
    else:
        print(ledger.head, file=session.out)


def _plan(session: Session, release: _Release) -> ReleasePlan:
    """The plan as far as a folder wants it: no secret is, and none is asked for."""
    return config.resolve(_request(session, release)).plan


def _whole_plan(session: Session, release: _Release, model: str | None) -> ReleasePlan:
    """The plan where all of it must be known, as `run` had it."""
    flags = {"smoke.model": config.Flag(name="--model", value=model)} if model else {}
    request = replace(_request(session, release), flags=flags)
    return embedded.resolve(request, release.dist).plan


def _request(session: Session, release: _Release) -> config.Request:
    return replace(asking.request(session, release), version=release.version, stages=())


def _require_outputs(session: Session, *, github_output: bool) -> None:
    """Before any work, as the job would lose it."""
    if github_output:
        github_commands.outputs_file(session.environ)


def _hand_on(session: Session, head: str, *, github_output: bool) -> None:
    if github_output:
        github_commands.hand_on(session.environ, {"head": head})


def _reporter(session: Session, *, as_json: bool) -> Reporter:
    return Silent() if as_json else RunConsole(session).aside("handoff")


def _document(session: Session, facts: Mapping[str, object]) -> None:
    print(json.dumps({"schema": SCHEMA, "ok": True, **facts}, ensure_ascii=False), file=session.out)


def _counted(records: int, artifacts: int) -> str:
    def many(count: int, what: str) -> str:
        return f"{count} {what}{'' if count == 1 else 's'}"

    return f"{many(records, 'record')}, {many(artifacts, 'artifact')}"
