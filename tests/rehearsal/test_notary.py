"""The look-alike notary from end to end, over real sockets, asked by an independent client."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.parse
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from release_tool.rehearsal import counts, faults, places, presigned_urls, s3_errors, signature_v4
from release_tool.rehearsal.notary_store import BEARER_LEAK
from tests import signed_release
from tests.rehearsal import notary_client
from tests.rehearsal.notary_client import Answer, Notarization, fetch

APP = "Darkbloom.app/"
MAIN = f"Darkbloom.zip/{APP}Contents/MacOS/darkbloom"
ENCLAVE = f"Darkbloom.zip/{APP}Contents/MacOS/darkbloom-enclave"


@lru_cache
def app_zip() -> bytes:
    release = signed_release.made()
    files = {path: data for path, data in release.files.items() if path.startswith(APP)}
    return notary_client.zipped(files, release.modes)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def accepted(notary: Notarization) -> str:
    identity = notary.upload(app_zip())
    assert notary.await_status(identity) == "Accepted"
    return identity


def test_a_good_app_is_accepted_and_gets_its_ticket(notary: Notarization) -> None:
    """Submit, upload, wait, log, ticket: the whole way with nothing of our client."""
    archive = app_zip()
    made = notary.submit(sha256(archive))
    assert notary.status(made["id"]) == "In Progress"
    assert notary.ask("GET", f"/{made['id']}/logs").code == "NOT_FOUND"
    notary.s3(made).put_object(Bucket=made["bucket"], Key=made["object"], Body=archive)
    assert notary.await_status(made["id"]) == "Accepted"
    log = notary.log(made["id"])
    assert (log["logFormatVersion"], log["status"], log["statusCode"]) == (1, "Accepted", 0)
    assert (log["jobId"], log["archiveFilename"]) == (made["id"], "Darkbloom.zip")
    assert (log["sha256"], log["issues"]) == (sha256(archive), None)
    assert datetime.fromisoformat(log["uploadDate"]) <= datetime.now(UTC)
    listed = {item["path"]: item for item in log["ticketContents"]}
    assert set(listed) == {f"Darkbloom.zip/{APP}".rstrip("/"), MAIN, ENCLAVE}
    assert {(item["arch"], item["digestAlgorithm"]) for item in listed.values()} == {
        ("arm64", "SHA-256")
    }
    assert notary.ticket(listed[MAIN]["cdhash"]) == notary.ticket(listed[ENCLAVE]["cdhash"])


def test_an_upload_stays_in_progress_for_a_while(tmp_path: Path) -> None:
    """A verdict that is ready is not told before its time, and neither is its log."""
    authority = signed_release.look_alike()
    with notary_client.running(tmp_path, authority, processing=600) as notary:
        identity = notary.upload(b"no zip at all")
        deadline = time.monotonic() + 5
        while not notary.is_judged(identity) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert notary.is_judged(identity)
        assert notary.status(identity) == "In Progress"
        assert notary.ask("GET", f"/{identity}/logs").status == 404


def test_a_submission_without_an_upload_stays_in_progress(notary: Notarization) -> None:
    """The notary has nothing to judge."""
    made = notary.submit("0" * 64)
    assert notary.status(made["id"]) == "In Progress"
    assert notary.ask("GET", f"/{made['id']}/logs").code == "NOT_FOUND"


def test_each_submission_has_its_own_place_and_keys(notary: Notarization) -> None:
    """Nothing of one can be used for another."""
    first, second = notary.submit("1" * 64), notary.submit("1" * 64)
    assert set(first) == {
        *("id", "bucket", "object"),
        *("awsAccessKeyId", "awsSecretAccessKey", "awsSessionToken"),
    }
    assert not set(first.values()) & set(second.values())


def test_the_history_is_the_last_hundred_without_digests(tmp_path: Path) -> None:
    """Newest first; a lost id can be found by name and date only."""
    with notary_client.running(tmp_path, signed_release.look_alike()) as notary:
        assert notary.ask("GET").json["data"] == []
        for number in range(101):
            notary.submit(f"{number:064x}", name=f"{number}.zip")
        listed = notary.ask("GET").json["data"]
    assert [item["attributes"]["name"] for item in listed] == [
        f"{number}.zip" for number in range(100, 0, -1)
    ]
    assert set(listed[0]["attributes"]) == {"createdDate", "name", "status"}
    assert {item["type"] for item in listed} == {"submissions"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"submissionName": "a.zip"},
        {"submissionName": "", "sha256": "0" * 64},
        {"submissionName": "a.zip", "sha256": "0" * 63},
        {"submissionName": "a.zip", "sha256": "g" * 64},
        {"submissionName": 1, "sha256": "0" * 64},
        {"submissionName": "\ud800", "sha256": "0" * 64},
        {"submissionName": "a.zip", "sha256": "0" * 64, "md5": ""},
        {"submissionName": "a" * 70_000, "sha256": "0" * 64},
    ],
)
def test_a_malformed_submission_is_refused(notary: Notarization, body: object) -> None:
    """With JSON:API's shape of an error, and nothing is kept."""
    before = notary.ask("GET").json["data"]
    answer = notary.ask("POST", body=body)
    assert (answer.status, answer.code) == (400, "PARAMETER_ERROR.INVALID")
    assert notary.ask("GET").json["data"] == before


def test_other_paths_and_methods_are_refused(notary: Notarization) -> None:
    """An unknown id, an unknown resource, a method that there is not, another media type."""
    missing = "/00000000-0000-0000-0000-000000000000"
    assert notary.ask("GET", missing).code == "NOT_FOUND"
    assert notary.ask("GET", f"{missing}/logs").code == "NOT_FOUND"
    assert notary.ask("GET", f"{missing}/logs/more").code == "NOT_FOUND"
    assert notary.ask("DELETE").status == 405
    assert notary.ask("POST", missing).status == 405
    headers = {"Authorization": f"Bearer {notary.token()}", "Content-Type": "text/plain"}
    assert fetch("POST", notary.addresses.notary_url, b"{}", headers).status == 415


def test_the_first_whole_upload_is_what_counts(notary: Notarization) -> None:
    """A repeated upload is taken and noted, and does not change what is judged."""
    archive = app_zip()
    made = notary.submit(sha256(archive))
    client = notary.s3(made)
    client.put_object(Bucket=made["bucket"], Key=made["object"], Body=archive)
    client.put_object(Bucket=made["bucket"], Key=made["object"], Body=b"something else")
    assert notary.await_status(made["id"]) == "Accepted"
    assert notary.log(made["id"])["sha256"] == sha256(archive)


def test_what_was_asked_can_be_counted(tmp_path: Path) -> None:
    """One submission, one upload, and how often the rest was asked: from the journal on disk."""
    with notary_client.running(places.notary(tmp_path), signed_release.look_alike()) as notary:
        identity = accepted(notary)
        notary.log(identity)
        journal = counts.notary(tmp_path)
    found = counts.Counts(registrations=(), writes=(), objects={}, notary=journal)
    digest = sha256(app_zip())
    assert [(item.subject, item.sha256) for item in found.submissions] == [(identity, digest)]
    assert [(item.operation, item.subject, item.sha256) for item in found.uploads] == [
        ("PutObject", identity, digest)
    ]
    assert [item.subject for item in found.asked("log")] == [identity]
    assert [item.subject for item in found.asked("download log")] == [identity]
    assert len(found.asked("status")) >= 1
    assert not found.asked(BEARER_LEAK)


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    """Ids, parts, verdicts, logs and tickets; what was uploaded and not judged is judged then."""
    authority, archive = signed_release.look_alike(), app_zip()
    with notary_client.running(tmp_path, authority) as notary:
        identity = accepted(notary)
        cdhash = notary.log(identity)["ticketContents"][0]["cdhash"]
        ticket = notary.ticket(cdhash)
        under_way = notary.submit(sha256(archive))
        place = {"Bucket": under_way["bucket"], "Key": under_way["object"]}
        upload = notary.s3(under_way).create_multipart_upload(**place)["UploadId"]
        part = notary.s3(under_way).upload_part(
            **place, UploadId=upload, PartNumber=1, Body=archive
        )
        key = notary.key
    with notary_client.running(tmp_path, authority, key=key) as notary:
        assert notary.status(identity) == "Accepted"
        assert notary.log(identity)["sha256"] == sha256(archive)
        assert notary.ticket(cdhash) == ticket
        listed = notary.s3(under_way).list_parts(**place, UploadId=upload)["Parts"]
        assert [item["ETag"] for item in listed] == [part["ETag"]]
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        notary.s3(under_way).complete_multipart_upload(
            **place, UploadId=upload, MultipartUpload=parts
        )
        notary.forget_verdict(under_way["id"])
    with notary_client.running(tmp_path, authority, key=key) as notary:
        assert notary.await_status(under_way["id"]) == "Accepted"


def log_url(notary: Notarization, identity: str) -> str:
    url: str = notary.ask("GET", f"/{identity}/logs").json["data"]["attributes"]["developerLogUrl"]
    return url


def test_a_log_url_takes_no_bearer_token(notary: Notarization, state: Path) -> None:
    """As S3 refuses two kinds of authentication; and the leak is noted."""
    url = log_url(notary, accepted(notary))
    assert url.startswith("http://127.0.0.1:")
    assert not url.startswith(notary.addresses.notary_url.partition("/notary")[0])
    before = len(counts.notary(state))
    answer = fetch("GET", url, headers={"Authorization": f"Bearer {notary.token()}"})
    assert answer.status == 400
    assert b"Only one auth mechanism allowed" in answer.body
    assert [item.operation for item in counts.notary(state)[before:]] == [BEARER_LEAK]
    assert fetch("GET", url).status == 200


def test_a_log_url_is_what_botocore_signs(notary: Notarization) -> None:
    """An independent signer arrives at the same signature from the URL's other parts."""
    identity = accepted(notary)
    url = log_url(notary, identity)
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query))
    _, access, secret = notary.keys_of(identity)
    at = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    signer = S3SigV4QueryAuth(
        Credentials(access, secret), "s3", "us-west-2", expires=int(query["X-Amz-Expires"])
    )
    request = AWSRequest("GET", f"{parts.scheme}://{parts.netloc}{parts.path}")
    request.context["timestamp"] = at.strftime("%Y%m%dT%H%M%SZ")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("botocore.auth.get_current_datetime", lambda **_: at.replace(tzinfo=None))
        signer.add_auth(request)
    theirs = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(str(request.url)).query))
    assert theirs == query


@pytest.mark.parametrize("change", ["signature", "expiry", "path", "unsigned", "method"])
def test_a_changed_log_url_is_refused(notary: Notarization, change: str) -> None:
    """Nothing of it can be altered, its lifetime least of all."""
    first, second = accepted(notary), accepted(notary)
    url, method = log_url(notary, first), "GET"
    if change == "signature":
        url = url[:-4] + ("0000" if url[-4:] != "0000" else "1111")
    elif change == "expiry":
        url = url.replace("X-Amz-Expires=21600", "X-Amz-Expires=99999")
    elif change == "path":
        url = url.replace(first, second)
    elif change == "unsigned":
        url = url.partition("?")[0]
    else:
        method = "PUT"
    assert fetch(method, url).status == 403


def test_a_log_url_expires() -> None:
    """After its seconds, by the server's clock."""
    keys = signature_v4.Credentials(access_key_id="ASIA", secret_access_key="secret")
    at = datetime(2026, 11, 1, tzinfo=UTC)
    url = presigned_urls.make(
        "http://127.0.0.1:80", "/a", keys, region="us-west-2", at=at, lives=timedelta(hours=6)
    )
    environ = {
        "REQUEST_METHOD": "GET",
        "QUERY_STRING": urllib.parse.urlsplit(url).query,
        "HTTP_HOST": "127.0.0.1:80",
    }
    presigned_urls.verify(environ, "/a", keys, now=at + timedelta(hours=6))
    with pytest.raises(s3_errors.S3Error, match="expired"):
        presigned_urls.verify(environ, "/a", keys, now=at + timedelta(hours=6, seconds=1))


REFUSED = {
    faults.NOTARY_UNAUTHORIZED: (401, "NOT_AUTHORIZED"),
    faults.NOTARY_AGREEMENT: (403, "FORBIDDEN.REQUIRED_AGREEMENTS_MISSING_OR_EXPIRED"),
    faults.NOTARY_PROVIDER: (403, "FORBIDDEN.MISSING_PROVIDER"),
    faults.NOTARY_THROTTLED: (429, "RATE_LIMIT_EXCEEDED"),
    faults.NOTARY_ERROR: (500, "UNEXPECTED_ERROR"),
    faults.NOTARY_UNAVAILABLE: (503, "SERVICE_UNAVAILABLE"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_fault_refuses_one_request(notary: Notarization, name: str) -> None:
    """With its status and code; the next request is served."""
    notary.broken.set({name: 1})
    answer = notary.ask("GET")
    assert (answer.status, answer.code) == REFUSED[name]
    assert answer.headers.get("Retry-After") == ("1" if answer.status == 429 else None)
    assert notary.ask("GET").status == 200


@pytest.mark.parametrize(("name", "status"), [("notary.html", 502), ("notary.html_ok", 200)])
def test_an_edge_answers_with_html(notary: Notarization, name: str, status: int) -> None:
    """A client that parses whatever comes is found out."""
    notary.broken.set({name: 1})
    answer = notary.ask("GET")
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html")
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json  # noqa: B018 reading it is the test


def test_a_connection_is_cut(notary: Notarization) -> None:
    """Nothing was done by then."""
    before = notary.ask("GET").json["data"]
    notary.broken.set({faults.NOTARY_RESET: 1})
    with pytest.raises((http.client.HTTPException, OSError)):
        notary.submit("2" * 64)
    assert notary.ask("GET").json["data"] == before


def test_an_answer_to_a_submission_is_lost(notary: Notarization) -> None:
    """The submission stands in the history, under its name."""
    notary.broken.set({faults.NOTARY_DROP_AFTER_SUBMIT: 1})
    with pytest.raises((http.client.HTTPException, OSError)):
        notary.submit("3" * 64, name="lost.zip")
    assert notary.ask("GET").json["data"][0]["attributes"]["name"] == "lost.zip"


def test_a_slow_answer_is_right_and_late(notary: Notarization) -> None:
    """Later than a client that waits for less."""
    notary.broken.set({faults.NOTARY_SLOW: 1})
    with pytest.raises(TimeoutError):
        fetch("GET", notary.addresses.notary_url, seconds=0.1)
    assert notary.ask("GET").status == 200


def test_truncated_json_is_no_json(notary: Notarization) -> None:
    """With a length that fits what was sent."""
    notary.submit("4" * 64)
    notary.broken.set({faults.NOTARY_TRUNCATED: 1})
    answer = notary.ask("GET")
    assert answer.status == 200
    with pytest.raises(ValueError, match="line 1"):
        answer.json  # noqa: B018 reading it is the test


def test_an_answer_is_cut_short(notary: Notarization) -> None:
    """Its length promises more than comes."""
    notary.broken.set({faults.NOTARY_CUT_SHORT: 1})
    with pytest.raises(http.client.IncompleteRead):
        notary.ask("GET")
    assert notary.ask("GET").status == 200


@pytest.mark.parametrize("place", ["notary_upload_url", "ticket_url"])
def test_a_bearer_token_elsewhere_is_noted(notary: Notarization, state: Path, place: str) -> None:
    """Neither S3 nor the ticket server may ever see one."""
    before = len(counts.notary(state))
    url = str(getattr(notary.addresses, place))
    fetch("POST", url, b"{}", {"Authorization": f"Bearer {notary.token()}"})
    assert [item.operation for item in counts.notary(state)[before:]] == [BEARER_LEAK]


def test_a_redirect_shows_who_follows_with_the_token(notary: Notarization, state: Path) -> None:
    """It leads to another host and port; a token that comes there is noted."""
    notary.broken.set({faults.NOTARY_REDIRECT: 1})
    answer = notary.ask("GET")
    assert answer.status == 307
    before = len(counts.notary(state))
    elsewhere = answer.headers["Location"]
    assert urllib.parse.urlsplit(elsewhere).hostname == "localhost"
    assert fetch("GET", elsewhere).status == 200
    assert len(counts.notary(state)) == before
    assert fetch("GET", elsewhere, headers={"Authorization": "Bearer abc"}).status == 200
    assert [item.operation for item in counts.notary(state)[before:]] == [BEARER_LEAK]


def test_faults_of_the_verdict(notary: Notarization) -> None:
    """An unknown word, a team that is not set up, a warning, a log that comes late."""
    identity = accepted(notary)
    notary.broken.set({faults.NOTARY_UNKNOWN_STATUS: 1, faults.NOTARY_LOG_LATE: 1})
    words = [notary.status(identity) for _ in range(2)]
    assert words[0] not in ("Accepted", "In Progress", "Invalid", "Rejected")
    assert words[1] == "Accepted"
    assert notary.ask("GET", f"/{identity}/logs").code == "NOT_FOUND"
    assert notary.log(identity)["statusCode"] == 0
    notary.broken.set({faults.NOTARY_REJECTED: 1})
    refused = notary.upload(app_zip())
    assert notary.await_status(refused) == "Rejected"
    log = notary.log(refused)
    assert (log["statusCode"], log["ticketContents"]) == (7000, None)
    notary.broken.set({faults.NOTARY_WARNING: 1})
    warned = notary.log(accepted(notary))
    assert [issue["severity"] for issue in warned["issues"]] == ["warning"]
    assert warned["ticketContents"]


def test_faults_of_the_log(notary: Notarization) -> None:
    """It names other bytes, lacks a cdhash, is unavailable, or its address has expired."""
    identity = accepted(notary)
    good = notary.log(identity)
    notary.broken.set({faults.NOTARY_LOG_OTHER_SHA256: 1})
    assert notary.log(identity)["sha256"] != good["sha256"]
    notary.broken.set({faults.NOTARY_LOG_LACKS_CDHASH: 1})
    listed = {item["cdhash"] for item in notary.log(identity)["ticketContents"]}
    assert len({item["cdhash"] for item in good["ticketContents"]} - listed) == 1
    notary.broken.set({faults.NOTARY_LOG_UNAVAILABLE: 1, faults.NOTARY_LOG_EXPIRED: 1})
    answers: list[Answer] = [fetch("GET", log_url(notary, identity)) for _ in range(3)]
    assert [answer.status for answer in answers] == [503, 403, 200]
    assert notary.log(identity) == good
