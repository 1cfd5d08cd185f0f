"""Uploads to the notary's S3: in one piece or in parts, continued after a kill, secrets kept."""

from __future__ import annotations

import hashlib
import json
import re
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from release_tool import errors
from release_tool.progress import Silent
from release_tool.services import s3_client
from release_tool.services.notary_uploads import Begun, Target, Uploads
from tests import scripted_server
from tests.scripted_server import Reply, Request, ScriptedServer
from tests.services import notary_script as script
from tests.services.notary_script import ID

XML = {"Content-Type": "application/xml"}
HOUR = 3600.0


class KilledError(BaseException):
    """Stands for `kill -9`: nothing of the tool may catch it."""


class Store:
    """A small S3 that takes parts; `before` sees each request and may answer for it."""

    def __init__(self, server: ScriptedServer) -> None:
        self.url = server.url
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.seen: list[str] = []
        self.before: Callable[[str, Request], Reply | None] = lambda *_: None
        server.says(self.answer)

    def answer(self, request: Request) -> Reply:
        path, _, text = request.path.partition("?")
        query = dict(urllib.parse.parse_qsl(text, keep_blank_values=True))
        number = query.get("partNumber", "")
        what = {"PUT": f"part {number}" if number else "put", "POST": "complete"}[request.method]
        what = "create" if "uploads" in query else what
        self.seen.append(what)
        early = self.before(what, request)
        return early or self._do(what, path, query, request.body)

    def _do(self, what: str, path: str, query: dict[str, str], body: bytes) -> Reply:
        if what == "create":
            upload = f"upload-{len(self.parts)}"
            self.parts[upload] = {}
            inner = f"<UploadId>{upload}</UploadId>"
            return Reply(200, _xml("InitiateMultipartUploadResult", inner), XML)
        if what == "put":
            self.objects[path] = body
            return Reply(200, b"", {"ETag": '"whole"'})
        upload = query["uploadId"]
        if upload not in self.parts:
            return Reply(404, _xml("Error", "<Code>NoSuchUpload</Code>"), XML)
        if what == "complete":
            listed = [int(found) for found in re.findall(rb"<PartNumber>(\d+)<", body)]
            assert listed == sorted(self.parts[upload])
            self.objects[path] = b"".join(self.parts[upload][number] for number in listed)
            del self.parts[upload]
            return Reply(200, _xml("CompleteMultipartUploadResult", "<ETag>x</ETag>"), XML)
        self.parts[upload][int(query["partNumber"])] = body
        return Reply(200, b"", {"ETag": f'"{hashlib.sha256(body).hexdigest()[:8]}"'})

    @property
    def stored(self) -> bytes:
        return self.objects[f"/{script.BUCKET}/{script.OBJECT}"]


def _xml(name: str, inner: str) -> bytes:
    return f"<{name}>{inner}</{name}>".encode()


@pytest.fixture
def store() -> Iterator[Store]:
    with scripted_server.running() as server:
        yield Store(server)


@pytest.fixture
def notary() -> Iterator[ScriptedServer]:
    with scripted_server.running() as server:
        server.says(script.created())
        yield server


def _archive(folder: Path, size: int) -> tuple[Path, str]:
    content = bytes(at * 7 % 251 for at in range(size))
    path = folder / "a.zip"
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def _submit(notary: ScriptedServer, store: Store, folder: Path, size: int = 130_001) -> str:
    archive, sha256 = _archive(folder, size)
    client = script.client(notary.url, folder, upload_url=store.url)
    return client.submit(archive, name="D.zip", sha256=sha256, reporter=Silent())


def _state(folder: Path) -> str:
    return "".join(path.read_text() for path in (folder / ".notary").glob("*"))


def test_small_goes_whole_and_large_in_parts(
    notary: ScriptedServer, store: Store, tmp_path: Path
) -> None:
    """At the threshold one request, beyond it parts of one size and a rest; the same bytes."""
    assert _submit(notary, store, tmp_path, 100_000) == ID
    assert store.seen == ["put"]
    assert store.stored == (tmp_path / "a.zip").read_bytes()
    store.seen.clear()
    assert _submit(notary, store, tmp_path, 100_001) == ID
    assert store.seen == ["create", "part 1", "part 2", "part 3", "complete"]
    assert store.stored == (tmp_path / "a.zip").read_bytes()


@pytest.mark.parametrize("moment", ["create", "part 1", "part 3", "complete"])
def test_a_killed_upload_goes_on_where_it_was(
    notary: ScriptedServer,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    """Killed before any request: one submission, and no part that had arrived is sent again."""
    original = Uploads.keep
    sent: list[str] = []

    def die(what: str, _: Request) -> Reply | None:
        sent.append(what)
        return None

    store.before = die

    def keep(self: Uploads, begun: Begun) -> None:
        original(self, begun)
        done = {"create": 0, "part 1": 1, "part 3": 3, "complete": 4}[moment]
        if len(begun.parts) == done and begun.target is not None and begun.upload_id:
            monkeypatch.setattr(Uploads, "keep", original)
            raise KilledError

    monkeypatch.setattr(Uploads, "keep", keep)
    with pytest.raises(KilledError):
        _submit(notary, store, tmp_path)
    assert _submit(notary, store, tmp_path) == ID
    assert len(notary.requests) == 1
    assert sorted(sent) == ["complete", "create", "part 1", "part 2", "part 3", "part 4"]
    assert store.stored == (tmp_path / "a.zip").read_bytes()


def test_credentials_are_kept_for_this_user_alone_and_only_while_needed(
    notary: ScriptedServer, store: Store, tmp_path: Path
) -> None:
    """Mode 0600 in 0700 during the upload, gone from the disk with its end."""
    seen: list[str] = []

    def look(what: str, _: Request) -> Reply | None:
        (path,) = (tmp_path / ".notary").iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert script.SECRETS["awsSessionToken"] in path.read_text()
        seen.append(what)
        return None

    store.before = look
    _submit(notary, store, tmp_path)
    assert len(seen) == 6
    assert "unter2" not in _state(tmp_path)
    assert ID in _state(tmp_path)


def test_what_has_arrived_is_not_submitted_again(
    notary: ScriptedServer, store: Store, tmp_path: Path
) -> None:
    """A kill between the last byte and the record: the same id, without a request."""
    _submit(notary, store, tmp_path)
    store.seen.clear()
    assert _submit(notary, store, tmp_path) == ID
    assert store.seen == []
    assert len(notary.requests) == 1
    client = script.client(notary.url, tmp_path)
    client.uploads.forget_submission(ID)
    assert not (tmp_path / ".notary").exists()


def test_credentials_of_another_archive_do_not_lie_about(
    notary: ScriptedServer, store: Store, tmp_path: Path
) -> None:
    """An upload that failed, then another signature: what the first one left goes.

    So does a state that a kill left half written.
    """
    store.before = lambda *_: Reply(500)
    with pytest.raises(errors.TransientError):
        _submit(notary, store, tmp_path, 1000)
    assert "hunter2" in _state(tmp_path)
    (kept,) = (tmp_path / ".notary").iterdir()
    kept.with_name(f".{kept.name}.abc.part").write_bytes(kept.read_bytes())
    store.before = lambda *_: None
    _submit(notary, store, tmp_path, 1001)
    assert len(list((tmp_path / ".notary").iterdir())) == 1
    assert "hunter2" not in _state(tmp_path)


@pytest.mark.parametrize(("hours", "posts"), [(11.0, 1), (11.6, 2), (13.0, 2), (-1.0, 2)])
def test_credentials_serve_twelve_hours(
    notary: ScriptedServer, store: Store, tmp_path: Path, hours: float, posts: int
) -> None:
    """A later run makes a new submission; the old credentials are gone from the disk."""
    store.before = lambda what, _: Reply(500) if what == "part 2" else None
    with pytest.raises(errors.TransientError, match="store could not take") as caught:
        _submit(notary, store, tmp_path)
    assert "within 12 hours" in caught.value.hint
    store.before = lambda *_: None
    (path,) = (tmp_path / ".notary").glob("*.json")
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"created": state["created"] - hours * HOUR}))
    assert _submit(notary, store, tmp_path) == ID
    assert len(notary.requests) == posts
    assert store.stored == (tmp_path / "a.zip").read_bytes()


def test_credentials_that_ended_early_cost_a_new_submission(
    notary: ScriptedServer, store: Store, tmp_path: Path
) -> None:
    """A resumed upload whose credentials the store refuses goes on with fresh ones, once."""
    store.before = lambda what, _: Reply(500) if what == "part 2" else None
    with pytest.raises(errors.TransientError):
        _submit(notary, store, tmp_path)
    refused: list[str] = []

    def expire(what: str, _: Request) -> Reply | None:
        if not refused:
            refused.append(what)
            return _error("ExpiredToken", 400)
        return None

    store.before = expire
    assert _submit(notary, store, tmp_path) == ID
    assert len(notary.requests) == 2
    assert store.stored == (tmp_path / "a.zip").read_bytes()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"target": 3}', "\ud83d" * 3, "null"])
def test_a_damaged_state_is_begun_anew(
    notary: ScriptedServer, store: Store, tmp_path: Path, text: str
) -> None:
    """What cannot be read is dropped, and a new submission is made."""
    _, sha256 = _archive(tmp_path, 130_001)
    (tmp_path / ".notary").mkdir()
    content = text.encode("utf-8", "surrogatepass")
    (tmp_path / ".notary" / f"{sha256}.json").write_bytes(content)
    assert _submit(notary, store, tmp_path) == ID
    assert len(notary.requests) == 1


def _error(code: str, status: int = 403, text: str = "") -> Reply:
    said = text or f"because {script.SECRETS['awsSessionToken']} of ASIAHUNTER2HUNTER2"
    return Reply(status, _xml("Error", f"<Code>{code}</Code><Message>{said}</Message>"), XML)


REFUSALS = [
    (_error("ExpiredToken", 400), errors.TransientError, "new submission", False),
    (_error("InvalidToken", 400), errors.TransientError, "new submission", False),
    (_error("RequestTimeTooSkewed"), errors.HostError, "clock", True),
    (_error("AccessDenied"), errors.RemoteRefusedError, "not the notary's verdict", True),
    (_error("SlowDown", 503), errors.TransientError, "within 12 hours", True),
    (Reply(500, b"<html>"), errors.TransientError, "within 12 hours", True),
]


@pytest.mark.parametrize(("answer", "kind", "hint", "kept"), REFUSALS)
@pytest.mark.parametrize("size", [1000, 130_001])
def test_a_failed_upload_is_not_the_notarys_failure(
    notary: ScriptedServer,
    store: Store,
    tmp_path: Path,
    size: int,
    answer: Reply,
    kind: type[errors.ReleaseError],
    hint: str,
    kept: bool,
) -> None:
    """The store is named, the remedy is the upload's, and no credential is told."""
    store.before = lambda *_: answer
    with pytest.raises(kind) as caught:
        _submit(notary, store, tmp_path, size)
    problem = caught.value
    assert hint in problem.hint
    assert "upload" in problem.message or "store" in problem.message
    shown = "".join(traceback.format_exception(problem)) + json.dumps(problem.as_json())
    assert "hunter2" not in shown
    assert "HUNTER2" not in shown
    assert (tmp_path / ".notary").exists() is kept


@pytest.mark.parametrize(("hours", "side"), [(1, "60 min behind"), (-1, "60 min ahead of")])
def test_a_clock_that_is_off_is_named_by_its_minutes(
    notary: ScriptedServer, store: Store, tmp_path: Path, hours: int, side: str
) -> None:
    """The store's `Date` tells how far this host is from it; the submission stands meanwhile."""
    there = datetime.now(UTC) + timedelta(hours=hours)
    answer = _error("RequestTimeTooSkewed")
    dated = replace(answer, headers={**XML, "Date": format_datetime(there, usegmt=True)})
    store.before = lambda *_: dated
    with pytest.raises(errors.HostError) as caught:
        _submit(notary, store, tmp_path)
    assert f"this host's clock is {side} the notary's store's" in caught.value.message
    assert "set this host's clock" in caught.value.hint
    store.before = lambda *_: None
    assert _submit(notary, store, tmp_path) == ID
    assert len(notary.requests) == 1


def test_a_damaged_part_is_sent_again(notary: ScriptedServer, store: Store, tmp_path: Path) -> None:
    """Two parts fail once each; the others are sent once."""
    failed: set[str] = set()

    def fail_once(what: str, _: Request) -> Reply | None:
        if what in {"part 2", "part 4"} and what not in failed:
            failed.add(what)
            return _error("BadDigest", 400, "damaged")
        return None

    store.before = fail_once
    assert _submit(notary, store, tmp_path) == ID
    assert [what for what in store.seen if what.startswith("part")] == [
        *("part 1", "part 2", "part 2", "part 3", "part 4", "part 4"),
    ]


def test_a_lost_answer_to_the_last_request_is_survived(
    notary: ScriptedServer, store: Store, tmp_path: Path
) -> None:
    """Completed, but the answer was lost: the upload is unknown now, and all goes once more."""
    lost: list[str] = []

    def lose(what: str, request: Request) -> Reply | None:
        if what == "complete" and not lost:
            lost.append(what)
            store.parts.clear()
            return Reply(500, b"")
        return None

    store.before = lose
    assert _submit(notary, store, tmp_path) == ID
    assert store.seen.count("create") == 2
    assert store.stored == (tmp_path / "a.zip").read_bytes()


def test_a_store_that_forgets_always_is_given_up(
    notary: ScriptedServer, store: Store, tmp_path: Path
) -> None:
    """Not for ever."""
    store.before = lambda what, _: _error("NoSuchUpload", 404) if what.startswith("part") else None
    with pytest.raises(errors.TransientError, match="forgets"):
        _submit(notary, store, tmp_path)
    assert store.seen.count("create") == 2


def test_an_archive_that_shrinks_is_noticed(
    notary: ScriptedServer, store: Store, tmp_path: Path
) -> None:
    """A part that is not whole is not sent."""

    def shrink(what: str, _: Request) -> Reply | None:
        if what == "part 1":
            (tmp_path / "a.zip").write_bytes(b"short")
        return None

    store.before = shrink
    with pytest.raises(errors.VerificationError, match="changed while it was sent"):
        _submit(notary, store, tmp_path)


def test_at_apple_the_archive_goes_to_aws_whatever_this_host_is_set_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Accelerated endpoint, region of the signature, and no `AWS_*` variable leads elsewhere."""
    import botocore.awsrequest

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9/theirs")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9/theirs")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_PROFILE", "theirs")
    client = s3_client.connect(
        endpoint="",
        region="us-west-2",
        access_key_id="ASIA1",
        secret_access_key="s",
        session_token="t",
    )
    sent: list[Any] = []

    class Empty:
        def stream(self) -> list[bytes]:
            return []

    def answer(request: Any, **_: object) -> Any:  # noqa: ANN401 - botocore's own
        sent.append(request)
        empty: Any = {}
        return botocore.awsrequest.AWSResponse(request.url, 200, empty, Empty())

    events: Any = client.meta.events
    events.register("before-send.s3.PutObject", answer)
    client.put_object(Bucket=script.BUCKET, Key="prod/x", Body=b"PK")
    (request,) = sent
    assert request.url == f"https://{script.BUCKET}.s3-accelerate.amazonaws.com/prod/x"
    assert "/us-west-2/s3/aws4_request" in str(request.headers["Authorization"])


def test_a_state_shows_no_secret() -> None:
    """Neither a submission under way nor its target has a repr with credentials."""
    target = Target(
        bucket="b", key="k", access_key_id="hunter2", secret_access_key="hunter2",
        session_token="hunter2",
    )  # fmt: skip
    begun = Begun(submission_id=ID, sha256="a" * 64, created=1.0, target=target)
    assert "hunter2" not in repr(begun) + repr(target)
