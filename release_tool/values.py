"""What stages hand on. Each type marks progress, so a wrong order cannot be written down.

Paths are POSIX paths relative to the release's workspace (`dist/<environment>/<version>`), so
that a record means the same on another machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final, Literal, Protocol

from pydantic import JsonValue

from release_tool.frozen_model import FrozenModel

UNKNOWN: Literal["unknown"] = "unknown"
VersionProof = Literal["ran", "found", "unknown"]


def digest_of(value: JsonValue) -> str:
    """SHA-256 of the canonical JSON of what a record holds as its value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Value(FrozenModel):
    """A frozen value that a record can hold."""

    def digest(self) -> str:
        """SHA-256 of the canonical JSON: how later records name this value as their input."""
        return digest_of(self.model_dump(mode="json"))

    def outputs(self) -> Mapping[str, str]:
        """Files of the workspace that this value stands for: path to SHA-256."""
        return {}


class Intents(Protocol):
    """Requests that cannot be repeated freely are written down before they are sent."""

    def find(self, action: str) -> Mapping[str, JsonValue] | None:
        """The facts of the newest intent of this name, or None."""

    def declare(self, action: str, facts: Mapping[str, JsonValue]) -> None:
        """Record that the request is about to be sent."""


class SealedFile(Value):
    """One regular file or symbolic link of an output tree."""

    path: str
    """Relative to the tree's root."""
    mode: int
    size: int
    sha256: str
    """Of the content; of the target text for a link."""
    link: bool = False


class CheckOutcome(Value):
    """A check as records keep it (see `apple.checks`)."""

    name: str
    outcome: Literal["passed", "failed", "not_checked", "unprotected"]
    subject: str = ""
    expected: str = ""
    observed: str = ""
    hint: str = ""


class Expiry(Value):
    """Something that the next release needs and that ends (see `apple.policy.expiry`)."""

    what: str
    name: str
    ends: str
    """ISO 8601, UTC."""
    todo: str


class VerifiedProfile(Value):
    """A provisioning profile that Apple signed and that grants what we sign with."""

    path: str
    sha256: str
    name: str
    uuid: str
    team_id: str
    expires: str
    """ISO 8601, UTC."""
    days_left: int
    app_ids: tuple[str, ...]
    access_groups: tuple[str, ...]
    entitlements: Mapping[str, JsonValue]
    """What the profile grants."""
    certificates: tuple[str, ...]
    """SHA-256 of each signing certificate that it allows."""
    checks: tuple[CheckOutcome, ...]
    expiries: tuple[Expiry, ...] = ()
    """Of itself and the certificates that it lists."""

    def outputs(self) -> Mapping[str, str]:
        return {self.path: self.sha256}


class BuiltBinary(Value):
    """One executable as the build produced it, and how its version was proved."""

    name: str
    sha256: str
    version: str
    version_proof: VersionProof
    """`ran`: the host executed it. `found`: it stands in the Mach-O; the smoke run proves it.
    `unknown`: a helper that need not tell."""
    minos: str
    sdk: str


class AssembledBundle(Value):
    """The unsigned app, complete."""

    root: str
    """Folder of the workspace that holds the app."""
    app: str
    """Path of the app inside `root`."""
    files: tuple[SealedFile, ...]
    source_commit: str
    """40 hex digits, or `unknown`."""
    test_outcome: Literal["passed", "failed", "unknown"]
    binaries: tuple[BuiltBinary, ...]
    metallib_sha256: str
    metallib_origin: str
    entitlements: Mapping[str, Mapping[str, JsonValue] | None]
    """By executable name: what it will be signed with, `when_granted` keys included."""

    def outputs(self) -> Mapping[str, str]:
        return {f"{self.root}/{file.path}": file.sha256 for file in self.files}


class CodeObject(Value):
    """One signed code object, read back from disk."""

    path: str
    """Relative to the tree's root; the app itself stands for its main executable."""
    identifier: str
    team_id: str
    cdhash: str
    code_directory_sha256: str
    """The full digest of the SHA-256 code directory."""
    flags: int
    entitlements: Mapping[str, JsonValue] | None
    requirement: str
    signed_at: str
    """Time of the RFC 3161 timestamp, ISO 8601 UTC; empty for an ad-hoc signature."""
    unsigned_sha256: str
    """Of the executable outside its signature (`apple.unsigned_content`), all slices: the same
    before it was signed, so a source build can be compared with what ships."""


class SignedBundle(Value):
    """The signed app, as it was read back."""

    root: str
    app: str
    files: tuple[SealedFile, ...]
    code: tuple[CodeObject, ...]
    signer: Literal["portable", "codesign"]
    certificate_sha256: str
    certificate_name: str
    sealed_files: int
    expiries: tuple[Expiry, ...] = ()
    """Of the certificate that signed, its issuer, and the timestamp authority."""

    def outputs(self) -> Mapping[str, str]:
        return {f"{self.root}/{file.path}": file.sha256 for file in self.files}


class Notarization(Value):
    """Apple's verdict on exactly our bytes."""

    submission_id: str
    name: str
    """As it was submitted; `Darkbloom-0.5.0-<first of the archive's digest>.zip`."""
    archive_sha256: str
    """Of the zip that was uploaded, as our side and Apple's log both say."""
    archive_size: int
    log: str
    """Apple's log as it came, in the workspace."""
    log_sha256: str
    cdhashes: tuple[str, ...]
    """Of every signed slice, each listed in the log."""
    extra_cdhashes: int
    """Entries of the log beyond ours."""
    issues: tuple[str, ...]
    """What an accepted submission was still warned of."""
    route: Literal["api", "notarytool"]

    def outputs(self) -> Mapping[str, str]:
        return {self.log: self.log_sha256}


class StapledBundle(SignedBundle):
    """The signed app with its notarization ticket."""

    ticket_sha256: str
    ticket_issued: str
    """ISO 8601, UTC."""
    ticket_checks: tuple[CheckOutcome, ...]
    """What was verified of the ticket, offline."""
    macos_verdicts: Mapping[str, str]
    """stapler and spctl; empty off macOS."""


class ReleaseArchive(Value):
    """The archive that ships, reopened and verified from the seal down."""

    path: str
    sha256: str
    size: int
    tar_sha256: str
    """Of the tar stream: the same content under another compressor is recognised by it."""
    binary_sha256: str
    """Of `bin/<main executable>`."""
    enclave_sha256: str
    metallib_sha256: str
    cdhash: str
    code_directory_sha256: str
    source_commit: str
    test_outcome: Literal["passed", "failed", "unknown"]
    members: tuple[SealedFile, ...]

    def outputs(self) -> Mapping[str, str]:
        return {self.path: self.sha256}


class Host(Value):
    """The machine that observed something."""

    system: str
    """`macos` or `linux`."""
    release: str
    machine: str
    chip: str = ""
    memory_bytes: int = 0
    build: str = ""
    """Of macOS, such as `24F74`; two builds may share a release's number."""
    sip: Literal["enabled", "disabled", "unknown", ""] = ""
    """System Integrity Protection: without it AMFI allows what users' machines refuse."""


class SmokePrompt(Value):
    """One prompt, asked plainly, streamed and of the reference."""

    prompt: str
    text: str
    completion_tokens: int
    reason: Literal["stop", "length"]
    agrees: bool
    """With the reference, as far as the policy asks."""
    agreed_tokens: int
    """Leading tokens that are the reference's."""
    reference_tokens: int
    first_token_seconds: float
    decode_tokens_per_second: float
    reference_first_token_seconds: float
    reference_decode_tokens_per_second: float


class SmokeAnswer(Value):
    """Figures of one streamed answer."""

    prompt: str
    completion_tokens: int
    first_token_seconds: float
    decode_tokens_per_second: float


class SmokeRound(Value):
    """Prompts that were asked at the same time."""

    at_once: int
    seconds: float
    """From the first request to the last answer's end."""
    answers: tuple[SmokeAnswer, ...]
    reference: tuple[SmokeAnswer, ...] = ()
    """mlx-lm's, of the same prompts at once; empty where it could not be measured."""


class SmokeFigure(Value):
    """Statistics of one metric with one number of prompts at once; percentiles by nearest rank."""

    metric: Literal["ttft", "decode", "ttft_ratio", "decode_ratio"]
    """Seconds to the first text, tokens a second behind it, and both over mlx-lm's own."""
    at_once: int
    samples: int
    mean: float
    p50: float
    p95: float
    min: float
    max: float


class SmokeEvidence(Value):
    """What ran from the shipping archive, where, and what it answered.

    There is one only where every check held: a refusal ends the stage.
    """

    archive_sha256: str
    test_outcome: Literal["passed", "failed", "unknown"] = "unknown"
    """Of the tests of the binaries' source; an environment that takes a failure still keeps it."""
    kind: Literal["bundle", "stand-in"]
    """A stand-in proves the wiring only; dev and prod refuse it."""
    contract: str
    """Whose manners it had: `2026-05` or `2026-10`."""
    executable_sha256: str
    """Of the bundle's own main executable, whatever ran."""
    cdhash: str
    """Of the bundle's own main executable, as it was read of the unpacked archive that ran."""
    ran: str
    """What was started, for people."""
    ran_sha256: str
    version: str
    version_ran: bool
    """Whether `--version` of the bundle's own executable was run on this host."""
    host: Host
    model: str
    model_sha256: str
    reference: str
    """`mlx-lm 0.32.2`."""
    agreement: str
    """The policy: `exact`, or `prefix 16`."""
    prompts: tuple[SmokePrompt, ...]
    long: SmokePrompt
    """An answer that is longer than the others, streamed."""
    rounds: tuple[SmokeRound, ...]
    figures: tuple[SmokeFigure, ...] = ()
    """Computed from the answers above (`stages.speed`)."""
    thresholds: tuple[CheckOutcome, ...] = ()
    """Each threshold of the release, as it was written, with what was observed."""
    checks: tuple[CheckOutcome, ...]
    """Everything that was asked of it, one by one."""
    macos_verdicts: Mapping[str, str]
    """codesign, spctl, stapler; empty off macOS."""
    needs: tuple[CheckOutcome, ...] = ()
    """What the unpacked bundle needs on a user's Mac, judged without one."""
    install: tuple[CheckOutcome, ...] = ()
    """What the installer did with this archive; empty where it was not tried."""
    transcript: str
    """Every question and answer, one JSON document on a line, in the workspace."""
    transcript_sha256: str
    log: str
    """What the provider wrote, redacted and bounded, in the workspace."""
    log_sha256: str

    def outputs(self) -> Mapping[str, str]:
        return {self.transcript: self.transcript_sha256, self.log: self.log_sha256}


class PublishedDocument(Value):
    """A small signed document beside the archives."""

    name: str
    """Of the file in the workspace, and of the asset on GitHub."""
    key: str
    url: str
    sha256: str
    size: int


class LoggedEvent(Value):
    """Where an event stands in the log of releases."""

    line: int
    """The first is 1."""
    size: int
    """Bytes of the log up to and with this line."""
    sha256: str
    """Of those."""


class PublishedRelease(Value):
    """The archive at its public address, read back."""

    archive_sha256: str
    size: int
    key: str
    url: str
    created: bool
    """False when the same bytes already stood there."""
    documents: tuple[PublishedDocument, ...] = ()
    """Its bill of materials and its provenance; none where releases are not signed for."""

    def outputs(self) -> Mapping[str, str]:
        return {one.name: one.sha256 for one in self.documents}


FLEET_WATCH: Final = "fleet watch"
"""The check of a registration that nobody watched, since release.yaml does without."""


class RegisteredRelease(Value):
    """The release as the coordinator echoes it."""

    version: str
    platform: str
    backend: str
    binary_hash: str
    bundle_hash: str
    metallib_hash: str
    url: str
    status: str
    checks: tuple[CheckOutcome, ...] = ()
    """What was looked at after the registration, and what could not be."""
    logged: LoggedEvent | None = None
    """None where no log is kept, or this job could not write to it."""


class PromotedRelease(Value):
    """Where the aliases point now."""

    version: str
    outcome: Literal["promoted", "superseded"]
    latest_version: str
    aliases: tuple[str, ...]
    pointer: str = ""
    """Key of the document that names the latest release; empty where it was not moved."""
    logged: LoggedEvent | None = None
    """None where no log is kept."""
    documents: tuple[PublishedDocument, ...] = ()
    """The log's head that covers this release, signed."""

    def outputs(self) -> Mapping[str, str]:
        return {one.name: one.sha256 for one in self.documents}


class ReleasedAsset(Value):
    """One asset of a release on GitHub, downloaded again and digested."""

    name: str
    size: int
    sha256: str


class GitHubRelease(Value):
    """The release on GitHub, as it was published."""

    tag: str
    id: int
    page: str
    outcome: Literal["published", "already_published"]
    """`already_published`: it stood there with the same bytes; nothing was changed."""
    assets: tuple[ReleasedAsset, ...]
    latest: bool
    """Whether it was asked to become GitHub's latest; not where a newer release is served."""
    immutable: bool
    notes: str
    """The notes in the workspace, filled with recorded facts."""
    notes_sha256: str

    def outputs(self) -> Mapping[str, str]:
        return {self.notes: self.notes_sha256}


class RollbackTarget(Value):
    """The release to go back to, verified again as users get it."""

    version: str
    platform: str
    key: str
    url: str
    sha256: str
    size: int
    checks: int
    """How many checks passed, from the archive's digest to the seal; none failed."""


class Withdrawal(Value):
    """One tombstone."""

    version: str
    key: str
    sha256: str
    """Of the withdrawn archive, as the tombstone names it; empty where nobody knew one."""
    outcome: Literal["written", "stood"]
    at: str = ""
    """As the tombstone that stands says it, like the two below; ISO 8601, UTC."""
    by: str = ""
    reason: str = ""


class KeptHead(Value):
    """A signed head of the log of releases, kept where the bucket's writers cannot reach."""

    name: str
    """Of the file, and of the asset on GitHub: it names the lines, so none replaces another."""
    lines: int
    size: int
    """Bytes of the file."""
    sha256: str
    """Of the file."""


class Withdrawn(Value):
    """The versions that can never be released again."""

    tombstones: tuple[Withdrawal, ...]
    head: KeptHead | None = None
    """None where no log is kept, or nothing was withdrawn."""

    def outputs(self) -> Mapping[str, str]:
        return {self.head.name: self.head.sha256} if self.head else {}


class DeactivatedRelease(Value):
    """One release that the coordinator neither serves nor accepts."""

    version: str
    outcome: Literal["deactivated", "inactive", "unknown"]
    """`inactive`: it was already. `unknown`: the coordinator never had it."""
    warning: str = ""
    """What the coordinator warned of."""


class Deactivated(Value):
    """What the coordinator does not serve any more."""

    releases: tuple[DeactivatedRelease, ...]


class RolledBack(Value):
    """What users download now."""

    version: str
    instead_of: tuple[str, ...]
    pointer: str
    aliases: tuple[str, ...]
    head: KeptHead | None = None
    """None where no log is kept."""

    def outputs(self) -> Mapping[str, str]:
        return {self.head.name: self.head.sha256} if self.head else {}


class GitHubMark(Value):
    """One release on GitHub after a rollback."""

    version: str
    page: str
    """Empty where GitHub has no published release of it."""
    outcome: Literal["marked", "stood", "given again", "none"]
    """`stood`: it was marked before. `given again`: what users get, which is not marked."""
    head: Literal["asset", "notes", "none"]
    """Where the log's head stands: an immutable release takes no asset, so there in its notes."""


class WithdrawnOnGitHub(Value):
    """What GitHub says of a rollback."""

    head: str
    """Name of the head's asset; empty where no log is kept."""
    releases: tuple[GitHubMark, ...]
