"""Smoke: the archive that will ship is unpacked like a user would, runs, and answers.

The answers are compared with mlx-lm's, from the same model, in its own process. Only the bundle's
own executable on Apple Silicon proves the release; a stand-in proves the wiring around it, and
the environment says which of the two it accepts.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from release_tool import errors, layout
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.apple.detached_signature import PREFIX
from release_tool.files import archive_reader, hashing
from release_tool.files.archive_reader import Limits
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import host as this_host
from release_tool.services import hub, provider, reference, system_tar
from release_tool.services.chat import Completion, Question
from release_tool.services.provider import ProviderCommand
from release_tool.services.reference import Reference, ReferenceText
from release_tool.stages import bundle_needs, findings, mac_verdicts
from release_tool.values import CheckOutcome, Host, ReleaseArchive, SmokeEvidence, SmokePrompt

READS = (
    "version",
    "product.name",
    "product.team_id",
    "product.architecture",
    "product.minimum_macos",
    "bundle",
    "smoke",
    "limits.archive_bytes",
    "limits.member_bytes",
    "limits.members",
    "limits.provider_start_seconds",
    "limits.request_seconds",
    "environment.provider",
    "environment.trust",
    "environment.notarization",
    "environment.built_in",
    "environment.not_built_in",
    "flavour.layout",
)
WIRING_ONLY = (
    "proves the wiring only: dev and prod need the bundle's own executable on Apple Silicon"
)
# What a killed run left behind goes with the next one.
_SCRATCH_PREFIX = "release-tool-smoke-"

Judge = Callable[[Path], Mapping[str, str]]
Needs = Callable[[ReleasePlan, Path], Sequence[Check]]


def run(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    *,
    workspace: Workspace,
    reporter: Reporter,
    stand_in: ProviderCommand | None = None,
    model: Path | None = None,
    hub_cache: Path | None = None,
    host: Host | None = None,
    judge: Judge | None = None,
    needs: Needs = bundle_needs.judge,
) -> SmokeEvidence:
    """Run an inference from the archive that will ship, and compare it with the reference.

    Args:
        plan: the release plan.
        archive: the archive.
        workspace: holds the archive.
        reporter: sees what was observed.
        stand_in: the provider that answers where the environment wants a stand-in.
        model: a model's folder; None for the plan's model, from `hub_cache`.
        hub_cache: the cache of the model hub; None for the one of this user.
        host: this machine, unless a test says otherwise.
        judge: asks macOS about the app; None for Apple's own tools.
        needs: judges the unpacked release without a Mac, before anything is started.

    Raises:
        VerificationError: the bundle lacks what it needs on a user's Mac, macOS refuses the app,
            it does not start or answer, its version is another one, or its answers differ from
            each other or from the reference.
        HostError: this host cannot run it, or lacks mlx-lm or the model.
        UsageError: no stand-in is given where one is wanted.
    """
    machine = host or this_host.describe()
    _require_runnable(plan, machine, stand_in)
    reference.require()
    folder = hub.find(
        str(model or plan.smoke.model),
        revision=plan.smoke.model_revision,
        hub=hub_cache or hub.cache_folder(Path.home()),
    )
    with _scratch() as scratch:
        app = _unpack(plan, archive, workspace.path(archive.path), scratch, reporter)
        executable = app / layout.of(plan).place(plan.bundle.main_executable)
        subject = _Subject(
            command=_command(plan, executable, stand_in),
            executable=executable,
            digest=_require_executable(executable, archive),
            model=folder,
            model_digest=hub.digest(folder),
            scratch=scratch,
        )
        needed = needs(plan, app.parent)
        findings.require(needed, "the bundle lacks what it needs on a user's Mac")
        ask = judge or mac_verdicts.of_unpacked(plan)
        verdicts = ask(app) if machine.system == "macos" else {}
        version, prompts = _observe(plan, subject)
        _tell(reporter, subject, prompts)
        return SmokeEvidence(
            archive_sha256=archive.sha256,
            test_outcome=archive.test_outcome,
            kind=subject.command.kind,
            executable_sha256=subject.digest,
            ran=_ran(subject, app),
            ran_sha256=hashing.sha256_of(Path(subject.command.argv[0])),
            version=version,
            version_ran=subject.command.kind == "bundle",
            host=machine,
            model=plan.smoke.model if model is None else folder.name,
            model_sha256=subject.model_digest,
            prompts=prompts,
            macos_verdicts=dict(verdicts),
            needs=tuple(CheckOutcome.model_validate(check.as_json()) for check in needed),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """What is run, with what, and where."""

    command: ProviderCommand
    executable: Path
    digest: str
    model: Path
    model_digest: str
    scratch: Path

    def home(self, name: str) -> Path:
        """A fresh home."""
        folder = self.scratch / name
        folder.mkdir(mode=0o700)
        return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """One prompt, asked in both ways."""

    plain: Completion
    streamed: Completion


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


def _command(
    plan: ReleasePlan, executable: Path, stand_in: ProviderCommand | None
) -> ProviderCommand:
    if plan.environment.provider == "bundle" or stand_in is None:
        return ProviderCommand(argv=(str(executable),), kind="bundle")
    told = {**stand_in.environment, provider.STAND_IN_FOR: str(executable)}
    return replace(stand_in, environment=told)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder outside every build tree: an app that only runs beside its build would show it."""
    parent = Path(tempfile.gettempdir())
    for old in parent.glob(f"{_SCRATCH_PREFIX}*"):
        if old.lstat().st_uid == os.getuid() and not _is_used(old):
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{_SCRATCH_PREFIX}{os.getpid()}-", dir=parent, ignore_cleanup_errors=True
    ) as name:
        # On macOS the temporary folder is behind a link, and an app should see its true path.
        yield Path(name).resolve()


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


def _unpack(
    plan: ReleasePlan, archive: ReleaseArchive, path: Path, scratch: Path, reporter: Reporter
) -> Path:
    folder = scratch / "unpacked"
    folder.mkdir()
    limits = Limits(
        compressed_bytes=plan.limits.archive_bytes,
        member_bytes=plan.limits.member_bytes,
        members=plan.limits.members,
    )
    found = archive_reader.unpack(path, folder, limits=limits, reporter=reporter)
    if found.sha256 != archive.sha256:
        raise errors.VerificationError(
            "is not the archive that was made",
            subject=archive.path,
            expected=archive.sha256,
            observed=found.sha256,
        )
    if any(name.startswith(PREFIX) for member in found.members for name in member.attributes):
        # Signatures in extended attributes: only macOS's own tar puts them back.
        folder = scratch / "unpacked by tar"
        folder.mkdir()
        system_tar.unpack(path, folder)
    return folder / layout.of(plan).top


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


def _observe(plan: ReleasePlan, subject: _Subject) -> tuple[str, tuple[SmokePrompt, ...]]:
    version = provider.ask_version(subject.command, home=subject.home("version"))
    found = [checks.compare("--version", expected=plan.version, observed=version)]
    findings.require(found, "the executable is of another version")
    smoke, limits = plan.smoke, plan.limits
    seconds = limits.provider_start_seconds + limits.request_seconds * len(smoke.prompts)
    with reference.generating(
        subject.model,
        smoke.prompts,
        max_tokens=smoke.max_tokens,
        home=subject.home("reference"),
    ) as pending:
        expected: Reference | None = None
        if subject.command.kind == "bundle":
            # One after the other: the figures of a real provider must not suffer from a neighbour.
            expected = pending.result(seconds=seconds)
        health, answers = _ask(plan, subject)
        expected = expected or pending.result(seconds=seconds)
    if health:
        found.append(checks.compare("version in /health", expected=plan.version, observed=health))
    prompts = []
    for prompt, answer, text in zip(smoke.prompts, answers, expected.texts, strict=True):
        found += _compare(prompt, answer, text)
        prompts.append(_prompt(prompt, answer, text))
    findings.require(
        found,
        "the provider's answers are not those of the reference",
        hint="the model, its chat template or the build differs: do not ship",
    )
    return version, tuple(prompts)


def _ask(plan: ReleasePlan, subject: _Subject) -> tuple[str, Sequence[_Answers]]:
    home = subject.home("home")
    wanted = str(subject.model)
    if subject.command.kind == "bundle":
        wanted = hub.show(
            subject.model, model=plan.smoke.model, digest=subject.model_digest, home=home
        )
    seconds = plan.limits.request_seconds
    with provider.serve(
        subject.command, model=wanted, home=home, start_seconds=plan.limits.provider_start_seconds
    ) as serving:
        name = serving.model(wanted)
        answers = []
        for prompt in plan.smoke.prompts:
            asked = Question(model=name, prompt=prompt, max_tokens=plan.smoke.max_tokens)
            plain = serving.complete(asked, seconds=seconds)
            answers.append(_Answers(plain=plain, streamed=serving.stream(asked, seconds=seconds)))
        return serving.version, answers


def _compare(prompt: str, answers: _Answers, expected: ReferenceText) -> Iterator[Check]:
    plain, streamed = _shown(answers.plain.text), _shown(answers.streamed.text)
    yield checks.compare("streamed text", expected=plain, observed=streamed, subject=prompt)
    yield checks.compare(
        "text of the reference", expected=_shown(expected.text), observed=plain, subject=prompt
    )


def _shown(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _prompt(prompt: str, answers: _Answers, expected: ReferenceText) -> SmokePrompt:
    plain, streamed = answers.plain, answers.streamed
    # The plain answer always tells how many tokens the same text has.
    counted = replace(streamed, tokens=plain.tokens)
    return SmokePrompt(
        prompt=prompt,
        text=plain.text,
        completion_tokens=plain.tokens,
        agrees=plain.text == streamed.text == expected.text,
        first_token_seconds=round(streamed.first_token_seconds, 4),
        decode_tokens_per_second=round(counted.decode_tokens_per_second, 2),
        reference_decode_tokens_per_second=round(expected.decode_tokens_per_second, 2),
    )


def _ran(subject: _Subject, app: Path) -> str:
    if subject.command.kind == "bundle":
        return subject.executable.relative_to(app.parent).as_posix()
    return " ".join(["stand-in:", *subject.command.argv[1:]])


def _tell(reporter: Reporter, subject: _Subject, prompts: Sequence[SmokePrompt]) -> None:
    rate = min(prompt.decode_tokens_per_second for prompt in prompts)
    beside = min(prompt.reference_decode_tokens_per_second for prompt in prompts)
    reporter.note(f"decodes {rate:.1f} tokens/s, mlx-lm {beside:.1f} tokens/s")
    if subject.command.kind == "stand-in":
        reporter.note(WIRING_ONLY)
