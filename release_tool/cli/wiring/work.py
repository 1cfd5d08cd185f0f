"""The work of each stage: its call, with exactly the services, secrets and tools that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from release_tool import credentials, data, errors, values
from release_tool.apple import identity
from release_tool.cli import provenance_run, release_before
from release_tool.cli.wiring import shape
from release_tool.cli.wiring.externals import Externals
from release_tool.cli.wiring.services import Services
from release_tool.files import zip_writer
from release_tool.ledger import Ledger
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.provenance.statement import Materials, Run
from release_tool.report import notes, smoke_refused
from release_tool.services import (
    ditto,
    wheels,
)
from release_tool.services.codesign_signer import Route
from release_tool.stages import (
    archive,
    assemble,
    attestation,
    github,
    install_smoke,
    mac_verdicts,
    notarize,
    profile,
    promote,
    public_copy,
    publish,
    register,
    registered_row,
    sign,
    smoke,
    staple,
)
from release_tool.values import Intents, Value

V = TypeVar("V", bound=Value)


@dataclass(kw_only=True)
class StageWork:
    """One method for each stage, by the stage's name."""

    wired: Services
    externals: Externals

    @property
    def plan(self) -> ReleasePlan:
        return self.wired.plan

    def profile(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        del found
        if self.wired.inputs.profile is None:
            raise errors.CredentialError(
                "there is no provisioning profile",
                hint="set PROVISIONING_PROFILE_BASE64 or name a file with --profile",
            )
        return profile.run(
            self.plan,
            self.wired.inputs.profile,
            workspace=self.wired.workspace,
            reporter=reporter,
            trust=self.wired.trust,
            entitlements=self.wired.entitlements,
            certificate=self.wired.identity.leaf if self.wired.identity else None,
        )

    def assemble(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        if self.wired.inputs.binaries is None:
            raise errors.UsageError(
                "nothing says where the binaries are", hint="name their folder with --binaries"
            )
        return assemble.run(
            self.plan,
            _value(found, "profile", values.VerifiedProfile) if "profile" in found else None,
            workspace=self.wired.workspace,
            reporter=reporter,
            binaries=self.wired.inputs.binaries,
            entitlements=data.entitlements_folder(),
            metallib=self.wired.inputs.metallib,
            cache=wheels.cache_folder(self.wired.inputs.environ),
            environ=credentials.for_pip(self.wired.inputs.environ),
        )

    def sign(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        return sign.run(
            self.plan,
            _value(found, "assemble", values.AssembledBundle),
            workspace=self.wired.workspace,
            reporter=reporter,
            identity=self.wired.identity,
            trust=self.wired.trust,
            timestamp_url=self.plan.endpoints.timestamp_url,
            route=self._codesign_route() if self.plan.environment.signer == "codesign" else None,
        )

    def _codesign_route(self) -> Route:
        """The identity of a file in a keychain made for the run, or one of the user's own."""
        exported = self.wired.inputs.identity
        if exported is None:
            return Route(tools=self.wired.apple_tools)

        def export(new_password: str) -> tuple[identity.Identity, bytes]:
            return identity.for_keychain(
                exported,
                self.wired.inputs.identity_password(),
                new_password=new_password,
                known=self.wired.trust.roots,
            )

        return Route(export=export, tools=self.wired.apple_tools)

    def notarize(self, found: Mapping[str, Value], reporter: Reporter, intents: Intents) -> Value:
        with self.wired.notary(reporter) as notary:
            return notarize.run(
                self.plan,
                _value(found, "sign", values.SignedBundle),
                workspace=self.wired.workspace,
                reporter=reporter,
                intents=intents,
                notary=notary,
                trust=self.wired.trust,
                patience=notarize.Patience(wait=self.wired.inputs.wait),
                pack=notarize.with_ditto(self.wired.apple_tools)
                if shape.is_signed_by_apple(self.plan)
                else zip_writer.pack,
            )

    def staple(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        return staple.run(
            self.plan,
            _value(found, "sign", values.SignedBundle),
            _value(found, "notarize", values.Notarization),
            workspace=self.wired.workspace,
            reporter=reporter,
            tickets=self.wired.tickets,
            trust=self.wired.trust,
            patience=staple.Patience(wait=self.wired.inputs.wait),
            verdicts=mac_verdicts.of_stapled(self.plan.environment, tools=self.wired.apple_tools),
            copy=self._copy_with_attributes if shape.is_signed_by_apple(self.plan) else None,
        )

    def _copy_with_attributes(self, source: Path, target: Path) -> None:
        ditto.copy(source, target, tools=self.wired.apple_tools)

    def archive(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        return archive.run(
            self.plan,
            _value(found, shape.packed(self.plan)[0], values.SignedBundle),
            _value(found, "assemble", values.AssembledBundle),
            workspace=self.wired.workspace,
            reporter=reporter,
            trust=self.wired.trust,
            tools=self.wired.apple_tools,
        )

    def smoke(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        return smoke.run(
            self.plan,
            _value(found, "archive", values.ReleaseArchive),
            workspace=self.wired.workspace,
            reporter=reporter,
            stand_in=self.wired.inputs.stand_in,
            model=self.wired.inputs.model,
            models=self.wired.models,
            read=public_copy.with_facts(self.wired.trust),
            install=install_smoke.judge,
            before=release_before.find(self.wired.workspace.root, self.plan.version),
            show=smoke_refused.as_markdown,
        )

    def publish(self, found: Mapping[str, Value], reporter: Reporter, intents: Intents) -> Value:
        store = self.wired.new_store()
        reading = attestation.Reading(public_copy.with_facts(self.wired.trust))
        if shape.is_signed_for(self.plan):
            # A key that does not serve is found before anything stands in the bucket.
            _ = self.wired.signing_key
        published = publish.run(
            self.plan,
            _value(found, "archive", values.ReleaseArchive),
            _value(found, "smoke", values.SmokeEvidence),
            others=self.externals.other_hosts(),
            workspace=self.wired.workspace,
            reporter=reporter,
            intents=intents,
            store=store,
            judge=reading.judge,
        )
        if not shape.is_signed_for(self.plan):
            return published
        return attestation.publish(
            self.plan,
            published,
            self._materials(found),
            self._run(),
            reading.facts,
            key=self.wired.signing_key,
            trusted=self.wired.trusted_keys,
            workspace=self.wired.workspace,
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
        return provenance_run.of(Ledger(self.wired.workspace.path("ledger")))

    def register(self, found: Mapping[str, Value], reporter: Reporter, intents: Intents) -> Value:
        events = self.wired.release_events()
        if events is not None:
            # A log that does not hold refuses before the point of no return.
            events.log.check()
        self.wired.inputs.confirm()
        published = _value(found, "publish", values.PublishedRelease)
        registered = register.run(
            self.plan,
            published,
            _value(found, "archive", values.ReleaseArchive),
            _value(found, "smoke", values.SmokeEvidence),
            others=self.externals.other_hosts(),
            workspace=self.wired.workspace,
            reporter=reporter,
            intents=intents,
            coordinator=self.wired.coordinator,
            tombstones=self.wired.find_tombstone,
            public=registered_row.Public(
                pointer=self.wired.find_pointer, logged=self.wired.is_logged
            ),
            claims=self.wired.claims(),
        )
        return events.registered(published, registered) if events else registered

    def promote(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        published = _value(found, "publish", values.PublishedRelease)
        promoted = promote.run(
            self.plan,
            published,
            _value(found, "register", values.RegisteredRelease),
            _value(found, "smoke", values.SmokeEvidence),
            others=self.externals.other_hosts(),
            workspace=self.wired.workspace,
            reporter=reporter,
            store=self.wired.new_store(),
            coordinator=self.wired.coordinator,
        )
        events = self.wired.release_events()
        if events is None:
            return promoted
        return events.promoted(published, promoted, workspace=self.wired.workspace)

    def github(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        return github.run(
            self.plan,
            _value(found, "archive", values.ReleaseArchive),
            _value(found, "promote", values.PromotedRelease),
            workspace=self.wired.workspace,
            reporter=reporter,
            github=self.wired.github,
            notes=notes.render(self.plan, found),
            documents=_documents(found),
            trusted=self.wired.trusted_keys if shape.is_signed_for(self.plan) else (),
        )


def _documents(found: Mapping[str, Value]) -> list[values.PublishedDocument]:
    """What stands beside the archive, and the log's head, for the release on GitHub."""
    given = (found.get("publish"), found.get("promote"))
    kinds = (values.PublishedRelease, values.PromotedRelease)
    return [one for value in given if isinstance(value, kinds) for one in value.documents]


def _value(found: Mapping[str, Value], name: str, kind: type[V]) -> V:
    value = found[name]
    if not isinstance(value, kind):
        message = f"{name} returned {type(value).__name__}, not {kind.__name__}"
        raise TypeError(message)
    return value
