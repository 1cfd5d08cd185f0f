"""Services by their settings: the one place that knows which secret each gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from release_tool import credentials, data, errors
from release_tool.apple import armor, certificates, identity
from release_tool.cli import model_cache, notary_route
from release_tool.cli.wiring import shape
from release_tool.cli.wiring.inputs import Inputs
from release_tool.config import Resolved
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.provenance import keys, log
from release_tool.provenance.keys import PublicKey, SigningKey
from release_tool.services import (
    addresses,
    hub_errors,
    keychain,
    notarytool,
    patience,
    public_document,
    registration_claim,
    release_log,
    release_pointer,
    tombstone,
)
from release_tool.services.apple_tools import AppleTools
from release_tool.services.coordinator import Coordinator
from release_tool.services.github import GitHub
from release_tool.services.model_store import ModelStore
from release_tool.services.multipart_upload import Parts
from release_tool.services.notary import Notary
from release_tool.services.notary_api import NotaryAPI
from release_tool.services.notary_token import APIKey
from release_tool.services.notary_uploads import Uploads
from release_tool.services.object_store import ObjectStore
from release_tool.services.registration_claim import Claims
from release_tool.services.release_log import ReleaseLog
from release_tool.services.release_pointer import Pointer
from release_tool.services.stapler import TicketService
from release_tool.services.tombstone import Tombstone
from release_tool.stages import (
    aliases,
    release_events,
    role_entitlements,
)

_MAKE_A_KEY = (
    "make one: release-tool provenance-key provenance.pem; the file's text is the secret, and the"
    " line that it prints goes under `provenance: keys:` of the environment in release.yaml"
)
# Beside the records, and outside of every one of them.
_UPLOADS = ".notary"
_STORE_KEYS = frozenset(("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"))


@dataclass(kw_only=True)
class Services:
    """The services of one release, each made where it is first asked for, with its own secret."""

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

    @property
    def _has_store_keys(self) -> bool:
        """Whether this job may ask the bucket itself."""
        return self.resolved.credentials.secrets.keys() >= _STORE_KEYS

    def find_tombstone(self, version: str) -> Tombstone | None:
        """A version's tombstone; asked of the bucket where this job has its keys."""
        prefix = self.plan.publish.prefix
        if self._has_store_keys:
            return tombstone.find(self.new_store(), prefix, version)
        return tombstone.find_served(self._public_base, prefix, version)

    def find_pointer(self) -> Pointer | None:
        """The pointer to the latest release; asked of the bucket where this job has its keys."""
        key = aliases.pointer_key(self.plan)
        if self._has_store_keys:
            found = aliases.read_pointer(self.new_store(), key)
            return found[1] if found else None
        address = addresses.join(self._public_base, key)
        content = public_document.fetch(address, limit_bytes=release_pointer.LIMIT_BYTES)
        return aliases.parse_pointer(address, content) if content is not None else None

    def claims(self) -> Claims:
        """The claim of this version; without the bucket's keys it is only read."""
        prefix, version = self.plan.publish.prefix, self.plan.version
        if self._has_store_keys:
            return registration_claim.in_bucket(self.new_store(), prefix, version)
        return registration_claim.served(self._public_base, prefix, version)

    def is_logged(self) -> bool:
        """Whether the log of releases tells that this version was registered, for either job.

        Raises:
            VerificationError: what stands there is no log.
        """
        if not shape.is_signed_for(self.plan):
            return False
        key = release_log.key_of(self.plan.publish.prefix)
        content: bytes | None
        if self._has_store_keys:
            found = self.new_store().read(key, limit_bytes=log.LIMIT_BYTES)
            content = found[1] if found else None
        else:
            address = addresses.join(self._public_base, key)
            content = public_document.fetch(address, limit_bytes=log.LIMIT_BYTES)
        return release_log.tells_of(content, self.plan.version, subject=key)

    @property
    def _public_base(self) -> str:
        return addresses.base(self.plan.endpoints.r2_public_url, name="R2_PUBLIC_URL")

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
    def trusted_keys(self) -> tuple[PublicKey, ...]:
        """Those, or the one of an embedded environment, which nobody pins."""
        return self.pinned_keys or (self.signing_key.public,)

    def release_events(self) -> release_events.Events | None:
        """The log of releases; None where none is kept or this job may not write to it."""
        wanted = {*_STORE_KEYS, credentials.PROVENANCE_KEY}
        if (
            not shape.is_signed_for(self.plan)
            or not self.resolved.credentials.secrets.keys() >= wanted
        ):
            return None
        kept = ReleaseLog(
            store=self.new_store(),
            prefix=self.plan.publish.prefix,
            environment=self.plan.environment.name,
            key=self.signing_key,
            trusted=self.trusted_keys,
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
