"""What the world gets from a public address, hashed as it streams."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from release_tool import errors, progress
from release_tool.progress import Reporter
from release_tool.services import http_client, retries, retry_after

_OK = 200
_NOT_FOUND = 404
_TOO_MANY = 429
_SERVER_FAULT = 500
_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What an address served."""

    sha256: str
    size: int
    fault: errors.FormatError | None = None
    """Why whoever read along could not go on; digest and size cover the whole body all the same."""


Consumer = Callable[[BinaryIO], None]


def read(
    address: str,
    *,
    limit_bytes: int,
    seconds: float,
    reporter: Reporter,
    total_bytes: int | None = None,
    policy: retries.Policy = retries.DEFAULT,
    consumer: Consumer | None = None,
) -> Served | None:
    """Download an address and digest it; None where nothing is served (404).

    Redirects are refused, as the coordinator refuses them. Nothing is held or downloaded twice:
    `consumer` reads the same bytes as they come in.

    Args:
        address: a full public address.
        limit_bytes: the largest body that is read.
        seconds: the budget of one try.
        reporter: gets the bytes as the task `read back`.
        total_bytes: the expected size, for the reporter.
        policy: how to retry what fails in passing.
        consumer: reads along, from the beginning in each try; what it leaves is still digested.

    Raises:
        RemoteRefusedError: any other status, an encoded body, or one over the limit.
        TransientError: no connection, 429 or 5xx, after the retries.
    """
    return retries.call(
        lambda: _once(address, limit_bytes, seconds, reporter, total_bytes, consumer),
        policy,
        reporter,
    )


def _once(
    address: str,
    limit_bytes: int,
    seconds: float,
    reporter: Reporter,
    total_bytes: int | None,
    consumer: Consumer | None,
) -> Served | None:
    with http_client.stream("GET", address, seconds=seconds) as answer:
        if answer.status == _NOT_FOUND:
            return None
        _accept(address, answer)
        with progress.task(reporter, "read back", total_bytes):
            body = _Body(address, answer.chunks(), limit_bytes, reporter)
            fault = None
            if consumer is not None:
                try:
                    consumer(cast("BinaryIO", body))
                except errors.FormatError as problem:
                    fault = problem
            while body.read(_CHUNK_BYTES):
                pass
        return Served(sha256=body.digest.hexdigest(), size=body.size, fault=fault)


class _Body:
    """The body as a file to read, digested and bounded on its way."""

    def __init__(
        self, address: str, chunks: Iterator[bytes], limit_bytes: int, reporter: Reporter
    ) -> None:
        self._address = address
        self._chunks = chunks
        self._limit_bytes = limit_bytes
        self._reporter = reporter
        self._left = b""
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, count: int) -> bytes:
        """Up to so many bytes; empty at the end."""
        if not self._left:
            self._left = next(self._chunks, b"")
            self._take(self._left)
        piece, self._left = self._left[:count], self._left[count:]
        return piece

    def _take(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self._limit_bytes:
            raise errors.RemoteRefusedError(
                "more is served here than a release may hold",
                subject=self._address,
                expected=f"at most {self._limit_bytes} bytes",
            )
        self.digest.update(chunk)
        self._reporter.advance("read back", len(chunk))


def _accept(address: str, answer: http_client.Stream) -> None:
    encoding = answer.headers.get("content-encoding", "identity")
    if answer.status == _OK and encoding == "identity":
        return
    if answer.status == _TOO_MANY or answer.status >= _SERVER_FAULT:
        raise retry_after.passing(
            "the public address does not serve the file now",
            subject=address,
            observed=f"{answer.status}",
            headers=answer.headers,
        )
    observed = f"{answer.status}"
    if answer.status == _OK:
        observed = f"200 with Content-Encoding {encoding[:40]}"
    elif "location" in answer.headers:
        observed = f"{answer.status}, a redirect to {answer.headers['location'][:200]}"
    raise errors.RemoteRefusedError(
        "the public address does not serve the file plainly",
        subject=address,
        expected="200, as stored",
        observed=observed,
        hint="look at the bucket's public access and at the rules of the CDN before it",
    )
