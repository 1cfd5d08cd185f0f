"""What lies in an output folder, as records keep it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import JsonValue

from release_tool.apple.policy.expiry import Row
from release_tool.files.tree import DiskTree
from release_tool.values import Expiry, SealedFile


def sealed_files(root: Path) -> tuple[SealedFile, ...]:
    """Every regular file and symbolic link below a folder, sorted by path.

    Raises:
        VerificationError: something that is neither file, folder nor link.
        HostError: the system refuses to read.
    """
    tree = DiskTree(root)
    return tuple(
        SealedFile(
            path=entry.path,
            mode=entry.mode,
            size=entry.size,
            sha256=(
                hashlib.sha256(entry.target.encode()).hexdigest()
                if entry.kind == "symlink"
                else tree.digest(entry.path, "sha256").hex()
            ),
            link=entry.kind == "symlink",
        )
        for entry in tree.entries()
        if entry.kind != "directory"
    )


def expiries(rows: Iterable[Row]) -> tuple[Expiry, ...]:
    """What ends, as records keep it: the days that are left are told when somebody asks."""
    return tuple(
        Expiry(what=row.what, name=row.name, ends=row.ends.isoformat(), todo=row.todo)
        for row in rows
    )


def json_dictionary(found: Mapping[str, object]) -> dict[str, JsonValue]:
    """A property list's dictionary as JSON; a date or data, which no entitlement has, as text."""
    return {str(key): _json(value) for key, value in found.items()}


def _json(value: object) -> JsonValue:
    if isinstance(value, Mapping):
        return json_dictionary(value)
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    return value if isinstance(value, str | bool | int | float) else str(value)
