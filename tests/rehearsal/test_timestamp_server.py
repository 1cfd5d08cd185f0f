"""The timestamp service's look-alike, judged by openssl and by ours."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asn1crypto.cms
import asn1crypto.tsp
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import certificates, timestamp_token
from release_tool.rehearsal import faults, timestamp_server
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.servers import Server
from release_tool.rehearsal.timestamp_server import TimestampServer

SIGNED = b"signature octets"
OPENSSL = shutil.which("openssl")


@pytest.fixture(scope="module")
def broken() -> faults.Faults:
    return faults.Faults()


@pytest.fixture(scope="module")
def url(authority: Authority, broken: faults.Faults) -> Iterator[str]:
    with Server(TimestampServer(authority, broken=broken)) as server:
        yield f"{server.url}{timestamp_server.PATH}"


def ask(url: str, query: bytes, kind: str = "application/timestamp-query") -> requests.Response:
    return requests.post(url, data=query, headers={"Content-Type": kind}, timeout=10)


def trust(authority: Authority) -> certificates.Trust:
    pems = x509.load_pem_x509_certificates(authority.trust_pem())
    roots = [certificates.load(pem.public_bytes(serialization.Encoding.DER)) for pem in pems]
    return certificates.Trust(name="look-alike", roots=tuple(roots))


@pytest.mark.skipif(OPENSSL is None, reason="needs openssl")
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_openssl_asks_and_verifies(
    authority: Authority, url: str, tmp_path: Path, algorithm: str
) -> None:
    """A query made by openssl is answered with a response that openssl verifies."""
    (tmp_path / "data").write_bytes(SIGNED)
    (tmp_path / "trust.pem").write_bytes(authority.trust_pem())

    def openssl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = ["openssl", "ts", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)

    openssl("-query", "-data", "data", f"-{algorithm}", "-cert", "-out", "query")
    answer = ask(url, (tmp_path / "query").read_bytes())
    assert answer.headers["Content-Type"] == "application/timestamp-reply"
    (tmp_path / "reply").write_bytes(answer.content)
    verify = ("-verify", "-in", "reply", "-CAfile", "trust.pem", "-queryfile", "query")
    done = openssl(*verify)
    assert done.returncode == 0, done.stderr
    (tmp_path / "data").write_bytes(b"other")
    done = openssl("-verify", "-in", "reply", "-CAfile", "trust.pem", "-data", "data")
    assert done.returncode != 0


def test_our_verifier_takes_the_token(authority: Authority, url: str) -> None:
    """Time, policy and nonce come out; other octets and other roots are refused."""
    nonce = secrets.randbits(64)
    query = timestamp_token.encode_request(hashlib.sha256(SIGNED).digest(), nonce)
    token = timestamp_token.parse_response(ask(url, query).content)
    proof = timestamp_token.verify(token, signed_octets=SIGNED, trust=trust(authority), nonce=nonce)
    assert proof.policy == "1.2.3.4.5.6"
    assert proof.nonce == nonce
    assert abs(datetime.now(UTC) - proof.gen_time) < timedelta(minutes=1)
    with pytest.raises(errors.VerificationError):
        timestamp_token.verify(token, signed_octets=b"other", trust=trust(authority))
    with pytest.raises(errors.VerificationError):
        timestamp_token.verify(token, signed_octets=SIGNED, trust=certificates.apple_trust())


def test_the_token_has_apples_quirks(url: str) -> None:
    """SHA-1 in the SignerInfo, and certificates that are not in DER's order."""
    query = timestamp_token.encode_request(hashlib.sha256(SIGNED).digest(), 7)
    token = asn1crypto.tsp.TimeStampResp.load(ask(url, query).content)["time_stamp_token"]
    signed_data = token["content"]
    signer = signed_data["signer_infos"][0]
    assert signer["digest_algorithm"]["algorithm"].native == "sha1"
    raw = [item.chosen.dump() for item in signed_data["certificates"]]
    assert len(raw) == 3
    assert raw != sorted(raw)
    info = signed_data["encap_content_info"]["content"].parsed
    assert info["message_imprint"]["hash_algorithm"]["algorithm"].native == "sha256"
    assert info["nonce"].native == 7


def test_a_token_tells_the_clock_it_was_given(authority: Authority) -> None:
    """The time is the server's, so that tests can put it anywhere."""
    moment = datetime(2026, 11, 20, 1, 2, 3, tzinfo=UTC)
    application = TimestampServer(authority, broken=faults.Faults(), clock=lambda: moment)
    with Server(application) as server:
        query = timestamp_token.encode_request(hashlib.sha256(SIGNED).digest(), 1)
        answer = ask(f"{server.url}{timestamp_server.PATH}", query)
    response = asn1crypto.tsp.TimeStampResp.load(answer.content)
    content = response["time_stamp_token"]["content"]["encap_content_info"]["content"]
    assert content.parsed["gen_time"].native == moment


@pytest.mark.parametrize(
    ("query", "failure"),
    [
        (b"", {"bad_data_format"}),
        (b"x" * 5000, {"bad_data_format"}),
        (timestamp_token.encode_request(b"short", 1), {"bad_alg"}),
    ],
)
def test_a_bad_query_is_rejected(url: str, query: bytes, failure: set[str]) -> None:
    """The answer is a TimeStampResp of status 2 that says why, and holds no token."""
    answer = ask(url, query)
    assert answer.status_code == 200
    # asn1crypto takes the token for mandatory, which a refusal has not.
    status = asn1crypto.tsp.PKIStatusInfo.load(answer.content[2:], strict=True)
    assert status["status"].native == "rejection"
    assert status["fail_info"].native == failure
    with pytest.raises(errors.RemoteRefusedError):
        timestamp_token.parse_response(answer.content)


@given(query=st.binary(max_size=100))
def test_any_query_is_answered(query: bytes) -> None:
    """No bytes make the server fail."""
    with suppress(timestamp_server._RejectedError):
        timestamp_server._parse(query)


def test_other_requests_are_refused(url: str) -> None:
    """Another path, method or content type is none of its business."""
    assert requests.get(url, timeout=10).status_code == 405
    assert ask(url.replace("ts01", "ts"), b"").status_code == 404
    assert ask(url, b"", "text/plain").status_code == 415


def test_it_fails_as_often_as_asked(url: str, broken: faults.Faults) -> None:
    """Apple's service answers 503 now and then."""
    broken.set({faults.TIMESTAMP_UNAVAILABLE: 2})
    query = timestamp_token.encode_request(hashlib.sha256(SIGNED).digest(), 1)
    assert [ask(url, query).status_code for _ in range(3)] == [503, 503, 200]
