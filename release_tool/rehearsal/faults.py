"""Faults on demand: what a test or a rehearsal lets go wrong, and how often."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

from release_tool import errors

COORDINATOR_UNAVAILABLE: Final = "coordinator.unavailable"
"""Registrations that are answered 503 without being looked at."""
COORDINATOR_DROP_AFTER_ACCEPT: Final = "coordinator.drop_after_accept"
"""Registrations that are stored, and whose answer never arrives."""
STORE_UNAVAILABLE: Final = "store.unavailable"
"""Writes to the object store that are answered 503."""
STORE_DROP_AFTER_WRITE: Final = "store.drop_after_write"
"""Writes to the object store that are kept, and whose answer never arrives."""
PUBLIC_UNAVAILABLE: Final = "public.unavailable"
"""Public downloads that are answered 503."""
TIMESTAMP_UNAVAILABLE: Final = "timestamp.unavailable"
"""Timestamp requests that are answered 503, as Apple's service does now and then."""

NAMES: Final = frozenset(
    {
        COORDINATOR_UNAVAILABLE,
        COORDINATOR_DROP_AFTER_ACCEPT,
        STORE_UNAVAILABLE,
        STORE_DROP_AFTER_WRITE,
        PUBLIC_UNAVAILABLE,
        TIMESTAMP_UNAVAILABLE,
    }
)


class Faults:
    """Counters that servers take from; at zero everything goes well."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}
        self._lock = threading.Lock()

    def set(self, wanted: Mapping[str, int]) -> None:
        """Let the next so many requests of each kind go wrong.

        Raises:
            UsageError: no such fault.
        """
        for name, count in wanted.items():
            if name not in NAMES or count < 0:
                raise errors.UsageError(
                    "no such fault", subject=name, expected=", ".join(sorted(NAMES))
                )
        with self._lock:
            self._left.update(wanted)

    def take(self, name: str) -> bool:
        """Whether this request goes wrong; counts it."""
        with self._lock:
            left = self._left.get(name, 0)
            self._left[name] = max(0, left - 1)
            return left > 0
