"""A small document at a public address, as anybody gets it."""

from __future__ import annotations

import secrets
from typing import BinaryIO

from release_tool.progress import Silent
from release_tool.services import public_url, retries

_SECONDS = 60.0
_CHUNK_BYTES = 64 * 1024


def fetch(
    address: str,
    *,
    limit_bytes: int,
    seconds: float = _SECONDS,
    policy: retries.Policy = retries.DEFAULT,
) -> bytes | None:
    """Read a document whole; None where nothing is served (404).

    A CDN may keep an older answer for a minute, so each question is one that it has never
    answered.

    Raises:
        RemoteRefusedError: it is over the limit, or the address does not serve plainly.
        TransientError: the address did not answer.
    """
    collected = bytearray()

    def take(body: BinaryIO) -> None:
        collected.clear()
        while chunk := body.read(_CHUNK_BYTES):
            collected.extend(chunk)

    served = public_url.read(
        f"{address}?asked={secrets.token_hex(8)}",
        limit_bytes=limit_bytes,
        seconds=seconds,
        reporter=Silent(),
        policy=policy,
        consumer=take,
    )
    return bytes(collected) if served else None
