"""Where this user's models lie, and whether the hub may be asked: by the hub's own variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from release_tool.services import hub_cache, wheels
from release_tool.services.hub import ENDPOINT, Hub
from release_tool.services.model_store import ModelStore

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = frozenset({"1", "on", "yes", "true"})


def store(environ: Mapping[str, str], *, token: Callable[[], str] | None = None) -> ModelStore:
    """The caches, and the hub of `HF_ENDPOINT`, unless `HF_HUB_OFFLINE` forbids to ask it.

    Args:
        environ: of the process.
        token: gives the hub's token; None where there is none.

    Raises:
        UsageError: `HF_ENDPOINT` is no address that may be asked.
    """
    own = wheels.cache_folder(environ) / "models"
    forbidden = [name for name in OFFLINE if environ.get(name, "").strip().lower() in _TRUE]
    if forbidden:
        barred = f"{forbidden[0]} forbids to ask the hub"
        return ModelStore(shared=_shared(environ), own=own, barred=barred)
    endpoint = environ.get("HF_ENDPOINT", "").strip() or ENDPOINT
    return ModelStore(shared=_shared(environ), own=own, hub=Hub(endpoint=endpoint, token=token))


def _shared(environ: Mapping[str, str]) -> Path:
    if named := environ.get("HF_HUB_CACHE"):
        return Path(named)
    if named := environ.get("HF_HOME"):
        return Path(named) / "hub"
    return hub_cache.cache_folder(Path(environ.get("HOME") or Path.home()))
