"""The look-alike notary from end to end, over real sockets, asked by an independent client."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import lru_cache

import pytest

from tests import signed_release
from tests.rehearsal import notary_client
from tests.rehearsal.notary_client import Notarization

APP = "Darkbloom.app/"
MAIN = f"{APP}Contents/MacOS/darkbloom"


@lru_cache
def app_zip() -> bytes:
    release = signed_release.made()
    files = {path: data for path, data in release.files.items() if path.startswith(APP)}
    return notary_client.zipped(files, release.modes)


@pytest.fixture(scope="module")
def notary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notarization]:
    folder = tmp_path_factory.mktemp("notary")
    with notary_client.running(folder, signed_release.look_alike()) as found:
        yield found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_good_app_is_accepted_and_gets_its_ticket(notary: Notarization) -> None:
    """Submit, upload, wait, log, ticket: the whole way with nothing of our client."""
    archive = app_zip()
    made = notary.submit(sha256(archive))
    assert notary.status(made["id"]) == "In Progress"
    assert notary.ask("GET", f"/{made['id']}/logs").code == "NOT_FOUND"
    notary.s3(made).put_object(Bucket=made["bucket"], Key=made["object"], Body=archive)
    assert notary.await_status(made["id"]) == "Accepted"
    log = notary.log(made["id"])
    assert (log["status"], log["statusCode"], log["issues"]) == ("Accepted", 0, None)
    assert log["sha256"] == sha256(archive)
    assert log["jobId"] == made["id"]
    mains = [item for item in log["ticketContents"] if item["path"] == f"Darkbloom.zip/{MAIN}"]
    assert [item["arch"] for item in mains] == ["arm64"]
    name = f"2/2/{mains[0]['cdhash']}"
    missed = notary.lookup(name)
    assert missed.status == 200
    assert missed.json["records"][0]["serverErrorCode"] == "NOT_FOUND"
    ticket = b""
    for _ in range(100):
        record = notary.lookup(name).json["records"][0]
        if "fields" in record:
            ticket = base64.b64decode(record["fields"]["signedTicket"]["value"])
            break
    assert ticket.startswith(b"s8ch")
    assert bytes.fromhex(mains[0]["cdhash"]) in ticket
