"""The release that users have before this one, where its archive lies beside: for the installer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from release_tool import errors
from release_tool.files import hashing
from release_tool.ledger import Ledger
from release_tool.services import precedence
from release_tool.stages.install_trial import ReleaseBefore

# Each costs a chain to read; the release before is among the nearest.
_LOOKED_AT = 8


def find(workspace: Path, version: str) -> ReleaseBefore | None:
    """The nearest earlier version that was published and whose archive is still what it was.

    Args:
        workspace: of the release; those of one environment and flavour lie side by side, each
            named by its version.
        version: of the release.
    """
    for folder, other in _earlier(workspace, version)[:_LOOKED_AT]:
        # What lies beside may be damaged; it is not this release's fault.
        with contextlib.suppress(errors.ReleaseError, OSError):
            for found in _published(folder, other):
                return found
    return None


def _earlier(workspace: Path, version: str) -> list[tuple[Path, str]]:
    """The folders of earlier versions, the nearest first."""
    if not workspace.name.endswith(version):
        return []
    family = workspace.name.removesuffix(version)
    earlier: list[tuple[Path, str]] = []
    for ledger in sorted(workspace.parent.glob(f"{family}*/ledger")):
        other = ledger.parent.name.removeprefix(family)
        if precedence.is_newer(version, other):
            at = sum(precedence.is_newer(one, other) for _, one in earlier)
            earlier.insert(at, (ledger.parent, other))
    return earlier


def _published(folder: Path, version: str) -> Iterator[ReleaseBefore]:
    ledger = Ledger(folder / "ledger")
    published, archive = ledger.newest("publish"), ledger.newest("archive")
    if published is None or archive is None:
        return
    sha256 = _text(published.value, "archive_sha256")
    name = _text(archive.value, "path")
    file = (folder / name).resolve()
    inside = file.is_relative_to(folder.resolve()) and file.is_file()
    if sha256 and name and inside and hashing.sha256_of(file) == sha256:
        yield ReleaseBefore(version=version, file=file, sha256=sha256)


def _text(value: object, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
