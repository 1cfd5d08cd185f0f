"""Uploads in parts against the look-alike that enforces R2's rules, killed at each request."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import botocore.exceptions
import pytest
from pydantic import JsonValue
from werkzeug.wrappers import Request, Response

from release_tool import errors
from release_tool.progress import Silent
from release_tool.rehearsal import faults, servers, signature_v4
from release_tool.rehearsal.object_index import ObjectIndex
from release_tool.services import retries
from release_tool.services.multipart_upload import Parts
from release_tool.services.object_store import ObjectStore
from release_tool.services.object_store_calls import Outcome
from tests.small_world import KilledError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CREDENTIALS = signature_v4.Credentials(
    access_key_id="LOOKALIKE0001", secret_access_key="look-alike/secret+key"
)
KEY = "releases/v0.5.0/darkbloom-bundle-macos-arm64.tar.gz"
PART_BYTES = 5 * 1024**2
CONTENT = b"".join(hashlib.sha256(b"%d" % index).digest() for index in range(200_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
# HEAD, begin, list, two parts, HEAD, complete.
REQUESTS = 7


class Journal:
    """The ledger's intents, as text, so that nothing but JSON survives a kill."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def find(self) -> Mapping[str, object] | None:
        found: Mapping[str, object] | None = json.loads(self.lines[-1]) if self.lines else None
        return found

    def declare(self, facts: Mapping[str, str | int]) -> None:
        self.lines.append(json.dumps(facts))


class Bytes(Silent):
    """Counts what a progress bar shows."""

    def __init__(self) -> None:
        self.total = 0
        self.shown = 0
        self.most = 0

    def start(self, task: str, total_bytes: int | None) -> None:
        self.total, self.shown = total_bytes or 0, 0

    def advance(self, task: str, count_bytes: int) -> None:
        self.shown += count_bytes
        self.most = max(self.most, self.shown)


class World:
    """A store behind a door that sees each request."""

    def __init__(self, folder: Path, new_bucket: Callable[..., WSGIApplication]) -> None:
        self.folder = folder
        self.new_bucket = new_bucket
        self.broken = faults.Faults()
        self.requests: list[str] = []
        self.lock = threading.Lock()
        self.before: Callable[[int], Response | None] = lambda _: None
        self.after: Callable[[int], Response | None] = lambda _: None
        self.asleep: Callable[[], None] = lambda: None
        self.index = ObjectIndex(folder / "objects")
        self.restart()
        self.server = servers.Server(self)

    def restart(self) -> None:
        """As a store does whose uploads have expired: objects stay, uploads are gone."""
        self.bucket = self.new_bucket("releases", CREDENTIALS, index=self.index, broken=self.broken)

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        with self.lock:
            self.requests.append(_named(Request(environ)))
            number = len(self.requests)
        early = self.before(number)
        if early is not None:
            return early(environ, start)
        answer = Response.from_app(self.bucket, environ)
        return (self.after(number) or answer)(environ, start)

    def store(self) -> ObjectStore:
        return ObjectStore(
            endpoint=self.server.url,
            bucket="releases",
            access_key_id=lambda: CREDENTIALS.access_key_id,
            secret_access_key=lambda: CREDENTIALS.secret_access_key,
            policy=retries.Policy(attempts=3, sleep=lambda _: self.asleep()),
            parts=Parts(above_bytes=PART_BYTES, part_bytes=PART_BYTES),
        )

    def create(
        self, source: Path, journal: Journal | None = None, reporter: Silent | None = None
    ) -> Outcome:
        return self.store().create(
            KEY,
            source,
            sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
            version="0.5.0",
            reporter=reporter or Silent(),
            journal=journal,
        )

    def parts(self, journal: Journal) -> list[int]:
        """The parts that the store holds of the upload that was begun last."""
        upload = (journal.find() or {}).get("upload_id")
        if not upload:
            return []
        answer = self.store()._client.list_parts(Bucket="releases", Key=KEY, UploadId=str(upload))
        return [part["PartNumber"] for part in answer.get("Parts", [])]

    def written(self) -> list[tuple[object, object]]:
        return [(write["operation"], write["sha256"]) for write in self.index.writes()]


def _named(request: Request) -> str:
    asked = [name for name in ("uploads", "partNumber", "uploadId") if name in request.args]
    return " ".join([request.method, *asked[:1]])


def _unavailable() -> Response:
    return Response("<Error><Code>ServiceUnavailable</Code></Error>", 503)


@pytest.fixture
def world(tmp_path: Path, new_bucket: Callable[..., WSGIApplication]) -> Iterator[World]:
    """An empty bucket."""
    made = World(tmp_path / "world", new_bucket)
    with made.server:
        yield made
    made.index.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of one whole part and a rest."""
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(CONTENT)
    return path


def test_a_large_file_goes_in_equal_parts_and_is_one_object(world: World, source: Path) -> None:
    """Notes and caching as with one request; progress shows each byte once."""
    reporter = Bytes()
    assert world.create(source, reporter=reporter) is Outcome.WRITTEN
    assert world.requests == [
        "HEAD", "POST uploads", "GET uploadId", "PUT partNumber", "PUT partNumber",
        "HEAD", "POST uploadId",
    ]  # fmt: skip
    assert len(world.requests) == REQUESTS
    assert world.written() == [("CompleteMultipartUpload", SHA256)]
    assert reporter.total == reporter.shown == reporter.most == len(CONTENT)
    stored = world.store().head(KEY)
    assert stored
    assert (stored.size, stored.sha256, stored.version) == (len(CONTENT), SHA256, "0.5.0")
    assert stored.etag.endswith('-2"')
    assert world.store().digest(stored, reporter=Silent()) == SHA256
    headers = world.index.get(KEY)
    assert headers
    assert headers.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_what_stands_is_not_sent_over(world: World, source: Path) -> None:
    """A key that is taken costs one question."""
    world.create(source)
    world.requests.clear()
    assert world.create(source) is Outcome.KEPT
    assert world.requests == ["HEAD"]


@pytest.mark.parametrize("at", range(1, REQUESTS + 1))
@pytest.mark.parametrize("took_effect", [False, True])
def test_killed_at_any_request_the_rerun_sends_only_what_is_missing(
    world: World, source: Path, at: int, took_effect: bool
) -> None:
    """One object of the right bytes, written once; no part is sent again that the store has."""
    armed: list[int] = []

    def fail(number: int) -> Response | None:
        if number != at:
            return None
        armed.append(number)
        return _unavailable()

    def kill() -> None:
        assert armed
        raise KilledError

    if took_effect:
        world.after = fail
    else:
        world.before = fail
    world.asleep = kill
    journal = Journal()
    with pytest.raises(KilledError):
        world.create(source, journal)
    world.before = world.after = lambda _: None
    has = 2 if world.written() else len(world.parts(journal))
    world.requests.clear()
    reporter = Bytes()
    world.create(source, journal, reporter)
    assert world.written() == [("CompleteMultipartUpload", SHA256)]
    assert world.requests.count("PUT partNumber") == 2 - has
    assert reporter.shown == reporter.total


def test_an_upload_that_vanished_begins_anew(world: World, source: Path) -> None:
    """The store aborts what lies about: the id of the ledger leads nowhere, and that is no end."""
    journal = Journal()

    def kill(number: int) -> Response | None:
        if number == 5:
            raise_at.append(number)
            return _unavailable()
        return None

    def die() -> None:
        raise KilledError

    raise_at: list[int] = []
    world.before, world.asleep = kill, die
    with pytest.raises(KilledError):
        world.create(source, journal)
    world.restart()
    world.requests.clear()
    world.before = lambda _: None
    assert world.create(source, journal) is Outcome.WRITTEN
    assert world.requests.count("POST uploads") == 1
    assert world.requests.count("PUT partNumber") == 2
    assert world.written() == [("CompleteMultipartUpload", SHA256)]


def test_a_part_of_other_bytes_is_not_taken_for_ours(world: World, source: Path) -> None:
    """What the store lists counts only by the digest of each part."""
    journal = Journal()
    world.before = lambda number: _unavailable() if number == 5 else None

    def die() -> None:
        raise KilledError

    world.asleep = die
    with pytest.raises(KilledError):
        world.create(source, journal)
    found = journal.find()
    assert found
    world.before = lambda _: None
    world.store()._client.upload_part(
        Bucket="releases",
        Key=KEY,
        UploadId=str(found["upload_id"]),
        PartNumber=1,
        Body=b"x" * PART_BYTES,
    )
    assert world.create(source, journal) is Outcome.WRITTEN
    assert world.written() == [("CompleteMultipartUpload", SHA256)]


def test_an_upload_of_other_bytes_is_dropped(world: World, source: Path, tmp_path: Path) -> None:
    """The ledger's upload belongs to an archive that was packed again since."""
    journal = Journal()
    world.before = lambda number: _unavailable() if number == 5 else None

    def die() -> None:
        raise KilledError

    world.asleep = die
    with pytest.raises(KilledError):
        world.create(source, journal)
    world.before = lambda _: None
    other = tmp_path / "other.tar.gz"
    other.write_bytes(CONTENT[::-1])
    assert world.create(other, journal) is Outcome.WRITTEN
    assert world.requests.count("DELETE uploadId") == 1
    assert world.written() == [
        ("CompleteMultipartUpload", hashlib.sha256(CONTENT[::-1]).hexdigest())
    ]


@pytest.mark.parametrize("facts", [{}, {"upload_id": 7}, {"upload_id": ""}, {"upload_id": "gone"}])
def test_a_journal_that_means_nothing_is_no_obstacle(
    world: World, source: Path, facts: dict[str, JsonValue]
) -> None:
    """What does not describe exactly these bytes is left aside."""
    journal = Journal()
    journal.lines.append(json.dumps(facts))
    assert world.create(source, journal) is Outcome.WRITTEN


def test_a_lost_race_is_an_outcome_and_is_not_sent_again(
    world: World, source: Path, tmp_path: Path
) -> None:
    """Somebody is quicker while our parts travel: 412, the upload is gone, nothing is retried."""
    winner = tmp_path / "winner.tar.gz"
    winner.write_bytes(b"quicker")

    def overtake(number: int) -> Response | None:
        if number == REQUESTS:
            world.before = lambda _: None
            assert world.create(winner) is Outcome.WRITTEN
        return None

    world.before = overtake
    assert world.create(source, Journal()) is Outcome.KEPT
    assert [operation for operation, _ in world.written()] == ["PutObject"]
    assert world.requests.count("POST uploads") == 1


def test_a_success_whose_answer_was_lost_is_found(world: World, source: Path) -> None:
    """The retry looks at the key first, and completes nothing a second time."""
    world.after = lambda number: _unavailable() if number == REQUESTS else None
    assert world.create(source, Journal()) is Outcome.KEPT
    assert world.requests.count("POST uploadId") == 1
    assert world.written() == [("CompleteMultipartUpload", SHA256)]


def test_a_store_that_keeps_losing_uploads_ends_in_a_typed_error(
    world: World, source: Path
) -> None:
    """Bounded beginnings, exit 5."""

    def lose(_: int) -> Response | None:
        if world.requests[-1] == "PUT partNumber":
            return Response("<Error><Code>NoSuchUpload</Code></Error>", 404)
        return None

    world.before = lose
    with pytest.raises(errors.TransientError, match="keeps losing"):
        world.create(source, Journal())
    assert world.requests.count("POST uploads") == 3
    assert world.written() == []


def test_a_broken_part_is_sent_again_alone(world: World, source: Path) -> None:
    """One part is what a broken connection costs; the bar does not run over its end."""
    world.before = lambda number: _unavailable() if number == 5 else None
    reporter = Bytes()
    assert world.create(source, Journal(), reporter) is Outcome.WRITTEN
    assert world.requests.count("PUT partNumber") == 3
    assert reporter.shown == reporter.most == len(CONTENT)


@pytest.fixture
def long_source(tmp_path: Path) -> Path:
    """A file of six parts, each with other bytes."""
    path = tmp_path / "long.tar.gz"
    path.write_bytes(b"".join(bytes([number]) * PART_BYTES for number in range(5)) + b"rest")
    return path


def test_parts_are_sent_at_the_same_time_and_come_together_in_order(
    world: World, long_source: Path
) -> None:
    """Four are under way before one is answered; each shows its bytes once."""
    together = threading.Barrier(4)

    def meet(_: int) -> Response | None:
        if not together.broken and world.requests.count("PUT partNumber") <= 4:
            together.wait(timeout=30)
        return None

    world.before = lambda number: meet(number) if world.requests[-1] == "PUT partNumber" else None
    reporter = Bytes()
    assert world.create(long_source, Journal(), reporter) is Outcome.WRITTEN
    assert not together.broken
    assert reporter.shown == reporter.most == reporter.total
    digest = hashlib.sha256(long_source.read_bytes()).hexdigest()
    assert world.written() == [("CompleteMultipartUpload", digest)]


def test_a_part_that_fails_for_good_ends_the_others_and_the_rerun_goes_on(
    world: World, long_source: Path
) -> None:
    """A verdict on one part is the upload's; what did arrive is not sent again."""
    refused: list[int] = []

    def refuse(number: int) -> Response | None:
        if world.requests[number - 1] != "PUT partNumber" or refused:
            return None
        refused.append(number)
        return Response("<Error><Code>AccessDenied</Code></Error>", 403)

    world.before = refuse
    journal = Journal()
    with pytest.raises(errors.CredentialError):
        world.create(long_source, journal)
    world.before = lambda _: None
    arrived = len(world.parts(journal))
    assert arrived < 6
    world.requests.clear()
    assert world.create(long_source, journal) is Outcome.WRITTEN
    assert world.requests.count("PUT partNumber") == 6 - arrived
    assert world.requests.count("POST uploads") == 0
    digest = hashlib.sha256(long_source.read_bytes()).hexdigest()
    assert world.written() == [("CompleteMultipartUpload", digest)]


def test_a_lost_race_leaves_no_upload_behind(world: World, source: Path, tmp_path: Path) -> None:
    """R2 drops an upload whose condition failed; wherever it stays, it is aborted."""
    winner = tmp_path / "winner.tar.gz"
    winner.write_bytes(b"quicker")
    journal = Journal()

    def overtake(number: int) -> Response | None:
        # Between the last look at the key and the completion.
        if number == REQUESTS:
            world.before = lambda _: None
            assert world.create(winner) is Outcome.WRITTEN
        return None

    world.before = overtake
    assert world.create(source, journal) is Outcome.KEPT
    with pytest.raises(botocore.exceptions.ClientError, match="NoSuchUpload"):
        world.parts(journal)
