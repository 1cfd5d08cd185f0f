"""Apple's ditto, on a Mac: the zip of an app with everything that lies beside its files.

Signatures in extended attributes travel in no other zip. It is for the notary alone; nobody
promises the same bytes twice.
"""

from __future__ import annotations

from pathlib import Path

from release_tool import errors
from release_tool.files import atomic
from release_tool.services import apple_tools
from release_tool.services.apple_tools import TOOLS, AppleTools

# A gigabyte takes a minute on a slow disk.
_SECONDS = 1800.0
_ZIP = b"PK\x03\x04"


def zip_app(app: Path, archive: Path, *, tools: AppleTools = TOOLS) -> None:
    """Zip an app for the notary, its folder included.

    Args:
        app: the signed bundle.
        archive: the zip to make; what stands there is replaced.
        tools: Apple's tools.

    Raises:
        HostError: this host has no ditto, or it fails.
    """
    apple_tools.require(tools.ditto, "the notary's zip")
    with atomic.naming(archive, "replace"):
        archive.unlink(missing_ok=True)
    arguments = ["-c", "-k", "--keepParent", str(app), str(archive)]
    said = apple_tools.run(tools.ditto, arguments, tools=tools, seconds=_SECONDS)
    if said.status or _head(archive) != _ZIP:
        archive.unlink(missing_ok=True)
        raise errors.HostError(
            "ditto makes no zip of the app",
            subject=str(app),
            observed=f"exit code {said.status}",
            details=said.lines,
            hint="see that the disk has room for the app once more",
        )


def copy(source: Path, target: Path, *, tools: AppleTools = TOOLS) -> None:
    """Copy a file or a folder with everything that lies beside its files.

    Raises:
        HostError: this host has no ditto, or it fails.
    """
    apple_tools.require(tools.ditto, "copies with extended attributes")
    said = apple_tools.run(tools.ditto, [str(source), str(target)], tools=tools, seconds=_SECONDS)
    if said.status or not target.exists():
        raise errors.HostError("ditto does not copy", subject=str(source), details=said.lines)


def _head(archive: Path) -> bytes:
    try:
        with archive.open("rb") as source:
            return source.read(len(_ZIP))
    except OSError:
        return b""
