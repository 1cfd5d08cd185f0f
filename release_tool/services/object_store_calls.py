"""One call of the store: refusals as errors or outcomes of ours, and bodies that are counted."""

from __future__ import annotations

import enum
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from release_tool import errors
from release_tool.services import deadlines, object_store_errors, patience, s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The slowest rate that still is one.
_BYTES_A_SECOND = 100_000
# Codes that say: something stands there, and the condition kept it.
KEPT_CODES = ("PreconditionFailed", "ObjectLockedByBucketPolicy")


class Outcome(enum.Enum):
    """What a conditional write did."""

    WRITTEN = "written"
    KEPT = "kept"
    """The condition did not hold; nothing was changed."""


class AbsentError(Exception):
    """The store has no such object, or no such upload."""


class KeptError(Exception):
    """The condition of a write or a read did not hold."""


@contextmanager
def converted(
    subject: str,
    *,
    kept: tuple[str, ...] = (),
    absent: tuple[str, ...] = (),
    seconds: float = s3_client.ANSWER_SECONDS,
) -> Iterator[None]:
    """Turn what botocore raises into errors of ours, and the awaited refusals into outcomes.

    Args:
        subject: what was asked for.
        kept: codes that mean that a condition did not hold; with any, status 412 does too.
        absent: codes that mean that nothing is there.
        seconds: the bound of an answer, from the end of its request on.

    Raises:
        KeptError, AbsentError: the awaited refusals.
        CredentialError, RemoteRefusedError, TransientError: any other.
    """
    import botocore.exceptions
    import botocore.parsers
    import urllib3

    try:
        with deadlines.within(patience.answer(seconds)):
            yield
    except botocore.exceptions.ClientError as problem:
        code, status = object_store_errors.code_and_status(problem.response)
        if code in absent:
            raise AbsentError from problem
        if code in kept or (kept and status == 412):
            raise KeptError from problem
        raise object_store_errors.from_answer(problem.response, subject) from problem
    except botocore.exceptions.BotoCoreError as problem:
        raise object_store_errors.from_botocore(problem, subject) from problem
    except botocore.parsers.ResponseParserError as problem:
        raise object_store_errors.unreadable(subject) from problem
    except urllib3.exceptions.HTTPError as problem:
        raise object_store_errors.broken_off(subject, problem) from problem


@contextmanager
def hooked(client: S3Client, event: str, hook: Callable[..., None]) -> Iterator[None]:
    """Let `hook` see an event of botocore for as long as this is open."""
    events = client.meta.events
    events.register(event, hook)
    try:
        yield
    finally:
        events.unregister(event, hook)


class Body:
    """A stretch of a file that tells how much of it was sent; never held in memory.

    botocore reads it once to sign and once to send; only the second counts.

    Args:
        content: the file.
        tell: gets the number of bytes that were sent just now.
        start: where the stretch begins.
        size: how long it is.
    """

    def __init__(
        self, content: IO[bytes], tell: Callable[[int], None], *, start: int, size: int
    ) -> None:
        self._content = content
        self._tell = tell
        self._start = start
        self._size = size
        self._sending = False
        self._deadline = math.inf
        self._content.seek(start)

    def begin(self) -> None:
        """From now on what is read is sent, and has its time."""
        self._sending = True
        seconds = patience.answer(s3_client.ANSWER_SECONDS) + self._size / _BYTES_A_SECOND
        self._deadline = time.monotonic() + seconds

    def read(self, count: int = -1) -> bytes:
        """The next bytes.

        Raises:
            TransientError: a store that takes a little now and then has taken too long.
        """
        if time.monotonic() > self._deadline:
            raise errors.TransientError("sending did not end in time", hint="run again")
        left = self._size - self.tell()
        chunk = self._content.read(left if count < 0 else min(count, left))
        if self._sending and chunk:
            self._tell(len(chunk))
        return chunk

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}[whence]
        return self._content.seek(self._start + base + offset) - self._start

    def tell(self) -> int:
        return self._content.tell() - self._start


def begin_body(request: Any, **_: object) -> None:  # noqa: ANN401 - botocore's own
    """Tell a request's body that it is being sent: a hook for botocore's `before-send`."""
    if isinstance(request.body, Body):
        request.body.begin()
