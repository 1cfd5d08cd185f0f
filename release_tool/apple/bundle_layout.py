"""Where bundles keep their parts, and what may lie in a bundle's root, where no seal reaches.

Rule and source: Apple's published bundle representation. An app keeps everything in `Contents`; a
framework in a folder for each version, with links in its root that lead into the current one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from release_tool import errors
from release_tool.apple.tree import TreeEntry

_FINDER_STATE = ".DS_Store"
_FLAT_INFO = "Info.plist"
_VERSIONS, _CURRENT = "Versions", "Versions/Current"
# One name, with a `./` in front at most: a folder beside the link.
_VERSION_LINK = re.compile(r"(?:\./)?(?!\.{1,2}$)([^/]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a bundle of this kind keeps its parts, relative to its root."""

    contents: str
    """What the seal's paths are relative to."""
    info: str
    executables: str
    """Folder of the main executable, relative to `contents`; empty for itself."""
    version: str = ""
    """A framework's current version."""

    @property
    def resources(self) -> str:
        """Where resources lie below `contents`: `Resources/`, empty in a flat bundle."""
        return "" if self.info == _FLAT_INFO else "Resources/"

    def at(self, path: str) -> str:
        """A path below `contents`, relative to the bundle's root."""
        return f"{self.contents}/{path}" if self.contents else path


def find(entries: Mapping[str, TreeEntry]) -> Layout:
    """Tell a bundle's layout.

    Raises:
        VerificationError: the folder is laid out as no bundle.
    """
    if "Contents/Info.plist" in entries:
        return Layout(contents="Contents", info="Contents/Info.plist", executables="MacOS")
    current = entries.get(_CURRENT)
    named = _VERSION_LINK.fullmatch(current.target) if current else None
    if current is not None and current.kind == "symlink" and named is not None:
        root = f"{_VERSIONS}/{named[1]}"
        return Layout(
            contents=root, info=f"{root}/Resources/Info.plist", executables="", version=named[1]
        )
    for info in (_FLAT_INFO, "Resources/Info.plist"):
        if info in entries:
            return Layout(contents="", info=info, executables="")
    raise errors.VerificationError("is not a bundle", expected="Contents/Info.plist")


def other_versions(layout: Layout, entries: Mapping[str, TreeEntry]) -> Sequence[str]:
    """Folders of a framework's versions beside the current one, which dyld may load as well."""
    if not layout.version:
        return ()
    return [
        path
        for path, entry in entries.items()
        if entry.kind == "directory" and is_version(path) and path != layout.contents
    ]


def is_version(path: str) -> bool:
    """Whether a path in a framework is that of one of its versions."""
    return path.startswith(f"{_VERSIONS}/") and path.count("/") == 1


def strangers(layout: Layout, entries: Mapping[str, TreeEntry]) -> Iterator[tuple[str, str]]:
    """What lies in a bundle's root and may not, with what may.

    Yields:
        The path, and what was expected.
    """
    if layout.version:
        yield from _in_framework(layout, entries)
    elif layout.contents:
        tops = {path.split("/", 1)[0] for path in entries}
        yield from ((top, f"{layout.contents} only") for top in sorted(tops - {layout.contents}))


def loose(layout: Layout, entries: Mapping[str, TreeEntry]) -> Sequence[str]:
    """Finder's files in a framework's root, which may lie there and which no seal covers."""
    if not layout.version:
        return ()
    places = (_FINDER_STATE, f"{_VERSIONS}/{_FINDER_STATE}")
    return [path for path in places if path in entries]


def _in_framework(layout: Layout, entries: Mapping[str, TreeEntry]) -> Iterator[tuple[str, str]]:
    for path, entry in entries.items():
        if path in (_VERSIONS, _CURRENT) or path.endswith(f"/{_FINDER_STATE}"):
            continue
        if path.startswith(f"{_VERSIONS}/"):
            if path.count("/") == 1 and entry.kind != "directory":
                yield path, "folders of versions and the link Current"
        elif "/" in path or not _leads_inside(entry, layout.version):
            yield path.split("/", 1)[0], "links into the current version only"


def _leads_inside(entry: TreeEntry, version: str) -> bool:
    """Whether a link in a framework's root leads to what has its name in the current version."""
    if entry.path == _FINDER_STATE and entry.kind == "file":
        return True
    wanted = {f"{_VERSIONS}/{name}/{entry.path}" for name in ("Current", version)}
    return entry.kind == "symlink" and entry.target.removeprefix("./") in wanted
