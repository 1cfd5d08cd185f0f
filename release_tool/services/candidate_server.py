"""A coordinator on loopback that serves one release, for an installer under trial.

It answers like the coordinator of May where installers ask: one line of compact JSON, and the
archive. It can also answer wrongly, or keep a request waiting so that an installer can be killed
there. It shares nothing with the look-alikes of the embedded environment: it serves on a Mac as
well, to the installer of a real release.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

Manner = Literal["whole", "changed", "cut", "none"]
"""How the archive is served: as it is, as another file of the same content, half of it; or no
release at all."""
Point = Literal["asked", "amid", "sent"]
"""A request for the release; half of the archive was sent; all of it was."""

LATEST = "/v1/releases/latest"
_ARCHIVE = "/archive/"
_CHUNK_BYTES = 1024 * 1024
# Where gzip names the system that packed: no unpacker looks at it, so only a digest tells.
_OS = 9
# Who waits at a point is killed there; this only ends a request that nobody killed.
_HOLD_SECONDS = 60.0


class CandidateServer:
    """The release that is served, and how."""

    def __init__(self, archive: Path, row: Mapping[str, object], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.manner: Manner = "whole"
        self.requests: list[str] = []
        """Path of each request, in order."""
        self.sent_at = 0.0
        """When the last byte of an archive was sent, by the monotonic clock."""
        self._archive = archive
        self._row = {**row, "url": f"{self.url}{_ARCHIVE}{archive.name}"}
        self._point: Point | None = None
        self._reached = threading.Event()
        self._released = threading.Event()

    @property
    def latest(self) -> bytes:
        """The row as installers get it."""
        return json.dumps(self._row, separators=(",", ":")).encode()

    def hold(self, point: Point) -> None:
        """Keep the next request waiting at a point."""
        self._reached.clear()
        self._released.clear()
        self._point = point

    def wait(self, seconds: float) -> bool:
        """Whether the point is reached within some seconds."""
        return self._reached.wait(seconds)

    def release(self) -> None:
        """Let what waits go on, and hold nothing any more."""
        self._point = None
        self._released.set()

    def at(self, point: Point) -> None:
        """A request has come to a point."""
        if point == "sent":
            self.sent_at = time.monotonic()
        if point != self._point:
            return
        self._reached.set()
        # All that was sent is the client's: keeping the request would not keep the client.
        if point != "sent":
            self._released.wait(_HOLD_SECONDS)

    def parts(self) -> Iterator[bytes]:
        """The archive as it is to be served; stops at half of it where it is cut."""
        size = self._archive.stat().st_size
        sent = 0
        with self._archive.open("rb") as source:
            while chunk := source.read(min(_CHUNK_BYTES, max(1, size // 2))):
                if self.manner == "changed" and sent == 0:
                    chunk = chunk[:_OS] + bytes([chunk[_OS] ^ 1]) + chunk[_OS + 1 :]
                if sent >= size // 2:
                    self.at("amid")
                    if self.manner == "cut":
                        return
                sent += len(chunk)
                yield chunk

    @property
    def size(self) -> int:
        """Of the archive, in bytes."""
        return self._archive.stat().st_size


@contextmanager
def serving(archive: Path, row: Mapping[str, object]) -> Iterator[CandidateServer]:
    """Serve an archive while the block lasts.

    Args:
        archive: the archive's file.
        row: what the coordinator says of it, without its address.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    candidate = CandidateServer(archive, row, server.server_address[1])
    server.daemon_threads = True
    setattr(server, _NAME, candidate)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield candidate
    finally:
        candidate.release()
        server.shutdown()
        server.server_close()
        thread.join()


_NAME = "candidate"


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    @property
    def _candidate(self) -> CandidateServer:
        found = getattr(self.server, _NAME)
        if not isinstance(found, CandidateServer):
            message = "the server has no candidate"
            raise TypeError(message)
        return found

    def do_GET(self) -> None:
        """Answer with the row, or with the archive."""
        candidate = self._candidate
        path = urlsplit(self.path).path
        candidate.requests.append(path)
        self.close_connection = True
        try:
            if path == LATEST and candidate.manner != "none":
                candidate.at("asked")
                self._start(200, "application/json", len(candidate.latest))
                self.wfile.write(candidate.latest)
            elif path.startswith(_ARCHIVE):
                self._start(200, "application/gzip", candidate.size)
                for part in candidate.parts():
                    self.wfile.write(part)
                candidate.at("sent")
            else:
                body = b'{"error":{"type":"not_found","message":"no active release"}}'
                self._start(404, "application/json", len(body))
                self.wfile.write(body)
        except OSError:
            return  # the client was killed

    def _start(self, status: int, kind: str, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing: requests are kept."""
