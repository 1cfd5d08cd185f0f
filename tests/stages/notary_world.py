"""A signed app in a workspace, and a small notary whose every word a test chooses.

The embedded environment's notary judges for itself. This one places verdicts, delays and lies at
exact requests, behind the real client and over a real socket, and its time is the test's.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from release_tool.apple import release
from release_tool.apple.facts import BundleFacts
from release_tool.apple.tree import Subtree
from release_tool.files import zip_writer
from release_tool.files.tree import DiskTree
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.services import retries
from release_tool.services.notary_api import NotaryAPI
from release_tool.services.notary_uploads import Uploads
from release_tool.stages import listing, notarize
from release_tool.values import CodeObject, Notarization, SignedBundle
from tests import signed_release
from tests.scripted_server import Reply, Request, ScriptedServer
from tests.services import notary_script as script
from tests.services.test_notary_token import api_key
from tests.small_world import MemoryIntents
from tests.stages.release_parts import Told

APP = signed_release.APP
_ID = re.compile(r"/notary/v2/submissions/([0-9a-f-]{36})(/logs)?")
Hook = Callable[[Request], Reply | None]


@lru_cache(maxsize=1)
def facts() -> BundleFacts:
    """What is in the signed app."""
    made = signed_release.made()
    tree = Subtree(tree=made.tree(), prefix=APP)
    found = release.verify_app(tree, judge=made.judge(), path=APP).facts
    assert found is not None
    return found


def cdhashes() -> tuple[str, ...]:
    return notarize.cdhashes_of(facts())


def signed(workspace: Workspace) -> SignedBundle:
    """Write the signed app into the workspace, as the sign stage leaves it."""
    made = signed_release.made()
    root = workspace.path("signed")
    for path, content in made.files.items():
        if path.startswith(f"{APP}/"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
            (root / path).chmod(made.modes[path])
    return value(workspace)


def value(workspace: Workspace) -> SignedBundle:
    """The record of what lies there."""
    main = facts().main
    assert main is not None
    return SignedBundle(
        root="signed",
        app=APP,
        files=listing.sealed_files(workspace.path("signed")),
        code=(
            CodeObject(
                path=APP,
                identifier=main.identifier,
                team_id=main.team_id or "",
                cdhash=main.cdhash,
                code_directory_sha256=main.full_digest,
                unsigned_sha256="0" * 64,
                flags=main.flags,
                entitlements=None,
                requirement="",
                signed_at=main.signed_at.isoformat() if main.signed_at else "",
            ),
        ),
        signer="portable",
        certificate_sha256=main.certificate_sha256,
        certificate_name=main.certificate_name,
        sealed_files=3,
    )


@dataclass
class Entry:
    """One submission, as the small notary knows it."""

    id: str
    name: str
    sha256: str
    created: datetime
    uploaded: str = ""
    """SHA-256 of what arrived."""
    statuses: list[str] = field(default_factory=lambda: ["Accepted"])
    """One for each time that somebody asks, the last again and again."""
    log: dict[str, object] = field(default_factory=dict)
    """What its log says otherwise."""
    logs_late: int = 0

    def status(self) -> str:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


class SmallNotary:
    """The notary, its store and its logs; `next` prepares the submission that comes."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self.entries: list[Entry] = []
        self.asked: list[str] = []
        self.before: Hook = lambda _: None
        self.after: Hook = lambda _: None
        self.prepare: Callable[[Entry], None] = lambda _: None
        self.now = datetime.now(UTC)
        self.seconds = 0.0
        server.says(self._framed)

    def client(self, workspace: Workspace) -> NotaryAPI:
        return NotaryAPI(
            base_url=f"{self._server.url}/notary/v2/submissions",
            upload_url=self._server.url,
            key=api_key(),
            uploads=Uploads(folder=workspace.path(".notary")),
            policy=retries.Policy(attempts=2, sleep=self.sleep),
        )

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def patience(self, *, wait: bool = True, seconds: float | None = None) -> notarize.Patience:
        return notarize.Patience(
            wait=wait,
            seconds=seconds,
            sleep=self.sleep,
            monotonic=lambda: self.seconds,
            clock=lambda: self.now + timedelta(seconds=self.seconds),
        )

    def add(self, name: str, sha256: str, *, minutes: float = 0.0) -> Entry:
        """A submission that was made some minutes ago."""
        created = self.now - timedelta(minutes=minutes)
        made = Entry(id=str(uuid.uuid4()), name=name, sha256=sha256, created=created)
        self.entries.append(made)
        return made

    def count(self, what: str) -> int:
        return self.asked.count(what)

    def _framed(self, request: Request) -> Reply:
        early = self.before(request)
        if early is not None:
            return early
        answer = self._answer(request)
        return self.after(request) or answer

    def _answer(self, request: Request) -> Reply:
        if request.method == "POST":
            self.asked.append("submit")
            body = json.loads(request.body)
            made = self.add(body["submissionName"], body["sha256"])
            self.prepare(made)
            data = {"id": made.id, "attributes": {"bucket": "notary", "object": made.id}}
            data["attributes"] |= script.SECRETS  # type: ignore[operator]
            return script.reply(200, {"data": data})
        if request.method == "PUT":
            self.asked.append("upload")
            entry = self._entry(request.path.rpartition("/")[2])
            entry.uploaded = hashlib.sha256(request.body).hexdigest()
            return Reply(200, b"", {"ETag": '"e"'})
        return self._read(request.path)

    def _read(self, path: str) -> Reply:
        if path.startswith("/log/"):
            return Reply(200, json.dumps(self._log(path.removeprefix("/log/"))).encode())
        found = _ID.fullmatch(path)
        if found is None:
            self.asked.append("history")
            return script.history(
                *(
                    {
                        "id": entry.id,
                        "name": entry.name,
                        "status": entry.statuses[0] if entry.uploaded else "In Progress",
                        "created": entry.created.isoformat(),
                    }
                    for entry in reversed(self.entries)
                )
            )
        entry = self._entry(found[1])
        if found[2]:
            self.asked.append("log")
            if entry.logs_late:
                entry.logs_late -= 1
                return script.refusal(404, "NOT_FOUND")
            return script.log_at(f"{self._server.url}/log/{entry.id}")
        self.asked.append("status")
        # What never arrived stays in progress for ever.
        return script.state(entry.status() if entry.uploaded else "In Progress", entry.id)

    def _log(self, submission_id: str) -> dict[str, object]:
        entry = self._entry(submission_id)
        accepted = entry.statuses[0] == "Accepted"
        contents = [{"path": "x", "cdhash": item, "arch": "arm64"} for item in cdhashes()]
        return {
            "logFormatVersion": 1,
            "jobId": entry.id,
            "status": entry.statuses[0],
            "statusSummary": "Ready for distribution" if accepted else "Archive contains errors",
            "statusCode": 0 if accepted else 4000,
            "archiveFilename": entry.name,
            "sha256": entry.uploaded or entry.sha256,
            "ticketContents": contents if accepted else None,
            "issues": None,
        } | entry.log

    def _entry(self, submission_id: str) -> Entry:
        return next(entry for entry in self.entries if entry.id == submission_id)


@dataclass
class Bench:
    """One machine that notarizes."""

    notary: SmallNotary
    plan: ReleasePlan
    workspace: Workspace
    signed: SignedBundle
    intents: MemoryIntents = field(default_factory=MemoryIntents)
    told: Told = field(default_factory=Told)
    pack: notarize.Zip = zip_writer.pack

    def run(self, *, wait: bool = True, seconds: float | None = None) -> Notarization:
        return notarize.run(
            self.plan,
            self.signed,
            workspace=self.workspace,
            reporter=self.told,
            intents=self.intents,
            notary=self.notary.client(self.workspace),
            trust=signed_release.trust(),
            patience=self.notary.patience(wait=wait, seconds=seconds),
            pack=self.pack,
        )


def disk(workspace: Workspace, root: str) -> Subtree:
    """The app of a workspace's folder."""
    return Subtree(tree=DiskTree(workspace.path(root)), prefix=APP)


def start(notary: SmallNotary, plan: ReleasePlan, folder: Path) -> Bench:
    """A fresh workspace with the signed app."""
    workspace = Workspace(folder)
    return Bench(notary=notary, plan=plan, workspace=workspace, signed=signed(workspace))
