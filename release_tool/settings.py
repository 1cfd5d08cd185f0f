"""The settings of one environment: endpoints for the plan, secrets beside it, what is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from release_tool import credentials, env_file, release_file
from release_tool.credentials import Lookup, Missing, Secret, Setting
from release_tool.origin import Origin, Origins
from release_tool.plan import Endpoints, Environment
from release_tool.release_yaml import Document, Location

# Services of others: named by the release file, or made for the run.
_SERVICES = (
    *("timestamp_url", "notary_url", "notary_upload_url", "ticket_url"),
    *("github_api_url", "github_uploads_url"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings made for the run, for an embedded environment: bare names to values."""

    values: Mapping[str, str] = field(repr=False)
    name: str = "rehearsal environment"


@dataclass(kw_only=True)
class Settled:
    """What was found for one environment, and what is wrong with it."""

    endpoints: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    origins: Origins = field(default_factory=dict)

    def as_plan(self) -> Endpoints:
        """The part of the plan; a missing endpoint is empty."""
        return Endpoints.model_validate(self.endpoints)


def settle(
    environment: Environment,
    pinned: release_file.KnownEndpoints,
    document: Document,
    *,
    environ: Mapping[str, str],
    made: Settings | None,
    supplied: Collection[str] = (),
) -> Settled:
    """Look up every setting of an environment.

    Args:
        environment: whose settings.
        pinned: endpoints that the release file knows; a set variable wins over them.
        document: the release file, for the line of a pinned endpoint.
        environ: the process's environment. An embedded environment never sees it.
        made: what an embedded environment made for the run; None before it runs.
        supplied: settings that a flag replaces; what they hold is not judged.
    """
    settled = Settled()
    lookup = _lookup(environment, environ, made)
    for setting in credentials.SETTINGS:
        found = _find(setting, lookup, settled, judged=setting.name not in supplied)
        if not setting.secret:
            _endpoint(setting, found, settled, environment, pinned, document)
        elif found:
            settled.secrets[setting.name] = found
        if _origin_name(setting) not in settled.origins:
            absent = _absent(setting, lookup, settled, environment)
            settled.origins[_origin_name(setting)] = absent
        if not setting.secret:
            name = setting.name.lower()
            settled.origins[f"endpoints.{name}"] = settled.origins[_origin_name(setting)]
    for service in _SERVICES:
        _service(service, environment, document, made, settled)
    return settled


def _lookup(
    environment: Environment, environ: Mapping[str, str], made: Settings | None
) -> Lookup | None:
    if environment.embedded:
        return Lookup(values=made.values, source=made.name) if made else None
    return Lookup(
        values=environ,
        prefix=environment.prefix,
        legacy_fallback=environment.legacy_fallback,
    )


def _find(
    setting: Setting, lookup: Lookup | None, settled: Settled, *, judged: bool
) -> Secret | None:
    found = credentials.find(setting, lookup) if lookup else None
    if lookup is None or found is None:
        return None
    settled.origins[_origin_name(setting)] = _origin(lookup, found)
    if judged and (fault := credentials.fault(setting, found)):
        settled.problems.append(fault)
    if notice := credentials.legacy_notice(setting, lookup, found):
        settled.notices.append(notice)
    return found.value


def _origin(lookup: Lookup, found: credentials.Found) -> Origin:
    if lookup.source:
        return Origin(kind="made for the run", where=lookup.source)
    if place := env_file.place(lookup.values, found.variable):
        return Origin(kind="settings file", where=f"{found.variable} in {place}")
    return Origin(kind="environment variable", where=found.variable)


def _absent(
    setting: Setting, lookup: Lookup | None, settled: Settled, environment: Environment
) -> Origin:
    # An embedded environment hands its identity and profile on as files of the run.
    if lookup is None or (environment.embedded and not setting.per_environment):
        return Origin(kind="made for the run")
    if _is_left_out(setting, environment):
        return Origin(kind="not set")
    settled.missing.append(credentials.missing(setting, lookup))
    return Origin(kind="missing")


def _is_left_out(setting: Setting, environment: Environment) -> bool:
    if setting.name == credentials.ADMIN_KEY:
        # An embedded environment makes its own.
        return environment.embedded or environment.fleet_watch == "unchecked"
    return setting.optional or setting.name in _unwanted(environment)


def _unwanted(environment: Environment) -> tuple[str, ...]:
    """What an environment does without, by what the release file asks of it."""
    unsigned = () if environment.provenance else (credentials.PROVENANCE_KEY,)
    return unsigned if environment.github_release else ("GITHUB_TOKEN", *unsigned)


def _endpoint(
    setting: Setting,
    found: Secret | None,
    settled: Settled,
    environment: Environment,
    pinned: release_file.KnownEndpoints,
    document: Document,
) -> None:
    key = setting.name.lower()
    known = str(getattr(pinned, key)).rstrip("/")
    value = found.reveal().rstrip("/") if found else known
    settled.endpoints[key] = value
    if found is None and known:
        place = document.at(("environments", environment.name, "endpoints", key))
        settled.origins[_origin_name(setting)] = Origin(kind="file", where=place)
    elif known and value != known:
        settled.notices.append(
            f"{settled.origins[_origin_name(setting)]} differs from the {key} in {document.name}"
            " and wins over it"
        )


def _service(
    service: str,
    environment: Environment,
    document: Document,
    made: Settings | None,
    settled: Settled,
) -> None:
    name = f"endpoints.{service}"
    if environment.embedded:
        settled.endpoints[service] = made.values.get(service.upper(), "") if made else ""
        settled.origins[name] = Origin(kind="made for the run", where=made.name if made else "")
        return
    settled.endpoints[service] = getattr(environment, service)
    location: Location = ("environments", environment.name, service)
    settled.origins[name] = (
        Origin(kind="file", where=document.at(location))
        if location in document.lines
        else Origin(kind="default")
    )


def _origin_name(setting: Setting) -> str:
    return f"credentials.{setting.name}"
