"""Smoke: the archive that will ship is unpacked like a user would, runs, and answers.

The answers are compared with mlx-lm's, from the same model, in its own process. Only the bundle's
own executable on Apple Silicon proves the release; a stand-in proves the wiring around it, and
the environment says which of the two it accepts.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from release_tool import errors, layout, smoke_lanes
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.files import hashing
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import host as this_host
from release_tool.services import hub_cache, provider, reference, system_tar
from release_tool.services.model_store import ModelStore
from release_tool.services.provider import ProviderCommand
from release_tool.services.provider_contract import CONTRACTS, BuiltFor
from release_tool.services.reference import Reference
from release_tool.stages import (
    agreement,
    bundle_needs,
    final_copy,
    findings,
    mac_verdicts,
    room,
    smoke_launch,
    smoke_model,
    smoke_questions,
    smoke_record,
    speed,
)
from release_tool.stages.final_copy import FinalCopy, Unpack
from release_tool.stages.install_smoke import Candidate
from release_tool.stages.public_copy import Reader
from release_tool.stages.smoke_questions import Interview
from release_tool.stages.smoke_traces import Traces
from release_tool.values import Host, ReleaseArchive, SmokeEvidence

READS = (
    "version",
    "product",
    "bundle",
    "smoke",
    "limits.archive_bytes",
    "limits.member_bytes",
    "limits.members",
    "limits.provider_start_seconds",
    "limits.request_seconds",
    "environment.name",
    "environment.provider",
    "environment.lanes",
    "environment.signer",
    "environment.trust",
    "environment.notarization",
    "environment.built_in",
    "environment.not_built_in",
    "flavour.layout",
    "endpoints.coordinator_url",
    "endpoints.r2_public_url",
)
WIRING_ONLY = (
    "proves the wiring only: dev and prod need the bundle's own executable on Apple Silicon"
)
# What a killed run left behind goes with the next one.
_MORE_ROOM = "make room in /tmp, or name another volume in TMPDIR, then run again"
_SCRATCH_PREFIX = "release-tool-smoke-"

Judge = Callable[[Path], Mapping[str, str]]
Needs = Callable[[ReleasePlan, Path], Sequence[Check]]
Install = Callable[[Candidate], Sequence[Check]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the smoke run finds on this machine; a test names other things."""

    host: Host = field(default_factory=lambda: this_host.describe())
    judge: Judge | None = None
    """Asks macOS about the app; None for Apple's own tools."""
    system_unpack: Unpack | None = system_tar.unpack if sys.platform == "darwin" else None
    users_home: Path = field(default_factory=Path.home)
    """Of who runs this: nothing may be written there; the cache of the model hub is in it."""


def run(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    *,
    workspace: Workspace,
    reporter: Reporter,
    stand_in: ProviderCommand | None = None,
    model: Path | None = None,
    models: ModelStore | None = None,
    read: Reader | None = None,
    needs: Needs = bundle_needs.judge,
    install: Install | None = None,
    surroundings: Surroundings | None = None,
) -> SmokeEvidence:
    """Run an inference from the archive that will ship, and compare it with the reference.

    Args:
        plan: the release plan.
        archive: the archive.
        workspace: holds the archive, and keeps transcript and log.
        reporter: sees what was observed.
        stand_in: the provider that answers where the environment wants a stand-in.
        model: a model's folder; None for the plan's model.
        models: where that is looked for; None for the hub's cache of who runs this.
        read: judges what was unpacked, from the seal down (`public_copy.with_facts`).
        needs: judges the unpacked release without a Mac, before anything is started.
        install: tries the installer with the archive; None where it is not tried.
        surroundings: this machine.

    Raises:
        VerificationError: the archive does not verify, the bundle lacks what it needs on a user's
            Mac, macOS refuses the app, it does not start, answer or end as it should, its version
            is another one, its answers differ from each other or from the reference, or the
            installer does not do what it must.
        HostError: this host cannot run it, or lacks mlx-lm or the model.
        UsageError: no stand-in is given where one is wanted.
    """
    here = surroundings or Surroundings()
    _require_runnable(plan, here.host, stand_in)
    reference.require()
    store = models or ModelStore(shared=hub_cache.cache_folder(here.users_home))
    folder = smoke_model.obtain(plan, model, store, reporter)
    with _scratch() as scratch:
        copy = final_copy.unpack(
            plan,
            archive,
            workspace.path(archive.path),
            scratch,
            reporter=reporter,
            read=read,
            system_unpack=here.system_unpack,
        )
        subject = _subject(plan, archive, copy, stand_in, folder, scratch)
        needed = needs(plan, copy.root)
        findings.require(needed, "the bundle lacks what it needs on a user's Mac")
        ask = here.judge or mac_verdicts.of_unpacked(plan)
        verdicts = ask(copy.app) if here.host.system == "macos" else {}
        seen = _observe(plan, subject, here)
        installed = _installed(plan, archive, copy.root, workspace, scratch, install)
        prompts = smoke_record.prompts(plan.smoke, seen.interview, seen.expected)
        rounds = smoke_record.rounds(seen.interview, seen.expected)
        measured = speed.of(prompts, rounds)
        fast = tuple(speed.judge(plan.smoke, measured))
        findings.require(fast, "the provider is too slow: do not ship")
        kept = smoke_record.keep(
            workspace, seen.interview, seen.log, folder=smoke_lanes.folder(plan, here.host)
        )
        evidence = SmokeEvidence(
            archive_sha256=archive.sha256,
            test_outcome=archive.test_outcome,
            kind=subject.command.kind,
            contract=subject.command.contract.name,
            executable_sha256=subject.digest,
            cdhash=archive.cdhash,
            ran=_ran(subject),
            ran_sha256=hashing.sha256_of(Path(subject.command.argv[0])),
            version=seen.version,
            version_ran=subject.command.kind == "bundle",
            host=here.host,
            model=plan.smoke.model if model is None else folder.name,
            model_sha256=subject.model_digest,
            reference=f"mlx-lm {seen.expected.version}",
            agreement=smoke_record.policy(plan.smoke),
            prompts=prompts,
            long=smoke_record.long(plan.smoke, seen.interview, seen.expected),
            rounds=rounds,
            figures=measured,
            thresholds=smoke_record.outcomes(fast),
            checks=smoke_record.outcomes(seen.checks),
            macos_verdicts=dict(verdicts),
            needs=smoke_record.outcomes(needed),
            install=smoke_record.outcomes(installed),
            transcript=kept.transcript,
            transcript_sha256=kept.transcript_sha256,
            log=kept.log,
            log_sha256=kept.log_sha256,
        )
        _tell(reporter, subject, evidence)
        return evidence


def _installed(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    unpacked: Path,
    workspace: Workspace,
    scratch: Path,
    install: Install | None,
) -> Sequence[Check]:
    """What the installer did with the archive; nothing where it is not tried."""
    if install is None:
        return ()
    candidate = Candidate(
        plan=plan,
        archive=archive,
        file=workspace.path(archive.path),
        unpacked=unpacked,
        scratch=scratch / "installer",
    )
    found = install(candidate)
    findings.require(found, "the installer does not do what users rely on")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """What is run, with what, and where."""

    command: ProviderCommand
    copy: FinalCopy
    executable: Path
    digest: str
    model: Path
    model_digest: str
    scratch: Path

    def folder(self, name: str) -> Path:
        """A fresh folder."""
        folder = self.scratch / name
        folder.mkdir(mode=0o700, parents=True)
        return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was observed, and held against what was wanted."""

    version: str
    interview: Interview
    expected: Reference
    checks: Sequence[Check]
    log: str


def _require_runnable(plan: ReleasePlan, host: Host, stand_in: ProviderCommand | None) -> None:
    if plan.environment.provider == "stand-in":
        if stand_in is None:
            raise errors.UsageError(
                f"{plan.environment.name} smokes a stand-in, and none is given",
                hint="use `release-tool rehearse`",
            )
        return
    if stand_in is not None:
        raise errors.UsageError(
            f"{plan.environment.name} accepts only the bundle's own executable, no stand-in"
        )
    observed = f"{host.system}-{host.machine}"
    if observed != f"macos-{plan.product.architecture}":
        raise errors.HostError(
            f"{plan.environment.name} needs an inference of the bundle's own executable",
            expected=f"macos-{plan.product.architecture}",
            observed=observed,
            hint="run this stage on an Apple Silicon Mac: release-tool run --only smoke",
        )


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder outside every build tree: an app that only runs beside its build would show it."""
    parent = _temporary()
    for old in parent.glob(f"{_SCRATCH_PREFIX}*"):
        if old.lstat().st_uid == os.getuid() and not _is_used(old):
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{_SCRATCH_PREFIX}{os.getpid()}-", dir=parent, ignore_cleanup_errors=True
    ) as name:
        # On macOS the temporary folder is behind a link, and an app should see its true path.
        made = Path(name).resolve()
        with room.blamed(made, hint=_MORE_ROOM):
            yield made


def _temporary() -> Path:
    """Where Python puts temporary files; where all of those are full, it takes the working folder.

    Raises:
        HostError: so, or even that takes nothing.
    """
    try:
        found = Path(tempfile.gettempdir())
    except FileNotFoundError as problem:
        raise _no_room(problem.strerror or str(problem)) from problem
    if found.parts[-1:] != ("tmp",) and found.resolve() == Path.cwd():
        raise _no_room(f"only the working folder does: {found}")
    return found


def _no_room(observed: str) -> errors.HostError:
    return errors.HostError(
        "the smoke run unpacks the archive outside of every build tree, and no such place has room",
        expected="a folder for temporary files that can be written",
        observed=observed,
        hint=_MORE_ROOM,
    )


def _is_used(folder: Path) -> bool:
    """Whether the run that made the folder, and put its number into the name, still lives."""
    number = folder.name.removeprefix(_SCRATCH_PREFIX).partition("-")[0]
    if not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _command(
    plan: ReleasePlan, executable: Path, stand_in: ProviderCommand | None
) -> ProviderCommand:
    contract, authorization = CONTRACTS[plan.smoke.contract], plan.smoke.authorization
    if plan.environment.provider == "bundle" or stand_in is None:
        return ProviderCommand(
            argv=(str(executable),),
            kind="bundle",
            contract=contract,
            authorization=authorization,
        )
    told = {
        provider.STAND_IN_FOR: str(executable),
        provider.STAND_IN_CONTRACT: contract.name,
        provider.STAND_IN_BUILT_FOR: f"{plan.environment.name} {plan.endpoints.coordinator_url}",
    }
    return replace(
        stand_in,
        environment={**stand_in.environment, **told},
        contract=contract,
        authorization=authorization,
    )


def _built_for(plan: ReleasePlan) -> BuiltFor:
    """What the provider has to say of the environment that it was built for."""
    host = urlsplit(plan.endpoints.coordinator_url).netloc.lower()
    return BuiltFor(
        environment=plan.environment.name,
        coordinators=tuple(dict.fromkeys((host, *plan.environment.built_in))),
    )


def _subject(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    copy: FinalCopy,
    stand_in: ProviderCommand | None,
    model: Path,
    scratch: Path,
) -> _Subject:
    path = layout.of(plan).place(plan.bundle.main_executable)
    executable = copy.app / path
    command = _command(plan, executable, stand_in)
    if command.kind == "bundle":
        command = replace(command, explain=smoke_launch.explaining(path, copy.facts))
    return _Subject(
        command=command,
        copy=copy,
        executable=executable,
        digest=_require_executable(executable, archive),
        model=model,
        model_digest=smoke_model.require_digest(plan, model),
        scratch=scratch,
    )


def _require_executable(executable: Path, archive: ReleaseArchive) -> str:
    observed = hashing.sha256_of(executable)
    if observed != archive.binary_sha256:
        raise errors.VerificationError(
            "the app's executable is not the one that was recorded",
            subject=executable.name,
            expected=archive.binary_sha256,
            observed=observed,
        )
    return observed


def _observe(plan: ReleasePlan, subject: _Subject, here: Surroundings) -> _Seen:
    home = subject.folder("provider/home")
    traces = Traces(
        folders={"the unpacked release": subject.copy.root, "the model": subject.model},
        holders={"the folder beside its home": home.parent},
        users_home=here.users_home,
    )
    version = provider.ask_version(subject.command, home=home)
    found = [checks.compare("--version", expected=plan.version, observed=version)]
    findings.require(found, "the executable is of another version")
    found += _launches(plan, subject, home)
    interview, health, expected, log = _interview(plan, subject, home)
    found.append(smoke_questions.version_told(interview.contract, plan.version, health))
    found += smoke_questions.judge(interview)
    found += agreement.judge_all(plan.smoke, interview, expected)
    found += traces.judge()
    findings.require(found, "the provider does not do what users need: do not ship")
    return _Seen(version=version, interview=interview, expected=expected, checks=found, log=log)


def _launches(plan: ReleasePlan, subject: _Subject, home: Path) -> list[Check]:
    """Every other executable of a bundle, and what the main one says of itself."""
    found: list[Check] = []
    if subject.command.kind == "bundle":
        found += smoke_launch.others(
            plan,
            subject.copy.app,
            subject.command,
            subject.copy.facts,
            lambda name: subject.folder(f"others/{name}"),
        )
    told = provider.runtime_smoke(subject.command, home=home, built_for=_built_for(plan))
    findings.require(told, "its own runtime-smoke fails")
    return found + told


def _interview(
    plan: ReleasePlan, subject: _Subject, home: Path
) -> tuple[Interview, str, Reference, str]:
    smoke = plan.smoke
    # As often as the provider is asked, plain and streamed: else one of the two would be cold.
    asked = [
        reference.Prompt(prompt=one, max_tokens=smoke.max_tokens, times=2) for one in smoke.prompts
    ]
    asked.append(reference.Prompt(prompt=smoke.long_prompt, max_tokens=smoke.long_tokens))
    at_once = smoke_questions.at_once(smoke)
    waits = sum(one.times for one in asked) + len(at_once)
    seconds = plan.limits.provider_start_seconds + plan.limits.request_seconds * waits
    own_home = subject.folder("others/reference")
    with reference.generating(subject.model, asked, home=own_home, rounds=at_once) as pending:
        expected: Reference | None = None
        if subject.command.kind == "bundle":
            # One after the other: the figures of a real provider must not suffer from a neighbour.
            expected = pending.result(seconds=seconds)
        interview, health, log = _ask(plan, subject, home)
        return interview, health, expected or pending.result(seconds=seconds), log


def _ask(plan: ReleasePlan, subject: _Subject, home: Path) -> tuple[Interview, str, str]:
    wanted = str(subject.model)
    if subject.command.kind == "bundle":
        wanted = hub_cache.show(
            subject.model, model=plan.smoke.model, digest=subject.model_digest, home=home
        )
    limits = plan.limits
    with provider.serve(
        subject.command, model=wanted, home=home, start_seconds=limits.provider_start_seconds
    ) as serving:
        interview = smoke_questions.hold(
            serving, plan.smoke, wanted=wanted, seconds=limits.request_seconds
        )
    interview.checks += serving.end
    return interview, serving.version, serving.record


def _ran(subject: _Subject) -> str:
    if subject.command.kind == "bundle":
        return subject.executable.relative_to(subject.copy.root).as_posix()
    return " ".join(["stand-in:", *subject.command.argv[1:]])


def _tell(reporter: Reporter, subject: _Subject, evidence: SmokeEvidence) -> None:
    rate = min(prompt.decode_tokens_per_second for prompt in evidence.prompts)
    beside = min(prompt.reference_decode_tokens_per_second for prompt in evidence.prompts)
    reporter.note(f"decodes {rate:.1f} tokens/s, mlx-lm {beside:.1f} tokens/s")
    if subject.command.kind == "stand-in":
        reporter.note(WIRING_ONLY)
    if evidence.install:
        tried = {check.name for check in evidence.install if check.outcome == "passed"}
        reporter.note(
            f"{len(evidence.needs)} needs of the bundle hold, the installer passed "
            f"{len(tried)} trials"
        )
