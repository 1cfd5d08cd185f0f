"""macOS's own tar: the only archive that carries signatures in extended attributes to a user.

It writes them twice, as pax headers and as AppleDouble members (`._name`), and puts them back when
it unpacks. Nobody promises the same bytes twice: owners and times are the host's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from release_tool import errors
from release_tool.files import atomic
from release_tool.services import apple_tools, ditto
from release_tool.services.apple_tools import TOOLS, AppleTools

_SECONDS = 1800.0
_GZIP = b"\x1f\x8b"


def pack(
    root: Path,
    archive: Path,
    *,
    copies: Mapping[str, str],
    scratch: Path,
    tools: AppleTools = TOOLS,
) -> None:
    """Pack everything below a folder, and some of its files once more under other names.

    Args:
        root: the folder; it gets no member of its own.
        archive: the tar.gz to make.
        copies: further members: path to the file's path below the root.
        scratch: a folder on the same disk, for the copies.
        tools: Apple's tools.

    Raises:
        HostError: this host has no such tar or ditto, or they fail.
    """
    apple_tools.require(tools.tar, "the archive with extended attributes")
    beside = scratch / "copies"
    for path, source in copies.items():
        with atomic.naming(beside, "make"):
            (beside / path).parent.mkdir(parents=True, exist_ok=True)
        ditto.copy(root / source, beside / path, tools=tools)
    folders = (root, beside) if copies else (root,)
    tops = {folder: sorted(item.name for item in folder.iterdir()) for folder in folders}
    # No user's name goes along; the attributes do unless COPYFILE_DISABLE stands in the
    # environment, and ours has no such name.
    arguments = ["--uid", "0", "--gid", "0", "--uname", "", "--gname", "", "-czf", str(archive)]
    for folder, names in tops.items():
        arguments += ["-C", str(folder), *names]
    _run(arguments, tools, "pack the app")
    with atomic.naming(archive, "read"), archive.open("rb") as made:
        if made.read(len(_GZIP)) != _GZIP:
            raise errors.HostError("tar made no gzip archive", subject=str(archive))


def unpack(archive: Path, folder: Path, *, tools: AppleTools = TOOLS) -> None:
    """Unpack as users' machines do, extended attributes included.

    Only for an archive of our own, whose members were read before: what is hostile is refused by
    `files.archive_reader`, not here.

    Raises:
        HostError: this host has no such tar, or it fails.
    """
    apple_tools.require(tools.tar, "unpacking with extended attributes")
    _run(["-xpf", str(archive), "-C", str(folder)], tools, "unpack the archive")


def _run(arguments: Sequence[str], tools: AppleTools, doing: str) -> None:
    said = apple_tools.run(tools.tar, arguments, tools=tools, seconds=_SECONDS)
    if said.status:
        raise errors.HostError(
            f"tar cannot {doing}",
            observed=f"exit code {said.status}",
            details=said.lines,
            hint="see that the disk has room",
        )
