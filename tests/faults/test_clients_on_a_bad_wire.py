"""Every client ends in a result or a typed error with a next step, however its wire fails.

The services behind the wire answer everything alike and well enough to be read; what counts is
what the clients make of a wire that cuts, stalls, drips, damages, answers in a service's place
and leads elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from release_tool import errors
from release_tool.progress import Silent
from release_tool.rehearsal import wire
from release_tool.rehearsal.servers import Server
from release_tool.rehearsal.wire import Rule, Wire
from release_tool.services import github as github_service
from release_tool.services import patience, public_url, retries
from release_tool.services.coordinator import Coordinator
from release_tool.services.github import GitHub
from release_tool.services.multipart_upload import Parts
from release_tool.services.notary_api import NotaryAPI
from release_tool.services.notary_store import Sender
from release_tool.services.notary_uploads import Begun, Target, Uploads
from release_tool.services.object_store import ObjectStore, StoredObject
from release_tool.services.patience import Patience
from release_tool.services.stapler import TicketService
from release_tool.services.timestamp import TimestampService
from tests import look_alike
from tests.services.test_notary_token import api_key

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SECRET = "bad-wire-secret-0123456789"
ONE_TRY = retries.Policy(attempts=1)
SECONDS = 0.25
# An answer's bound may be reached once for the connection and once for the body, and a busy
# machine is slow; without a bound a call would hang for minutes.
CAP_SECONDS = 60.0
_CONTENT = b"x" * 3000
_XML = b"""<?xml version="1.0"?><CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>"""

_REFUSAL = b"<Error><Code>AccessDenied</Code><Message>" + b"no " * 300 + b"</Message></Error>"


@dataclass
class Services:
    """One address that answers everything well enough, on a wire."""

    lines: Wire = field(default_factory=Wire)
    url: str = ""
    folder: Path = Path()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body, kind = _CONTENT, "application/octet-stream"
        if "HTTP_X_AMZ_COPY_SOURCE" in environ:
            body, kind = _XML, "application/xml"
        elif environ["PATH_INFO"].startswith("/json"):
            body, kind = json.dumps({"data": {"attributes": {}}, "a": "b" * 500}).encode(), "json"
            kind = "application/json"
        status = "200 OK"
        if "refused" in environ["PATH_INFO"]:
            status, body, kind = "403 Forbidden", _REFUSAL, "application/xml"
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("ETag", '"e"')]
        headers += [("Last-Modified", "Thu, 14 May 2026 21:51:07 GMT")]
        start_response(status, headers)
        return [body]


def _store(services: Services) -> ObjectStore:
    return ObjectStore(
        endpoint=services.url,
        bucket="bucket",
        access_key_id=lambda: "AKIDBADWIRE",
        secret_access_key=lambda: SECRET,
        policy=ONE_TRY,
        parts=Parts(),
    )


_STORED = StoredObject(
    key="key", size=3000, etag='"e"', modified=datetime.now(UTC), sha256="", version=""
)


def _head(services: Services) -> None:
    _store(services).head("key")


def _read(services: Services) -> None:
    _store(services).read("key", limit_bytes=10_000)


def _read_refused(services: Services) -> None:
    _store(services).read("refused", limit_bytes=10_000)


def _digest(services: Services) -> None:
    _store(services).digest(_STORED, reporter=Silent())


def _replace(services: Services) -> None:
    _store(services).replace(
        "key", b"content", over=None, content_type="application/json", version="1.0.0"
    )


def _copy(services: Services) -> None:
    _store(services).copy(_STORED, "other", over=None, sha256="0" * 64, version="1.0.0")


def _put(services: Services) -> None:
    source = services.folder / "archive"
    source.write_bytes(_CONTENT)
    sha256 = hashlib.sha256(_CONTENT).hexdigest()
    _store(services).create("key", source, sha256=sha256, version="1.0.0", reporter=Silent())


def _public(services: Services) -> None:
    address = f"{services.url}/archive"
    public_url.read(address, limit_bytes=10_000, seconds=60, reporter=Silent(), policy=ONE_TRY)


def _coordinator(services: Services) -> Coordinator:
    return Coordinator(
        base_url=f"{services.url}/json",
        release_key=lambda: SECRET,
        seconds=60,
        policy=ONE_TRY,
        admin_key=lambda: SECRET,
    )


def _latest(services: Services) -> None:
    _coordinator(services).latest("macos-arm64")


def _check_key(services: Services) -> None:
    _coordinator(services).check_key()


def _inventory(services: Services) -> None:
    _coordinator(services).inventory()


def _notary(services: Services) -> NotaryAPI:
    return NotaryAPI(
        base_url=f"{services.url}/json",
        upload_url=services.url,
        key=api_key(),
        uploads=Uploads(folder=services.folder / "uploads"),
        policy=ONE_TRY,
    )


def _history(services: Services) -> None:
    _notary(services).history()


def _log(services: Services) -> None:
    _notary(services).log("00000000-0000-4000-8000-000000000000")


def _notary_upload(services: Services) -> None:
    _send(services, "key")


def _send(services: Services, key: str) -> None:
    source = services.folder / "submission.zip"
    source.write_bytes(_CONTENT)
    target = Target(
        bucket="bucket",
        key=key,
        access_key_id="AKIDBADWIRE",
        secret_access_key=SECRET,
        session_token=SECRET,
    )
    begun = Begun(submission_id="0", sha256="0" * 64, created=time.time(), target=target)
    sender = Sender(
        endpoint=services.url, uploads=Uploads(folder=services.folder / "u"), policy=ONE_TRY
    )
    sender.send(source, begun, target, Silent())


def _notary_upload_refused(services: Services) -> None:
    _send(services, "refused")


def _ticket(services: Services) -> None:
    TicketService(url=f"{services.url}/json", policy=ONE_TRY).lookup("0" * 40)


def _timestamp(services: Services) -> None:
    TimestampService(url=services.url, trust=look_alike.trust(), policy=ONE_TRY).stamp(b"x")


def _github(services: Services) -> GitHub:
    return GitHub(
        api_url=f"{services.url}/json",
        uploads_url=services.url,
        repository="look-alike/darkbloom",
        token=lambda: SECRET,
        seconds=60,
    )


def _published(services: Services) -> None:
    _github(services).published("v1.0.0")


def _drafts(services: Services) -> None:
    _github(services).drafts("v1.0.0")


_ASSET = github_service.Asset(id=1, name="a", state="uploaded", size=3000, sha256="")


def _asset(services: Services) -> None:
    _github(services).read_back(_ASSET, limit_bytes=10_000, reporter=Silent())


def _asset_upload(services: Services) -> None:
    source = services.folder / "asset"
    source.write_bytes(_CONTENT)
    release = github_service.Release(
        id=1,
        tag="v1.0.0",
        draft=True,
        immutable=False,
        upload_url=f"{services.url}/repos/look-alike/darkbloom/releases/1/assets{{?name}}",
        page="",
        assets=(),
    )
    _github(services).upload(release, source, name="asset", reporter=Silent())


CALLS: tuple[Callable[[Services], None], ...] = (
    *(_head, _read, _digest, _replace, _copy, _put, _public, _latest, _check_key, _inventory),
    *(_read_refused, _notary_upload_refused),
    *(_history, _log, _notary_upload, _ticket, _timestamp),
    *(_published, _drafts, _asset, _asset_upload),
)
_RULES: list[Rule] = []


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    made = Services(folder=tmp_path_factory.mktemp("wire"))
    with ExitStack() as stack:
        elsewhere = stack.enter_context(Server(made.lines.elsewhere))
        made.lines.elsewhere_url = f"http://localhost:{elsewhere.port}"
        made.url = stack.enter_context(Server(made, name="one", wire=made.lines)).url
        yield made
        made.lines.set([])


@pytest.fixture(autouse=True)
def short(services: Services) -> Iterator[None]:
    patience.hold(Patience(answer_seconds=SECONDS, pause_share=0.01))
    yield
    patience.hold(Patience())


@pytest.mark.parametrize("kind", wire.KINDS)
def test_every_call_ends_in_a_result_or_a_typed_error(services: Services, kind: str) -> None:
    """In time, with a next step, without a secret, and nothing follows a redirect."""
    _RULES[:] = [Rule(service="one", kind=kind, seconds=0.1)]
    wrong = [f"{call.__name__}: {fault}" for call in CALLS for fault in _faults_of(call, services)]
    assert wrong == []


def _faults_of(call: Callable[[Services], None], services: Services) -> Iterator[str]:
    services.lines.set(_RULES)
    before = time.monotonic()
    try:
        call(services)
    except errors.ReleaseError as problem:
        text = "\n".join(problem.lines())
        if any(secret in text for secret in (SECRET, "AKIDBADWIRE")):
            yield f"shows a secret: {text}"
        if not problem.hint:
            yield f"no next step: {text}"
    except Exception as problem:
        yield f"escapes: {type(problem).__name__}: {problem}"[:300]
    if time.monotonic() - before > CAP_SECONDS:
        yield "no end in time"
    report = services.lines.report()
    for one in report.strayed:
        # GitHub's own redirect to its storage leads anywhere, and takes nothing of ours along.
        if call is not _asset or "authorization" in one:
            yield f"followed a redirect: {one}"
    # What these ask for is answered without a body, in which these kinds would be seen.
    is_spared = call in (_head, _put) and _RULES[0].kind in ("longer", "shorter", "other-bytes")
    if not report.hits and not is_spared:
        yield "met no fault"
