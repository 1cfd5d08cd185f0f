"""The loopback coordinator that an installer under trial asks."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from release_tool.services import candidate_server
from release_tool.services.candidate_server import CandidateServer

CONTENT = bytes(range(256)) * 40
ROW = {"version": "0.5.0", "bundle_hash": "1" * 64, "changelog": "one\ntwo"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CandidateServer]:
    archive = tmp_path / "bundle.tar.gz"
    archive.write_bytes(CONTENT)
    with candidate_server.serving(archive, ROW) as serving:
        yield serving


def get(server: CandidateServer, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.url).netloc, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_release_is_one_line_and_leads_to_the_archive(server: CandidateServer) -> None:
    """Compact JSON, as installers read it with sed, whatever the changelog holds."""
    status, body = get(server, f"{candidate_server.LATEST}?platform=macos-arm64")
    row = json.loads(body)
    assert (status, b"\n" in body, b'"version":"0.5.0"' in body) == (200, False, True)
    assert row == {**ROW, "url": row["url"]}
    assert row["url"].startswith("http://127.0.0.1:")
    assert get(server, urllib.parse.urlsplit(row["url"]).path) == (200, CONTENT)
    assert server.requests == [candidate_server.LATEST, "/archive/bundle.tar.gz"]


def test_the_last_byte_is_told(server: CandidateServer) -> None:
    """Once all was sent, nothing is held: the client has it."""
    server.hold("sent")
    assert get(server, "/archive/bundle.tar.gz") == (200, CONTENT)
    assert server.wait(10)
    assert server.sent_at > 0


def test_a_changed_archive_differs_in_one_byte(server: CandidateServer) -> None:
    """The same size and content, one bit of gzip's header: only a digest can tell."""
    server.manner = "changed"
    _, body = get(server, "/archive/bundle.tar.gz")
    different = [at for at, byte in enumerate(body) if byte != CONTENT[at]]
    assert (len(body), different) == (len(CONTENT), [9])


def test_a_cut_archive_ends_early(server: CandidateServer) -> None:
    """It is announced whole, and half of it comes."""
    server.manner = "cut"
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(server, "/archive/bundle.tar.gz")
    assert caught.value.partial == CONTENT[: len(CONTENT) // 2]


def test_no_release_is_a_404(server: CandidateServer) -> None:
    """Neither where there is none, nor anywhere else."""
    assert get(server, "/v1/other")[0] == 404
    server.manner = "none"
    status, body = get(server, candidate_server.LATEST)
    assert (status, json.loads(body)["error"]["type"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("point", "path"), [("asked", candidate_server.LATEST), ("amid", "/archive/bundle.tar.gz")]
)
def test_a_request_waits_at_its_point(
    server: CandidateServer, point: candidate_server.Point, path: str
) -> None:
    """It is known to have come there, and goes on when it is released."""
    server.hold(point)
    assert not server.wait(0)
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(get(server, path)[0]))
    asking.start()
    assert server.wait(10)
    assert answers == []
    server.release()
    asking.join(10)
    assert answers == [200]
