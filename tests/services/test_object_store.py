"""The object store's client on the wire: what is sent, what each answer means."""

from __future__ import annotations

import base64
import hashlib
import inspect
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import botocore.exceptions
import pytest

from release_tool import errors
from release_tool.progress import Silent
from release_tool.services import object_store, object_store_errors, retries
from release_tool.services.at_once import Together
from release_tool.services.object_store import ObjectStore, StoredObject
from release_tool.services.object_store_calls import Outcome
from tests import scripted_server
from tests.scripted_server import Reply, Request, ScriptedServer

KEY_ID = "AKIDLOOKALIKE0001"
SECRET = "s3cr3t/lookalike+0123456789abcdef"
CONTENT = bytes(range(256)) * 9000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = "releases/v0.5.0+b1/darkbloom-bundle-macos-arm64.tar.gz"
STORED = {
    "ETag": '"0123456789abcdef0123456789abcdef"',
    "Last-Modified": "Thu, 14 May 2026 21:51:07 GMT",
    "x-amz-meta-sha256": SHA256,
    "x-amz-meta-version": "0.5.0",
}


class _Counting(Silent):
    def __init__(self) -> None:
        self.events: list[str] = []
        self.seen = 0

    def start(self, task: str, total_bytes: int | None) -> None:
        self.seen = 0
        self.events.append(f"start {task} {total_bytes}")

    def advance(self, task: str, count_bytes: int) -> None:
        self.seen += count_bytes

    def finish(self, task: str) -> None:
        self.events.append(f"finish {task} {self.seen}")


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[ScriptedServer, ObjectStore, list[float]]]:
    """A server, a store and its pauses for the whole module: making a client takes long."""
    pauses: list[float] = []
    with scripted_server.running() as made:
        yield made, _new_store(made, pauses), pauses


@pytest.fixture
def server(shared: tuple[ScriptedServer, ObjectStore, list[float]]) -> ScriptedServer:
    """A server on loopback that was asked nothing yet."""
    shared[0].requests.clear()
    return shared[0]


@pytest.fixture
def slept(shared: tuple[ScriptedServer, ObjectStore, list[float]]) -> list[float]:
    """The pauses of the store."""
    shared[2].clear()
    return shared[2]


@pytest.fixture
def store(
    server: ScriptedServer, shared: tuple[ScriptedServer, ObjectStore, list[float]]
) -> ObjectStore:
    """The store behind the server."""
    return shared[1]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The file to put."""
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(CONTENT)
    return path


def _new_store(server: ScriptedServer, pauses: list[float]) -> ObjectStore:
    return ObjectStore(
        endpoint=server.url,
        bucket="releases",
        access_key_id=lambda: KEY_ID,
        secret_access_key=lambda: SECRET,
        policy=retries.Policy(attempts=3, sleep=pauses.append),
    )


def _create(store: ObjectStore, source: Path, reporter: Silent | None = None) -> Outcome:
    return store.create(KEY, source, sha256=SHA256, version="0.5.0", reporter=reporter or Silent())


def _refusal(status: int, code: str, message: str = "no") -> Reply:
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(status, text.encode(), {"Content-Type": "application/xml"})


def _stored(etag: str = STORED["ETag"]) -> StoredObject:
    store_object: Callable[..., StoredObject] = StoredObject
    return store_object(
        key=KEY, size=len(CONTENT), etag=etag, modified=None, sha256=SHA256, version="0.5.0"
    )


def test_a_put_is_plain_signed_conditional_and_whole(
    server: ScriptedServer, store: ObjectStore, source: Path
) -> None:
    """The one call that R2 is known to take: no chunked trailer, no ACL, one SHA-256."""
    server.says(Reply(404), Reply(200, b"", {"ETag": '"e"'}))
    assert _create(store, source) is Outcome.WRITTEN
    sent = server.requests[1]
    assert (sent.method, sent.path) == (
        "PUT", "/releases/releases/v0.5.0%2Bb1/darkbloom-bundle-macos-arm64.tar.gz",
    )  # fmt: skip
    assert sent.body == CONTENT
    assert sent.headers["if-none-match"] == "*"
    assert sent.headers["x-amz-content-sha256"] == SHA256
    assert base64.b64decode(sent.headers["x-amz-checksum-sha256"]).hex() == SHA256
    assert sent.headers["content-length"] == str(len(CONTENT))
    assert sent.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert sent.headers["x-amz-meta-sha256"] == SHA256
    assert "/auto/s3/aws4_request" in sent.headers["authorization"]
    unwanted = ("expect", "x-amz-acl", "x-amz-trailer", "x-amz-checksum-crc32", "content-encoding")
    assert not set(unwanted) & set(sent.headers)
    assert not any(name.startswith("x-amz-sdk-checksum") for name in sent.headers)


def test_progress_counts_each_sent_byte_once(
    server: ScriptedServer, store: ObjectStore, source: Path
) -> None:
    """The library reads the file twice, to sign and to send; the reader sees the sending."""
    server.says(Reply(404), Reply(200, b"", {"ETag": '"e"'}))
    reporter = _Counting()
    _create(store, source, reporter)
    assert reporter.events == [f"start upload {len(CONTENT)}", f"finish upload {len(CONTENT)}"]


def test_what_stands_is_never_sent_over(
    server: ScriptedServer, store: ObjectStore, source: Path
) -> None:
    """A key that is taken costs one question and no upload."""
    server.says(Reply(200, b"", STORED))
    assert _create(store, source) is Outcome.KEPT
    assert [request.method for request in server.requests] == ["HEAD"]


@pytest.mark.parametrize(
    "reply",
    [
        _refusal(412, "PreconditionFailed"),
        _refusal(412, "SomethingNew"),
        _refusal(403, "ObjectLockedByBucketPolicy"),
    ],
)
def test_a_lost_race_is_an_outcome(
    server: ScriptedServer, store: ObjectStore, source: Path, reply: Reply
) -> None:
    """Whoever was quicker keeps the key, by the condition or by a bucket lock."""
    server.says(Reply(404), reply)
    assert _create(store, source) is Outcome.KEPT


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "TooManyRequests"), (503, "ServiceUnavailable"), (500, "InternalError"),
     (409, "ConditionalRequestConflict"), (400, "BadDigest"), (503, "SlowDown"),
     (400, "XAmzContentSHA256Mismatch")],
)  # fmt: skip
def test_passing_refusals_are_tried_again_a_second_later(
    server: ScriptedServer,
    store: ObjectStore,
    slept: list[float],
    source: Path,
    status: int,
    code: str,
) -> None:
    """R2 takes one write a second for each key; the key is looked at before each try."""
    server.says(Reply(404), _refusal(status, code), Reply(404), Reply(200, b"", {"ETag": '"e"'}))
    assert _create(store, source) is Outcome.WRITTEN
    assert [request.method for request in server.requests] == ["HEAD", "PUT", "HEAD", "PUT"]
    assert len(slept) == 1
    assert slept[0] >= 1.0


def test_a_store_that_says_when_to_come_back_is_believed(
    server: ScriptedServer, store: ObjectStore, slept: list[float], source: Path
) -> None:
    """`Retry-After` is the least of the pause; far more than a run waits ends with that advice."""
    busy = _refusal(429, "TooManyRequests")
    patient, endless = (
        Reply(busy.status, busy.body, {**busy.headers, "Retry-After": seconds})
        for seconds in ("7", "86400")
    )
    server.says(Reply(404), patient, Reply(404), Reply(200, b"", {"ETag": '"e"'}))
    assert _create(store, source) is Outcome.WRITTEN
    assert [pause >= 7 for pause in slept] == [True]
    server.says(Reply(404), endless, Reply(404), endless, Reply(404), endless)
    with pytest.raises(errors.TransientError, match="refused") as caught:
        _create(store, source)
    assert caught.value.hint == "run again in 300 s"
    assert sum(slept) <= 307


def test_a_try_that_did_arrive_is_found_again(
    server: ScriptedServer, store: ObjectStore, source: Path
) -> None:
    """After an answer that was lost the object stands, and nothing is sent twice."""
    server.says(Reply(404), _refusal(500, "InternalError"), Reply(200, b"", STORED))
    assert _create(store, source) is Outcome.KEPT
    assert [request.method for request in server.requests] == ["HEAD", "PUT", "HEAD"]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "Unauthorized", errors.CredentialError),
        (403, "SignatureDoesNotMatch", errors.CredentialError),
        (403, "InvalidAccessKeyId", errors.CredentialError),
        (403, "AccessDenied", errors.CredentialError),
        (403, "RequestTimeTooSkewed", errors.HostError),
        (404, "NoSuchBucket", errors.RemoteRefusedError),
        (400, "InvalidRequest", errors.RemoteRefusedError),
        (301, "PermanentRedirect", errors.RemoteRefusedError),
        (503, "ServiceUnavailable", errors.TransientError),
        (429, "TooManyRequests", errors.TransientError),
    ],
)
def test_each_refusal_has_its_remedy(
    server: ScriptedServer,
    store: ObjectStore,
    source: Path,
    status: int,
    code: str,
    expected: type[errors.ReleaseError],
) -> None:
    """Code and message are shown, the credentials are not."""

    def answer(request: Request) -> Reply:
        return Reply(404) if request.method == "HEAD" else _refusal(status, code, f"of {code}")

    server.says(answer)
    with pytest.raises(expected) as caught:
        _create(store, source)
    assert type(caught.value) is expected
    assert caught.value.observed == f"{status} {code}: of {code}"
    shown = "\n".join(caught.value.lines())
    assert SECRET not in shown
    assert KEY_ID not in shown


def test_a_copy_names_the_state_of_its_destination_under_the_signature(
    server: ScriptedServer,
    store: ObjectStore,
) -> None:
    """R2 judges the destination by its own headers only, and they are signed."""
    copied = b"<CopyObjectResult><ETag>&quot;e&quot;</ETag></CopyObjectResult>"
    server.says(Reply(200, copied, {"Content-Type": "application/xml"}))
    alias = "releases/latest/darkbloom-bundle-macos-arm64.tar.gz"
    for over in (_stored('"seen"'), None):
        outcome = store.copy(_stored(), alias, over=over, sha256=SHA256, version="0.5.0")
        assert outcome is Outcome.WRITTEN
    replacing, creating = (request.headers for request in server.requests)
    assert replacing["cf-copy-destination-if-match"] == '"seen"'
    assert "cf-copy-destination-if-none-match" not in replacing
    assert creating["cf-copy-destination-if-none-match"] == "*"
    assert "cf-copy-destination-if-match" not in creating
    for headers in (replacing, creating):
        signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
        assert any(name.startswith("cf-copy-destination-") for name in signed)
        assert headers["x-amz-copy-source"] == "releases/releases/v0.5.0%2Bb1/" + KEY.split("/")[-1]
        assert headers["x-amz-copy-source-if-match"] == STORED["ETag"]
        assert headers["x-amz-metadata-directive"] == "REPLACE"
        assert headers["cache-control"] == "public, max-age=60, must-revalidate"
        assert "x-amz-acl" not in headers


def test_copies_at_the_same_time_carry_each_its_own_condition(
    server: ScriptedServer, store: ObjectStore
) -> None:
    """Two threads share a client: the state of one alias must never guard another."""
    both = threading.Barrier(2, timeout=30)
    copied = b"<CopyObjectResult></CopyObjectResult>"
    server.says(lambda _: (both.wait(), Reply(200, copied))[1])

    def copy(number: int) -> Callable[[], Outcome]:
        over = None if number == 0 else _stored(f'"{number}"')
        return lambda: store.copy(
            _stored(), f"latest/{number}", over=over, sha256=SHA256, version="0.5.0"
        )

    for _ in range(5):
        Together().run([copy(0), copy(1)], at_once=2, name="copy")
    seen = {
        (
            request.path[-1],
            request.headers.get("cf-copy-destination-if-none-match"),
            request.headers.get("cf-copy-destination-if-match"),
        )
        for request in server.requests
    }
    assert seen == {("0", "*", None), ("1", None, '"1"')}


def test_a_copy_over_a_moved_alias_is_an_outcome(
    server: ScriptedServer, store: ObjectStore
) -> None:
    """412 tells that the destination is not what was seen."""
    server.says(_refusal(412, "PreconditionFailed"))
    outcome = store.copy(_stored(), "x", over=_stored(), sha256=SHA256, version="1")
    assert outcome is Outcome.KEPT


@pytest.mark.parametrize("over", [True, False])
def test_a_small_object_moves_by_compare_and_swap(
    server: ScriptedServer, store: ObjectStore, over: bool
) -> None:
    """If-Match on the state that was read, If-None-Match where nothing was; a minute of caching."""
    server.says(Reply(200, b"", {"ETag": '"e"'}))
    seen = _stored('"seen"') if over else None
    outcome = store.replace(
        "p.json", b"{}", over=seen, content_type="application/json", version="0.5.0"
    )
    assert outcome is Outcome.WRITTEN
    sent = server.requests[0]
    assert sent.headers.get("if-match") == ('"seen"' if over else None)
    assert sent.headers.get("if-none-match") == (None if over else "*")
    assert sent.headers["cache-control"] == "public, max-age=60, must-revalidate"
    assert sent.headers["content-type"] == "application/json"
    digest = base64.b64decode(sent.headers["x-amz-checksum-sha256"])
    assert digest == hashlib.sha256(b"{}").digest()
    assert "x-amz-trailer" not in sent.headers


@pytest.mark.parametrize("reply", [_refusal(412, "PreconditionFailed"), _refusal(404, "NoSuchKey")])
def test_a_small_object_that_moved_is_an_outcome(
    server: ScriptedServer, store: ObjectStore, reply: Reply
) -> None:
    """R2 says 412, S3 says 404 where what was read is gone."""
    server.says(reply)
    outcome = store.replace(
        "p.json", b"{}", over=_stored(), content_type="application/json", version="1"
    )
    assert outcome is Outcome.KEPT
    assert len(server.requests) == 1


def test_a_small_object_is_read_with_its_state_and_within_bounds(
    server: ScriptedServer, store: ObjectStore
) -> None:
    """Content and ETag come from one answer."""
    server.says(Reply(200, b"{}", STORED))
    found = store.read("p.json", limit_bytes=2)
    assert found
    assert (found[0].etag, found[1]) == (STORED["ETag"], b"{}")
    with pytest.raises(errors.RemoteRefusedError, match="larger"):
        store.read("p.json", limit_bytes=1)
    server.says(_refusal(404, "NoSuchKey"))
    assert store.read("p.json", limit_bytes=2) is None


def test_an_object_is_described_and_hashed(server: ScriptedServer, store: ObjectStore) -> None:
    """Size, ETag, time and notes from HEAD; the digest from the bytes of exactly that state."""
    server.says(Reply(200, CONTENT, STORED))
    stored = store.head(KEY)
    assert stored is not None
    assert (stored.sha256, stored.version, stored.size) == (SHA256, "0.5.0", len(CONTENT))
    assert stored.modified.isoformat() == "2026-05-14T21:51:07+00:00"
    reporter = _Counting()
    assert store.digest(stored, reporter=reporter) == SHA256
    assert server.requests[1].headers["if-match"] == STORED["ETag"]
    assert reporter.events[-1] == f"finish read back {len(CONTENT)}"


def test_a_download_that_ends_early_is_a_passing_fault(
    server: ScriptedServer, store: ObjectStore
) -> None:
    """Half an object has no digest."""
    server.says(Reply(200, CONTENT[:100], STORED, declared=len(CONTENT)))
    with pytest.raises(errors.TransientError):
        store.digest(_stored(), reporter=Silent())


def test_an_object_that_changes_under_the_reader_is_a_passing_fault(
    server: ScriptedServer,
    store: ObjectStore,
) -> None:
    """The digest is of the described state or of none."""
    server.says(_refusal(412, "PreconditionFailed"))
    with pytest.raises(errors.TransientError):
        store.digest(_stored(), reporter=Silent())


def test_the_bucket_can_be_checked_without_writing(
    server: ScriptedServer, store: ObjectStore
) -> None:
    """The probe is one HEAD of the bucket."""
    server.says(Reply(200))
    store.check()
    assert [(request.method, request.path) for request in server.requests] == [
        ("HEAD", "/releases")
    ]
    server.says(Reply(403))
    with pytest.raises(errors.CredentialError):
        store.check()


def test_nobody_listening_is_a_passing_fault(source: Path) -> None:
    """A store that is down is exit 5."""
    with scripted_server.running() as gone:
        store = _new_store(gone, [])
    with pytest.raises(errors.TransientError):
        _create(store, source)


def test_the_users_own_configuration_does_not_steer(
    server: ScriptedServer, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Profile, region, endpoint, checksums and proxies of this host's user are not ours."""
    broken = tmp_path / "config"
    broken.write_text("[profile other]\nregion = mars\n[broken")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(broken))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "mars-1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "foreign")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.says(Reply(200, b"", STORED))
    assert _new_store(server, []).head(KEY) is not None
    headers = server.requests[0].headers
    assert "/auto/s3/aws4_request" in headers["authorization"]
    assert "x-amz-security-token" not in headers


def test_secrets_stay_inside() -> None:
    """Neither the store's text nor a client that cannot be made shows them."""
    store = ObjectStore(
        endpoint="https://account.r2.example",
        bucket="b",
        access_key_id=lambda: KEY_ID,
        secret_access_key=lambda: SECRET,
    )
    assert SECRET not in repr(store)
    assert KEY_ID not in repr(store)
    with pytest.raises(errors.UsageError):
        ObjectStore(
            endpoint="http://account.r2.example",
            bucket="b",
            access_key_id=lambda: KEY_ID,
            secret_access_key=lambda: SECRET,
        )


def test_a_file_over_one_request_is_refused(
    server: ScriptedServer, store: ObjectStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a single PUT cannot carry is never begun."""
    monkeypatch.setattr(object_store, "_SINGLE_PUT_BYTES", len(CONTENT) - 1)
    with pytest.raises(errors.UsageError):
        _create(store, source)
    assert server.requests == []


def _botocore_exceptions() -> list[type[Exception]]:
    found = [member for _, member in inspect.getmembers(botocore.exceptions, inspect.isclass)]
    roots = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)
    return [
        member
        for member in found
        if issubclass(member, Exception)
        and not issubclass(member, Warning)
        and member.__module__ == "botocore.exceptions"
        and member not in roots
    ]


@pytest.mark.parametrize("foreign", _botocore_exceptions(), ids=lambda foreign: foreign.__name__)
def test_every_exception_of_botocore_is_mapped(foreign: type[Exception]) -> None:
    """A class that botocore grows is noticed here, not in a release."""
    assert object_store_errors.kind_of(foreign) is not None


def test_the_map_names_only_what_exists() -> None:
    """An entry that botocore dropped is noticed too."""
    unknown = set(object_store_errors.KINDS) - set(vars(botocore.exceptions))
    assert unknown == set()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EndpointConnectionError", errors.TransientError),
        ("ConnectTimeoutError", errors.TransientError),
        ("ReadTimeoutError", errors.TransientError),
        ("ConnectionClosedError", errors.TransientError),
        ("ResponseStreamingError", errors.TransientError),
        ("NoCredentialsError", errors.CredentialError),
        ("FlexibleChecksumError", errors.VerificationError),
        ("ParamValidationError", errors.UsageError),
    ],
)
def test_the_map_goes_by_remedy(name: str, expected: type[errors.ReleaseError]) -> None:
    """The ones that will be met have the exit code of their remedy."""
    foreign = getattr(botocore.exceptions, name)
    assert object_store_errors.kind_of(foreign) is expected


def test_a_certificate_that_does_not_hold_is_no_passing_fault() -> None:
    """A wrong certificate is exit 6."""
    problem = botocore.exceptions.SSLError(
        endpoint_url="https://x", error=OSError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")
    )
    ours = object_store_errors.from_botocore(problem, "x")
    assert isinstance(ours, errors.VerificationError)
