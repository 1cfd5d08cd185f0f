"""Standard output and error that never raise: what cannot be written is told once, at the end.

A reader that leaves early must change neither what a command does nor its exit code, and a full
disk must not end a release in the middle of a stage.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import Final

from release_tool import errors

# Python's own `backslashreplace` writes \xe9, which no JSON parser takes.
_ESCAPES: Final = "release_tool.escape"


class Guard(io.RawIOBase):
    """Passes bytes on until the first failure and drops them afterwards."""

    def __init__(self, inner: io.RawIOBase, owner: io.TextIOWrapper) -> None:
        self._inner = inner
        # It would close the descriptor when it goes.
        self._owner = owner
        self.problem: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._inner.fileno()

    def isatty(self) -> bool:
        return self._inner.isatty()

    def write(self, data: object, /) -> int | None:
        size = memoryview(data).nbytes  # type: ignore[arg-type] # any buffer, as RawIOBase says
        if self.problem is not None:
            return size
        try:
            return self._inner.write(data)  # type: ignore[arg-type]
        except OSError as problem:
            self.problem = problem
            return size


def guard() -> None:
    """Put a guard around both streams of this process, once."""
    codecs.register_error(_ESCAPES, _escaped)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # The descriptor was closed by the caller; the next file opened must not get it.
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _guarded(stream))


def finish(code: int) -> int:
    """Write what is left; returns the exit code: the command's own unless its output was lost."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    lost = raw.problem if isinstance(raw, Guard) else None
    if lost is not None and lost.errno != errno.EPIPE:
        reason = lost.strerror or str(lost)
        print(f"release-tool: cannot write the output: {reason}", file=sys.stderr)
        code = code or errors.HostError.exit_code
    sys.stderr.flush()
    return code


def _guarded(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    # Unbuffered streams have the file itself here.
    buffer: object = stream.buffer
    raw = getattr(buffer, "raw", buffer)
    if isinstance(raw, Guard) or not isinstance(raw, io.RawIOBase):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(Guard(raw, stream)),
        encoding=stream.encoding,
        errors=_ESCAPES,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _escaped(problem: UnicodeError) -> tuple[str, int]:
    """Characters that the encoding lacks, as JSON escapes them."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    units = problem.object[problem.start : problem.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), problem.end
