"""What the world gets from a public address, hashed as it streams."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from release_tool import errors, progress
from release_tool.progress import Reporter
from release_tool.services import http_client, retries

_OK = 200
_NOT_FOUND = 404
_TOO_MANY = 429
_SERVER_FAULT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What an address served."""

    sha256: str
    size: int


def read(
    address: str,
    *,
    limit_bytes: int,
    seconds: float,
    reporter: Reporter,
    total_bytes: int | None = None,
    policy: retries.Policy = retries.DEFAULT,
) -> Served | None:
    """Download an address and digest it; None where nothing is served (404).

    Redirects are refused, as the coordinator refuses them.

    Args:
        address: a full public address.
        limit_bytes: the largest body that is read.
        seconds: the budget of one try.
        reporter: gets the bytes as the task `read back`.
        total_bytes: the expected size, for the reporter.
        policy: how to retry what fails in passing.

    Raises:
        RemoteRefusedError: any other status, an encoded body, or one over the limit.
        TransientError: no connection, 429 or 5xx, after the retries.
    """
    return retries.call(
        lambda: _once(address, limit_bytes, seconds, reporter, total_bytes), policy, reporter
    )


def _once(
    address: str, limit_bytes: int, seconds: float, reporter: Reporter, total_bytes: int | None
) -> Served | None:
    with http_client.stream("GET", address, seconds=seconds) as answer:
        if answer.status == _NOT_FOUND:
            return None
        _accept(address, answer)
        digest = hashlib.sha256()
        size = 0
        with progress.task(reporter, "read back", total_bytes):
            for chunk in answer.chunks():
                size += len(chunk)
                if size > limit_bytes:
                    raise errors.RemoteRefusedError(
                        "more is served here than a release may hold",
                        subject=address,
                        expected=f"at most {limit_bytes} bytes",
                    )
                digest.update(chunk)
                reporter.advance("read back", len(chunk))
        return Served(sha256=digest.hexdigest(), size=size)


def _accept(address: str, answer: http_client.Stream) -> None:
    encoding = answer.headers.get("content-encoding", "identity")
    if answer.status == _OK and encoding == "identity":
        return
    if answer.status == _TOO_MANY or answer.status >= _SERVER_FAULT:
        raise errors.TransientError(
            f"the public address answered {answer.status}", subject=address, hint="run again"
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
