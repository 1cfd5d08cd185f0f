"""One cascade: `release.yaml`, the environment and the flags become one frozen plan.

Each value keeps where it came from, and every problem is reported at once, before any work.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from release_tool import (
    credentials,
    data,
    env_file,
    errors,
    layout,
    release_file,
    release_yaml,
    source,
    version,
)
from release_tool.credentials import Credentials, Missing
from release_tool.origin import Origin, Origins
from release_tool.plan import Endpoints, Environment, Flavour, ReleasePlan, Source
from release_tool.release_file import EnvironmentSection, FlavourSection, ReleaseFile
from release_tool.release_yaml import Document, Location
from release_tool.services import coordinator_rules
from release_tool.settings import Settings as Settings
from release_tool.settings import Settled, settle

# Variables by which a job hands on what its first job resolved.
ENVIRONMENT_VARIABLE = "RELEASE_ENVIRONMENT"
VERSION_VARIABLE = "RELEASE_VERSION"
FLAVOUR_VARIABLE = "RELEASE_FLAVOUR"
# The run that built the release; a later run that goes on with it names the first one.
RUN_VARIABLES = ("RELEASE_CI_RUN_ID", "GITHUB_RUN_ID")
_RUN = re.compile(r"[0-9]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A value of the plan that a flag sets."""

    name: str
    """As it is typed: `--model`."""
    value: JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for. Only `cli` fills it from the process's environment."""

    environ: Mapping[str, str] = field(repr=False)
    working_folder: Path
    config_file: Path | None = None
    environment: str | None = None
    version: str | None = None
    flavour: str | None = None
    flags: Mapping[str, Flag] = field(default_factory=dict)
    """By dotted name: `smoke.model`, `profile.minimum_days`."""
    settings: Settings | None = None
    stages: Collection[str] | None = None
    """The stages that will run, for the list of missing settings; None for all."""
    supplied: Collection[str] = ()
    """Settings that another flag replaces, such as a profile given as a file."""
    from_source: bool = True
    """Whether a release is made of this tree: only then its tag and the rules for it count."""
    version_flag: str = "--version"
    """What the version was typed behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The plan, where each value came from, and the credentials that won."""

    plan: ReleasePlan
    origins: Mapping[str, Origin]
    """By dotted name, each leaf of the plan and `credentials.NAME` for each setting."""
    credentials: Credentials
    notices: tuple[str, ...]
    request: Request
    tag_prefixes: tuple[str, ...]
    """Of every flavour of the file: the versions of all are one series."""

    def require(self) -> None:
        """Refuse when a setting is missing that the requested stages need.

        Raises:
            CredentialError: naming all of them.
        """
        self.credentials.require(self._stages, supplied=self.request.supplied)

    def lacking(self) -> list[Missing]:
        """The missing settings that the requested stages need."""
        return self.credentials.lacking(self._stages, supplied=self.request.supplied)

    @property
    def _stages(self) -> Collection[str]:
        """Those that are asked for, else all that this layout has something to do for."""
        if self.request.stages is not None:
            return self.request.stages
        named = {stage for setting in credentials.SETTINGS for stage in setting.stages}
        return named - layout.of(self.plan).omitted.keys()


def resolve(request: Request) -> Resolved:
    """Resolve everything, without any work and without a network.

    Missing credentials do not stop it, since a single stage needs few of them: ask
    `Resolved.require`.

    Raises:
        UsageError: the file, the flags or the source tree are not fit; lists every reason.
        HostError: git, or the history that a proof needs, is missing.
    """
    return _Resolution(request, _document(request)).run()


def leaves(value: object, location: Location = ()) -> Iterator[tuple[Location, Any]]:
    """Each single value of a dumped plan with its place; an empty list is one too."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*location, key))
    elif isinstance(value, (list, tuple)) and value:
        for at, inner in enumerate(value):
            yield from leaves(inner, (*location, at))
    else:
        yield location, value


def _document(request: Request) -> Document:
    chosen = data.release_file_of(request.working_folder, request.config_file)
    document = release_yaml.read(chosen)
    changed = copy.deepcopy(document.data)
    for name, flag in request.flags.items():
        place: Any = changed
        *steps, last = name.split(".")
        for step in steps:
            place = place.setdefault(step, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            place[last] = flag.value
    return Document(
        name=document.name, data=changed, lines=document.lines, problems=document.problems
    )


class _Resolution:
    """One resolution: collects problems and goes on as far as it can."""

    def __init__(self, request: Request, document: Document) -> None:
        self.request = request
        self.document = document
        self.problems: list[str] = []
        self.host_problem: errors.HostError | None = None
        self.notices: list[str] = []
        self.origins: Origins = {}
        self.missing: list[Missing] = []
        self.whole = True
        self.sections: Mapping[str, EnvironmentSection] = {}
        """Of a file that gives no release those that can be read: nothing is said of others."""
        self.flavours: Mapping[str, FlavourSection] = {}

    def run(self) -> Resolved:
        flagged: dict[Location, str] = {
            tuple(name.split(".")): flag.name for name, flag in self.request.flags.items()
        }
        release, problems = release_file.validate(self.document, flagged)
        self.problems += problems
        self.whole = release is not None
        self.sections = release.environments if release else release_file.sections(self.document)
        self.flavours = release.flavours if release else release_file.flavours(self.document)
        tag, unknown_tag = self._tag()
        flavour = self._flavour(tag, release)
        environment = self._environment(tag)
        chosen = self._version(environment, tag, unknown_tag)
        settled = self._settings(environment) if environment else Settled()
        if release is None or environment is None or flavour is None:
            raise self._refusal()
        release = self._with_own_smoke(release.of_flavour(flavour.name), environment)
        self._approvable(release, environment)
        tree = self._source(release, environment, flavour, chosen, tag)
        if self.problems or self.host_problem or chosen is None:
            raise self._refusal()
        plan = _plan(release, environment, flavour, chosen, tree, settled.as_plan())
        return Resolved(
            plan=plan,
            origins=self._all_origins(plan),
            credentials=Credentials(secrets=settled.secrets, missing=tuple(self.missing)),
            notices=tuple(self.notices),
            request=self.request,
            tag_prefixes=tuple(self._prefixes()),
        )

    def _tag(self) -> tuple[version.Tag | None, str]:
        """The release tag that a job runs on, or the name of a tag that is none.

        It says what is released there; where nothing is made of this tree, it says nothing.
        """
        if not self.request.from_source:
            return None, ""
        try:
            name = version.ref_tag(self.request.environ)
        except errors.UsageError as problem:
            self.problems.append(f"{problem.message}: {problem.observed}")
            return None, ""
        tag = version.read_tag(name, self._prefixes())
        return tag, "" if tag else name

    def _prefixes(self) -> dict[str, str]:
        """The flavours by the prefix of their tags."""
        return {section.tag_prefix: name for name, section in self.flavours.items()}

    def _flavour(self, tag: version.Tag | None, release: ReleaseFile | None) -> Flavour | None:
        name, origin = self._named_flavour(tag, release)
        self.origins["flavour.name"] = origin
        section = self.flavours.get(name)
        if section is None:
            self._if_whole(f"{origin}: no flavour {name!r}{_known(name, self.flavours)}")
            return None
        if tag and self._prefixes()[tag.prefix] != name:
            self.problems.append(
                f"{origin} says flavour {name} and tag {tag.name} is of"
                f" {self._prefixes()[tag.prefix]}"
            )
        fields = section.model_dump(exclude={"backend", "bundle"})
        return Flavour.model_validate({**fields, "name": name})

    def _named_flavour(
        self, tag: version.Tag | None, release: ReleaseFile | None
    ) -> tuple[str, Origin]:
        explicit = self._explicit(self.request.flavour, "--flavour", FLAVOUR_VARIABLE)
        if explicit:
            return explicit
        if tag:
            return self._prefixes()[tag.prefix], self._tag_origin()
        default = release.default_flavour if release else next(iter(self.flavours))
        return default, self._file_origin(("default_flavour",))

    def _approvable(self, release: ReleaseFile, environment: Environment) -> None:
        """Approvals of October exist for one backend: better said before anything is signed."""
        backend = release.product.backend
        approved = environment.require_qualification and release.coordinator.contract != "2026-05"
        if approved and backend != coordinator_rules.APPROVED_BACKEND:
            self.problems.append(
                f"{environment.name} registers approved builds only, and the coordinator approves"
                f" backend {coordinator_rules.APPROVED_BACKEND}, not {backend}"
            )

    def _environment(self, tag: version.Tag | None) -> Environment | None:
        name, origin = self._named_environment(tag)
        if name is None:
            return None
        self.origins["environment.name"] = origin
        section = self.sections.get(name)
        if section is None:
            self._if_whole(f"{origin}: no environment {name!r}{_known(name, self.sections)}")
            return None
        if tag and section.tags not in ("none", tag.kind):
            self.problems.append(
                f"tag {tag.name} is for a {tag.kind} environment and {name} is for"
                f" {section.tags} tags"
            )
        return section.as_plan(name)

    def _with_own_smoke(self, release: ReleaseFile, environment: Environment) -> ReleaseFile:
        """What the environment says of the smoke run, in place of what the release says."""
        smoke = self.sections[environment.name].smoke(release.smoke)
        return release.model_copy(update={"smoke": smoke})

    def _if_whole(self, text: str) -> None:
        """A problem that is one only where every environment of the file is known."""
        if self.whole:
            self.problems.append(text)

    def _named_environment(self, tag: version.Tag | None) -> tuple[str | None, Origin]:
        explicit = self._explicit(self.request.environment, "--env", ENVIRONMENT_VARIABLE)
        if explicit:
            return explicit
        known = ", ".join(self.sections)
        if tag is None:
            self._if_whole(f"no environment is named: say --env ({known})")
            return None, Origin(kind="default")
        fitting = [name for name, section in self.sections.items() if section.tags == tag.kind]
        if len(fitting) != 1:
            found = ", ".join(fitting) or "no environment"
            self._if_whole(f"tag {tag.name} selects {found}: say --env ({known})")
            return None, Origin(kind="default")
        return fitting[0], self._tag_origin()

    def _explicit(
        self, flag: str | None, flag_name: str, variable: str
    ) -> tuple[str, Origin] | None:
        if flag is not None:
            return flag, Origin(kind="flag", where=flag_name)
        value = self.request.environ.get(variable, "").strip()
        if value:
            return value, Origin(kind="environment variable", where=variable)
        return None

    def _tag_origin(self) -> Origin:
        full = "GITHUB_REF" if self.request.environ.get("GITHUB_REF") else "GITHUB_REF_NAME"
        return Origin(kind="environment variable", where=full)

    def _version(
        self, environment: Environment | None, tag: version.Tag | None, unknown_tag: str
    ) -> str | None:
        explicit = self._explicit(self.request.version, self.request.version_flag, VERSION_VARIABLE)
        if explicit:
            chosen, origin = explicit
            self._against_tag(chosen, origin, environment, tag)
        elif tag:
            chosen, origin = tag.version, self._tag_origin()
        elif environment and environment.default_version:
            chosen = environment.default_version
            origin = self._file_origin(("environments", environment.name, "default_version"))
        else:
            # An environment that cannot be read may have a version of its own.
            if self.whole or environment or unknown_tag:
                self.problems.append(_no_version(unknown_tag, self._prefixes()))
            return None
        self.origins["version"] = origin
        if not version.is_version(chosen):
            self.problems.append(
                f"{origin}: {chosen[:128]!r} is not a version that the coordinator and SemVer"
                f" both accept: expected {version.example(chosen)}"
            )
            return None
        if environment and environment.tags == "release" and version.kind(chosen) != "release":
            self.problems.append(f"{chosen} is a development version: not for {environment.name}")
        return chosen

    def _against_tag(
        self,
        chosen: str,
        origin: Origin,
        environment: Environment | None,
        tag: version.Tag | None,
    ) -> None:
        if tag is None or tag.version == chosen:
            return
        text = f"{origin} says {chosen!r} and tag {tag.name} says {tag.version}"
        if environment and environment.require_default_branch:
            self.problems.append(text)
        else:
            self.notices.append(f"{text}: the first one counts")

    def _source(
        self,
        release: ReleaseFile,
        environment: Environment,
        flavour: Flavour,
        chosen: str | None,
        tag: version.Tag | None,
    ) -> Source:
        try:
            found = source.read(
                self.request.working_folder,
                credentials.scrubbed(self.request.environ),
                version=chosen or "",
                tag=tag.name if tag else "",
                prefix=flavour.tag_prefix,
                changelog_bytes=release.limits.changelog_bytes,
            )
            if found.cut:
                self.notices.append(f"the text of tag {found.tag} is cut to fit the coordinator")
            faults: list[str] = []
            if self.request.from_source:
                faults, self.host_problem = source.faults(
                    found, environment, release.source.default_branch
                )
        except errors.HostError as problem:
            self.host_problem = problem
            return source.UNKNOWN
        self.problems += faults
        known = Origin(kind="git") if found.known else Origin(kind="default")
        self.origins |= {f"source.{name}": known for name in Source.model_fields}
        return found.as_plan().model_copy(update={"ci_run_id": self._run_id()})

    def _run_id(self) -> str:
        """The run of the CI, which an approval of October binds."""
        for variable in RUN_VARIABLES:
            value = self.request.environ.get(variable, "").strip()
            if not value:
                continue
            self.origins["source.ci_run_id"] = Origin(kind="environment variable", where=variable)
            if _RUN.fullmatch(value):
                return value
            self.problems.append(f"{variable} is {value[:40]!r}, expected 1 to 32 digits")
            return ""
        return ""

    def _settings(self, environment: Environment) -> Settled:
        settled = settle(
            environment,
            self.sections[environment.name].endpoints,
            self.document,
            environ=self.request.environ,
            made=self.request.settings,
            supplied=self.request.supplied,
        )
        self.problems += settled.problems
        self.notices += settled.notices
        stray = env_file.unused(
            self.request.environ, [section.prefix for section in self.sections.values()]
        )
        self.notices += stray.values()
        # What lacks stops a run before any notice is printed.
        self.missing += [one.beside(stray.get(one.name, "")) for one in settled.missing]
        self.origins |= settled.origins
        return settled

    def _file_origin(self, location: Location) -> Origin:
        if location in self.document.lines:
            return Origin(kind="file", where=self.document.at(location))
        return Origin(kind="default")

    def _all_origins(self, plan: ReleasePlan) -> Origins:
        found: Origins = {}
        for location, _ in leaves(plan.model_dump(mode="json")):
            name = release_yaml.dotted(location)
            found[name] = self.origins.get(name) or self._origin(plan, location)
        settings = {
            name: origin for name, origin in self.origins.items() if name.startswith("credentials.")
        }
        return found | settings

    def _origin(self, plan: ReleasePlan, location: Location) -> Origin:
        flag = self.request.flags.get(release_yaml.dotted(location))
        if flag:
            return Origin(kind="flag", where=flag.name)
        section: Location = ("environments", plan.environment.name)
        if location[0] == "environment":
            location = (*section, *location[1:])
        elif (smoke := _in_section(section, location)) and smoke[:3] in self.document.lines:
            location = smoke
        elif (own := self._in_flavour(plan, location))[:3] in self.document.lines:
            location = own
        return self._file_origin(location)

    def _in_flavour(self, plan: ReleasePlan, location: Location) -> Location:
        """Where a value stands if the flavour says it."""
        if location[0] == "flavour" or location == ("product", "backend"):
            location = location[1:]
        return ("flavours", plan.flavour.name, *location)

    def _refusal(self) -> errors.ReleaseError:
        """Everything that was found: what to edit first, else what the host lacks."""
        if self.host_problem and not self.problems:
            return self.host_problem
        lines = list(self.problems)
        if self.host_problem:
            lines.append(str(self.host_problem))
        lacking = Credentials(secrets={}, missing=tuple(self.missing)).lacking(
            self.request.stages, supplied=self.request.supplied
        )
        lines += [entry.line() for entry in lacking]
        count = f"{len(lines)} problems" if len(lines) > 1 else "1 problem"
        return errors.UsageError(f"nothing was started: {count}", details=lines)


def _in_section(section: Location, location: Location) -> Location:
    """Where a value of the smoke run stands if its environment says it; nowhere for others."""
    if location[0] != "smoke" or (own := release_file.OF_SMOKE.get(str(location[1]))) is None:
        return ()
    return (*section, own, *location[2:])


def _known(name: str, known: Collection[str]) -> str:
    """What there is instead, the nearest first."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{hint} ({', '.join(known)})"


def _no_version(unknown_tag: str, prefixes: Collection[str]) -> str:
    if unknown_tag:
        forms = version.tag_forms(prefixes)
        return f"tag {unknown_tag!r} names no version: expected {forms}"
    return "no version is named: say --version, or run on a tag; a branch's name is none"


def _plan(
    release: ReleaseFile,
    environment: Environment,
    flavour: Flavour,
    chosen: str,
    tree: Source,
    endpoints: Endpoints,
) -> ReleasePlan:
    return ReleasePlan(
        version=chosen,
        source=tree,
        product=release.product,
        bundle=release.bundle,
        profile=release.profile,
        archive=release.archive,
        publish=release.publish,
        coordinator=release.coordinator,
        limits=release.limits,
        smoke=release.smoke,
        small_model=release.small_model,
        environment=environment,
        endpoints=endpoints,
        flavour=flavour,
    )
