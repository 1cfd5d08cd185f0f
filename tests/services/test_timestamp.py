"""Timestamps over HTTP, against a look-alike of Apple's service and against bad answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from release_tool import errors
from release_tool.apple import certificates, timestamp_token
from release_tool.rehearsal import faults, timestamp_server
from release_tool.services import retries
from release_tool.services.timestamp import TimestampService
from tests import look_alike, scripted_server
from tests.scripted_server import Reply, ScriptedServer
from tests.stages.release_parts import Told

OCTETS = b"the octets of a signature"
REPLY = {"Content-Type": "application/timestamp-reply"}


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    with scripted_server.running() as server:
        yield server


def _service(url: str, slept: list[float] | None = None) -> TimestampService:
    waits = [] if slept is None else slept
    return TimestampService(
        url=url,
        trust=look_alike.trust(),
        policy=retries.Policy(attempts=3, sleep=waits.append),
    )


def test_a_token_proves_the_time() -> None:
    """What comes back verifies over exactly these octets, to the look-alike's root."""
    with look_alike.timestamp_server() as url:
        token = _service(url).stamp(OCTETS)
    proof = timestamp_token.verify(token, signed_octets=OCTETS, trust=look_alike.trust())
    assert abs(proof.gen_time - datetime.now(UTC)) < timedelta(minutes=1)
    with pytest.raises(errors.VerificationError):
        timestamp_token.verify(token, signed_octets=OCTETS + b"!", trust=look_alike.trust())


def test_a_passing_fault_is_retried_and_bounded() -> None:
    """Two refusals are waited out, three are too many."""
    broken = faults.Faults()
    slept: list[float] = []
    with look_alike.timestamp_server(broken) as url:
        broken.set({faults.TIMESTAMP_UNAVAILABLE: 2})
        assert _service(url, slept).stamp(OCTETS)
        assert len(slept) == 2
        broken.set({faults.TIMESTAMP_UNAVAILABLE: 3})
        with pytest.raises(errors.TransientError, match="not available"):
            _service(url).stamp(OCTETS)


@pytest.mark.parametrize(
    ("minutes", "side"), [(2, "behind"), (-2, "ahead of"), (0, "")], ids=["slow", "fast", "right"]
)
def test_a_clock_that_differs_is_told_once(minutes: int, side: str) -> None:
    """The signing time is this host's word; it is compared with the time that was proved."""
    told = Told()
    with look_alike.timestamp_server(ahead=timedelta(minutes=minutes)) as url:
        service = TimestampService(url=url, trust=look_alike.trust(), reporter=told)
        service.stamp(OCTETS)
        service.stamp(OCTETS)
    assert len(told.warnings) == (1 if side else 0)
    assert all(f"{side} the timestamp service's" in line for line in told.warnings)


@pytest.mark.parametrize(("minutes", "side"), [(5, "5 min behind"), (-61, "61 min ahead of")])
def test_a_clock_that_a_mac_refuses_signs_nothing(minutes: int, side: str) -> None:
    """A signature is not repeated by accident, so a wrong time never gets into one."""
    with look_alike.timestamp_server(ahead=timedelta(minutes=minutes)) as url:
        service = TimestampService(url=url, trust=look_alike.trust())
        with pytest.raises(errors.HostError, match=side) as caught:
            service.stamp(OCTETS)
    assert "set this host's clock" in caught.value.hint


def test_nobody_at_the_address_is_transient() -> None:
    """A refused connection can pass."""
    with look_alike.timestamp_server() as url:
        gone = url
    with pytest.raises(errors.TransientError):
        _service(gone).stamp(OCTETS)


def test_a_token_of_another_authority_is_refused_at_once() -> None:
    """Apple's roots do not vouch for a look-alike, and no retry changes that."""
    slept: list[float] = []
    with look_alike.timestamp_server() as url:
        service = TimestampService(
            url=url,
            trust=certificates.apple_trust(),
            policy=retries.Policy(attempts=3, sleep=slept.append),
        )
        with pytest.raises(errors.VerificationError, match="no chain"):
            service.stamp(OCTETS)
    assert slept == []


def test_a_replayed_answer_is_refused(scripted: ScriptedServer) -> None:
    """An answer to an earlier request for the same octets carries another nonce."""
    with look_alike.timestamp_server() as url:
        old = _service(url).stamp(OCTETS)
    scripted.says(Reply(body=timestamp_server.response(0, old), headers=REPLY))
    with pytest.raises(errors.VerificationError, match="nonce"):
        _service(scripted.url).stamp(OCTETS)


def test_each_request_has_a_nonce_of_its_own(scripted: ScriptedServer) -> None:
    """64 bits, never the same."""
    scripted.says(Reply(503))
    for _ in range(2):
        with pytest.raises(errors.TransientError):
            _service(scripted.url).stamp(OCTETS)
    sent = [request.body for request in scripted.requests]
    assert len(sent) == 6
    assert len(set(sent)) == 6
    assert scripted.requests[0].headers["content-type"] == "application/timestamp-query"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(404, b"not found"), errors.RemoteRefusedError),
        (Reply(302, headers={"Location": "http://127.0.0.1:9/"}), errors.RemoteRefusedError),
        (
            Reply(200, b"<html>log in first</html>", {"Content-Type": "text/html"}),
            errors.RemoteRefusedError,
        ),
        (Reply(200, b"", REPLY), errors.FormatError),
        (Reply(200, b"\x30\x80" * 400, REPLY), errors.FormatError),
        (Reply(200, timestamp_server.response(2, failure=0), REPLY), errors.RemoteRefusedError),
        (Reply(200, bytes(200_000), REPLY), errors.RemoteRefusedError),
    ],
)
def test_what_is_no_timestamp_is_refused(
    reply: Reply, kind: type[errors.ReleaseError], scripted: ScriptedServer
) -> None:
    """Other pages, redirects, noise, refusals and floods each end in one clear error."""
    scripted.says(reply)
    with pytest.raises(kind):
        _service(scripted.url).stamp(OCTETS)
    assert len(scripted.requests) == 1


@pytest.mark.parametrize("url", ["", "ftp://host/ts", "timestamp.example", "http://me:pw@host/ts"])
def test_what_is_no_address_is_a_usage_error(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(errors.UsageError):
        _service(url).stamp(OCTETS)
