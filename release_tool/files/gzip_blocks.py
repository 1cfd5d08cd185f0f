"""Gzip whose bytes depend on the content alone: not on threads, timing, host or chance.

The stream is cut into blocks at places that the content decides. Each is compressed by a fresh
compressor (one that is used again writes other bytes) and ends on a byte boundary, so that blocks
can be made side by side and joined; the same block after the same block is made only once, which
is what the flat copies of a bundle are.

The bytes do not depend on the processor either: zlib-ng 2.3.3 built with all vector units and
built without any gave the same ones on the metallib, and a test holds a digest that every host must
reach. They do change between releases of the library, which is why it is pinned.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from zlib_ng import zlib_ng

LEVEL = 7
"""The first level within 2 % of gzip's own default on the metallib."""
BLOCK_BYTES = 1024 * 1024
THREADS = 4
"""As many as help; the bytes do not depend on it."""
HEADER = b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\xff"
"""No name, no time, no system (RFC 1952)."""

_LAST_BLOCK = b"\x03\x00"
"""An empty final block of deflate."""
_WINDOW_BYTES = 32 * 1024
_MEMORY_LEVEL = 8
_RAW = -15
_KEPT_BYTES = 512 * 1024 * 1024
"""Content whose compressed blocks are kept for a second use: what the coordinator lets the largest
member be, and some tens of megabytes once compressed."""


class GzipBlocks:
    """A gzip stream in the making; give it the sink that gets each piece in order."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="gzip")
        self._waiting: deque[Future[bytes]] = deque()
        self._made: dict[bytes, Future[bytes]] = {}
        self._kept_bytes = 0
        self._buffer = bytearray()
        self._previous = b""
        self._sum = 0
        self._size = 0
        sink(HEADER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def write(self, data: bytes) -> None:
        """Append data; blocks leave as they fill."""
        self._buffer += data
        while len(self._buffer) >= BLOCK_BYTES:
            block = bytes(self._buffer[:BLOCK_BYTES])
            del self._buffer[:BLOCK_BYTES]
            self._block(block, None)

    def write_block(self, block: bytes, key: bytes | None) -> None:
        """Append one whole block after a cut or after another whole block.

        Args:
            block: `BLOCK_BYTES` of data.
            key: a digest of everything since the cut; the same key means the same bytes. None
                where they will not come again.
        """
        self._block(block, key)

    def cut(self) -> None:
        """End the block here and forget what came before, so that equal content gives equals."""
        self._flush_buffer()
        self._previous = b""

    def close(self) -> None:
        """Write what is left, and the trailer."""
        self._flush_buffer()
        while self._waiting:
            self._sink(self._waiting.popleft().result())
        self._sink(_LAST_BLOCK + struct.pack("<II", self._sum, self._size & 0xFFFFFFFF))

    def _flush_buffer(self) -> None:
        if self._buffer:
            self._block(bytes(self._buffer), None)
            self._buffer.clear()

    def _block(self, block: bytes, key: bytes | None) -> None:
        self._sum = zlib_ng.crc32(block, self._sum)
        self._size += len(block)
        self._waiting.append(self._deflated(block, key))
        self._previous = block
        while len(self._waiting) > 2 * THREADS:
            self._sink(self._waiting.popleft().result())

    def _deflated(self, block: bytes, key: bytes | None) -> Future[bytes]:
        if key is not None and key in self._made:
            return self._made[key]
        made = self._pool.submit(_deflate, block, self._previous[-_WINDOW_BYTES:])
        # Counted by the block's own size: what it will be compressed is at most about that.
        if key is not None and self._kept_bytes + len(block) <= _KEPT_BYTES:
            self._kept_bytes += len(block)
            self._made[key] = made
        return made


def _deflate(block: bytes, dictionary: bytes) -> bytes:
    if dictionary:
        compressor = zlib_ng.compressobj(
            LEVEL, zlib_ng.DEFLATED, _RAW, _MEMORY_LEVEL, zlib_ng.Z_DEFAULT_STRATEGY, dictionary
        )
    else:
        compressor = zlib_ng.compressobj(LEVEL, zlib_ng.DEFLATED, _RAW, _MEMORY_LEVEL)
    made: bytes = compressor.compress(block) + compressor.flush(zlib_ng.Z_SYNC_FLUSH)
    return made
