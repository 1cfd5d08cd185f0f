"""`release.yaml` by its model: every fault at once, each with its line, and "did you mean"."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from release_tool import credentials, schema_number, threshold, version
from release_tool.plan import (
    Archive,
    Bundle,
    CoordinatorRules,
    Environment,
    EnvironmentName,
    EnvironmentPolicy,
    FlavourName,
    FlavourPolicy,
    Limits,
    ModelData,
    Part,
    Product,
    Profile,
    Publish,
    RelativePath,
    Smoke,
    Thresholds,
)
from release_tool.release_yaml import Document, Location, dotted

_WITH_METALLIB = "mlx-swift"
_Section = TypeVar("_Section", bound=Part)
# Services of others that the file may name.
_SERVICES = (
    *("notary_url", "notary_upload_url", "ticket_url"),
    *("github_api_url", "github_uploads_url"),
)


# What an environment says of the smoke run, by the release's own key that it replaces.
OF_SMOKE = {"thresholds": "smoke_thresholds", "long_tokens": "smoke_long_tokens"}


class KnownEndpoints(Part):
    """Endpoints that are no secrets; the settings of the same names win over them."""

    r2_endpoint: str = ""
    r2_public_url: str = ""
    r2_bucket: str = ""
    coordinator_url: str = ""


class EnvironmentSection(EnvironmentPolicy):
    """One environment of the file."""

    endpoints: KnownEndpoints = KnownEndpoints()
    smoke_thresholds: Thresholds | None = None
    """In place of `smoke.thresholds`: each environment has hosts of its own."""
    smoke_long_tokens: int | None = Field(default=None, ge=1)
    """In place of `smoke.long_tokens`: embedded environments run on slow hosts."""

    def smoke(self, release: Smoke) -> Smoke:
        """The smoke run as this environment has it."""
        own = {key: getattr(self, name) for key, name in OF_SMOKE.items()}
        told = {key: value for key, value in own.items() if value is not None}
        return release.model_copy(update=told)

    def as_plan(self, name: str) -> Environment:
        """The part that is a plan's environment; the rest goes to other parts of it."""
        fields = self.model_dump(exclude={"endpoints", *OF_SMOKE.values()})
        return Environment.model_validate({**fields, "name": name})


class FlavourSection(FlavourPolicy):
    """One flavour of the file: what it says here replaces what the file says of the release."""

    backend: str = ""
    """As the coordinator knows it; empty for the product's."""
    bundle: Bundle | None = None
    """What its archive holds; None for the release's own."""


DEFAULT_FLAVOUR = "swift"


def _of_one_group(text: str) -> str:
    try:
        groups = re.compile(text, re.MULTILINE).groups
    except re.error as problem:
        raise ValueError(f"a regular expression: {problem}") from None
    if groups != 1:
        raise ValueError("a regular expression with one group, which is the version")
    return text


class VersionConstant(Part):
    """A place in the source that says the version by itself."""

    file: RelativePath
    """From the top of the repository."""
    pattern: Annotated[
        str, StringConstraints(min_length=1, max_length=300), AfterValidator(_of_one_group)
    ]
    """A regular expression of Python's; its one group is the version, wherever it matches."""
    flavours: tuple[FlavourName, ...] = ()
    """Whose version it is; none for every flavour's."""


class SourceRules(Part):
    """How the tree that a release is cut from is judged."""

    default_branch: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._/-]{0,199})?$")
    """Empty: what the remote calls its default branch."""
    version_constants: tuple[VersionConstant, ...] = Field(default=(), max_length=64)
    """Where the source itself says the version; a tag is only made where each says the same."""


class ReleaseFile(Part):
    """A release as data: what is built into it, and the environments that it goes to."""

    product: Product
    bundle: Bundle
    profile: Profile = Profile()
    archive: Archive
    publish: Publish = Publish()
    coordinator: CoordinatorRules = CoordinatorRules()
    limits: Limits = Limits()
    smoke: Smoke
    small_model: ModelData
    source: SourceRules = SourceRules()
    environments: dict[EnvironmentName, EnvironmentSection] = Field(min_length=1)
    flavours: dict[FlavourName, FlavourSection] = Field(
        default={DEFAULT_FLAVOUR: FlavourSection()}, min_length=1
    )
    """What the same product is released as: each has tags of its own, and no version of another."""
    default_flavour: FlavourName = DEFAULT_FLAVOUR
    """Where neither a tag nor anybody names one."""

    def of_flavour(self, name: str) -> ReleaseFile:
        """The release as one of its flavours has it."""
        section = self.flavours[name]
        product = self.product
        if section.backend:
            product = product.model_copy(update={"backend": section.backend})
        return self.model_copy(update={"product": product, "bundle": section.bundle or self.bundle})


def validate(
    document: Document, origins: Mapping[Location, str]
) -> tuple[ReleaseFile | None, list[str]]:
    """Judge the values by the model; returns the release, or None, and every fault with its place.

    Args:
        document: what was read.
        origins: places that did not come from the file, such as `--model`.
    """
    try:
        release = ReleaseFile.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as problem:
        found: dict[Location, str] = {}
        for fault in problem.errors():
            location = _known(fault["loc"], document, missing=fault["type"] == "missing")
            # A union reports one fault for each of its branches; the first says enough.
            found.setdefault(location, _fault(fault, location, document, origins))
        return None, [*document.problems, *found.values()]
    disagreeing = [
        f"{origins.get(location) or document.at(location)}: {text}"
        for location, text in disagreements(release)
    ]
    return release, [*document.problems, *disagreeing]


def sections(document: Document) -> dict[str, EnvironmentSection]:
    """The environments that are well-formed by themselves, of a file that is not."""
    listed = document.data.get("environments")
    return dict(_readable(listed, EnvironmentSection))


def flavours(document: Document) -> dict[str, FlavourSection]:
    """The flavours that are well-formed by themselves, of a file that is not."""
    listed = document.data.get("flavours")
    return dict(_readable(listed, FlavourSection)) or {DEFAULT_FLAVOUR: FlavourSection()}


def _readable(listed: object, kind: type[_Section]) -> Iterator[tuple[str, _Section]]:
    for name, section in listed.items() if isinstance(listed, dict) else ():
        with contextlib.suppress(ValidationError):
            yield str(name), kind.model_validate_json(json.dumps(section), strict=True)


def schema() -> dict[str, Any]:
    """The JSON Schema of `release.yaml`, for editors."""
    made = ReleaseFile.model_json_schema()
    return {
        **schema_number.head("release.yaml"),
        **{key: value for key, value in made.items() if key != "title"},
    }


def disagreements(release: ReleaseFile) -> Iterator[tuple[Location, str]]:
    """What is well-formed but does not fit together."""
    yield from _in_product(release)
    yield from _of_bundle(release.bundle, release, ())
    if _climbs(release.publish.prefix):
        yield ("publish", "prefix"), "the prefix is not a plain path"
    yield from _in_flavours(release)
    yield from _in_smoke(release)
    yield from _in_source(release)
    prefixes: dict[str, str] = {}
    for name, section in release.environments.items():
        yield from _in_environment(name, section)
        if section.prefix and prefixes.setdefault(section.prefix, name) != name:
            yield (
                ("environments", name, "prefix"),
                f"{section.prefix} is already the prefix of {prefixes[section.prefix]}",
            )


def doubts(release: ReleaseFile) -> Iterator[tuple[Location, str]]:
    """What a release may be without, and hardly means to be."""
    for name, section in release.environments.items():
        if section.provider != "bundle":
            continue
        unnamed = [key for key in ("built_in", "not_built_in") if not getattr(section, key)]
        if unnamed:
            yield (
                ("environments", name),
                f"{name} names no {' and no '.join(unnamed)}: a build for a developer's machine or"
                " another coordinator would pass as one for it; name the host of its coordinator,"
                " and those of other builds",
            )
        yield from _doubts_of_smoke(name, section, release.smoke)


def _doubts_of_smoke(
    name: str, section: EnvironmentSection, smoke: Smoke
) -> Iterator[tuple[Location, str]]:
    if smoke.require and section.lanes == "any-host":
        yield (
            ("environments", name, "lanes"),
            f"{name} takes one host of any kind: no lane of smoke.require can be missing there;"
            " leave lanes out, or say required",
        )
    if not section.smoke(smoke).thresholds:
        yield (
            ("environments", name),
            f"{name} has no threshold of speed: a provider of any slowness would pass as one for"
            " it; name some in smoke.thresholds",
        )


def _of_bundle(
    bundle: Bundle, release: ReleaseFile, where: Location
) -> Iterator[tuple[Location, str]]:
    """What is wrong in one bundle, which stands at a place of the file."""
    for location, text in (
        *_in_bundle(bundle),
        *_without_exception(bundle),
        *_placed(bundle, release),
        *_in_paths(bundle),
    ):
        yield (*where, *location), text


def _in_flavours(release: ReleaseFile) -> Iterator[tuple[Location, str]]:
    if release.default_flavour not in release.flavours:
        yield (
            ("default_flavour",),
            f"no flavour is called {release.default_flavour} ({', '.join(release.flavours)})",
        )
    families: dict[str, str] = {}
    for name, section in release.flavours.items():
        place: Location = ("flavours", name)
        if families.setdefault(section.tag_prefix, name) != name:
            yield (
                (*place, "tag_prefix"),
                f"{section.tag_prefix} is already the prefix of {families[section.tag_prefix]}",
            )
        if section.bundle is not None:
            yield from _of_bundle(section.bundle, release, place)
        flavoured = release.of_flavour(name)
        yield from _in_backend(place, flavoured)
        if section.layout == "flat":
            yield from _in_flat(place, flavoured.bundle)


def _in_backend(place: Location, release: ReleaseFile) -> Iterator[tuple[Location, str]]:
    """The coordinator takes no release of this backend without the library's digest."""
    metallib = release.bundle.metallib
    if release.product.backend == _WITH_METALLIB and (metallib is None or not metallib.flat_copy):
        text = f"the coordinator wants a metallib of backend {_WITH_METALLIB}, as a flat copy"
        yield place, text


def _in_flat(place: Location, bundle: Bundle) -> Iterator[tuple[Location, str]]:
    """A flat archive is `bin/` alone: nothing that only an app can hold has a place in it."""
    for key in ("resources", "helpers", "capability_markers", "when_granted"):
        if getattr(bundle, key):
            yield place, f"{key} lie in an app, and a flat layout has none"
    without = [one.name for one in bundle.executables if not one.flat_copy]
    if bundle.metallib and not bundle.metallib.flat_copy:
        without.append(bundle.metallib.name)
    for name in without:
        yield place, f"{name} has no flat copy, and a flat layout has nothing else"


def _in_product(release: ReleaseFile) -> Iterator[tuple[Location, str]]:
    product = release.product
    for at, group in enumerate(product.access_groups):
        if not group.startswith(f"{product.team_id}.") or "*" in group:
            yield (
                ("product", "access_groups", at),
                f"access group {group} is not one of team {product.team_id}",
            )
    if not product.signing_identity.endswith(f"({product.team_id})"):
        yield (
            ("product", "signing_identity"),
            f"the signing identity does not end with ({product.team_id})",
        )
    derived = f"darkbloom-bundle-{product.platform}.tar.gz"
    if release.archive.name != derived:
        yield ("archive", "name"), f"the coordinator asks for {derived}, not {release.archive.name}"


def _placed(bundle: Bundle, release: ReleaseFile) -> Iterator[tuple[Location, str]]:
    for signer, placement in bundle.metallib.placement if bundle.metallib else ():
        if placement == "resources-link" and not release.archive.links:
            yield (
                ("bundle", "metallib", "placement", signer),
                "the archive may hold no link: installers in the field refuse them",
            )


def _in_bundle(bundle: Bundle) -> Iterator[tuple[Location, str]]:
    executables = [*bundle.executables, *bundle.helpers]
    names = [executable.name for executable in executables]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield ("bundle", "executables"), f"{name} is listed twice"
    main = [entry for entry in bundle.executables if entry.name == bundle.main_executable]
    if not main or main[0].role != "provider":
        yield (
            ("bundle", "main_executable"),
            f"{bundle.main_executable} is not an executable with the role provider",
        )
    if sum(executable.role == "provider" for executable in executables) != 1:
        yield ("bundle", "executables"), "exactly one executable has the role provider"
    if main and not main[0].flat_copy:
        yield ("bundle", "main_executable"), "the coordinator reads the main executable in bin/"
    for at, helper in enumerate(bundle.helpers):
        if helper.flat_copy:
            yield ("bundle", "helpers", at), f"{helper.name} must not appear under bin/"
    for at, grant in enumerate(bundle.when_granted):
        if grant.executable not in names:
            yield (
                ("bundle", "when_granted", at, "executable"),
                f"{grant.executable} is not an executable of the bundle",
            )


def _without_exception(bundle: Bundle) -> Iterator[tuple[Location, str]]:
    """Code that compiles at run time has to carry its exception, so it has a file of them."""
    listed = {"executables": bundle.executables, "helpers": bundle.helpers}
    for kind, executables in listed.items():
        for at, one in enumerate(executables):
            if one.jit and one.entitlements is None:
                yield (
                    ("bundle", kind, at),
                    f"{one.name} is `jit` and names no entitlements: they must hold its exception",
                )


def _in_smoke(release: ReleaseFile) -> Iterator[tuple[Location, str]]:
    if release.smoke.authorization == "token" and release.smoke.contract == "2026-05":
        yield ("smoke", "authorization"), "a provider of 2026-05 knows no key: open"
    yield from _in_thresholds(("smoke", "thresholds"), release.smoke.thresholds, release)
    for name, section in release.environments.items():
        place: Location = ("environments", name, "smoke_thresholds")
        yield from _in_thresholds(place, section.smoke_thresholds or (), release)
        yield from _in_long_answer(("environments", name, "smoke_long_tokens"), section, release)
    yield from _in_lanes(release.smoke)


def _in_long_answer(
    place: Location, section: EnvironmentSection, release: ReleaseFile
) -> Iterator[tuple[Location, str]]:
    """A shorter one saves time on slow hosts; what users get is asked for all that is wanted."""
    own = section.smoke_long_tokens
    if own is None:
        return
    if not section.embedded and own < release.smoke.long_tokens:
        yield place, "only an embedded environment may ask for less than smoke.long_tokens"
    if own <= release.smoke.max_tokens:
        yield place, f"the long answer is no longer than the others: {release.smoke.max_tokens}"


def _in_source(release: ReleaseFile) -> Iterator[tuple[Location, str]]:
    for at, constant in enumerate(release.source.version_constants):
        place: Location = ("source", "version_constants", at)
        if _climbs(constant.file):
            yield (*place, "file"), "the file is outside of the repository"
        for name in constant.flavours:
            if name not in release.flavours:
                yield (*place, "flavours"), f"no flavour is called {name}"


def _in_lanes(smoke: Smoke) -> Iterator[tuple[Location, str]]:
    names: set[str] = set()
    for at, lane in enumerate(smoke.require):
        where = ("smoke", "require", at)
        if lane.name in names:
            yield (*where, "name"), f"two lanes are called {lane.name}"
        names.add(lane.name)
        if lane.macos == "newest" and not smoke.newest_macos:
            yield (*where, "macos"), "`newest` needs smoke.newest_macos"
        if 0 < lane.memory_gib_at_most < lane.memory_gib:
            yield (*where, "memory_gib"), "no host has so much and so little memory"


def _in_thresholds(
    place: Location, texts: Iterable[str], release: ReleaseFile
) -> Iterator[tuple[Location, str]]:
    """A threshold on what is never asked would fail at the end of a long run."""
    # The prompts are asked one by one before any are asked at once.
    asked = {1, *release.smoke.concurrency}
    for at, text in enumerate(texts):
        number = threshold.parse(text).at_once
        if number is not None and number not in asked:
            known = ", ".join(f"b{one}" for one in sorted(asked))
            yield (*place, at), f"{text}: smoke.concurrency has no b{number} ({known})"


def _in_paths(bundle: Bundle) -> Iterator[tuple[Location, str]]:
    for at, resource in enumerate(bundle.resources):
        for key in ("source", "destination"):
            if _climbs(getattr(resource, key)):
                yield ("bundle", "resources", at, key), f"{key} leaves its folder"
    for at, marker in enumerate(bundle.capability_markers):
        if any(_climbs(need) for need in marker.needs):
            yield ("bundle", "capability_markers", at, "needs"), "a path leaves Contents"


def _climbs(path: str) -> bool:
    return any(step in (".", "..") for step in path.split("/"))


def _in_embedded(name: str, section: EnvironmentSection) -> Iterator[tuple[Location, str]]:
    place: Location = ("environments", name)
    if section.prefix or section.legacy_fallback:
        yield place, f"{name} is embedded: its settings are made for the run, not read"
    if section.tags != "none":
        yield (*place, "tags"), f"{name} is embedded: no tag selects it"
    if section.default_version and not version.is_version(section.default_version):
        yield (*place, "default_version"), f"{section.default_version} is not a version"


def _in_environment(name: str, section: EnvironmentSection) -> Iterator[tuple[Location, str]]:
    if section.github_release and not section.github_repository:
        text = f"{name} wants a release on GitHub and names no repository for it"
        yield ("environments", name, "github_release"), text
    if section.embedded:
        yield from _in_embedded(name, section)
        return
    place: Location = ("environments", name)
    if section.default_version:
        yield (*place, "default_version"), "only an embedded environment may have one"
    if section.trust != "apple":
        yield (*place, "trust"), f"only an embedded environment may trust a {section.trust}"
    if section.provider != "bundle":
        yield (*place, "provider"), "only an embedded environment may be smoked with a stand-in"
    if not section.prefix:
        yield place, f"{name} has no prefix for its settings"
    if not re.fullmatch(r"https?://[A-Za-z0-9.:/_-]+", section.timestamp_url):
        yield (*place, "timestamp_url"), f"{name} names no timestamp server by its address"
    yield from _in_addresses(place, section)


def _in_addresses(place: Location, section: EnvironmentSection) -> Iterator[tuple[Location, str]]:
    for key in _SERVICES:
        text = getattr(section, key)
        if text and (reason := credentials.plain_fault("address", key, text)):
            yield (*place, key), reason
    for key, text in section.endpoints:
        kind: credentials.Kind = "bucket" if key == "r2_bucket" else "address"
        if text and (reason := credentials.plain_fault(kind, key, text)):
            yield (*place, "endpoints", key), reason


def _fault(
    fault: ErrorDetails, location: Location, document: Document, origins: Mapping[Location, str]
) -> str:
    where = origins.get(location) or document.at(location)
    path = dotted(location)
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key {path}{_did_you_mean(location)}"
    if fault["type"] == "missing":
        return f"{where}: {path} is missing"
    return f"{where}: {path} is {_observed(fault['input'])}, expected {_expected(fault)}"


def _known(location: Location, document: Document, *, missing: bool) -> Location:
    """Cut what pydantic adds to a location, such as the branch of a union."""
    if missing:
        return location
    while location and location not in document.lines and not _within(document.data, location):
        location = location[:-1]
    return location


def _within(data: JsonValue, location: Location) -> bool:
    found: Any = data
    for step in location:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _did_you_mean(location: Location) -> str:
    close = difflib.get_close_matches(str(location[-1]), _keys_at(location[:-1]), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _keys_at(location: Location) -> list[str]:
    """The keys that the model knows at a place, read from its own schema."""
    whole = schema()
    place: dict[str, Any] = whole
    for step in location:
        place = _resolved(place, whole)
        if isinstance(step, int):
            place = place.get("items", {})
        elif step in place.get("properties", {}):
            place = place["properties"][step]
        else:
            place = _values_of(place)
    return list(_resolved(place, whole).get("properties", {}))


def _values_of(place: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of the values of a mapping with free keys."""
    by_pattern = list(place.get("patternProperties", {}).values())
    found = by_pattern[0] if by_pattern else place.get("additionalProperties")
    return found if isinstance(found, dict) else {}


def _resolved(place: dict[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    reference = place.get("$ref")
    if not isinstance(reference, str):
        return place
    found = whole["$defs"][reference.rsplit("/", 1)[-1]]
    return found if isinstance(found, dict) else {}


_EXPECTED = {
    "string_type": "text (in quotes where it looks like a number)",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "dataclass_type": "keys and values",
}


def _expected(fault: ErrorDetails) -> str:
    known = _EXPECTED.get(fault["type"])
    if known:
        return known
    context = fault.get("ctx", {})
    if fault["type"] == "value_error":
        return str(context["error"])
    if "pattern" in context:
        return f"text of the form {context['pattern']}"
    if "expected" in context:
        return str(context["expected"])
    message = fault["msg"].removeprefix("Input should ").removeprefix("be ")
    return message[:1].lower() + message[1:]


def _observed(found: object) -> str:
    if isinstance(found, str):
        return repr(found[:80])
    if isinstance(found, dict):
        return "keys and values"
    if isinstance(found, list):
        return "a list"
    if found is None:
        return "empty"
    return json.dumps(found)[:80]
