"""The storage that GitHub redirects downloads to: asked without any header of ours.

The address is presigned, a capability by itself, so no error shows more of it than the host.
"""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from release_tool import errors, progress
from release_tool.progress import Reporter
from release_tool.services import addresses, http_client
from release_tool.services.public_url import Served

_LOCATION_CHARACTERS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What is downloaded."""

    name: str
    limit_bytes: int
    """The largest body that is read."""
    reporter: Reporter


def fetch(location: str, transfer: Transfer, *, seconds: float, local: bool) -> Served:
    """Fetch a presigned address and digest what it serves.

    Args:
        location: where GitHub's redirect leads.
        transfer: what is expected there.
        seconds: the whole budget.
        local: whether the interface itself is on this machine, so that the storage may be.

    Raises:
        VerificationError: it lies where nothing is fetched from, or is too large.
        TransientError: the storage does not hand it out now.
        RemoteRefusedError: it answers with anything else, a further redirect included.
    """
    with _asked(location, transfer.name, seconds=seconds, local=local) as answer:
        return digested(answer, transfer)


def fetch_small(
    location: str, name: str, *, limit_bytes: int, seconds: float, local: bool
) -> bytes:
    """The same for a small document, whole.

    Raises:
        As for `fetch`.
    """
    with _asked(location, name, seconds=seconds, local=local) as answer:
        return small(answer, name, limit_bytes)


@contextmanager
def _asked(
    location: str, name: str, *, seconds: float, local: bool
) -> Iterator[http_client.Stream]:
    """The storage's answer, if it is one with what was asked for."""
    _judge(location, name, local=local)
    host = urllib.parse.urlsplit(location).hostname or ""
    try:
        with http_client.stream("GET", location, seconds=seconds) as answer:
            if answer.status == 200:
                yield answer
                return
            status = answer.status
    except errors.TransientError as problem:
        raise errors.TransientError(
            f"the download of {name} broke off: {problem.message}",
            subject=host,
            hint="run again",
        ) from None
    # A presigned address that has ended answers 403; the next try gets a fresh one.
    passing = status in (403, 404, 408, 429) or status >= 500
    raise (errors.TransientError if passing else errors.RemoteRefusedError)(
        f"GitHub's storage does not hand out {name}",
        subject=host,
        expected="200",
        observed=f"{status}",
        hint="run again",
    )


def small(answer: http_client.Stream, name: str, limit_bytes: int) -> bytes:
    """Read a whole answer that is a small document.

    Raises:
        VerificationError: it is larger than such a document.
        TransientError: it broke off.
    """
    collected = bytearray()
    for chunk in answer.chunks():
        collected += chunk
        if len(collected) > limit_bytes:
            raise errors.VerificationError(
                "is larger than what belongs there",
                subject=name,
                expected=f"at most {limit_bytes} bytes",
            )
    return bytes(collected)


def digested(answer: http_client.Stream, transfer: Transfer) -> Served:
    """Read a whole answer and digest it.

    Raises:
        VerificationError: it is larger than the transfer may be.
        TransientError: it broke off.
    """
    digest, size = hashlib.sha256(), 0
    task = f"read back {transfer.name}"
    with progress.task(transfer.reporter, task, transfer.limit_bytes):
        for chunk in answer.chunks():
            size += len(chunk)
            if size > transfer.limit_bytes:
                raise errors.VerificationError(
                    "the asset, downloaded again, is larger than what belongs there",
                    subject=transfer.name,
                    expected=f"at most {transfer.limit_bytes} bytes",
                    hint="nothing was published; see who else writes to this draft",
                )
            digest.update(chunk)
            transfer.reporter.advance(task, len(chunk))
    return Served(sha256=digest.hexdigest(), size=size)


def _judge(location: str, name: str, *, local: bool) -> None:
    """Only https, or this machine where the interface itself is on it."""
    try:
        parts = urllib.parse.urlsplit(location)
        _, host = parts.port, addresses.host(location)
    except ValueError:
        parts, host = urllib.parse.urlsplit(""), ""
    plain = location.isascii() and location.isprintable() and " " not in location
    bare = len(location) <= _LOCATION_CHARACTERS and "@" not in parts.netloc
    here = local and parts.scheme == "http" and addresses.is_loopback(location)
    if not (plain and bare and host and (parts.scheme == "https" or here)):
        raise errors.VerificationError(
            "the asset lies where nothing is fetched from",
            subject=name,
            expected="a redirect to https",
            observed=f"{parts.scheme}, {host}" if host else "no address",
            hint="it was not fetched; look at what stands before GitHub",
        )
