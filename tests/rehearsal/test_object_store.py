"""The object store's look-alike over real sockets, driven by boto3 as a client would be."""

from __future__ import annotations

import base64
import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.config
import botocore.exceptions
import pytest
import requests

from release_tool.rehearsal import faults, signature_v4
from release_tool.rehearsal.object_index import ObjectIndex
from release_tool.rehearsal.public_bucket import PublicBucket
from release_tool.rehearsal.servers import Server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from botocore.awsrequest import AWSPreparedRequest, AWSRequest
    from mypy_boto3_s3 import S3Client

BUCKET = "releases-test"
KEY_ID = "look-alike-key"
SECRET = "look-alike-secret"
MIB = 1024 * 1024
DESTINATION = "cf-copy-destination"
COPIES = "copy destination"
rule = pytest.mark.rule


class Place:
    """A store and its public address, with what tests need of both."""

    def __init__(self, folder: Path, new_bucket: Callable[..., WSGIApplication]) -> None:
        self.folder = folder
        self.new_bucket = new_bucket
        self.faults = faults.Faults()
        self.open()

    def open(self) -> None:
        self.index = ObjectIndex(self.folder)
        credentials = signature_v4.Credentials(access_key_id=KEY_ID, secret_access_key=SECRET)
        store = self.new_bucket(BUCKET, credentials, index=self.index, broken=self.faults)
        self.server = Server(store)
        self.public = Server(PublicBucket(self.index, broken=self.faults))
        self.server.start()
        self.public.start()

    def close(self) -> None:
        self.server.stop()
        self.public.stop()
        self.index.close()

    def client(
        self, key_id: str = KEY_ID, secret: str = SECRET, region: str = "auto", **settings: object
    ) -> S3Client:
        options: dict[str, Any] = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "retries": {"total_max_attempts": 1},
            "s3": {"addressing_style": "path"},
        }
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=self.server.url,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            region_name=region,
            config=botocore.config.Config(**(options | settings)),
        )
        # What never waits a second for a 100-continue that R2 does not send.
        client.meta.events.register("before-sign.s3", _without_expect)
        return client

    def get(self, key: str, **headers: str) -> requests.Response:
        return requests.get(f"{self.public.url}/{key}", headers=headers, timeout=10)


def _without_expect(request: AWSRequest, **_: object) -> None:
    del request.headers["Expect"]


@pytest.fixture
def place(tmp_path: Path, new_bucket: Callable[..., WSGIApplication]) -> Iterator[Place]:
    made = Place(tmp_path / "objects", new_bucket)
    yield made
    made.close()


def refusal(call: Callable[[], object]) -> tuple[int, str]:
    """Status and code of what a call is refused with."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    answer: Mapping[str, Any] = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def sha256_base64(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def with_header(client: S3Client, operation: str, name: str, value: str) -> None:
    def add(request: AWSRequest, **_: object) -> None:
        request.headers[name] = value

    client.meta.events.register(f"before-sign.s3.{operation}", add)


def test_an_object_is_created_read_and_served(place: Place) -> None:
    """What is put comes back by GET, HEAD, listing and the public address, with its headers."""
    client = place.client()
    client.put_object(
        Bucket=BUCKET,
        Key="releases/v1/a b+ü.gz",
        Body=b"content",
        ContentType="application/gzip",
        CacheControl="public, max-age=60",
        ChecksumSHA256=sha256_base64(b"content"),
        IfNoneMatch="*",
        Metadata={"sha256": "ab"},
    )
    head = client.head_object(Bucket=BUCKET, Key="releases/v1/a b+ü.gz")
    assert head["ContentLength"] == 7
    assert head["Metadata"] == {"sha256": "ab"}
    assert head["CacheControl"] == "public, max-age=60"
    got = client.get_object(Bucket=BUCKET, Key="releases/v1/a b+ü.gz", IfMatch=head["ETag"])
    assert got["Body"].read() == b"content"
    assert [row["Key"] for row in client.list_objects_v2(Bucket=BUCKET)["Contents"]] == [
        "releases/v1/a b+ü.gz"
    ]
    served = place.get("releases/v1/a b+ü.gz")
    assert served.status_code == 200
    assert served.content == b"content"
    assert served.headers["ETag"] == head["ETag"]
    assert served.headers["Cache-Control"] == "public, max-age=60"
    assert served.headers["Content-Type"] == "application/gzip"
    assert not [name for name in served.headers if name.lower().startswith("x-amz")]


@rule("one bucket")
def test_the_bucket_answers_head_and_no_other_bucket_does(place: Place) -> None:
    """One bucket, no listing of buckets, and none can be made."""
    client = place.client()
    client.head_bucket(Bucket=BUCKET)
    assert refusal(lambda: client.head_bucket(Bucket="another"))[0] == 404
    assert refusal(lambda: client.get_object(Bucket="another", Key="k")) == (404, "NoSuchBucket")
    assert refusal(client.list_buckets) == (403, "AccessDenied")
    assert refusal(lambda: client.create_bucket(Bucket=BUCKET)) == (403, "AccessDenied")
    assert refusal(lambda: client.delete_bucket(Bucket=BUCKET)) == (403, "AccessDenied")


def test_a_missing_object_is_missing_everywhere(place: Place) -> None:
    """404 NoSuchKey by GET, a bare 404 by HEAD, 404 in public."""
    client = place.client()
    assert refusal(lambda: client.get_object(Bucket=BUCKET, Key="k")) == (404, "NoSuchKey")
    assert refusal(lambda: client.head_object(Bucket=BUCKET, Key="k"))[0] == 404
    assert place.get("k").status_code == 404


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"key_id": "another"}, (401, "Unauthorized"), marks=rule("codes")),
        ({"secret": "another"}, (403, "SignatureDoesNotMatch")),
        pytest.param({"region": "eu-west-1"}, (400, "InvalidRegionName"), marks=rule("regions")),
    ],
)
def test_only_the_own_credentials_sign(
    place: Place, settings: dict[str, str], expected: tuple[int, str]
) -> None:
    """Another key id, secret or region is refused, each with its own code."""
    client = place.client(**settings)
    assert refusal(lambda: client.list_objects_v2(Bucket=BUCKET)) == expected


@rule("codes")
def test_a_request_without_a_signature_is_refused(place: Place) -> None:
    """The S3 endpoint is not the public address."""
    assert requests.get(f"{place.server.url}/{BUCKET}/k", timeout=10).status_code == 401


def test_a_header_added_after_signing_is_refused(place: Place) -> None:
    """An `x-amz-` header outside the signature cannot slip in."""
    client = place.client()

    def add(request: AWSRequest, **_: object) -> None:
        request.headers["x-amz-meta-late"] = "1"

    client.meta.events.register("before-send.s3.PutObject", add)
    call = partial(client.put_object, Bucket=BUCKET, Key="k", Body=b"x")
    assert refusal(call) == (403, "AccessDenied")


@rule("codes")
def test_a_streamed_trailer_is_refused(place: Place) -> None:
    """What boto3 sends by default for a file over https is not implemented on R2."""
    client = place.client()

    def stream(request: AWSPreparedRequest, **_: object) -> None:
        request.headers["x-amz-content-sha256"] = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

    client.meta.events.register("before-send.s3.PutObject", stream)
    call = partial(client.put_object, Bucket=BUCKET, Key="k", Body=b"x")
    assert refusal(call) == (501, "NotImplemented")
    assert place.index.get("k") is None


@rule("codes")
def test_a_body_changed_on_the_way_is_refused(place: Place) -> None:
    """The payload's signed digest is compared with what arrives."""
    client = place.client()

    def change(request: AWSPreparedRequest, **_: object) -> None:
        request.body = b"y"

    client.meta.events.register("before-send.s3.PutObject", change)
    call = partial(client.put_object, Bucket=BUCKET, Key="k", Body=b"x")
    assert refusal(call) == (400, "BadDigest")
    assert place.index.writes() == []


@rule("refused headers")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-trailer", "x-amz-checksum-crc32"),
        ("Content-Encoding", "aws-chunked"),
        ("x-amz-acl", "public-read"),
        ("x-amz-grant-read", "id=1"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-expected-bucket-owner", "1"),
        ("x-amz-request-payer", "requester"),
        ("x-amz-website-redirect-location", "/"),
    ],
)
def test_what_r2_lacks_is_not_implemented(place: Place, name: str, value: str) -> None:
    """Headers and encodings that R2 does not take end in 501, and nothing is written."""
    client = place.client()
    with_header(client, "PutObject", name, value)
    call = partial(client.put_object, Bucket=BUCKET, Key="k", Body=b"x")
    assert refusal(call) == (501, "NotImplemented")
    assert place.index.writes() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-checksum-sha256", sha256_base64(b"other")),
        ("x-amz-checksum-sha1", base64.b64encode(hashlib.sha1(b"other").digest()).decode()),
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("Content-MD5", base64.b64encode(hashlib.md5(b"other").digest()).decode()),
    ],
)
def test_a_stated_digest_is_compared(place: Place, name: str, value: str) -> None:
    """Any digest that is not the body's ends in BadDigest, and nothing is written."""
    client = place.client()
    with_header(client, "PutObject", name, value)
    call = partial(client.put_object, Bucket=BUCKET, Key="k", Body=b"x")
    assert refusal(call) == (400, "BadDigest")
    assert place.index.get("k") is None


def test_create_only_keeps_what_stands(place: Place) -> None:
    """`If-None-Match: *` writes once; the second write is 412 and changes nothing."""
    client = place.client()
    client.put_object(Bucket=BUCKET, Key="k", Body=b"first", IfNoneMatch="*")
    call = partial(client.put_object, Bucket=BUCKET, Key="k", Body=b"2", IfNoneMatch="*")
    assert refusal(call) == (412, "PreconditionFailed")
    assert place.get("k").content == b"first"


@pytest.mark.parametrize("stands", [True, pytest.param(False, marks=rule("missing match"))])
def test_if_match_needs_the_object_and_its_etag(place: Place, stands: bool) -> None:
    """`If-Match` fails on a missing key and on another ETag."""
    client = place.client()
    if stands:
        client.put_object(Bucket=BUCKET, Key="k", Body=b"first")
    put = partial(client.put_object, Bucket=BUCKET, Key="k", Body=b"x")
    assert refusal(lambda: put(IfMatch='"00"')) == (412, "PreconditionFailed")


@rule("one write a second")
def test_a_second_write_within_a_second_is_refused(place: Place) -> None:
    """One write a second for each key; another key is free."""
    client = place.client()
    client.put_object(Bucket=BUCKET, Key="k", Body=b"1")
    call = partial(client.put_object, Bucket=BUCKET, Key="k", Body=b"2")
    assert refusal(call) == (429, "TooManyRequests")
    client.put_object(Bucket=BUCKET, Key="other", Body=b"2")
    assert place.get("k").content == b"1"


def copy(client: S3Client, **more: object) -> None:
    wanted: dict[str, Any] = {"CopySource": {"Bucket": BUCKET, "Key": "k"}, **more}
    client.copy_object(Bucket=BUCKET, Key="alias", **wanted)


def test_a_copy_takes_new_headers_and_the_same_bytes(place: Place) -> None:
    """A server-side copy with REPLACE serves the source's bytes under its own headers."""
    client = place.client()
    client.put_object(Bucket=BUCKET, Key="k", Body=b"bytes", CacheControl="a")
    copy(client, MetadataDirective="REPLACE", CacheControl="b", Metadata={"version": "1"})
    assert place.get("alias").content == b"bytes"
    assert place.get("alias").headers["Cache-Control"] == "b"
    assert client.head_object(Bucket=BUCKET, Key="alias")["Metadata"] == {"version": "1"}


@pytest.mark.parametrize(
    ("name", "value", "stands", "refused"),
    [
        (f"{DESTINATION}-if-none-match", "*", False, False),
        pytest.param(f"{DESTINATION}-if-none-match", "*", True, True, marks=rule(COPIES)),
        pytest.param(f"{DESTINATION}-if-match", '"00"', True, True, marks=rule(COPIES)),
        pytest.param(f"{DESTINATION}-if-match", '"00"', False, True, marks=rule(COPIES)),
        # S3's own condition on the destination is ignored, which is the trap.
        ("if-none-match", "*", True, False),
    ],
)
def test_a_copy_is_judged_by_the_destination_headers_of_r2(
    place: Place, name: str, value: str, stands: bool, refused: bool
) -> None:
    """Only `cf-copy-destination-*` constrains what a copy overwrites."""
    client = place.client()
    client.put_object(Bucket=BUCKET, Key="k", Body=b"new")
    if stands:
        client.put_object(Bucket=BUCKET, Key="alias", Body=b"old")
        place.server.stop()
        place.public.stop()
        place.index.close()
        place.open()
        client = place.client()
    with_header(client, "CopyObject", name, value)
    if refused:
        assert refusal(lambda: copy(client)) == (412, "PreconditionFailed")
    else:
        copy(client)
    expected = b"old" if refused else b"new"
    assert place.get("alias").content == (
        expected if stands or not refused else b"Object not found"
    )


def test_a_copy_follows_the_source_conditions(place: Place) -> None:
    """A source that is not the one expected is not copied; a missing one is NoSuchKey."""
    client = place.client()
    assert refusal(lambda: copy(client)) == (404, "NoSuchKey")
    client.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    assert refusal(lambda: copy(client, CopySourceIfMatch='"00"')) == (412, "PreconditionFailed")


def upload(client: S3Client, sizes: list[int]) -> bytes:
    started = client.create_multipart_upload(Bucket=BUCKET, Key="big")
    named: dict[str, Any] = {"Bucket": BUCKET, "Key": "big", "UploadId": started["UploadId"]}
    parts = [bytes([number]) * size for number, size in enumerate(sizes, 1)]
    etags = [
        client.upload_part(**named, PartNumber=number, Body=body)["ETag"]
        for number, body in enumerate(parts, 1)
    ]
    chosen = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    named["MultipartUpload"] = {"Parts": chosen}
    client.complete_multipart_upload(**named)
    return b"".join(parts)


def test_equal_parts_make_an_object(place: Place) -> None:
    """Equal parts and a shorter last one come together, with a multipart ETag."""
    client = place.client()
    whole = upload(client, [5 * MIB, 5 * MIB, 17])
    assert place.get("big").content == whole
    assert client.head_object(Bucket=BUCKET, Key="big")["ETag"].endswith('-3"')
    assert client.get_object(Bucket=BUCKET, Key="big")["Body"].read() == whole


def test_a_copy_outlives_its_source(place: Place) -> None:
    """It serves the bytes, whole and in ranges; where those came in parts, its ETag is another."""
    client = place.client()
    whole = upload(client, [5 * MIB, 17])
    client.copy_object(Bucket=BUCKET, Key="alias", CopySource={"Bucket": BUCKET, "Key": "big"})
    client.delete_object(Bucket=BUCKET, Key="big")
    assert place.get("alias").content == whole
    told = client.head_object(Bucket=BUCKET, Key="alias")
    assert (told["ContentLength"], "-" in told["ETag"]) == (len(whole), False)
    tail = client.get_object(Bucket=BUCKET, Key="alias", Range="bytes=-20", IfMatch=told["ETag"])
    assert tail["Body"].read() == whole[-20:]


@pytest.mark.parametrize(
    ("sizes", "code"),
    [
        pytest.param([6 * MIB, 5 * MIB, 1], "InvalidPart", marks=rule("equal parts")),
        pytest.param([5 * MIB, 6 * MIB], "InvalidPart", marks=rule("equal parts")),
        ([MIB, MIB, 1], "EntityTooSmall"),
    ],
)
def test_unequal_or_small_parts_are_refused(place: Place, sizes: list[int], code: str) -> None:
    """R2 wants all parts but the last equal and of 5 MiB at least."""
    client = place.client()
    assert refusal(lambda: upload(client, sizes)) == (400, code)
    assert place.get("big").status_code == 404


@rule("lost upload")
def test_a_failed_condition_loses_the_upload(place: Place) -> None:
    """After a 412 on completion the upload is gone and cannot be completed again."""
    client = place.client()
    client.put_object(Bucket=BUCKET, Key="big", Body=b"there")
    started = client.create_multipart_upload(Bucket=BUCKET, Key="big")
    named: dict[str, Any] = {"Bucket": BUCKET, "Key": "big", "UploadId": started["UploadId"]}
    etag = client.upload_part(**named, PartNumber=1, Body=b"x")["ETag"]
    named["MultipartUpload"] = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    call = partial(client.complete_multipart_upload, **named)
    assert refusal(lambda: call(IfNoneMatch="*")) == (412, "PreconditionFailed")
    assert refusal(call) == (404, "NoSuchUpload")
    assert place.get("big").content == b"there"


def test_objects_survive_a_restart(place: Place) -> None:
    """A new process serves the same bytes, ETags, headers and counts; uploads are gone."""
    client = place.client()
    client.put_object(Bucket=BUCKET, Key="k", Body=b"x", Metadata={"version": "1"})
    whole = upload(client, [5 * MIB, 1])
    copy(client)
    before = {key: client.head_object(Bucket=BUCKET, Key=key) for key in ("k", "big", "alias")}
    writes = place.index.writes()
    place.close()
    place.open()
    client = place.client()
    for key, told in before.items():
        again = client.head_object(Bucket=BUCKET, Key=key)
        assert {name: again.get(name) for name in ("ETag", "Metadata", "ContentLength")} == {
            name: told.get(name) for name in ("ETag", "Metadata", "ContentLength")
        }
    assert (
        client.get_object(Bucket=BUCKET, Key="big", Range="bytes=5242879-")["Body"].read()
        == (whole[5242879:])
    )
    assert place.index.writes() == writes
    assert [row["operation"] for row in writes] == [
        "PutObject",
        "CompleteMultipartUpload",
        "CopyObject",
    ]
    assert writes[0]["sha256"] == hashlib.sha256(b"x").hexdigest()


def test_a_deleted_object_is_gone_and_noted(place: Place) -> None:
    """DELETE removes an object everywhere, and the journal tells it."""
    client = place.client()
    client.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    client.delete_object(Bucket=BUCKET, Key="k")
    assert place.get("k").status_code == 404
    assert refusal(lambda: client.head_object(Bucket=BUCKET, Key="k"))[0] == 404
    assert [row["operation"] for row in place.index.writes()] == ["PutObject", "DeleteObject"]


def test_the_public_address_answers_ranges_and_revalidation(place: Place) -> None:
    """206 with the range asked for, 304 for a known ETag, 405 for a write."""
    place.client().put_object(Bucket=BUCKET, Key="k", Body=b"0123456789")
    part = place.get("k", Range="bytes=2-4")
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["Content-Range"] == "bytes 2-4/10"
    etag = place.get("k").headers["ETag"]
    assert place.get("k", **{"If-None-Match": etag}).status_code == 304
    assert requests.put(f"{place.public.url}/k", data=b"x", timeout=10).status_code == 405


def test_pythons_default_agent_is_refused_in_public(place: Place) -> None:
    """Cloudflare answers Python-urllib with 403 and error 1010."""
    place.client().put_object(Bucket=BUCKET, Key="k", Body=b"x")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{place.public.url}/k", timeout=10)  # noqa: S310
    assert caught.value.code == 403
    assert b"1010" in caught.value.read()
    caught.value.close()


def test_faults_break_as_many_requests_as_asked(place: Place) -> None:
    """A fault ends after its count; a dropped answer leaves the write in place."""
    client = place.client()
    place.faults.set({faults.STORE_UNAVAILABLE: 1, faults.PUBLIC_UNAVAILABLE: 1})
    call = partial(client.put_object, Bucket=BUCKET, Key="k", Body=b"x")
    assert refusal(call) == (503, "ServiceUnavailable")
    place.faults.set({faults.STORE_DROP_AFTER_WRITE: 1})
    with pytest.raises(botocore.exceptions.HTTPClientError):
        call()
    assert place.get("k").status_code == 503
    assert place.get("k").content == b"x"


def test_a_large_object_is_streamed(place: Place) -> None:
    """A body of 64 MiB goes in and comes out unchanged by both ways."""
    block = hashlib.sha512(b"seed").digest() * (MIB // 64)
    body = block * 64
    client = place.client()
    client.put_object(Bucket=BUCKET, Key="k", Body=body, ChecksumSHA256=sha256_base64(body))
    assert hashlib.sha256(place.get("k").content).digest() == hashlib.sha256(body).digest()
    got = client.get_object(Bucket=BUCKET, Key="k")["Body"].read()
    assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()


def test_content_that_nothing_names_goes_at_the_next_start(place: Place) -> None:
    """What an overwrite or a killed process left behind does not pile up."""
    client = place.client()
    client.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    client.put_object(Bucket=BUCKET, Key="gone", Body=b"y")
    client.delete_object(Bucket=BUCKET, Key="gone")
    place.close()
    place.open()
    assert place.get("k").content == b"x"
    assert [path.name for path in (place.folder / "content").iterdir()] == [
        hashlib.sha256(b"x").hexdigest()
    ]
