"""Every call that a client of `services/` makes to another host, with a canary in each secret."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from release_tool import errors
from release_tool.apple.certificates import Trust
from release_tool.progress import Silent
from release_tool.services import public_url, retries
from release_tool.services.coordinator import Coordinator
from release_tool.services.coordinator_rules import Build, Release
from release_tool.services.github import Asset, GitHub
from release_tool.services.github import Release as GitHubRelease
from release_tool.services.github_issues import Issue, Issues
from release_tool.services.github_public import PublicReleases
from release_tool.services.github_runs import Runs, WorkflowRun
from release_tool.services.hub import Hub
from release_tool.services.hub_listing import HubFile
from release_tool.services.multipart_upload import Parts
from release_tool.services.notary_api import NotaryAPI
from release_tool.services.notary_store import Sender
from release_tool.services.notary_token import APIKey
from release_tool.services.notary_uploads import Begun, Target, Uploads
from release_tool.services.object_store import ObjectStore, StoredObject
from release_tool.services.stapler import TicketService
from release_tool.services.timestamp import TimestampService
from tests import scripted_server
from tests.scripted_server import ScriptedServer

RELEASE_KEY = "canary-release-key/+0123456789"
ADMIN_KEY = 'canary-admin-key"\\%0123456789'
GITHUB_TOKEN = "ghs_canary0token0123456789"
ACCESS_KEY_ID = "AKIACANARY0123456789"
SECRET_ACCESS_KEY = "canary/secret+access0123456789"
SESSION_ACCESS_KEY_ID = "ASIACANARY0123456789"
SESSION_SECRET_KEY = "canary/session+secret0123456789"
SESSION_TOKEN = "canary-session-token0123456789=="
API_KEY_ID = "CANARY2X9R"
ISSUER_ID = "ca9a91e5-0000-4000-8000-0123456789ab"
HF_TOKEN = "hf_canary0token0123456789"
SECRETS = (
    HF_TOKEN,
    *(RELEASE_KEY, ADMIN_KEY, GITHUB_TOKEN, ACCESS_KEY_ID, SECRET_ACCESS_KEY),
    *(SESSION_ACCESS_KEY_ID, SESSION_SECRET_KEY, SESSION_TOKEN, API_KEY_ID, ISSUER_ID),
)
_ONCE = retries.Policy(attempts=1, sleep=lambda _: None)
_SUBMISSION = "0b5c6f1e-2d5b-4b0e-9d2e-8a4f3b2c1de1"
_SHA256 = "1" * 64


def _api_key() -> APIKey:
    made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return APIKey(private_key=lambda: made, key_id=lambda: API_KEY_ID, issuer_id=lambda: ISSUER_ID)


class Clients:
    """One client of each kind, all of one server."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.file = folder / "content.bin"
        self.file.write_bytes(b"content" * 100)
        self.uploads = Uploads(folder=folder / ".notary")
        self.coordinator = Coordinator(
            base_url=url,
            release_key=lambda: RELEASE_KEY,
            admin_key=lambda: ADMIN_KEY,
            seconds=5,
            policy=_ONCE,
        )
        self.github = GitHub(
            api_url=url,
            uploads_url=url,
            repository="octo-org/darkbloom",
            token=lambda: GITHUB_TOKEN,
            seconds=5,
        )
        self.issues = Issues(
            api_url=url,
            uploads_url=url,
            repository="octo-org/darkbloom",
            token=lambda: GITHUB_TOKEN,
            seconds=5,
        )
        self.runs = Runs(
            api_url=url,
            uploads_url=url,
            repository="octo-org/darkbloom",
            token=lambda: GITHUB_TOKEN,
            seconds=5,
        )
        self.notary = NotaryAPI(
            base_url=url, upload_url=url, key=_api_key(), uploads=self.uploads, policy=_ONCE
        )
        self.store = self._store(Parts())
        self.store_in_parts = self._store(Parts(above_bytes=100, part_bytes=400))
        self.sender = Sender(endpoint=url, uploads=self.uploads, policy=_ONCE)
        self.tickets = TicketService(url=url, policy=_ONCE)
        self.hub = Hub(endpoint=url, token=lambda: HF_TOKEN, policy=_ONCE)
        self.timestamps = TimestampService(
            url=url, trust=Trust(name="none", roots=()), policy=_ONCE
        )

    def _store(self, parts: Parts) -> ObjectStore:
        return ObjectStore(
            endpoint=self.url,
            bucket="releases",
            access_key_id=lambda: ACCESS_KEY_ID,
            secret_access_key=lambda: SECRET_ACCESS_KEY,
            policy=_ONCE,
            parts=parts,
        )


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of one client."""

    name: str
    """`CLASS.METHOD`, or a function's name."""
    make: Callable[[Clients], object]
    sends: str = "Bearer"
    """The kind of credential; empty where none is sent."""
    follows: bool = False
    """Whether a redirect leads to a place that is fetched without the credential."""


def _release() -> Release:
    return Release(
        version="0.5.0",
        platform="macos-arm64",
        backend="mlx-swift",
        binary_hash=_SHA256,
        bundle_hash=_SHA256,
        metallib_hash=_SHA256,
        url="https://cdn.example/releases/v0.5.0/darkbloom-bundle-macos-arm64.tar.gz",
        changelog="",
    )


def _build() -> Build:
    return Build(
        code_directory_hash="2" * 40, source_commit="3" * 40, ci_run_id="1", qualified=True
    )


def _github_release(clients: Clients) -> GitHubRelease:
    return GitHubRelease(
        id=1,
        tag="v0.5.0",
        draft=True,
        immutable=False,
        upload_url=f"{clients.url}/repos/octo-org/darkbloom/releases/1/assets{{?name,label}}",
        page="",
        assets=(),
    )


def _asset(state: str = "uploaded") -> Asset:
    return Asset(id=1, name="a.tar.gz", state=state, size=10, sha256="")


def _stored() -> StoredObject:
    return StoredObject(
        key="k", size=3, etag='"e"', modified=datetime.now(UTC), sha256="", version=""
    )


def _begun() -> Begun:
    return Begun(submission_id=_SUBMISSION, sha256=_SHA256, created=0.0, target=_target())


def _target() -> Target:
    return Target(
        bucket="notary",
        key="prod/x.zip",
        access_key_id=SESSION_ACCESS_KEY_ID,
        secret_access_key=SESSION_SECRET_KEY,
        session_token=SESSION_TOKEN,
    )


def _hub_file() -> HubFile:
    return HubFile(path="model.safetensors", size=10, blob="1" * 40, sha256=_SHA256)


_QUIET = Silent()
_RUN = WorkflowRun(id=1, event="push", ref="v0.5.0")
_ISSUE = Issue(number=1, title="t", body="b", page="https://github.com/octo-org/darkbloom/issues/1")
_AWS = "AWS4-HMAC-SHA256"
CALLS = (
    Call(name="Coordinator.register", make=lambda c: c.coordinator.register(_release())),
    Call(name="Coordinator.approval", make=lambda c: c.coordinator.approval(_release(), _build())),
    Call(name="Coordinator.check_key", make=lambda c: c.coordinator.check_key()),
    Call(name="Coordinator.inventory", make=lambda c: c.coordinator.inventory()),
    Call(
        name="Coordinator.deactivate",
        make=lambda c: c.coordinator.deactivate("0.5.0", "macos-arm64", force=False),
    ),
    Call(name="Coordinator.fleet", make=lambda c: c.coordinator.fleet(), sends=""),
    Call(name="Coordinator.latest", make=lambda c: c.coordinator.latest("macos-arm64"), sends=""),
    Call(name="Coordinator.current", make=lambda c: c.coordinator.current(), sends=""),
    Call(name="GitHub.check", make=lambda c: c.github.check()),
    Call(name="GitHub.commit_of", make=lambda c: c.github.commit_of("v0.5.0")),
    Call(name="GitHub.published", make=lambda c: c.github.published("v0.5.0")),
    Call(name="GitHub.published_at", make=lambda c: c.github.published_at(lambda _: True)),
    Call(name="GitHub.drafts", make=lambda c: c.github.drafts("v0.5.0")),
    Call(
        name="GitHub.create_draft",
        make=lambda c: c.github.create_draft("v0.5.0", name="n", notes=""),
    ),
    Call(name="GitHub.assets", make=lambda c: c.github.assets(_github_release(c))),
    Call(
        name="GitHub.upload",
        make=lambda c: c.github.upload(
            _github_release(c), c.file, name="a.tar.gz", reporter=_QUIET
        ),
    ),
    Call(name="GitHub.discard", make=lambda c: c.github.discard(_asset("starter"))),
    Call(
        name="GitHub.read_back",
        make=lambda c: c.github.read_back(_asset(), limit_bytes=10, reporter=_QUIET),
        follows=True,
    ),
    Call(
        name="GitHub.content",
        make=lambda c: c.github.content(_asset(), limit_bytes=10),
        follows=True,
    ),
    Call(
        name="GitHub.publish",
        make=lambda c: c.github.publish(_github_release(c), name="n", notes="", latest=True),
    ),
    Call(name="GitHub.latest", make=lambda c: c.github.latest()),
    Call(
        name="GitHub.show_as_latest",
        make=lambda c: c.github.show_as_latest(_github_release(c)),
    ),
    Call(
        name="GitHub.retitle",
        make=lambda c: c.github.retitle(_github_release(c), name="n", notes="", prerelease=True),
    ),
    Call(name="Runs.own", make=lambda c: list(c.runs.own("release.yml", pages=1))),
    Call(name="Runs.artifacts", make=lambda c: c.runs.artifacts(_RUN)),
    Call(name="Issues.marked", make=lambda c: c.issues.marked("m")),
    Call(name="Issues.open", make=lambda c: c.issues.open("t", "b")),
    Call(name="Issues.change", make=lambda c: c.issues.change(_ISSUE, title="t", body="b")),
    Call(name="Issues.close", make=lambda c: c.issues.close(_ISSUE, reason="r")),
    Call(name="Hub.commit", make=lambda c: c.hub.commit("org/model", "main")),
    Call(name="Hub.files", make=lambda c: c.hub.files("org/model", "1" * 40)),
    Call(
        name="Hub.fetch",
        make=lambda c: c.hub.fetch("org/model", "1" * 40, _hub_file(), io.BytesIO()),
        follows=True,
    ),
    Call(
        name="NotaryAPI.submit",
        make=lambda c: c.notary.submit(c.file, name="a.zip", sha256=_SHA256, reporter=_QUIET),
    ),
    Call(name="NotaryAPI.status", make=lambda c: c.notary.status(_SUBMISSION)),
    Call(name="NotaryAPI.log", make=lambda c: c.notary.log(_SUBMISSION)),
    Call(name="NotaryAPI.history", make=lambda c: c.notary.history()),
    Call(
        name="Sender.send",
        make=lambda c: c.sender.send(c.file, _begun(), _target(), _QUIET),
        sends=_AWS,
    ),
    Call(name="ObjectStore.check", make=lambda c: c.store.check(), sends=_AWS),
    Call(name="ObjectStore.check_write", make=lambda c: c.store.check_write("k"), sends=_AWS),
    Call(name="ObjectStore.head", make=lambda c: c.store.head("k"), sends=_AWS),
    Call(
        name="ObjectStore.create",
        make=lambda c: c.store.create(
            "k", c.file, sha256=_SHA256, version="0.5.0", reporter=_QUIET
        ),
        sends=_AWS,
    ),
    Call(
        name="MultipartUpload.run",
        make=lambda c: c.store_in_parts.create(
            "k", c.file, sha256=_SHA256, version="0.5.0", reporter=_QUIET
        ),
        sends=_AWS,
    ),
    Call(
        name="ObjectStore.copy",
        make=lambda c: c.store.copy(_stored(), "d", over=None, sha256=_SHA256, version="0.5.0"),
        sends=_AWS,
    ),
    Call(name="ObjectStore.read", make=lambda c: c.store.read("k", limit_bytes=10), sends=_AWS),
    Call(
        name="ObjectStore.replace",
        make=lambda c: c.store.replace(
            "k", b"{}", over=None, content_type="application/json", version="0.5.0"
        ),
        sends=_AWS,
    ),
    Call(
        name="ObjectStore.digest",
        make=lambda c: c.store.digest(_stored(), reporter=_QUIET),
        sends=_AWS,
    ),
    Call(name="TicketService.check", make=lambda c: c.tickets.check(), sends=""),
    Call(name="TicketService.lookup", make=lambda c: c.tickets.lookup("0" * 40), sends=""),
    Call(name="TimestampService.stamp", make=lambda c: c.timestamps.stamp(b"octets"), sends=""),
    Call(
        name="PublicReleases.heads",
        make=lambda c: PublicReleases(
            api_url=c.url, repository="octo-org/darkbloom", policy=_ONCE
        ).heads(),
        sends="",
    ),
    Call(
        name="read",
        make=lambda c: public_url.read(
            f"{c.url}/a.tar.gz", limit_bytes=10, seconds=5, reporter=_QUIET, policy=_ONCE
        ),
        sends="",
    ),
)


@contextmanager
def living(folder: Path) -> Iterator[tuple[ScriptedServer, ScriptedServer, Clients]]:
    """A server with its clients, and another one that no credential may reach."""
    with scripted_server.running() as ours, scripted_server.running() as other:
        yield ours, other, Clients(ours.url, folder)


def attempt(call: Call, clients: Clients) -> errors.ReleaseError | None:
    """Make a call; the error that it ends in, or None."""
    try:
        call.make(clients)
    except errors.ReleaseError as problem:
        return problem
    return None
