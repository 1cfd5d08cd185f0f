"""The body encoding `aws-chunked` with a trailer, which newer SDKs send to real S3.

Source: AWS, "Signature calculations for trailing headers", the unsigned form: chunks of a length
in hex, a chunk of length zero, then checksum headers. Signed chunks are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from release_tool.rehearsal import s3_errors

UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
# A line is a length, or a checksum header of some sixty characters.
_LINE_BYTES = 1024
# AWS defines one checksum header for each request.
_MOST_TRAILERS = 4


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


class ChunkedBody:
    """A body in chunks, read as what it holds; a `s3_body.Source`.

    Args:
        stream: what stands behind the headers.
        length: the length that the client announced for the decoded body.
    """

    def __init__(self, stream: _Stream, length: int) -> None:
        self.length = length
        self._stream = stream
        self._left = 0
        self._ended = False
        self._trailers: dict[str, str] = {}

    def read(self, count: int, /) -> bytes:
        """Up to so many bytes; nothing at the end.

        Raises:
            S3Error: it is not encoded so, or is cut off.
        """
        if self._left == 0 and not self._ended:
            self._next()
        if self._ended:
            return b""
        piece = self._stream.read(min(count, self._left))
        if not piece:
            raise _cut_off()
        self._left -= len(piece)
        if self._left == 0 and self._line():
            raise _malformed()
        return piece

    def stated(self) -> Mapping[str, str]:
        """The headers behind the body."""
        return self._trailers

    def _next(self) -> None:
        size = self._line()
        if not 1 <= len(size) <= 16 or not set(size.lower()) <= set(b"0123456789abcdef"):
            raise _malformed()
        self._left = int(size, 16)
        if self._left:
            return
        self._ended = True
        while line := self._line():
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or len(self._trailers) == _MOST_TRAILERS:
                raise _malformed()
            self._trailers[name.strip().lower()] = value.strip()

    def _line(self) -> bytes:
        line = self._stream.readline(_LINE_BYTES)
        if not line:
            raise _cut_off()
        if not line.endswith(b"\r\n"):
            raise _malformed()
        return line[:-2]


def _cut_off() -> s3_errors.S3Error:
    return s3_errors.S3Error(400, "IncompleteBody", "The body was cut off.")


def _malformed() -> s3_errors.S3Error:
    return s3_errors.S3Error(400, "InvalidRequest", "The aws-chunked body is malformed.")
