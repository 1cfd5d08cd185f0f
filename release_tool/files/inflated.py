"""A gzip file as the stream behind it, bounded both ways."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import BinaryIO, cast

from zlib_ng import zlib_ng

from release_tool import errors

CHUNK_BYTES = 256 * 1024
_GZIP = 31
_DAMAGED = cast("type[Exception]", zlib_ng.error)


class Inflated:
    """The stream behind one gzip member, in bounded pieces.

    Args:
        source: the compressed bytes.
        compressed_limit: how many of them may come.
        expanded_limit: how many bytes they may become.
        consumed: told about every piece of the source.
    """

    def __init__(
        self,
        source: BinaryIO,
        *,
        compressed_limit: int,
        expanded_limit: int,
        consumed: Callable[[int], None],
    ) -> None:
        self._source = source
        self._compressed_limit = compressed_limit
        self._expanded_limit = expanded_limit
        self._consumed = consumed
        self._inflate = zlib_ng.decompressobj(wbits=_GZIP)
        self._buffer = bytearray()
        self._expanded_bytes = 0
        self.compressed_bytes = 0
        self.compressed = hashlib.sha256()
        self.expanded = hashlib.sha256()

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes.

        Raises:
            FormatError: there are fewer, the file is damaged, or a limit is reached.
        """
        while len(self._buffer) < count:
            if not self._more():
                raise errors.FormatError("ends too early", hint="get the file again")
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def rest(self) -> bytes:
        """Some bytes of what is left; empty at the end.

        Raises:
            FormatError: the file is damaged, goes on after its end, or a limit is reached.
        """
        if not self._buffer:
            self._more()
        taken = bytes(self._buffer)
        self._buffer.clear()
        return taken

    def _more(self) -> bool:
        """Inflate a piece; False at the end of the gzip member, which is the end of the file."""
        while not self._inflate.eof:
            data = self._inflate.unconsumed_tail or self._compressed()
            piece = self._expand(data)
            if piece:
                self._buffer += piece
                return True
            if not data and not self._inflate.eof:
                raise errors.FormatError("ends too early", hint="get the file again")
        if self._inflate.unused_data or self._compressed():
            raise errors.FormatError("holds data after the end of the gzip stream")
        return False

    def _expand(self, data: bytes) -> bytes:
        try:
            piece: bytes = self._inflate.decompress(data, CHUNK_BYTES)
        except _DAMAGED as problem:
            raise errors.FormatError("is not an intact gzip file", observed=str(problem)) from None
        self._expanded_bytes += len(piece)
        if self._expanded_bytes > self._expanded_limit:
            raise errors.FormatError(
                "expands beyond what a release may",
                expected=f"at most {self._expanded_limit} bytes",
            )
        self.expanded.update(piece)
        return piece

    def _compressed(self) -> bytes:
        data = self._source.read(CHUNK_BYTES)
        self.compressed_bytes += len(data)
        if self.compressed_bytes > self._compressed_limit:
            raise errors.FormatError(
                "is larger than a release may be",
                expected=f"at most {self._compressed_limit} bytes",
            )
        self.compressed.update(data)
        self._consumed(len(data))
        return data
