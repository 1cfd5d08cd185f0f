"""Smoke: the archive that will ship is unpacked like a user would, runs, and answers.

The answers are compared with mlx-lm's, from the same model, in its own process. Only the bundle's
own executable on Apple Silicon proves the release; a stand-in proves the wiring around it, and
the environment says which of the two it accepts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from release_tool import errors, smoke_lanes
from release_tool.apple.checks import Check
from release_tool.files import hashing
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import host as this_host
from release_tool.services import hub_cache, reference, system_tar
from release_tool.services.model_store import ModelStore
from release_tool.services.provider_command import ProviderCommand
from release_tool.stages import (
    bundle_needs,
    final_copy,
    mac_verdicts,
    smoke_model,
    smoke_record,
    smoke_scratch,
    smoke_subject,
    speed,
)
from release_tool.stages.final_copy import Unpack
from release_tool.stages.install_trial import Candidate, ReleaseBefore
from release_tool.stages.public_copy import Reader
from release_tool.stages.smoke_observation import Seen, observe
from release_tool.stages.smoke_record import Kept
from release_tool.stages.smoke_refusal import Show, SoFar
from release_tool.stages.smoke_subject import Subject
from release_tool.values import (
    Host,
    ReleaseArchive,
    SmokeEvidence,
    SmokeFigure,
    SmokePrompt,
    SmokeRound,
)

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
_LACKS = "the bundle lacks what it needs on a user's Mac"
_DOES_NOT_SERVE = "the provider does not do what users need: do not ship"
_INSTALLS_BADLY = "the installer does not do what users rely on"
_SLOW = "the provider is too slow: do not ship"
WIRING_ONLY = (
    "proves the wiring only: dev and prod need the bundle's own executable on Apple Silicon"
)
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
    before: ReleaseBefore | None = None,
    show: Show | None = None,
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
        before: an earlier release, over which the installer is tried, too.
        show: makes a page of a refused run, which is kept in the workspace and named in the error.
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
    with smoke_scratch.folder() as scratch:
        copy = final_copy.unpack(
            plan,
            archive,
            workspace.path(archive.path),
            scratch,
            reporter=reporter,
            read=read,
            system_unpack=here.system_unpack,
        )
        subject = smoke_subject.find(plan, archive, copy, stand_in, folder, scratch)
        sofar = SoFar(
            workspace=workspace,
            folder=smoke_lanes.folder(plan, here.host),
            facts={"version": plan.version, "archive_sha256": archive.sha256},
            show=show,
        )
        candidate = Candidate(
            plan=plan,
            archive=archive,
            file=workspace.path(archive.path),
            unpacked=copy.root,
            scratch=scratch / "installer",
            before=before,
        )
        with sofar.kept():
            judged = _judge(subject, candidate, sofar, here, needs, install)
        evidence = _evidence(
            candidate,
            subject,
            judged,
            host=here.host,
            model=plan.smoke.model if model is None else folder.name,
            kept=smoke_record.keep(
                workspace, judged.seen.interview, judged.seen.log, folder=sofar.folder
            ),
        )
    _tell(reporter, subject, evidence)
    return evidence


class _Speeds(NamedTuple):
    """What was measured."""

    prompts: tuple[SmokePrompt, ...]
    rounds: tuple[SmokeRound, ...]
    figures: tuple[SmokeFigure, ...]


class _Judged(NamedTuple):
    """Everything that was found, and refuses nothing."""

    needs: Sequence[Check]
    verdicts: Mapping[str, str]
    seen: Seen
    speeds: _Speeds
    installed: Sequence[Check]
    fast: Sequence[Check]


def _judge(
    subject: Subject,
    candidate: Candidate,
    sofar: SoFar,
    here: Surroundings,
    needs: Needs,
    install: Install | None,
) -> _Judged:
    """Judge everything in its order: nothing is started that is known to be bad."""
    plan = candidate.plan
    needed = sofar.require("needs of the bundle", needs(plan, subject.copy.root), _LACKS)
    ask = here.judge or mac_verdicts.of_unpacked(plan)
    verdicts = ask(subject.copy.app) if here.host.system == "macos" else {}
    seen = sofar.seen = observe(plan, subject, users_home=here.users_home, require=sofar.require)
    speeds = _speeds(plan, seen, sofar)
    tried = install(candidate) if install else ()
    installed = sofar.require("installer", tried, _INSTALLS_BADLY)
    fast = sofar.require("speed", tuple(speed.judge(plan.smoke, speeds.figures)), _SLOW)
    return _Judged(needed, verdicts, seen, speeds, installed, fast)


def _evidence(
    candidate: Candidate,
    subject: Subject,
    judged: _Judged,
    *,
    host: Host,
    model: str,
    kept: Kept,
) -> SmokeEvidence:
    plan, archive, seen = candidate.plan, candidate.archive, judged.seen
    return SmokeEvidence(
        archive_sha256=archive.sha256,
        test_outcome=archive.test_outcome,
        kind=subject.command.kind,
        contract=subject.command.contract.name,
        executable_sha256=subject.digest,
        cdhash=subject.cdhash,
        ran=smoke_subject.ran(subject),
        ran_sha256=hashing.sha256_of(Path(subject.command.argv[0])),
        version=seen.version,
        version_ran=subject.command.kind == "bundle",
        host=host,
        model=model,
        model_sha256=subject.model_digest,
        reference=f"mlx-lm {seen.expected.version}",
        agreement=smoke_record.policy(plan.smoke),
        long=smoke_record.long(plan.smoke, seen.interview, seen.expected),
        prompts=judged.speeds.prompts,
        rounds=judged.speeds.rounds,
        figures=judged.speeds.figures,
        thresholds=smoke_record.outcomes(judged.fast),
        checks=smoke_record.outcomes(seen.checks),
        macos_verdicts=dict(judged.verdicts),
        needs=smoke_record.outcomes(judged.needs),
        install=smoke_record.outcomes(judged.installed),
        transcript=kept.transcript,
        transcript_sha256=kept.transcript_sha256,
        log=kept.log,
        log_sha256=kept.log_sha256,
    )


def _speeds(plan: ReleasePlan, seen: Seen, sofar: SoFar) -> _Speeds:
    """The figures of a provider that does what users need; of another they are told, if any."""
    try:
        sofar.require("provider", seen.checks, _DOES_NOT_SERVE)
    except errors.VerificationError:
        # Answers that are wrong may give no figures.
        with suppress(ValueError):
            sofar.groups["speed"] = tuple(speed.judge(plan.smoke, _measured(plan, seen).figures))
        raise
    return _measured(plan, seen)


def _measured(plan: ReleasePlan, seen: Seen) -> _Speeds:
    prompts = smoke_record.prompts(plan.smoke, seen.interview, seen.expected)
    rounds = smoke_record.rounds(seen.interview, seen.expected)
    return _Speeds(prompts, rounds, speed.of(prompts, rounds))


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


def _tell(reporter: Reporter, subject: Subject, evidence: SmokeEvidence) -> None:
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
