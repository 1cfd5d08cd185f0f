"""What a preflight asks: each service, key, profile and expiry that a coming stage needs."""

from __future__ import annotations

import contextlib
import shutil
from datetime import UTC, datetime

from release_tool import errors
from release_tool.apple import certificates, provisioning_profile
from release_tool.apple.policy import expiry
from release_tool.cli import extras
from release_tool.cli.preflight import Probe
from release_tool.cli.wiring import Services
from release_tool.progress import Silent
from release_tool.services import addresses, codesign, keychain, public_url, readiness
from release_tool.services.timestamp import TimestampService
from release_tool.stages import build_output, findings, github, profile, smoke_model, version_series

# The assembled, the signed and the unpacked app, and the archive, each about 150 MB.
_FREE_BYTES = 1_000_000_000
_PUBLIC_SECONDS = 20.0
# Its approvals take half a minute to reach a coordinator; the preflight has less than a minute.
_READY_SECONDS = 35.0
OUTWARD = frozenset({"publish", "register", "promote", "github"})
"""The stages that bring a release to users: none of them for a withdrawn version."""


def of(wired: Services) -> list[Probe]:
    """Every probe of a release; the preflight picks those that coming stages need."""
    asks = _Asks(wired)
    return [
        Probe(
            name="disk",
            stages=frozenset({"assemble", "sign", "notarize", "staple", "archive"}),
            ask=asks.disk,
        ),
        Probe(
            name="entitlements",
            stages=frozenset({"profile", "assemble"}),
            ask=asks.entitlements,
        ),
        Probe(name="profile", stages=frozenset({"profile", "sign"}), ask=asks.profile),
        Probe(name="binaries", stages=frozenset({"assemble"}), ask=asks.binaries),
        Probe(name="signer", stages=frozenset({"sign"}), ask=asks.signer),
        Probe(name="expiry", stages=frozenset({"profile", "sign"}), ask=asks.expiry),
        Probe(name="timestamps", stages=frozenset({"sign"}), ask=asks.timestamps),
        Probe(name="notary", stages=frozenset({"notarize"}), ask=asks.notary),
        Probe(name="tickets", stages=frozenset({"staple"}), ask=asks.tickets),
        Probe(name="reference", stages=frozenset({"smoke"}), ask=asks.reference),
        Probe(name="model", stages=frozenset({"smoke"}), ask=asks.model),
        Probe(name="bucket", stages=frozenset({"publish", "promote"}), ask=asks.bucket),
        Probe(name="provenance key", stages=frozenset({"publish", "promote"}), ask=asks.key),
        Probe(name="release log", stages=OUTWARD - {"github"}, ask=asks.log),
        Probe(name="public address", stages=frozenset({"publish"}), ask=asks.public),
        Probe(name="tombstone", stages=OUTWARD, ask=wired.look_out),
        Probe(name="coordinator", stages=frozenset({"register", "promote"}), ask=asks.latest),
        Probe(name="release key", stages=frozenset({"register"}), ask=asks.release_key),
        Probe(name="github", stages=frozenset({"github"}), ask=asks.github),
    ]


def ends(wired: Services) -> tuple[expiry.Row, ...]:
    """What ends of that which is at hand; what cannot be read is told by its own probe."""
    found: provisioning_profile.Profile | None = None
    leaf: certificates.Certificate | None = None
    chain: tuple[certificates.Certificate, ...] = ()
    with contextlib.suppress(errors.ReleaseError):
        if wired.identity is not None:
            leaf, chain = wired.identity.leaf, wired.identity.chain
    with contextlib.suppress(errors.ReleaseError):
        if wired.inputs.profile is not None:
            found = provisioning_profile.read(wired.inputs.profile, trust=wired.trust)
    authorities = expiry.apple_timestamp_authorities() if wired.trust.is_apple else ()
    return expiry.forecast(
        now=datetime.now(UTC),
        leaf=leaf,
        chain=chain,
        profile=found,
        timestamp_authorities=authorities,
    )


class _Asks:
    """The questions, one method each."""

    def __init__(self, wired: Services) -> None:
        self._wired = wired
        self._plan = wired.plan

    def disk(self) -> None:
        root = self._wired.workspace.root
        free = shutil.disk_usage(root if root.exists() else root.parent.parent.parent).free
        if free < _FREE_BYTES:
            raise errors.HostError(
                "the disk is too full",
                subject=str(root),
                expected=f"{_FREE_BYTES // 1_000_000} MB free",
                observed=f"{free // 1_000_000} MB free",
                hint="make room on this volume, then run again",
            )

    def entitlements(self) -> None:
        _ = self._wired.entitlements

    def profile(self) -> None:
        found = self._wired.inputs.profile
        if found is None:
            return
        try:
            claimed, identity = self._wired.entitlements, self._wired.identity
        except errors.ReleaseError:
            # Told by the probes `entitlements` and `signer`; the profile is not to blame.
            claimed, identity = (), None
        profile.judge(
            self._plan,
            provisioning_profile.read(found, trust=self._wired.trust),
            entitlements=claimed,
            certificate=identity.leaf if identity else None,
            now=datetime.now(UTC),
        )

    def binaries(self) -> None:
        folder = self._wired.inputs.binaries
        if folder is None:
            raise errors.UsageError(
                "nothing says where the binaries are", hint="name their folder with --binaries"
            )
        judged = build_output.judge_manifest(self._plan, build_output.read_manifest(folder))
        judged += build_output.judge_folder(self._plan, folder)
        findings.require(judged, f"{folder} is not what this release is made of")

    def signer(self) -> None:
        if self._plan.environment.signer == "codesign":
            codesign.require(self._wired.apple_tools)
        identity = self._wired.identity
        if identity is None and self._plan.environment.signer == "codesign":
            wanted = keychain.Wanted(name=self._plan.product.signing_identity)
            keychain.find(wanted, tools=self._wired.apple_tools)
            return
        if identity is None:
            raise errors.CredentialError(
                "there is no signing identity",
                hint="set APPLE_CERTIFICATE_P12 or name a file with --identity",
            )
        identity.require_valid(datetime.now(UTC))

    def expiry(self) -> None:
        # What the profile holds is judged with the profile.
        signing = ("signing certificate", "intermediate", "timestamp CA")
        judged = expiry.judge(row for row in ends(self._wired) if row.what in signing)
        ended = [check for check in judged if check.outcome == "failed"]
        if ended:
            raise errors.CredentialError(
                "what signing needs has ended",
                details=[f"{check.name} {check.subject}: {check.observed}" for check in ended],
                hint="; ".join(dict.fromkeys(check.hint for check in ended)),
            )

    def timestamps(self) -> None:
        if self._plan.environment.signer == "portable":
            url = self._plan.endpoints.timestamp_url
            TimestampService(url=url, trust=self._wired.trust).stamp(b"preflight")

    def notary(self) -> None:
        # Key, role and agreements all show in it, and it changes nothing.
        with self._wired.notary(Silent()) as notary:
            notary.history()

    def tickets(self) -> None:
        self._wired.tickets.check()

    def reference(self) -> None:
        extras.require("smoke", "mlx_lm", "the smoke run")

    def model(self) -> None:
        smoke_model.check(self._plan, self._wired.inputs.model, self._wired.models)

    def bucket(self) -> None:
        store = self._wired.new_store()
        store.check()
        # Better told now than after an hour of signing and waiting.
        store.check_write(f"{self._plan.publish.prefix}/preflight")

    def key(self) -> None:
        if self._plan.environment.provenance is not None:
            _ = self._wired.signing_key

    def log(self) -> None:
        events = self._wired.release_events()
        if events is not None:
            events.log.check()

    def public(self) -> None:
        base = addresses.base(self._plan.endpoints.r2_public_url, name="R2_PUBLIC_URL")
        # Nothing stands at this key: the answer that counts is that there is one.
        public_url.read(
            addresses.join(base, f"{self._plan.publish.prefix}/preflight"),
            limit_bytes=1_000_000,
            seconds=_PUBLIC_SECONDS,
            reporter=Silent(),
        )

    def latest(self) -> None:
        readiness.when_ready(
            lambda: version_series.require_own(self._plan, self._wired.coordinator),
            seconds=_READY_SECONDS,
            reporter=Silent(),
        )

    def release_key(self) -> None:
        self._wired.coordinator.check_key()

    def github(self) -> None:
        self._wired.github.check()
        github.check_tag(self._plan, self._wired.github)
