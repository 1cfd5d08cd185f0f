"""Where the data beside the code lies: in a checkout at its top, in a wheel under `_data`."""

from __future__ import annotations

from pathlib import Path

from release_tool import errors

_PACKAGE = Path(__file__).resolve().parent
RELEASE_FILE = "release.yaml"


def release_file() -> Path:
    """The `release.yaml` that came with this tool."""
    return _find(RELEASE_FILE)


def release_file_of(folder: Path, named: Path | None = None) -> Path:
    """The `release.yaml` that counts: the named one, else the folder's, else the tool's own."""
    beside = folder / RELEASE_FILE
    return named or (beside if beside.is_file() else release_file())


def templates_folder() -> Path:
    """The jinja2 templates."""
    return _find("templates")


def entitlements_folder() -> Path:
    """The entitlements: one property list for each executable role."""
    return _find("entitlements")


def _find(name: str) -> Path:
    for folder in (_PACKAGE / "_data", _PACKAGE.parent):
        if (folder / name).exists():
            return folder / name
    raise errors.HostError(
        f"this installation of release-tool lacks {name}", hint="install it again from its wheel"
    )
