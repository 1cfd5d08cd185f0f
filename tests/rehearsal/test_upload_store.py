"""The notary's S3 as boto3 finds it with its defaults, and as nobody else may use it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import socket
import urllib.parse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, HTTPClientError
from werkzeug.test import Client

from release_tool.rehearsal import counts, faults
from release_tool.rehearsal.notary_store import NotaryStore, Submission
from release_tool.rehearsal.upload_store import UploadStore
from tests.rehearsal import notary_client
from tests.rehearsal.notary_client import Notarization

MIB = 1024 * 1024
PART = 5 * MIB


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def place(made: dict[str, str]) -> dict[str, str]:
    return {"Bucket": made["bucket"], "Key": made["object"]}


def uploaded(state: Path, made: dict[str, str]) -> list[tuple[str, str]]:
    """Whole uploads of a submission, from the journal."""
    whole = ("PutObject", "CompleteMultipartUpload")
    return [
        (item.operation, item.sha256)
        for item in counts.notary(state)
        if item.subject == made["id"] and item.operation in whole
    ]


def code_of(problem: pytest.ExceptionInfo[ClientError]) -> str:
    return str(problem.value.response["Error"]["Code"])


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_boto3_puts_with_either_checksum_policy(
    notary: Notarization, state: Path, checksums: notary_client.Checksums
) -> None:
    """Its defaults are fine, as they are on real S3."""
    made = notary.submit("0" * 64)
    body = os.urandom(100_000)
    client = notary.s3(made, checksums)
    answer = client.put_object(**place(made), Body=io.BytesIO(body))
    assert answer["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert uploaded(state, made) == [("PutObject", sha256(body))]


def test_boto3_uploads_in_parts_and_threads(notary: Notarization, state: Path) -> None:
    """What `upload_fileobj` does above its threshold arrives whole."""
    made = notary.submit("0" * 64)
    body = os.urandom(2 * PART + 12345)
    settings = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
    notary.s3(made).upload_fileobj(
        io.BytesIO(body), made["bucket"], made["object"], Config=settings
    )
    assert uploaded(state, made) == [("CompleteMultipartUpload", sha256(body))]
    noted = [item for item in counts.notary(state) if item.subject == made["id"]]
    assert sorted(item.sha256 for item in noted if item.operation == "UploadPart") == [
        *("1", "2", "3")
    ]


def test_an_upload_is_resumed(notary: Notarization, state: Path) -> None:
    """Parts are listed page by page, replaced, and joined in the order that is named."""
    made = notary.submit("0" * 64)
    client, body = notary.s3(made), os.urandom(PART + PART + 7)
    upload = client.create_multipart_upload(**place(made))["UploadId"]
    pieces = [body[:PART], body[PART : 2 * PART], body[2 * PART :]]
    for number in (3, 1, 2):
        client.upload_part(**place(made), UploadId=upload, PartNumber=number, Body=b"old")
    for number, piece in enumerate(pieces, 1):
        client.upload_part(**place(made), UploadId=upload, PartNumber=number, Body=piece)
    first = client.list_parts(**place(made), UploadId=upload, MaxParts=2)
    assert first["IsTruncated"]
    pages = client.get_paginator("list_parts").paginate(
        **place(made), UploadId=upload, PaginationConfig={"PageSize": 2}
    )
    parts = [part for page in pages for part in page["Parts"]]
    assert [(part["PartNumber"], part["Size"]) for part in parts] == [(1, PART), (2, PART), (3, 7)]
    named = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
    answer = client.complete_multipart_upload(
        **place(made), UploadId=upload, MultipartUpload={"Parts": named}
    )
    assert answer["ETag"].endswith('-3"')
    assert uploaded(state, made) == [("CompleteMultipartUpload", sha256(body))]
    with pytest.raises(ClientError) as problem:
        client.list_parts(**place(made), UploadId=upload)
    assert code_of(problem) == "NoSuchUpload"


def test_what_s3_refuses_of_parts(notary: Notarization, state: Path) -> None:
    """Small parts before the last, unknown ones, a wrong order, numbers out of range."""
    made = notary.submit("0" * 64)
    client = notary.s3(made)
    upload = client.create_multipart_upload(**place(made))["UploadId"]
    etags = [
        client.upload_part(**place(made), UploadId=upload, PartNumber=number, Body=b"small")["ETag"]
        for number in (1, 2)
    ]
    one, two = ({"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1))
    other = {"PartNumber": 2, "ETag": '"00000000000000000000000000000000"'}
    for named, code in [
        ([one, two], "EntityTooSmall"),
        ([two, one], "InvalidPartOrder"),
        ([one, other], "InvalidPart"),
        ([], "MalformedXML"),
    ]:
        with pytest.raises(ClientError) as problem:
            client.complete_multipart_upload(
                **place(made), UploadId=upload, MultipartUpload={"Parts": named}
            )
        assert code_of(problem) == code
    with pytest.raises(ClientError) as problem:
        client.upload_part(**place(made), UploadId=upload, PartNumber=10_001, Body=b"x")
    assert code_of(problem) == "InvalidArgument"
    client.abort_multipart_upload(**place(made), UploadId=upload)
    with pytest.raises(ClientError) as problem:
        client.upload_part(**place(made), UploadId=upload, PartNumber=1, Body=b"x")
    assert code_of(problem) == "NoSuchUpload"
    assert uploaded(state, made) == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"awsSecretAccessKey": "other"}, "SignatureDoesNotMatch"),
        ({"awsSessionToken": "other"}, "InvalidToken"),
        ({"awsAccessKeyId": "ASIAOTHER0000000"}, "InvalidAccessKeyId"),
        ({"bucket": "notary-submissions-other"}, "AccessDenied"),
        ({"object": "prod/other"}, "AccessDenied"),
    ],
)
def test_credentials_open_one_object_only(
    notary: Notarization, state: Path, changed: dict[str, str], code: str
) -> None:
    """Another key, token, bucket or object is refused, and nothing is kept."""
    made = notary.submit("0" * 64)
    wrong = made | changed
    with pytest.raises(ClientError) as problem:
        notary.s3(wrong).put_object(**place(wrong), Body=b"x")
    assert code_of(problem) == code
    assert uploaded(state, made) == []


def test_credentials_of_another_submission_do_not_help(notary: Notarization) -> None:
    """They are valid, for another object."""
    first, second = notary.submit("0" * 64), notary.submit("0" * 64)
    with pytest.raises(ClientError) as problem:
        notary.s3(first).put_object(**place(second), Body=b"x")
    assert code_of(problem) == "AccessDenied"
    upload = notary.s3(second).create_multipart_upload(**place(second))["UploadId"]
    with pytest.raises(ClientError) as problem:
        notary.s3(first).upload_part(**place(first), UploadId=upload, PartNumber=1, Body=b"x")
    assert code_of(problem) == "NoSuchUpload"


def test_another_region_is_refused(notary: Notarization) -> None:
    """The bucket lies in us-west-2."""
    made = notary.submit("0" * 64)
    with pytest.raises(ClientError) as problem:
        notary.s3(made, region="us-east-1").put_object(**place(made), Body=b"x")
    assert problem.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_nothing_can_be_read(notary: Notarization) -> None:
    """Temporary credentials write and do not read, list or delete."""
    made = notary.submit("0" * 64)
    client = notary.s3(made)
    client.put_object(**place(made), Body=b"x")
    for ask in (client.get_object, client.delete_object):
        with pytest.raises(ClientError) as problem:
            ask(**place(made))
        assert code_of(problem) == "AccessDenied"
    with pytest.raises(ClientError) as problem:
        client.list_objects_v2(Bucket=made["bucket"])
    assert code_of(problem) == "AccessDenied"


def test_an_unsigned_request_is_refused(notary: Notarization) -> None:
    """Whoever has no credentials is told nothing."""
    made = notary.submit("0" * 64)
    url = f"{notary.addresses.notary_upload_url}/{made['bucket']}/{made['object']}"
    answer = notary_client.fetch("PUT", url, b"x")
    assert answer.status == 403
    assert b"<Code>AccessDenied</Code>" in answer.body


def test_credentials_end_after_twelve_hours(tmp_path: Path) -> None:
    """To the second, by the store's clock; what was begun cannot be finished with them."""
    store = NotaryStore(tmp_path)
    begun = datetime.now(UTC) - timedelta(hours=12)
    for late, status in [(timedelta(seconds=-30), 200), (timedelta(), 400)]:
        made = store.submit("a.zip", "0" * 64, begun - late)
        application = UploadStore(store, uploaded=lambda _: None, broken=faults.Faults())
        headers = signed(made, b"x")
        path = f"/{made.bucket}/{urllib.parse.quote(made.object_key)}"
        answer = Client(application).put(path, data=b"x", headers=headers, base_url="http://h")
        assert answer.status_code == status
        assert (b"ExpiredToken" in answer.data) == (status == 400)
    store.close()


class Stating(S3SigV4Auth):
    """Botocore's signer, that keeps what a request says of its payload."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.context.get("stated") or super().payload(request))


def signed(
    made: Submission, body: bytes, stated: str = "", headers: dict[str, str] | None = None
) -> dict[str, str]:
    """Headers that botocore signs for a PUT to the host `h`."""
    credentials = Credentials(made.access_key_id, made.secret_access_key, made.session_token)
    url = f"http://h/{made.bucket}/{urllib.parse.quote(made.object_key)}"
    request = AWSRequest("PUT", url, data=body, headers=headers)
    if stated:
        request.context["stated"] = stated
    Stating(credentials, "s3", "us-west-2").add_auth(request)
    return dict(request.headers.items())


def chunked(body: bytes, crc32: int) -> bytes:
    """A body in two chunks with a trailer."""
    half = len(body) // 2
    pieces = (body[:half], body[half:])
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    checksum = base64.b64encode(crc32.to_bytes(4))
    return framed + b"0\r\nx-amz-checksum-crc32:%s\r\n\r\n" % checksum


@pytest.mark.parametrize("case", ["good", "checksum", "length", "cut off", "no chunks", "signed"])
def test_aws_chunked_bodies_are_decoded(tmp_path: Path, case: str) -> None:
    """As SDKs send them over https: trailer checksums count; signed chunks are not implemented."""
    store = NotaryStore(tmp_path)
    made = store.submit("a.zip", "0" * 64, datetime.now(UTC))
    body = os.urandom(300_000)
    wire = chunked(body, binascii.crc32(body) ^ (1 if case == "checksum" else 0))
    wire = {"cut off": wire[:200_000], "no chunks": body}.get(case, wire)
    kind = "AWS4-HMAC-SHA256-PAYLOAD" if case == "signed" else "UNSIGNED-PAYLOAD-TRAILER"
    headers = signed(
        made,
        b"",
        f"STREAMING-{kind}",
        {
            "Content-Encoding": "aws-chunked",
            "x-amz-decoded-content-length": str(len(body) + (1 if case == "length" else 0)),
            "x-amz-trailer": "x-amz-checksum-crc32",
        },
    )
    application = UploadStore(store, uploaded=lambda _: None, broken=faults.Faults())
    path = f"/{made.bucket}/{urllib.parse.quote(made.object_key)}"
    answer = Client(application).put(path, data=wire, headers=headers, base_url="http://h")
    codes = {
        "checksum": "BadDigest",
        "length": "IncompleteBody",
        "cut off": "IncompleteBody",
        "no chunks": "InvalidRequest",
        "signed": "NotImplemented",
    }
    found = store.get(made.id)
    assert found is not None
    if case == "good":
        assert answer.status_code == 200
        assert found.uploaded_sha256 == sha256(body)
    else:
        assert f"<Code>{codes[case]}</Code>" in answer.text
        assert found.uploaded_at is None
    assert not list(store.scratch.iterdir())
    store.close()


def test_expect_100_continue_is_answered_once(notary: Notarization) -> None:
    """AWS says to go on before the body is sent, unlike R2."""
    made = notary.submit("0" * 64)
    address = urllib.parse.urlsplit(notary.addresses.notary_upload_url)
    assert address.port is not None
    with socket.create_connection(("127.0.0.1", address.port), timeout=10) as connection:
        connection.sendall(
            f"PUT /{made['bucket']}/x HTTP/1.1\r\nHost: {address.netloc}\r\n"
            "Content-Length: 1\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        )
        whole = connection.recv(1000)
        connection.sendall(b"x")
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(1000):
            whole += piece
    assert whole.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 ")
    assert whole.count(b"100 Continue") == 1


def test_an_upload_breaks_midway(notary: Notarization, state: Path) -> None:
    """The second part is cut, what was there before stays, and it goes on from there."""
    made = notary.submit("0" * 64)
    client, body = notary.s3(made), os.urandom(PART + 7)
    upload = client.create_multipart_upload(**place(made))["UploadId"]
    named: list[dict[str, object]] = []

    def send(number: int) -> None:
        piece = body[(number - 1) * PART : number * PART]
        answer = client.upload_part(**place(made), UploadId=upload, PartNumber=number, Body=piece)
        named.append({"PartNumber": number, "ETag": answer["ETag"]})

    notary.broken.set({faults.UPLOAD_CUT_LATER_PART: 1})
    send(1)
    with pytest.raises(HTTPClientError):
        send(2)
    listed = client.list_parts(**place(made), UploadId=upload)["Parts"]
    assert [part["PartNumber"] for part in listed] == [1]
    send(2)
    client.complete_multipart_upload(
        **place(made), UploadId=upload, MultipartUpload={"Parts": named}
    )
    assert uploaded(state, made) == [("CompleteMultipartUpload", sha256(body))]


def test_faults_of_uploads(notary: Notarization, state: Path) -> None:
    """Busy, cut midway, expired, or kept with a lost answer; then all is well."""
    made = notary.submit("0" * 64)
    client, body = notary.s3(made), os.urandom(MIB)
    for name, code in [
        (faults.UPLOAD_UNAVAILABLE, "SlowDown"),
        (faults.UPLOAD_EXPIRED, "ExpiredToken"),
    ]:
        notary.broken.set({name: 1})
        with pytest.raises(ClientError) as problem:
            client.put_object(**place(made), Body=body)
        assert code_of(problem) == code
    notary.broken.set({faults.UPLOAD_CUT: 1})
    with pytest.raises(HTTPClientError):
        client.put_object(**place(made), Body=body)
    assert uploaded(state, made) == []
    notary.broken.set({faults.UPLOAD_DROP_AFTER_WRITE: 1})
    with pytest.raises(HTTPClientError):
        client.put_object(**place(made), Body=body)
    assert uploaded(state, made) == [("PutObject", sha256(body))]
    client.put_object(**place(made), Body=body)
