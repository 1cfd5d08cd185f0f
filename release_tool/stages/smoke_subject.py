"""What is run, as it is found in the unpacked archive, or what stands in for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from release_tool import errors, layout
from release_tool.files import hashing
from release_tool.plan import ReleasePlan
from release_tool.services import provider_command
from release_tool.services.provider_command import ProviderCommand
from release_tool.services.provider_contract import CONTRACTS, BuiltFor
from release_tool.stages import smoke_launch, smoke_model
from release_tool.stages.final_copy import FinalCopy
from release_tool.values import ReleaseArchive


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is run, with what, and where."""

    command: ProviderCommand
    copy: FinalCopy
    executable: Path
    digest: str
    cdhash: str
    """Of the unpacked executable; empty where nobody has read its signature."""
    model: Path
    model_digest: str
    scratch: Path

    def folder(self, name: str) -> Path:
        """A fresh folder."""
        folder = self.scratch / name
        folder.mkdir(mode=0o700, parents=True)
        return folder


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
    address = plan.endpoints.coordinator_url
    told = {
        provider_command.STAND_IN_FOR: str(executable),
        provider_command.STAND_IN_CONTRACT: contract.name,
        provider_command.STAND_IN_BUILT_FOR: f"{plan.environment.name} {address}",
    }
    return replace(
        stand_in,
        environment={**stand_in.environment, **told},
        contract=contract,
        authorization=authorization,
    )


def built_for(plan: ReleasePlan) -> BuiltFor:
    """What the provider has to say of the environment that it was built for."""
    host = urlsplit(plan.endpoints.coordinator_url).netloc.lower()
    return BuiltFor(
        environment=plan.environment.name,
        coordinators=tuple(dict.fromkeys((host, *plan.environment.built_in))),
    )


def find(
    plan: ReleasePlan,
    archive: ReleaseArchive,
    copy: FinalCopy,
    stand_in: ProviderCommand | None,
    model: Path,
    scratch: Path,
) -> Subject:
    """What is run of an unpacked archive.

    Raises:
        VerificationError: its executable, its signature or the model is another one than was
            recorded.
    """
    path = layout.of(plan).place(plan.bundle.main_executable)
    executable = copy.app / path
    command = _command(plan, executable, stand_in)
    if command.kind == "bundle":
        command = replace(command, explain=smoke_launch.explaining(path, copy.facts))
    return Subject(
        command=command,
        copy=copy,
        executable=executable,
        digest=_require_executable(executable, archive),
        cdhash=_require_cdhash(copy, archive),
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


def _require_cdhash(copy: FinalCopy, archive: ReleaseArchive) -> str:
    if copy.facts is None:
        return ""
    observed = copy.facts.main.cdhash if copy.facts.main else ""
    if observed != archive.cdhash:
        raise errors.VerificationError(
            "the app's signature is not the one that was recorded",
            subject=copy.app.name,
            expected=archive.cdhash,
            observed=observed or "no signature",
        )
    return observed


def ran(subject: Subject) -> str:
    """What was started, for the record."""
    if subject.command.kind == "bundle":
        return subject.executable.relative_to(subject.copy.root).as_posix()
    return " ".join(["stand-in:", *subject.command.argv[1:]])
