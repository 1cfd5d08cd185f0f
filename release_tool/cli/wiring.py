"""Wires stages to services: the one place that knows which secret and which tool a stage gets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from release_tool import credentials, data, errors, layout, smoke_lanes, smoke_records, values
from release_tool.apple import armor, certificates, identity
from release_tool.cli import model_cache, notary_route, provenance_run, release_before
from release_tool.config import Resolved
from release_tool.files import atomic, hashing, zip_writer
from release_tool.files.workspace import Workspace
from release_tool.layout import Layout
from release_tool.ledger import Ledger
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.provenance import keys
from release_tool.provenance.keys import PublicKey, SigningKey
from release_tool.provenance.statement import Materials, Run
from release_tool.report import notes, smoke_refused
from release_tool.services import (
    addresses,
    ditto,
    hub_errors,
    keychain,
    notarytool,
    patience,
    tombstone,
    wheels,
)
from release_tool.services.apple_tools import AppleTools
from release_tool.services.codesign_signer import Route
from release_tool.services.coordinator import Coordinator
from release_tool.services.github import GitHub
from release_tool.services.model_store import ModelStore
from release_tool.services.multipart_upload import Parts
from release_tool.services.notary import Notary
from release_tool.services.notary_api import NotaryAPI
from release_tool.services.notary_token import APIKey
from release_tool.services.notary_uploads import Uploads
from release_tool.services.object_store import ObjectStore
from release_tool.services.provider import ProviderCommand
from release_tool.services.release_log import ReleaseLog
from release_tool.services.stapler import TicketService
from release_tool.services.tombstone import Tombstone
from release_tool.stages import (
    archive,
    assemble,
    attestation,
    github,
    install_smoke,
    installer_file,
    listing,
    mac_verdicts,
    notarize,
    profile,
    promote,
    public_copy,
    publish,
    register,
    release_events,
    role_entitlements,
    sign,
    smoke,
    staple,
)
from release_tool.steps import Slot, Stage, Step, Work, no_externals
from release_tool.values import Intents, Value

V = TypeVar("V", bound=Value)
_NO_GITHUB = "release.yaml asks for no release on GitHub here"
_MAKE_A_KEY = (
    "make one: release-tool provenance-key provenance.pem; the file's text is the secret, and the"
    " line that it prints goes under `provenance: keys:` of the environment in release.yaml"
)
_LEFT_OPEN = "release.yaml leaves notarization open for this environment"


# Beside the records, and outside of every one of them.
_UPLOADS = ".notary"
_STORE_KEYS = frozenset(("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"))

STAGES = (
    *("profile", "assemble", "sign", "notarize", "staple"),
    *("archive", "smoke", "publish", "register", "promote", "github"),
)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What comes from outside the ledger. Each may be absent in a job that does not need it."""

    environ: Mapping[str, str] = field(repr=False)
    binaries: Path | None = None
    metallib: Path | None = None
    profile: bytes | None = None
    identity: bytes | None = field(default=None, repr=False)
    """PKCS#12 or PEM."""
    identity_password: Callable[[], str | None] = lambda: None
    trust: bytes | None = None
    """PEM of the roots that replace Apple's; only the embedded environment has any."""
    model: Path | None = None
    """A folder; None for the plan's model out of the hub's cache."""
    stand_in: ProviderCommand | None = None
    """How the stand-in provider is started; None where the bundle's own executable runs."""
    wait: bool = True
    """Whether to wait for the notary, or to hand in and leave."""
    confirm: Callable[[], None] = lambda: None
    """Asked before registration, the point of no return."""


@dataclass(kw_only=True)
class Wiring:
    """The steps of one release, each with exactly what it needs."""

    resolved: Resolved
    workspace: Workspace
    inputs: Inputs

    def __post_init__(self) -> None:
        limits = self.plan.limits
        patience.hold(
            patience.Patience(answer_seconds=limits.answer_seconds, pause_share=limits.pause_share)
        )

    @property
    def plan(self) -> ReleasePlan:
        return self.resolved.plan

    def steps(self) -> list[Step]:
        """All stages, in order; what this layout has no use for is an open place."""
        omitted = self._layout.omitted
        made: list[Step] = [
            self._stage(
                "profile",
                values.VerifiedProfile,
                (),
                profile.READS,
                self._profile,
                externals=self._profile_digests,
            ),
            self._stage(
                "assemble",
                values.AssembledBundle,
                tuple({"profile"} - omitted.keys()),
                assemble.READS,
                self._assemble,
                externals=self._binaries_digests,
            ),
            self._stage(
                "sign", values.SignedBundle, ("assemble",), sign.READS, self._sign, repeatable=False
            ),
            *self._apples_word(),
            self._stage(
                "archive",
                values.ReleaseArchive,
                (*self._packed, "assemble"),
                archive.READS,
                self._archive,
            ),
            self._stage(
                "smoke",
                values.SmokeEvidence,
                ("archive",),
                smoke.READS,
                self._smoke,
                externals=self._installer_digest,
            ),
            self._stage(
                "publish",
                values.PublishedRelease,
                ("archive", "smoke"),
                (*publish.READS, *attestation.READS) if self._signed_for else publish.READS,
                self._publish,
                externals=self._evidence_digests,
                facts=self._told_of if self._signed_for else (),
            ),
            self._stage(
                "register",
                values.RegisteredRelease,
                ("publish", "archive"),
                register.READS,
                self._register,
                externals=self._evidence_digests,
                facts=("smoke",),
            ),
            self._stage(
                "promote",
                values.PromotedRelease,
                ("publish", "register"),
                promote.READS,
                self._promote,
                externals=self._evidence_digests,
                facts=("smoke",),
            ),
            self._on_github(),
        ]
        return [
            Slot(name=step.name, reason=omitted[step.name], required=False)
            if step.name in omitted
            else step
            for step in made
        ]

    @property
    def _layout(self) -> Layout:
        return layout.of(self.plan)

    @property
    def _packed(self) -> tuple[str, ...]:
        """What the archive is made of, and Apple's word where no ticket in it says so."""
        if not self._notarized:
            return ("sign",)
        return ("sign", "notarize") if "staple" in self._layout.omitted else ("staple",)

    @property
    def _signed_for(self) -> bool:
        """Whether this environment signs provenance and keeps a log."""
        return self.plan.environment.provenance is not None

    @property
    def _told_of(self) -> tuple[str, ...]:
        """The stages whose values a statement on the archive tells of."""
        told = ("profile", "assemble", "sign")
        return tuple(name for name in told if name not in self._layout.omitted)

    @property
    def _notarized(self) -> bool:
        return self.plan.environment.notarization == "required"

    def _on_github(self) -> Step:
        """The release on GitHub, or its place where the environment asks for none."""
        if not self.plan.environment.github_release:
            return Slot(name="github", reason=_NO_GITHUB, required=False)
        told = ("notarize", "staple") if self._notarized else ()
        apples = tuple(name for name in told if name not in self._layout.omitted)
        return self._stage(
            "github",
            values.GitHubRelease,
            ("archive", "smoke", *(("publish",) if self._signed_for else ()), "promote"),
            github.READS,
            self._github,
            facts=("sign", *apples),
        )

    def _apples_word(self) -> list[Step]:
        """Notarize and staple, or their places where the environment leaves them open."""
        if not self._notarized:
            return [
                Slot(name=name, reason=_LEFT_OPEN, required=False)
                for name in ("notarize", "staple")
            ]
        return [
            self._stage("notarize", values.Notarization, ("sign",), notarize.READS, self._notarize),
            self._stage(
                "staple", values.StapledBundle, ("sign", "notarize"), staple.READS, self._staple
            ),
        ]

    def _stage(
        self,
        name: str,
        value_type: type[Value],
        needs: tuple[str, ...],
        reads: tuple[str, ...],
        work: Work,
        *,
        externals: Callable[[], Mapping[str, str]] = no_externals,
        repeatable: bool = True,
        facts: tuple[str, ...] = (),
    ) -> Stage:
        def guarded(found: Mapping[str, Value], reporter: Reporter, intents: Intents) -> Value:
            with atomic.refusals(self.workspace.root):
                return work(found, reporter, intents)

        return Stage(
            name=name,
            value_type=value_type,
            needs=needs,
            reads=reads,
            work=guarded,
            externals=externals,
            repeatable=repeatable,
            facts=facts,
        )

    # What comes from outside.

    @cached_property
    def trust(self) -> certificates.Trust:
        """Apple's roots, or the look-alike's."""
        if self.inputs.trust is None:
            return certificates.apple_trust()
        return certificates.Trust(
            name="the rehearsal's authority",
            roots=tuple(map(certificates.load, armor.unwrap_all(self.inputs.trust, "a root"))),
        )

    @cached_property
    def identity(self) -> identity.Identity | None:
        """The signing identity, where this job has one."""
        if self.inputs.identity is None:
            return None
        password = self.inputs.identity_password()
        return identity.load(self.inputs.identity, password, known=self.trust.roots)

    @cached_property
    def apple_tools(self) -> AppleTools:
        """Apple's tools, in an environment without secrets."""
        return AppleTools(environment=credentials.scrubbed(self.inputs.environ))

    @cached_property
    def entitlements(self) -> tuple[Mapping[str, object], ...]:
        """What each executable is signed with, as its file says."""
        folder = data.entitlements_folder()
        bundle = self.plan.bundle
        executables = (*bundle.executables, *bundle.helpers)
        return tuple(role_entitlements.read(folder, one) for one in executables if one.entitlements)

    @property
    def _entitlements_files(self) -> list[str]:
        bundle = self.plan.bundle
        names = (one.entitlements for one in (*bundle.executables, *bundle.helpers))
        return [name for name in names if name]

    @cached_property
    def _entitlements_digests(self) -> dict[str, str]:
        folder = data.entitlements_folder()
        return {
            f"entitlements {name}": hashing.sha256_of(folder / name)
            for name in self._entitlements_files
            if (folder / name).is_file()
        }

    def new_store(self) -> ObjectStore:
        """The bucket; one instance serves one thread. Its keys are read when it connects."""
        endpoints, part_bytes = self.plan.endpoints, self.plan.limits.part_bytes
        return ObjectStore(
            endpoint=endpoints.r2_endpoint,
            bucket=endpoints.r2_bucket,
            access_key_id=lambda: self._secret("R2_ACCESS_KEY_ID"),
            secret_access_key=lambda: self._secret("R2_SECRET_ACCESS_KEY"),
            parts=Parts(above_bytes=2 * part_bytes, part_bytes=part_bytes),
        )

    def find_tombstone(self, version: str) -> Tombstone | None:
        """A version's tombstone; asked of the bucket where this job has its keys."""
        prefix = self.plan.publish.prefix
        if self.resolved.credentials.secrets.keys() >= _STORE_KEYS:
            return tombstone.find(self.new_store(), prefix, version)
        base = addresses.base(self.plan.endpoints.r2_public_url, name="R2_PUBLIC_URL")
        return tombstone.find_served(base, prefix, version)

    def look_out(self) -> None:
        """Refuse this release where it was withdrawn.

        Raises:
            WithdrawnError: it was.
        """
        tombstone.refuse(self.find_tombstone(self.plan.version))

    @cached_property
    def coordinator(self) -> Coordinator:
        """The coordinator; its key is read when a header is built."""
        return Coordinator(
            base_url=self.plan.endpoints.coordinator_url,
            release_key=lambda: self._secret("RELEASE_KEY"),
            seconds=self.plan.limits.request_seconds,
            contract=self.plan.coordinator.contract,
            admin_key=self._admin_key,
            prefix=self.plan.environment.prefix,
        )

    @property
    def _admin_key(self) -> Callable[[], str] | None:
        if credentials.ADMIN_KEY not in self.resolved.credentials.secrets:
            return None
        return lambda: self._secret(credentials.ADMIN_KEY)

    @cached_property
    def github(self) -> GitHub:
        """The repository's releases; the token is read when a header is built."""
        endpoints = self.plan.endpoints
        return GitHub(
            api_url=endpoints.github_api_url,
            uploads_url=endpoints.github_uploads_url,
            repository=self.plan.environment.github_repository,
            token=lambda: self._secret("GITHUB_TOKEN"),
            seconds=self.plan.limits.request_seconds,
        )

    @cached_property
    def signing_key(self) -> SigningKey:
        """What signs provenance and the log of releases.

        Raises:
            CredentialError: it is not set, is no such key, or its public part is not pinned.
        """
        found = self.resolved.credentials.secret(credentials.PROVENANCE_KEY)
        try:
            key = keys.load(credentials.p8(found))
        except errors.FormatError as problem:
            raise errors.CredentialError(
                f"the key that signs provenance {problem.message}",
                subject=credentials.PROVENANCE_KEY,
                hint=_MAKE_A_KEY,
            ) from None
        pinned = self.pinned_keys
        if not self.plan.environment.embedded and key.public not in pinned:
            named = " or ".join(f"key {one.keyid}" for one in pinned)
            raise errors.CredentialError(
                f"release.yaml does not pin this key for {self.plan.environment.name}",
                subject=credentials.PROVENANCE_KEY,
                expected=named or "a key under `provenance: keys:`, and there is none",
                observed=f"key {key.public.keyid}",
                hint=f"add its public line to `keys` there: {key.public.line}",
            )
        return key

    @property
    def pinned_keys(self) -> tuple[PublicKey, ...]:
        """The public keys that count, as release.yaml pins them."""
        section = self.plan.environment.provenance
        return tuple(map(keys.parse, section.keys)) if section else ()

    @property
    def _trusted_keys(self) -> tuple[PublicKey, ...]:
        """Those, or the one of an embedded environment, which nobody pins."""
        return self.pinned_keys or (self.signing_key.public,)

    def release_events(self) -> release_events.Events | None:
        """The log of releases; None where none is kept or this job may not write to it."""
        wanted = {*_STORE_KEYS, credentials.PROVENANCE_KEY}
        if not self._signed_for or not self.resolved.credentials.secrets.keys() >= wanted:
            return None
        kept = ReleaseLog(
            store=self.new_store(),
            prefix=self.plan.publish.prefix,
            environment=self.plan.environment.name,
            key=self.signing_key,
            trusted=self._trusted_keys,
        )
        return release_events.Events(plan=self.plan, log=kept)

    @contextmanager
    def notary(self, reporter: Reporter) -> Iterator[Notary]:
        """The route to Apple's notary: an API key, or Apple's own tool where a Mac has no key."""
        environment = self.plan.environment
        if environment.embedded or not notary_route.supplied(self.inputs.environ):
            yield self._notary_api()
            return
        with notarytool.signed_in(
            apple_id=self._secret("APPLE_ID"),
            password=lambda: self._secret("APPLE_APP_PASSWORD"),
            team_id=self.plan.product.team_id,
            folder=Path.home() / keychain.FOLDER,
            reporter=reporter,
            tools=self.apple_tools,
        ) as route:
            yield route

    def _notary_api(self) -> NotaryAPI:
        """Its key is read when a token is minted."""
        endpoints = self.plan.endpoints
        found = self.resolved.credentials
        return NotaryAPI(
            base_url=endpoints.notary_url,
            upload_url=endpoints.notary_upload_url,
            key=APIKey(
                private_key=lambda: credentials.p8(found.secret("APPLE_API_KEY_P8")),
                key_id=lambda: self._secret("APPLE_API_KEY_ID"),
                issuer_id=lambda: self._secret("APPLE_API_ISSUER_ID"),
            ),
            uploads=Uploads(folder=self.workspace.path(_UPLOADS)),
        )

    @cached_property
    def models(self) -> ModelStore:
        """The caches of models on this host, and the hub where it may be asked."""
        found = self.resolved.credentials.secrets
        token = (lambda: self._secret(hub_errors.TOKEN)) if hub_errors.TOKEN in found else None
        return model_cache.store(self.inputs.environ, token=token)

    @cached_property
    def tickets(self) -> TicketService:
        """Apple's ticket service; it wants no key."""
        return TicketService(url=self.plan.endpoints.ticket_url)

    def _secret(self, name: str) -> str:
        return self.resolved.credentials.secret(name).reveal()

    def _profile_digests(self) -> Mapping[str, str]:
        found = dict(self._entitlements_digests)
        if self.inputs.profile is not None:
            found["profile"] = hashlib.sha256(self.inputs.profile).hexdigest()
        return found

    @cached_property
    def _binaries_digest(self) -> Mapping[str, str]:
        found = dict(self._entitlements_digests)
        if self.inputs.binaries is not None:
            found["binaries"] = _folder_digest(self.inputs.binaries)
        if self.inputs.metallib is not None:
            found["metallib"] = hashing.sha256_of(self.inputs.metallib)
        return found

    def _installer_digest(self) -> Mapping[str, str]:
        """Of the project's own installer; the template's belongs to the tool."""
        if not self.plan.smoke.installer:
            return {}
        return {"installer": hashlib.sha256(installer_file.read(self.plan)).hexdigest()}

    def _other_hosts(self) -> list[values.SmokeEvidence]:
        """What the smoke run recorded on other hosts than the newest record's."""
        if not smoke_lanes.of(self.plan).several:
            return []
        return smoke_records.beside(Ledger(self.workspace.path("ledger")).records)

    def _evidence_digests(self) -> Mapping[str, str]:
        """Each is an input by itself, so that a record says which hosts it relied on."""
        return {
            f"smoke of {smoke_lanes.name_of(one.host)}": one.digest() for one in self._other_hosts()
        }

    def _binaries_digests(self) -> Mapping[str, str]:
        return self._binaries_digest

    # The stages, each with exactly what it needs.

    def _profile(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        del found
        if self.inputs.profile is None:
            raise errors.CredentialError(
                "there is no provisioning profile",
                hint="set PROVISIONING_PROFILE_BASE64 or name a file with --profile",
            )
        return profile.run(
            self.plan,
            self.inputs.profile,
            workspace=self.workspace,
            reporter=reporter,
            trust=self.trust,
            entitlements=self.entitlements,
            certificate=self.identity.leaf if self.identity else None,
        )

    def _assemble(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        if self.inputs.binaries is None:
            raise errors.UsageError(
                "nothing says where the binaries are", hint="name their folder with --binaries"
            )
        return assemble.run(
            self.plan,
            _value(found, "profile", values.VerifiedProfile) if "profile" in found else None,
            workspace=self.workspace,
            reporter=reporter,
            binaries=self.inputs.binaries,
            entitlements=data.entitlements_folder(),
            metallib=self.inputs.metallib,
            cache=wheels.cache_folder(self.inputs.environ),
            environ=credentials.for_pip(self.inputs.environ),
        )

    def _sign(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        return sign.run(
            self.plan,
            _value(found, "assemble", values.AssembledBundle),
            workspace=self.workspace,
            reporter=reporter,
            identity=self.identity,
            trust=self.trust,
            timestamp_url=self.plan.endpoints.timestamp_url,
            route=self._codesign_route() if self.plan.environment.signer == "codesign" else None,
        )

    def _codesign_route(self) -> Route:
        """The identity of a file in a keychain made for the run, or one of the user's own."""
        exported = self.inputs.identity
        if exported is None:
            return Route(tools=self.apple_tools)

        def export(new_password: str) -> tuple[identity.Identity, bytes]:
            return identity.for_keychain(
                exported,
                self.inputs.identity_password(),
                new_password=new_password,
                known=self.trust.roots,
            )

        return Route(export=export, tools=self.apple_tools)

    def _notarize(self, found: Mapping[str, Value], reporter: Reporter, intents: Intents) -> Value:
        with self.notary(reporter) as notary:
            return notarize.run(
                self.plan,
                _value(found, "sign", values.SignedBundle),
                workspace=self.workspace,
                reporter=reporter,
                intents=intents,
                notary=notary,
                trust=self.trust,
                patience=notarize.Patience(wait=self.inputs.wait),
                pack=notarize.with_ditto(self.apple_tools)
                if self._signed_by_apple
                else zip_writer.pack,
            )

    def _staple(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        return staple.run(
            self.plan,
            _value(found, "sign", values.SignedBundle),
            _value(found, "notarize", values.Notarization),
            workspace=self.workspace,
            reporter=reporter,
            tickets=self.tickets,
            trust=self.trust,
            patience=staple.Patience(wait=self.inputs.wait),
            verdicts=mac_verdicts.of_stapled(self.plan.environment, tools=self.apple_tools),
            copy=self._copy_with_attributes if self._signed_by_apple else None,
        )

    @property
    def _signed_by_apple(self) -> bool:
        """Whether codesign signs, which may put signatures into extended attributes."""
        return self.plan.environment.signer == "codesign"

    def _copy_with_attributes(self, source: Path, target: Path) -> None:
        ditto.copy(source, target, tools=self.apple_tools)

    def _archive(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        return archive.run(
            self.plan,
            _value(found, self._packed[0], values.SignedBundle),
            _value(found, "assemble", values.AssembledBundle),
            workspace=self.workspace,
            reporter=reporter,
            trust=self.trust,
            tools=self.apple_tools,
        )

    def _smoke(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        return smoke.run(
            self.plan,
            _value(found, "archive", values.ReleaseArchive),
            workspace=self.workspace,
            reporter=reporter,
            stand_in=self.inputs.stand_in,
            model=self.inputs.model,
            models=self.models,
            read=public_copy.with_facts(self.trust),
            install=install_smoke.judge,
            before=release_before.find(self.workspace.root, self.plan.version),
            show=smoke_refused.as_markdown,
        )

    def _publish(self, found: Mapping[str, Value], reporter: Reporter, intents: Intents) -> Value:
        store = self.new_store()
        reading = attestation.Reading(public_copy.with_facts(self.trust))
        if self._signed_for:
            # A key that does not serve is found before anything stands in the bucket.
            _ = self.signing_key
        published = publish.run(
            self.plan,
            _value(found, "archive", values.ReleaseArchive),
            _value(found, "smoke", values.SmokeEvidence),
            others=self._other_hosts(),
            workspace=self.workspace,
            reporter=reporter,
            intents=intents,
            store=store,
            judge=reading.judge,
        )
        if not self._signed_for:
            return published
        return attestation.publish(
            self.plan,
            published,
            self._materials(found),
            self._run(),
            reading.facts,
            key=self.signing_key,
            trusted=self._trusted_keys,
            workspace=self.workspace,
            store=store,
            reporter=reporter,
        )

    def _materials(self, found: Mapping[str, Value]) -> Materials:
        return Materials(
            archive=_value(found, "archive", values.ReleaseArchive),
            assembled=_value(found, "assemble", values.AssembledBundle),
            signed=_value(found, "sign", values.SignedBundle),
            profile=_value(found, "profile", values.VerifiedProfile)
            if "profile" in found
            else None,
        )

    def _run(self) -> Run:
        return provenance_run.of(Ledger(self.workspace.path("ledger")))

    def _register(self, found: Mapping[str, Value], reporter: Reporter, intents: Intents) -> Value:
        events = self.release_events()
        if events is not None:
            # A log that does not hold refuses before the point of no return.
            events.log.check()
        self.inputs.confirm()
        published = _value(found, "publish", values.PublishedRelease)
        registered = register.run(
            self.plan,
            published,
            _value(found, "archive", values.ReleaseArchive),
            _value(found, "smoke", values.SmokeEvidence),
            others=self._other_hosts(),
            workspace=self.workspace,
            reporter=reporter,
            intents=intents,
            coordinator=self.coordinator,
            tombstones=self.find_tombstone,
        )
        return events.registered(published, registered) if events else registered

    def _promote(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        published = _value(found, "publish", values.PublishedRelease)
        promoted = promote.run(
            self.plan,
            published,
            _value(found, "register", values.RegisteredRelease),
            _value(found, "smoke", values.SmokeEvidence),
            others=self._other_hosts(),
            workspace=self.workspace,
            reporter=reporter,
            store=self.new_store(),
            coordinator=self.coordinator,
        )
        events = self.release_events()
        if events is None:
            return promoted
        return events.promoted(published, promoted, workspace=self.workspace)

    def _github(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        return github.run(
            self.plan,
            _value(found, "archive", values.ReleaseArchive),
            _value(found, "promote", values.PromotedRelease),
            workspace=self.workspace,
            reporter=reporter,
            github=self.github,
            notes=notes.render(self.plan, found),
            documents=_documents(found),
        )


def _documents(found: Mapping[str, Value]) -> list[values.PublishedDocument]:
    """What stands beside the archive, and the log's head, for the release on GitHub."""
    given = (found.get("publish"), found.get("promote"))
    kinds = (values.PublishedRelease, values.PromotedRelease)
    return [one for value in given if isinstance(value, kinds) for one in value.documents]


def _folder_digest(folder: Path) -> str:
    """One digest for a folder: names, modes and contents."""
    listed = [file.model_dump_json() for file in listing.sealed_files(folder)]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def _value(found: Mapping[str, Value], name: str, kind: type[V]) -> V:
    value = found[name]
    if not isinstance(value, kind):
        message = f"{name} returned {type(value).__name__}, not {kind.__name__}"
        raise TypeError(message)
    return value
