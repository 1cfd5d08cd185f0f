"""Notarize and staple against the embedded environment's notary, and all that it does wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug.serving import WSGIRequestHandler

from release_tool import errors
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.rehearsal import counts, faults, notary_servers, places, servers
from release_tool.rehearsal.notary_worker import Delays
from release_tool.services import retries
from release_tool.services.notary_api import NotaryAPI
from release_tool.services.notary_token import APIKey
from release_tool.services.notary_uploads import Uploads
from release_tool.services.stapler import TicketService
from release_tool.stages import notarize, staple
from release_tool.values import Notarization, SignedBundle, StapledBundle
from tests import signed_release
from tests.services.test_notary_token import pem
from tests.small_world import MemoryIntents
from tests.stages import notary_world
from tests.stages.release_parts import Told

ISSUER = "57246542-96fe-1a63-e053-0824d011072a"


@lru_cache
def _key() -> bytes:
    return pem(ec.generate_private_key(ec.SECP256R1()))


def _sleep(seconds: float) -> None:
    time.sleep(min(seconds, 0.05))


@dataclass
class World:
    """The look-alikes, and one machine that releases."""

    folder: Path
    plan: ReleasePlan
    addresses: notary_servers.Addresses
    broken: faults.Faults
    workspace: Workspace
    signed: SignedBundle
    intents: MemoryIntents = field(default_factory=MemoryIntents)
    told: Told = field(default_factory=Told)

    @property
    def policy(self) -> retries.Policy:
        return retries.Policy(attempts=5, sleep=_sleep)

    def notarize(self) -> Notarization:
        notary = NotaryAPI(
            base_url=self.addresses.notary_url,
            upload_url=self.addresses.notary_upload_url,
            key=APIKey(private_key=_key, key_id=lambda: "2X9R4HXF34", issuer_id=lambda: ISSUER),
            uploads=Uploads(folder=self.workspace.path(".notary")),
            policy=self.policy,
            multipart_bytes=16_000,
            part_bytes=5 * 1024 * 1024,
        )
        return notarize.run(
            self.plan,
            self.signed,
            workspace=self.workspace,
            reporter=self.told,
            intents=self.intents,
            notary=notary,
            trust=signed_release.trust(),
            patience=notarize.Patience(seconds=20, sleep=_sleep),
        )

    def staple(self, value: Notarization, *, wait: bool = True) -> StapledBundle:
        return staple.run(
            self.plan,
            self.signed,
            value,
            workspace=self.workspace,
            reporter=self.told,
            tickets=TicketService(url=self.addresses.ticket_url, policy=self.policy),
            trust=signed_release.trust(),
            patience=staple.Patience(wait=wait, sleep=_sleep),
        )

    def asked(self, operation: str) -> int:
        journal = counts.notary(self.folder)
        return sum(one.operation == operation for one in journal)


@pytest.fixture
def world(plan: ReleasePlan, tmp_path: Path) -> Iterator[World]:
    """Fresh servers with an authority that signs tickets for what is trusted here."""
    broken = faults.Faults()
    with ExitStack() as stack:

        def start(
            name: str,
            application: object,
            handler: type[WSGIRequestHandler] = servers.QuietHandler,
        ) -> servers.Server:
            made = servers.Server(application, handler=handler)  # type: ignore[arg-type]
            return stack.enter_context(made)

        settings = notary_servers.Settings(
            key=notary_servers.api_key(_key().decode(), key_id="2X9R4HXF34", issuer_id=ISSUER),
            delays=Delays(processing_seconds=0.1, ticket_seconds=0.1),
            slow_seconds=0.2,
        )
        addresses = notary_servers.serve(
            places.notary(tmp_path / "state"),
            signed_release.look_alike(),
            settings,
            broken=broken,
            stack=stack,
            start=start,
        )
        workspace = Workspace(tmp_path / "work")
        signed = notary_world.signed(workspace)
        yield World(tmp_path / "state", plan, addresses, broken, workspace, signed)


# Several in one run, each met at another request.
PASSING = [
    {},
    {
        faults.NOTARY_UNAUTHORIZED: 1,
        faults.NOTARY_THROTTLED: 1,
        faults.UPLOAD_UNAVAILABLE: 2,
        faults.NOTARY_LOG_LATE: 3,
        faults.TICKET_THROTTLED: 1,
    },
    {
        faults.NOTARY_ERROR: 2,
        faults.UPLOAD_CUT: 1,
        faults.NOTARY_LOG_UNAVAILABLE: 2,
        faults.TICKET_UNAVAILABLE: 2,
    },
    {
        faults.NOTARY_HTML: 1,
        faults.NOTARY_HTML_OK: 1,
        faults.NOTARY_RESET: 1,
        faults.NOTARY_UNKNOWN_STATUS: 2,
        faults.TICKET_HTML: 1,
        faults.TICKET_RESET: 1,
    },
    {
        faults.NOTARY_TRUNCATED: 2,
        faults.NOTARY_SLOW: 2,
        faults.NOTARY_LOG_EXPIRED: 1,
        faults.NOTARY_WARNING: 1,
        faults.TICKET_LATE: 4,
    },
    {
        faults.NOTARY_DROP_AFTER_SUBMIT: 1,
        faults.UPLOAD_DROP_AFTER_WRITE: 1,
        faults.TICKET_OTHER_APP: 1,
    },
    {faults.NOTARY_UNAVAILABLE: 2, faults.TICKET_LACKS_SLICE: 1},
]


@pytest.mark.parametrize("wanted", PASSING, ids=lambda wanted: "+".join(wanted) or "none")
def test_what_passes_ends_in_a_stapled_app(world: World, wanted: dict[str, int]) -> None:
    """Each fault that passes: one upload, one verdict, a good ticket, and no token elsewhere."""
    world.broken.set(wanted)
    value = world.notarize()
    stapled = world.staple(value)
    assert len(value.cdhashes) == 2
    assert stapled.ticket_sha256 in stapled.outputs().values()
    uploads = world.asked("PutObject") + world.asked("CompleteMultipartUpload")
    assert uploads in ((1, 2) if faults.UPLOAD_DROP_AFTER_WRITE in wanted else (1,))
    assert world.asked("submit") == (2 if faults.NOTARY_DROP_AFTER_SUBMIT in wanted else 1)
    assert world.asked("bearer leak") == 0
    if faults.NOTARY_WARNING in wanted:
        assert value.issues


REFUSED: list[tuple[str, type[errors.ReleaseError], str]] = [
    (faults.NOTARY_AGREEMENT, errors.RemoteRefusedError, "Account Holder"),
    (faults.NOTARY_PROVIDER, errors.CredentialError, "team"),
    (faults.NOTARY_REDIRECT, errors.RemoteRefusedError, "the notary's own address only"),
    (faults.NOTARY_REJECTED, errors.RemoteRefusedError, "Developer Support"),
    (faults.NOTARY_LOG_OTHER_SHA256, errors.VerificationError, "do not ship"),
    (faults.NOTARY_LOG_LACKS_CDHASH, errors.VerificationError, "do not ship"),
    (faults.UPLOAD_EXPIRED, errors.TransientError, "a new submission is made"),
]


@pytest.mark.parametrize(("fault", "kind", "advice"), REFUSED)
def test_what_does_not_pass_is_told_with_its_advice(
    world: World, fault: str, kind: type[errors.ReleaseError], advice: str
) -> None:
    """One fault each; the token stays at home; and where it can pass, the next run does."""
    world.broken.set({fault: 1})
    with pytest.raises(kind) as caught:
        world.notarize()
    assert advice in caught.value.hint
    assert world.asked("bearer leak") == 0
    if fault not in {faults.NOTARY_LOG_OTHER_SHA256, faults.NOTARY_LOG_LACKS_CDHASH}:
        world.staple(world.notarize())


@pytest.mark.parametrize(
    "fault", [faults.TICKET_BAD_SIGNATURE, faults.TICKET_OTHER_APP, faults.TICKET_LACKS_SLICE]
)
def test_a_ticket_that_does_not_serve_is_not_stapled(world: World, fault: str) -> None:
    """Badly signed, for another app, or without a slice of ours: exit 6, and nothing is left."""
    value = world.notarize()
    time.sleep(0.2)
    world.broken.set({fault: 20})
    with pytest.raises(errors.VerificationError) as caught:
        world.staple(value, wait=False)
    assert "run again" in caught.value.hint
    assert not world.workspace.path("stapled").exists()


def test_a_submission_of_a_lost_record_is_found(world: World) -> None:
    """Another machine asks the look-alike's history, whose entries tell no digest."""
    first = world.notarize()
    world.intents = MemoryIntents()
    assert world.notarize() == first
    assert world.asked("submit") == 1
