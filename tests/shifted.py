"""`python -m tests.shifted SECONDS COMMAND...`: release-tool on a host whose clock is off.

Both ways in which Python tells the time are moved before anything of the tool is imported.
"""

from __future__ import annotations

import datetime
import sys
import time
from typing import Self

_SHIFT = float(sys.argv[1])
_now = time.time


class _Shifted(datetime.datetime):
    """The class that everything imported later takes for `datetime`."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Self:
        return cls.fromtimestamp(_now() + _SHIFT, tz)

    @classmethod
    def utcnow(cls) -> Self:
        return cls.now(datetime.UTC).replace(tzinfo=None)


if __name__ == "__main__":
    time.time = lambda: _now() + _SHIFT
    datetime.datetime = _Shifted  # type: ignore[misc]
    sys.argv = ["release-tool", *sys.argv[2:]]
    from release_tool.cli.entry import main

    main()
