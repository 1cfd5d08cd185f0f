"""One release from the command line to its last stage: resolve, preflight, run, tell."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import click

import release_tool
from release_tool import config, credentials, errors, pipeline, smoke_lanes, smoke_records, values
from release_tool.apple.policy import expiry
from release_tool.cli import (
    embedded,
    github_commands,
    notary_route,
    preflight,
    probes,
    report,
    wiring,
)
from release_tool.cli.console import JSONObserver, RunConsole
from release_tool.cli.session import Session, shown_path, workspace_root
from release_tool.cli.stage_names import STAGES
from release_tool.files.workspace import Workspace
from release_tool.handoff.settling import settle
from release_tool.ledger import Ledger
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter, Silent
from release_tool.report import expiries, overview
from release_tool.report import smoke as smoke_report
from release_tool.report.summary import size
from release_tool.services import host as this_host
from release_tool.services import tombstone
from release_tool.services.hub import MODEL
from release_tool.settings import Settings
from release_tool.steps import Observer, up_to


@dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of `run`; `rehearse` sets a few of them itself."""

    environment: str | None = None
    version: str | None = None
    flavour: str | None = None
    config: Path | None = None
    binaries: Path | None = None
    metallib: Path | None = None
    profile: Path | None = None
    identity: Path | None = None
    keychain: bool = False
    model: str | None = None
    until: str | None = None
    only: str | None = None
    resign: bool = False
    yes: bool = False
    no_wait: bool = False
    dist: Path = Path("dist")
    as_json: bool = False


def carry(session: Session, options: Options) -> None:
    """Carry a release as far as the options say.

    Raises:
        ReleaseError: whatever stops it; the records before it stay.
    """
    require_stages(options)
    started = time.monotonic()
    resolved, inputs = resolve(session, options)
    workspace = _workspace(resolved, options)
    session.resume_with = session.resume_with or _resume_command(options, resolved)
    ledger = Ledger(workspace.root / "ledger")
    with ledger.lock():
        if settle(workspace.root):
            ledger.reload()
        workspace.tidy()
        try:
            found = _run(session, options, resolved, inputs, workspace, ledger)
        finally:
            summarize(session, workspace, ledger, about(resolved.plan))
            if page := report.leave(session, workspace.root):
                session.state = f"ledger head {ledger.head[:12]} · report {page}"
        _close(session, options, workspace, found, time.monotonic() - started)


def require_stages(options: Options) -> None:
    """Refuse stages that do not exist, and two ways to say which to run.

    Raises:
        UsageError: so.
    """
    if options.until and options.only:
        raise errors.UsageError("--until and --only exclude each other", hint="name one of them")
    for name in (options.until, options.only):
        if name is not None and name not in STAGES:
            raise errors.UsageError(
                "there is no such stage",
                subject=name,
                expected=", ".join(STAGES),
                hint="name one of these",
            )


def _reporter(session: Session, options: Options) -> Reporter:
    observer = _observer(session, options)
    return observer.aside("prepare") if isinstance(observer, RunConsole) else Silent()


def _observer(session: Session, options: Options) -> Observer:
    return JSONObserver() if options.as_json else RunConsole(session)


def _workspace(resolved: config.Resolved, options: Options) -> Workspace:
    return Workspace(workspace_root(resolved.plan, options.dist))


def resolve(session: Session, options: Options) -> tuple[config.Resolved, wiring.Inputs]:
    """Resolve once to learn whether the environment is embedded, and then with its settings."""
    first = config.resolve(_request(session, options, None))
    if not first.plan.environment.embedded:
        return first, _inputs(session, options, first)
    made = embedded.prepare(
        session,
        first.plan,
        options.dist,
        model_folder=_folder(options.model) if options.model else None,
        reporter=_reporter(session, options),
    )
    again = config.resolve(_request(session, options, made.settings))
    return again, made.complete(_inputs(session, options, again))


def _folder(model: str) -> Path:
    """A rehearsal asks no hub of models, so that it needs a folder."""
    folder = Path(model)
    if MODEL.fullmatch(model) and not folder.exists():
        raise errors.UsageError(
            "a rehearsal takes the folder of a model",
            subject=model[:200],
            expected="a folder with config.json and *.safetensors",
            observed="no such folder",
            hint="leave --model out for the small pinned one",
        )
    return folder.resolve()


def _request(session: Session, options: Options, settings: Settings | None) -> config.Request:
    flags: dict[str, config.Flag] = {}
    if options.model:
        flags["smoke.model"] = config.Flag(name="--model", value=options.model)
    supplied = []
    if options.profile:
        supplied.append("PROVISIONING_PROFILE_BASE64")
    if options.identity or options.keychain:
        supplied += ["APPLE_CERTIFICATE_P12", "APPLE_CERTIFICATE_PASSWORD"]
    supplied += notary_route.supplied(session.environ)
    return config.Request(
        environ=session.environ,
        working_folder=Path.cwd(),
        config_file=options.config,
        environment=options.environment,
        version=options.version,
        flavour=options.flavour,
        flags=flags,
        settings=settings,
        supplied=supplied,
    )


def _inputs(session: Session, options: Options, resolved: config.Resolved) -> wiring.Inputs:
    secrets = resolved.credentials.secrets

    def password() -> str | None:
        found = secrets.get("APPLE_CERTIFICATE_PASSWORD")
        return found.reveal() if found else None

    profile = options.profile.read_bytes() if options.profile else None
    if profile is None and (encoded := secrets.get("PROVISIONING_PROFILE_BASE64")):
        profile = encoded.decoded()
    identity = options.identity.read_bytes() if options.identity else None
    if options.keychain:
        _require_keychain_route(options, resolved)
    elif identity is None and (encoded := secrets.get("APPLE_CERTIFICATE_P12")):
        identity = encoded.decoded()
    return wiring.Inputs(
        environ=session.environ,
        binaries=options.binaries,
        metallib=options.metallib,
        profile=profile,
        identity=identity,
        identity_password=password,
        wait=not options.no_wait,
        confirm=_confirmation(options, resolved),
    )


def _require_keychain_route(options: Options, resolved: config.Resolved) -> None:
    environment = resolved.plan.environment
    if environment.signer != "codesign":
        raise errors.UsageError(
            "only codesign signs with an identity of your keychains",
            subject="--keychain",
            observed=f"{environment.name} signs with the {environment.signer} signer",
            hint="name a file with --identity",
        )
    if options.identity:
        raise errors.UsageError(
            "--identity and --keychain exclude each other", hint="name one of them"
        )


def _confirmation(options: Options, resolved: config.Resolved) -> Callable[[], None]:
    """Who registers says so: by typing the version, or by `--yes` in a job."""
    plan = resolved.plan
    if plan.environment.embedded or options.yes:
        return lambda: None

    def ask() -> None:
        typed = click.prompt(
            f"Register {plan.version} in {plan.environment.name}? Type the version", type=str
        )
        if typed != plan.version:
            raise errors.UsageError("not registered", expected=plan.version, observed=typed)

    return ask


def _require_somebody(session: Session, options: Options, resolved: config.Resolved) -> None:
    """Registration needs a word; without anybody to give it, nothing is begun."""
    if resolved.plan.environment.embedded or options.yes:
        return
    if not (sys.stdin.isatty() and session.on_terminal):
        raise errors.UsageError(
            f"nobody is here to confirm the registration of {resolved.plan.version}",
            hint="say --yes in a job, or stop before it with --until publish",
        )


def _run(
    session: Session,
    options: Options,
    resolved: config.Resolved,
    inputs: wiring.Inputs,
    workspace: Workspace,
    ledger: Ledger,
) -> dict[str, values.Value]:
    if not options.as_json:
        _greet(session, resolved, ledger, workspace)
    wired = wiring.Services(resolved=resolved, workspace=workspace, inputs=inputs)
    observer = _observer(session, options)
    run = pipeline.Run(
        steps=wiring.steps(wired),
        plan=resolved.plan,
        ledger=ledger,
        root=workspace.root,
        observer=observer,
        host=host(),
        tool=f"release-tool {release_tool.__version__}",
        resign=options.resign,
        redo=_on_this_host(options, resolved.plan, ledger),
        cover=credentials.cover(resolved.credentials, session.environ),
    )
    last = options.until or run.steps[-1].name
    try:
        coming = run.coming(only=options.only, last=last)
        require_settings(resolved, coming)
        if "register" in coming:
            _require_run_id(resolved.plan)
            _require_somebody(session, options, resolved)
        if not probes.OUTWARD.intersection(coming):
            names = [options.only] if options.only else [one.name for one in up_to(run.steps, last)]
            _look_back(wired, names, observer)
        asked = preflight.run(probes.of(wired), coming)
        if asked and isinstance(observer, RunConsole):
            observer.line("preflight", f"{len(asked)} of {len(asked)} answers are good")
            for row in expiry.soon(probes.ends(wired)):
                observer.line("ends soon", f"{row.line}: {row.todo}")
                if session.in_github_actions:
                    print(github_commands.warning(f"{row.line}: {row.todo}"), file=session.out)
        return run.only(options.only) if options.only else run.until(last)
    finally:
        session.state = f"ledger head {ledger.head[:12]}"


def _on_this_host(options: Options, plan: ReleasePlan, ledger: Ledger) -> Mapping[str, str]:
    """The smoke run by name, where it ran on other hosts and this one fills a lane without any."""
    asked = smoke_lanes.of(plan)
    if options.only != smoke_lanes.STAGE or not asked.several:
        return {}
    here = this_host.describe()
    there = [smoke_records.host_of(one.value) for one in smoke_records.counting(ledger.records)]
    for lane in asked.lanes:
        filled = any(host and asked.filled_by(lane, host) for host in there)
        if asked.filled_by(lane, here) and not filled:
            return {smoke_lanes.STAGE: f"lane {lane.name} has no record yet"}
    return {}


def _look_back(wired: wiring.Services, names: list[str], observer: Observer) -> None:
    """What was finished may have been withdrawn since; what is to come the preflight asks about."""
    if not probes.OUTWARD.intersection(names):
        return
    try:
        wired.look_out()
    except tombstone.WithdrawnError:
        raise
    except errors.ReleaseError as problem:
        if isinstance(observer, RunConsole):
            observer.line("tombstone", f"not looked for: {problem}")


def _require_run_id(plan: ReleasePlan) -> None:
    """An approval binds the run that built the release: better known before anything is signed."""
    wanted = plan.coordinator.contract != "2026-05" and plan.environment.require_qualification
    if wanted and not plan.source.ci_run_id:
        raise errors.UsageError(
            "nothing says which run of the CI built this release",
            expected=f"the run's number in {' or '.join(config.RUN_VARIABLES)}",
            hint=f"set {config.RUN_VARIABLES[0]}: {plan.environment.name} registers approved"
            " builds, and an approval binds their run",
        )


def require_settings(resolved: config.Resolved, coming: list[str]) -> None:
    """Refuse to begin stages whose settings are missing.

    Raises:
        CredentialError: all that are missing.
    """
    resolved.credentials.require(coming, supplied=resolved.request.supplied)


def about(plan: ReleasePlan) -> str:
    """The release in a few words."""
    return f"{plan.name} {plan.version} · {plan.environment.name}"


def _greet(
    session: Session, resolved: config.Resolved, ledger: Ledger, workspace: Workspace
) -> None:
    plan = resolved.plan
    state = "clean" if plan.source.clean else "with changes"
    commit = plan.source.commit[:7]
    left = f"{about(plan)} · from {commit} ({state})"
    flags = sum(origin.kind == "flag" for origin in resolved.origins.values())
    print(f"{left}   plan: {len(resolved.origins)} values, {flags} from flags", file=session.out)
    for notice in resolved.notices:
        print(f"  notice: {notice}", file=session.out)
    if ledger.records:
        where = shown_path(workspace.root)
        print(f"Resuming {plan.version} from {where} (head {ledger.head[:12]})", file=session.out)


def _close(
    session: Session,
    options: Options,
    workspace: Workspace,
    found: Mapping[str, values.Value],
    seconds: float,
) -> None:
    if options.as_json:
        document = overview.read(workspace.root).as_json()
        document["values"] = {name: value.model_dump(mode="json") for name, value in found.items()}
        print(json.dumps(document, ensure_ascii=False), file=session.out)
        return
    for line in _table(workspace, found):
        print(line, file=session.out)
    promoted = found.get("promote")
    done = "Released" if promoted else "Done"
    if isinstance(promoted, values.PromotedRelease) and promoted.outcome == "superseded":
        done = f"Superseded by {promoted.latest_version}, done"
    state = session.state.replace(" · ", "   ")
    print(f"{done} in {seconds:.1f} s   {state}", file=session.out)


def summarize(session: Session, workspace: Workspace, ledger: Ledger, of: str = "") -> None:
    """The table for a job's page, after a failure too; it never stands in an outcome's way."""
    path = session.environ.get("GITHUB_STEP_SUMMARY")
    if not path or not ledger.records:
        return
    try:
        text = overview.read(workspace.root).as_markdown(of) + "\n"
        for told in smoke_report.read(workspace.root):
            text += f"\n{told.as_markdown()}\n"
        github_commands.summarize(Path(path), text)
    except (OSError, errors.ReleaseError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        said = f"the summary of the job was not written: {path}: {reason}"
        print(f"release-tool: warning: {said}", file=session.err)
        if session.in_github_actions:
            print(github_commands.warning(said), file=session.err)


def _table(workspace: Workspace, found: Mapping[str, values.Value]) -> list[str]:
    """The figures that a maintainer copies into a message."""
    rows: list[tuple[str, str]] = []
    profile, archive, smoke = found.get("profile"), found.get("archive"), found.get("smoke")
    published = found.get("publish")
    if isinstance(archive, values.ReleaseArchive):
        path = workspace.path(archive.path)
        rows += [
            (
                "archive",
                f"{shown_path(path)}, {size(archive.size)}{'' if path.is_file() else ', gone'}",
            ),
            ("sha256", archive.sha256),
            ("binary", archive.binary_sha256),
            *([("metallib", archive.metallib_sha256)] if archive.metallib_sha256 else []),
            ("cdhash", archive.cdhash),
        ]
        if archive.test_outcome != "passed":
            rows.append(("tests", f"{archive.test_outcome}, in the source of these binaries"))
    if isinstance(notarized := found.get("notarize"), values.Notarization):
        rows.append(("notary", f"submission {notarized.submission_id}, accepted"))
    if isinstance(stapled := found.get("staple"), values.StapledBundle):
        rows.append(("ticket", stapled.ticket_sha256))
    if isinstance(profile, values.VerifiedProfile):
        rows.append(("profile", f"team {profile.team_id}, {profile.days_left} days left"))
    if isinstance(smoke, values.SmokeEvidence):
        first = max(prompt.first_token_seconds for prompt in smoke.prompts)
        rows.append(("smoke", f"{smoke.kind}, first token {first * 1000:.0f} ms"))
    if isinstance(published, values.PublishedRelease):
        rows.append(("url", published.url))
    if isinstance(released := found.get("github"), values.GitHubRelease):
        rows.append(("github", released.page))
    rows += _ends(found.values())
    return ["", *(f"  {name:<10} {text}" for name, text in rows), ""] if rows else []


def _ends(found: Iterable[values.Value]) -> list[tuple[str, str]]:
    """What ends first, and everything that ends soon, with what to do about it."""
    rows = expiries.of(found)
    soon = expiry.soon(rows)
    return [("ends", f"{row.line}: {row.todo}") for row in soon] or [
        ("ends", f"first on {row.ends:%Y-%m-%d}: {row.what} {row.name}") for row in rows[:1]
    ]


# Said already, or a matter of the one run: who resumes wants the verdict.
_NOT_REPEATED = frozenset({"environment", "version", "flavour", "as_json", "yes", "no_wait"})


def _resume_command(options: Options, resolved: config.Resolved) -> str:
    words = ["release-tool", "run", "--env", resolved.plan.environment.name]
    words += ["--version", resolved.plan.version]
    if resolved.origins["flavour.name"].kind not in ("file", "default"):
        words += ["--flavour", resolved.plan.flavour.name]
    for field in fields(Options):
        value = getattr(options, field.name)
        if field.name in _NOT_REPEATED or value == field.default:
            continue
        words += [f"--{field.name}"] if value is True else [f"--{field.name}", str(value)]
    return shlex.join(words)


def host() -> dict[str, str]:
    """This machine, for records; no name of it and no user's."""
    system = "macos" if sys.platform == "darwin" else sys.platform
    release = platform.mac_ver()[0] if sys.platform == "darwin" else platform.release()
    return {
        "system": system,
        "release": release,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
