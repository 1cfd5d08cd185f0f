"""A store of artifacts with the manners of GitHub's.

What matters of them: an artifact is a zip of plain files, so modes, links, empty folders and
extended attributes do not survive it; hidden files stay behind unless they are asked for; and what
no pattern matches is no failure. A name is given once in a run, over all of its attempts. To
overwrite is to delete first and to upload then: a runner lost in between leaves nothing of either,
and the name stays taken, since only what was finished can be deleted. Several artifacts come each
into a folder of its own, but a single one that a pattern matches lies there flat. Rules: the
READMEs and sources of actions/upload-artifact v4 and actions/download-artifact v5, and what their
users saw (upload-artifact issue 560, download-artifact issue 419).
"""

from __future__ import annotations

import fnmatch
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_WILD = frozenset("*?[")
_PLAIN = 0o644


class ArtifactError(Exception):
    """What GitHub would answer with."""


@dataclass(frozen=True)
class Store:
    """The artifacts of one run of a workflow; attempts share them.

    Args:
        folder: where the zips lie.
    """

    folder: Path

    def names(self) -> list[str]:
        """What is there."""
        return sorted(path.stem for path in self.folder.glob("*.zip"))

    def upload(
        self,
        name: str,
        paths: str,
        workspace: Path,
        *,
        overwrite: bool,
        hidden: bool,
        between: Callable[[], None] = lambda: None,
    ) -> int:
        """Put files under a name; returns how many.

        Args:
            name: of the artifact.
            paths: one pattern or path a line, relative to the workspace.
            workspace: of the job.
            overwrite: whether a finished artifact of that name is deleted first.
            hidden: whether files whose path has a component with a dot in front are taken.
            between: called once the name is taken, before any byte is there.

        Raises:
            ArtifactError: the name is taken.
        """
        wanted = [line.strip() for line in paths.splitlines() if line.strip()]
        files = sorted({file for one in wanted for file in _found(workspace, one)})
        files = [file for file in files if hidden or not _is_hidden(file, workspace)]
        if not files:
            return 0
        target = self._file(name)
        unfinished = target.with_suffix(".unfinished")
        if overwrite:
            target.unlink(missing_ok=True)
        if target.exists() or unfinished.exists():
            message = f"(409) Conflict: an artifact with this name already exists: {name}"
            raise ArtifactError(message)
        root = _root(workspace, wanted, files)
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
        between()
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as packed:
            for file in files:
                packed.writestr(file.relative_to(root).as_posix(), file.read_bytes())
        unfinished.replace(target)
        return len(files)

    def download(self, name: str, target: Path) -> None:
        """Fetch one artifact.

        Raises:
            ArtifactError: there is none of that name.
        """
        file = self._file(name)
        if not file.exists():
            message = f"Unable to download artifact(s): Artifact not found for name: {name}"
            raise ArtifactError(message)
        with zipfile.ZipFile(file) as packed:
            for member in packed.namelist():
                to = target / member
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(packed.read(member))
                to.chmod(_PLAIN)

    def download_matching(self, pattern: str, target: Path, *, merge: bool = False) -> list[str]:
        """Fetch each artifact whose name matches; returns the names.

        Args:
            pattern: of names.
            target: gets a folder for each, unless there is one alone.
            merge: whether all of them go into `target` itself.
        """
        names = [name for name in self.names() if fnmatch.fnmatchcase(name, pattern)]
        for name in names:
            self.download(name, target if merge or len(names) == 1 else target / name)
        return names

    def _file(self, name: str) -> Path:
        if not name or set(name) & set('":<>|*?\r\n\\/'):
            message = f"the artifact name is not valid: {name!r}"
            raise ArtifactError(message)
        return self.folder / f"{name}.zip"


def _found(workspace: Path, wanted: str) -> list[Path]:
    """The files that one line names; a folder means everything in it, a link what it leads to."""
    plain = wanted.rstrip("/")
    hits = sorted(workspace.glob(plain)) if _WILD & set(plain) else [workspace / plain]
    files: list[Path] = []
    for hit in hits:
        if hit.is_dir():
            for folder, _, names in os.walk(hit, followlinks=True):
                files += [Path(folder) / name for name in names]
        elif hit.is_file():
            files.append(hit)
    return files


def _is_hidden(file: Path, workspace: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(workspace).parts)


def _root(workspace: Path, wanted: Sequence[str], files: Sequence[Path]) -> Path:
    """Below what an artifact's paths begin: the named folder, or what stands before a `*`."""
    if len(wanted) > 1:
        return Path(os.path.commonpath([_before_wild(workspace, one) for one in wanted]))
    root = _before_wild(workspace, wanted[0])
    return root.parent if files == [root] else root


def _before_wild(workspace: Path, wanted: str) -> Path:
    steps: list[str] = []
    for step in wanted.rstrip("/").split("/"):
        if _WILD & set(step):
            break
        steps.append(step)
    return workspace.joinpath(*steps)
