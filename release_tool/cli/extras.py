"""Packages that only some commands need: whether they are there, and how to get them."""

from __future__ import annotations

import importlib.util

from release_tool import errors


def has(module: str) -> bool:
    """Whether a module can be imported here; it is not."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def how_to_install(extra: str) -> str:
    """What to type, from a checkout or with a wheel."""
    return f"pip install '.[{extra}]' in a checkout, else 'release-tool[{extra}]'"


def require(extra: str, module: str, purpose: str) -> None:
    """Refuse before anything was begun.

    Raises:
        HostError: the module of this extra is not installed.
    """
    if not has(module):
        raise errors.HostError(
            f"{purpose} needs {module.replace('_', '-')}",
            hint=f"install the extra: {how_to_install(extra)}",
        )
